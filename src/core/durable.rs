//! What must survive the death of the process, as a state that journal records are applied to.
//!
//! Each record is a JSON object with a `k` member. Replaying all records gives the state; [`Durable::snapshot`] gives
//! the fewest records that do.
use crate::json::{Value, array, object};
use std::collections::BTreeMap;

/// Most bundles that are kept for a coordinator that is away; beyond it sessions are closed, and none is lost.
pub const MAX_BUNDLES: usize = 4096;
/// Most probe nonces that are remembered; each lives as long as its probe could.
pub const MAX_NONCES: usize = 4096;
/// Most session ids that are remembered.
pub const MAX_KNOWN: usize = 16_384;

/// An open session as the journal has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Open {
    /// The coordinator's `open`, as received.
    pub order: Option<Value>,
    /// The newest `policy` for it, as received.
    pub policy: Option<Value>,
    /// State of its bundle chain, as of the last sealed bundle.
    pub chain: Option<Value>,
}

/// A session id that is never opened again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Hash of the `open` that was judged; the same one is ignored, another is refused.
    pub hash: String,
    /// Unix seconds until which it is remembered.
    pub until: i64,
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durable {
    /// Cursor of the last signal whose effect stands here too.
    pub cursor: String,
    /// Sessions that were not settled.
    pub open: BTreeMap<String, Open>,
    /// Ids that were ever opened or refused.
    pub known: BTreeMap<String, Known>,
    /// Transitions the coordinator has not answered, oldest first: `{sessionId, transition, …}`.
    pub transitions: Vec<Value>,
    /// Bundles it has not answered, oldest first.
    pub bundles: Vec<Value>,
    /// Bundles it refused, with the instant: kept 7 days.
    pub refused: Vec<(i64, Value)>,
    /// Answered probe nonces and when they may be forgotten.
    pub nonces: BTreeMap<String, i64>,
    /// The quota counters.
    pub quota: Option<Value>,
    /// What the owner wants, and a quarantine that is in force: the node's machine in writing.
    pub node: Option<Value>,
    /// Last corrected time that was stored, Unix seconds.
    pub time: i64,
}

impl Durable {
    /// The state that a journal's records give. Records of an unknown kind are passed over: an older version reads the
    /// journal of a newer one after a rollback.
    pub fn replay<'a>(records: impl IntoIterator<Item = &'a Value>) -> Durable {
        let mut state = Durable::default();
        for record in records {
            state.apply(record);
        }
        state
    }

    /// Applies one record.
    pub fn apply(&mut self, record: &Value) {
        let text = |name: &str| record.member(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let int = |name: &str| record.member(name).and_then(Value::as_int).unwrap_or_default();
        let value = |name: &str| record.member(name).filter(|v| **v != Value::Null).cloned();
        let id = text("id");
        match record.member("k").and_then(Value::as_str).unwrap_or_default() {
            "cursor" => self.cursor = text("cursor"),
            "known" => {
                self.known.insert(id, Known { hash: text("hash"), until: int("until") });
            }
            "open" => {
                let order = value("order");
                self.open.insert(id, Open { order, policy: value("policy"), chain: value("chain") });
            }
            "policy" => {
                if let Some(open) = self.open.get_mut(&id) {
                    open.policy = value("policy");
                }
            }
            "gone" => {
                self.open.remove(&id);
            }
            "transition" => self.transitions.extend(value("body")),
            "answered" => self.forget_transition(&id, &text("transition")),
            "bundle" => {
                self.bundles.extend(value("bundle"));
                if let Some(open) = self.open.get_mut(&id) {
                    open.chain = value("chain");
                }
            }
            "acked" => drop(self.take_bundle(&id, int("seq"))),
            "refused" => {
                if let Some(bundle) = self.take_bundle(&id, int("seq")).or_else(|| value("bundle")) {
                    self.refused.push((int("at"), bundle));
                }
            }
            "nonce" => {
                self.nonces.insert(text("nonce"), int("until"));
            }
            "quota" => self.quota = value("quota"),
            "node" => self.node = value("state"),
            "time" => self.time = self.time.max(int("at")),
            _ => {}
        }
    }

    /// Drops what has passed its time, and the oldest beyond the bounds.
    pub fn expire(&mut self, now: i64) {
        self.known.retain(|_, k| k.until > now);
        self.nonces.retain(|_, until| *until > now);
        self.refused.retain(|(at, _)| at + 7 * crate::time::DAY > now);
    }

    /// The fewest records that give this state.
    pub fn snapshot(&self) -> Vec<Value> {
        let mut records = vec![record("cursor", [("cursor", self.cursor.as_str().into())])];
        records.push(record("time", [("at", self.time.into())]));
        records.extend(self.node.iter().map(|n| record("node", [("state", n.clone())])));
        records.extend(self.quota.iter().map(|q| record("quota", [("quota", q.clone())])));
        records.extend(self.known.iter().map(|(id, k)| known(id, k)));
        records.extend(self.open.iter().map(|(id, o)| open(id, o)));
        records.extend(self.transitions.iter().map(|t| record("transition", [("body", t.clone())])));
        for bundle in &self.bundles {
            let id = bundle.member("sessionId").cloned().unwrap_or(Value::Null);
            let chain = id.as_str().and_then(|i| self.open.get(i)).and_then(|o| o.chain.clone());
            records.push(record("bundle", [("id", id), ("bundle", bundle.clone()), ("chain", chain.into())]));
        }
        records.extend(
            self.refused
                .iter()
                .map(|(at, b)| record("refused", [("at", (*at).into()), ("bundle", b.clone())])),
        );
        let nonces = self.nonces.iter();
        records.extend(
            nonces.map(|(n, u)| record("nonce", [("nonce", n.as_str().into()), ("until", (*u).into())])),
        );
        records
    }

    fn forget_transition(&mut self, id: &str, transition: &str) {
        let is = |v: &Value, name: &str, text: &str| v.member(name).and_then(Value::as_str) == Some(text);
        self.transitions.retain(|t| !(is(t, "sessionId", id) && is(t, "transition", transition)));
    }

    fn take_bundle(&mut self, id: &str, seq: i64) -> Option<Value> {
        let at = self.bundles.iter().position(|b| {
            b.member("sessionId").and_then(Value::as_str) == Some(id)
                && b.member("seq").and_then(Value::as_int) == Some(seq)
        })?;
        Some(self.bundles.remove(at))
    }
}

/// A record of kind `k`.
pub fn record<const N: usize>(k: &str, members: [(&str, Value); N]) -> Value {
    object([("k", Value::from(k))].into_iter().chain(members))
}

/// The record that a session id is known.
pub fn known(id: &str, known: &Known) -> Value {
    record("known", [("id", id.into()), ("hash", known.hash.as_str().into()), ("until", known.until.into())])
}

/// The record of an open session.
pub fn open(id: &str, open: &Open) -> Value {
    let members = [
        ("id", id.into()),
        ("order", open.order.clone().into()),
        ("policy", open.policy.clone().into()),
        ("chain", open.chain.clone().into()),
    ];
    record("open", members)
}

/// The `sessionId`s of a list of messages, for `/diagnostics`.
pub fn session_ids(messages: &[Value]) -> Value {
    array(messages.iter().filter_map(|m| m.member("sessionId").cloned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(id: &str, seq: i64) -> Value {
        object([("sessionId", id.into()), ("seq", seq.into())])
    }

    fn lived() -> Vec<Value> {
        let s = |t: &str| Value::from(t);
        vec![
            known("a", &Known { hash: "h".into(), until: 100 }),
            open("a", &Open { order: Some(object([("x", 1.into())])), policy: None, chain: None }),
            record("transition", [("body", object([("sessionId", s("a")), ("transition", s("accepted"))]))]),
            record("cursor", [("cursor", s("c1"))]),
            record(
                "bundle",
                [("id", s("a")), ("bundle", bundle("a", 0)), ("chain", object([("seq", 1.into())]))],
            ),
            record(
                "bundle",
                [("id", s("a")), ("bundle", bundle("a", 1)), ("chain", object([("seq", 2.into())]))],
            ),
            record("nonce", [("nonce", s("n")), ("until", 50.into())]),
            record("node", [("state", s("paused"))]),
            record("time", [("at", 7.into())]),
        ]
    }

    #[test]
    fn a_snapshot_replays_to_the_same_state() {
        let state = Durable::replay(&lived());
        assert_eq!(Durable::replay(&state.snapshot()), state);
        assert_eq!(state.bundles.len(), 2);
        assert_eq!(state.open["a"].chain, Some(object([("seq", 2.into())])));
    }

    #[test]
    fn an_answer_forgets_exactly_what_it_answers() {
        let mut state = Durable::replay(&lived());
        state.apply(&record("acked", [("id", "a".into()), ("seq", 0.into())]));
        assert_eq!(state.bundles, [bundle("a", 1)]);
        state.apply(&record("refused", [("id", "a".into()), ("seq", 1.into()), ("at", 9.into())]));
        assert_eq!((state.bundles.len(), state.refused.clone()), (0, vec![(9, bundle("a", 1))]));
        state.apply(&record("answered", [("id", "a".into()), ("transition", "closing".into())]));
        assert_eq!(state.transitions.len(), 1);
        state.apply(&record("answered", [("id", "a".into()), ("transition", "accepted".into())]));
        assert_eq!(state.transitions.len(), 0);
        assert_eq!(Durable::replay(&state.snapshot()), state);
    }

    #[test]
    fn what_is_old_is_forgotten_at_its_time() {
        let mut state = Durable::replay(&lived());
        state.expire(99);
        assert_eq!((state.known.len(), state.nonces.len()), (1, 0));
        state.expire(100);
        assert_eq!(state.known.len(), 0);
    }

    #[test]
    fn the_stored_time_never_goes_back() {
        let mut state = Durable::replay(&lived());
        state.apply(&record("time", [("at", 3.into())]));
        assert_eq!(state.time, 7);
    }
}

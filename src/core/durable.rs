//! What must survive the death of the process, as a state that journal records are applied to.
//!
//! Each record is a JSON object with a `k` member. Replaying all records gives the state; [`Durable::snapshot`] gives
//! the fewest records that do.
use crate::coordinator::list_versions::Versions;
use crate::json::{Value, array, object};
use crate::sorted::SortedMap;

/// Most bundles that are kept, the unanswered and the refused ones together: with less room than there are sessions all
/// of these are closed, and none is lost.
pub const MAX_BUNDLES: usize = 4096;
/// So many transitions may wait; with more of them unanswered no signals are taken.
pub const MAX_TRANSITIONS: usize = 1024;
/// How long a refused bundle is kept, seconds.
pub const REFUSED_KEPT_S: i64 = 7 * crate::time::DAY;
/// Most probe nonces that are remembered; each lives as long as its probe could.
pub const MAX_NONCES: usize = 4096;
/// Most session ids that are remembered.
pub const MAX_KNOWN: usize = 16_384;

/// An open session as the journal has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Open {
    /// State of its bundle chain, as of the last sealed bundle.
    pub chain: Option<Value>,
    /// Whether its `closing` has been queued.
    pub closing: bool,
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
    pub open: SortedMap<String, Open>,
    /// Ids that were ever opened or refused.
    pub known: SortedMap<String, Known>,
    /// Transitions the coordinator has not answered, oldest first: `{sessionId, transition, …}`.
    pub transitions: Vec<Value>,
    /// Bundles it has not answered, oldest first.
    pub bundles: Vec<Value>,
    /// Bundles it refused, with the instant: kept 7 days.
    pub refused: Vec<(i64, Value)>,
    /// Answered probe nonces and when they may be forgotten.
    pub nonces: SortedMap<String, i64>,
    /// Versions of the coordinator's lists that were seen.
    pub lists: Versions,
    /// The quota counters.
    pub quota: Option<Value>,
    /// What the owner wants, and a quarantine that is in force: the node's machine in writing.
    pub node: Option<Value>,
    /// Last corrected time that was stored, Unix seconds.
    pub time: i64,
    /// How often the state was written to flash.
    pub kept: i64,
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
                let closing = record.member("closing").and_then(Value::as_bool).unwrap_or_default();
                self.open.insert(id, Open { chain: value("chain"), closing });
            }
            "gone" => {
                self.open.remove(&id);
            }
            "transition" => self.add_transition(value("body")),
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
            "list" => self.lists.note(&text("by"), &id, &text("version")),
            "quota" => self.quota = value("quota"),
            "node" => self.node = value("state"),
            "kept" => self.kept = self.kept.max(int("n")),
            "time" => self.time = self.time.max(int("at")),
            _ => {}
        }
    }

    /// Drops what has passed its time, and the oldest beyond the bounds.
    pub fn expire(&mut self, now: i64) {
        self.known.retain(|_, k| k.until > now);
        self.nonces.retain(|_, until| *until > now);
        self.refused.retain(|(at, _)| at + REFUSED_KEPT_S > now);
    }

    /// When the oldest refused bundle may be forgotten, Unix seconds.
    pub fn refused_until(&self) -> Option<i64> {
        self.refused.iter().map(|(at, _)| at + REFUSED_KEPT_S).min()
    }

    /// The fewest records that give this state.
    pub fn snapshot(&self) -> Vec<Value> {
        let mut records = vec![record("cursor", [("cursor", self.cursor.as_str().into())])];
        records.push(record("time", [("at", self.time.into())]));
        records.push(record("kept", [("n", self.kept.into())]));
        records.extend(self.node.iter().map(|n| record("node", [("state", n.clone())])));
        records.extend(self.lists.iter().map(|(by, name, version)| list(by, name, version)));
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

    /// Whether a transition of a session waits to be answered.
    pub fn waits(&self, id: &str, transition: &str) -> bool {
        self.transitions.iter().any(|t| is_transition(t, id, transition))
    }

    /// Whether anything of a session that was open waits to be answered.
    pub fn is_unanswered(&self, id: &str) -> bool {
        let is = |v: &Value, name: &str, text: &str| v.member(name).and_then(Value::as_str) == Some(text);
        let of = |v: &&Value| is(v, "sessionId", id);
        let refused = |t: &Value| is(t, "transition", "refused");
        self.bundles.iter().any(|b| of(&b)) || self.transitions.iter().filter(of).any(|t| !refused(t))
    }

    fn add_transition(&mut self, body: Option<Value>) {
        let Some(body) = body else { return };
        let text = |name: &str| body.member(name).and_then(Value::as_str).unwrap_or_default();
        if let Some(open) = self.open.get_mut(text("sessionId")).filter(|_| text("transition") == "closing") {
            open.closing = true;
        }
        self.transitions.push(body);
    }

    fn forget_transition(&mut self, id: &str, transition: &str) {
        self.transitions.retain(|t| !is_transition(t, id, transition));
    }

    fn take_bundle(&mut self, id: &str, seq: i64) -> Option<Value> {
        let at = self.bundles.iter().position(|b| {
            b.member("sessionId").and_then(Value::as_str) == Some(id)
                && b.member("seq").and_then(Value::as_int) == Some(seq)
        })?;
        Some(self.bundles.remove(at))
    }
}

/// Whether the body of a transition is of this session and this kind.
pub fn is_transition(body: &Value, id: &str, transition: &str) -> bool {
    let is = |name: &str, text: &str| body.member(name).and_then(Value::as_str) == Some(text);
    is("sessionId", id) && is("transition", transition)
}

/// A record of kind `k`.
pub fn record<const N: usize>(k: &str, members: [(&str, Value); N]) -> Value {
    object([("k", Value::from(k))].into_iter().chain(members))
}

/// The record that a session id is known.
pub fn known(id: &str, known: &Known) -> Value {
    record("known", [("id", id.into()), ("hash", known.hash.as_str().into()), ("until", known.until.into())])
}

/// The record that a version of a list was seen.
pub fn list(by: &str, name: &str, version: &str) -> Value {
    record("list", [("by", by.into()), ("id", name.into()), ("version", version.into())])
}

/// The record of an open session.
pub fn open(id: &str, open: &Open) -> Value {
    let (chain, closing) = (open.chain.clone().into(), open.closing.into());
    record("open", [("id", id.into()), ("chain", chain), ("closing", closing)])
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
            open("a", &Open::default()),
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
            list("key", "ads", "9"),
            list("key", "mail", "1"),
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
    fn a_closing_session_is_known_as_such_after_its_transition_was_answered() {
        let mut state = Durable::replay(&lived());
        let closing = object([("sessionId", "a".into()), ("transition", "closing".into())]);
        state.apply(&record("transition", [("body", closing)]));
        assert!(state.waits("a", "closing") && !state.waits("a", "settled"));
        state.apply(&record("answered", [("id", "a".into()), ("transition", "closing".into())]));
        assert!(!state.waits("a", "closing"));
        assert!(Durable::replay(&state.snapshot()).open["a"].closing);
    }

    #[test]
    fn the_stored_time_never_goes_back() {
        let mut state = Durable::replay(&lived());
        state.apply(&record("time", [("at", 3.into())]));
        assert_eq!(state.time, 7);
    }
}

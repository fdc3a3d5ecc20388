//! What of the durable state has been written to flash, and the fewest records that bring that up to date.
use super::durable::{Durable, Open, known, list, open, record};
use crate::json::Value;
use crate::sorted::{SortedMap, SortedSet};

/// A session and the name or number of something of its.
type Of<T> = (String, T);

/// The state as it was last written, by its keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    cursor: String,
    node: Option<Value>,
    quota: Option<Value>,
    known: SortedSet<String>,
    open: SortedMap<String, Open>,
    transitions: SortedSet<Of<String>>,
    bundles: SortedSet<Of<i64>>,
    refused: SortedSet<Of<i64>>,
    nonces: SortedSet<String>,
    lists: Vec<(String, String, String)>,
}

fn text(value: &Value, name: &str) -> String {
    value.member(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn versions(state: &Durable) -> Vec<(String, String, String)> {
    state
        .lists
        .iter()
        .map(|(by, name, version)| (by.to_owned(), name.to_owned(), version.to_owned()))
        .collect()
}

fn bundle_key(bundle: &Value) -> Of<i64> {
    (text(bundle, "sessionId"), bundle.member("seq").and_then(Value::as_int).unwrap_or_default())
}

fn transition_key(body: &Value) -> Of<String> {
    (text(body, "sessionId"), text(body, "transition"))
}

impl Kept {
    /// A state that is written now.
    pub fn of(state: &Durable) -> Kept {
        Kept {
            cursor: state.cursor.clone(),
            node: state.node.clone(),
            quota: state.quota.clone(),
            known: state.known.keys().cloned().collect(),
            open: state.open.clone(),
            transitions: state.transitions.iter().map(transition_key).collect(),
            bundles: state.bundles.iter().map(bundle_key).collect(),
            refused: state.refused.iter().map(|(_, b)| bundle_key(b)).collect(),
            nonces: state.nonces.keys().cloned().collect(),
            lists: versions(state),
        }
    }

    /// Whether something is missing that must not wait: which sessions there are (one that was forgotten could be opened
    /// again), what the owner wants, and versions of lists.
    pub fn is_overdue(&self, state: &Durable) -> bool {
        let sessions = state.open.len() != self.open.len()
            || state
                .open
                .iter()
                .any(|(id, now)| self.open.get(id).is_none_or(|then| then.closing != now.closing));
        sessions || state.node != self.node || versions(state) != self.lists
    }

    /// Bundles that are not written.
    pub fn unwritten<'a>(&'a self, state: &'a Durable) -> impl Iterator<Item = &'a Value> {
        state.bundles.iter().filter(|b| !self.bundles.contains(&bundle_key(b)))
    }

    /// The records that make what is written into `state`; what has expired since then needs none.
    pub fn since(&self, state: &Durable) -> Vec<Value> {
        let mut records = Vec::new();
        if state.cursor != self.cursor {
            records.push(record("cursor", [("cursor", state.cursor.as_str().into())]));
        }
        records.push(record("time", [("at", state.time.into())]));
        if state.node != self.node {
            records.push(record("node", [("state", state.node.clone().into())]));
        }
        if state.quota != self.quota {
            records.push(record("quota", [("quota", state.quota.clone().into())]));
        }
        // All of them, since their order counts.
        let lists = versions(state);
        if lists != self.lists {
            records.extend(lists.iter().map(|(by, name, version)| list(by, name, version)));
        }
        let ids = state.known.iter().filter(|(id, _)| !self.known.contains(*id));
        records.extend(ids.map(|(id, k)| known(id, k)));
        let nonces = state.nonces.iter().filter(|(n, _)| !self.nonces.contains(*n));
        records.extend(
            nonces.map(|(n, until)| {
                record("nonce", [("nonce", n.as_str().into()), ("until", (*until).into())])
            }),
        );
        self.messages_since(state, &mut records);
        // Last: what a transition or a bundle does to a session is in here.
        let sessions = state.open.iter().filter(|(id, o)| self.open.get(*id) != Some(o));
        records.extend(sessions.map(|(id, o)| open(id, o)));
        let gone = self.open.keys().filter(|id| !state.open.contains_key(*id));
        records.extend(gone.map(|id| record("gone", [("id", id.as_str().into())])));
        records
    }

    fn messages_since(&self, state: &Durable, records: &mut Vec<Value>) {
        let waiting: SortedSet<Of<String>> = state.transitions.iter().map(transition_key).collect();
        let answered = self.transitions.iter().filter(|t| !waiting.contains(*t));
        records.extend(answered.map(|(id, transition)| {
            record("answered", [("id", id.as_str().into()), ("transition", transition.as_str().into())])
        }));
        let new = state.transitions.iter().filter(|t| !self.transitions.contains(&transition_key(t)));
        records.extend(new.map(|body| record("transition", [("body", body.clone())])));
        for bundle in self.unwritten(state) {
            let id = text(bundle, "sessionId");
            let chain = state.open.get(&id).and_then(|o| o.chain.clone());
            records.push(record(
                "bundle",
                [("id", id.into()), ("bundle", bundle.clone()), ("chain", chain.into())],
            ));
        }
        for (at, bundle) in &state.refused {
            let key = bundle_key(bundle);
            if !self.refused.contains(&key) {
                let (id, seq) = (key.0.as_str().into(), key.1.into());
                let members = [("id", id), ("seq", seq), ("at", (*at).into()), ("bundle", bundle.clone())];
                records.push(record("refused", members));
            }
        }
        let unanswered: SortedSet<Of<i64>> = state.bundles.iter().map(bundle_key).collect();
        let refused: SortedSet<Of<i64>> = state.refused.iter().map(|(_, b)| bundle_key(b)).collect();
        let acked = self.bundles.iter().filter(|b| !unanswered.contains(*b) && !refused.contains(*b));
        records.extend(
            acked.map(|(id, seq)| record("acked", [("id", id.as_str().into()), ("seq", (*seq).into())])),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::durable::Known;
    use super::*;
    use crate::json::object;
    use proptest::prelude::*;

    fn bundle(id: &str, seq: i64) -> Value {
        object([("sessionId", id.into()), ("seq", seq.into())])
    }

    /// One of the things that happen to a state, for session `id`.
    fn happens(what: u8, id: u8, n: i64) -> Vec<Value> {
        let id = format!("s{id}");
        let body = |t: &str| object([("sessionId", id.as_str().into()), ("transition", t.into())]);
        let chain = object([("seq", (n + 1).into())]);
        match what {
            0 => vec![
                known(&id, &Known { hash: format!("h{n}"), until: 1000 }),
                open(&id, &Open::default()),
                record("transition", [("body", body("accepted"))]),
            ],
            1 => vec![record("answered", [("id", id.as_str().into()), ("transition", "accepted".into())])],
            2 => {
                let members = [("id", id.as_str().into()), ("bundle", bundle(&id, n)), ("chain", chain)];
                vec![record("bundle", members)]
            }
            3 => vec![record("acked", [("id", id.as_str().into()), ("seq", n.into())])],
            4 => vec![record("refused", [("id", id.as_str().into()), ("seq", n.into()), ("at", 5.into())])],
            5 => vec![record("transition", [("body", body("closing"))])],
            6 => vec![record("gone", [("id", id.as_str().into())])],
            7 => vec![record("node", [("state", format!("n{n}").into())])],
            8 => vec![record("nonce", [("nonce", format!("x{n}").into()), ("until", 90.into())])],
            9 => vec![record("quota", [("quota", n.into())]), record("time", [("at", n.into())])],
            10 => vec![list("key", &id, &n.to_string())],
            _ => vec![record("cursor", [("cursor", format!("c{n}").into())])],
        }
    }

    /// A real state never has a message twice.
    fn live(steps: &[(u8, u8, i64)]) -> Durable {
        let mut state = Durable::default();
        for (what, id, n) in steps {
            let name = format!("s{id}");
            let has = |b: &Value| bundle_key(b) == (name.clone(), *n);
            let twice = match what {
                0 => state.known.contains_key(&name),
                2 => state.bundles.iter().any(has) || state.refused.iter().any(|(_, b)| has(b)),
                5 => state.waits(&name, "closing"),
                _ => false,
            };
            if !twice {
                happens(*what, *id, *n).iter().for_each(|r| state.apply(r));
            }
        }
        state
    }

    fn same(written: &Durable, state: &Durable) -> bool {
        let sorted = |v: &[Value]| {
            let mut all: Vec<String> = v.iter().map(Value::canonical).collect();
            all.sort();
            all
        };
        let refused = |d: &Durable| sorted(&d.refused.iter().map(|(_, b)| b.clone()).collect::<Vec<_>>());
        let plain = |d: &Durable| Durable {
            transitions: Vec::new(),
            bundles: Vec::new(),
            refused: Vec::new(),
            ..d.clone()
        };
        sorted(&written.bundles) == sorted(&state.bundles)
            && sorted(&written.transitions) == sorted(&state.transitions)
            && refused(written) == refused(state)
            && plain(written) == plain(state)
    }

    proptest! {
        #[test]
        fn what_is_appended_makes_the_written_state_the_present_one(
            steps in prop::collection::vec((0u8..12, 0u8..3, 0i64..4), 0..60), cut in 0usize..60
        ) {
            let cut = cut.min(steps.len());
            let (then, now) = (live(&steps[..cut]), live(&steps));
            let mut written = then.clone();
            Kept::of(&then).since(&now).iter().for_each(|r| written.apply(r));
            prop_assert!(same(&written, &now), "{written:?}\n{now:?}");
        }
    }

    #[test]
    fn sessions_and_the_owners_will_do_not_wait_and_the_rest_does() {
        let then = live(&[(0, 1, 0)]);
        let kept = Kept::of(&then);
        let after = |what: u8, id: u8| {
            let mut now = then.clone();
            happens(what, id, 0).iter().for_each(|r| now.apply(r));
            kept.is_overdue(&now)
        };
        for urgent in [(0, 2), (5, 1), (6, 1), (7, 1), (10, 1)] {
            assert!(after(urgent.0, urgent.1), "{urgent:?}");
        }
        for calm in [1, 2, 3, 4, 8, 9, 11] {
            assert!(!after(calm, 1), "{calm}");
        }
    }
}

//! The outbox lane: transitions and bundles, in the order in which the node wants them posted.
use super::client::{Ask, Client, Outcome};
use super::link::Lane;
use super::node::{Node, Outgoing, Posted};
use super::wire::{self, BundleResult, BundleStatus, MAX_BUNDLES, Problem, WireError};
use crate::json::{FieldError, Value, array, object};
use crate::time::Unix;

impl Client {
    pub(super) async fn outbox(&self, node: &dyn Node) {
        loop {
            self.ready(Lane::Outbox).await;
            let seen = self.changed.count();
            if !self.post_next(node).await {
                self.changed.after(seen).await;
            }
        }
    }

    /// Posts the first of the outbox; false if there is none.
    pub(super) async fn post_next(&self, node: &dyn Node) -> bool {
        match node.next_outgoing() {
            None => {
                self.batch.set(MAX_BUNDLES);
                return false;
            }
            Some(Outgoing::Transition(body)) => {
                let ask = Ask::post("/sessions/control", &body);
                match self.request(node, Lane::Outbox, &ask, |_, b| wire::transition_answer(b)).await {
                    Outcome::Done(()) => node.transition_posted(&body, Posted::Taken),
                    Outcome::Final(problem) => node.transition_posted(&body, Posted::Refused(problem)),
                    Outcome::Later | Outcome::StartOver => {}
                }
            }
            Some(Outgoing::Bundles(mut bundles)) => {
                bundles.truncate(self.batch.get());
                self.post_bundles(node, &bundles).await;
            }
        }
        true
    }

    async fn post_bundles(&self, node: &dyn Node, bundles: &[Value]) {
        let body = object([("bundles", array(bundles.iter().cloned()))]);
        let ask = Ask::post("/attest/metering", &body);
        // An answer without a word on any of them counts as none, or it would be asked for again at once.
        let read = |_, body: &[u8]| {
            let mut answer = wire::metering_answer(body)?;
            answer.results.retain(|r| bundles.iter().any(|b| names(r, b)));
            if answer.results.is_empty() { Err(nothing_on_these()) } else { Ok(answer) }
        };
        match self.request(node, Lane::Outbox, &ask, read).await {
            Outcome::Done(answer) => node.bundles_posted(answer.results, answer.credits_today),
            Outcome::Final(_) if bundles.len() > 1 => self.batch.set(1),
            Outcome::Final(problem) => {
                let results = bundles.iter().filter_map(|b| refused(b, &problem)).collect();
                node.bundles_posted(results, Value::Null);
            }
            Outcome::Later | Outcome::StartOver => {}
        }
    }
}

/// Whether a result is about a bundle.
pub(super) fn names(result: &BundleResult, bundle: &Value) -> bool {
    bundle.member("sessionId").and_then(Value::as_str) == Some(&result.session_id)
        && bundle.member("seq").and_then(Value::as_int).map(i64::unsigned_abs) == Some(result.seq)
}

fn nothing_on_these() -> WireError {
    let problem = "names none of the bundles posted".to_owned();
    WireError::Field(FieldError { pointer: "/results".into(), problem })
}

/// The result of a bundle whose post was refused for good.
fn refused(bundle: &Value, problem: &Problem) -> Option<BundleResult> {
    Some(BundleResult {
        session_id: bundle.member("sessionId")?.as_str()?.to_owned(),
        window_start: Unix::parse(bundle.member("windowStart")?.as_str()?)?,
        seq: bundle.member("seq")?.as_int()?.unsigned_abs(),
        status: BundleStatus::Refused(problem.slug.clone()),
    })
}

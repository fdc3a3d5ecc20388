//! The probe lane: asks for challenges, fetches, reports, and takes follow-ups.
use super::client::{Ask, Client, Outcome};
use super::link::Lane;
use super::node::{self, Node};
use super::wire;
use crate::json::Value;
use crate::probe::plan::{self, Challenge, MAX_FOLLOW_UPS, NoAnswer, Plan, ProbeContext, ProbeRefusal};

/// Most tries to post one report.
const MAX_TRIES: usize = 8;

impl Client {
    pub(super) async fn probes(&self, node: &dyn Node) {
        loop {
            self.ready(Lane::Probe).await;
            let started = self.clock.now().mono_us;
            let query = format!("waitMs={}", self.settings.wait_ms);
            let ask = Ask::poll("/probes/request", query, self.settings.wait_ms);
            let read = |status, body: &[u8]| {
                if status == 204 { Ok(None) } else { wire::probe_request(body).map(Some) }
            };
            match self.request(node, Lane::Probe, &ask, read).await {
                Outcome::Done(Some(request)) => self.probe(node, request).await,
                Outcome::Done(None) => self.polled(Lane::Probe, started),
                _ => {}
            }
        }
    }

    /// Answers a request and up to [`MAX_FOLLOW_UPS`] more.
    async fn probe(&self, node: &dyn Node, first: Value) {
        let mut request = Some(first);
        for _ in 0..=MAX_FOLLOW_UPS {
            let Some(r) = request.take() else { return };
            let Some(report) = self.answer(node, &r).await else { return };
            request = self.report(node, &report).await;
        }
    }

    /// The report on a request; `None` for one that gets no answer.
    pub(super) async fn answer(&self, node: &dyn Node, request: &Value) -> Option<Value> {
        let (id, hosts) = (self.key.node_id(), node.probe_hosts());
        let context = ProbeContext {
            node_id: &id,
            coordinator: &self.settings.coordinator,
            now: self.clock.now().unix(),
            approved: &hosts,
            allow_plain: self.settings.allow_plain_probes,
            extra_ports: &self.settings.extra_ports,
            answered: &|nonce| node.nonce_answered(nonce),
            active: &|session| node.is_active(session),
        };
        let Challenge { session_id, nonce, plan } = match plan::judge(request, &context) {
            Ok(challenge) => challenge,
            Err(why) => {
                node.alert(node::PROBE_FORGED, Some(why.to_string()));
                if why == NoAnswer::Forged {
                    node.order_forged();
                }
                return None;
            }
        };
        if matches!(plan, Err(ProbeRefusal::WrongNode)) {
            node.alert(node::PROBE_FORGED, Some("a probe request names another node".to_owned()));
            node.order_forged();
        }
        // Before the fetch: a node that dies in between must not answer this nonce a second time.
        let kept = node.keep_nonce(&nonce);
        let failed = kept.is_err();
        node.alert(node::STATE_NOT_KEPT, kept.err());
        if failed {
            return None;
        }
        let (outcome, report) = match plan {
            Err(refusal) => (Err(refusal), None),
            Ok(plan) => {
                node.probe_started(&session_id);
                match self.fetch(node, &plan).await {
                    Ok(report) => (Ok(()), Some(report)),
                    Err(refusal) => (Err(refusal), None),
                }
            }
        };
        node.probe_ended(&session_id, outcome);
        let refusal = outcome.err().unwrap_or(ProbeRefusal::FetchFailed);
        Some(report.unwrap_or_else(|| plan::refusal(&session_id, &nonce, refusal, &self.key)))
    }

    async fn fetch(&self, node: &dyn Node, plan: &Plan) -> Result<Value, ProbeRefusal> {
        let measured = self.fetcher.fetch(plan, &|address| node.is_allowed(address)).await?;
        let trailer = plan::trailer(plan, &measured)?;
        node.probe_measured(&plan.url.origin.host, measured.rtt_ms);
        Ok(plan::report(plan, &measured, &trailer, &self.key))
    }

    /// Posts a report and gives back a follow-up.
    async fn report(&self, node: &dyn Node, report: &Value) -> Option<Value> {
        for _ in 0..MAX_TRIES {
            self.ready(Lane::Probe).await;
            let ask = Ask::post("/probes/report", report);
            match self.request(node, Lane::Probe, &ask, |_, body| wire::report_answer(body)).await {
                Outcome::Done(answer) => return answer.probe,
                Outcome::Final(_) => return None,
                Outcome::Later | Outcome::StartOver => {}
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "probing_tests.rs"]
mod tests;

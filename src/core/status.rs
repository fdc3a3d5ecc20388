//! What `/status`, `/sessions` and `/diagnostics` say.
use super::durable::session_ids;
use super::lifecycle::{NodeMachine, NodeState, State};
use super::node::Node;
use super::sandbox::Sandbox;
use super::session::Session;
use crate::json::{Value, array, object};
use crate::session::limits::limits_to_value;

impl Node {
    /// `GET /status`.
    pub(super) fn status_value(&self) -> Value {
        let now = self.ledger.now();
        let config = self.config();
        let hours = self.ledger.hours(now);
        let machine = self.machine.borrow();
        let mut qos = self.ledger.qos.borrow_mut();
        let remote = self.remote.borrow();
        let change = hours.next_change.map(|t| t.to_string());
        object([
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("nodeId", self.key.node_id().into()),
            ("state", machine.state().as_str().into()),
            ("reason", self.reason(&machine).into()),
            ("since", machine.since().to_string().into()),
            ("uptimeMs", now.mono_ms().into()),
            ("guard", self.guard_status().as_str().into()),
            ("offload", self.offload_value()),
            ("sandbox", self.sandbox_value()),
            ("coordinator", self.coordinator_value()),
            ("sessions", self.session_count().into()),
            ("throughput", qos.throughput_value(now)),
            ("qos", qos.summary(now).to_value()),
            ("today", self.today_value()),
            ("schedule", object([("open", hours.open.into()), ("nextChange", change.into())])),
            ("geo", self.region.borrow().to_value(&config.node.region_allow)),
            ("account", remote.account.clone().into()),
            ("probes", self.probes_value()),
            ("refusals", self.refusals_value()),
            ("alerts", self.alerts.borrow().to_value()),
            ("config", self.config_value()),
        ])
    }

    /// Why the node is in its state.
    fn reason(&self, machine: &NodeMachine) -> String {
        let errors = self.config_errors.borrow();
        match errors.first() {
            Some(error) if machine.state() == NodeState::Unconfigured => {
                format!("There is no valid configuration: {error}")
            }
            _ => machine.reason().to_owned(),
        }
    }

    /// What was put in force at the start; the configuration may say otherwise since.
    fn sandbox_value(&self) -> Value {
        let unconfined = || Sandbox::unconfined(self.config().security.sandbox_mode).to_value();
        self.sandbox.borrow().as_ref().map_or_else(unconfined, Sandbox::to_value)
    }

    fn coordinator_value(&self) -> Value {
        let link = self.remote.borrow().link.clone();
        let configured = self.coordinator_key().is_some();
        let state = link.as_ref().map_or(if configured { "registering" } else { "none" }, |l| l.state);
        let contact = link.as_ref().and_then(|l| l.last_contact).map(|t| t.to_string());
        let backoff = link.map_or(0, |l| l.backoff_ms);
        object([("state", state.into()), ("lastContact", contact.into()), ("backoffMs", backoff.into())])
    }

    fn today_value(&self) -> Value {
        let now = self.ledger.now();
        let (ingress, egress) = self.ledger.bytes_today(now);
        let quota = self.ledger.allowance.borrow().day.limit_bytes;
        object([
            ("ingressBytes", ingress.into()),
            ("egressBytes", egress.into()),
            ("quotaBytes", quota.into()),
            ("resetsAt", self.ledger.next_day(now).to_string().into()),
        ])
    }

    fn probes_value(&self) -> Value {
        let remote = self.remote.borrow();
        let last = remote.last_probe.map(|t| t.to_string());
        object([
            ("passed", remote.probes.0.into()),
            ("failed", remote.probes.1.into()),
            ("last", last.into()),
        ])
    }

    fn refusals_value(&self) -> Value {
        let refusals = self.ledger.refusals.borrow();
        let mut counted: Vec<_> = refusals.iter().collect();
        counted.sort();
        let counted = counted.into_iter().map(|(refusal, n)| (refusal.slug(), *n));
        // Not refusals of a request: these connections never came to one.
        let strangers = self.services.borrow().as_ref().map(|s| s.strangers()).unwrap_or_default();
        let silent = [("flood", strangers.dropped), ("auth-timeout", strangers.late)];
        let silent = silent.into_iter().filter(|(_, n)| *n > 0);
        object(counted.chain(silent).map(|(slug, n)| (slug, Value::from(n))))
    }

    fn config_value(&self) -> Value {
        let errors = array(self.config_errors.borrow().iter().map(String::as_str));
        object([("etag", self.config().etag().into()), ("errors", errors)])
    }

    /// `GET /sessions`.
    pub(super) fn sessions_value(&self) -> Value {
        let all = self.all_sessions();
        let open = all.iter().filter(|s| s.machine.borrow().state() != State::Settled);
        array(open.map(|s| session_value(s)))
    }

    /// `GET /diagnostics`.
    pub(super) fn diagnostics_value(&self) -> Value {
        let durable = self.durable.borrow();
        object([
            ("status", self.status_value()),
            ("clockOffsetMs", self.ledger.clock.offset_ms().into()),
            ("guardRefused", self.guard_value()),
            ("wan", self.wan_value()),
            ("liveFlows", self.ledger.live_flows().into()),
            ("leases", self.leases_value()),
            ("maxFlows", self.ledger.most_flows().into()),
            ("flashWrites", self.flash_writes().into()),
            ("unansweredTransitions", durable.transitions.len().into()),
            ("unansweredBundles", durable.bundles.len().into()),
            ("unansweredOf", session_ids(&durable.bundles)),
            ("refusedBundles", array(durable.refused.iter().map(|(_, b)| b.clone()))),
            ("accessLogLinesDropped", self.ledger.log.borrow().dropped().into()),
        ])
    }
}

fn session_value(session: &Session) -> Value {
    let meter = session.meter.borrow();
    let totals = meter.totals().to_value();
    let total = |name: &str| totals.member(name).cloned().unwrap_or(Value::Int(0));
    let state = session.machine.borrow().state().as_str();
    object([
        ("sessionId", session.order.session_id.as_str().into()),
        ("buyer", session.order.buyer.as_str().into()),
        ("category", session.order.category.as_str().into()),
        ("state", state.into()),
        ("notBefore", session.order.not_before.to_string().into()),
        ("expiresAt", session.order.expires_at.to_string().into()),
        ("limits", limits_to_value(session.allowance.borrow().limits())),
        ("connections", total("connections")),
        ("open", session.connections().into()),
        ("rejected", total("rejected")),
        ("bytesIngress", total("bytesIngress")),
        ("bytesEgress", total("bytesEgress")),
        ("path", session.path().as_str().into()),
    ])
}

/// `offload` where leases are not possible.
pub(super) fn no_offload(mode: &str, reason: &str) -> Value {
    object([("mode", mode.into()), ("active", "relay".into()), ("reason", reason.into())])
}

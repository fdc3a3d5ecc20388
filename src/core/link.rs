//! The node as the coordinator's client sees it: registration, heartbeats, signals, the outbox, probes.
use super::durable::{MAX_NONCES, record};
use super::ledger::MAX_FLOWS;
use super::lifecycle::{Event, Transition};
use super::node::Node;
use super::session::Session;
use crate::coordinator::link::LinkStatus;
use crate::coordinator::node::{self as client, Outgoing, Posted};
use crate::coordinator::wire::{
    BundleResult, BundleStatus, HeartbeatAnswer, MAX_BUNDLES, ProbeHost, Registered, Signal,
};
use crate::json::{Value, array, object};
use crate::policy::geo::RoundTrip;
use crate::probe::plan::{NONCE_KEPT_S, ProbeRefusal};
use crate::time::Now;
use std::net::IpAddr;
use std::rc::Rc;

impl client::Node for Node {
    fn registration(&self) -> Value {
        let config = self.config();
        let identity = self.identity.borrow();
        let port = config.relay.listen.port();
        let mut tls = object([("spki", identity.spki.as_str().into())]);
        if let Some(csr) = &identity.csr {
            tls.set("csr", csr.as_str());
        }
        let way = |kind: &str| object([("kind", kind.into()), ("port", port.into())]);
        let lease = self.leases.is_possible().then(|| way("lease"));
        let ways = std::iter::once(way("relay")).chain(lease);
        let mut body = object([
            ("nodeId", self.key.node_id().into()),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("platform", format!("linux-{}", std::env::consts::ARCH).into()),
            ("regions", array(config.node.region_allow.iter().map(String::as_str))),
            ("transports", Value::Array(ways.collect())),
            ("caps", self.caps()),
            ("tls", tls),
        ]);
        if let Some(previous) = &identity.previous {
            body.set("previous", previous.clone());
        }
        body
    }

    fn registered(&self, answer: Registered) {
        crate::info!("registered with the coordinator");
        self.lists_named(answer.lists);
        self.remote.borrow_mut().probe_hosts = answer.probe_hosts;
        if let Some(pem) = answer.certificate {
            self.tell(|l| l.certificate(&pem));
        }
        self.tell(|l| l.registered());
    }

    fn heartbeat(&self) -> Value {
        let now = self.ledger.now();
        let mut qos = self.ledger.qos.borrow_mut();
        let mut body = object([
            ("state", self.machine.borrow().state().as_str().into()),
            ("sessions", self.session_count().into()),
            ("qos", qos.summary(now).to_value()),
            ("alerts", self.alerts.borrow().to_value()),
            ("caps", self.caps()),
        ]);
        if let Some(telemetry) = self.telemetry(now) {
            body.set("telemetry", telemetry);
        }
        body
    }

    fn heartbeat_answered(&self, answer: HeartbeatAnswer) {
        self.remote.borrow_mut().account = Some(answer.account);
        self.review_region(answer.observed.as_ref());
        // Who has sessions needs most of the program again at once.
        if self.session_count() == 0 {
            self.tell(|l| l.seldom());
        }
    }

    fn cursor(&self) -> String {
        self.durable.borrow().cursor.clone()
    }

    fn apply_signals(&self, signals: Vec<Signal>, cursor: String) -> Result<(), String> {
        Node::apply_signals(self, &signals, &cursor)
    }

    fn next_outgoing(&self) -> Option<Outgoing> {
        // What the coordinator has heard must survive a crash, or it would hear another story afterwards.
        if self.behind.get() {
            return None;
        }
        let durable = self.durable.borrow();
        let id = |v: &Value| v.member("sessionId").cloned();
        let is_settled = |t: &Value| transition_of(t) == Transition::Settled.as_str();
        // `settled` waits for the session's bundles; whatever else the session has comes before it in the queue.
        let blocked = |t: &&Value| is_settled(t) && durable.bundles.iter().any(|b| id(b) == id(t));
        if let Some(transition) = durable.transitions.iter().find(|t| !blocked(t)) {
            return Some(Outgoing::Transition(transition.clone()));
        }
        let bundles: Vec<Value> = durable.bundles.iter().take(MAX_BUNDLES).cloned().collect();
        (!bundles.is_empty()).then_some(Outgoing::Bundles(bundles))
    }

    fn transition_posted(&self, body: &Value, posted: Posted) {
        let id = body.member("sessionId").and_then(Value::as_str).unwrap_or_default();
        let transition = transition_of(body);
        if posted == Posted::Taken {
            self.clear_alert("transition-refused");
        } else if let Posted::Refused(problem) = posted {
            crate::error!("the coordinator refused {transition} of session {id}: {}", problem.slug);
            self.alert(
                "transition-refused",
                &format!("The coordinator refused a transition: {}.", problem.slug),
            );
        }
        let mut records = vec![record("answered", [("id", id.into()), ("transition", transition.into())])];
        let session = self.sessions.borrow().get(id).cloned();
        if let Some(session) = session.filter(|_| transition == Transition::Settled.as_str()) {
            self.fire(&session, Event::Acknowledged, &mut records);
        }
        self.note(records);
        self.ledger.ring();
    }

    fn bundles_posted(&self, results: Vec<BundleResult>, credits_today: Value) {
        let now = self.ledger.now().unix().0;
        let mut records = Vec::new();
        for result in results {
            let members = [
                ("id", Value::from(result.session_id.as_str())),
                ("seq", result.seq.into()),
                ("at", now.into()),
            ];
            match result.status {
                BundleStatus::Accepted | BundleStatus::Duplicate => records.push(record("acked", members)),
                BundleStatus::Refused(reason) => {
                    crate::debug!("the coordinator refused bundle {} of {}", result.seq, result.session_id);
                    self.alert("bundle-refused", &format!("The coordinator refused a bundle: {reason}."));
                    records.push(record("refused", members));
                }
            }
        }
        if let Some(account) = &mut self.remote.borrow_mut().account
            && credits_today != Value::Null
        {
            account.set("creditsToday", credits_today);
        }
        self.note(records);
        self.ledger.ring();
    }

    fn probe_hosts(&self) -> Vec<ProbeHost> {
        let config = self.config();
        let approved = |h: &&ProbeHost| config.probes.approved_hosts.contains(&h.host);
        self.remote.borrow().probe_hosts.iter().filter(approved).cloned().collect()
    }

    fn is_active(&self, session_id: &str) -> bool {
        let carried = |s: &Rc<Session>| s.carries(self.ledger.now()) && self.shared.refusal.get().is_none();
        self.sessions.borrow().get(session_id).is_some_and(carried)
    }

    fn nonce_answered(&self, nonce: &str) -> bool {
        self.durable.borrow().nonces.contains_key(nonce)
    }

    fn keep_nonce(&self, nonce: &str) -> Result<(), String> {
        let now = self.ledger.now().unix().0;
        self.durable.borrow_mut().expire(now);
        if self.durable.borrow().nonces.len() >= MAX_NONCES && !self.nonce_answered(nonce) {
            return Err(format!(
                "{MAX_NONCES} probes within {NONCE_KEPT_S} s are too many; this one is not answered"
            ));
        }
        let until = now.saturating_add(NONCE_KEPT_S);
        self.commit(vec![record("nonce", [("nonce", nonce.into()), ("until", until.into())])])
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        self.services.borrow().as_ref().is_some_and(|l| l.is_allowed(address))
    }

    fn probe_started(&self, session_id: &str) {
        self.probe_event(session_id, Event::ProbeStarted);
    }

    fn probe_ended(&self, session_id: &str, outcome: Result<(), ProbeRefusal>) {
        self.probe_event(session_id, Event::ProbeEnded);
        let mut remote = self.remote.borrow_mut();
        match outcome {
            Ok(()) => remote.probes.0 += 1,
            Err(refusal) => {
                crate::warn!("a probe was refused or failed: {}", refusal.slug());
                remote.probes.1 += 1;
            }
        }
        remote.last_probe = Some(self.ledger.now().unix());
    }

    fn order_forged(&self) {
        self.count_forged();
    }

    fn probe_measured(&self, host: &str, rtt_ms: u64) {
        let position =
            self.remote.borrow().probe_hosts.iter().find(|h| h.host == host).and_then(|h| h.position);
        if let Some(position) = position {
            self.region.borrow_mut().round_trip(RoundTrip { host: host.to_owned(), position, rtt_ms });
        }
    }

    fn correct_clock(&self, unix_ms: i64) {
        self.ledger.clock.set(unix_ms);
        crate::info!("the clock was corrected by {} ms", self.ledger.clock.offset_ms());
        self.ledger.ring();
    }

    fn alert(&self, code: &'static str, detail: Option<String>) {
        match detail {
            Some(detail) => Node::alert(self, code, &detail),
            None => self.clear_alert(code),
        }
    }

    fn link_changed(&self, status: LinkStatus) {
        self.remote.borrow_mut().link = Some(status);
    }
}

impl Node {
    /// Bounds tunnels to what `limit` descriptors allow. If that is less than one session may have, the owner is told.
    pub fn limit_tunnels(&self, tunnels: usize, limit: usize) {
        self.ledger.set_most_flows(tunnels);
        let session = self.config().network.per_session.max_connections.map_or(MAX_FLOWS, |n| n as usize);
        if tunnels >= session.min(MAX_FLOWS) {
            return self.clear_alert("descriptors-low");
        }
        let text = format!(
            "{limit} descriptors are enough for {tunnels} tunnels at a time, and one session may have {session}: more are \
             refused (rate-limited). Raise the hard limit of open files (procd: limits nofile; systemd: LimitNOFILE; ulimit -n)."
        );
        self.alert("descriptors-low", &text);
    }

    /// `caps` of registration and heartbeat.
    fn caps(&self) -> Value {
        let config = self.config();
        let most = i64::try_from(self.ledger.most_flows()).unwrap_or(i64::MAX);
        let connections = config.network.per_session.max_connections.map_or(most, |n| most.min(n.into()));
        object([
            ("maxMbps", config.network.max_mbps.into()),
            ("maxGBPerDay", config.network.max_gb_per_day.into()),
            ("maxConnections", connections.into()),
        ])
    }

    /// `telemetry` of a heartbeat, if the owner has opted in: of the machine and of this process, nothing of buyers.
    fn telemetry(&self, now: Now) -> Option<Value> {
        let services = self.services.borrow().clone().filter(|_| self.config().ui.telemetry_opt_in)?;
        let machine = services.machine();
        let (cpu_us, at_us) = self.worked.replace((machine.cpu_us, now.mono_us));
        let (worked, passed) = (machine.cpu_us.saturating_sub(cpu_us), now.mono_us.saturating_sub(at_us));
        let tenths = (worked as f64 * 1000.0 / passed.max(1) as f64).round();
        Some(object([
            ("board", machine.board.into()),
            ("kernel", machine.kernel.into()),
            ("rssKB", machine.rss_kb.into()),
            ("cpuPercent", (tenths / 10.0).into()),
            ("offload", self.active_path().into()),
        ]))
    }

    fn probe_event(&self, session_id: &str, event: Event) {
        let session: Option<Rc<Session>> = self.sessions.borrow().get(session_id).cloned();
        if let Some(session) = session {
            let mut records = Vec::new();
            self.fire(&session, event, &mut records);
            self.note(records);
        }
    }
}

fn transition_of(body: &Value) -> &str {
    body.member("transition").and_then(Value::as_str).unwrap_or_default()
}

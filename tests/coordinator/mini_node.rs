//! A node that obeys and keeps everything in memory.
use echomesh::clock::Clock;
use echomesh::coordinator::client::Client;
use echomesh::coordinator::link::LinkStatus;
use echomesh::coordinator::node::{Node, Outgoing, Posted};
use echomesh::coordinator::orders::{
    Judgement, OpenContext, OrderContext, fingerprint, judge_close, judge_open,
};
use echomesh::coordinator::wire::{BundleResult, HeartbeatAnswer, ProbeHost, Registered, Signal, Transition};
use echomesh::json::{Value, array, object};
use echomesh::meter::SessionMeter;
use echomesh::probe::plan::ProbeRefusal;
use echomesh::signed::{NodeKey, PublicKey};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

/// A node that obeys: it opens, activates and closes sessions and says so.
pub struct MiniNode {
    pub key: Rc<NodeKey>,
    pub clock: Rc<Clock>,
    pub coordinator: PublicKey,
    pub endpoint_port: u16,
    pub cursor: RefCell<String>,
    pub known: RefCell<HashMap<String, String>>,
    pub active: RefCell<HashMap<String, SessionMeter>>,
    pub outbox: RefCell<VecDeque<Outgoing>>,
    pub hosts: RefCell<Vec<ProbeHost>>,
    pub nonces: RefCell<Vec<String>>,
    pub log: RefCell<Vec<String>>,
    pub paused: Cell<bool>,
    pub client: OnceCell<Rc<Client>>,
}

impl MiniNode {
    fn note(&self, line: String) {
        self.log.borrow_mut().push(line);
    }

    fn say(&self, session_id: &str, transition: &'static str, fill: impl Fn(&mut Transition)) {
        let mut t = Transition {
            session_id: session_id.to_owned(),
            transition,
            at: self.clock.now().unix(),
            reason: None,
            limits: None,
            totals: None,
        };
        fill(&mut t);
        self.outbox.borrow_mut().push_back(Outgoing::Transition(t.to_value()));
        if let Some(client) = self.client.get() {
            client.outbox_changed();
        }
    }

    fn open(&self, body: &Value) {
        let known = |id: &str| self.known.borrow().get(id).cloned();
        let judgement = judge_open(
            body,
            &OpenContext {
                node_id: &self.key.node_id(),
                coordinator: &self.coordinator,
                now: self.clock.now().unix(),
                known: &known,
                region_allow: &["LAB-1".to_owned()],
                observed_region: None,
                category_opt_out: &[],
                extra_ports: &[self.endpoint_port],
                transports: &["relay"],
                paused: self.paused.get(),
                outside_schedule: false,
                quarantined: false,
                guard_down: false,
                has_capacity: true,
            },
        );
        match judgement {
            Judgement::Ignore => self.note("ignored".into()),
            Judgement::Accept(open) => {
                let id = open.session_id;
                self.known.borrow_mut().insert(id.clone(), fingerprint(body));
                self.say(&id, "accepted", |t| t.limits = Some(caps()));
                self.say(&id, "active", |_| {});
                let meter = SessionMeter::new(&self.key.node_id(), &id);
                self.active.borrow_mut().insert(id, meter);
            }
            Judgement::Refuse { session_id: Some(id), reason, remember_until } => {
                if remember_until.is_some() {
                    self.known.borrow_mut().insert(id.clone(), fingerprint(body));
                }
                self.say(&id, "refused", |t| t.reason = Some(reason.slug().into()));
            }
            Judgement::Refuse { .. } => self.note("unanswerable".into()),
        }
    }

    fn close(&self, body: &Value) {
        let id = self.key.node_id();
        let context =
            OrderContext { node_id: &id, coordinator: &self.coordinator, now: self.clock.now().unix() };
        match judge_close(body, &context, &|_| None) {
            Err(fault) => self.note(format!("close {}", fault.slug())),
            Ok(close) => {
                let Some(mut meter) = self.active.borrow_mut().remove(&close.session_id) else { return };
                let sealed = meter.close(self.clock.now());
                self.say(&close.session_id, "closing", |t| t.reason = Some(close.reason.into()));
                let bundles = sealed.iter().map(|s| s.signed(&self.key)).collect();
                self.outbox.borrow_mut().push_back(Outgoing::Bundles(bundles));
                let totals = meter.totals().to_value();
                self.say(&close.session_id, "settled", |t| t.totals = Some(totals.clone()));
            }
        }
    }
}

fn caps() -> Value {
    object([("maxMbps", 10.into()), ("maxGBPerDay", 20.into()), ("maxConnections", 64.into())])
}

impl Node for MiniNode {
    fn registration(&self) -> Value {
        let spki = format!("sha256//{}", echomesh::encoding::base64(&[7; 32]));
        object([
            ("nodeId", self.key.node_id().into()),
            ("version", "0.1.0".into()),
            ("platform", "test".into()),
            ("regions", array(["LAB-1"])),
            ("transports", array([object([("kind", "relay".into()), ("port", 8443.into())])])),
            ("caps", caps()),
            ("tls", object([("spki", spki.into())])),
        ])
    }
    fn registered(&self, answer: Registered) {
        *self.hosts.borrow_mut() = answer.probe_hosts;
        self.note("registered".into());
    }
    fn heartbeat(&self) -> Value {
        let names = ["latencyMsP50", "latencyMsP95", "errorRatePct", "throughputMbps"];
        object([
            ("state", if self.paused.get() { "paused" } else { "idle" }.into()),
            ("sessions", self.active.borrow().len().into()),
            ("qos", object(names.map(|n| (n, 0.into())))),
            ("alerts", array::<Value>([])),
            ("caps", caps()),
        ])
    }
    fn heartbeat_answered(&self, _: HeartbeatAnswer) {
        self.note("heartbeat".into());
    }
    fn cursor(&self) -> String {
        self.cursor.borrow().clone()
    }
    fn apply_signals(&self, signals: Vec<Signal>, cursor: String) -> Result<(), String> {
        for s in &signals {
            match s.kind.as_str() {
                "open" => self.open(&s.body),
                "close" => self.close(&s.body),
                other => self.note(format!("signal {other}")),
            }
        }
        *self.cursor.borrow_mut() = cursor;
        Ok(())
    }
    fn next_outgoing(&self) -> Option<Outgoing> {
        self.outbox.borrow().front().cloned()
    }
    fn transition_posted(&self, body: &Value, posted: Posted) {
        self.outbox.borrow_mut().pop_front();
        self.note(format!("{} {posted:?}", body.member("transition").and_then(Value::as_str).unwrap()));
    }
    fn bundles_posted(&self, results: Vec<BundleResult>, _: Value) {
        self.outbox.borrow_mut().pop_front();
        for r in results {
            self.note(format!("bundle {:?}", r.status));
        }
    }
    fn probe_hosts(&self) -> Vec<ProbeHost> {
        self.hosts.borrow().clone()
    }
    fn is_active(&self, session_id: &str) -> bool {
        self.active.borrow().contains_key(session_id)
    }
    fn nonce_answered(&self, nonce: &str) -> bool {
        self.nonces.borrow().iter().any(|n| n == nonce)
    }
    fn keep_nonce(&self, nonce: &str) -> Result<(), String> {
        self.nonces.borrow_mut().push(nonce.to_owned());
        Ok(())
    }
    fn is_allowed(&self, _: IpAddr) -> bool {
        true
    }
    fn probe_started(&self, _: &str) {}
    fn order_forged(&self) {}
    fn probe_ended(&self, _: &str, outcome: Result<(), ProbeRefusal>) {
        self.note(format!("probe {outcome:?}"));
    }
    fn probe_measured(&self, _: &str, _: u64) {}
    fn correct_clock(&self, unix_ms: i64) {
        self.note("corrected".into());
        self.clock.set(unix_ms);
    }
    fn alert(&self, code: &'static str, detail: Option<String>) {
        if let Some(detail) = detail {
            self.note(format!("alert {code}: {detail}"));
        }
    }
    fn link_changed(&self, status: LinkStatus) {
        self.note(format!("link {}", status.state));
    }
}

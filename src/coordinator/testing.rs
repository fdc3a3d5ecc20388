//! A node that writes down what it is told, and a coordinator of a few lines that checks signatures and answers by a
//! script.
use super::client::{Client, Settings};
use super::link::LinkStatus;
use super::node::{Node, Outgoing, Posted};
use super::outbox::names;
use super::wire::{self, BundleResult, HeartbeatAnswer, ProbeHost, Registered, Signal};
use crate::clock::Clock;
use crate::egress::Egress;
use crate::encoding::from_base64;
use crate::http::client::{Client as Http, Fixed, Limits};
use crate::http::testing::{Answering, Got, Handler, Reply, TestCa, TestServer};
use crate::json::{Value, array, object, parse};
use crate::probe::fetch::Fetcher;
use crate::probe::plan::ProbeRefusal;
use crate::signed::NodeKey;
use crate::time::Unix;
use async_executor::LocalExecutor;
use async_io::Timer;
use futures_lite::future::{self, block_on};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

pub(super) const SESSION: &str = "0b0f6c3e-3d1b-4c55-9a35-2f6a3f0f9c11";

pub(super) fn key(n: u8) -> Rc<NodeKey> {
    Rc::new(NodeKey::from_seed(&[n; 32]).unwrap())
}

/// A node that writes down what it is told.
#[derive(Default)]
pub(super) struct FakeNode {
    pub(super) log: RefCell<Vec<String>>,
    pub(super) cursor: RefCell<String>,
    pub(super) outbox: RefCell<VecDeque<Outgoing>>,
    pub(super) nonces: RefCell<Vec<String>>,
    pub(super) alerts: RefCell<Vec<&'static str>>,
    pub(super) clock: Option<Rc<Clock>>,
    pub(super) deny_addresses: bool,
    pub(super) disk_full: Cell<bool>,
}

impl FakeNode {
    pub(super) fn note(&self, line: impl Into<String>) {
        self.log.borrow_mut().push(line.into());
    }
    pub(super) fn has(&self, line: &str) -> bool {
        self.log.borrow().iter().any(|l| l == line)
    }
    pub(super) fn times(&self, line: &str) -> usize {
        self.log.borrow().iter().filter(|l| *l == line).count()
    }
}

impl Node for FakeNode {
    fn registration(&self) -> Value {
        object([("nodeId", key(1).node_id().into())])
    }
    fn registered(&self, answer: Registered) {
        self.note(format!("registered {}", answer.policy_version));
    }
    fn heartbeat(&self) -> Value {
        object([("state", "idle".into())])
    }
    fn heartbeat_answered(&self, _: HeartbeatAnswer) {
        self.note("heartbeat");
    }
    fn cursor(&self) -> String {
        self.cursor.borrow().clone()
    }
    fn apply_signals(&self, signals: Vec<Signal>, cursor: String) -> Result<(), String> {
        if self.disk_full.get() {
            return Err("the disk is full".into());
        }
        for s in signals {
            self.note(format!("signal {} {}", s.kind, s.cursor));
        }
        *self.cursor.borrow_mut() = cursor;
        Ok(())
    }
    fn next_outgoing(&self) -> Option<Outgoing> {
        self.outbox.borrow().front().cloned()
    }
    fn transition_posted(&self, body: &Value, posted: Posted) {
        self.outbox.borrow_mut().pop_front();
        self.note(format!("{} {posted:?}", body.member("transition").unwrap().canonical()));
    }
    fn bundles_posted(&self, results: Vec<BundleResult>, _: Value) {
        let mut outbox = self.outbox.borrow_mut();
        let Some(Outgoing::Bundles(bundles)) = outbox.front_mut() else { return };
        for r in results {
            bundles.retain(|b| !names(&r, b));
            self.log.borrow_mut().push(format!("bundle {} {:?}", r.seq, r.status));
        }
        if bundles.is_empty() {
            outbox.pop_front();
        }
    }
    fn probe_hosts(&self) -> Vec<ProbeHost> {
        vec![ProbeHost { host: "probe.example".into(), public_key: key(3).public(), position: None }]
    }
    fn probe_measured(&self, host: &str, _: u64) {
        self.note(format!("measured {host}"));
    }
    fn is_active(&self, session_id: &str) -> bool {
        session_id == SESSION
    }
    fn nonce_answered(&self, nonce: &str) -> bool {
        self.nonces.borrow().iter().any(|n| n == nonce)
    }
    fn keep_nonce(&self, nonce: &str) -> Result<(), String> {
        self.nonces.borrow_mut().push(nonce.to_owned());
        Ok(())
    }
    fn is_allowed(&self, _: IpAddr) -> bool {
        !self.deny_addresses
    }
    fn probe_started(&self, _: &str) {
        self.note("probe started");
    }
    fn order_forged(&self) {
        self.note("order forged");
    }
    fn probe_ended(&self, _: &str, outcome: Result<(), ProbeRefusal>) {
        self.note(format!("probe ended {outcome:?}"));
    }
    fn correct_clock(&self, unix_ms: i64) {
        self.note("corrected");
        self.clock.as_ref().unwrap().set(unix_ms);
    }
    fn alert(&self, code: &'static str, detail: Option<String>) {
        let mut alerts = self.alerts.borrow_mut();
        alerts.retain(|a| *a != code);
        if detail.is_some() {
            alerts.push(code);
        }
    }
    fn link_changed(&self, status: LinkStatus) {
        self.note(status.state);
    }
}

/// A coordinator of a few lines: it checks signatures and answers by a script.
pub(super) type Script = Rc<dyn Fn(&str, &Value) -> Option<Reply>>;

pub(super) struct Fixture {
    pub(super) ex: Rc<LocalExecutor<'static>>,
    pub(super) client: Rc<Client>,
    pub(super) node: Rc<FakeNode>,
    pub(super) server: TestServer,
    pub(super) clock: Rc<Clock>,
    pub(super) ca: TestCa,
}

pub(super) fn at(clock: &Clock) -> String {
    clock.now().unix().to_string()
}

pub(super) fn default_answer(path: &str, clock: &Clock) -> Option<String> {
    let time = at(clock);
    Some(match path {
        "POST /api/nodes/register" => {
            format!(
                r#"{{"policyVersion":"1","heartbeatIntervalMs":60000,"serverTime":"{time}","probeHosts":[],"lists":[]}}"#
            )
        }
        "POST /api/nodes/heartbeat" => format!(r#"{{"account":{{}},"observed":null,"serverTime":"{time}"}}"#),
        "POST /api/sessions/control" | "POST /api/probes/report" => r#"{"ack":true}"#.into(),
        _ => return None,
    })
}

/// Checks a request's signature as the contract says; the path of the request line if it holds.
pub(super) fn check(got: &Got, port: u16) -> Result<String, &'static str> {
    let field = |name: &str| got.headers.get(name).unwrap_or_default().to_owned();
    let (path, query) = got.target.split_once('?').unwrap_or((&got.target, ""));
    let digest = field("content-digest");
    if digest != super::signatures::content_digest(&got.body) {
        return Err("digest-mismatch");
    }
    let input = field("signature-input");
    let params = input.strip_prefix("echomesh=").ok_or("signature-invalid")?;
    let base = format!(
        "\"@method\": {}\n\"@authority\": c.example:{port}\n\"@path\": {path}\n\"@query\": ?{query}\n\
         \"content-digest\": {digest}\n\"@signature-params\": {params}",
        got.method
    );
    let signature = field("signature");
    let signature = signature.strip_prefix("echomesh=:").and_then(|s| s.strip_suffix(':')).unwrap_or("");
    let ok = key(1).public().verifies(base.as_bytes(), &from_base64(signature).ok_or("signature-invalid")?);
    if ok { Ok(format!("{} {path}", got.method)) } else { Err("signature-invalid") }
}

impl Fixture {
    pub(super) fn new(node: FakeNode, script: Script) -> Fixture {
        Fixture::with_certificate((2020, 2090), node, script)
    }

    pub(super) fn with_certificate(years: (i32, i32), node: FakeNode, script: Script) -> Fixture {
        let (ca, ex, clock) = (TestCa::new(), Rc::new(LocalExecutor::new()), Rc::new(Clock::new()));
        let port = Rc::new(Cell::new(0));
        let (known_port, server_clock) = (port.clone(), Rc::new(Clock::new()));
        let handler: Handler = Rc::new(move |got: Got| -> Answering {
            let reply = match check(&got, known_port.get()) {
                Err(slug) => Some(Reply::json(401, &format!(r#"{{"type":"{slug}"}}"#))),
                Ok(path) => {
                    let body = parse(&got.body).unwrap_or(Value::Null);
                    let query = got.target.split_once('?').map_or("", |(_, q)| q);
                    let path = if query.is_empty() { path } else { format!("{path}?{query}") };
                    script(&path, &body)
                        .or_else(|| default_answer(&path, &server_clock).map(|b| Reply::json(200, &b)))
                }
            };
            Box::pin(async move {
                match reply {
                    Some(reply) => reply,
                    None => std::future::pending().await,
                }
            })
        });
        let server = TestServer::start(&ex, Some(ca.server("c.example", years)), handler);
        port.set(server.port);
        let settings = Settings {
            url: server.url("C.example", "/api"),
            coordinator: key(2).public(),
            allow_plain_probes: true,
            extra_ports: vec![],
            wait_ms: 2000,
        };
        let resolver = Rc::new(Fixed(vec!["127.0.0.1".parse().unwrap()]));
        let http = Http::new(Egress::loopback(), resolver.clone(), ca.trust(), clock.clone())
            .with_limits(Limits::default());
        let fetcher = Fetcher { egress: Egress::loopback(), resolver, tls: ca.trust(), clock: clock.clone() };
        let client = Rc::new(Client::new(settings, key(1), clock.clone(), http, fetcher));
        let node = Rc::new(FakeNode { clock: Some(clock.clone()), ..node });
        Fixture { ex, client, node, server, clock, ca }
    }

    /// Runs the client until `done` holds; panics with the node's log after ten seconds.
    pub(super) fn run(&self, done: impl Fn(&FakeNode) -> bool) {
        let watching = async {
            for _ in 0..1000 {
                if done(&self.node) {
                    return;
                }
                Timer::after(Duration::from_millis(10)).await;
            }
            panic!("{:?} {:?}", self.node.log.borrow(), self.node.alerts.borrow());
        };
        block_on(self.ex.run(future::or(self.client.run(&*self.node), watching)));
    }
}

pub(super) fn transition(name: &'static str) -> Outgoing {
    Outgoing::Transition(
        wire::Transition {
            session_id: SESSION.into(),
            transition: name,
            at: Unix(0),
            reason: None,
            limits: None,
            totals: None,
        }
        .to_value(),
    )
}

pub(super) fn bundle(seq: u64) -> Value {
    object([
        ("sessionId", SESSION.into()),
        ("seq", seq.into()),
        ("windowStart", Unix(300 * seq as i64).to_string().into()),
    ])
}

/// Answers posted bundles, each by its seq.
pub(super) fn results(body: &Value, status: impl Fn(i64) -> &'static str) -> Reply {
    let each = body.member("bundles").unwrap().as_array().unwrap().iter().map(|b| {
        let mut r = b.clone();
        r.set("status", status(b.member("seq").unwrap().as_int().unwrap()));
        r
    });
    Reply::json(200, &object([("results", array(each)), ("creditsToday", 1.into())]).canonical())
}

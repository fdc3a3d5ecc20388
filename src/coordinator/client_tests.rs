use super::super::outbox::names;
use super::*;
use crate::coordinator::node::{Outgoing, Posted};
use crate::coordinator::wire::{BundleResult, HeartbeatAnswer, ProbeHost, Registered, Signal};
use crate::encoding::from_base64;
use crate::http::client::{Fixed, Limits};
use crate::http::testing::{Answering, Got, Handler, Reply, TestCa, TestServer};
use crate::json::{self, array, object, parse};
use crate::probe::plan::{ProbeRefusal, endpoint_trailer};
use crate::signed::{Kind, sign, verify};
use async_executor::LocalExecutor;
use futures_lite::future::block_on;
use std::collections::VecDeque;
use std::net::IpAddr;

const SESSION: &str = "0b0f6c3e-3d1b-4c55-9a35-2f6a3f0f9c11";

fn key(n: u8) -> Rc<NodeKey> {
    Rc::new(NodeKey::from_seed(&[n; 32]).unwrap())
}

/// A node that writes down what it is told.
#[derive(Default)]
struct FakeNode {
    log: RefCell<Vec<String>>,
    cursor: RefCell<String>,
    outbox: RefCell<VecDeque<Outgoing>>,
    nonces: RefCell<Vec<String>>,
    alerts: RefCell<Vec<&'static str>>,
    clock: Option<Rc<Clock>>,
    deny_addresses: bool,
    disk_full: Cell<bool>,
}

impl FakeNode {
    fn note(&self, line: impl Into<String>) {
        self.log.borrow_mut().push(line.into());
    }
    fn has(&self, line: &str) -> bool {
        self.log.borrow().iter().any(|l| l == line)
    }
    fn times(&self, line: &str) -> usize {
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
type Script = Rc<dyn Fn(&str, &Value) -> Option<Reply>>;

struct Fixture {
    ex: Rc<LocalExecutor<'static>>,
    client: Rc<Client>,
    node: Rc<FakeNode>,
    server: TestServer,
    clock: Rc<Clock>,
    _ca: TestCa,
}

fn at(clock: &Clock) -> String {
    clock.now().unix().to_string()
}

fn default_answer(path: &str, clock: &Clock) -> Option<String> {
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
fn check(got: &Got, port: u16) -> Result<String, &'static str> {
    let field = |name: &str| got.headers.get(name).unwrap_or_default().to_owned();
    let (path, query) = got.target.split_once('?').unwrap_or((&got.target, ""));
    let digest = field("content-digest");
    if digest != super::super::signatures::content_digest(&got.body) {
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
    fn new(node: FakeNode, script: Script) -> Fixture {
        Fixture::with_certificate((2020, 2090), node, script)
    }

    fn with_certificate(years: (i32, i32), node: FakeNode, script: Script) -> Fixture {
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
        let http = Http::new(resolver.clone(), ca.trust(), clock.clone()).with_limits(Limits::default());
        let fetcher = Fetcher { resolver, tls: ca.trust(), clock: clock.clone() };
        let client = Rc::new(Client::new(settings, key(1), clock.clone(), http, fetcher));
        let node = Rc::new(FakeNode { clock: Some(clock.clone()), ..node });
        Fixture { ex, client, node, server, clock, _ca: ca }
    }

    /// Runs the client until `done` holds; panics with the node's log after ten seconds.
    fn run(&self, done: impl Fn(&FakeNode) -> bool) {
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

fn transition(name: &'static str) -> Outgoing {
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

fn bundle(seq: u64) -> Value {
    object([
        ("sessionId", SESSION.into()),
        ("seq", seq.into()),
        ("windowStart", Unix(300 * seq as i64).to_string().into()),
    ])
}

/// Answers posted bundles, each by its seq.
fn results(body: &Value, status: impl Fn(i64) -> &'static str) -> Reply {
    let each = body.member("bundles").unwrap().as_array().unwrap().iter().map(|b| {
        let mut r = b.clone();
        r.set("status", status(b.member("seq").unwrap().as_int().unwrap()));
        r
    });
    Reply::json(200, &object([("results", array(each)), ("creditsToday", 1.into())]).canonical())
}

#[test]
fn it_registers_then_beats_polls_and_posts() {
    let polls = Rc::new(RefCell::new(Vec::new()));
    let seen = polls.clone();
    let script: Script = Rc::new(move |path, body| match path {
        p if p.starts_with("GET /api/sessions/control?") => {
            seen.borrow_mut().push(p.to_owned());
            let first = r#"{"signals":[{"cursor":"c1","type":"open","body":{}}],"cursor":"c/1"}"#;
            (seen.borrow().len() == 1).then(|| Reply::json(200, first))
        }
        "POST /api/attest/metering" => {
            Some(results(body, |seq| if seq == 1 { "duplicate" } else { "accepted" }))
        }
        _ => None,
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().extend([
        transition("accepted"),
        Outgoing::Bundles(vec![bundle(0), bundle(1)]),
        transition("settled"),
    ]);
    f.run(|n| n.has("\"settled\" Taken") && n.has("heartbeat") && polls.borrow().len() == 2);
    assert_eq!(
        *polls.borrow(),
        [
            "GET /api/sessions/control?cursor=&waitMs=2000",
            "GET /api/sessions/control?cursor=c%2F1&waitMs=2000"
        ]
    );
    let log = f.node.log.borrow();
    let place = |line: &str| log.iter().position(|l| l == line).unwrap_or_else(|| panic!("{line} {log:?}"));
    assert!(place("registered 1") < place("heartbeat"));
    assert!(place("registered 1") < place("signal open c1"));
    assert!(place("\"accepted\" Taken") < place("bundle 0 Accepted"));
    assert!(place("bundle 1 Duplicate") < place("\"settled\" Taken"));
    assert_eq!(f.client.status().state, "online");
    assert!(f.node.alerts.borrow().is_empty());
}

#[test]
fn what_is_put_into_the_outbox_later_is_posted_at_once() {
    let f = Fixture::new(FakeNode::default(), Rc::new(|_, _| None));
    f.run(|n| n.has("heartbeat"));
    let added = Cell::new(false);
    f.run(|n| {
        if !added.replace(true) {
            n.outbox.borrow_mut().push_back(transition("active"));
            f.client.outbox_changed();
        }
        n.has("\"active\" Taken")
    });
}

#[test]
fn a_clock_that_is_wrong_is_corrected_once_and_the_request_repeated() {
    let real = Rc::new(Clock::new());
    let asked = Rc::new(Cell::new(0));
    let (theirs, count) = (real.clone(), asked.clone());
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/nodes/register" && count.replace(count.get() + 1) == 0).then(|| {
            Reply::json(401, &format!(r#"{{"type":"signature-stale","serverTime":"{}"}}"#, at(&theirs)))
        })
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.clock.set(1_000_000);
    f.run(|n| n.has("registered 1"));
    assert_eq!((f.node.times("corrected"), asked.get()), (1, 2));
    assert!((f.clock.now().unix_ms - real.now().unix_ms).abs() < 2000);
}

#[test]
fn a_forgotten_node_registers_again_and_goes_on() {
    let polls = Rc::new(Cell::new(0));
    let count = polls.clone();
    let script: Script = Rc::new(move |path, _| {
        (path.starts_with("GET /api/sessions") && count.replace(count.get() + 1) == 0)
            .then(|| Reply::json(403, r#"{"type":"node-unknown"}"#))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.times("registered 1") == 2 && polls.get() == 2);
}

#[test]
fn an_unknown_cursor_starts_over_with_an_empty_one() {
    let script: Script = Rc::new(|path, _| match path {
        p if p.contains("cursor=old") => Some(Reply::json(410, r#"{"type":"cursor-unknown"}"#)),
        p if p.contains("cursor=&") => Some(Reply::json(200, r#"{"signals":[],"cursor":"new"}"#)),
        _ => None,
    });
    let node = FakeNode::default();
    *node.cursor.borrow_mut() = "old".into();
    let f = Fixture::new(node, script);
    f.run(|n| *n.cursor.borrow() == "new");
}

#[test]
fn the_cursor_is_not_acknowledged_when_its_effect_was_not_kept() {
    let polls = Rc::new(RefCell::new(Vec::new()));
    let seen = polls.clone();
    let script: Script = Rc::new(move |path, _| {
        path.starts_with("GET /api/sessions").then(|| {
            seen.borrow_mut().push(path.to_owned());
            Reply::json(200, r#"{"signals":[{"cursor":"c1","type":"close","body":{}}],"cursor":"c1"}"#)
        })
    });
    let f = Fixture::new(FakeNode { disk_full: Cell::new(true), ..FakeNode::default() }, script);
    f.run(|n| n.alerts.borrow().contains(&node::STATE_NOT_KEPT));
    assert_eq!(polls.borrow().len(), 1);
    assert_eq!(*f.node.cursor.borrow(), "");
    assert!(!f.node.has("signal close c1"));
}

#[test]
fn one_bad_bundle_does_not_take_the_others_with_it() {
    let script: Script = Rc::new(|path, body| {
        (path == "POST /api/attest/metering").then(|| {
            let bundles = body.member("bundles").unwrap().as_array().unwrap();
            let bad = bundles.iter().any(|b| b.member("seq") == Some(&Value::Int(1)));
            if bad { Reply::json(422, r#"{"type":"bundle-bad"}"#) } else { results(body, |_| "accepted") }
        })
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().push_back(Outgoing::Bundles(vec![bundle(0), bundle(1), bundle(2)]));
    f.run(|n| n.outbox.borrow().is_empty());
    assert!(f.node.has("bundle 0 Accepted") && f.node.has("bundle 2 Accepted"));
    assert!(f.node.has("bundle 1 Refused(\"bundle-bad\")"));
}

#[test]
fn a_final_refusal_of_a_transition_is_told_and_the_next_one_posted() {
    let script: Script = Rc::new(|path, body| {
        let accepted = body.member("transition") == Some(&Value::from("accepted"));
        (path == "POST /api/sessions/control" && accepted)
            .then(|| Reply::json(404, r#"{"type":"session-unknown","detail":"x"}"#))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().extend([transition("accepted"), transition("active")]);
    f.run(|n| n.has("\"active\" Taken"));
    assert!(
        f.node
            .log
            .borrow()
            .iter()
            .any(|l| l.starts_with("\"accepted\" Refused") && l.contains("session-unknown"))
    );
}

#[test]
fn a_transition_counts_as_taken_only_when_the_answer_can_be_read() {
    let tries = Rc::new(Cell::new(0));
    let count = tries.clone();
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/sessions/control" && count.replace(count.get() + 1) == 0)
            .then(|| Reply::json(200, r#"{"signals":[{]"#))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().push_back(transition("accepted"));
    f.run(|n| n.has("\"accepted\" Taken"));
    assert_eq!(tries.get(), 2);
}

#[test]
fn a_server_error_is_tried_again_until_it_passes() {
    let tries = Rc::new(Cell::new(0));
    let count = tries.clone();
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/nodes/register" && count.replace(count.get() + 1) < 2)
            .then(|| Reply::json(503, "{}").last())
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.has("registered 1"));
    assert_eq!(tries.get(), 3);
    assert!(f.node.has("backoff"));
}

#[test]
fn an_answer_that_breaks_the_contract_raises_an_alert() {
    let script: Script =
        Rc::new(|path, _| (path == "POST /api/nodes/register").then(|| Reply::json(200, "{}")));
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.alerts.borrow().contains(&node::COORDINATOR_MALFORMED));
    assert!(!f.node.has("registered 1"));
}

#[test]
fn an_alert_stands_while_one_lane_has_reason_for_it() {
    let script: Script = Rc::new(|path, _| match path {
        "POST /api/nodes/heartbeat" => Some(Reply::json(200, "{}")),
        p if p.starts_with("GET /api/sessions") => Some(Reply::json(200, r#"{"signals":[],"cursor":""}"#)),
        p if p.starts_with("GET /api/probes") => Some(Reply::json(400, r#"{"type":"odd"}"#)),
        _ => None,
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.alerts.borrow().len() == 2);
    f.node.outbox.borrow_mut().push_back(transition("active"));
    f.run(|n| n.has("\"active\" Taken"));
    let mut alerts = f.node.alerts.borrow().clone();
    alerts.sort();
    assert_eq!(alerts, [node::COORDINATOR_MALFORMED, node::COORDINATOR_REFUSES]);
}

#[test]
fn a_certificate_outside_its_time_is_a_clock_that_is_not_set() {
    let f = Fixture::with_certificate((2090, 2091), FakeNode::default(), Rc::new(|_, _| None));
    f.run(|n| n.alerts.borrow().contains(&node::CLOCK_UNSET));
    assert_eq!(f.client.status().last_contact, None);
}

#[test]
fn a_kept_connection_that_goes_stale_costs_no_backoff() {
    let beats = Rc::new(Cell::new(0));
    let count = beats.clone();
    let script: Script = Rc::new(move |path, _| {
        let first = path == "POST /api/sessions/control" && count.replace(count.get() + 1) == 1;
        // Nothing at all, and the end of the connection, on the second post.
        first.then(|| Reply::raw("").last())
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().extend([transition("accepted"), transition("active")]);
    f.run(|n| n.has("\"active\" Taken"));
    assert_eq!(beats.get(), 3);
    assert!(!f.node.has("backoff"));
}

#[test]
fn a_refused_registration_is_not_repeated_until_asked_for() {
    let tries = Rc::new(Cell::new(0));
    let count = tries.clone();
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/nodes/register" && count.replace(count.get() + 1) == 0)
            .then(|| Reply::json(403, r#"{"type":"banned"}"#))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.alerts.borrow().contains(&node::REGISTER_REFUSED));
    assert_eq!((tries.get(), f.client.status().state), (1, "refused"));
    f.client.register_again();
    f.run(|n| n.has("registered 1"));
    assert!(f.node.alerts.borrow().is_empty());
}

#[test]
fn a_flush_empties_the_outbox_within_its_deadline() {
    let stuck = Rc::new(Cell::new(false));
    let hang = stuck.clone();
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/sessions/control" && hang.get()).then(|| Reply::json(503, "{}"))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.has("heartbeat"));
    f.node.outbox.borrow_mut().extend([transition("closing"), transition("settled")]);
    let flush = |ms| block_on(f.ex.run(f.client.flush(&*f.node, Duration::from_millis(ms))));
    assert!(flush(5000));
    assert!(f.node.has("\"settled\" Taken"));
    stuck.set(true);
    f.node.outbox.borrow_mut().push_back(transition("closing"));
    assert!(!flush(300));
}

/// A coordinator that hands out `requests` one after the other, and an endpoint that serves them; all reports are
/// collected.
fn probing(requests: Vec<Value>, node: FakeNode, spoil: bool) -> (Fixture, Rc<RefCell<Vec<Value>>>) {
    let reports: Rc<RefCell<Vec<Value>>> = Rc::default();
    let (taken, queue) = (reports.clone(), RefCell::new(VecDeque::from(requests)));
    let script: Script = Rc::new(move |path, body| match path {
        p if p.starts_with("GET /api/probes/request") => {
            queue.borrow_mut().pop_front().map(|r| Reply::json(200, &r.canonical()))
        }
        "POST /api/probes/report" => {
            taken.borrow_mut().push(body.clone());
            let follow_up = queue.borrow_mut().pop_front();
            let answer = object([("ack", true.into()), ("probe", follow_up.into())]);
            Some(Reply::json(200, &answer.canonical()))
        }
        _ => None,
    });
    let mut f = Fixture::new(node, script);
    let content: Handler = Rc::new(move |got: Got| -> Answering {
        Box::pin(async move {
            let nonce = got.target.split("nonce=").nth(1).unwrap().split('&').next().unwrap().to_owned();
            let body = vec![7; 1 << 20];
            let hash = blake3::hash(if spoil { b"other" } else { &body });
            let trailer = endpoint_trailer(&nonce, 1 << 20, &hash, Unix(0), &key(3)).canonical();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() + trailer.len());
            Reply::raw([head.as_bytes(), &body, trailer.as_bytes()].concat())
        })
    });
    let endpoint = TestServer::start(&f.ex, Some(f._ca.server("probe.example", (2020, 2090))), content);
    let client = Rc::get_mut(&mut f.client).unwrap();
    client.settings.extra_ports = vec![endpoint.port, 443];
    *f.node.cursor.borrow_mut() = endpoint.port.to_string();
    (f, reports)
}

fn challenge(port: &str, nonce: &str) -> Value {
    let mut r = object([
        ("sessionId", SESSION.into()),
        ("nodeId", key(1).node_id().into()),
        ("issuedAt", at(&Clock::new()).into()),
        ("endpoint", format!("https://probe.example:{port}/p").into()),
        ("size", (1 << 20).into()),
        ("nonce", nonce.into()),
        ("ttl", 30.into()),
    ]);
    sign(Kind::ProbeRequest, &mut r, &key(2));
    r
}

#[test]
fn a_probe_is_fetched_reported_and_followed_up() {
    let requests: Rc<RefCell<Vec<Value>>> = Rc::default();
    let (f, reports) = probing(vec![], FakeNode::default(), false);
    let port = f.node.cursor.borrow().clone();
    requests.borrow_mut().extend([challenge(&port, "n1"), challenge(&port, "n1")]);
    for request in requests.take() {
        let report = block_on(f.ex.run(f.client.answer(&*f.node, &request))).unwrap();
        assert!(verify(Kind::ProbeReport, &report, &key(1).public()));
        reports.borrow_mut().push(report);
    }
    let reports = reports.borrow();
    assert_eq!(reports[0].member("bytes"), Some(&Value::Int(1 << 20)), "{}", reports[0].canonical());
    assert_eq!(reports[1].member("refused"), Some(&Value::from("nonce-reused")));
    assert!(f.node.has("probe started") && f.node.has("probe ended Ok(())"));
}

#[test]
fn a_forged_probe_gets_no_answer_but_an_alert() {
    let mut forged = challenge("443", "n1");
    sign(Kind::ProbeRequest, &mut forged, &key(9));
    let (f, reports) = probing(vec![forged], FakeNode::default(), false);
    f.run(|n| n.alerts.borrow().contains(&node::PROBE_FORGED));
    assert!(reports.borrow().is_empty());
    assert!(f.node.nonces.borrow().is_empty());
}

#[test]
fn at_most_three_follow_ups_are_taken_in_a_row() {
    let requests = (0..6).map(|n| challenge("1", &format!("n{n}"))).collect();
    let (f, reports) = probing(requests, FakeNode::default(), false);
    f.run(|_| reports.borrow().len() == 5);
    let nonces: Vec<_> = reports.borrow().iter().map(|r| r.member("nonce").unwrap().canonical()).collect();
    assert_eq!(nonces.join(" "), r#""n0" "n1" "n2" "n3" "n5""#, "n4 came as the fourth follow-up");
    assert_eq!(reports.borrow()[0].member("refused"), Some(&Value::from("endpoint-denied")));
}

#[test]
fn content_that_is_not_the_endpoints_and_addresses_that_are_not_public_are_refused() {
    for (node, spoil, refused) in [
        (FakeNode::default(), true, "endpoint-untrusted"),
        (FakeNode { deny_addresses: true, ..FakeNode::default() }, false, "endpoint-denied"),
    ] {
        let (f, _) = probing(vec![], node, spoil);
        let request = challenge(&f.node.cursor.borrow(), "n1");
        let report = block_on(f.ex.run(f.client.answer(&*f.node, &request))).unwrap();
        assert_eq!(report.member("refused"), Some(&Value::from(refused)));
    }
    let (f, _) = probing(vec![], FakeNode::default(), false);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut f = f;
    Rc::get_mut(&mut f.client).unwrap().settings.extra_ports = vec![closed];
    let request = challenge(&closed.to_string(), "n1");
    let report = block_on(f.ex.run(f.client.answer(&*f.node, &request))).unwrap();
    assert_eq!(report.member("refused"), Some(&Value::from("fetch-failed")));
    assert!(json::parse(report.canonical().as_bytes()).is_ok());
    assert!(f.server.connections.get() == 0);
}

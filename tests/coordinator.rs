//! The coordinator's client against the lab: a coordinator and an endpoint written from the contract alone, with other
//! implementations of every primitive. Whatever the lab records as a breach fails the test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]
#![cfg(feature = "lab")]

use async_executor::LocalExecutor;
use async_io::Timer;
use echomesh::clock::Clock;
use echomesh::coordinator::client::{Client, Settings};
use echomesh::coordinator::link::LinkStatus;
use echomesh::coordinator::node::{Node, Outgoing, Posted};
use echomesh::coordinator::orders::{
    Judgement, OpenContext, OrderContext, fingerprint, judge_close, judge_open,
};
use echomesh::coordinator::wire::{BundleResult, HeartbeatAnswer, ProbeHost, Registered, Signal, Transition};
use echomesh::http::client::{Client as Http, Fixed, Request};
use echomesh::http::url::Url;
use echomesh::json::{self, Value, array, object};
use echomesh::meter::SessionMeter;
use echomesh::probe::fetch::Fetcher;
use echomesh::probe::plan::ProbeRefusal;
use echomesh::signed::{NodeKey, PublicKey};
use echomesh::tls::client::{CertificateTime, ClientTls, Roots};
use futures_lite::future;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// A node that obeys: it opens, activates and closes sessions and says so.
struct MiniNode {
    key: Rc<NodeKey>,
    clock: Rc<Clock>,
    coordinator: PublicKey,
    endpoint_port: u16,
    cursor: RefCell<String>,
    known: RefCell<HashMap<String, String>>,
    active: RefCell<HashMap<String, SessionMeter>>,
    outbox: RefCell<VecDeque<Outgoing>>,
    hosts: RefCell<Vec<ProbeHost>>,
    nonces: RefCell<Vec<String>>,
    log: RefCell<Vec<String>>,
    paused: Cell<bool>,
    client: OnceCell<Rc<Client>>,
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
    fn probe_ended(&self, _: &str, outcome: Result<(), ProbeRefusal>) {
        self.note(format!("probe {outcome:?}"));
    }
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

/// A lab in a process of its own, stopped when dropped.
struct Lab {
    child: Child,
    dir: PathBuf,
    facts: Value,
    control: Http,
}

impl Lab {
    #[allow(clippy::disallowed_methods, reason = "the lab is another process")]
    fn up(name: &str) -> Lab {
        let dir = std::env::temp_dir().join(format!("echomesh-coordinator-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_echomesh-lab"));
        command.arg("up").arg("--dir").arg(&dir).args(["--heartbeat", "1000"]);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let file = dir.join("lab.json");
        let facts = future::block_on(async {
            for _ in 0..500 {
                if let Some(facts) = std::fs::read(&file).ok().and_then(|b| json::parse(&b).ok()) {
                    return facts;
                }
                Timer::after(Duration::from_millis(20)).await;
            }
            panic!("the lab did not start");
        });
        let control = client(&facts);
        Lab { child, dir, facts, control }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let base = text(&self.facts, &["control", "url"]);
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q.to_owned())));
        let url = Url::parse(&base).unwrap().below(path, query);
        let bytes = body.map(|b| b.canonical().into_bytes());
        let request = Request {
            body: bytes.as_deref(),
            patience: Duration::from_secs(30),
            max_body: 16 << 20,
            ..Request::new(method, &url)
        };
        let response = self.control.send(&request).await.unwrap();
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, 200, "{path}: {text}");
        json::parse(text.as_bytes()).unwrap()
    }

    async fn post(&self, path: &str, body: &str) -> Value {
        let mut body = json::parse(body.as_bytes()).unwrap();
        if matches!(path, "/open" | "/close" | "/probe") && body.member("waitMs").is_none() {
            body.set("waitMs", 20_000);
        }
        self.call("POST", path, Some(body)).await
    }

    async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).await
    }

    /// Nothing that the lab calls a breach.
    async fn is_content(&self) {
        let violations = self.get("/violations").await;
        assert_eq!(violations, Value::Array(vec![]), "{}", violations.canonical());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn text(value: &Value, path: &[&str]) -> String {
    let found = path.iter().try_fold(value, |v, name| v.member(name));
    found.and_then(Value::as_str).unwrap_or_else(|| panic!("{path:?} in {}", value.canonical())).to_owned()
}

fn tls(facts: &Value) -> Rc<ClientTls> {
    Rc::new(ClientTls::new(Roots::File(text(facts, &["caFile"]).into()), CertificateTime::new(0)))
}

fn client(facts: &Value) -> Http {
    let resolver = Rc::new(Fixed(vec!["127.0.0.1".parse().unwrap()]));
    Http::new(resolver, tls(facts), Rc::new(Clock::new()))
}

fn node(facts: &Value) -> (Rc<MiniNode>, Rc<Client>) {
    let key = Rc::new(NodeKey::from_seed(&[42; 32]).unwrap());
    let clock = Rc::new(Clock::new());
    let coordinator = PublicKey::parse(&text(facts, &["coordinatorPublicKey"])).unwrap();
    let port = facts.member("endpoint").and_then(|e| e.member("port")).and_then(Value::as_int).unwrap();
    let endpoint_port = u16::try_from(port).unwrap();
    let origin = facts.member("origin").and_then(|e| e.member("port")).and_then(Value::as_int).unwrap();
    let settings = Settings {
        url: Url::parse(&text(facts, &["coordinator", "url"])).unwrap(),
        coordinator,
        allow_plain_probes: false,
        extra_ports: vec![endpoint_port, u16::try_from(origin).unwrap()],
        wait_ms: 2000,
    };
    let resolver = Rc::new(Fixed(vec!["127.0.0.1".parse().unwrap()]));
    let fetcher = Fetcher { resolver, tls: tls(facts), clock: clock.clone() };
    let http = client(facts);
    let client = Rc::new(Client::new(settings, key.clone(), clock.clone(), http, fetcher));
    let node = Rc::new(MiniNode {
        key,
        clock,
        coordinator,
        endpoint_port: u16::try_from(origin).unwrap(),
        cursor: RefCell::default(),
        known: RefCell::default(),
        active: RefCell::default(),
        outbox: RefCell::default(),
        hosts: RefCell::default(),
        nonces: RefCell::default(),
        log: RefCell::default(),
        paused: Cell::new(false),
        client: OnceCell::new(),
    });
    let _ = node.client.set(client.clone());
    (node, client)
}

/// Runs a story beside the client; the node's log is shown if it fails or takes a minute.
fn play<F: Future<Output = ()>>(name: &str, story: impl FnOnce(Rc<Lab>, Rc<MiniNode>) -> F) {
    let lab = Rc::new(Lab::up(name));
    let (node, client) = node(&lab.facts);
    struct Show(Rc<MiniNode>);
    impl Drop for Show {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{:#?}", self.0.log.borrow());
            }
        }
    }
    let _show = Show(node.clone());
    let ex = LocalExecutor::new();
    let limit = async {
        Timer::after(Duration::from_secs(60)).await;
        panic!("{name} takes too long");
    };
    let story = story(lab, node.clone());
    future::block_on(ex.run(future::or(
        story,
        future::or(limit, async {
            client.run(&*node).await;
        }),
    )));
}

async fn until(node: &MiniNode, line: &str, times: usize) {
    while node.log.borrow().iter().filter(|l| l.contains(line)).count() < times {
        Timer::after(Duration::from_millis(10)).await;
    }
}

fn session(opened: &Value) -> String {
    text(opened, &["sessionId"])
}

#[test]
fn a_session_is_opened_probed_closed_and_settled_without_a_breach() {
    play("session", |lab, node| async move {
        until(&node, "heartbeat", 1).await;
        let opened = lab.post("/open", "{}").await;
        assert_eq!(text(&opened, &["state"]), "active");
        let id = session(&opened);
        let probed = lab.post("/probe", r#"{"size":4194304,"followUps":2}"#).await;
        assert!(probed.canonical().contains("passed"), "{}", probed.canonical());
        until(&node, "probe Ok", 3).await;
        let closed = lab.post("/close", &format!(r#"{{"sessionId":"{id}"}}"#)).await;
        assert_eq!(text(&closed, &["state"]), "settled");
        until(&node, "heartbeat", 3).await;
        let verdict = lab.get(&format!("/verdict?sessionId={id}")).await;
        assert_eq!(verdict.member("ok"), Some(&Value::Bool(true)), "{}", verdict.canonical());
        lab.is_content().await;
    });
}

#[test]
fn opens_are_refused_for_the_first_reason_that_applies() {
    play("refusals", |lab, node| async move {
        until(&node, "registered", 1).await;
        for (ask, answer) in [
            (r#"{"badSignature":true}"#, "bad-signature"),
            (
                r#"{"overrides":{"nodeId":"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}"#,
                "wrong-node",
            ),
            (r#"{"overrides":{"issuedAt":"2020-01-01T00:00:00Z"}}"#, "stale"),
            (r#"{"overrides":{"tokenHash":"b3:00"}}"#, "malformed"),
            (r#"{"overrides":{"policyProfile":null}}"#, "malformed"),
            (r#"{"durationS":-5}"#, "malformed"),
            (r#"{"notBeforeS":3600}"#, "not-yet-valid"),
            (r#"{"notBeforeS":-3600,"durationS":60}"#, "expired"),
            (r#"{"overrides":{"regions":["XX"]}}"#, "region-denied"),
            (r#"{"overrides":{"category":"scraping"}}"#, "category-denied"),
            (r#"{"policyProfile":{"allowedPorts":[22]}}"#, "port-denied"),
            (r#"{"policyProfile":{"transports":["tunnel"]}}"#, "transport-unsupported"),
        ] {
            let opened = lab.post("/open", ask).await;
            assert_eq!(text(&opened, &["answer"]), answer, "{ask}");
        }
        node.paused.set(true);
        assert_eq!(text(&lab.post("/open", "{}").await, &["answer"]), "paused");
        node.paused.set(false);
        let opened = lab.post("/open", "{}").await;
        let same = object([("type", "open".into()), ("body", opened.member("open").cloned().into())]);
        lab.post("/signal", &same.canonical()).await;
        until(&node, "ignored", 1).await;
        lab.is_content().await;
    });
}

#[test]
fn faults_of_the_coordinator_are_weathered_without_a_breach() {
    play("faults", |lab, node| async move {
        until(&node, "heartbeat", 1).await;
        let order = async |faults: &[&str]| {
            for fault in faults {
                lab.post("/fault", fault).await;
            }
        };
        // Few at a time: every failure in a row doubles the pause that follows.
        order(&[
            r#"{"kind":"drop","path":"/sessions/control"}"#,
            r#"{"kind":"lose-answer","path":"/sessions/control"}"#,
            r#"{"kind":"garbage","path":"/sessions/control"}"#,
            r#"{"kind":"status","status":302,"location":"/elsewhere","path":"/nodes/heartbeat"}"#,
            r#"{"kind":"oversize","path":"/nodes/heartbeat"}"#,
        ])
        .await;
        let id = session(&lab.post("/open", "{}").await);
        order(&[r#"{"kind":"forget-cursor"}"#, r#"{"kind":"forget-node"}"#]).await;
        until(&node, "registered", 2).await;
        until(&node, "ignored", 1).await;
        order(&[
            r#"{"kind":"status","status":429,"retryAfter":2,"path":"/sessions/control"}"#,
            r#"{"kind":"status","status":503,"retryAfter":1,"path":"/attest/metering"}"#,
            r#"{"kind":"lose-answer","path":"/attest/metering"}"#,
            r#"{"kind":"delay","ms":700,"path":"/attest/metering"}"#,
        ])
        .await;
        let closed = lab.post("/close", &format!(r#"{{"sessionId":"{id}"}}"#)).await;
        assert_eq!(text(&closed, &["state"]), "settled");
        until(&node, "heartbeat", 3).await;
        assert!(node.log.borrow().iter().any(|l| l.contains("alert coordinator-malformed")));
        lab.is_content().await;
    });
}

#[test]
fn a_coordinator_whose_clock_is_years_away_is_followed() {
    play("clock", |lab, node| async move {
        until(&node, "heartbeat", 1).await;
        let years = 400_i64 * 86_400_000;
        lab.post("/fault", &format!(r#"{{"kind":"clock","offsetMs":{years}}}"#)).await;
        until(&node, "corrected", 1).await;
        until(&node, "heartbeat", 2).await;
        // The lab measures the pause between heartbeats by the clock that has just jumped.
        lab.post("/violations", "{}").await;
        let opened = lab.post("/open", "{}").await;
        assert_eq!(text(&opened, &["state"]), "active");
        let skew = node.clock.offset_ms() - years;
        assert!(skew.abs() < 3000, "{skew}");
        lab.is_content().await;
    });
}

#[test]
fn refused_and_repeated_bundles_settle_all_the_same() {
    play("bundles", |lab, node| async move {
        until(&node, "registered", 1).await;
        for (fault, seen) in [("refuse-bundles", "Refused"), ("duplicate", "Duplicate")] {
            let id = session(&lab.post("/open", "{}").await);
            lab.post("/fault", &format!(r#"{{"kind":"{fault}"}}"#)).await;
            let closed = lab.post("/close", &format!(r#"{{"sessionId":"{id}"}}"#)).await;
            assert_eq!(text(&closed, &["state"]), "settled");
            until(&node, seen, 1).await;
        }
        lab.is_content().await;
    });
}

#[test]
fn probes_that_must_not_pass_are_refused_by_name() {
    play("probes", |lab, node| async move {
        until(&node, "registered", 1).await;
        let id = session(&lab.post("/open", "{}").await);
        for (ask, refused) in [
            (r#"{"endpoint":"https://origin.lab.test/probe"}"#, "endpoint-denied"),
            (r#"{"ttl":301}"#, "expired"),
            (r#"{"size":1048575}"#, "size-denied"),
            (r#"{"overrides":{"issuedAt":"2020-01-01T00:00:00Z"}}"#, "stale"),
            (r#"{"sessionId":"00000000-0000-4000-8000-000000000000"}"#, "session-unknown"),
        ] {
            let probed = lab.post("/probe", ask).await;
            assert!(
                probed.canonical().contains(&format!(r#""refused":"{refused}""#)),
                "{}",
                probed.canonical()
            );
        }
        for (fault, refused) in [
            ("probe-signature", "endpoint-untrusted"),
            ("probe-hash", "endpoint-untrusted"),
            ("probe-nonce", "endpoint-untrusted"),
            ("probe-trailer", "fetch-failed"),
            ("probe-short", "fetch-failed"),
            ("probe-status", "fetch-failed"),
        ] {
            lab.post("/fault", &format!(r#"{{"kind":"{fault}"}}"#)).await;
            let probed = lab.post("/probe", &format!(r#"{{"sessionId":"{id}"}}"#)).await;
            let text = probed.canonical();
            assert!(text.contains(&format!(r#""refused":"{refused}""#)), "{fault}: {text}");
        }
        lab.post("/probe", r#"{"badSignature":true,"waitMs":1}"#).await;
        until(&node, "alert probe-forged", 1).await;
        lab.is_content().await;
    });
}

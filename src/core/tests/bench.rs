//! A node on the bench, and a coordinator and buyers that do what a test says.
use super::services::FakeServices;
use crate::clock::Clock;
use crate::config::{self, Config, Face, Platform};
use crate::coordinator::node::{Node as _, Outgoing, Posted};
use crate::coordinator::wire::{BundleResult, BundleStatus, Signal};
use crate::core::flash::{self, Flash};
use crate::core::ledger::{AccessLog, LocalClock};
use crate::core::node::{Node, Parts};
use crate::core::services::Identity;
use crate::encoding::b3;
use crate::json::{Value, object, parse};
use crate::meter::{Journal, LOG_CAPACITY, LogStore, Scratch};
use crate::policy::refusal::Refusal;
use crate::policy::schedule::LocalTime;
use crate::session::{Credentials, Denied, Direction, Ending, Flow, Gate, Target};
use crate::signed::{Kind, NodeKey, sign};
use crate::time::{Now, Unix};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// 2026-03-02T04:00:00Z, a Monday, at noon of the bench's local time (UTC+8). A multiple of 300.
pub const START: i64 = 1_772_424_000;
/// A session.
pub const ID: &str = "00000000-0000-4000-8000-000000000000";
/// Every session's.
pub const TOKEN: &[u8] = b"0123456789abcdefghij";

/// Where every buyer connects from.
pub const BUYER: IpAddr = IpAddr::V4(Ipv4Addr::new(81, 2, 69, 142));

/// The id of the n-th session.
pub fn id(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

pub fn coordinator() -> NodeKey {
    NodeKey::from_seed(&[1; 32]).unwrap()
}

/// A profile that allows what a buyer usually gets; `json` members replace its own.
pub fn profile(json: &str) -> Value {
    let text = br#"{"name":"p","allowDomains":[],"blockDomains":[],"allowedPorts":[443],"alpn":["h2"],
        "transports":["relay"],"ech":"outer"}"#;
    let mut profile = parse(text).unwrap();
    for (name, value) in parse(json.as_bytes()).unwrap().as_object().unwrap() {
        profile.set(name, value.clone());
    }
    profile
}

/// An order to open a session for an hour, not signed yet.
pub fn open_order(id: &str, now: i64) -> Value {
    object([
        ("sessionId", id.into()),
        ("nodeId", NodeKey::from_seed(&[2; 32]).unwrap().node_id().into()),
        ("issuedAt", Unix(now).to_string().into()),
        ("notBefore", Unix(now).to_string().into()),
        ("expiresAt", Unix(now + 3600).to_string().into()),
        ("tokenHash", b3(&blake3::hash(TOKEN)).into()),
        ("buyer", "acme".into()),
        ("category", "qa".into()),
        ("regions", crate::json::array(["PH-NCR"])),
        ("policyProfile", profile("{}")),
        ("limits", object::<&str>([])),
    ])
}

/// All of it.
pub struct Bench {
    pub dir: Scratch,
    pub node: Rc<Node>,
    pub services: Rc<FakeServices>,
    pub clock: Rc<Clock>,
    pub config: String,
    /// What the coordinator has taken: bodies of transitions, and bundles.
    pub transitions: Vec<Value>,
    pub bundles: Vec<Value>,
    reading: Now,
    cursor: u32,
    local: LocalClock,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with("")
    }

    /// With more members of the configuration, as lines of YAML.
    pub fn with(config: &str) -> Bench {
        Bench::at(START, |_| LocalTime { offset_s: 8 * 3600 }, config)
    }

    /// At an instant, in a time zone.
    pub fn at(now: i64, local: LocalClock, config: &str) -> Bench {
        let dir = Scratch::new();
        let reading = Now { mono_us: 5_000_000, unix_ms: now * 1000 };
        let (node, services, clock) = start(&dir, reading, local, config);
        let config = config.to_owned();
        let (transitions, bundles) = (vec![], vec![]);
        Bench { dir, node, services, clock, config, transitions, bundles, reading, cursor: 0, local }
    }

    /// The process dies, and the node is started again from its journal.
    pub fn crash(self) -> Bench {
        let Bench { dir, node, config, transitions, bundles, reading, cursor, local, .. } = self;
        assert_eq!(Rc::strong_count(&node), 1, "a flow or a task has outlived its process");
        drop(node);
        let (node, services, clock) = start(&dir, reading, local, &config);
        Bench { dir, node, services, clock, config, transitions, bundles, reading, cursor, local }
    }

    /// Power is lost: what was in memory is gone.
    pub fn lose_power(self) -> Bench {
        std::fs::remove_file(self.dir.0.join("journal")).unwrap();
        self.crash()
    }

    /// [`Bench::crash`], and the next process finds this journal in memory.
    pub fn crash_from(self, journal: &std::path::Path) -> Bench {
        std::fs::copy(journal, self.dir.0.join("journal")).unwrap();
        self.crash()
    }

    /// [`Bench::crash`] for a state that a test put in place by hand: all of it is written first.
    pub fn crash_with_snapshot(self) -> Bench {
        let snapshot = self.node.durable.borrow().snapshot();
        self.node.journal.borrow_mut().rewrite(&snapshot).unwrap();
        self.crash()
    }

    pub fn now(&self) -> i64 {
        self.clock.now().unix().0
    }

    /// What the system's clock shows.
    pub fn system(&self) -> i64 {
        self.reading.unix().0
    }

    /// Time passes, and the node does what is due, each time that it asked to be woken.
    pub fn pass(&mut self, seconds: i64) {
        let until = self.reading.mono_us + u64::try_from(seconds).unwrap() * 1_000_000;
        loop {
            let wake = self.node.tick().map_or(u64::MAX, |d| u64::try_from(d.as_micros()).unwrap());
            let step = wake.clamp(1000, 3_600_000_000).min(until - self.reading.mono_us);
            self.reading = self.reading.after_ms(step / 1000);
            self.clock.give(self.reading);
            if self.reading.mono_us >= until {
                break;
            }
        }
        self.tick();
    }

    /// Milliseconds pass, and nothing is due.
    pub fn pass_ms(&mut self, ms: u64) {
        self.reading = self.reading.after_ms(ms);
        self.clock.give(self.reading);
    }

    /// The wall clock is set, forward or back, without any time passing.
    pub fn jump(&mut self, seconds: i64) {
        self.reading.unix_ms += seconds * 1000;
        self.clock.give(self.reading);
    }

    /// The bell has rung: twice, for what one turn leaves to the next.
    pub fn tick(&self) {
        self.node.tick();
        self.node.tick();
    }

    /// Another configuration comes into force.
    pub fn configure(&mut self, config: &str) {
        config.clone_into(&mut self.config);
        self.node.apply_config(parse_config(config)).unwrap();
        self.tick();
    }

    /// A signal with a signed body.
    pub fn signal(&mut self, kind: &str, mut body: Value) -> Result<(), String> {
        let signature = match kind {
            "open" => Kind::SessionOpen,
            "close" => Kind::SessionClose,
            _ => Kind::Policy,
        };
        sign(signature, &mut body, &coordinator());
        self.raw_signals(vec![(kind, body)])
    }

    /// Signals as they are, in one answer of the coordinator.
    pub fn raw_signals(&mut self, signals: Vec<(&str, Value)>) -> Result<(), String> {
        self.cursor += 1;
        let cursor = format!("c{}", self.cursor);
        let signals: Vec<Signal> = signals
            .into_iter()
            .map(|(kind, body)| Signal { cursor: cursor.clone(), kind: kind.to_owned(), body })
            .collect();
        let applied = self.node.apply_signals(&signals, &cursor);
        self.tick();
        applied
    }

    /// Opens a session for an hour; members of `json` replace those of the order.
    pub fn open(&mut self, id: &str, json: &str) {
        let mut order = open_order(id, self.now());
        for (name, value) in parse(json.as_bytes()).unwrap().as_object().unwrap() {
            order.set(name, value.clone());
        }
        self.signal("open", order).unwrap();
    }

    /// A bench with one active session.
    pub fn active(config: &str, json: &str) -> Bench {
        let mut bench = Bench::with(config);
        bench.open(ID, json);
        assert_eq!(bench.queued(ID), ["accepted", "active"]);
        bench
    }

    pub fn close(&mut self, id: &str, reason: &str) {
        self.try_close(id, reason).unwrap();
    }

    pub fn try_close(&mut self, id: &str, reason: &str) -> Result<(), String> {
        let body = object([
            ("sessionId", id.into()),
            ("nodeId", self.node.key.node_id().into()),
            ("issuedAt", Unix(self.now()).to_string().into()),
            ("reason", reason.into()),
        ]);
        self.signal("close", body)
    }

    /// A policy for one session or, with `None`, for all, issued `ago` seconds ago.
    pub fn policy(&mut self, id: Option<&str>, profile: Value, limits: &str, ago: i64) {
        let body = object([
            ("sessionId", id.into()),
            ("nodeId", self.node.key.node_id().into()),
            ("issuedAt", Unix(self.now() - ago).to_string().into()),
            ("policyProfile", profile),
            ("limits", parse(limits.as_bytes()).unwrap()),
        ]);
        self.signal("policy", body).unwrap();
    }

    /// A CONNECT of a buyer of the session, from [`BUYER`].
    pub fn connect(&self, id: &str, host: &str) -> Result<Flow, Denied> {
        self.connect_as(id, TOKEN, host, 443)
    }

    pub fn connect_as(&self, id: &str, token: &[u8], host: &str, port: u16) -> Result<Flow, Denied> {
        let credentials = Credentials { session_id: id.to_owned(), token: token.to_vec() };
        let target = Target { host: host.to_owned(), port, literal: None };
        self.node.admit(Some(BUYER), Some(&credentials), Ok(&target))
    }

    /// Why a CONNECT is refused.
    pub fn refusal(&self, id: &str, host: &str) -> Option<Refusal> {
        self.connect(id, host).err().map(|d| d.refusal)
    }

    /// A tunnel whose hello has passed.
    pub fn tunnel(&self, id: &str, host: &str) -> Flow {
        let flow = self.connect(id, host).unwrap_or_else(|d| panic!("{host}: {:?}", d.refusal));
        flow.connected(20_000);
        flow.passed_hello();
        // The first flow rings, and the quotas' counts are written ahead.
        self.node.tick();
        flow
    }

    /// Slugs of the session's transitions that wait to be posted, `closing` with its reason.
    pub fn queued(&self, id: &str) -> Vec<String> {
        let durable = self.node.durable.borrow();
        names(durable.transitions.iter(), id)
    }

    /// The same of those the coordinator has taken.
    pub fn posted(&self, id: &str) -> Vec<String> {
        names(self.transitions.iter(), id)
    }

    /// The coordinator takes all that waits.
    pub fn take_all(&mut self) {
        while self.take_one() {}
        self.tick();
    }

    /// The coordinator takes the first of what waits; false if there is nothing.
    pub fn take_one(&mut self) -> bool {
        match self.node.next_outgoing() {
            None => return false,
            Some(Outgoing::Transition(body)) => {
                self.node.transition_posted(&body, Posted::Taken);
                self.transitions.push(body);
            }
            Some(Outgoing::Bundles(bundles)) => {
                self.answer(&bundles, &BundleStatus::Accepted);
                self.bundles.extend(bundles);
            }
        }
        true
    }

    /// One answer for all bundles.
    pub fn answer(&self, bundles: &[Value], status: &BundleStatus) {
        let results = bundles.iter().map(|b| BundleResult {
            session_id: text(b, "sessionId").to_owned(),
            window_start: Unix::parse(text(b, "windowStart")).unwrap(),
            seq: b.member("seq").unwrap().as_int().unwrap().unsigned_abs(),
            status: status.clone(),
        });
        self.node.bundles_posted(results.collect(), 3.into());
    }

    pub fn status(&self) -> Value {
        self.node.status_value()
    }

    pub fn state(&self) -> String {
        text(&self.status(), "state").to_owned()
    }

    pub fn has_alert(&self, code: &str) -> bool {
        self.node.alerts.borrow().has(code)
    }
}

fn start(
    dir: &Scratch,
    reading: Now,
    local: LocalClock,
    config: &str,
) -> (Rc<Node>, Rc<FakeServices>, Rc<Clock>) {
    let clock = Rc::new(Clock::given(reading));
    let (journal, in_memory, damage) = Journal::open(&dir.0.join("journal")).unwrap();
    assert_eq!(damage, None);
    let (flash, on_flash, damage) = Journal::open(&dir.0.join("flash")).unwrap();
    assert_eq!(damage, None);
    let flash = Flash::new(flash, &on_flash);
    let (records, power_lost) = flash::later(in_memory, on_flash);
    let open = |name| LogStore::open(&dir.0.join("log"), name, LOG_CAPACITY).unwrap();
    let parts = Parts {
        clock: clock.clone(),
        lists: crate::core::list_files::OwnLists::load(&parse_config(config)).unwrap(),
        local,
        config: parse_config(config),
        key: Rc::new(NodeKey::from_seed(&[2; 32]).unwrap()),
        identity: Identity { spki: format!("sha256//{}=", "A".repeat(43)), ..Identity::default() },
        journal: (journal, records),
        flash: Some(flash),
        power_lost,
        log: AccessLog { store: open("access"), bundles: open("bundles"), key: [9; 32] },
    };
    crate::log::set_level(crate::config::Level::Error);
    let node = Node::new(parts).unwrap();
    let services = Rc::new(FakeServices::default());
    node.serve(services.clone());
    node.tick();
    (node, services, clock)
}

pub fn parse_config(more: &str) -> Config {
    let key = crate::encoding::base64(coordinator().public().as_bytes());
    let mut text =
        format!("version: 1\ncoordinator: {{ url: \"https://c.example\", publicKey: \"{key}\" }}\n");
    if !more.contains("regionAllow") {
        text.push_str("node: { regionAllow: [PH-NCR] }\n");
    }
    if !more.contains("network:") {
        text.push_str("network: { maxMbps: 1000, maxGBPerDay: 1000 }\n");
    }
    text.push_str(more);
    config::parse(text.as_bytes(), Face::Yaml, Platform::Other)
        .unwrap_or_else(|e| panic!("{}", e.render("-")))
}

/// Bytes pass in a flow, if it is granted any: as many as it is granted, at most `bytes`.
pub fn carry(flow: &Flow, direction: Direction, bytes: usize) -> usize {
    match flow.poll_grant(&mut Context::from_waker(Waker::noop()), bytes) {
        Poll::Ready(granted) if granted > 0 => {
            flow.count(direction, granted as u64);
            granted
        }
        _ => 0,
    }
}

/// Whether the node wants the flow reset.
pub fn is_reset(flow: &Flow) -> bool {
    flow.poll_ending(&mut Context::from_waker(Waker::noop())) == Poll::Ready(Ending::Reset)
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.member(name).and_then(Value::as_str).unwrap_or_default()
}

pub fn int(value: &Value, name: &str) -> i64 {
    value.member(name).and_then(Value::as_int).unwrap_or_else(|| panic!("{name} in {}", value.canonical()))
}

fn names<'a>(bodies: impl Iterator<Item = &'a Value>, id: &str) -> Vec<String> {
    let name = |b: &Value| match text(b, "reason") {
        "" => text(b, "transition").to_owned(),
        reason => format!("{} {reason}", text(b, "transition")),
    };
    bodies.filter(|b| text(b, "sessionId") == id).map(name).collect()
}

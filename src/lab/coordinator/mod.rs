//! The reference coordinator, written from the contract alone: it judges every message of a node and records each
//! breach with the contract's sentence. Pure: calls and the time go in, outcomes come out; `serve` does the I/O.
mod calls;
pub mod faults;
pub mod lists;
pub mod metering;
pub mod nodes;
pub mod probes;
pub mod serve;
pub mod sessions;
mod shapes;
pub mod signals;
#[cfg(test)]
mod tests;
pub mod verdict;

use super::bell::Bell;
use super::clock::instant;
use super::httpsig;
use super::json::{self, Json, Members, number, object, text};
use super::keys::Key;
use super::shape::{self, Shape};
pub use calls::Call;
use calls::refusal_key;
use faults::Faults;
use nodes::Node;
use probes::Probe;
use sessions::Session;
use std::collections::{BTreeMap, HashMap};

/// Greatest content of a request, by the contract.
pub const MAX_BODY: usize = 1 << 20;
/// Breaches kept word for word; more are counted.
const MAX_BREACHES: usize = 1000;

/// Makes a PEM chain of a PEM certification request.
pub type Certify = Box<dyn Fn(&str) -> Option<String>>;

/// What becomes of a call.
#[derive(Debug)]
pub enum Outcome {
    /// Answer with this status and body after so many milliseconds.
    Reply(Reply),
    /// Cut the connection without an answer.
    Drop,
    /// Ask [`Coordinator::poll`] again at each ring for so many milliseconds; true: then cut the connection instead.
    Wait(Poll, u64, bool),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON content; none with 204.
    pub body: Option<Json>,
    /// Content instead of JSON, for faults.
    pub raw: Option<String>,
    /// Further fields.
    pub headers: Vec<(&'static str, String)>,
    /// Milliseconds to wait before answering.
    pub delay_ms: u64,
}

/// What a long poll waits for.
#[derive(Debug, Clone)]
pub enum Poll {
    /// Signals after this cursor of this node.
    Control(String, String),
    /// A probe request for this node.
    Probe(String),
}

/// A breach of the contract.
#[derive(Debug)]
pub struct Breach {
    /// Unix milliseconds by the coordinator's clock.
    pub at: i64,
    /// NodeID, if known.
    pub node: String,
    /// Session concerned, if any.
    pub session: Option<String>,
    /// The contract's sentence.
    pub rule: &'static str,
    /// What was seen.
    pub detail: String,
}

/// The coordinator's whole state.
pub struct Coordinator {
    /// Signs what goes to nodes.
    pub key: Key,
    /// Authorities under which a node may have this coordinator configured.
    pub authorities: Vec<String>,
    /// `heartbeatIntervalMs` of register answers.
    pub heartbeat_ms: i64,
    /// `probeHosts` of register answers.
    pub probe_hosts: Vec<Json>,
    /// Host, with port unless 443, of the endpoint in probe requests.
    pub probe_authority: String,
    /// Base64 key of the trusted endpoint.
    pub endpoint_public: String,
    /// What heartbeats are told about the node's place: `{address,region,confidence}`.
    pub observed: Json,
    /// Answers certification requests; `None`: no certificates.
    pub certify: Option<Certify>,
    /// Nodes by NodeID.
    pub nodes: BTreeMap<String, Node>,
    /// Sessions by id.
    pub sessions: BTreeMap<String, Session>,
    /// Probes in the order they were asked for.
    pub probes: Vec<Probe>,
    /// Breaches in the order they were seen.
    pub breaches: Vec<Breach>,
    /// Breaches beyond those kept.
    pub breaches_left_off: u64,
    /// Faults to inject.
    pub faults: Faults,
    /// Rings when a signal, probe, transition or report arrives.
    pub bell: Bell,
    /// Ports beside 443 that profiles allow by default and nodes may accept.
    pub extra_ports: Vec<u16>,
    /// `lists` of register answers.
    pub lists: Vec<lists::HostList>,
    retry_after: HashMap<(String, String), i64>,
    refused: HashMap<String, (u16, [u8; 32])>,
}

impl Coordinator {
    /// A coordinator that knows nobody yet.
    pub fn new(key: Key) -> Coordinator {
        Coordinator {
            key,
            authorities: Vec::new(),
            heartbeat_ms: 10_000,
            probe_hosts: Vec::new(),
            probe_authority: "endpoint.lab.test".to_owned(),
            endpoint_public: String::new(),
            observed: object([
                ("address", text("127.0.0.1")),
                ("region", text("LAB-1")),
                ("confidence", 0.0.into()),
            ]),
            certify: None,
            nodes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            probes: Vec::new(),
            breaches: Vec::new(),
            breaches_left_off: 0,
            faults: Faults::default(),
            bell: Bell::default(),
            extra_ports: Vec::new(),
            lists: Vec::new(),
            retry_after: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// Unix milliseconds as this coordinator sees them.
    pub fn now(&self, real_ms: i64) -> i64 {
        real_ms + self.faults.clock_offset_ms
    }

    /// Judges a call at `now` (of [`Coordinator::now`]).
    pub fn receive(&mut self, call: &Call, now: i64) -> Outcome {
        if let Some(outcome) = self.faults.before(&call.path, now) {
            if let Outcome::Reply(reply) = &outcome {
                self.remember_retry(call, reply, now);
            }
            return outcome;
        }
        let lost = self.faults.take("lose-answer", &call.path, now).is_some();
        let outcome = self.judge(call, now);
        match outcome {
            Outcome::Reply(_) if lost => Outcome::Drop,
            Outcome::Wait(poll, wait_ms, _) => Outcome::Wait(poll, wait_ms, lost),
            Outcome::Reply(mut reply) => {
                reply.delay_ms =
                    self.faults.take("delay", &call.path, now).map_or(0, |fault| fault.int("ms"));
                Outcome::Reply(reply)
            }
            other => other,
        }
    }

    fn judge(&mut self, call: &Call, now: i64) -> Outcome {
        if let Some(served) = self.serve_list(&call.path) {
            return served;
        }
        if let Err(reply) = self.check_transport(call, now) {
            return Outcome::Reply(reply);
        }
        let node = match self.check_signature(call, now) {
            Ok(node) => node,
            Err(reply) => return Outcome::Reply(reply),
        };
        self.check_manners(call, &node, now);
        let outcome = self.route(call, &node, now);
        if let Outcome::Reply(reply) = &outcome {
            let final_refusal = matches!(reply.status, 400 | 404 | 405 | 409 | 413 | 422);
            if final_refusal && call.method == "POST" && self.refused.len() < 10_000 {
                self.refused.insert(refusal_key(call, &node), (reply.status, httpsig::sha256(&call.body)));
            }
        }
        outcome
    }

    fn route(&mut self, call: &Call, node: &str, now: i64) -> Outcome {
        let register = (call.method.as_str(), call.path.as_str()) == ("POST", "/nodes/register");
        if !register && !self.nodes.get(node).is_some_and(|known| known.registered) {
            self.turned_away(node, now);
            let detail = "register first: nothing else works before it";
            return Outcome::Reply(Reply::problem(403, "node-unknown", detail));
        }
        let reply = match (call.method.as_str(), call.path.as_str()) {
            ("POST", "/nodes/register") => self.register(call, node, now),
            ("POST", "/nodes/heartbeat") => self.heartbeat(call, node, now),
            ("POST", "/sessions/control") => self.transition(call, node, now),
            ("POST", "/attest/metering") => self.metering(call, node, now),
            ("POST", "/probes/report") => self.report(call, node, now),
            ("GET", "/sessions/control") => return self.control(call, node, now),
            ("GET", "/probes/request") => return self.wait_for_probe(call, node, now),
            ("GET", path) if path.starts_with("/updates/") => {
                Err(Reply::problem(404, "no-release", "there is no release for this target"))
            }
            _ => {
                self.breach(
                    node,
                    None,
                    now,
                    "Section 2 names the endpoints",
                    format!("{} {}", call.method, call.path),
                );
                Err(Reply::problem(404, "not-found", "the contract has no such endpoint"))
            }
        };
        Outcome::Reply(reply.unwrap_or_else(|refusal| refusal))
    }

    /// Asks a long poll again; `last` when its time is over, which always gives an answer.
    pub fn poll(&mut self, poll: &Poll, now: i64, last: bool) -> Option<Reply> {
        match poll {
            Poll::Control(node, cursor) => self.signals_after(node, cursor, now, last),
            Poll::Probe(node) => self.next_probe(node, now, last),
        }
    }

    /// Records a breach of the contract.
    pub fn breach(
        &mut self,
        node: &str,
        session: Option<&str>,
        at: i64,
        rule: &'static str,
        detail: impl Into<String>,
    ) {
        if self.breaches.len() >= MAX_BREACHES {
            self.breaches_left_off += 1;
            return;
        }
        let mut detail = detail.into();
        if let Some((cut, _)) = detail.char_indices().nth(600) {
            detail.truncate(cut);
        }
        let (node, session) = (node.to_owned(), session.map(str::to_owned));
        self.breaches.push(Breach { at, node, session, rule, detail });
    }

    /// The body of a call as an object of this shape; a breach and a refusal otherwise.
    fn body(&mut self, call: &Call, node: &str, now: i64, shape: &Shape) -> Result<Json, Reply> {
        let body = json::parse(&call.body).map_err(|error| {
            self.breach(node, None, now, "JSON is UTF-8; duplicate member names are refused", error.clone());
            Reply::problem(400, "malformed", &error)
        })?;
        let wrong = shape::check(&body, shape);
        for line in &wrong {
            let session = body.str("sessionId").map(str::to_owned);
            let detail = format!("{} {line}", call.path);
            self.breach(node, session.as_deref(), now, "Members are named and typed in section 2", detail);
        }
        match wrong.iter().find(|line| !line.ends_with("not in the contract")) {
            Some(line) => Err(Reply::problem(400, "malformed", line)),
            None => Ok(body),
        }
    }
}

impl Reply {
    /// 200 with this body.
    pub fn ok(body: Json) -> Reply {
        Reply { status: 200, body: Some(body), raw: None, headers: Vec::new(), delay_ms: 0 }
    }

    /// 204.
    pub fn nothing() -> Reply {
        Reply { status: 204, body: None, raw: None, headers: Vec::new(), delay_ms: 0 }
    }

    /// An RFC 9457 problem.
    pub fn problem(status: u16, slug: &str, detail: &str) -> Reply {
        let body = object([("type", text(slug)), ("status", number(status)), ("detail", text(detail))]);
        Reply { status, ..Reply::ok(body) }
    }
}

impl Breach {
    /// For the control API.
    pub fn to_json(&self) -> Json {
        let session = self.session.as_deref().map_or(Json::Null, text);
        object([
            ("at", text(instant(self.at))),
            ("nodeId", text(self.node.clone())),
            ("sessionId", session),
            ("rule", text(self.rule)),
            ("detail", text(self.detail.clone())),
        ])
    }
}

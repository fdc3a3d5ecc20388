//! The tasks that speak to the coordinator: one future, five lanes, nothing periodic but heartbeats and long polls.
use super::link::{Answer, Lane, Link, LinkStatus, Step, Verdict, correction};
use super::node::{self, Node};
use super::signatures::sign_request;
use super::wire::{self, MAX_BUNDLES, Problem, WireError};
use crate::bell::Bell;
use crate::clock::Clock;
use crate::encoding::base64;
use crate::http::client::{Client as Http, Error, Request, Response};
use crate::http::head::retry_after_s;
use crate::http::url::{Url, percent_encode};
use crate::json::Value;
use crate::mutant;
use crate::probe::fetch::Fetcher;
use crate::signed::{NodeKey, PublicKey};
use crate::time::Unix;
use async_io::Timer;
use futures_lite::future;
use ring::rand::{SecureRandom, SystemRandom};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

mod complaint;

use self::complaint::{Complaint, sentence, slug_of};

/// How long a poll asks the coordinator to wait, in milliseconds.
pub const WAIT_MS: u64 = 30_000;

/// What the client is told by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The coordinator's base URL.
    pub url: Url,
    /// Who signs orders and probe requests.
    pub coordinator: PublicKey,
    /// Whether a probe may use plain HTTP on port 80.
    pub allow_plain_probes: bool,
    /// Ports that stand beside 443 (`lab.ports`); empty in a release.
    pub extra_ports: Vec<u16>,
    /// How long polls wait, in milliseconds; [`WAIT_MS`].
    pub wait_ms: u64,
}

/// The client of one coordinator.
pub struct Client {
    pub(super) settings: Settings,
    pub(super) key: Rc<NodeKey>,
    pub(super) clock: Rc<Clock>,
    pub(super) fetcher: Fetcher,
    http: Http,
    link: RefCell<Link>,
    pub(super) changed: Bell,
    random: SystemRandom,
    /// 1 after a post of several bundles was refused as a whole, to find the one that is at fault.
    pub(super) batch: Cell<usize>,
    /// How often the line has changed.
    line: Cell<u32>,
    malformed: Complaint,
    refused: Complaint,
}

/// What a request came to, for its lane.
pub(super) enum Outcome<T> {
    Done(T),
    Later,
    StartOver,
    Final(Problem),
}

impl Client {
    /// A client that has not spoken yet. `http` trusts the coordinator, `fetcher` the probes' endpoints.
    pub fn new(
        settings: Settings,
        key: Rc<NodeKey>,
        clock: Rc<Clock>,
        http: Http,
        fetcher: Fetcher,
    ) -> Client {
        let random = SystemRandom::new();
        let mut seed = [0; 8];
        // Without a seed the jitter is the same everywhere, which is no reason to stop.
        let _ = random.fill(&mut seed);
        let link = RefCell::new(Link::new(u64::from_le_bytes(seed)));
        let batch = Cell::new(MAX_BUNDLES);
        Client {
            settings,
            key,
            clock,
            fetcher,
            http,
            link,
            changed: Bell::default(),
            random,
            batch,
            line: Cell::default(),
            malformed: Complaint::default(),
            refused: Complaint::default(),
        }
    }

    /// Speaks to the coordinator until it is dropped.
    pub async fn run(&self, node: &dyn Node) {
        let polls = future::zip(self.control(node), self.probes(node));
        let posts = future::zip(self.heartbeats(node), self.outbox(node));
        let _ = future::zip(self.registration(node), future::zip(polls, posts)).await;
    }

    /// Posts what waits in the outbox, until it is empty or `deadline` has passed; for the shutdown, after [`Client::run`]
    /// was dropped. True if nothing waits any more.
    pub async fn flush(&self, node: &dyn Node, deadline: Duration) -> bool {
        self.link.borrow_mut().hurry(Lane::Outbox);
        let posting = async {
            while self.link.borrow().is_registered() {
                self.ready(Lane::Outbox).await;
                if !self.post_next(node).await {
                    return;
                }
            }
        };
        future::or(posting, async {
            Timer::after(deadline).await;
        })
        .await;
        node.next_outgoing().is_none()
    }

    /// Something was put into the outbox.
    pub fn outbox_changed(&self) {
        self.changed.ring();
    }

    /// The registration is to be repeated: another certificate, caps, transports.
    pub fn register_again(&self) {
        self.link.borrow_mut().register_again();
        self.changed.ring();
    }

    /// The state has changed and the coordinator should know soon.
    pub fn heartbeat_soon(&self) {
        self.link.borrow_mut().heartbeat_soon();
        self.changed.ring();
    }

    /// The line is another one now: what waits for its next try goes out at once, and the coordinator hears from the new
    /// address soon.
    pub fn line_changed(&self) {
        self.line.set(self.line.get().wrapping_add(1));
        self.link.borrow_mut().line_changed();
        self.changed.ring();
    }

    /// How the link is.
    pub fn status(&self) -> LinkStatus {
        self.link.borrow().status(self.clock.now())
    }

    async fn registration(&self, node: &dyn Node) {
        loop {
            self.ready(Lane::Register).await;
            let (asked_us, body) = (self.clock.now().mono_us, node.registration());
            let ask = Ask::post("/nodes/register", &body);
            match self.request(node, Lane::Register, &ask, |_, b| wire::registered(b)).await {
                Outcome::Done(answer) => {
                    self.take_time(node, answer.server_time, asked_us);
                    self.link.borrow_mut().registered(answer.heartbeat_interval_ms);
                    node.alert(node::REGISTER_REFUSED, None);
                    node.registered(answer);
                    self.changed.ring();
                    node.link_changed(self.status());
                }
                Outcome::Final(problem) => node.alert(node::REGISTER_REFUSED, Some(sentence(&problem))),
                Outcome::Later | Outcome::StartOver => {}
            }
        }
    }

    async fn heartbeats(&self, node: &dyn Node) {
        loop {
            self.ready(Lane::Heartbeat).await;
            let (asked_us, body) = (self.clock.now().mono_us, node.heartbeat());
            let ask = Ask::post("/nodes/heartbeat", &body);
            let outcome = self.request(node, Lane::Heartbeat, &ask, |_, b| wire::heartbeat_answer(b)).await;
            if let Outcome::Done(answer) = outcome {
                self.take_time(node, answer.server_time, asked_us);
                node.heartbeat_answered(answer);
            }
        }
    }

    async fn control(&self, node: &dyn Node) {
        loop {
            self.ready(Lane::Control).await;
            let started = self.clock.now().mono_us;
            let cursor = node.cursor();
            let query = format!("cursor={}&waitMs={}", percent_encode(&cursor), self.settings.wait_ms);
            let ask = Ask::poll("/sessions/control", query, self.settings.wait_ms);
            let kept = match self.request(node, Lane::Control, &ask, |_, b| wire::signals(b)).await {
                Outcome::Done(answer) => {
                    let new = !answer.signals.is_empty();
                    if !new {
                        self.link.borrow_mut().polled(Lane::Control, started);
                    }
                    let moved = new || answer.cursor != cursor;
                    if moved { node.apply_signals(answer.signals, answer.cursor) } else { continue }
                }
                Outcome::StartOver => node.apply_signals(Vec::new(), String::new()),
                Outcome::Later | Outcome::Final(_) => continue,
            };
            if kept.is_err() {
                self.link.borrow_mut().stalled(Lane::Control, self.clock.now());
            }
            node.alert(node::STATE_NOT_KEPT, kept.err());
        }
    }

    /// Waits until a lane may speak.
    pub(super) async fn ready(&self, lane: Lane) {
        loop {
            let seen = self.changed.count();
            let now = self.clock.now();
            let step = self.link.borrow().step(lane, now);
            match step {
                Step::Speak => return,
                Step::Wait => self.changed.after(seen).await,
                Step::At(us) => {
                    let sleep = Timer::after(Duration::from_micros(us.saturating_sub(now.mono_us)));
                    future::or(self.changed.after(seen), async {
                        sleep.await;
                    })
                    .await;
                }
            }
        }
    }

    /// A poll that came back empty is not to be repeated at once.
    pub(super) fn polled(&self, lane: Lane, started_us: u64) {
        self.link.borrow_mut().polled(lane, started_us);
    }

    /// One request and, where the contract says so, its repetition at once; `read` gets the status and the body.
    pub(super) async fn request<T>(
        &self,
        node: &dyn Node,
        lane: Lane,
        ask: &Ask<'_>,
        read: impl Fn(u16, &[u8]) -> Result<T, WireError>,
    ) -> Outcome<T> {
        let mut stale_connection = false;
        loop {
            let line = self.line.get();
            let response = self.send(ask).await;
            if response.is_err() && self.line.get() != line {
                // It went with the old line, and says nothing of the new one.
                continue;
            }
            if matches!(response, Err(Error::Closed)) && !stale_connection {
                stale_connection = true;
                continue;
            }
            let before = self.status().state;
            let outcome = self.take(node, lane, response, &read);
            if self.status().state != before {
                node.link_changed(self.status());
            }
            match outcome {
                Some(outcome) => return outcome,
                None => continue,
            }
        }
    }

    /// What a response comes to; `None`: the same again, at once.
    fn take<T>(
        &self,
        node: &dyn Node,
        lane: Lane,
        response: Result<Response, Error>,
        read: &impl Fn(u16, &[u8]) -> Result<T, WireError>,
    ) -> Option<Outcome<T>> {
        let now = self.clock.now();
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                let had_contact = self.link.borrow().had_contact();
                self.trouble(node, lane, &error, had_contact);
                self.link.borrow_mut().answered(lane, &Answer::None, now);
                return Some(Outcome::Later);
            }
        };
        node.alert(node::CLOCK_UNSET, None);
        node.alert(node::COORDINATOR_UNTRUSTED, None);
        if (200..300).contains(&response.status) || mutant::out("answer-status") {
            let read = read(response.status, &response.body);
            let fault = read.as_ref().err().map(ToString::to_string);
            self.malformed.tell(node, node::COORDINATOR_MALFORMED, lane, fault);
            let Ok(value) = read else {
                self.link.borrow_mut().answered(lane, &Answer::None, now);
                return Some(Outcome::Later);
            };
            self.link.borrow_mut().answered(lane, &Answer::Success, now);
            node.alert(node::SIGNATURE_REFUSED, None);
            self.refused.tell(node, node::COORDINATOR_REFUSES, lane, None);
            return Some(Outcome::Done(value));
        }
        let problem = wire::problem(&response.body);
        let after = response.headers.get("retry-after").and_then(|v| retry_after_s(v, now.unix()));
        let answer = Answer::Refused { status: response.status, problem: &problem, retry_after_s: after };
        let verdict = self.link.borrow_mut().answered(lane, &answer, now);
        match verdict {
            Verdict::CorrectAndRepeat(unix_ms) => {
                node.correct_clock(unix_ms);
                None
            }
            Verdict::StartOver => Some(Outcome::StartOver),
            Verdict::Final => {
                // What the outbox posts is answered to the node; a registration has an alert of its own.
                if !matches!(lane, Lane::Register | Lane::Outbox) {
                    let why = format!("{} {}", response.status, sentence(&problem));
                    self.refused.tell(node, node::COORDINATOR_REFUSES, lane, Some(why));
                }
                Some(Outcome::Final(Problem { slug: slug_of(&problem, response.status), ..problem }))
            }
            Verdict::Later | Verdict::Done => {
                if response.status == 401 {
                    node.alert(node::SIGNATURE_REFUSED, Some(sentence(&problem)));
                }
                // A forgotten node registers before anything else.
                self.changed.ring();
                Some(Outcome::Later)
            }
        }
    }

    /// Signs and sends; a new nonce each time.
    async fn send(&self, ask: &Ask<'_>) -> Result<Response, Error> {
        let url = self.settings.url.below(ask.path, ask.query.clone());
        let body = ask.body.map(|b| b.canonical().into_bytes());
        let mut nonce = [0; 16];
        if self.random.fill(&mut nonce).is_err() {
            return Err(Error::Tls("the system gives no random bytes".into()));
        }
        let created = self.clock.now().unix();
        let bytes = body.as_deref().unwrap_or_default();
        let fields = sign_request(ask.method, &url, bytes, created, &base64(&nonce), &self.key);
        let mut headers: Vec<(&str, String)> = vec![("Accept", "application/json".into())];
        if body.is_some() {
            headers.push(("Content-Type", "application/json".into()));
        }
        headers.extend(fields);
        let mut request = Request::new(ask.method, &url);
        request.headers = &headers;
        request.body = body.as_deref();
        request.patience = Duration::from_millis(ask.patience_ms);
        self.http.send(&request).await
    }

    /// Takes the time from an answer to a request that was begun at `asked_us`.
    fn take_time(&self, node: &dyn Node, server: Unix, asked_us: u64) {
        let now = self.clock.now();
        let took_ms = now.mono_us.saturating_sub(asked_us) / 1000;
        if let Some(unix_ms) = correction(server, took_ms, now) {
            node.correct_clock(unix_ms);
        }
    }
}

/// A request before it is signed.
pub(super) struct Ask<'a> {
    method: &'static str,
    path: &'static str,
    query: Option<String>,
    body: Option<&'a Value>,
    patience_ms: u64,
}

impl<'a> Ask<'a> {
    /// A JSON body for `path`.
    pub(super) fn post(path: &'static str, body: &'a Value) -> Ask<'a> {
        Ask { method: "POST", path, query: None, body: Some(body), patience_ms: 0 }
    }

    /// A long poll.
    pub(super) fn poll(path: &'static str, query: String, wait_ms: u64) -> Ask<'a> {
        Ask { method: "GET", path, query: Some(query), body: None, patience_ms: wait_ms }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

//! The lab's control API: plain HTTP and JSON for scripts and tests. Every path is in [`HELP`].
use super::clock::unix_ms;
use super::coordinator::Coordinator;
use super::coordinator::serve::Shared;
use super::doh::Zone;
use super::endpoint::Endpoint;
use super::http::{self, Answer, Executor, Incomings, answer, problem, typed};
use super::json::{Json, Members, object, parse, text};
use super::origin::Origin;
use super::text::query;
use async_io::Async;
use hyper::Method;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

/// Greatest content of a request, an exported log included.
const MAX_BODY: usize = 64 << 20;

/// What `GET /` says.
pub const HELP: &str = "\
POST /open      {nodeId?,sessionId?,token?,notBeforeS?,durationS?,limits?,policyProfile?,overrides?,badSignature?,waitMs?}
                -> {sessionId,token,state,..}; overrides replace members of the open (null removes); waits till active
POST /close     {sessionId,reason?,overrides?,badSignature?,waitMs?}; waits till settled
POST /policy    {sessionId?,policyProfile?,limits?,overrides?,badSignature?}
POST /probe     {sessionId?,endpoint?,size?,ttl?,followUps?,overrides?,badSignature?,waitMs?}; waits for the report
POST /signal    {type,body,nodeId?}: queued as it is
POST /fault     {kind,times?,path?,..}
                coordinator: drop | lose-answer | delay{ms} | status{status,type?,retryAfter?,location?} | garbage |
                oversize | forget-node{nodeId?} | forget-cursor | refuse-bundles | duplicate | clock{offsetMs} | clear |
                outage (the test cuts the line itself: lateness of the next minutes is no breach)
                endpoint: probe-signature | probe-hash | probe-short | probe-trailer | probe-nonce | probe-status
POST /observe   {region,confidence,address?}: what heartbeats are told
POST /zone      {name,addresses?,cname?,ttl?,then?,after?,fail?,times?,remove?}; fail: servfail nxdomain refused timeout garbage http
POST /access-log  the node's export (JSON lines): compared with every accessLogHash
POST /origin    reset the origin's counters
POST /violations  forget those recorded so far
GET  /lab  /nodes  /sessions[?sessionId=]  /probes  /violations  /verdict[?sessionId=][&format=text]  /origin  /zone  /endpoint
";

/// The roles of this process.
pub struct Roles {
    /// The coordinator; without its role it answers nobody.
    pub coordinator: Shared,
    /// The trusted endpoint.
    pub endpoint: Rc<Endpoint>,
    /// The origin.
    pub origin: Rc<Origin>,
    /// The names.
    pub zone: Rc<Zone>,
    /// What lab.json says.
    pub lab: Json,
}

/// Serves the control API.
pub fn run(executor: &Executor, listener: Async<TcpListener>, roles: Roles) {
    let roles = Rc::new(roles);
    http::serve(executor, listener, None, move |request, _| {
        let roles = Rc::clone(&roles);
        async move { roles.handle(request).await }
    });
}

impl Roles {
    async fn handle(&self, request: Incomings) -> Answer {
        let (head, body) = request.into_parts();
        let (path, asked) = (head.uri.path(), head.uri.query().unwrap_or_default());
        if head.method == Method::GET {
            return Ok(match self.read(path, asked) {
                Some(Json::String(plain)) => typed(200, "text/plain; charset=utf-8", plain),
                Some(value) => answer(200, &value),
                None => problem(404, "not-found", HELP),
            });
        }
        let body = match http::read_body(body, MAX_BODY).await {
            Ok(body) => body,
            Err(error) => return Ok(problem(413, "too-large", &error)),
        };
        if path == "/access-log" {
            let export = String::from_utf8_lossy(&body);
            return Ok(answer(200, &self.coordinator.borrow().check_access_log(&export)));
        }
        let ask = if body.is_empty() { Ok(object([])) } else { parse(&body) };
        let done = match ask {
            Ok(ask) => self.act(path, &ask).await,
            Err(error) => Err(error),
        };
        Ok(match done {
            Ok(value) => answer(200, &value),
            Err(error) => problem(400, "malformed", &error),
        })
    }

    fn read(&self, path: &str, asked: &str) -> Option<Json> {
        let coordinator = self.coordinator.borrow();
        let session = query(asked, "sessionId");
        Some(match path {
            "/" => text(HELP),
            "/lab" => self.lab.clone(),
            "/nodes" => coordinator.nodes_json(),
            "/sessions" => match session {
                Some(id) => coordinator.sessions.get(&id)?.to_json(&id),
                None => Json::Array(coordinator.sessions.iter().map(|(id, one)| one.to_json(id)).collect()),
            },
            "/probes" => Json::Array(coordinator.probes.iter().map(|probe| probe.to_json()).collect()),
            "/violations" => {
                Json::Array(coordinator.breaches.iter().map(|breach| breach.to_json()).collect())
            }
            "/verdict" => {
                let verdict = coordinator.verdict(session.as_deref(), coordinator.now(unix_ms()));
                if query(asked, "format").as_deref() == Some("text") {
                    plain_verdict(&verdict)
                } else {
                    verdict
                }
            }
            "/origin" => self.origin.to_json(),
            "/zone" => self.zone.to_json(),
            "/endpoint" => self.endpoint.to_json(),
            _ => return None,
        })
    }

    async fn act(&self, path: &str, ask: &Json) -> Result<Json, String> {
        let now = self.coordinator.borrow().now(unix_ms());
        match path {
            "/open" => {
                let mut opened = self.coordinator.borrow_mut().open(ask, now)?;
                let id = opened.str("sessionId").unwrap_or_default().to_owned();
                let state = self.wait_for_state(ask, &id, &["active", "refused", "closing", "settled"]).await;
                opened.set("state", text(state));
                let known = self
                    .coordinator
                    .borrow()
                    .sessions
                    .get(&id)
                    .and_then(|session| session.opens.last().and_then(|sent| sent.answer.clone()));
                opened.set("answer", known.map_or(Json::Null, text));
                Ok(opened)
            }
            "/close" => {
                let mut closed = self.coordinator.borrow_mut().close(ask, now)?;
                let id = ask.str("sessionId").unwrap_or_default().to_owned();
                closed.set("state", text(self.wait_for_state(ask, &id, &["settled", "refused"]).await));
                Ok(closed)
            }
            "/policy" => self.coordinator.borrow_mut().policy(ask, now),
            "/signal" => self.coordinator.borrow_mut().forge(ask, now),
            "/probe" => self.probe(ask, now).await,
            "/fault" => self.fault(ask, now),
            "/zone" => self.zone.apply(ask),
            "/lists" => self.coordinator.borrow_mut().set_lists(ask),
            "/observe" => {
                let mut coordinator = self.coordinator.borrow_mut();
                for name in ["region", "confidence", "address"] {
                    if let Some(value) = ask.member(name) {
                        coordinator.observed.set(name, value.clone());
                    }
                }
                Ok(coordinator.observed.clone())
            }
            "/origin" => {
                self.origin.reset();
                Ok(self.origin.to_json())
            }
            "/violations" => {
                let mut coordinator = self.coordinator.borrow_mut();
                coordinator.breaches.clear();
                coordinator.breaches_left_off = 0;
                Ok(object([]))
            }
            _ => Err(format!("there is no {path}; GET / lists what there is")),
        }
    }

    async fn probe(&self, ask: &Json, now: i64) -> Result<Json, String> {
        let asked = self.coordinator.borrow_mut().probe(ask, now)?;
        let nonce = asked.member("probe").and_then(|probe| probe.str("nonce")).unwrap_or_default().to_owned();
        let find = |coordinator: &Coordinator| {
            let same = coordinator.probes.iter().find(|probe| probe.request.str("nonce") == Some(&nonce));
            same.map(|probe| (probe.report.is_some(), probe.to_json()))
        };
        self.wait(ask, |coordinator| find(coordinator).is_none_or(|(reported, _)| reported)).await;
        Ok(find(&self.coordinator.borrow()).map_or(asked, |(_, json)| json))
    }

    fn fault(&self, ask: &Json, now: i64) -> Result<Json, String> {
        let kind = ask.str("kind").ok_or("a fault needs a kind")?;
        let times = ask.int("times").unwrap_or(1);
        let mut coordinator = self.coordinator.borrow_mut();
        match kind {
            "forget-node" => {
                let id = coordinator.which_node(ask)?;
                coordinator.forget_node(&id);
            }
            _ if kind.starts_with("probe-") => self.endpoint.order(kind, times),
            _ => coordinator.faults.order(ask, now)?,
        }
        if kind == "clear" {
            self.endpoint.clear();
        }
        self.endpoint.clock_offset_ms.set(coordinator.faults.clock_offset_ms);
        Ok(object([("ordered", text(kind))]))
    }

    async fn wait_for_state(&self, ask: &Json, id: &str, ends: &[&str]) -> String {
        let state =
            |coordinator: &Coordinator| coordinator.sessions.get(id).map(|session| session.state.clone());
        self.wait(ask, |coordinator| state(coordinator).is_none_or(|now| ends.contains(&now.as_str()))).await;
        state(&self.coordinator.borrow()).unwrap_or_default()
    }

    /// Waits up to the request's `waitMs` (none: not at all) until the coordinator is as wanted.
    async fn wait(&self, ask: &Json, done: impl Fn(&Coordinator) -> bool) {
        let until = unix_ms() + ask.int("waitMs").unwrap_or(0);
        loop {
            let left = u64::try_from(until - unix_ms()).unwrap_or(0);
            if left == 0 || done(&self.coordinator.borrow()) {
                return;
            }
            let bell = self.coordinator.borrow().bell.clone();
            bell.wait(Duration::from_millis(left)).await;
        }
    }
}

fn plain_verdict(verdict: &Json) -> Json {
    let lines: Vec<&str> = verdict.list("lines").iter().filter_map(super::json::as_str).collect();
    let breaches = verdict.list("violations").iter();
    let breaches = breaches.map(|one| {
        format!("     {}: {}\n", one.str("rule").unwrap_or_default(), one.str("detail").unwrap_or_default())
    });
    let ok = verdict.member("ok") == Some(&Json::Boolean(true));
    let last = if ok { "verdict: ok\n" } else { "verdict: NOT OK\n" };
    text(format!("{}\n{}{last}", lines.join("\n"), breaches.collect::<String>()))
}

//! Probes: asking for them, judging the reports.
use super::signals::override_members;
use super::{Call, Coordinator, Outcome, Poll, Reply, shapes};
use crate::lab::clock::{instant, parse_instant};
use crate::lab::json::{Json, Members, number, object, text};
use crate::lab::{keys, text as coding};

/// Follow-ups in a row.
const MAX_FOLLOW_UPS: u64 = 3;
/// Probes kept.
const MAX_PROBES: usize = 10_000;

/// A probe asked for.
pub struct Probe {
    /// The signed request.
    pub request: Json,
    /// The node it is for.
    pub node: String,
    /// When it was handed out, Unix ms.
    pub handed: Option<i64>,
    /// The report or refusal.
    pub report: Option<Json>,
    /// What is wrong with the report; empty is a pass.
    pub wrong: Vec<String>,
    follow_ups: u64,
    silent: bool,
}

impl Probe {
    /// For the control API.
    pub fn to_json(&self) -> Json {
        let refused = self.report.as_ref().and_then(|report| report.str("refused"));
        let verdict = match (&self.report, refused) {
            (None, _) => "waiting",
            (Some(_), Some(_)) => "refused",
            _ if self.wrong.is_empty() => "passed",
            _ => "failed",
        };
        object([
            ("nodeId", text(self.node.clone())),
            ("request", self.request.clone()),
            ("handedAt", self.handed.map_or(Json::Null, |at| text(instant(at)))),
            ("report", self.report.clone().unwrap_or(Json::Null)),
            ("verdict", text(verdict)),
            ("refused", refused.map_or(Json::Null, text)),
            ("wrong", Json::Array(self.wrong.iter().map(|line| text(line.clone())).collect())),
        ])
    }
}

impl Coordinator {
    /// Builds, signs and queues a probe of `sessionId` (the only active one if missing).
    pub fn probe(&mut self, ask: &Json, now: i64) -> Result<Json, String> {
        if self.probes.len() >= MAX_PROBES {
            return Err("too many probes".to_owned());
        }
        let session = match ask.str("sessionId") {
            Some(session) => session.to_owned(),
            None => self.only_active()?,
        };
        let node = match self.sessions.get(&session) {
            Some(session) => session.node.clone(),
            None => self.which_node(ask)?,
        };
        let follow_ups = ask.int("followUps").and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let request = self.probe_request(ask, &session, &node, now);
        self.probes.push(Probe {
            request: request.clone(),
            node,
            handed: None,
            report: None,
            wrong: Vec::new(),
            follow_ups: follow_ups.min(MAX_FOLLOW_UPS),
            silent: ask.member("badSignature") == Some(&Json::Boolean(true)),
        });
        self.bell.ring();
        Ok(object([("probe", request)]))
    }

    fn probe_request(&self, ask: &Json, session: &str, node: &str, now: i64) -> Json {
        let host = &self.probe_authority;
        let endpoint = ask.str("endpoint").map_or_else(|| format!("https://{host}/probe"), str::to_owned);
        let mut request = object([
            ("sessionId", text(session)),
            ("nodeId", text(node)),
            ("issuedAt", text(instant(now))),
            ("endpoint", text(endpoint)),
            ("size", number(ask.int("size").unwrap_or(1 << 20))),
            ("nonce", text(coding::base64(&keys::random::<18>()))),
            ("ttl", number(ask.int("ttl").unwrap_or(60))),
        ]);
        override_members(&mut request, ask.member("overrides"));
        self.seal("probe-request", &mut request, ask);
        request
    }

    fn only_active(&self) -> Result<String, String> {
        let mut active = self.sessions.iter().filter(|(_, session)| session.state == "active");
        match (active.next(), active.next()) {
            (Some((id, _)), None) => Ok(id.clone()),
            (None, _) => Err("no session is active".to_owned()),
            _ => Err("several sessions are active: name one with sessionId".to_owned()),
        }
    }

    /// `GET /probes/request`.
    pub(super) fn wait_for_probe(&mut self, call: &Call, id: &str, now: i64) -> Outcome {
        match self.wait_ms(call, id, now) {
            Ok(wait) => Outcome::Wait(Poll::Probe(id.to_owned()), wait, false),
            Err(reply) => Outcome::Reply(reply),
        }
    }

    pub(super) fn next_probe(&mut self, id: &str, now: i64, last: bool) -> Option<Reply> {
        let waiting = self.probes.iter_mut().find(|probe| probe.node == id && probe.handed.is_none());
        match waiting {
            Some(probe) => {
                probe.handed = Some(now);
                Some(Reply::ok(probe.request.clone()))
            }
            None => last.then(Reply::nothing),
        }
    }

    /// `POST /probes/report`.
    pub(super) fn report(&mut self, call: &Call, id: &str, now: i64) -> Result<Reply, Reply> {
        let refusal = contains(&call.body, b"\"refused\"");
        let shape = if refusal { &shapes::REFUSED_PROBE } else { &shapes::REPORT };
        let body = self.body(call, id, now, shape)?;
        let session = body.str("sessionId").unwrap_or_default().to_owned();
        let nonce = body.str("nonce").unwrap_or_default();
        let public = keys::node_public(id).unwrap_or_default();
        if body.str("nodeId") != Some(id) || !keys::verify_object(public, "probe-report", &body, "nodeSig") {
            self.breach(
                id,
                Some(&session),
                now,
                "Report {…, nodeSig}",
                "the report is not signed by this node",
            );
            return Err(Reply::problem(400, "malformed", "nodeSig does not verify"));
        }
        let mine = |probe: &Probe| probe.node == id && probe.request.str("nonce") == Some(nonce);
        let Some(index) = self.probes.iter().position(mine) else {
            self.breach(
                id,
                Some(&session),
                now,
                "Probe reports answer a request",
                format!("nonce {nonce:?}"),
            );
            return Err(Reply::problem(
                404,
                "probe-unknown",
                "no probe with this nonce was asked of this node",
            ));
        };
        self.judge_report(index, &body, now);
        self.bell.ring();
        Ok(Reply::ok(self.acknowledge(index, now)))
    }

    fn acknowledge(&mut self, index: usize, now: i64) -> Json {
        let mut reply = object([("ack", true.into())]);
        let left = self.probes.get(index).map_or(0, |probe| probe.follow_ups);
        if let Some(before) = self.probes.get(index).filter(|_| left > 0) {
            let old = &before.request;
            let node = before.node.clone();
            let mut ask = object([("followUps", number(left - 1))]);
            for name in ["endpoint", "size", "ttl"] {
                ask.set(name, old.member(name).cloned().unwrap_or(Json::Null));
            }
            let session = old.str("sessionId").unwrap_or_default().to_owned();
            let request = self.probe_request(&ask, &session, &node, now);
            let probe = Probe {
                request: request.clone(),
                node,
                handed: Some(now),
                report: None,
                wrong: Vec::new(),
                follow_ups: left - 1,
                silent: false,
            };
            self.probes.push(probe);
            reply.set("probe", request);
        }
        reply
    }

    fn judge_report(&mut self, index: usize, body: &Json, now: i64) {
        let endpoint_public = self.endpoint_public.clone();
        let Some(probe) = self.probes.get_mut(index) else { return };
        let (node, session) =
            (probe.node.clone(), probe.request.str("sessionId").unwrap_or_default().to_owned());
        let mut breaches: Vec<(&'static str, String)> = Vec::new();
        if let Some(before) = &probe.report {
            if before != body {
                breaches.push(("a nonce is answered once", "a second, different report".to_owned()));
            }
        } else {
            if probe.silent {
                breaches
                    .push(("a bad coordinatorSig gets no answer but an alert", "it was answered".to_owned()));
            }
            probe.wrong = match body.str("refused") {
                Some(_) => Vec::new(),
                None => wrong_with(body, &probe.request, &endpoint_public, now),
            };
            breaches.extend(
                probe.wrong.iter().map(|line| ("Report: what the endpoint signed and sent", line.clone())),
            );
            probe.report = Some(body.clone());
            probe.follow_ups *= u64::from(body.str("refused").is_none());
        }
        for (rule, detail) in breaches {
            self.breach(&node, Some(&session), now, rule, detail);
        }
    }
}

fn wrong_with(report: &Json, request: &Json, endpoint_public: &str, now: i64) -> Vec<String> {
    let mut wrong = Vec::new();
    if report.str("sessionId") != request.str("sessionId") {
        wrong.push("sessionId is not the request's".to_owned());
    }
    if report.int("bytes") != request.int("size") {
        wrong.push(format!("bytes {:?}, asked for {:?}", report.int("bytes"), request.int("size")));
    }
    let member = |from: &Json, name: &str| from.member(name).cloned().unwrap_or(Json::Null);
    let trailer = object([
        ("nonce", member(request, "nonce")),
        ("size", member(request, "size")),
        ("contentHash", member(report, "contentHash")),
        ("serverTime", member(report, "serverTime")),
        ("endpointSig", member(report, "endpointSig")),
    ]);
    if !keys::verify_object(endpoint_public, "probe-content", &trailer, "endpointSig") {
        wrong.push("endpointSig does not cover {nonce, size, contentHash, serverTime}".to_owned());
    }
    let issued = request.str("issuedAt").and_then(parse_instant).unwrap_or(now);
    let ttl = request.int("ttl").unwrap_or(0) * 1000;
    // The answer may still be on its way when the ttl, fetch included, is over.
    if now > issued + ttl + 5000 {
        wrong.push(format!("reported {} ms after issuedAt, ttl is {ttl} ms", now - issued));
    }
    wrong
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

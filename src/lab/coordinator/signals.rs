//! What the coordinator tells nodes: building, signing, queueing, and the long poll with its cursors.
use super::sessions::{OpenSent, Session};
use super::{Call, Coordinator, Outcome, Poll, Reply, shapes};
use crate::lab::clock::{instant, parse_instant};
use crate::lab::json::{Json, Members, as_int, number, object, text};
use crate::lab::{blake3, keys, shape, text as coding};

/// Signals in one answer.
const MAX_SIGNALS: usize = 20;
/// Longest wait a node may ask for, in ms.
const MAX_WAIT_MS: i64 = 60_000;
/// Signals kept for one node.
const MAX_QUEUE: usize = 10_000;

/// A queued signal.
pub struct Signal {
    cursor: String,
    kind: String,
    body: Json,
}

impl Coordinator {
    /// `GET /sessions/control`: acknowledges by the cursor, then waits for more.
    pub(super) fn control(&mut self, call: &Call, id: &str, now: i64) -> Outcome {
        let wait = match self.wait_ms(call, id, now) {
            Ok(wait) => wait,
            Err(reply) => return Outcome::Reply(reply),
        };
        let Some(cursor) = call.param("cursor") else {
            self.breach(id, None, now, "GET /sessions/control?cursor=&waitMs=", "no cursor");
            return Outcome::Reply(Reply::problem(400, "malformed", "cursor is missing"));
        };
        let forgotten = self.faults.take("forget-cursor", &call.path, now).is_some() && !cursor.is_empty();
        let node = self.nodes.entry(id.to_owned()).or_default();
        let position = match cursor.as_str() {
            "" => Some(0),
            known => node.signals.iter().position(|signal| signal.cursor == known).map(|at| at + 1),
        };
        let lost = std::mem::take(&mut node.lost_cursor);
        let acknowledged = node.acknowledged;
        match position {
            Some(at) if !forgotten => {
                if at == 0 && acknowledged > 0 {
                    node.restarts += u64::from(!lost);
                    node.acknowledged = 0;
                } else if at < acknowledged {
                    let detail = format!("acknowledged {acknowledged} signals before, now {at}");
                    self.breach(id, None, now, "a request's cursor acknowledges all up to it", detail);
                } else {
                    node.acknowledged = at;
                }
                if lost && !cursor.is_empty() {
                    self.breach(
                        id,
                        None,
                        now,
                        "410 cursor-unknown: start over with an empty one",
                        cursor.clone(),
                    );
                }
                Outcome::Wait(Poll::Control(id.to_owned(), cursor), wait, false)
            }
            _ => {
                node.lost_cursor = true;
                if !forgotten {
                    self.breach(
                        id,
                        None,
                        now,
                        "Cursors are opaque",
                        format!("{cursor:?} was never given out"),
                    );
                }
                Outcome::Reply(Reply::problem(410, "cursor-unknown", "start over with an empty cursor"))
            }
        }
    }

    /// The `waitMs` of a long poll.
    pub(super) fn wait_ms(&mut self, call: &Call, id: &str, now: i64) -> Result<u64, Reply> {
        let wait = call.param("waitMs").and_then(|digits| digits.parse::<i64>().ok());
        match wait.filter(|wait| (0..=MAX_WAIT_MS).contains(wait)) {
            Some(wait) => Ok(wait.unsigned_abs()),
            None => {
                self.breach(id, None, now, "waitMs ≤ 60000", format!("query {:?}", call.query));
                Err(Reply::problem(400, "malformed", "waitMs is an integer from 0 to 60000"))
            }
        }
    }

    pub(super) fn signals_after(&mut self, id: &str, cursor: &str, _now: i64, last: bool) -> Option<Reply> {
        let node = self.nodes.get(id)?;
        let from = node.signals.iter().position(|signal| signal.cursor == cursor).map_or(0, |at| at + 1);
        let fresh: Vec<&Signal> = node.signals.iter().skip(from).take(MAX_SIGNALS).collect();
        if fresh.is_empty() && !last {
            return None;
        }
        let next = fresh.last().map_or(cursor, |signal| &signal.cursor);
        let one = |signal: &&Signal| {
            object([
                ("cursor", text(signal.cursor.clone())),
                ("type", text(signal.kind.clone())),
                ("body", signal.body.clone()),
            ])
        };
        let signals = Json::Array(fresh.iter().map(one).collect());
        Some(Reply::ok(object([("signals", signals), ("cursor", text(next))])))
    }

    /// Queues a signal as it is, whatever it is.
    pub fn queue(&mut self, id: &str, kind: &str, body: Json) -> Result<(), String> {
        let node = self.nodes.entry(id.to_owned()).or_default();
        if node.signals.len() >= MAX_QUEUE {
            return Err("this node's queue is full".to_owned());
        }
        let cursor = coding::hex(&keys::random::<12>());
        node.signals.push(Signal { cursor, kind: kind.to_owned(), body });
        self.bell.ring();
        Ok(())
    }

    /// Queues `{type, body, nodeId?, expected?}` unsigned and unchanged, so that tests can forge.
    pub fn forge(&mut self, ask: &Json, now: i64) -> Result<Json, String> {
        let id = self.which_node(ask)?;
        let kind = ask.str("type").ok_or("a signal needs a type")?;
        let body = ask.member("body").cloned().ok_or("a signal needs a body")?;
        if let (true, Some(session_id)) = (kind == "open", body.str("sessionId")) {
            let forged = !keys::verify_object(&self.key.public(), "session-open", &body, "coordinatorSig");
            let judged = object([("badSignature", forged.into())]);
            let expected = self.expected_refusal(&body, &id, &judged, now);
            let session = self.sessions.entry(session_id.to_owned()).or_insert_with(|| Session::new(&id));
            if session.opens.iter().all(|sent| sent.object != body) {
                session.opens.push(OpenSent { object: body.clone(), expected, answer: None });
            }
        }
        self.queue(&id, kind, body)?;
        Ok(object([("queued", true.into())]))
    }

    /// The node a request of the control API means: named, or the only one that registered.
    pub fn which_node(&self, ask: &Json) -> Result<String, String> {
        if let Some(id) = ask.str("nodeId") {
            return Ok(id.to_owned());
        }
        let registered: Vec<&String> =
            self.nodes.iter().filter(|(_, node)| node.counts.0 > 0).map(|(id, _)| id).collect();
        match registered.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err("no node has registered yet".to_owned()),
            many => Err(format!("{} nodes are registered: name one with nodeId", many.len())),
        }
    }

    /// Builds, signs and queues an `open`; gives `{sessionId, token, open}`.
    pub fn open(&mut self, ask: &Json, now: i64) -> Result<Json, String> {
        let id = self.which_node(ask)?;
        let token = ask.str("token").map_or_else(|| coding::hex(&keys::random::<20>()), str::to_owned);
        let mut open = self.plain_open(ask, &id, &token, now);
        override_members(&mut open, ask.member("overrides"));
        self.seal("session-open", &mut open, ask);
        let session_id = open.str("sessionId").unwrap_or_default().to_owned();
        let expected = self.expected_refusal(&open, &id, ask, now);
        let session = self.sessions.entry(session_id.clone()).or_insert_with(|| Session::new(&id));
        let repeated = session.opens.iter().any(|sent| sent.object == open);
        if !repeated {
            let expected = expected.or((!session.opens.is_empty()).then_some("duplicate-session"));
            session.opens.push(OpenSent { object: open.clone(), expected, answer: None });
        }
        if session.token.is_empty() {
            session.token.clone_from(&token);
        }
        self.queue(&id, "open", open.clone())?;
        Ok(object([
            ("sessionId", text(session_id)),
            ("token", text(token)),
            ("nodeId", text(id)),
            ("expected", expected_json(expected)),
            ("open", open),
        ]))
    }

    fn plain_open(&self, ask: &Json, id: &str, token: &str, now: i64) -> Json {
        let not_before = now + ask.int("notBeforeS").unwrap_or(0) * 1000;
        let expires = not_before + ask.int("durationS").unwrap_or(3600) * 1000;
        let regions = self.nodes.get(id).map(|node| node.register.0.list("regions").to_vec());
        let mut profile = self.plain_profile();
        override_members(&mut profile, ask.member("policyProfile"));
        let limits = ask.member("limits").cloned().unwrap_or_else(|| object([]));
        object([
            ("sessionId", text(ask.str("sessionId").map_or_else(keys::uuid, str::to_owned))),
            ("nodeId", text(id)),
            ("issuedAt", text(instant(now))),
            ("notBefore", text(instant(not_before))),
            ("expiresAt", text(instant(expires))),
            ("tokenHash", text(blake3::name(token.as_bytes()))),
            ("buyer", text("lab-buyer")),
            ("category", text("qa")),
            ("regions", Json::Array(regions.unwrap_or_default())),
            ("policyProfile", profile),
            ("limits", limits),
        ])
    }

    fn plain_profile(&self) -> Json {
        let ports = std::iter::once(443).chain(self.extra_ports.iter().copied().filter(|port| *port != 443));
        let list = |items: &[&str]| Json::Array(items.iter().map(|item| text(*item)).collect());
        object([
            ("name", text("lab")),
            ("allowDomains", list(&[])),
            ("blockDomains", list(&[])),
            ("allowedPorts", Json::Array(ports.map(number).collect())),
            ("alpn", list(&["h2", "http/1.1"])),
            ("transports", list(&["relay", "tunnel", "lease"])),
            ("ech", text("outer")),
        ])
    }

    /// Builds, signs and queues a `close` of `sessionId`.
    pub fn close(&mut self, ask: &Json, now: i64) -> Result<Json, String> {
        let id = self.which_node(ask)?;
        let session_id = ask.str("sessionId").ok_or("close needs a sessionId")?;
        let reason = ask.str("reason").unwrap_or("buyer-ended");
        let mut close = object([
            ("sessionId", text(session_id)),
            ("nodeId", text(id.clone())),
            ("issuedAt", text(instant(now))),
            ("reason", text(reason)),
        ]);
        override_members(&mut close, ask.member("overrides"));
        self.seal("session-close", &mut close, ask);
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.closes.push(reason.to_owned());
        }
        self.queue(&id, "close", close.clone())?;
        Ok(object([("close", close)]))
    }

    /// Builds, signs and queues a `policy` for one session, or for all with `sessionId` null or missing.
    pub fn policy(&mut self, ask: &Json, now: i64) -> Result<Json, String> {
        let id = self.which_node(ask)?;
        let mut profile = self.plain_profile();
        override_members(&mut profile, ask.member("policyProfile"));
        let mut policy = object([
            ("nodeId", text(id.clone())),
            ("issuedAt", text(instant(now))),
            ("sessionId", ask.str("sessionId").map_or(Json::Null, text)),
            ("policyProfile", profile),
            ("limits", ask.member("limits").cloned().unwrap_or_else(|| object([]))),
        ]);
        override_members(&mut policy, ask.member("overrides"));
        self.seal("policy", &mut policy, ask);
        self.queue(&id, "policy", policy.clone())?;
        Ok(object([("policy", policy)]))
    }

    /// Signs; with `badSignature` the signature is one bit off.
    pub(super) fn seal(&self, kind: &str, object: &mut Json, ask: &Json) {
        self.key.sign_object(kind, object, "coordinatorSig");
        if bad_signature(ask) {
            let raw = object.str("coordinatorSig").and_then(coding::unbase64);
            let mut raw = raw.unwrap_or_default();
            if let Some(first) = raw.first_mut() {
                *first ^= 1;
            }
            object.set("coordinatorSig", text(coding::base64(&raw)));
        }
    }

    /// The refusal a node must give, as far as a coordinator can know it; in the contract's order.
    fn expected_refusal(&self, open: &Json, id: &str, ask: &Json, now: i64) -> Option<&'static str> {
        let time = |name: &str| open.str(name).and_then(parse_instant);
        let issued = time("issuedAt").unwrap_or(now);
        let profile = open.member("policyProfile");
        let list = |name: &str| profile.map_or(&[][..], |profile| profile.list(name));
        let register = self.nodes.get(id).map(|node| &node.register.0);
        let offered = register.map_or(&[][..], |register| register.list("transports"));
        let carried = |kind: &Json| offered.iter().any(|transport| transport.member("kind") == Some(kind));
        let port_fits = |port: &Json| {
            let port = as_int(port).unwrap_or(0);
            port == 443 || self.extra_ports.iter().any(|extra| i64::from(*extra) == port)
        };
        let malformed =
            shape::check(open, &shapes::OPEN).iter().any(|line| !line.ends_with("not in the contract"))
                || time("expiresAt") <= time("notBefore");
        [
            (bad_signature(ask), "bad-signature"),
            (open.str("nodeId") != Some(id), "wrong-node"),
            (issued > now + 65_000 || issued < now - 605_000, "stale"),
            (malformed, "malformed"),
            (time("notBefore").is_some_and(|at| at > now + 65_000), "not-yet-valid"),
            (time("expiresAt").is_some_and(|at| at <= now), "expired"),
            (self.sessions.contains_key(open.str("sessionId").unwrap_or_default()), "duplicate-session"),
            (!shares_region(open.list("regions"), register), "region-denied"),
            (
                !["ad-verification", "qa"].contains(&open.str("category").unwrap_or_default()),
                "category-denied",
            ),
            (!list("allowedPorts").iter().all(port_fits), "port-denied"),
            (!list("transports").iter().any(carried), "transport-unsupported"),
        ]
        .into_iter()
        .find_map(|(applies, slug)| applies.then_some(slug))
    }
}

fn shares_region(regions: &[Json], register: Option<&Json>) -> bool {
    let own = register.map_or(&[][..], |register| register.list("regions"));
    regions.iter().any(|region| own.contains(region))
}

fn bad_signature(ask: &Json) -> bool {
    let inner = ask.member("overrides").and_then(|overrides| overrides.member("badSignature"));
    [ask.member("badSignature"), inner].contains(&Some(&Json::Boolean(true)))
}

fn expected_json(expected: Option<&'static str>) -> Json {
    expected.map_or(Json::Null, text)
}

/// Replaces members of an object; null removes one.
pub(super) fn override_members(target: &mut Json, with: Option<&Json>) {
    if let Some(Json::Object(members)) = with {
        for (name, value) in members.iter().filter(|(name, _)| *name != "badSignature") {
            target.set(name, value.clone());
        }
    }
}

//! Metering bundles: signature, chain, windows, lateness.
use super::sessions::Session;
use super::{Call, Coordinator, Reply, shapes};
use crate::lab::clock::{instant, parse_instant};
use crate::lab::json::{Json, Members, canonical, number, object, text};
use crate::lab::{blake3, keys, shape};

const WINDOW_MS: i64 = 300_000;
/// "Posted within 30 s", and a little for the way.
const LATE_MS: i64 = 32_000;

/// A bundle that was answered.
pub struct Attested {
    /// The bundle as received.
    pub object: Json,
    /// `b3:` of its signed bytes.
    pub hash: String,
    /// `accepted` or `refused`.
    pub status: &'static str,
    /// When it came first, Unix ms.
    pub received: i64,
    /// Times it came.
    pub times: u64,
}

impl Attested {
    /// For the control API.
    pub fn to_json(&self) -> Json {
        object([
            ("status", text(self.status)),
            ("receivedAt", text(instant(self.received))),
            ("times", number(self.times)),
            ("hash", text(self.hash.clone())),
            ("bundle", self.object.clone()),
        ])
    }
}

impl Session {
    /// What the next bundle's `prevHash` must be.
    pub fn last_hash(&self) -> String {
        self.bundles.last().map_or_else(|| format!("b3:{}", "0".repeat(64)), |bundle| bundle.hash.clone())
    }
}

type Verdict = (&'static str, Option<&'static str>);

impl Coordinator {
    /// `POST /attest/metering`.
    pub(super) fn metering(&mut self, call: &Call, id: &str, now: i64) -> Result<Reply, Reply> {
        let body = self.body(call, id, now, &shapes::METERING)?;
        let duplicates = self.faults.take("duplicate", &call.path, now).is_some();
        let mut results = Vec::new();
        for bundle in body.list("bundles") {
            let (mut status, reason) = self.attest(bundle, id, now);
            if duplicates && status == "accepted" {
                status = "duplicate";
            }
            let mut result = object([
                ("sessionId", bundle.member("sessionId").cloned().unwrap_or(Json::Null)),
                ("windowStart", bundle.member("windowStart").cloned().unwrap_or(Json::Null)),
                ("seq", bundle.member("seq").cloned().unwrap_or(Json::Null)),
                ("status", text(status)),
            ]);
            if let Some(reason) = reason {
                result.set("reason", text(reason));
            }
            results.push(result);
        }
        if results.is_empty() {
            self.breach(id, None, now, "POST /attest/metering {bundles[≤64]}", "no bundle");
        }
        self.bell.ring();
        Ok(Reply::ok(object([("results", Json::Array(results)), ("creditsToday", self.credits(id).into())])))
    }

    fn attest(&mut self, bundle: &Json, id: &str, now: i64) -> Verdict {
        let session_id = bundle.str("sessionId").unwrap_or_default().to_owned();
        let wrong = shape::check(bundle, &shapes::BUNDLE);
        for line in &wrong {
            self.breach(id, Some(&session_id), now, "Metering bundle: members", line.clone());
        }
        let reason = if wrong.iter().any(|line| !line.ends_with("not in the contract")) {
            Some("malformed")
        } else if bundle.str("nodeId") != Some(id) {
            Some("wrong-node")
        } else if !keys::verify_object(
            keys::node_public(id).unwrap_or_default(),
            "metering",
            bundle,
            "nodeSig",
        ) {
            Some("bad-signature")
        } else if self.sessions.get(&session_id).is_none_or(|session| session.node != id) {
            Some("session-unknown")
        } else {
            None
        };
        if let Some(reason) = reason {
            let detail = format!("{reason}: {}", canonical(bundle));
            self.breach(
                id,
                Some(&session_id),
                now,
                "Bundles are signed by the node, of sessions it was given",
                detail,
            );
            return ("refused", Some(reason));
        }
        self.attest_in_chain(bundle, &session_id, id, now)
    }

    fn attest_in_chain(&mut self, bundle: &Json, session_id: &str, id: &str, now: i64) -> Verdict {
        let seq = bundle.int("seq").and_then(|seq| usize::try_from(seq).ok()).unwrap_or(usize::MAX);
        let Some(session) = self.sessions.get_mut(session_id) else {
            return ("refused", Some("session-unknown"));
        };
        if let Some(known) = session.bundles.get_mut(seq) {
            known.times += 1;
            if known.object == *bundle {
                let refused = known.status == "refused";
                return if refused { ("refused", Some("ordered")) } else { ("duplicate", None) };
            }
            let detail =
                format!("seq {seq} came as {} and as {}", canonical(&known.object), canonical(bundle));
            self.breach(id, Some(session_id), now, "A repeat is byte-identical", detail);
            return ("refused", Some("not-identical"));
        }
        let forgiving = self.faults.recent(now, 900_000);
        let found = check_bundle(bundle, session, now, forgiving);
        let hash = blake3::name(&keys::signed_bytes("metering", bundle, "nodeSig"));
        let chain_broken = found.iter().any(|(fatal, _, _)| *fatal);
        let ordered = self.faults.take("refuse-bundles", "/attest/metering", now).is_some();
        let status = if ordered { "refused" } else { "accepted" };
        if !chain_broken && let Some(session) = self.sessions.get_mut(session_id) {
            session.bundles.push(Attested { object: bundle.clone(), hash, status, received: now, times: 1 });
        }
        for (_, rule, detail) in found {
            self.breach(id, Some(session_id), now, rule, format!("seq {seq}: {detail}"));
        }
        match (chain_broken, ordered) {
            (true, _) => ("refused", Some("chain")),
            (_, true) => ("refused", Some("ordered")),
            _ => ("accepted", None),
        }
    }
}

type Found = Vec<(bool, &'static str, String)>;

/// What is wrong with a well-formed bundle that would be the session's next; the flag says whether it breaks the chain.
fn check_bundle(bundle: &Json, session: &Session, now: i64, forgiving: bool) -> Found {
    let mut found = Found::new();
    let time = |name: &str| bundle.str(name).and_then(parse_instant).unwrap_or(0);
    let (start, end) = (time("windowStart"), time("windowEnd"));
    let count = session.bundles.len();
    if bundle.int("seq") != i64::try_from(count).ok() {
        found.push((true, "seq from 0 without gaps", format!("expected {count}")));
    }
    if bundle.str("prevHash") != Some(&session.last_hash()) {
        let detail = format!("prevHash {:?}, expected {}", bundle.str("prevHash"), session.last_hash());
        found.push((true, "prevHash = BLAKE3 of exactly the signed bytes of the previous bundle", detail));
    }
    if start % WINDOW_MS != 0 || end != start + WINDOW_MS {
        let detail = format!("{} to {}", instant(start), instant(end));
        found.push((false, "Windows: multiples of 300 s; windowEnd = start + 300 s always", detail));
    }
    if let Some(last) = session.bundles.last() {
        let last_time = |name: &str| last.object.str(name).and_then(parse_instant).unwrap_or(0);
        if start <= last_time("windowStart") {
            found.push((
                false,
                "Never two bundles of one window",
                format!("after {}", instant(last_time("windowStart"))),
            ));
        }
        if last.received < last_time("windowEnd") - 60_000 {
            found.push((
                false,
                "At closing the current window is sealed at once",
                "a bundle follows the last one".to_owned(),
            ));
        }
    }
    found.extend(check_state(bundle, session, now));
    // At closing the window is sealed early; lateness counts from the later of the two only if it is past.
    let late = now - end;
    if late > LATE_MS && !forgiving {
        found.push((false, "Posted within 30 s", format!("{late} ms after the window's end")));
    }
    found.extend(check_figures(bundle));
    found
}

fn check_state(bundle: &Json, session: &Session, now: i64) -> Found {
    let mut found = Found::new();
    let start = bundle.str("windowStart").and_then(parse_instant).unwrap_or(0);
    if !["accepted", "active", "closing"].contains(&session.state.as_str()) {
        let detail = format!("the session is {}", session.state);
        found.push((false, "settled comes after every bundle was answered", detail));
    }
    let from = session.time("issuedAt").unwrap_or(now) - 60_000;
    if start + WINDOW_MS < from || start > now + 60_000 {
        found.push((
            false,
            "Windows: multiples of 300 s of Unix time",
            format!("{} is not the session's", instant(start)),
        ));
    }
    let empty = ["bytesIngress", "bytesEgress", "connections", "rejected"]
        .iter()
        .all(|name| bundle.int(name) == Some(0));
    let errors = bundle.member("errorRatePct") != Some(&Json::Number(0.0));
    // A flow whose last byte passed in the window before may have ended in this one: its line is here.
    let lines = bundle.str("accessLogHash") != Some(&blake3::name(b""));
    if empty && !errors && !lines && !session.bundles.is_empty() {
        found.push((false, "empty windows are skipped", "all figures are zero".to_owned()));
    }
    found
}

fn check_figures(bundle: &Json) -> Found {
    let mut found = Found::new();
    if bundle.int("latencyMsP50") > bundle.int("latencyMsP95") {
        found.push((
            false,
            "latencyMsP50 ≤ latencyMsP95 by nearest rank",
            "the median is the greater".to_owned(),
        ));
    }
    if let Some(Json::Number(rate)) = bundle.member("errorRatePct") {
        let tenths = rate * 10.0;
        if !(0.0..=100.0).contains(rate) || (tenths - tenths.round()).abs() > 1e-9 {
            found.push((false, "errorRatePct has one decimal", format!("{rate}")));
        }
    }
    found
}

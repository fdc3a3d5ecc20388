//! A node played by the tests against the coordinator, without sockets.
use super::*;
use crate::lab::blake3;
use crate::lab::httpsig::sign;
use crate::lab::json::parse;
use crate::lab::keys::{self, Key};
use crate::lab::text::base64;

const NOW: i64 = 1_766_152_800_000;
const AUTHORITY: &str = "coordinator.lab.test:8443";

struct Lab {
    core: Coordinator,
    node: Key,
    endpoint: Key,
    now: i64,
}

impl Lab {
    fn new() -> Lab {
        let mut core = Coordinator::new(Key::from_seed([1; 32]));
        let endpoint = Key::from_seed([3; 32]);
        core.authorities = vec![AUTHORITY.to_owned()];
        core.endpoint_public = endpoint.public();
        Lab { core, node: Key::from_seed([2; 32]), endpoint, now: NOW }
    }

    fn registered() -> Lab {
        let mut lab = Lab::new();
        assert_eq!(lab.post("/nodes/register", &lab.register()).0, 200);
        lab
    }

    fn register(&self) -> Json {
        let body = format!(
            r#"{{"nodeId":"{}","version":"0.1.0","platform":"test","regions":["LAB-1"],
            "transports":[{{"kind":"relay","port":7443}}],"caps":{{"maxMbps":10,"maxGBPerDay":20,"maxConnections":100}},
            "tls":{{"spki":"sha256//{}"}}}}"#,
            self.node.node_id(),
            base64(&[5; 32])
        );
        parse(body.as_bytes()).unwrap()
    }

    fn call(&self, method: &str, path: &str, query: &str, body: &[u8]) -> Call {
        let message = httpsig::Message { method, authority: AUTHORITY, path, query, headers: &[], body };
        let mut headers: Vec<(String, String)> =
            sign(&self.node, &message, self.now / 1000, &base64(&keys::random::<16>())).to_vec();
        headers.push(("host".to_owned(), AUTHORITY.to_owned()));
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
        Call { method, path, query, headers, body: body.to_vec(), http11: true }
    }

    fn send(&mut self, call: &Call) -> (u16, Json) {
        match self.core.receive(call, self.now) {
            Outcome::Reply(reply) => (reply.status, reply.body.unwrap_or(Json::Null)),
            Outcome::Wait(poll, ..) => {
                let reply = self.core.poll(&poll, self.now, true).unwrap();
                (reply.status, reply.body.unwrap_or(Json::Null))
            }
            Outcome::Drop => (0, Json::Null),
        }
    }

    fn post(&mut self, path: &str, body: &Json) -> (u16, Json) {
        let call = self.call("POST", path, "", json::canonical(body).as_bytes());
        self.send(&call)
    }

    fn step(&mut self, session: &str, transition: &str, extra: &str) -> u16 {
        let at = instant(self.now);
        let body = format!(r#"{{"sessionId":"{session}","transition":"{transition}","at":"{at}"{extra}}}"#);
        self.post("/sessions/control", &parse(body.as_bytes()).unwrap()).0
    }

    fn open(&mut self, ask: &str) -> String {
        let opened = self.core.open(&parse(ask.as_bytes()).unwrap(), self.now).unwrap();
        opened.str("sessionId").unwrap().to_owned()
    }

    fn active(&mut self) -> String {
        let id = self.open("{}");
        assert_eq!(
            self.step(&id, "accepted", r#","limits":{"maxMbps":10,"maxGBPerDay":20,"maxConnections":100}"#),
            200
        );
        assert_eq!(self.step(&id, "active", ""), 200);
        id
    }

    fn bundle(&self, session: &str, seq: u64, prev: &str, start: i64) -> Json {
        let body = format!(
            r#"{{"nodeId":"{}","sessionId":"{session}","windowStart":"{}","windowEnd":"{}","bytesIngress":1000,
            "bytesEgress":200,"latencyMsP50":10,"latencyMsP95":20,"errorRatePct":0.5,"accessLogHash":"{}","seq":{seq},
            "prevHash":"{prev}","connections":2,"rejected":1,"path":"relay"}}"#,
            self.node.node_id(),
            instant(start),
            instant(start + 300_000),
            blake3::name(b""),
        );
        let mut bundle = parse(body.as_bytes()).unwrap();
        self.node.sign_object("metering", &mut bundle, "nodeSig");
        bundle
    }

    fn attest(&mut self, bundle: &Json) -> String {
        let body = object([("bundles", Json::Array(vec![bundle.clone()]))]);
        let (status, reply) = self.post("/attest/metering", &body);
        assert_eq!(status, 200);
        reply.list("results")[0].str("status").unwrap().to_owned()
    }

    fn rules(&self) -> Vec<&'static str> {
        self.core.breaches.iter().map(|breach| breach.rule).collect()
    }
}

fn hash(bundle: &Json) -> String {
    blake3::name(&keys::signed_bytes("metering", bundle, "nodeSig"))
}

fn zeros() -> String {
    format!("b3:{}", "0".repeat(64))
}

fn settle(lab: &mut Lab, id: &str, totals: &str) {
    lab.core.close(&parse(format!(r#"{{"sessionId":"{id}"}}"#).as_bytes()).unwrap(), lab.now).unwrap();
    assert_eq!(lab.step(id, "closing", r#","reason":"buyer-ended""#), 200);
    assert_eq!(lab.step(id, "settled", totals), 200);
}

#[test]
fn a_faultless_session_has_a_good_verdict() {
    let mut lab = Lab::registered();
    let id = lab.active();
    let first = lab.bundle(&id, 0, &zeros(), NOW);
    lab.now += 301_000;
    assert_eq!(lab.attest(&first), "accepted");
    assert_eq!(lab.attest(&first), "duplicate");
    let second = lab.bundle(&id, 1, &hash(&first), NOW + 300_000);
    assert_eq!(lab.attest(&second), "accepted");
    let totals = format!(
        r#","totals":{{"bytesIngress":2000,"bytesEgress":400,"connections":4,"rejected":2,"bundles":2,"lastHash":"{}"}}"#,
        hash(&second)
    );
    settle(&mut lab, &id, &totals);
    assert_eq!(lab.rules(), [""; 0]);
    let verdict = lab.core.verdict(None, lab.now);
    assert_eq!(verdict.member("ok"), Some(&Json::Boolean(true)), "{}", json::canonical(&verdict));
}

#[test]
fn totals_that_differ_from_the_bundles_are_a_breach() {
    let mut lab = Lab::registered();
    let id = lab.active();
    let first = lab.bundle(&id, 0, &zeros(), NOW);
    lab.attest(&first);
    let totals = format!(
        r#","totals":{{"bytesIngress":1001,"bytesEgress":200,"connections":2,"rejected":1,"bundles":1,"lastHash":"{}"}}"#,
        hash(&first)
    );
    settle(&mut lab, &id, &totals);
    assert_eq!(lab.rules(), ["the sum of bundles equals totals"]);
    assert_eq!(lab.core.verdict(Some(&id), lab.now).member("ok"), Some(&Json::Boolean(false)));
}

#[test]
fn each_flaw_of_a_bundle_is_named() {
    type Flaw = (&'static str, &'static str, fn(&mut Json));
    let flaws: [Flaw; 6] = [
        ("seq from 0 without gaps", "refused", |b| b.set("seq", number(1))),
        ("prevHash = BLAKE3 of exactly the signed bytes of the previous bundle", "refused", |b| {
            b.set("prevHash", text(format!("b3:{}", "1".repeat(64))));
        }),
        ("Windows: multiples of 300 s; windowEnd = start + 300 s always", "accepted", |b| {
            b.set("windowEnd", text(instant(NOW + 299_000)));
        }),
        ("errorRatePct has one decimal", "accepted", |b| b.set("errorRatePct", 0.55.into())),
        ("latencyMsP50 ≤ latencyMsP95 by nearest rank", "accepted", |b| b.set("latencyMsP50", number(21))),
        ("Metering bundle: members", "refused", |b| b.set("rejected", Json::Null)),
    ];
    for (rule, status, flaw) in flaws {
        let mut lab = Lab::registered();
        let id = lab.active();
        let mut bundle = lab.bundle(&id, 0, &zeros(), NOW);
        flaw(&mut bundle);
        lab.node.sign_object("metering", &mut bundle, "nodeSig");
        assert_eq!(lab.attest(&bundle), status, "{rule}");
        assert_eq!(lab.rules().first(), Some(&rule));
    }
}

#[test]
fn a_bundle_posted_late_or_signed_by_another_is_a_breach() {
    let mut lab = Lab::registered();
    let id = lab.active();
    let mut bundle = lab.bundle(&id, 0, &zeros(), NOW);
    lab.now += 300_000 + 33_000;
    lab.attest(&bundle);
    assert_eq!(lab.rules(), ["Posted within 30 s"]);
    Key::from_seed([8; 32]).sign_object("metering", &mut bundle, "nodeSig");
    assert_eq!(lab.attest(&bundle), "refused");
    assert_eq!(lab.rules()[1], "Bundles are signed by the node, of sessions it was given");
}

#[test]
fn nothing_works_before_register() {
    let mut lab = Lab::new();
    let (status, body) = lab.post("/nodes/heartbeat", &object([]));
    assert_eq!((status, body.str("type")), (403, Some("node-unknown")));
}

#[test]
fn stale_and_reused_signatures_are_told_the_time() {
    let mut lab = Lab::registered();
    let call = lab.call("GET", "/sessions/control", "cursor=&waitMs=0", b"");
    assert_eq!(lab.send(&call).0, 200);
    let (status, body) = lab.send(&call);
    assert_eq!((status, body.str("type")), (401, Some("nonce-reused")));
    let call = lab.call("GET", "/sessions/control", "cursor=&waitMs=0", b"");
    lab.now += 62_000;
    let (status, body) = lab.send(&call);
    assert_eq!((status, body.str("type")), (401, Some("signature-stale")));
    assert_eq!(body.str("serverTime"), Some(instant(lab.now).as_str()));
    assert_eq!(lab.rules(), ["The coordinator takes each nonce once"], "staleness alone is no breach");
}

#[test]
fn the_cursor_acknowledges_and_an_unknown_one_is_gone() {
    let mut lab = Lab::registered();
    let id = lab.open("{}");
    let poll = |lab: &mut Lab, cursor: &str| {
        let call = lab.call("GET", "/sessions/control", &format!("cursor={cursor}&waitMs=0"), b"");
        lab.send(&call)
    };
    let (_, body) = poll(&mut lab, "");
    let signals = body.list("signals");
    assert_eq!(signals[0].member("body").unwrap().str("sessionId"), Some(id.as_str()));
    let cursor = body.str("cursor").unwrap().to_owned();
    let (_, body) = poll(&mut lab, &cursor);
    assert!(body.list("signals").is_empty());
    assert_eq!(body.str("cursor"), Some(cursor.as_str()));
    assert_eq!(lab.core.nodes.values().next().unwrap().acknowledged, 1);
    assert_eq!(poll(&mut lab, "nonsense").0, 410);
    assert_eq!(lab.rules(), ["Cursors are opaque"]);
    assert_eq!(poll(&mut lab, "").1.list("signals").len(), 1, "an empty cursor is the beginning");
    assert_eq!(lab.core.nodes.values().next().unwrap().acknowledged, 0);
}

#[test]
fn accepting_what_must_be_refused_is_a_breach() {
    for (ask, reason) in [
        (r#"{"badSignature":true}"#, "bad-signature"),
        (r#"{"overrides":{"nodeId":"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}"#, "wrong-node"),
        (r#"{"overrides":{"issuedAt":"2025-12-19T13:00:00Z"}}"#, "stale"),
        (r#"{"durationS":0}"#, "malformed"),
        (r#"{"notBeforeS":120}"#, "not-yet-valid"),
        (r#"{"notBeforeS":-100,"durationS":50}"#, "expired"),
        (r#"{"overrides":{"regions":["ELSEWHERE"]}}"#, "region-denied"),
        (r#"{"overrides":{"category":"scraping"}}"#, "category-denied"),
        (r#"{"policyProfile":{"allowedPorts":[443,8080]}}"#, "port-denied"),
        (r#"{"policyProfile":{"transports":[]}}"#, "transport-unsupported"),
    ] {
        let mut lab = Lab::registered();
        let id = lab.open(ask);
        lab.step(&id, "refused", &format!(r#","reason":"{reason}""#));
        assert_eq!(lab.rules(), [""; 0], "{reason}");
        let mut lab = Lab::registered();
        let id = lab.open(ask);
        lab.step(&id, "accepted", r#","limits":{"maxMbps":10,"maxGBPerDay":20,"maxConnections":100}"#);
        assert_eq!(lab.rules(), ["Refusal of an open, the first that applies"], "{reason}");
    }
}

#[test]
fn a_second_different_open_is_refused_and_the_first_goes_on() {
    let mut lab = Lab::registered();
    let id = lab.active();
    lab.open(&format!(r#"{{"sessionId":"{id}","durationS":7}}"#));
    assert_eq!(lab.step(&id, "refused", r#","reason":"duplicate-session""#), 200);
    assert_eq!(lab.rules(), [""; 0]);
    assert_eq!(lab.core.sessions[&id].state, "active");
}

#[test]
fn transitions_out_of_order_are_refused() {
    let mut lab = Lab::registered();
    let id = lab.open("{}");
    assert_eq!(lab.step(&id, "active", ""), 409);
    assert_eq!(lab.step("11111111-1111-4111-8111-111111111111", "active", ""), 404);
    assert_eq!(lab.rules(), ["accepted, active, closing, settled", "Signals open sessions"]);
}

#[test]
fn limits_above_the_coordinators_are_a_breach() {
    let mut lab = Lab::registered();
    let id = lab.open(r#"{"limits":{"maxMbps":2}}"#);
    lab.step(&id, "accepted", r#","limits":{"maxMbps":3,"maxGBPerDay":20,"maxConnections":100}"#);
    assert_eq!(lab.rules(), ["each effective limit is the lower of owner's and coordinator's"]);
}

#[test]
fn a_probe_is_judged_by_the_endpoints_signature() {
    let mut lab = Lab::registered();
    let id = lab.active();
    lab.core.probe(&parse(br#"{"followUps":1}"#).unwrap(), lab.now).unwrap();
    let call = lab.call("GET", "/probes/request", "waitMs=0", b"");
    let (status, request) = lab.send(&call);
    assert_eq!(status, 200);
    let mut trailer = object([
        ("nonce", request.member("nonce").unwrap().clone()),
        ("size", request.member("size").unwrap().clone()),
        ("contentHash", text(blake3::name(b"content"))),
        ("serverTime", text(instant(lab.now))),
    ]);
    lab.endpoint.sign_object("probe-content", &mut trailer, "endpointSig");
    let mut report = trailer.clone();
    report.set("size", Json::Null);
    for (name, value) in [("bytes", 1 << 20), ("durationMs", 9), ("rttMs", 1), ("tlsMs", 2)] {
        report.set(name, number(value));
    }
    report.set("sessionId", text(id));
    report.set("nodeId", text(lab.node.node_id()));
    lab.node.sign_object("probe-report", &mut report, "nodeSig");
    let (status, reply) = lab.post("/probes/report", &report);
    assert_eq!((status, reply.member("ack")), (200, Some(&Json::Boolean(true))));
    assert!(reply.member("probe").is_some(), "the follow-up comes with the answer");
    assert_eq!(lab.rules(), [""; 0]);
    report.set("bytes", number(5));
    lab.node.sign_object("probe-report", &mut report, "nodeSig");
    lab.post("/probes/report", &report);
    assert_eq!(lab.rules(), ["a nonce is answered once"]);
}

#[test]
fn faults_strike_as_often_as_ordered() {
    let mut lab = Lab::registered();
    let order =
        |lab: &mut Lab, fault: &str| lab.core.faults.order(&parse(fault.as_bytes()).unwrap(), NOW).unwrap();
    order(&mut lab, r#"{"kind":"status","status":503,"retryAfter":2,"path":"/sessions/control","times":1}"#);
    order(&mut lab, r#"{"kind":"drop"}"#);
    let call = |lab: &Lab| lab.call("GET", "/sessions/control", "cursor=&waitMs=0", b"");
    let request = call(&lab);
    assert_eq!(lab.send(&request).0, 0);
    let request = call(&lab);
    assert_eq!(lab.send(&request).0, 503);
    let request = call(&lab);
    assert_eq!(lab.send(&request).0, 200);
    assert_eq!(lab.rules(), ["Retry-After obeyed"]);
    order(&mut lab, r#"{"kind":"clock","offsetMs":3600000}"#);
    assert_eq!(lab.core.now(0), 3_600_000);
    let unknown = parse(br#"{"kind":"meteor"}"#).unwrap();
    assert!(lab.core.faults.order(&unknown, NOW).unwrap_err().contains("no fault"));
}

#[test]
fn an_access_log_is_compared_by_window() {
    let mut lab = Lab::registered();
    let id = lab.active();
    let line = format!("{{\"t\":\"{}\",\"sessionId\":\"{id}\"}}\n", instant(NOW + 5000));
    let mut bundle = lab.bundle(&id, 0, &zeros(), NOW);
    bundle.set("accessLogHash", text(blake3::name(line.as_bytes())));
    lab.node.sign_object("metering", &mut bundle, "nodeSig");
    assert_eq!(lab.attest(&bundle), "accepted");
    assert_eq!(lab.core.check_access_log(&line).member("ok"), Some(&Json::Boolean(true)));
    assert_eq!(lab.core.check_access_log("").member("ok"), Some(&Json::Boolean(false)));
}

#[test]
fn a_forgotten_node_is_told_so_and_still_has_its_signals() {
    let mut lab = Lab::registered();
    let id = lab.node.node_id();
    lab.core.forget_node(&id);
    lab.open("{}");
    let call = lab.call("GET", "/sessions/control", "cursor=&waitMs=0", b"");
    let (status, body) = lab.send(&call);
    assert_eq!((status, body.str("type")), (403, Some("node-unknown")));
    assert_eq!(lab.post("/nodes/register", &lab.register()).0, 200);
    let call = lab.call("GET", "/sessions/control", "cursor=&waitMs=0", b"");
    assert_eq!(lab.send(&call).1.list("signals").len(), 1);
    assert_eq!(lab.rules(), [""; 0]);
}

#[test]
fn an_instant_far_from_the_coordinators_clock_is_a_breach() {
    let mut lab = Lab::registered();
    let id = lab.open("{}");
    let early = lab.now - 200_000;
    let body = format!(
        r#"{{"sessionId":"{id}","transition":"refused","at":"{}","reason":"paused"}}"#,
        instant(early)
    );
    lab.post("/sessions/control", &parse(body.as_bytes()).unwrap());
    assert_eq!(lab.rules(), ["This corrected clock cuts windows and fills every instant"]);
}

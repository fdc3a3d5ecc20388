//! What the coordinator and the endpoint send, judged: the good examples are taken, and every bad one is refused for the
//! reason in its name (`tests/golden/README.md`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]
use echomesh::coordinator::orders::{
    Judgement, OpenContext, OrderContext, fingerprint, judge_close, judge_open, judge_policy,
};
use echomesh::coordinator::wire::{self, ProbeHost};
use echomesh::json::{self, Value};
use echomesh::probe::plan::{self, Challenge, Measured, ProbeContext};
use echomesh::signed::PublicKey;
use echomesh::time::Unix;
use std::fs;

const SESSION: &str = "c2b9f8c8-5b1e-4d0a-9a53-0d6a3f1e7b11";

fn bytes(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn value(name: &str) -> Value {
    json::parse(&bytes(name)).unwrap()
}

fn text<'a>(of: &'a Value, member: &str) -> &'a str {
    of.member(member).and_then(Value::as_str).unwrap_or_default()
}

fn instant(text: &str) -> Unix {
    Unix::parse(text).unwrap()
}

fn key(name: &str) -> PublicKey {
    PublicKey::parse(text(value("keys.json").member(name).unwrap(), "publicKey")).unwrap()
}

/// The bad examples of a kind of message: (file, reason, what the index says of it).
fn bad(of: &str) -> Vec<(String, String, Value)> {
    let index = value("index.json");
    let rows = index.member("bad").and_then(Value::as_array).unwrap();
    let rows: Vec<_> = rows.iter().filter(|r| text(r, "of") == of).cloned().collect();
    assert!(rows.len() >= 5, "no bad examples of {of}");
    rows.into_iter().map(|r| (text(&r, "file").to_owned(), text(&r, "reason").to_owned(), r)).collect()
}

/// A reason of the index is the slug and, behind it, words that tell examples apart.
fn is(reason: &str, slug: &str) -> bool {
    reason.strip_prefix(slug).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn open(object: &Value, now: Unix, known: &dyn Fn(&str) -> Option<String>) -> Judgement {
    let (node, coordinator) = (key("node").node_id(), key("coordinator"));
    let context = OpenContext {
        node_id: &node,
        coordinator: &coordinator,
        now,
        known,
        region_allow: &["PH-Mindanao".to_owned(), "PH-NCR".to_owned()],
        observed_region: Some("PH-NCR"),
        category_opt_out: &[],
        extra_ports: &[],
        transports: &["relay"],
        paused: false,
        outside_schedule: false,
        quarantined: false,
        guard_down: false,
        has_capacity: true,
    };
    judge_open(object, &context)
}

#[test]
fn the_good_open_is_accepted_and_its_repeat_ignored() {
    let (good, now) = (value("signal-open.json"), instant(text(&value("index.json"), "now")));
    assert!(matches!(open(&good, now, &|_| None), Judgement::Accept(_)));
    let known = fingerprint(&good);
    assert!(matches!(open(&good, now, &|_| Some(known.clone())), Judgement::Ignore));
    assert!(matches!(open(&good, Unix(now.0 + 86_400), &|_| Some(known.clone())), Judgement::Ignore));
}

#[test]
fn every_bad_open_is_refused_for_the_reason_in_its_name() {
    let first = fingerprint(&value("signal-open.json"));
    for (file, reason, row) in bad("signal-open") {
        let known = |id: &str| (text(&row, "knownSession") == id).then(|| first.clone());
        match open(&value(&file), instant(text(&row, "now")), &known) {
            Judgement::Refuse { reason: found, .. } => {
                assert!(is(&reason, found.slug()), "{file}: {}", found.slug())
            }
            other => panic!("{file}: {other:?}"),
        }
    }
}

#[test]
fn close_and_policy_are_taken_from_the_coordinator_alone() {
    let (node, now) = (key("node").node_id(), instant("2026-01-15T12:16:01Z"));
    for (signer, taken) in [("coordinator", true), ("oldNode", false)] {
        let public = key(signer);
        let context = OrderContext { node_id: &node, coordinator: &public, now };
        assert_eq!(judge_close(&value("signal-close.json"), &context, &|_| None).is_ok(), taken);
        assert_eq!(judge_policy(&value("signal-policy.json"), &context, &|_| None).is_ok(), taken);
    }
}

fn probe(object: &Value, now: Unix, allow_plain: bool) -> Result<Challenge, plan::NoAnswer> {
    let (node, coordinator) = (key("node").node_id(), key("coordinator"));
    let host = |name: &str| ProbeHost { host: name.to_owned(), public_key: key("endpoint"), position: None };
    let context = ProbeContext {
        node_id: &node,
        coordinator: &coordinator,
        now,
        approved: &[host("probe.example.net")],
        allow_plain,
        extra_ports: &[],
        answered: &|_| false,
        active: &|id| id == SESSION,
    };
    plan::judge(object, &context)
}

#[test]
fn every_bad_probe_request_is_refused_for_the_reason_in_its_name() {
    assert!(
        probe(&value("probe-request.json"), instant("2026-01-15T12:06:01Z"), false).unwrap().plan.is_ok()
    );
    for (file, reason, row) in bad("probe-request") {
        let plain = row.member("allowPlainHttpProbes").and_then(Value::as_bool).unwrap_or(true);
        match probe(&value(&file), instant(text(&row, "now")), plain) {
            Err(_) => assert!(is(&reason, "no-answer"), "{file} got no answer"),
            Ok(challenge) => {
                let slug = challenge.plan.expect_err(&file).slug();
                assert!(is(&reason, slug), "{file}: {slug}");
            }
        }
    }
}

#[test]
fn a_nonce_that_was_answered_is_not_answered_again() {
    let (node, coordinator) = (key("node").node_id(), key("coordinator"));
    let context = ProbeContext {
        node_id: &node,
        coordinator: &coordinator,
        now: instant("2026-01-15T12:06:01Z"),
        approved: &[ProbeHost {
            host: "probe.example.net".to_owned(),
            public_key: key("endpoint"),
            position: None,
        }],
        allow_plain: false,
        extra_ports: &[],
        answered: &|_| true,
        active: &|_| true,
    };
    let challenge = plan::judge(&value("probe-request.json"), &context).unwrap();
    assert_eq!(challenge.plan.unwrap_err().slug(), "nonce-reused");
}

#[test]
fn the_trailer_of_the_endpoint_is_believed_and_every_bad_one_is_not() {
    let content: Vec<u8> = (0..1_048_576_usize).map(|i| (i % 251) as u8).collect();
    let plan =
        probe(&value("probe-request.json"), instant("2026-01-15T12:06:01Z"), false).unwrap().plan.unwrap();
    let measured = |file: &str| Measured {
        duration_ms: 412,
        rtt_ms: 23,
        tls_ms: 51,
        hash: blake3::hash(&content),
        trailer: bytes(file),
    };
    let good = measured("probe-trailer.json");
    let trailer = plan::trailer(&plan, &good).unwrap();
    let seed = std::array::from_fn(|i| i as u8);
    let node = echomesh::signed::NodeKey::from_seed(&seed).unwrap();
    assert_eq!(
        plan::report(&plan, &good, &trailer, &node).canonical(),
        value("probe-report.json").canonical()
    );
    for (file, reason, _) in bad("probe-trailer") {
        let slug = plan::trailer(&plan, &measured(&file)).unwrap_err().slug();
        assert!(is(&reason, slug), "{file}: {slug}");
    }
}

#[test]
fn the_coordinators_answers_are_read() {
    assert!(wire::registered(&bytes("register-answer.json")).is_ok());
    assert!(wire::heartbeat_answer(&bytes("heartbeat-answer.json")).is_ok());
    assert!(wire::signals(&bytes("control-answer.json")).is_ok());
    assert!(wire::signals(&bytes("control-answer-empty.json")).is_ok());
    assert!(wire::metering_answer(&bytes("metering-answer.json")).is_ok());
    assert!(wire::report_answer(&bytes("probe-ack.json")).is_ok());
    assert!(wire::report_answer(&bytes("probe-ack-follow-up.json")).is_ok());
    assert!(wire::probe_request(&bytes("probe-request.json")).is_ok());
    assert_eq!(wire::problem(&bytes("problem-signature-stale.json")).slug, "signature-stale");
}

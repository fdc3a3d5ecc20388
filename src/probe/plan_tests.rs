use super::*;
use proptest::prelude::*;

const NOW: Unix = Unix(1_767_323_045);

fn key(n: u8) -> NodeKey {
    NodeKey::from_seed(&[n; 32]).unwrap()
}

fn request() -> Value {
    object([
        ("sessionId", "s".into()),
        ("nodeId", key(1).node_id().into()),
        ("issuedAt", NOW.to_string().into()),
        ("endpoint", "https://Probe.example:443/a/b".into()),
        ("size", (1u64 << 20).into()),
        ("nonce", "n+/=".into()),
        ("ttl", 30.into()),
    ])
}

fn judged(mut value: Value, plain: bool, used: bool, active: bool) -> Result<Challenge, NoAnswer> {
    sign(Kind::ProbeRequest, &mut value, &key(2));
    let approved = [ProbeHost { host: "probe.example".into(), public_key: key(3).public(), position: None }];
    let context = ProbeContext {
        node_id: &key(1).node_id(),
        coordinator: &key(2).public(),
        now: NOW,
        approved: &approved,
        allow_plain: plain,
        extra_ports: &[],
        answered: &|_| used,
        active: &|_| active,
    };
    judge(&value, &context)
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut r = request();
    r.set(name, value);
    r
}

fn outcome(value: Value) -> Result<Plan, ProbeRefusal> {
    judged(value, false, false, true).unwrap().plan
}

#[test]
fn a_good_request_becomes_a_get_with_nonce_and_size() {
    let plan = outcome(request()).unwrap();
    assert_eq!(plan.url.to_string(), "https://probe.example/a/b?nonce=n%2B%2F%3D&size=1048576");
    assert_eq!((plan.size, plan.deadline), (1 << 20, Unix(NOW.0 + 30)));
}

#[test]
fn every_refusal_has_its_cause_and_its_place() {
    use ProbeRefusal::*;
    let at = |s: i64| Unix(NOW.0 + s).to_string();
    for (value, refusal) in [
        (with("nodeId", "ed25519:x"), WrongNode),
        (with("issuedAt", at(61)), Stale),
        (with("issuedAt", at(-601)), Stale),
        (with("endpoint", "https://other.example/"), EndpointDenied),
        (with("endpoint", "https://a.probe.example/"), EndpointDenied),
        (with("endpoint", "https://probe.example:8443/"), EndpointDenied),
        (with("endpoint", "https://u@probe.example/"), EndpointDenied),
        (with("endpoint", "https://probe.example/?q"), EndpointDenied),
        (with("endpoint", "https://probe.example/#f"), EndpointDenied),
        (with("endpoint", "http://probe.example/"), EndpointDenied),
        (with("ttl", 0), Expired),
        (with("ttl", 301), Expired),
        (with("issuedAt", at(-30)), Expired),
        (with("size", (1u64 << 20) - 1), SizeDenied),
        (with("size", (64u64 << 20) + 1), SizeDenied),
    ] {
        assert_eq!(outcome(value.clone()), Err(refusal), "{}", value.canonical());
    }
    assert!(outcome(with("size", 64u64 << 20)).is_ok());
    assert_eq!(judged(with("size", 1), false, true, false).unwrap().plan, Err(NonceReused));
    assert_eq!(judged(with("size", 1), false, false, false).unwrap().plan, Err(SessionUnknown));
    assert!(judged(with("endpoint", "http://probe.example/"), true, false, true).unwrap().plan.is_ok());
    let odd_port = with("endpoint", "http://probe.example:443/");
    assert_eq!(judged(odd_port, true, false, true).unwrap().plan, Err(EndpointDenied));
}

#[test]
fn what_cannot_be_answered_is_no_challenge() {
    let mut forged = request();
    sign(Kind::ProbeRequest, &mut forged, &key(9));
    let unsigned = judged(request(), false, false, true);
    assert!(unsigned.is_ok());
    assert_eq!(judged(with("nonce", ""), false, false, true), Err(NoAnswer::Nonce));
    assert!(judged(with("nonce", "x".repeat(MAX_NONCE + 1)), false, false, true).is_err());
    assert!(judged(with("nonce", "x".repeat(MAX_NONCE)), false, false, true).is_ok());
    assert_eq!(judged(with("sessionId", 4), false, false, true), Err(NoAnswer::Session));
    let context = ProbeContext {
        node_id: "",
        coordinator: &key(2).public(),
        now: NOW,
        approved: &[],
        allow_plain: false,
        extra_ports: &[],
        answered: &|_| false,
        active: &|_| true,
    };
    assert_eq!(judge(&forged, &context), Err(NoAnswer::Forged));
}

fn fetched(change: impl Fn(&mut Value)) -> (Plan, Measured) {
    let plan = outcome(request()).unwrap();
    let hash = blake3::hash(b"content");
    let mut value = endpoint_trailer(&plan.nonce, plan.size, &hash, NOW, &key(3));
    change(&mut value);
    let trailer = value.canonical().into_bytes();
    (plan, Measured { duration_ms: 3, rtt_ms: 1, tls_ms: 2, hash, trailer })
}

#[test]
fn a_trailer_must_fit_the_request_the_content_and_the_key() {
    let (plan, good) = fetched(|_| {});
    assert!(trailer(&plan, &good).is_ok());
    let resigned = |name: &'static str, to: &'static str| {
        fetched(move |v| {
            v.set(name, to);
            v.remove("endpointSig");
            sign(Kind::ProbeContent, v, &key(3));
        })
    };
    let size = |to: i64| {
        fetched(move |v| {
            v.set("size", to);
            v.remove("endpointSig");
            sign(Kind::ProbeContent, v, &key(3));
        })
    };
    let unsigned = fetched(|v| v.set("serverTime", "2026-01-02T03:04:06Z"));
    let other_key = fetched(|v| {
        sign(Kind::ProbeContent, v, &key(4));
    });
    let cases = [
        resigned("nonce", "other"),
        resigned("size", "1048576"),
        resigned("contentHash", "b3:00"),
        resigned("serverTime", "now"),
        size(1_048_577),
        size(-1_048_576),
        unsigned,
        other_key,
    ];
    for (plan, bad) in cases {
        let text = String::from_utf8(bad.trailer.clone()).unwrap();
        assert_eq!(trailer(&plan, &bad), Err(ProbeRefusal::EndpointUntrusted), "{text}");
    }
    let padded = Measured { trailer: [good.trailer.clone(), vec![b' '; MAX_TRAILER]].concat(), ..good };
    assert_eq!(trailer(&plan, &padded), Err(ProbeRefusal::EndpointUntrusted));
}

#[test]
fn a_report_carries_the_measure_and_the_endpoints_word_signed() {
    let (plan, measured) = fetched(|_| {});
    let trailer = trailer(&plan, &measured).unwrap();
    let report = report(&plan, &measured, &trailer, &key(1));
    assert!(verify(Kind::ProbeReport, &report, &key(1).public()));
    for (name, value) in [("bytes", 1 << 20), ("durationMs", 3), ("rttMs", 1), ("tlsMs", 2)] {
        assert_eq!(report.member(name).and_then(Value::as_int), Some(value), "{name}");
    }
    let no = refusal("s", "n", ProbeRefusal::Expired, &key(1));
    assert!(verify(Kind::ProbeReport, &no, &key(1).public()));
    assert_eq!(no.member("refused"), Some(&Value::from("expired")));
}

proptest! {
    #[test]
    fn no_trailer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let (plan, measured) = fetched(|_| {});
        let bad = Measured { trailer: bytes, ..measured };
        prop_assert_eq!(trailer(&plan, &bad), Err(ProbeRefusal::EndpointUntrusted));
    }
}

//! The daemon's primitives against the lab's: two implementations of one contract must say the same.
use crate::coordinator::orders::{Judgement, OpenContext, judge_open};
use crate::coordinator::signatures::sign_request;
use crate::json::Value;
use crate::lab::coordinator::Coordinator;
use crate::lab::json::{self, Json, Members, object, text};
use crate::lab::keys::{self, Key};
use crate::lab::{clock, httpsig};
use crate::signed::{Kind, NodeKey, PublicKey, sign, signed_bytes, verify};
use crate::time::Unix;
use proptest::prelude::*;

const NOW: i64 = 1_766_152_800;

fn any_json() -> impl Strategy<Value = Json> {
    let number = prop_oneof![
        (-(1i64 << 53) + 1..1i64 << 53).prop_map(|n| Json::Number(n as f64)),
        any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(Json::Number),
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Boolean),
        number,
        any::<String>().prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            proptest::collection::hash_map(any::<String>(), inner, 0..6).prop_map(Json::Object),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_forms_are_the_same(value in any_json()) {
        let ours = json::canonical(&value);
        let theirs = crate::json::parse(ours.as_bytes()).unwrap();
        prop_assert_eq!(theirs.canonical(), ours.clone());
        prop_assert_eq!(json::canonical(&json::parse(ours.as_bytes()).unwrap()), ours);
    }

    #[test]
    fn numbers_have_the_same_digits(bits in any::<u64>()) {
        let n = f64::from_bits(bits);
        prop_assume!(n.is_finite());
        prop_assert_eq!(json::canonical(&Json::Number(n)), Value::Float(n).canonical());
    }

    #[test]
    fn texts_that_both_parsers_take_mean_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..80) {
        let sample = br#"{"a":[1,-2.5e3,"x\u00e9\n",true,null],"b":{"a":""}}"#;
        let mut mixed = sample.to_vec();
        let at = cut.min(mixed.len());
        mixed.splice(at..(at + 1).min(mixed.len()), bytes.into_iter().take(1));
        if let (Ok(ours), Ok(theirs)) = (json::parse(&mixed), crate::json::parse(&mixed)) {
            prop_assert_eq!(json::canonical(&ours), theirs.canonical());
        }
    }

    #[test]
    fn hashes_of_any_length_are_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert_eq!(crate::lab::blake3::hash(&bytes), *blake3::hash(&bytes).as_bytes());
    }
}

#[test]
fn what_one_side_signs_the_other_verifies() {
    let seed = [4; 32];
    let (ours, theirs) = (Key::from_seed(seed), NodeKey::from_seed(&seed).unwrap());
    assert_eq!(ours.node_id(), theirs.node_id());
    let source = r#"{"text":"é€😀\u0001","list":[1,2.5,-0.1],"inner":{"b":1,"a":null}}"#;
    let mut thing = crate::json::parse(source.as_bytes()).unwrap();
    sign(Kind::Metering, &mut thing, &theirs);
    let received = json::parse(thing.canonical().as_bytes()).unwrap();
    assert!(keys::verify_object(&ours.public(), "metering", &received, "nodeSig"));
    assert_eq!(keys::signed_bytes("metering", &received, "nodeSig"), signed_bytes(Kind::Metering, &thing));
    let mut order = json::parse(source.as_bytes()).unwrap();
    ours.sign_object("policy", &mut order, "coordinatorSig");
    let received = crate::json::parse(json::canonical(&order).as_bytes()).unwrap();
    assert!(verify(Kind::Policy, &received, &PublicKey::parse(&ours.public()).unwrap()));
}

#[test]
fn a_request_the_daemon_signs_is_taken() {
    let node = NodeKey::from_seed(&[4; 32]).unwrap();
    for (url, authority, query) in [
        (
            "https://Coordinator.lab.test:443/sessions/control?cursor=a%2Fb&waitMs=5",
            "coordinator.lab.test",
            "cursor=a%2Fb&waitMs=5",
        ),
        ("https://coordinator.lab.test:8443/sessions/control", "coordinator.lab.test:8443", ""),
    ] {
        let url = crate::http::url::Url::parse(url).unwrap();
        let nonce = crate::lab::text::base64(&[1; 16]);
        let fields = sign_request("POST", &url, b"{}", Unix(NOW), &nonce, &node);
        let headers = fields.map(|(name, value)| (name.to_ascii_lowercase(), value));
        let message = httpsig::Message {
            method: "POST",
            authority,
            path: "/sessions/control",
            query,
            headers: &headers,
            body: b"{}",
        };
        let signed = httpsig::verify(&message).unwrap();
        assert_eq!((signed.created, signed.key_id), (NOW, node.node_id()));
    }
}

/// Orders the lab builds, judged by the daemon: the refusal is the one the lab expects.
#[test]
fn both_sides_name_the_same_first_refusal() {
    let node = NodeKey::from_seed(&[4; 32]).unwrap();
    for (ask, expected) in [
        ("{}", None),
        (r#"{"badSignature":true,"durationS":0}"#, Some("bad-signature")),
        (r#"{"overrides":{"nodeId":"someone"},"durationS":0}"#, Some("wrong-node")),
        (r#"{"overrides":{"nodeId":null}}"#, Some("wrong-node")),
        (r#"{"overrides":{"issuedAt":"2025-12-19T13:00:00Z"},"durationS":0}"#, Some("stale")),
        (r#"{"overrides":{"issuedAt":"2025-12-19T14:02:00Z"}}"#, Some("stale")),
        (r#"{"durationS":0}"#, Some("malformed")),
        (r#"{"overrides":{"tokenHash":"b3:00"}}"#, Some("malformed")),
        (r#"{"overrides":{"limits":null}}"#, Some("malformed")),
        (r#"{"policyProfile":{"ech":"maybe"}}"#, Some("malformed")),
        (r#"{"policyProfile":{"alpn":null}}"#, Some("malformed")),
        (r#"{"notBeforeS":120}"#, Some("not-yet-valid")),
        (r#"{"notBeforeS":-100,"durationS":50}"#, Some("expired")),
        (r#"{"overrides":{"regions":[]}}"#, Some("region-denied")),
        (r#"{"overrides":{"category":"scraping","regions":[]}}"#, Some("region-denied")),
        (r#"{"overrides":{"category":"scraping"}}"#, Some("category-denied")),
        (r#"{"policyProfile":{"allowedPorts":[80]}}"#, Some("port-denied")),
        (r#"{"policyProfile":{"transports":["lease"]}}"#, Some("transport-unsupported")),
        (r#"{"policyProfile":{"unknown":1},"overrides":{"unknown":{"x":[1]}}}"#, None),
    ] {
        let mut core = Coordinator::new(Key::from_seed([1; 32]));
        let known = core.nodes.entry(node.node_id()).or_default();
        known.registered = true;
        known.counts.0 = 1;
        known.register.0 = json::parse(br#"{"regions":["LAB-1"],"transports":[{"kind":"relay"}]}"#).unwrap();
        let opened = core.open(&json::parse(ask.as_bytes()).unwrap(), NOW * 1000).unwrap();
        assert_eq!(opened.str("expected"), expected, "the lab about {ask}");
        let order = crate::json::parse(json::canonical(opened.member("open").unwrap()).as_bytes()).unwrap();
        let judged =
            judge_open(&order, &context(&node.node_id(), &PublicKey::parse(&core.key.public()).unwrap()));
        let reason = match judged {
            Judgement::Refuse { reason, .. } => Some(reason.slug()),
            Judgement::Accept(_) => None,
            Judgement::Ignore => Some("ignored"),
        };
        assert_eq!(reason, expected, "the daemon about {ask}");
    }
}

fn context<'a>(node_id: &'a str, coordinator: &'a PublicKey) -> OpenContext<'a> {
    static REGIONS: std::sync::LazyLock<[String; 1]> = std::sync::LazyLock::new(|| ["LAB-1".to_owned()]);
    OpenContext {
        node_id,
        coordinator,
        now: Unix(NOW),
        known: &|_| None,
        region_allow: &*REGIONS,
        observed_region: None,
        category_opt_out: &[],
        extra_ports: &[],
        transports: &["relay"],
        paused: false,
        outside_schedule: false,
        quarantined: false,
        guard_down: false,
        has_capacity: true,
    }
}

#[test]
fn instants_are_read_alike() {
    for ask in
        ["2025-12-19T14:00:00Z", "2024-02-29T23:59:59Z", "2023-02-29T00:00:00Z", "2025-12-19T14:00:60Z", "x"]
    {
        let theirs = Unix::parse(ask).map(|at| at.0 * 1000);
        assert_eq!(clock::parse_instant(ask), theirs, "{ask}");
    }
    assert_eq!(
        object([("at", text(clock::instant(NOW * 1000)))]).str("at"),
        Some(Unix(NOW).to_string().as_str())
    );
}

use super::*;
use crate::json::{object, parse};
use crate::signed::{NodeKey, sign};
use proptest::prelude::*;

const ID: &str = "0b0f6c3e-3d1b-4c55-9a35-2f6a3f0f9c11";
const NOW: Unix = Unix(1_767_323_045);

fn coordinator() -> NodeKey {
    NodeKey::from_seed(&[1; 32]).unwrap()
}

fn signed(kind: Kind, mut value: Value) -> Value {
    sign(kind, &mut value, &coordinator());
    value
}

fn plain_profile() -> Value {
    let text = br#"{"name":"p","allowDomains":[],"blockDomains":["Bad.Example."],"allowedPorts":[443],
        "alpn":["h2","http/1.1"],"transports":["relay"],"ech":"outer"}"#;
    parse(text).unwrap()
}

fn an_open() -> Value {
    let text = |t: &str| Value::from(t);
    object([
        ("sessionId", text(ID)),
        ("nodeId", text("ed25519:me")),
        ("issuedAt", Unix(NOW.0 - 5).to_string().into()),
        ("notBefore", NOW.to_string().into()),
        ("expiresAt", Unix(NOW.0 + 3600).to_string().into()),
        ("tokenHash", format!("b3:{}", "a".repeat(64)).into()),
        ("buyer", text("acme")),
        ("category", text("qa")),
        ("regions", crate::json::array(["XX", "PH-NCR"])),
        ("policyProfile", plain_profile()),
        ("limits", parse(br#"{"maxMbps":5,"maxConnections":10}"#).unwrap()),
    ])
}

struct Node {
    known: Option<String>,
    regions: Vec<String>,
    observed: Option<String>,
    opt_out: Vec<String>,
    flags: [bool; 5],
    extra_ports: Vec<u16>,
    now: Unix,
}

impl Node {
    fn new() -> Node {
        Node {
            known: None,
            regions: vec!["PH-NCR".into(), "PH-Mindanao".into()],
            observed: None,
            opt_out: vec![],
            flags: [false, false, false, false, true],
            extra_ports: vec![],
            now: NOW,
        }
    }

    fn judge(&self, value: &Value) -> Judgement {
        let known = |_: &str| self.known.clone();
        let [paused, outside_schedule, quarantined, guard_down, has_capacity] = self.flags;
        judge_open(
            value,
            &OpenContext {
                node_id: "ed25519:me",
                coordinator: &coordinator().public(),
                now: self.now,
                known: &known,
                region_allow: &self.regions,
                observed_region: self.observed.as_deref(),
                category_opt_out: &self.opt_out,
                extra_ports: &self.extra_ports,
                transports: &["relay"],
                paused,
                outside_schedule,
                quarantined,
                guard_down,
                has_capacity,
            },
        )
    }

    fn refusal(&self, value: Value) -> Option<OpenRefusal> {
        match self.judge(&signed(Kind::SessionOpen, value)) {
            Judgement::Accept(_) => None,
            Judgement::Refuse { reason, .. } => Some(reason),
            Judgement::Ignore => panic!("ignored"),
        }
    }
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut open = an_open();
    open.set(name, value);
    open
}

fn in_profile(name: &str, value: Value) -> Value {
    let mut profile = plain_profile();
    profile.set(name, value);
    with("policyProfile", profile)
}

#[test]
fn a_good_open_is_accepted_with_its_members() {
    let Judgement::Accept(open) = Node::new().judge(&signed(Kind::SessionOpen, an_open())) else { panic!() };
    assert_eq!((open.session_id.as_str(), open.buyer.as_str()), (ID, "acme"));
    assert_eq!(open.profile.block_domains, ["bad.example"]);
    assert_eq!((open.limits.max_mbps, open.limits.max_connections), (Some(5.0), Some(10)));
    assert_eq!(open.limits.max_gb, None);
}

#[test]
fn every_refusal_has_its_cause() {
    let at = |s: i64| Value::from(Unix(NOW.0 + s).to_string());
    let no_list = || Value::Array(vec![]);
    let cases = [
        (with("nodeId", "ed25519:other"), OpenRefusal::WrongNode),
        (with("issuedAt", at(61)), OpenRefusal::Stale),
        (with("issuedAt", at(-601)), OpenRefusal::Stale),
        (with("issuedAt", "now"), OpenRefusal::Malformed),
        (with("nodeId", Value::Int(1)), OpenRefusal::WrongNode),
        (with("sessionId", ID.to_uppercase()), OpenRefusal::Malformed),
        (with("tokenHash", "b3:"), OpenRefusal::Malformed),
        (with("expiresAt", at(0)), OpenRefusal::Malformed),
        (with("limits", parse(br#"{"maxMbps":-1}"#).unwrap()), OpenRefusal::Malformed),
        (with("limits", Value::Null), OpenRefusal::Malformed),
        (in_profile("blockDomains", crate::json::array(["*.bad.example"])), OpenRefusal::Malformed),
        (in_profile("ech", "maybe".into()), OpenRefusal::Malformed),
        (with("notBefore", at(61)), OpenRefusal::NotYetValid),
        (with("regions", crate::json::array(["PH-Mindanao"])), OpenRefusal::RegionDenied),
        (with("regions", no_list()), OpenRefusal::RegionDenied),
        (with("category", "scraping"), OpenRefusal::CategoryDenied),
        (in_profile("allowedPorts", crate::json::array([443u16, 80])), OpenRefusal::PortDenied),
        (in_profile("transports", no_list()), OpenRefusal::TransportUnsupported),
        (in_profile("transports", crate::json::array(["lease"])), OpenRefusal::TransportUnsupported),
    ];
    for (value, reason) in cases {
        assert_eq!(Node::new().refusal(value.clone()), Some(reason), "{}", value.canonical());
    }
    let mut old = with("notBefore", at(-20));
    old.set("expiresAt", at(0));
    assert_eq!(Node::new().refusal(old), Some(OpenRefusal::Expired));
    for edge in [with("issuedAt", at(60)), with("issuedAt", at(-600)), with("notBefore", at(60))] {
        assert_eq!(Node::new().refusal(edge), None);
    }
    assert_eq!(Node::new().refusal(in_profile("allowedPorts", no_list())), None);
}

#[test]
fn the_state_of_the_node_refuses_last_and_in_order() {
    use OpenRefusal::*;
    let mut node = Node::new();
    node.flags = [true, true, true, true, false];
    for (i, reason) in [Paused, OutsideSchedule, Quarantined, GuardDown, Capacity].into_iter().enumerate() {
        assert_eq!(node.refusal(an_open()), Some(reason));
        node.flags[i] = i == 4;
    }
    assert_eq!(node.refusal(an_open()), None);
    node.flags[0] = true;
    assert_eq!(node.refusal(in_profile("transports", Value::Array(vec![]))), Some(TransportUnsupported));
}

#[test]
fn the_region_is_the_owners_and_the_current_one() {
    let mut node = Node::new();
    node.observed = Some("PH-Mindanao".into());
    assert_eq!(node.refusal(an_open()), Some(OpenRefusal::RegionDenied));
    assert_eq!(node.refusal(with("regions", crate::json::array(["PH-Mindanao"]))), None);
    node.observed = Some("XX".into());
    assert_eq!(node.refusal(an_open()), Some(OpenRefusal::RegionDenied), "current, but not the owner's");
}

#[test]
fn an_opt_out_and_lab_ports_are_heeded() {
    let mut node = Node::new();
    node.opt_out = vec!["qa".into()];
    assert_eq!(node.refusal(an_open()), Some(OpenRefusal::CategoryDenied));
    assert_eq!(node.refusal(with("category", "ad-verification")), None);
    node.extra_ports = vec![8443];
    let lab = in_profile("allowedPorts", crate::json::array([8443u16]));
    assert_eq!(Node::new().refusal(lab.clone()), Some(OpenRefusal::PortDenied));
    node.opt_out.clear();
    assert_eq!(node.refusal(lab), None);
}

#[test]
fn the_same_object_is_ignored_before_any_other_check_and_a_different_one_is_a_duplicate() {
    let first = signed(Kind::SessionOpen, an_open());
    let mut node = Node::new();
    node.known = Some(fingerprint(&first));
    node.now = Unix(NOW.0 + 100_000);
    assert_eq!(node.judge(&first), Judgement::Ignore);
    node.now = NOW;
    let other = signed(Kind::SessionOpen, with("buyer", "other"));
    let Judgement::Refuse { reason, remember_until, session_id } = node.judge(&other) else { panic!() };
    assert_eq!((reason, remember_until), (OpenRefusal::DuplicateSession, None));
    assert_eq!(session_id.as_deref(), Some(ID));
}

#[test]
fn a_forgery_is_answered_but_its_id_is_not_used_up() {
    let mut forged = an_open();
    sign(Kind::SessionOpen, &mut forged, &NodeKey::from_seed(&[2; 32]).unwrap());
    let Judgement::Refuse { reason, remember_until, .. } = Node::new().judge(&forged) else { panic!() };
    assert_eq!((reason, remember_until), (OpenRefusal::BadSignature, None));
    let mut node = Node::new();
    node.flags[0] = true;
    let Judgement::Refuse { remember_until, .. } = node.judge(&signed(Kind::SessionOpen, an_open())) else {
        panic!()
    };
    assert_eq!(remember_until, Some(Unix(NOW.0 + 3600 + 86_400)));
}

#[test]
fn a_refusal_of_what_has_no_id_names_none() {
    let value = signed(Kind::SessionOpen, with("sessionId", "x"));
    let Judgement::Refuse { session_id, remember_until, .. } = Node::new().judge(&value) else { panic!() };
    assert_eq!((session_id, remember_until), (None, None));
    assert!(matches!(Node::new().judge(&Value::Null), Judgement::Refuse { session_id: None, .. }));
}

fn order(kind: Kind, value: &Value, last: Option<Unix>) -> Result<Unix, OrderFault> {
    let key = coordinator().public();
    let context = OrderContext { node_id: "ed25519:me", coordinator: &key, now: NOW };
    match kind {
        Kind::Policy => judge_policy(value, &context, &|_| last).map(|p| p.issued_at),
        _ => judge_close(value, &context, &|_| last).map(|c| c.issued_at),
    }
}

fn a_close() -> Value {
    object([
        ("sessionId", ID.into()),
        ("nodeId", "ed25519:me".into()),
        ("issuedAt", NOW.to_string().into()),
        ("reason", "budget".into()),
    ])
}

fn a_policy() -> Value {
    object([
        ("sessionId", Value::Null),
        ("nodeId", "ed25519:me".into()),
        ("issuedAt", NOW.to_string().into()),
        ("policyProfile", plain_profile()),
        ("limits", object::<&str>([])),
    ])
}

#[test]
fn close_and_policy_are_verified() {
    for (kind, value) in [(Kind::SessionClose, a_close()), (Kind::Policy, a_policy())] {
        assert_eq!(order(kind, &signed(kind, value.clone()), None), Ok(NOW));
        assert_eq!(order(kind, &value, None), Err(OrderFault::BadSignature));
        let change = |name: &str, to: &str| {
            let mut v = value.clone();
            v.set(name, to);
            signed(kind, v)
        };
        assert_eq!(order(kind, &change("nodeId", "x"), None), Err(OrderFault::WrongNode));
        let ahead = Unix(NOW.0 + 61).to_string();
        assert_eq!(order(kind, &change("issuedAt", &ahead), None), Err(OrderFault::Stale));
        let queued = Unix(NOW.0 - 100_000);
        assert_eq!(
            order(kind, &change("issuedAt", &queued.to_string()), None),
            Ok(queued),
            "queued for long"
        );
        let last = Some(Unix(NOW.0 + 1));
        assert_eq!(order(kind, &signed(kind, value.clone()), last), Err(OrderFault::Superseded));
        assert_eq!(order(kind, &signed(kind, value.clone()), Some(NOW)), Ok(NOW), "as old as the last");
    }
}

#[test]
fn a_close_for_an_unknown_reason_and_a_policy_without_session_member_are_malformed() {
    let fault = |kind, value| match order(kind, &signed(kind, value), None) {
        Err(OrderFault::Malformed(e)) => e.pointer,
        other => panic!("{other:?}"),
    };
    let mut close = a_close();
    close.set("reason", "mood");
    assert_eq!(fault(Kind::SessionClose, close), "/reason");
    let mut policy = a_policy();
    policy.remove("sessionId");
    assert_eq!(fault(Kind::Policy, policy), "/sessionId");
}

#[test]
fn the_lists_of_a_profile_are_bounded() {
    let hosts = |n: usize| crate::json::array((0..n).map(|i| format!("h{i}.example")));
    assert_eq!(Node::new().refusal(in_profile("blockDomains", hosts(MAX_ENTRIES))), None);
    let over = in_profile("blockDomains", hosts(MAX_ENTRIES + 1));
    assert_eq!(Node::new().refusal(over), Some(OpenRefusal::Malformed));
}

proptest! {
    #[test]
    fn any_change_of_a_signed_open_is_a_bad_signature(at in 0usize..11, text in "[a-z]{1,8}") {
        let mut value = signed(Kind::SessionOpen, an_open());
        let Value::Object(members) = &mut value else { unreachable!() };
        let other = Value::from(text);
        prop_assume!(members[at].1 != other);
        members[at].1 = other;
        let refused = matches!(
            Node::new().judge(&value),
            Judgement::Refuse { reason: OpenRefusal::BadSignature, remember_until: None, .. }
        );
        prop_assert!(refused);
    }

    #[test]
    fn session_ids_are_lower_case_uuids(id in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", at in 0usize..36) {
        prop_assert!(is_session_id(&id));
        let mut bytes = id.into_bytes();
        bytes[at] = b'G';
        prop_assert!(!is_session_id(std::str::from_utf8(&bytes).unwrap()));
    }
}

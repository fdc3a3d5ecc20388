//! How an `open` is answered, durably and once.
use super::bench::{coordinator, text};
use super::*;
use crate::json::Value;
use crate::signed::{Kind, sign};
use crate::time::Unix;

/// An order with members replaced, in a bench that takes it from there.
fn refusal(mut bench: Bench, change: impl Fn(&mut Value)) -> (Bench, String) {
    let mut order = open_order(ID, bench.now());
    change(&mut order);
    bench.signal("open", order).unwrap();
    let queued = bench.queued(ID);
    assert_eq!(queued.len(), 1, "{queued:?}");
    let reason = queued[0].strip_prefix("refused ").unwrap_or_else(|| panic!("{queued:?}")).to_owned();
    (bench, reason)
}

#[test]
fn each_reason_to_refuse_is_told_and_outlives_a_crash() {
    let set = |name: &'static str, value: Value| move |o: &mut Value| o.set(name, value.clone());
    let at = |offset: i64| Value::from(Unix(START + offset).to_string());
    type Change = Box<dyn Fn(&mut Value)>;
    let cases: Vec<(&str, &str, Change)> = vec![
        ("", "wrong-node", Box::new(set("nodeId", "ed25519:other".into()))),
        ("", "stale", Box::new(set("issuedAt", at(61)))),
        ("", "stale", Box::new(set("issuedAt", at(-601)))),
        ("", "malformed", Box::new(set("expiresAt", at(0)))),
        ("", "not-yet-valid", Box::new(set("notBefore", at(61)))),
        (
            "",
            "expired",
            Box::new(|o| {
                (o.set("notBefore", "2026-01-01T00:00:00Z"), o.set("expiresAt", "2026-01-02T00:00:00Z")).0
            }),
        ),
        ("", "region-denied", Box::new(set("regions", crate::json::array(["DE-BE"])))),
        ("", "category-denied", Box::new(set("category", "unheard-of".into()))),
        ("policy: { categoryOptOut: [qa] }", "category-denied", Box::new(|_| ())),
        ("", "port-denied", Box::new(set("policyProfile", profile(r#"{"allowedPorts":[443,80]}"#)))),
        ("", "transport-unsupported", Box::new(set("policyProfile", profile(r#"{"transports":["lease"]}"#)))),
        ("", "transport-unsupported", Box::new(set("policyProfile", profile(r#"{"transports":[]}"#)))),
        (
            "node: { regionAllow: [PH-NCR], schedules: [{ days: [Sun], start: \"01:00\", end: \"02:00\" }] }",
            "outside-schedule",
            Box::new(|_| ()),
        ),
        ("security: { guard: required }", "guard-down", Box::new(|_| ())),
    ];
    for (config, reason, change) in cases {
        let (bench, told) = refusal(Bench::with(config), change);
        assert_eq!(told, reason);
        let bench = bench.crash();
        assert_eq!(bench.queued(ID), [format!("refused {reason}")]);
        assert_eq!(bench.status().member("sessions"), Some(&0.into()));
    }
}

#[test]
fn a_forged_order_is_refused_and_alerted_but_its_id_stays_free() {
    let mut bench = Bench::new();
    let mut order = open_order(ID, START);
    sign(Kind::SessionClose, &mut order, &coordinator());
    bench.raw_signals(vec![("open", order)]).unwrap();
    assert_eq!(bench.queued(ID), ["refused bad-signature"]);
    assert!(bench.has_alert("open-bad-signature"));
    bench.open(ID, "{}");
    assert_eq!(bench.queued(ID), ["refused bad-signature", "accepted", "active"]);
    assert!(!bench.has_alert("open-bad-signature"), "the next good order clears it");
}

#[test]
fn the_nodes_own_state_refuses() {
    use crate::core::lifecycle::NodeEvent;
    for (event, reason) in [
        (NodeEvent::Pause, "paused"),
        (NodeEvent::Stop, "paused"),
        (NodeEvent::Quarantine("x".into()), "quarantined"),
        (NodeEvent::Drain, "paused"),
    ] {
        let bench = Bench::new();
        bench.node.on(event);
        assert_eq!(refusal(bench, |_| ()).1, reason);
    }
}

#[test]
fn an_order_is_judged_once_even_after_a_crash() {
    let mut bench = Bench::new();
    let mut order = open_order(ID, START);
    sign(Kind::SessionOpen, &mut order, &coordinator());
    bench.raw_signals(vec![("open", order.clone()), ("open", order.clone())]).unwrap();
    assert_eq!(bench.queued(ID), ["accepted", "active"]);
    bench.raw_signals(vec![("open", order.clone())]).unwrap();
    bench.take_all();
    let mut bench = bench.crash();
    bench.raw_signals(vec![("open", order)]).unwrap();
    assert_eq!(bench.queued(ID), ["closing stopped", "settled"], "closed by the crash, not opened again");
}

#[test]
fn another_order_under_a_known_id_is_a_duplicate_even_in_one_answer() {
    let mut bench = Bench::new();
    let signed = |category: &str| {
        let mut order = open_order(ID, START);
        order.set("category", category);
        sign(Kind::SessionOpen, &mut order, &coordinator());
        ("open", order)
    };
    bench.raw_signals(vec![signed("unheard-of"), signed("qa")]).unwrap();
    bench.take_all();
    assert_eq!(bench.posted(ID), ["refused category-denied"], "a second answer would say nothing new");
    assert_eq!(bench.refusal(ID, "a.test"), Some(crate::policy::refusal::Refusal::AuthRequired));

    let mut bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    bench.open(ID, r#"{"category":"ad-verification"}"#);
    assert_eq!(bench.queued(ID), ["accepted", "active", "refused duplicate-session"]);
    assert!(!bench::is_reset(&flow), "it answers that object only");
}

#[test]
fn a_session_is_remembered_for_a_day_after_its_end() {
    let mut bench = Bench::active("", "{}");
    bench.pass(3600);
    bench.take_all();
    bench.pass(86_400 - 1);
    bench.open(ID, "{}");
    assert_eq!(bench.queued(ID), ["refused duplicate-session"]);
    bench.take_all();
    bench.pass(2);
    bench.open(ID, "{}");
    assert_eq!(bench.queued(ID), ["accepted", "active"]);
}

#[test]
fn accepted_carries_the_lower_of_both_sides_limits() {
    let config = "network: { maxMbps: 50, maxGBPerDay: 9, perSession: { maxMbps: 5, maxConnections: 7 } }";
    let mut bench = Bench::with(config);
    bench.open(ID, r#"{"limits":{"maxMbps":8,"maxConnections":3,"maxGB":2}}"#);
    let accepted = bench.node.durable.borrow().transitions[0].clone();
    assert_eq!(text(&accepted, "at"), Unix(START).to_string());
    let limits = accepted.member("limits").unwrap();
    let figure = |name: &str| limits.member(name).and_then(Value::as_f64);
    assert_eq!(
        [figure("maxMbps"), figure("maxConnections"), figure("maxGB")],
        [Some(5.0), Some(3.0), Some(2.0)]
    );
}

#[test]
fn a_session_begins_when_its_time_has_come() {
    let mut bench = Bench::new();
    let not_before = Unix(START + 40).to_string();
    bench.open(ID, &format!(r#"{{"notBefore":"{not_before}"}}"#));
    assert_eq!(bench.queued(ID), ["accepted"]);
    assert_eq!(bench.refusal(ID, "a.test"), Some(crate::policy::refusal::Refusal::SessionClosed));
    bench.pass(39);
    assert_eq!(bench.queued(ID), ["accepted"]);
    bench.pass(1);
    assert_eq!(bench.queued(ID), ["accepted", "active"]);
    assert_eq!(bench.refusal(ID, "a.test"), None);
}

#[test]
fn a_wrong_token_and_an_unknown_session_are_alike() {
    use crate::policy::refusal::Refusal::AuthRequired;
    let bench = Bench::active("", "{}");
    let refused = |id: &str, token: &[u8]| bench.connect_as(id, token, "a.test", 443).err().unwrap();
    assert_eq!(refused(ID, b"0123456789abcdefghiJ"), refused(&id(7), b"0123456789abcdefghij"));
    assert_eq!(refused(ID, b"").refusal, AuthRequired);
    let rejected = bench.node.sessions.borrow()[ID].meter.borrow().totals().rejected;
    assert_eq!(rejected, 0, "nobody is billed for a stranger");
}

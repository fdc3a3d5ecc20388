//! New rules of either side, on live flows.
use super::bench::{carry, is_reset};
use super::*;
use crate::policy::refusal::Refusal;
use crate::session::Direction;

#[test]
fn a_new_block_list_resets_exactly_what_it_forbids() {
    let mut bench = Bench::active("", "{}");
    let (good, bad, below) =
        (bench.tunnel(ID, "good.test"), bench.tunnel(ID, "bad.test"), bench.tunnel(ID, "a.bad.test"));
    bench.configure("network: { maxMbps: 1000, maxGBPerDay: 1000, blocklistDomains: [bad.test] }");
    assert_eq!([is_reset(&good), is_reset(&bad), is_reset(&below)], [false, true, true]);
    assert_eq!(bench.refusal(ID, "bad.test"), Some(Refusal::DomainBlocked));
    bench.configure("network: { maxMbps: 1000, maxGBPerDay: 1000, allowlistDomains: [other.test] }");
    assert!(is_reset(&good));
    assert_eq!(bench.refusal(ID, "good.test"), Some(Refusal::DomainNotAllowed));
    assert_eq!(bench.refusal(ID, "bad.test"), Some(Refusal::DomainNotAllowed));
    assert!(bench.services.calls.borrow().contains(&"config"));
}

#[test]
fn opting_out_of_a_category_resets_its_flows_and_keeps_its_session() {
    let mut bench = Bench::active("", "{}");
    bench.open(&id(1), r#"{"category":"ad-verification"}"#);
    let (qa, ads) = (bench.tunnel(ID, "a.test"), bench.tunnel(&id(1), "a.test"));
    bench.configure("policy: { categoryOptOut: [qa] }");
    assert_eq!([is_reset(&qa), is_reset(&ads)], [true, false]);
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::CategoryDenied));
    assert_eq!(bench.queued(ID), ["accepted", "active"]);
}

#[test]
fn a_region_taken_away_closes_the_sessions_bought_for_it() {
    let mut bench = Bench::active("node: { regionAllow: [PH-NCR, PH-MIN] }", "{}");
    bench.configure("node: { regionAllow: [PH-MIN] }");
    assert_eq!(bench.queued(ID), ["accepted", "active", "closing stopped", "settled"]);
}

#[test]
fn a_policy_replaces_rules_and_limits_whole() {
    let first = r#"{"policyProfile":{"name":"p","allowDomains":[],"blockDomains":["bad.test"],"allowedPorts":[443],
        "alpn":["h2"],"transports":["relay"],"ech":"outer"},"limits":{"maxConnections":5,"maxMbps":8}}"#;
    let mut bench = Bench::active("", first);
    let flow = bench.tunnel(ID, "good.test");
    bench.policy(Some(ID), profile(r#"{"blockDomains":["good.test"]}"#), r#"{"maxMbps":4}"#, 0);
    assert!(is_reset(&flow));
    assert_eq!(bench.refusal(ID, "bad.test"), None, "the old block list is gone");
    assert_eq!(bench.refusal(ID, "good.test"), Some(Refusal::DomainBlocked));
    let limits = bench.node.sessions.borrow()[ID].allowance.borrow().limits().clone();
    assert_eq!(
        (limits.max_mbps, limits.max_connections),
        (Some(4.0), Some(512)),
        "the old limits are gone: the owner's hold"
    );
}

#[test]
fn a_policy_for_all_is_for_those_that_are_open_now_and_an_older_one_is_ignored() {
    let mut bench = Bench::active("", "{}");
    bench.open(&id(1), "{}");
    bench.pass(100);
    bench.policy(Some(ID), profile(r#"{"blockDomains":["one.test"]}"#), "{}", 0);
    bench.policy(None, profile(r#"{"blockDomains":["all.test"]}"#), "{}", 10);
    assert_eq!(bench.refusal(ID, "all.test"), None, "older than what was applied to it");
    assert_eq!(bench.refusal(&id(1), "all.test"), Some(Refusal::DomainBlocked));
    bench.policy(None, profile(r#"{"blockDomains":["all.test"]}"#), "{}", 0);
    assert_eq!(bench.refusal(ID, "all.test"), Some(Refusal::DomainBlocked));
    assert_eq!(bench.refusal(ID, "one.test"), None);
    bench.open(&id(2), "{}");
    assert_eq!(bench.refusal(&id(2), "all.test"), None, "opened afterwards");
    bench.policy(Some(ID), profile(r#"{"blockDomains":["old.test"]}"#), "{}", 1);
    assert_eq!(bench.refusal(ID, "old.test"), None);
    assert!(!bench.has_alert("policy-superseded"), "which is nothing to worry about");
}

#[test]
fn stricter_rules_for_hellos_reset_the_flows_whose_hello_was_judged_by_the_old_ones() {
    for (stricter, strict) in [
        (r#"{"alpn":["http/1.1"]}"#, true),
        (r#"{"alpn":[]}"#, true),
        (r#"{"ech":"deny"}"#, true),
        (r#"{"alpn":["h2","http/1.1"]}"#, false),
    ] {
        let mut bench = Bench::active("", "{}");
        let (open, dialling) = (bench.tunnel(ID, "a.test"), bench.connect(ID, "b.test").unwrap());
        bench.policy(Some(ID), profile(stricter), "{}", 0);
        assert_eq!([is_reset(&open), is_reset(&dialling)], [strict, false], "{stricter}");
        assert_eq!(dialling.hello_rules().ech_deny, stricter.contains("deny"), "judged by the new ones");
    }
}

#[test]
fn a_policy_without_the_relay_carries_nothing() {
    let mut bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    bench.policy(Some(ID), profile(r#"{"transports":["lease"]}"#), "{}", 0);
    assert!(is_reset(&flow));
    assert_eq!(carry(&flow, Direction::Ingress, 1), 0);
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::SessionClosed));
    bench.policy(Some(ID), profile("{}"), "{}", 0);
    assert_eq!(bench.refusal(ID, "a.test"), None);
    bench.policy(Some(ID), profile(r#"{"allowedPorts":[8443]}"#), "{}", 0);
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::PortDenied));
}

#[test]
fn fewer_connections_than_there_are_end_the_newest() {
    let mut bench = Bench::active("", "{}");
    let flows: Vec<_> = (0..5).map(|n| bench.tunnel(ID, &format!("h{n}.test"))).collect();
    bench.policy(Some(ID), profile("{}"), r#"{"maxConnections":2}"#, 0);
    assert_eq!(flows.iter().map(is_reset).collect::<Vec<_>>(), [false, false, true, true, true]);
    let denied = bench.connect(ID, "h.test").err().unwrap();
    assert_eq!((denied.refusal, denied.retry_after_s), (Refusal::RateLimited, Some(1)));
}

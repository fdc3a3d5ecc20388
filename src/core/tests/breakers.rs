//! Limits for each target, and breakers.
use super::bench::{carry, is_reset};
use super::*;
use crate::coordinator::node::Node as _;
use crate::policy::refusal::Refusal;
use crate::session::{Direction, Outcome};

const WIDE: &str =
    "perSession: { maxNewPerSecond: 10000, maxNewPerHostPerSecond: 10000, maxConnections: 10000 }";

fn network(more: &str) -> String {
    format!("network: {{ maxMbps: 1000, maxGBPerDay: 1000, {WIDE}{more} }}")
}

#[test]
fn a_target_is_spared_however_many_sessions_reach_for_it() {
    let caps = ", perTarget: { maxConnectionsPerHost: 2, maxConnectionsPerDomain: 3 }";
    let mut bench = Bench::active(&network(caps), "{}");
    bench.open(&id(1), "{}");
    let first = bench.tunnel(ID, "a.example.com");
    let flows = [bench.tunnel(&id(1), "a.example.com"), bench.tunnel(&id(1), "b.example.com")];
    assert_eq!(bench.refusal(ID, "a.example.com"), Some(Refusal::RateLimited), "two at the host");
    let denied = bench.connect(ID, "c.example.com").err().unwrap();
    assert_eq!(
        (denied.refusal, denied.retry_after_s),
        (Refusal::RateLimited, Some(1)),
        "three at the domain"
    );
    assert_eq!(bench.refusal(ID, "a.example.org"), None);
    drop(first);
    assert_eq!(bench.refusal(ID, "c.example.com"), None, "one has left");
    drop(flows);
}

#[test]
fn lower_caps_on_targets_reset_the_newest() {
    let mut bench = Bench::active(&network(""), "{}");
    let flows = ["a.x.test", "a.x.test", "b.x.test", "c.y.test"].map(|host| bench.tunnel(ID, host));
    let caps = ", perTarget: { maxConnectionsPerHost: 2, maxConnectionsPerDomain: 2 }";
    bench.configure(&network(caps));
    assert_eq!(flows.each_ref().map(is_reset), [false, false, true, false]);
    bench.configure(&network(", perTarget: { maxConnectionsPerHost: 1 }"));
    assert_eq!(flows.each_ref().map(is_reset), [false, true, true, false]);
}

#[test]
fn a_burst_rests_the_session_with_an_alert_and_keeps_what_stands() {
    let config = format!("{}\nbreakers: {{ sessionBurst: 20, nodeBurst: 1000 }}", network(""));
    let mut bench = Bench::active(&config, "{}");
    bench.open(&id(1), "{}");
    let kept = bench.tunnel(ID, "kept.test");
    for i in 0..19 {
        drop(bench.tunnel(ID, &format!("h{i}.test")));
    }
    bench.tick();
    let denied = bench.connect(ID, "a.test").err().unwrap();
    assert_eq!((denied.refusal, denied.retry_after_s), (Refusal::RateLimited, Some(30)));
    assert!(bench.has_alert("burst-breaker") && !is_reset(&kept));
    assert_eq!(carry(&kept, Direction::Ingress, 9), 9);
    assert_eq!(bench.refusal(&id(1), "a.test"), None, "the other session goes on");
    bench.pass(30);
    assert_eq!((bench.refusal(ID, "a.test"), bench.has_alert("burst-breaker")), (None, false));
}

#[test]
fn a_burst_of_all_sessions_together_rests_the_node() {
    let config = format!("{}\nbreakers: {{ nodeBurst: 20 }}", network(""));
    let mut bench = Bench::active(&config, "{}");
    bench.open(&id(1), "{}");
    for i in 0..20 {
        drop(bench.tunnel([ID, &id(1)][i % 2], "a.test"));
    }
    bench.tick();
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::RateLimited));
    assert_eq!(bench.refusal(&id(1), "a.test"), Some(Refusal::RateLimited));
    assert!(bench.has_alert("burst-breaker"));
}

#[test]
fn failing_handshakes_rest_the_session_that_makes_them() {
    let mut bench = Bench::active(&network(""), "{}");
    bench.open(&id(1), "{}");
    let fail = |bench: &Bench, outcome| bench.connect(ID, "a.test").ok().unwrap().finish(outcome);
    for _ in 0..20 {
        fail(&bench, Outcome::Refused(Refusal::ResolveFailed));
    }
    for outcome in [Outcome::TargetReset, Outcome::Refused(Refusal::ConnectFailed)].repeat(10) {
        fail(&bench, outcome);
    }
    for _ in 0..19 {
        fail(&bench, Outcome::Refused(Refusal::SniMismatch));
    }
    bench.tick();
    assert_eq!(
        bench.refusal(ID, "a.test"),
        None,
        "39, of which those the resolver may be blamed for are none"
    );
    fail(&bench, Outcome::Refused(Refusal::NotTls));
    bench.tick();
    let denied = bench.connect(ID, "a.test").err().unwrap();
    assert_eq!((denied.refusal, denied.retry_after_s), (Refusal::RateLimited, Some(30)));
    assert!(bench.has_alert("handshake-failures"));
    assert_eq!(bench.refusal(&id(1), "a.test"), None);
    bench.pass(30);
    assert_eq!((bench.refusal(ID, "a.test"), bench.has_alert("handshake-failures")), (None, false));
}

#[test]
fn a_buyer_like_a_browser_meets_no_breaker() {
    let mut bench = Bench::active("", "{}");
    let mut flows = Vec::new();
    for page in 0..20 {
        // A page of 60 hosts with six connections each, as fast as the session's 100 a second let it.
        for connection in 0..360 {
            if connection % 90 == 0 {
                bench.pass(1);
            }
            let flow = bench.tunnel(ID, &format!("h{}.site{page}.test", connection % 60));
            if connection % 10 > 0 {
                carry(&flow, Direction::Ingress, 100);
                flows.push(flow);
            } else {
                flow.finish(Outcome::TargetReset);
            }
        }
        flows.clear();
        bench.pass(6);
    }
    assert_eq!(bench.node.ledger.refusals.borrow().get(&Refusal::RateLimited), None);
    assert!(!bench.has_alert("burst-breaker") && !bench.has_alert("handshake-failures"));
}

#[test]
fn targets_are_forgotten_with_their_flows() {
    let mut bench = Bench::active("", "{}");
    drop(bench.tunnel(ID, "a.test"));
    bench.pass(2);
    let flow = bench.tunnel(ID, "b.test");
    bench.pass(2);
    drop(flow);
    let targets = format!("{:?}", bench.node.ledger.targets.borrow());
    assert!(targets.contains("a.test") && !targets.contains("b.test"), "{targets}");
}

#[test]
fn orders_against_the_owners_policy_are_refused_and_alerted_until_a_good_one_comes() {
    let mut bench = Bench::with("policy: { categoryOptOut: [qa] }");
    bench.open(&id(1), r#"{"category":"ad-verification","regions":["DE-BE"]}"#);
    bench.open(&id(2), "{}");
    bench.open(&id(3), r#"{"category":"ad-verification","issuedAt":"2026-03-02T03:00:00Z"}"#);
    bench.open(&id(1), r#"{"category":"ad-verification"}"#);
    let alerts = ["open-region-denied", "open-category-denied", "open-stale", "open-duplicate-session"];
    assert!(alerts.iter().all(|code| bench.has_alert(code)));
    assert_eq!(bench.state(), "idle");
    bench.open(&id(4), r#"{"category":"ad-verification"}"#);
    assert!(!alerts.iter().any(|code| bench.has_alert(code)));
}

#[test]
fn many_forged_orders_are_a_quarantine() {
    let mut bench = Bench::with("breakers: { forgedOrders: 4 }");
    let forge = |bench: &mut Bench, kind: &str, n: u32| {
        let mut order = open_order(&id(n), bench.now());
        order.set("coordinatorSig", "AAAA");
        bench.raw_signals(vec![(kind, order)]).unwrap();
    };
    forge(&mut bench, "open", 1);
    forge(&mut bench, "close", 2);
    bench.open(&id(3), r#"{"nodeId":"ed25519:AAAA"}"#);
    assert_eq!(bench.state(), "idle");
    assert!(
        ["open-bad-signature", "close-bad-signature", "open-wrong-node"].iter().all(|c| bench.has_alert(c))
    );
    forge(&mut bench, "policy", 4);
    assert_eq!(bench.state(), "quarantined");
    assert!(bench.has_alert("orders-forged"));
    bench.node.clear_quarantine();
    for n in 0..3 {
        forge(&mut bench, "open", 10 + n);
        bench.pass(1201);
    }
    forge(&mut bench, "open", 20);
    assert_eq!(bench.state(), "idle", "four in more than an hour");
}

#[test]
fn forged_probe_requests_count_with_forged_orders() {
    let mut bench = Bench::with("breakers: { forgedOrders: 3 }");
    bench.node.order_forged();
    bench.open(&id(3), r#"{"nodeId":"ed25519:AAAA"}"#);
    assert_eq!(bench.state(), "idle");
    bench.node.order_forged();
    assert_eq!(bench.state(), "quarantined");
    assert!(bench.has_alert("orders-forged"));
}

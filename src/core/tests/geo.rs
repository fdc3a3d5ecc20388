//! Where the node is believed to be, and what follows.
use super::bench::text;
use super::*;
use crate::coordinator::node::Node as _;
use crate::coordinator::wire::{HeartbeatAnswer, Observed, ProbeHost, Registered};
use crate::guard::client::Listener as _;
use crate::guard::protocol::Report;
use crate::json::Value;
use crate::signed::NodeKey;
use crate::time::Unix;

fn beat(bench: &Bench, observed: Option<(&str, f64, &str)>) {
    let observed = observed.map(|(region, confidence, address)| Observed {
        address: address.to_owned(),
        region: region.to_owned(),
        confidence,
    });
    bench.node.heartbeat_answered(HeartbeatAnswer {
        account: Value::Null,
        observed,
        server_time: Unix(bench.now()),
    });
    bench.tick();
}

fn evidence(bench: &Bench, source: &str) -> Option<Value> {
    let status = bench.status();
    let all = status.member("geo").unwrap().member("evidence").unwrap().as_array().unwrap().to_vec();
    all.into_iter().find(|e| text(e, "source") == source)
}

fn register_berlin(bench: &Bench) {
    let host = ProbeHost {
        host: "berlin.test".into(),
        public_key: NodeKey::from_seed(&[3; 32]).unwrap().public(),
        position: Some((52.5, 13.4)),
    };
    bench.node.registered(Registered {
        policy_version: "1".into(),
        heartbeat_interval_ms: 1000,
        server_time: Unix(bench.now()),
        probe_hosts: vec![host],
        lists: vec![],
        certificate: None,
    });
}

#[test]
fn a_round_trip_that_light_could_not_make_is_shown_and_alone_is_an_alert() {
    let bench = Bench::active("", "{}");
    register_berlin(&bench);
    bench.node.probe_measured("elsewhere.test", 1);
    bench.node.probe_measured("berlin.test", 80);
    beat(&bench, Some(("PH-NCR", 0.6, "203.0.113.1")));
    assert!(!bench.has_alert("geo-suspect"), "80 ms may come from anywhere");
    bench.node.probe_measured("berlin.test", 9);
    for _ in 0..5 {
        beat(&bench, None);
    }
    assert!(bench.has_alert("geo-suspect") && bench.state() == "active");
    let trip = evidence(&bench, "round-trip").unwrap();
    assert_eq!((text(&trip, "verdict"), trip.member("confidence")), ("outside", Some(&0.75.into())));
    assert!(text(&trip, "detail").contains("berlin.test answered in 9 ms"), "{}", trip.canonical());
    assert_eq!(text(&evidence(&bench, "time-zone").unwrap(), "verdict"), "inside", "the bench keeps UTC+8");
}

#[test]
fn a_round_trip_and_the_prefix_file_together_are_a_quarantine_that_says_why() {
    let mut bench = Bench::active("geo: { prefixFile: /etc/prefixes.csv }", "{}");
    register_berlin(&bench);
    beat(&bench, Some(("PH-NCR", 0.1, "203.0.113.1")));
    assert!(bench.services.calls.borrow().contains(&"region"), "the file is asked");
    bench.node.probe_measured("berlin.test", 9);
    bench.node.prefix_found("203.0.113.1".parse().unwrap(), Ok(Some("DE".into())));
    for n in 0..3 {
        assert_eq!(bench.state(), "active", "{n}");
        beat(&bench, None);
    }
    assert_eq!(bench.state(), "quarantined");
    let reason = text(&bench.status(), "reason").to_owned();
    for part in ["berlin.test answered in 9 ms", "geo.prefixFile has DE", "echomesh start --clear-quarantine"]
    {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(bench.has_alert("geo-mismatch") && !bench.has_alert("geo-suspect"));
    bench.node.clear_quarantine();
    bench.configure("node: { regionAllow: [DE-BE] }");
    for _ in 0..5 {
        beat(&bench, None);
    }
    assert_eq!(bench.state(), "idle", "the owner has put it right");
}

#[test]
fn another_wan_address_is_shown_and_looked_up_anew() {
    let bench = Bench::active("geo: { prefixFile: /etc/prefixes.csv }", "{}");
    beat(&bench, Some(("PH-NCR", 0.9, "203.0.113.1")));
    bench.node.prefix_found("203.0.113.1".parse().unwrap(), Ok(Some("DE".into())));
    bench.services.calls.borrow_mut().clear();
    beat(&bench, Some(("PH-NCR", 0.9, "203.0.113.1")));
    assert!(!bench.services.calls.borrow().contains(&"region"));
    beat(&bench, Some(("PH-NCR", 0.9, "198.51.100.7")));
    assert!(bench.services.calls.borrow().contains(&"region"));
    assert_eq!(evidence(&bench, "prefix-file"), None);
    let change = evidence(&bench, "wan-address").unwrap();
    assert!(text(&change, "detail").contains("from 203.0.113.1 to 198.51.100.7"));
}

#[test]
fn a_file_that_cannot_be_read_is_an_alert_and_no_evidence() {
    let mut bench = Bench::active("geo: { prefixFile: /etc/prefixes.csv }", "{}");
    beat(&bench, Some(("PH-NCR", 0.9, "203.0.113.1")));
    bench.node.prefix_found("203.0.113.1".parse().unwrap(), Err("line 7 is not prefix,region".into()));
    assert!(bench.has_alert("geo-file") && evidence(&bench, "prefix-file").is_none());
    bench.configure("");
    assert!(!bench.has_alert("geo-file"), "the owner does without");
}

#[test]
fn a_stricter_owner_is_obeyed() {
    let bench = Bench::active("geo: { quarantineConfidence: 0.5, strikes: 1 }", "{}");
    beat(&bench, Some(("DE-BE", 0.5, "203.0.113.1")));
    assert_eq!(bench.state(), "quarantined");
}

#[test]
fn the_address_that_the_guard_sees_at_the_wan_is_looked_up_and_its_change_is_shown() {
    let bench = Bench::active("geo: { prefixFile: /etc/prefixes.csv }", "{}");
    let wan = |address: &str| {
        bench.services.calls.borrow_mut().clear();
        bench.node.hear(Report::Outward(vec!["fe80::1".parse().unwrap(), address.parse().unwrap()]));
        bench.services.calls.borrow().contains(&"region")
    };
    assert!(!wan("100.64.3.3"), "a provider's shared address is anywhere");
    assert!(wan("84.1.1.1") && !wan("84.1.1.1"));
    bench.node.prefix_found("84.1.1.1".parse().unwrap(), Ok(Some("DE".into())));
    let found = evidence(&bench, "prefix-file").unwrap();
    assert_eq!((text(&found, "verdict"), text(&found, "region")), ("outside", "DE"));
    assert!(text(&found, "detail").contains("84.1.1.1"));
    beat(&bench, None);
    assert!(bench.has_alert("geo-suspect") && !bench.has_alert("geo-mismatch"));
    assert!(wan("85.2.2.2") && evidence(&bench, "prefix-file").is_none());
    assert!(text(&evidence(&bench, "wan-address").unwrap(), "detail").contains("from 84.1.1.1 to 85.2.2.2"));
    bench.node.prefix_found("85.2.2.2".parse().unwrap(), Ok(Some("DE".into())));
    bench.node.lose(None);
    assert_eq!(evidence(&bench, "prefix-file"), None, "nobody watches it any more");
}

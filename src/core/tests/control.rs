//! What the owner wants, and what the schedule and the region say.
use super::bench::{carry, is_reset, text};
use super::*;
use crate::coordinator::node::Node as _;
use crate::coordinator::wire::{HeartbeatAnswer, Observed};
use crate::core::lifecycle::NodeEvent;
use crate::json::Value;
use crate::policy::refusal::Refusal;
use crate::session::Direction;
use crate::time::Unix;

#[test]
fn a_pause_resets_flows_keeps_sessions_and_outlives_a_restart() {
    let bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    bench.node.on(NodeEvent::Pause);
    assert!(is_reset(&flow), "at once");
    assert_eq!(carry(&flow, Direction::Ingress, 1), 0);
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::Paused));
    assert_eq!((bench.state().as_str(), bench.queued(ID).len()), ("paused", 2));
    assert!(!bench.node.is_active(ID), "no probe is fetched while the owner has paused");
    drop(flow);
    bench.node.on(NodeEvent::Start);
    assert_eq!(bench.refusal(ID, "a.test"), None);
    bench.node.on(NodeEvent::Pause);
    let mut bench = bench.crash();
    assert_eq!(bench.state(), "paused");
    bench.node.on(NodeEvent::Start);
    bench = bench.crash();
    assert_eq!(bench.state(), "idle");
}

#[test]
fn a_stop_closes_all_sessions_and_outlives_a_restart() {
    let mut bench = Bench::active("", "{}");
    bench.open(&id(1), "{}");
    let flow = bench.tunnel(ID, "a.test");
    bench.node.on(NodeEvent::Stop);
    assert!(is_reset(&flow));
    assert_eq!(bench.state(), "draining");
    drop(flow);
    bench.tick();
    assert_eq!(bench.state(), "paused");
    for session in [ID.to_owned(), id(1)] {
        assert_eq!(bench.queued(&session), ["accepted", "active", "closing stopped", "settled"]);
    }
    let bench = bench.crash();
    assert_eq!(
        (bench.state().as_str(), text(&bench.status(), "reason")),
        ("paused", "Stopped by the owner.")
    );
}

#[test]
fn a_flood_is_an_alert_while_it_lasts() {
    use crate::session::Gate as _;
    let bench = Bench::active("", "{}");
    let codes = || bench.status().member("alerts").unwrap().canonical();
    bench.node.flood(true);
    bench.node.flood(true);
    assert_eq!(codes().matches(r#""code":"flood""#).count(), 1);
    assert_eq!(bench.status().member("refusals").unwrap().canonical(), "{}");
    bench.services.strangers.set(crate::relay::admission::Counts { dropped: 7, late: 5 });
    let refusals = bench.status().member("refusals").unwrap().canonical();
    assert_eq!(refusals, r#"{"auth-timeout":5,"flood":7}"#);
    bench.node.flood(false);
    assert!(!codes().contains("flood"));
}

#[test]
fn the_answer_to_a_stop_shows_what_came_of_it() {
    let bench = Bench::active("", "{}");
    let store = crate::config::Store::open(bench.dir.0.join("c.yaml"), crate::config::Platform::Other);
    let platform = crate::config::Platform::Other;
    let control = crate::core::backend::Control {
        node: bench.node.clone(),
        source: crate::core::source::Source::File(store),
        platform,
        epoch: 1 << 24,
    };
    crate::api::Backend::control(&control, crate::api::Action::Stop).unwrap();
    assert_eq!(bench.state(), "paused", "no flow had to end first");
}

#[test]
fn a_quarantine_is_a_latch_that_only_the_owner_opens() {
    let bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    bench.node.on(NodeEvent::Quarantine("a rule was broken".into()));
    assert!(is_reset(&flow));
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::Quarantined));
    drop(flow);
    bench.tick();
    assert_eq!(bench.queued(ID), ["accepted", "active", "closing quarantined", "settled"]);
    bench.node.on(NodeEvent::Start);
    let mut bench = bench.crash();
    assert_eq!(
        (bench.state().as_str(), text(&bench.status(), "reason")),
        ("quarantined", "a rule was broken")
    );
    bench.node.on(NodeEvent::ClearQuarantine);
    bench.open(&id(1), "{}");
    assert_eq!(bench.queued(&id(1)), ["accepted", "active"]);
    assert_eq!(bench.crash().state(), "idle");
}

#[test]
fn a_quarantine_and_the_sessions_it_closes_are_durable_in_one_write() {
    let bench = Bench::active("", "{}");
    let before = std::fs::read(bench.dir.0.join("journal")).unwrap();
    bench.node.on(NodeEvent::Quarantine("x".into()));
    let after = std::fs::read(bench.dir.0.join("journal")).unwrap();
    let written = String::from_utf8(after[before.len()..].to_vec()).unwrap();
    // The number of the write to flash that follows it is no part of it.
    let lines: Vec<&str> =
        written.lines().filter(|l| !l.ends_with("}]") || !l.contains("[{\"k\":\"kept\"")).collect();
    assert_eq!(lines.len(), 1, "{written}");
}

#[test]
fn the_end_of_the_schedule_resets_flows_and_its_beginning_carries_again() {
    // The bench begins on a Monday at noon, local time.
    let config = "node: { regionAllow: [PH-NCR], schedules: [{ days: [Mon], start: \"11:00\", end: \"12:05\" }, \
                  { days: [Mon], start: \"12:10\", end: \"13:00\" }] }";
    let mut bench = Bench::active(config, "{}");
    let handshake = Unix(START + 400).to_string();
    bench.open(&id(1), &format!(r#"{{"notBefore":"{}"}}"#, Unix(START + 50)));
    let flow = bench.tunnel(ID, "a.test");
    for _ in 0..299 {
        bench.pass(1);
        assert_eq!(carry(&flow, Direction::Ingress, 9), 9);
    }
    bench.pass(1);
    assert!(is_reset(&flow));
    drop(flow);
    assert_eq!(bench.state(), "outside-schedule");
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::OutsideSchedule));
    assert_eq!(text(bench.status().member("schedule").unwrap(), "nextChange"), Unix(START + 600).to_string());
    bench.pass(299);
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::OutsideSchedule));
    bench.pass(1);
    assert_eq!((bench.state().as_str(), bench.refusal(ID, "a.test")), ("active", None));
    assert!(bench.services.calls.borrow().contains(&"state"), "the coordinator is told soon");
    drop(handshake);
}

#[test]
fn a_session_whose_time_comes_outside_the_schedule_begins_with_it() {
    let config = "node: { regionAllow: [PH-NCR], schedules: [{ days: [Mon], start: \"11:00\", end: \"12:05\" }, \
                  { days: [Mon], start: \"12:10\", end: \"13:00\" }] }";
    let mut bench = Bench::with(config);
    bench.pass(250);
    bench.open(ID, &format!(r#"{{"notBefore":"{}"}}"#, Unix(START + 310)));
    bench.pass(349);
    assert_eq!(bench.queued(ID), ["accepted"]);
    bench.pass_ms(1000);
    bench.node.tick();
    assert_eq!(bench.queued(ID), ["accepted", "active"], "in the turn in which the schedule opens");
}

fn observe(bench: &Bench, region: &str, confidence: f64) {
    let observed = Some(Observed { address: "203.0.113.1".into(), region: region.into(), confidence });
    let server_time = Unix(bench.now());
    bench.node.heartbeat_answered(HeartbeatAnswer { account: Value::Null, observed, server_time });
    bench.tick();
}

#[test]
fn three_strikes_outside_the_regions_quarantine_until_the_owner_clears_them() {
    let mut bench = Bench::active("node: { regionAllow: [PH-NCR, PH-MIN] }", "{}");
    for (region, confidence) in [
        ("DE-BE", 0.9),
        ("DE-BE", 0.9),
        ("DE-BE", 0.7),
        ("DE-BE", 0.8),
        ("PH-MIN", 0.8),
        ("DE-BE", 1.0),
        ("DE-BE", 1.0),
    ] {
        observe(&bench, region, confidence);
        assert_ne!(bench.state(), "quarantined", "{region} {confidence}");
    }
    observe(&bench, "DE-BE", 0.8);
    assert_eq!(bench.state(), "quarantined");
    assert!(bench.has_alert("geo-mismatch"));
    assert_eq!(bench.queued(ID), ["accepted", "active", "closing quarantined", "settled"]);
    let store = crate::config::Store::open(bench.dir.0.join("c.yaml"), crate::config::Platform::Other);
    let control = crate::core::backend::Control {
        node: bench.node.clone(),
        source: crate::core::source::Source::File(store),
        platform: crate::config::Platform::Other,
        epoch: 1 << 24,
    };
    crate::api::Backend::control(&control, crate::api::Action::ClearQuarantine).unwrap();
    drop(control);
    assert_eq!((bench.state().as_str(), bench.has_alert("geo-mismatch")), ("idle", false));
    observe(&bench, "DE-BE", 0.9);
    observe(&bench, "DE-BE", 0.9);
    assert_eq!(bench.state(), "idle", "counting starts anew");
    bench.open(&id(1), "{}");
    assert_eq!(
        bench.queued(&id(1)),
        ["refused region-denied"],
        "the current region is the one last observed"
    );
}

#[test]
fn every_change_of_state_is_told() {
    let bench = Bench::new();
    bench.services.calls.borrow_mut().clear();
    bench.node.on(NodeEvent::Pause);
    bench.node.on(NodeEvent::Pause);
    let told = bench.services.calls.borrow().iter().filter(|c| **c == "state").count();
    assert_eq!(told, 1);
}

#[test]
fn traffic_outside_policy_is_a_quarantine_with_reason_alert_and_way_out() {
    use crate::core::quarantine::Violation;
    let bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    bench.node.quarantine(Violation::OutsidePolicy, "The guard refused 3 packets to 192.168.1.1.");
    assert!(is_reset(&flow) && bench.has_alert("outside-policy"));
    let reason = text(&bench.status(), "reason").to_owned();
    assert!(reason.starts_with("The guard refused 3 packets to 192.168.1.1. Check"), "{reason}");
    assert!(reason.ends_with("echomesh start --clear-quarantine"), "{reason}");
    drop(flow);
    bench.tick();
    assert_eq!(bench.queued(ID).last().unwrap(), "settled");
    let bench = bench.crash();
    assert!(bench.has_alert("quarantined"), "it is still shown after a restart");
    assert_eq!(text(&bench.status(), "reason"), reason);
    bench.node.clear_quarantine();
    assert!(!bench.has_alert("quarantined") && !bench.has_alert("outside-policy"));
    assert_eq!(bench.state(), "idle");
}

//! The wall clock is set, forward and back.
use super::bench::{carry, int, text};
use super::*;
use crate::coordinator::node::Node as _;
use crate::session::Direction;

#[test]
fn back_keeps_the_window_open_and_forward_seals_it() {
    let mut bench =
        Bench::active("", r#"{"notBefore":"2026-03-02T00:00:00Z","expiresAt":"2026-03-03T00:00:00Z"}"#);
    let flow = bench.tunnel(ID, "a.test");
    bench.pass(10);
    carry(&flow, Direction::Ingress, 100);
    bench.jump(-3600);
    carry(&flow, Direction::Ingress, 10);
    bench.tick();
    assert!(bench.node.durable.borrow().bundles.is_empty());
    bench.jump(7200);
    carry(&flow, Direction::Ingress, 1);
    bench.tick();
    bench.jump(-7200);
    carry(&flow, Direction::Ingress, 7);
    drop(flow);
    bench.jump(3600);
    bench.close(ID, "budget");
    bench.take_all();
    let seen: Vec<_> =
        bench.bundles.iter().map(|b| (text(b, "windowStart"), int(b, "bytesIngress"))).collect();
    assert_eq!(seen, [("2026-03-02T04:00:00Z", 110), ("2026-03-02T05:00:00Z", 8)]);
}

#[test]
fn a_corrected_clock_expires_sessions_at_once() {
    let mut bench = Bench::active("", "{}");
    bench.node.correct_clock((START + 3600) * 1000);
    bench.tick();
    assert_eq!(bench.queued(ID).last().unwrap(), "settled");
    assert_eq!(text(bench.node.durable.borrow().transitions.last().unwrap(), "at"), "2026-03-02T05:00:00Z");
    bench.open(&id(1), "{}");
    assert_eq!(bench.queued(&id(1)), ["accepted", "active"], "judged by the corrected clock");
}

#[test]
fn a_clock_that_the_system_sets_is_noticed_within_seconds_while_there_are_sessions() {
    let mut bench = Bench::active("", "{}");
    let wake = bench.node.tick().unwrap();
    assert!(wake.as_secs() <= 15, "{wake:?}");
    bench.jump(3600);
    bench.pass(15);
    assert_eq!(bench.queued(ID).last().unwrap(), "settled");
}

#[test]
fn a_day_back_and_forth_gives_nobody_a_second_quota() {
    let mut bench = Bench::active(
        "network: { maxMbps: 1000, maxGBPerDay: 0.001 }",
        r#"{"expiresAt":"2026-03-09T00:00:00Z"}"#,
    );
    let flow = bench.tunnel(ID, "a.test");
    assert_eq!(carry(&flow, Direction::Ingress, 1_000_000), 1_000_000);
    drop(flow);
    bench.jump(-86_400);
    bench.open(&id(1), "{}");
    bench.tick();
    assert_eq!(bench.refusal(&id(1), "a.test"), Some(crate::policy::refusal::Refusal::QuotaReached));
    let today = bench.status().member("today").unwrap().clone();
    assert_eq!(int(&today, "ingressBytes"), 1_000_000, "what is shown is what is counted against the quota");
}

#[test]
fn an_idle_node_is_not_woken() {
    let bench = Bench::new();
    assert_eq!(bench.node.tick(), None);
}

#[test]
fn a_day_far_ahead_and_back_gives_nobody_a_second_quota() {
    for days in [2, 30, 4000] {
        let mut bench = Bench::with("network: { maxMbps: 1000, maxGBPerDay: 0.001 }");
        bench.open(ID, r#"{"expiresAt":"2099-03-09T00:00:00Z"}"#);
        let flow = bench.tunnel(ID, "a.test");
        assert_eq!(carry(&flow, Direction::Ingress, 1_000_000), 1_000_000);
        drop(flow);
        bench.jump(days * 86_400);
        bench.tick();
        drop(bench.tunnel(ID, "a.test"));
        bench.jump(-days * 86_400);
        bench.tick();
        assert_eq!(
            bench.refusal(ID, "a.test"),
            Some(crate::policy::refusal::Refusal::QuotaReached),
            "{days}"
        );
    }
}

#[test]
fn a_clock_that_is_set_into_closed_hours_lets_nothing_in_before_the_node_has_looked() {
    let hours =
        "node: { regionAllow: [PH-NCR], schedules: [{ days: [Mon], start: \"11:30\", end: \"12:30\" }] }";
    let mut bench =
        Bench::active(hours, r#"{"notBefore":"2026-03-01T00:00:00Z","expiresAt":"2026-03-09T00:00:00Z"}"#);
    let flow = bench.tunnel(ID, "a.test");
    assert_eq!(carry(&flow, Direction::Ingress, 9), 9);
    bench.jump(3600);
    assert_eq!(carry(&flow, Direction::Ingress, 9), 0);
    assert_eq!(bench.refusal(ID, "a.test"), Some(crate::policy::refusal::Refusal::OutsideSchedule));
    bench.open(&id(1), "{}");
    assert_eq!(bench.queued(&id(1)), ["refused outside-schedule"]);
    bench.tick();
    assert!(bench::is_reset(&flow));
}

/// Open from 11:30 to 12:30 on the Monday at whose noon the tests begin.
const AT_NOON: &str =
    "node: { regionAllow: [PH-NCR], schedules: [{ days: [Mon], start: \"11:30\", end: \"12:30\" }] }";
const LONG: &str = r#"{"notBefore":"2026-03-01T00:00:00Z","expiresAt":"2026-03-09T00:00:00Z"}"#;

#[test]
fn the_coordinators_time_does_not_move_the_owners_hours() {
    for hours in [-8, 8] {
        let mut bench = Bench::active(AT_NOON, LONG);
        let flow = bench.tunnel(ID, "a.test");
        bench.node.correct_clock((START + hours * 3600) * 1000);
        bench.tick();
        assert_eq!(bench.now(), START + hours * 3600, "sessions go by it");
        assert_eq!(carry(&flow, Direction::Ingress, 9), 9, "{hours}");
        let change = crate::time::Unix(bench.now() + 1800).to_string();
        assert_eq!(
            text(bench.status().member("schedule").unwrap(), "nextChange"),
            change,
            "half an hour ahead"
        );
        bench.pass(1801);
        assert!(bench::is_reset(&flow), "{hours}");
        bench.node.correct_clock(START * 1000);
        assert_eq!(
            bench.refusal(ID, "a.test"),
            Some(crate::policy::refusal::Refusal::OutsideSchedule),
            "the coordinator says noon"
        );
    }
}

#[test]
fn while_the_routers_clock_is_unset_the_coordinators_stands_in_for_it() {
    let mut bench = Bench::active(AT_NOON, LONG);
    bench.node.correct_clock(START * 1000);
    bench.jump(-START);
    let flow = bench.tunnel(ID, "a.test");
    assert_eq!(carry(&flow, Direction::Ingress, 9), 9);
    bench.node.correct_clock((START + 3600) * 1000);
    assert_eq!(carry(&flow, Direction::Ingress, 9), 0);
}

#[test]
fn nothing_is_carried_in_hours_that_nobody_knows() {
    let always = "node: { regionAllow: [PH-NCR], schedules: [{ days: [Mon, Tue, Wed, Thu, Fri, Sat, Sun], start: \"00:00\", end: \"24:00\" }] }";
    let bench = Bench::at(0, |_| crate::policy::schedule::LocalTime { offset_s: 0 }, always);
    assert!(!bench.node.ledger.hours(bench.clock.now()).open);
    assert!(bench.node.tick().is_some_and(|wake| wake.as_secs() <= 60), "it looks again");
    bench.node.correct_clock(START * 1000);
    assert!(bench.node.ledger.hours(bench.clock.now()).open);
}

#[test]
fn a_clock_set_back_before_a_sessions_beginning_cuts_it() {
    let mut bench = Bench::active("", r#"{"expiresAt":"2026-03-09T00:00:00Z"}"#);
    let flow = bench.tunnel(ID, "a.test");
    bench.jump(-60);
    assert_eq!(carry(&flow, Direction::Ingress, 9), 0);
    bench.tick();
    assert!(bench::is_reset(&flow));
    drop(flow);
    bench.jump(60);
    assert_eq!(carry(&bench.tunnel(ID, "a.test"), Direction::Ingress, 9), 9);
}

#[test]
fn ntp_after_the_coordinators_correction_does_not_count_twice() {
    let mut bench = Bench::new();
    bench.jump(-START);
    bench.node.correct_clock(START * 1000);
    bench.jump(START);
    assert_eq!(bench.now(), START);
}

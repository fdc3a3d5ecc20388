//! Bytes that may pass: of a session, of its UTC day, of the owner's local day and month.
use super::bench::{carry, int, is_reset};
use super::*;
use crate::policy::refusal::Refusal;
use crate::session::Direction;
use crate::session::limits::PORTION;

/// Carries until nothing more is granted, without waiting for the rate.
fn fill(flow: &crate::session::Flow) -> usize {
    let mut total = 0;
    loop {
        match carry(flow, Direction::Ingress, 16_384) {
            0 => return total,
            n => total += n,
        }
    }
}

#[test]
fn max_gb_is_carried_to_the_byte_and_closes_the_session() {
    let mut bench = Bench::active("", r#"{"limits":{"maxGB":0.0001}}"#);
    let flow = bench.tunnel(ID, "a.test");
    assert_eq!(fill(&flow), 100_000);
    bench.tick();
    assert!(is_reset(&flow));
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::SessionClosed));
    drop(flow);
    bench.tick();
    assert_eq!(bench.queued(ID), ["accepted", "active", "closing quota", "settled"]);
    bench.take_all();
    assert_eq!(int(&bench.bundles[0], "bytesIngress"), 100_000);
}

#[test]
fn a_sessions_day_ends_at_midnight_utc() {
    let mut bench =
        Bench::active("", r#"{"limits":{"maxGBPerDay":0.0001},"expiresAt":"2026-03-04T00:00:00Z"}"#);
    bench.open(&id(1), r#"{"expiresAt":"2026-03-04T00:00:00Z"}"#);
    let (flow, other) = (bench.tunnel(ID, "a.test"), bench.tunnel(&id(1), "a.test"));
    assert_eq!(fill(&flow), 100_000);
    bench.tick();
    assert!(is_reset(&flow) && !is_reset(&other), "the other session goes on");
    drop((flow, other));
    let denied = bench.connect(ID, "a.test").err().unwrap();
    assert_eq!((denied.refusal, denied.retry_after_s), (Refusal::QuotaReached, Some(20 * 3600)));
    assert_eq!(bench.queued(ID).len(), 2, "the session is kept");
    bench.pass(20 * 3600 - 1);
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::QuotaReached));
    bench.pass(1);
    let flow = bench.tunnel(ID, "a.test");
    assert_eq!(fill(&flow), 100_000);
}

#[test]
fn the_owners_day_ends_at_local_midnight_and_its_alert_with_it() {
    let config = "network: { maxMbps: 1000, maxGBPerDay: 0.001 }";
    let mut bench = Bench::active(config, r#"{"expiresAt":"2026-03-04T00:00:00Z"}"#);
    bench.open(&id(1), r#"{"expiresAt":"2026-03-04T00:00:00Z"}"#);
    let (flow, other) = (bench.tunnel(ID, "a.test"), bench.tunnel(&id(1), "a.test"));
    assert_eq!(carry(&other, Direction::Egress, 10_000) + fill(&flow), 1_000_000);
    bench.tick();
    assert!(is_reset(&flow) && is_reset(&other) && bench.has_alert("quota-reached"));
    drop((flow, other));
    let denied = bench.connect(&id(1), "a.test").err().unwrap();
    assert_eq!((denied.refusal, denied.retry_after_s), (Refusal::QuotaReached, Some(12 * 3600)));
    let today = bench.status().member("today").unwrap().clone();
    assert_eq!((int(&today, "ingressBytes"), int(&today, "egressBytes")), (990_000, 10_000));
    bench.pass(12 * 3600 - 1);
    assert!(bench.has_alert("quota-reached"));
    bench.pass(1);
    assert!(!bench.has_alert("quota-reached"), "taken back when the day ends, without any traffic");
    assert_eq!(bench.refusal(ID, "a.test"), None);
    assert_eq!(int(bench.status().member("today").unwrap(), "ingressBytes"), 0);
}

#[test]
fn the_owners_month_binds_longer_than_his_day() {
    let config = "network: { maxMbps: 1000, maxGBPerDay: 1, maxGBPerMonth: 0.001, monthResetDay: 5 }";
    let mut bench = Bench::active(config, r#"{"expiresAt":"2026-03-09T00:00:00Z"}"#);
    let flow = bench.tunnel(ID, "a.test");
    assert_eq!(fill(&flow), 1_000_000);
    drop(flow);
    bench.tick();
    bench.pass(2 * 86_400 + 12 * 3600 - 1);
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::QuotaReached));
    assert!(bench.has_alert("quota-reached"));
    bench.pass(1);
    assert_eq!((bench.refusal(ID, "a.test"), bench.has_alert("quota-reached")), (None, false));
}

#[test]
fn a_quota_lowered_below_what_is_used_ends_flows_or_the_session() {
    let mut bench = Bench::active("network: { maxMbps: 1000, maxGBPerDay: 1 }", "{}");
    let flow = bench.tunnel(ID, "a.test");
    while bench.node.ledger.bytes_today(bench.clock.now()).0 < 2_000_000 {
        carry(&flow, Direction::Ingress, 100_000);
    }
    bench.configure("network: { maxMbps: 1000, maxGBPerDay: 0.001 }");
    assert!(is_reset(&flow) && bench.has_alert("quota-reached"));
    drop(flow);
    bench.configure("network: { maxMbps: 1000, maxGBPerDay: 1 }");
    assert!(!bench.has_alert("quota-reached"), "raised again");
    let flow = bench.tunnel(ID, "a.test");
    bench.configure("network: { maxMbps: 1000, maxGBPerDay: 1, perSession: { maxGB: 0.001 } }");
    assert!(is_reset(&flow));
    assert_eq!(bench.queued(ID).last().unwrap(), "closing quota");
}

#[test]
fn a_rate_is_kept_and_a_new_one_holds_at_once() {
    let mut bench = Bench::active("", r#"{"limits":{"maxMbps":8,"burstKB":100}}"#);
    let flow = bench.tunnel(ID, "a.test");
    // What is less than a portion is left for the next time.
    let nearly = |carried: usize, all: usize| (all - PORTION as usize..=all).contains(&carried);
    assert!(nearly(fill(&flow), 100_000), "the burst");
    bench.pass(1);
    assert!(nearly(fill(&flow), 100_000), "no more than the bucket holds");
    let mut second = 0;
    for _ in 0..20 {
        bench.pass_ms(50);
        second += fill(&flow);
    }
    assert!(nearly(second, 1_000_000), "8 Mbit/s: {second}");
    bench.configure("network: { maxMbps: 0.8, maxGBPerDay: 1000 }");
    bench.pass_ms(500);
    fill(&flow);
    let mut second = 0;
    for _ in 0..10 {
        bench.pass_ms(100);
        second += fill(&flow);
    }
    assert!((95_000..=105_000).contains(&second), "0.8 Mbit/s of the owner's: {second}");
}

#[test]
fn another_reset_day_keeps_the_count_and_the_month_begins_on_it() {
    let on = |day| {
        format!("network: {{ maxMbps: 1000, maxGBPerDay: 1, maxGBPerMonth: 0.001, monthResetDay: {day} }}")
    };
    let mut bench = Bench::active(&on(1), r#"{"expiresAt":"2026-03-09T00:00:00Z"}"#);
    drop(bench.tunnel(ID, "a.test"));
    assert_eq!(fill(&bench.tunnel(ID, "a.test")), 1_000_000);
    bench.configure(&on(4));
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::QuotaReached));
    let mut bench = bench.crash();
    bench.open(&id(1), r#"{"expiresAt":"2026-03-09T00:00:00Z"}"#);
    assert_eq!(bench.refusal(&id(1), "a.test"), Some(Refusal::QuotaReached));
    bench.pass(86_400 + 12 * 3600);
    assert_eq!(bench.refusal(&id(1), "a.test"), None, "on the 4th");
}

#[test]
fn what_is_granted_and_not_yet_passed_on_is_granted_to_nobody_else() {
    let bench = Bench::active("network: { maxMbps: 1000, maxGBPerDay: 0.001 }", "{}");
    let (a, b) = (bench.tunnel(ID, "a.test"), bench.tunnel(ID, "a.test"));
    a.hold(999_990);
    assert_eq!(carry(&b, Direction::Egress, 100), 10);
    assert_eq!(carry(&b, Direction::Egress, 100), 0);
    a.count(Direction::Egress, 500_000);
    assert_eq!(carry(&b, Direction::Egress, 100), 0);
    drop(a);
    assert_eq!(fill(&b), 499_990, "what never passed is free again");
}

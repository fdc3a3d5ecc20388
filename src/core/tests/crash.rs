//! The process dies at any point: nothing is doubled, nothing acknowledged is lost.
use super::bench::{carry, int, text};
use super::*;
use crate::coordinator::node::{Node as _, Outgoing};
use crate::json::Value;
use crate::session::Direction;
use std::collections::BTreeMap;

/// What a coordinator must never see: two bundles of one place in a chain, or of one window.
fn assert_chain(bundles: &[Value]) {
    let mut windows: BTreeMap<(String, i64), &Value> = BTreeMap::new();
    for bundle in bundles {
        let place = (text(bundle, "sessionId").to_owned(), int(bundle, "seq"));
        if let Some(earlier) = windows.insert(place, bundle) {
            assert_eq!(earlier.canonical(), bundle.canonical(), "a repeat is byte-identical");
        }
    }
    let unique: Vec<&Value> = windows.into_values().collect();
    for pair in unique.windows(2) {
        if text(pair[0], "sessionId") == text(pair[1], "sessionId") {
            assert!(text(pair[0], "windowStart") < text(pair[1], "windowStart"));
            assert_eq!(int(pair[0], "seq") + 1, int(pair[1], "seq"));
        }
    }
}

/// One life: each step changes something durable.
fn step(bench: &mut Bench, step: u32) {
    match step {
        0 => bench.open(ID, "{}"),
        1 => drop(bench.take_one()),
        2 => carry_some(bench),
        3 => bench.pass(300),
        4 => carry_some(bench),
        5 => bench.pass(301),
        6 => drop(bench.take_one()),
        7 => drop(bench.take_one()),
        8 => carry_some(bench),
        9 => bench.close(ID, "budget"),
        10..=15 => drop(bench.take_one()),
        _ => {}
    }
}

fn carry_some(bench: &mut Bench) {
    if let Ok(flow) = bench.connect(ID, "a.test") {
        flow.passed_hello();
        carry(&flow, Direction::Ingress, 4096);
    }
}

#[test]
fn a_crash_after_any_step_doubles_nothing_and_settles_what_was_accepted() {
    for crash_after in 0..=16 {
        let mut bench = Bench::new();
        for n in 0..=16 {
            step(&mut bench, n);
            if n == crash_after {
                // The answer to a post may be lost with the process: what waits then is posted again.
                if let Some(Outgoing::Bundles(bundles)) = bench.node.next_outgoing() {
                    bench.bundles.extend(bundles);
                }
                let (cursor, waiting) = (bench.node.cursor(), bench.node.durable.borrow().clone());
                bench = bench.crash();
                assert_eq!(bench.node.cursor(), cursor, "after step {n}");
                let now = bench.node.durable.borrow().clone();
                let written = |v: &[Value]| v.iter().map(Value::canonical).collect::<Vec<_>>();
                let (bundles, transitions) = (written(&waiting.bundles), written(&waiting.transitions));
                assert_eq!(written(&now.bundles)[..bundles.len()], bundles, "after step {n}");
                assert_eq!(written(&now.transitions)[..transitions.len()], transitions, "after step {n}");
            }
        }
        bench.take_all();
        assert_chain(&bench.bundles);
        let posted = bench.posted(ID);
        assert_eq!(posted.last().unwrap(), "settled", "crash after {crash_after}: {posted:?}");
        let closings = posted.iter().filter(|t| t.starts_with("closing")).count();
        assert_eq!(closings, 1, "crash after {crash_after}: {posted:?}");
        let totals = bench.transitions.last().unwrap().member("totals").unwrap();
        let mut unique: Vec<Value> =
            bench.bundles.iter().map(|b| crate::json::parse(b.canonical().as_bytes()).unwrap()).collect();
        unique.sort_by_key(|b| int(b, "seq"));
        unique.dedup();
        let sum = unique.iter().map(|b| int(b, "bytesIngress")).sum::<i64>();
        assert_eq!(sum, int(totals, "bytesIngress"), "crash after {crash_after}");
        assert_eq!(unique.len() as i64, int(totals, "bundles"), "crash after {crash_after}");
    }
}

#[test]
fn a_session_whose_flows_were_ending_is_told_to_be_closing_once() {
    let mut bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    bench.close(ID, "budget");
    bench.take_all();
    assert_eq!(bench.posted(ID), ["accepted", "active", "closing budget"]);
    // The process dies without its destructors.
    std::mem::forget(flow);
    let Bench { dir, .. } = bench;
    let path = dir.0.join("journal");
    let copy = dir.0.join("copy");
    std::fs::copy(path, &copy).unwrap();
    let (_, records, _) = crate::meter::Journal::open(&copy).unwrap();
    let durable = crate::core::durable::Durable::replay(&records);
    assert!(durable.open[ID].closing);
}

#[test]
fn what_cannot_be_made_durable_is_not_acknowledged_and_not_posted() {
    let mut bench = Bench::new();
    bench.open(ID, "{}");
    bench.take_all();
    let cursor = bench.node.cursor();
    // The quotas' counts are written ahead; nothing would be carried otherwise.
    drop(bench.tunnel(ID, "a.test"));
    let aside = bench.dir.0.with_extension("aside");
    std::fs::rename(&bench.dir.0, &aside).unwrap();
    bench.node.behind.set(true);
    let order = open_order(&id(1), bench.now());
    assert!(bench.signal("open", order.clone()).is_err());
    assert_eq!(bench.node.cursor(), cursor, "the same signals will come again");
    assert_eq!(bench.node.next_outgoing(), None);
    assert!(bench.has_alert("state-unwritable"));
    carry_some(&mut bench);
    bench.try_close(ID, "budget").unwrap_err();
    assert_eq!(bench.node.next_outgoing(), None);
    std::fs::rename(&aside, &bench.dir.0).unwrap();
    bench.pass(10);
    assert!(!bench.has_alert("state-unwritable"));
    bench.signal("open", order).unwrap();
    assert_ne!(bench.node.cursor(), cursor);
    let mut bench = bench.crash();
    bench.take_all();
    assert_eq!(bench.posted(ID), ["accepted", "active", "closing budget", "settled"]);
    assert_eq!(int(&bench.bundles[0], "bytesIngress"), 4096);
    assert_eq!(bench.posted(&id(1)), ["refused capacity"], "what was held in memory is not lost");
}

#[test]
fn a_node_that_died_without_a_clock_goes_on_from_its_last_time() {
    let mut bench = Bench::active("", "{}");
    bench.pass(1000);
    bench.close(ID, "budget");
    bench.open(&id(1), "{}");
    let last = bench.now();
    bench.jump(-1_700_000_000);
    let bench = bench.crash();
    let closing =
        bench.node.durable.borrow().transitions.iter().rev().find(|t| text(t, "sessionId") == id(1)).cloned();
    assert_eq!(text(&closing.unwrap(), "at"), crate::time::Unix(last).to_string());
}

#[test]
fn quota_counters_outlive_a_crash() {
    let config = "network: { maxMbps: 1000, maxGBPerDay: 0.001 }";
    let mut bench = Bench::active(config, "{}");
    let flow = bench.tunnel(ID, "a.test");
    let mut carried = 0;
    for _ in 0..20 {
        carried += carry(&flow, Direction::Ingress, 100_000);
    }
    assert_eq!(carried, 1_000_000);
    drop(flow);
    bench.pass(300);
    let mut bench = bench.crash();
    assert!(bench.has_alert("quota-reached"), "it is still used up");
    bench.open(&id(1), "{}");
    assert_eq!(bench.refusal(&id(1), "a.test"), Some(crate::policy::refusal::Refusal::QuotaReached));
    assert_eq!(int(bench.status().member("today").unwrap(), "ingressBytes"), 1_000_000);
}

#[test]
fn a_nonce_is_answered_once_over_restarts() {
    let mut bench = Bench::new();
    bench.node.keep_nonce("n1").unwrap();
    assert!(bench.node.nonce_answered("n1") && !bench.node.nonce_answered("n2"));
    bench = bench.crash();
    assert!(bench.node.nonce_answered("n1"));
    bench.pass(crate::probe::plan::NONCE_KEPT_S + 1);
    bench.node.keep_nonce("n3").unwrap();
    assert!(!bench.node.nonce_answered("n1"), "its request is stale by now");
}

#[test]
fn a_kill_at_any_moment_gives_nobody_more_than_the_quota() {
    let config = "network: { maxMbps: 8, maxGBPerDay: 0.01 }";
    let mut bench = Bench::with(config);
    let mut carried = 0;
    for n in 0..60 {
        bench.open(&id(n), "{}");
        bench.tick();
        let Ok(flow) = bench.connect(&id(n), "a.test") else { break };
        flow.passed_hello();
        bench.tick();
        for _ in 0..4 {
            carried += carry(&flow, Direction::Ingress, 100_000);
            bench.pass_ms(100);
        }
        // As by kill -9: nothing is written at the end.
        drop(flow);
        bench = bench.crash();
    }
    assert!(carried <= 10_000_000, "{carried} bytes");
    assert!(carried >= 2_000_000, "a second of the rate is charged for each kill, no more: {carried}");
    bench.open(&id(100), "{}");
    assert_eq!(bench.refusal(&id(100), "a.test"), Some(crate::policy::refusal::Refusal::QuotaReached));
}

#[test]
fn a_clean_end_charges_nothing_that_was_not_carried() {
    let config = "network: { maxMbps: 1000, maxGBPerDay: 0.001 }";
    let bench = Bench::active(config, "{}");
    let flow = bench.tunnel(ID, "a.test");
    assert_eq!(carry(&flow, Direction::Ingress, 400_000), 400_000);
    drop(flow);
    bench.node.on(crate::core::lifecycle::NodeEvent::Drain);
    bench.node.finish();
    let mut bench = bench.crash();
    bench.open(&id(1), "{}");
    let flow = bench.tunnel(&id(1), "a.test");
    assert_eq!(carry(&flow, Direction::Ingress, 1_000_000), 600_000);
}

#[test]
fn without_a_journal_nothing_is_carried_beyond_what_it_covers() {
    let mut bench = Bench::active("network: { maxMbps: 8, maxGBPerDay: 0.01 }", "{}");
    let flow = bench.tunnel(ID, "a.test");
    std::fs::rename(&bench.dir.0, bench.dir.0.with_extension("gone")).unwrap();
    bench.node.behind.set(true);
    let mut carried = 0;
    for _ in 0..100 {
        carried += carry(&flow, Direction::Ingress, 1_000_000);
        bench.pass(1);
    }
    std::fs::rename(bench.dir.0.with_extension("gone"), &bench.dir.0).unwrap();
    assert!((1..=1_000_000).contains(&carried), "{carried}");
    assert!(bench.has_alert("state-unwritable"));
}

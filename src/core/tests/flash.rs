//! Writes to flash, counted in the file itself over simulated days, and what is left after power loss.
use super::bench::{carry, int, text};
use super::*;
use crate::coordinator::node::Node as _;
use crate::core::lifecycle::NodeEvent;
use crate::json::Value;
use crate::session::Direction;
use std::collections::BTreeMap;

const DAY_MINUTES: u32 = 24 * 60;

/// Batches in the journal on flash. The file only grows in these tests: each is one append.
fn batches(bench: &Bench) -> u64 {
    let text = std::fs::read(bench.dir.0.join("flash")).unwrap();
    text.iter().filter(|b| **b == b'\n').count() as u64
}

/// A session of three days.
fn long(config: &str) -> Bench {
    let mut bench = Bench::with(config);
    let until = crate::time::Unix(START + 3 * crate::time::DAY).to_string();
    bench.open(ID, &format!(r#"{{"expiresAt":"{until}"}}"#));
    assert_eq!(bench.queued(ID), ["accepted", "active"]);
    bench
}

/// A minute in which a buyer fetches a megabyte. A coordinator that is there takes what is posted within 20 s.
fn busy_minute(bench: &mut Bench, coordinator: bool) {
    if let Ok(flow) = bench.connect(ID, "a.test") {
        flow.passed_hello();
        let mut left = 1_000_000;
        while left > 0 {
            match carry(&flow, Direction::Ingress, left) {
                0 => bench.pass(1),
                some => left -= some,
            }
        }
    }
    for _ in 0..3 {
        bench.pass(20);
        if coordinator {
            bench.take_all();
        }
    }
}

#[test]
fn an_idle_day_writes_nothing() {
    let mut bench = long("");
    bench.take_all();
    bench.pass(60);
    let before = batches(&bench);
    for _ in 0..DAY_MINUTES {
        bench.pass(60);
        bench.take_all();
    }
    assert_eq!(batches(&bench) - before, 0);
    assert_eq!(batches(&bench), bench.node.flash_writes(), "the file and the node agree");
}

/// Windows are sealed and taken, quotas are counted, probes are answered: nothing of that is written as time passes, but
/// for the marks of the day's quota.
#[test]
fn a_busy_day_writes_the_marks_of_the_quota_alone() {
    let mut bench = long("network:\n  maxGBPerDay: 2\n");
    bench.take_all();
    let before = batches(&bench);
    for minute in 0..DAY_MINUTES {
        busy_minute(&mut bench, true);
        bench.node.keep_nonce(&format!("nonce-{minute}")).unwrap();
    }
    let written = batches(&bench) - before;
    assert!((1..=10).contains(&written), "{written} writes, of which nine for the marks and the new day");
    assert!(bench.bundles.len() > 250, "{} windows were taken", bench.bundles.len());
}

#[test]
fn an_outage_writes_once_a_window_at_most() {
    let mut bench = long("");
    bench.take_all();
    let mut windows: BTreeMap<i64, u64> = BTreeMap::new();
    let mut last = batches(&bench);
    for _ in 0..6 * 60 {
        busy_minute(&mut bench, false);
        let now = batches(&bench);
        *windows.entry((bench.now() - START) / 300).or_default() += now - last;
        last = now;
    }
    let most = windows.values().max().copied().unwrap();
    assert_eq!(most, 1, "{windows:?}");
    let all: u64 = windows.values().sum();
    assert!(
        all > 60,
        "{all} writes in {} windows: what the coordinator has not taken is kept",
        windows.len()
    );
}

#[test]
fn what_the_coordinator_has_not_taken_survives_power_loss() {
    let mut bench = Bench::active("", "{}");
    bench.take_all();
    for _ in 0..21 {
        busy_minute(&mut bench, false);
    }
    let waiting: Vec<String> = bench.node.durable.borrow().bundles.iter().map(Value::canonical).collect();
    assert!(waiting.len() >= 3);
    let mut bench = bench.lose_power();
    let kept: Vec<String> = bench.node.durable.borrow().bundles.iter().map(Value::canonical).collect();
    assert!(kept.len() + 2 >= waiting.len(), "{} of {}: two windows may be lost", kept.len(), waiting.len());
    assert_eq!(kept, waiting[..kept.len()], "and nothing is begun anew");
    bench.take_all();
    assert_eq!(bench.posted(ID), ["accepted", "active", "closing stopped"], "its last windows are not known");
    assert!(bench.has_alert("session-lost"));
}

#[test]
fn a_session_is_never_opened_twice_nor_a_bundle_made_twice() {
    let mut bench = Bench::active("", "{}");
    bench.take_all();
    for _ in 0..21 {
        busy_minute(&mut bench, true);
    }
    let taken = bench.bundles.len();
    assert!(taken >= 3);
    let mut bench = bench.lose_power();
    bench.take_all();
    assert_eq!(bench.bundles.len(), taken, "a chain begun anew would double bundle 0");
    bench.open(ID, "{}");
    assert_eq!(bench.queued(ID).iter().filter(|t| *t == "accepted").count(), 0);
}

#[test]
fn the_quota_is_charged_up_to_the_mark_after_power_loss_and_exactly_after_a_stop() {
    let used = |bench: &Bench| {
        let today = bench.status().member("today").cloned().unwrap();
        let left = bench.node.ledger.allowance.borrow().day.remaining();
        (int(&today, "ingressBytes"), left)
    };
    let mut bench = Bench::active("network:\n  maxGBPerDay: 1\n", "{}");
    busy_minute(&mut bench, false);
    let before = used(&bench);
    let bench = bench.lose_power();
    let after = used(&bench);
    assert!(after.1 < before.1, "{before:?} {after:?}");
    assert!(after.1 >= 1_000_000_000 / 2, "two marks at most: {after:?}");
    let bench = bench.lose_power();
    assert_eq!(used(&bench).1, after.1, "not once more");

    let mut stopped = Bench::active("network:\n  maxGBPerDay: 1\n", "{}");
    busy_minute(&mut stopped, false);
    let before = used(&stopped);
    stopped.node.on(NodeEvent::Drain);
    stopped.node.finish();
    assert_eq!(used(&stopped.lose_power()).1, before.1);
}

#[test]
fn the_owners_pause_survives_power_loss() {
    let bench = Bench::active("", "{}");
    bench.node.on(NodeEvent::Pause);
    let bench = bench.lose_power();
    assert_eq!(bench.state(), "paused");
}

#[test]
fn a_process_that_dies_goes_on_from_memory_and_another_run_directory_does_not() {
    let mut bench = Bench::active("", "{}");
    busy_minute(&mut bench, false);
    bench.pass(300);
    let waiting = bench.node.durable.borrow().bundles.len();
    assert!(waiting > 0);
    let copy = bench.dir.0.join("old");
    std::fs::copy(bench.dir.0.join("journal"), &copy).unwrap();
    let mut bench = bench.crash();
    assert!(bench.node.durable.borrow().bundles.len() >= waiting);
    assert!(!bench.has_alert("session-lost"));
    bench.take_all();
    assert_eq!(bench.posted(ID).last().unwrap(), "settled");
    bench.open(&id(1), "{}");
    let cursor = text(&bench.status(), "nodeId").to_owned();
    // A run directory that was left behind long ago has an old journal in it.
    let bench = bench.crash_from(&copy);
    assert!(bench.node.durable.borrow().known.contains_key(&id(1)), "{cursor}");
}

#[test]
fn a_flash_that_takes_nothing_is_an_alert_and_tried_again() {
    let mut bench = Bench::active("", "{}");
    bench.take_all();
    let flash = bench.node.flash.borrow_mut().take();
    *bench.node.flash.borrow_mut() = flash.map(crate::core::flash::Flash::torn);
    let in_the_way = bench.dir.0.join("flash.new");
    std::fs::create_dir(&in_the_way).unwrap();
    bench.open(&id(1), "{}");
    assert!(bench.has_alert("flash-unwritable"));
    assert_eq!(bench.queued(&id(1)), ["accepted", "active"], "a dying process loses nothing all the same");
    std::fs::remove_dir(in_the_way).unwrap();
    bench.pass(11);
    assert!(!bench.has_alert("flash-unwritable"));
}

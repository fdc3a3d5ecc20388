//! What the node writes down about its buyers, and for how long.
use super::bench::{BUYER, Bench, ID};
use crate::time::DAY;

/// The whole access log.
fn log(bench: &Bench) -> String {
    String::from_utf8(bench.node.ledger.log.borrow().export(None).unwrap()).unwrap()
}

#[test]
fn a_buyers_address_is_logged_only_if_the_owner_wants_it_and_from_then_on() {
    let mut bench = Bench::active("", "{}");
    drop(bench.tunnel(ID, "a.test"));
    bench.configure("privacy: { logBuyerAddress: true }");
    drop(bench.tunnel(ID, "a.test"));
    bench.configure("privacy: { logBuyerAddress: true }\nnetwork: { blocklistDomains: [a.test] }");
    assert!(bench.connect(ID, "a.test").is_err());
    let log = log(&bench);
    let told: Vec<bool> = log.lines().map(|l| l.contains(&format!("\"buyerAddress\":\"{BUYER}\""))).collect();
    assert_eq!(told, [false, true, true], "{log}");
}

#[test]
fn lines_leave_the_log_when_the_owner_no_longer_wants_them() {
    let mut bench = Bench::active("", "{}");
    drop(bench.tunnel(ID, "a.test"));
    bench.pass(6 * DAY);
    bench.tick();
    assert_eq!(log(&bench).lines().count(), 1);
    bench.pass(2 * DAY);
    bench.tick();
    assert_eq!(log(&bench), "");
}

#[test]
fn a_shorter_time_takes_effect_at_once() {
    let mut bench = Bench::active("", "{}");
    drop(bench.tunnel(ID, "a.test"));
    bench.pass(2 * DAY);
    bench.tick();
    assert_eq!(log(&bench).lines().count(), 1);
    bench.configure("privacy: { retentionDays: 1 }");
    bench.tick();
    assert_eq!(log(&bench), "");
}

#[test]
fn a_node_without_sessions_wakes_once_a_day_as_long_as_it_keeps_lines() {
    let mut bench = Bench::active("", "{}");
    drop(bench.tunnel(ID, "a.test"));
    bench.close(ID, "buyer-ended");
    bench.take_all();
    bench.tick();
    let wait = i64::try_from(bench.node.tick().unwrap().as_secs()).unwrap();
    assert!((1..=DAY).contains(&wait), "{wait}");
    bench.pass(8 * DAY);
    assert_eq!((log(&bench).as_str(), bench.node.tick()), ("", None));
}

//! What the guard reports, and what the node makes of it.
use super::bench::is_reset;
use super::*;
use crate::guard::client::{Listener as _, Lost};
use crate::guard::protocol::{Report, State};
use crate::policy::refusal::Refusal;
use crate::policy::wan::Wan;

/// A guard of this process's user; `refused` packets for their address.
fn says(bench: &Bench, in_force: bool, refused: u64) {
    let uid = rustix::process::geteuid().as_raw();
    let refused = [0, refused, 0, 0, 0, 0];
    bench.node.hear(Report::State(State { in_force, literals_differ: false, uid, refused }));
}

fn guarded() -> Bench {
    let bench = Bench::active("", "{}");
    bench.node.hear(Report::Networks(Vec::new()));
    bench.node.hear(Report::Wan(Wan::default()));
    says(&bench, true, 0);
    bench
}

fn guard(bench: &Bench) -> String {
    super::bench::text(&bench.status(), "guard").to_owned()
}

#[test]
fn while_the_table_does_not_stand_nothing_is_carried_and_live_flows_end() {
    let bench = guarded();
    assert_eq!((bench.state().as_str(), guard(&bench).as_str()), ("active", "up"));
    let flow = bench.tunnel(ID, "a.test");
    says(&bench, false, 0);
    assert!(is_reset(&flow), "at once");
    drop(flow);
    assert_eq!((bench.state().as_str(), guard(&bench).as_str()), ("guard-down", "down"));
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::GuardDown));
    says(&bench, true, 0);
    assert_eq!((bench.state().as_str(), bench.refusal(ID, "a.test")), ("active", None));
}

#[test]
fn a_guard_that_is_lost_is_an_alert_and_the_networks_are_its_no_more() {
    let bench = guarded();
    assert!(bench.node.guarded_networks().is_some());
    bench.node.lose(Some(&Lost::Impostor(1000)));
    assert!(bench.has_alert("guard-lost"));
    assert_eq!((bench.node.guarded_networks(), guard(&bench).as_str()), (None, "absent"));
    says(&bench, true, 0);
    assert!(!bench.has_alert("guard-lost"));
}

#[test]
fn packets_that_only_a_broken_node_sends_are_a_quarantine() {
    let bench = guarded();
    let flow = bench.tunnel(ID, "a.test");
    says(&bench, true, 3);
    assert!(is_reset(&flow));
    assert_eq!(bench.state(), "quarantined");
    assert!(bench.has_alert("outside-policy"));
}

#[test]
fn packets_refused_after_a_change_of_the_network_are_an_alert() {
    let bench = guarded();
    bench.node.hear(Report::Networks(vec![("44.2.2.0".parse().unwrap(), 24)]));
    says(&bench, true, 3);
    assert!(bench.has_alert("guard-refused"));
    assert_eq!(bench.state(), "active");
}

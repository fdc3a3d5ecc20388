//! The line to the Internet, and what its changes end.
use super::bench::is_reset;
use super::*;
use crate::guard::client::Listener as _;
use crate::guard::protocol::Report;
use crate::json::Value;
use crate::policy::wan::{Leaving, Uplink, Wan};

fn line(index: u32, address: &str) -> Wan {
    let addresses = vec![address.parse().unwrap()];
    Wan { v4: Some(Uplink { device: "wan0".into(), index, addresses }), v6: None }
}

fn leaving(index: u32, source: &str) -> Option<Leaving> {
    Some(Leaving { index, source: source.parse().unwrap() })
}

fn wan(bench: &Bench) -> Value {
    bench.node.diagnostics_value().member("wan").cloned().unwrap()
}

#[test]
fn flows_that_left_by_another_line_are_reset_and_others_go_on() {
    let bench = Bench::active("", "{}");
    bench.node.wan_read(Ok(line(2, "84.1.1.2")));
    let [old, new, inner] = ["a.test", "b.test", "c.test"].map(|host| bench.tunnel(ID, host));
    old.state().leaves(leaving(2, "84.1.1.2"));
    new.state().leaves(leaving(3, "84.1.1.9"));
    bench.node.wan_read(Ok(line(3, "84.1.1.9")));
    assert!(is_reset(&old), "its device is gone");
    assert!(!is_reset(&new) && !is_reset(&inner));
    bench.node.wan_read(Ok(line(3, "84.1.1.10")));
    assert!(is_reset(&new), "its address is gone");
    assert!(!is_reset(&inner), "it did not leave by the line");
}

#[test]
fn services_are_told_of_a_change_and_of_nothing_else() {
    let bench = Bench::active("", "{}");
    let told = || bench.services.calls.take().iter().filter(|c| **c == "wan").count();
    told();
    for _ in 0..3 {
        bench.node.wan_read(Ok(line(2, "84.1.1.2")));
    }
    assert_eq!(told(), 1);
    bench.node.wan_read(Ok(line(2, "84.1.1.3")));
    assert_eq!(told(), 1);
}

#[test]
fn a_line_that_is_lost_is_an_alert_and_one_that_never_was_is_none() {
    let bench = Bench::active("", "{}");
    bench.node.wan_read(Ok(Wan::default()));
    assert!(!bench.has_alert("wan-down"), "a machine on loopback has none");
    bench.node.wan_read(Ok(line(2, "84.1.1.2")));
    bench.node.wan_read(Ok(Wan::default()));
    assert!(bench.has_alert("wan-down"));
    bench.node.wan_read(Ok(line(2, "84.1.1.2")));
    assert!(!bench.has_alert("wan-down"));
    let named = Bench::active("network:\n  wanDevice: ppp0\n", "{}");
    named.node.wan_read(Ok(Wan::default()));
    assert!(named.has_alert("wan-down"), "the owner wants this one");
    assert!(wan(&named).canonical().contains("network.wanDevice"));
}

#[test]
fn the_guards_word_stands_while_it_speaks() {
    let mut bench = Bench::active("", "{}");
    bench.node.hear(Report::Wan(line(2, "84.1.1.2")));
    bench.node.wan_read(Ok(line(9, "84.1.1.99")));
    assert!(wan(&bench).canonical().contains("84.1.1.2\""));
    bench.pass(6);
    bench.node.wan_read(Ok(line(9, "84.1.1.99")));
    assert!(wan(&bench).canonical().contains("84.1.1.99"));
}

#[test]
fn a_network_that_cannot_be_read_is_no_line() {
    let bench = Bench::active("", "{}");
    bench.node.wan_read(Ok(line(2, "84.1.1.2")));
    let flow = bench.tunnel(ID, "a.test");
    flow.state().leaves(leaving(2, "84.1.1.2"));
    bench.node.wan_read(Err("no descriptor is left".into()));
    assert!(is_reset(&flow) && bench.has_alert("wan-down"));
    assert!(wan(&bench).canonical().contains("no descriptor is left"));
}

//! Connections through leases: what the guard passes on, what it is told, and what sessions are billed.
use super::bench::{int, text};
use super::fake_guard::{able, says, wait_and_look};
use super::wire::{ACK, ALPN, FIN, HEADER, RST, SYN, Wire, hello};
use super::*;
use crate::core::lifecycle::NodeEvent;
use crate::guard::client::Listener as _;
use crate::guard::found::Amount;
use crate::guard::lease_wire::{Checked, Counted, LeaseReport, LeaseRequest, Verdict};
use crate::lease::segment::tests::{Made, SYN_OPTIONS};
use crate::lease::service::ANSWER_MS;
use crate::policy::refusal::Refusal;

#[test]
fn a_connection_is_metered_to_the_byte_and_its_line_says_kernel() {
    let mut w = Wire::new("", ALPN);
    let end = w.accept(1);
    assert_eq!((w.live(), w.totals()), (1, (0, 0, 1, 0)));
    // The kernel is asked once a second, and what it says is a lower bound.
    assert_eq!(w.guard.counts.take(), 0);
    w.bench.pass(10);
    assert!((9..=10).contains(&w.guard.counts.take()));
    let counted = Counted { ct: 1, packets: [4, 3], bytes: [4 * HEADER + 20 + 700, 3 * HEADER + 4 + 5000] };
    says(&w.bench, LeaseReport::Counts { list: vec![counted], last: true });
    assert_eq!(w.totals().0, 5000);
    assert_eq!(w.totals().1, 700);
    w.passed(1, false, Made::new(FIN, end + 1000, 9_001, b"last"));
    w.passed(1, true, Made::new(FIN, 9_001 + 70_000, end + 1005, b""));
    let egress = hello().len() as u64 + 1004;
    // Some was lost behind the node, and sent again.
    w.closed(1, [9, 60], [egress, 71_448]);
    assert_eq!(w.totals(), (70_000, egress, 1, 0), "by sequence numbers, within the open window");
    let line = w.line();
    assert_eq!((text(&line, "path"), int(&line, "status"), int(&line, "ingress")), ("kernel", 200, 70_000));
    assert_eq!(w.live(), 0);
    w.bench.pass(2);
    assert_eq!(w.guard.counts.take(), 2, "until the guard has none either");
    says(&w.bench, LeaseReport::Counts { list: vec![counted], last: false });
    says(&w.bench, LeaseReport::Counts { list: vec![], last: true });
    w.bench.pass(1);
    assert_eq!(w.guard.counts.take(), 1);
    says(&w.bench, LeaseReport::Counts { list: vec![], last: true });
    w.bench.pass(10);
    assert_eq!(w.guard.counts.take(), 0, "nobody is woken for nothing");
    w.bench.close(ID, "buyer-ended");
    says(&w.bench, LeaseReport::Gone);
    w.bench.take_all();
    let bundle = &w.bench.bundles[0];
    assert_eq!((text(bundle, "path"), int(bundle, "latencyMsP50")), ("kernel", 20));
    w.guard.take();
    drop(w.connection);
}

#[test]
fn a_connection_that_both_sides_have_ended_is_forgotten_soon() {
    let mut w = Wire::new("", ALPN);
    let end = w.accept(1);
    w.buyer(1, FIN, end, b"");
    assert_eq!(w.target(1, FIN, 9_092, end + 1, b""), Verdict::Pass);
    w.bench.pass(1);
    assert!(!w.guard.take().contains(&LeaseRequest::Kill { ct: 1 }), "its last bytes may be sent again");
    w.bench.pass(2);
    assert!(w.guard.take().contains(&LeaseRequest::Kill { ct: 1 }), "or conntrack keeps it for two minutes");
    w.closed(1, [5, 5], [0, 0]);
    assert_eq!(w.live(), 0);
    assert!(!w.guard.given_up.get());
}

#[test]
fn a_refused_hello_is_counted_and_logged_and_its_bytes_are_not() {
    let mut w = Wire::new("", ALPN);
    w.establish(1);
    let at = hello().windows(11).position(|b| b == b"origin.test").unwrap();
    let mut evil = hello().to_vec();
    evil[at..at + 4].copy_from_slice(b"evil");
    assert_eq!(w.buyer(1, ACK, 101, &evil), Verdict::Refuse);
    assert_eq!((w.live(), w.totals()), (0, (0, 0, 0, 1)));
    let line = w.line();
    assert_eq!((text(&line, "slug"), text(&line, "path")), ("sni-mismatch", "kernel"));
    w.closed(1, [4, 2], [600, 0]);
    assert_eq!(w.totals(), (0, 0, 0, 1));
}

#[test]
fn limits_rules_and_breakers_bind_connections_through_leases() {
    let limited = ALPN.replacen('{', r#"{"limits":{"maxConnections":1},"#, 1);
    let mut w = Wire::new("", &limited);
    w.establish(1);
    let syn = || Made::new(SYN, 100, 0, b"").with_options(&SYN_OPTIONS);
    assert_eq!(w.verdict(2, false, syn()), Verdict::Refuse, "one at a time");
    assert_eq!(text(&w.line(), "slug"), "rate-limited");
    assert_eq!(w.bench.refusal(ID, "a.test"), Some(Refusal::RateLimited), "of the relay as well");
    // A stranger's address, or a port that is no lease's.
    let bytes = syn().bytes();
    let length = bytes.len() as u32;
    let (port, other) = (w.grant.port, "81.2.69.1".parse().unwrap());
    for (port, buyer) in [(port, (other, 1)), (port + 1, (bench::BUYER, 1))] {
        let bytes = bytes.clone();
        says(&w.bench, LeaseReport::Packet { packet: 99, ct: 7, port, buyer, reply: false, length, bytes });
        assert_eq!(w.guard.take(), [LeaseRequest::Verdict { packet: 99, what: Verdict::Refuse }]);
    }
}

#[test]
fn what_the_node_ends_ends_in_the_kernel_and_is_billed_by_its_last_counters() {
    let mut w = Wire::new("", ALPN);
    w.accept(1);
    w.accept(2);
    assert_eq!(w.ends(), []);
    // A block list that has come since ends the lease, and with it every flow.
    w.bench.configure("network: { maxMbps: 1000, maxGBPerDay: 1000, blocklistDomains: [origin.test] }");
    assert_eq!(w.guard.take(), [LeaseRequest::End { no: w.grant.no }]);
    assert_eq!(w.ends(), [], "the lease takes them with it");
    assert_eq!(w.live(), 2, "their last counters are still to come");
    w.closed(1, [4, 4], [600, 9000]);
    says(&w.bench, LeaseReport::Ended { no: w.grant.no });
    assert_eq!((w.live(), w.totals().0), (1, 9000));
    w.bench.pass(1);
    assert_eq!((w.live(), w.guard.given_up.get()), (0, false), "it has said that there is none left");
}

#[test]
fn one_flow_of_a_lease_can_be_ended_alone_and_is_followed_up() {
    let limited = ALPN.replacen('{', r#"{"limits":{"maxConnections":3},"#, 1);
    let mut w = Wire::new("", &limited);
    for ct in 1..=3 {
        w.accept(ct);
    }
    w.bench.policy(
        Some(ID),
        crate::json::parse(ALPN.as_bytes()).unwrap().member("policyProfile").unwrap().clone(),
        r#"{"maxConnections":2}"#,
        0,
    );
    assert_eq!(w.ends(), [LeaseRequest::Kill { ct: 3 }], "the newest, within the turn");
    assert_eq!(w.ends(), [], "once");
    wait_and_look(&mut w.bench, ANSWER_MS - 1);
    assert!(!w.guard.given_up.get());
    wait_and_look(&mut w.bench, 1);
    assert!(w.guard.given_up.get(), "whether it has ended is not known");
    w.bench.node.lose(None);
    assert_eq!(w.live(), 3);
    w.bench.pass(20);
    assert_eq!(w.live(), 0);
}

#[test]
fn pause_ends_leases_and_their_flows_in_one_word() {
    let mut w = Wire::new("", ALPN);
    w.accept(1);
    w.establish(2);
    assert_eq!(w.packet(2, false, Made::new(ACK, 101, 9_001, &hello()[..100])), [], "it is held");
    w.bench.node.on(NodeEvent::Pause);
    assert_eq!(w.guard.take(), [LeaseRequest::End { no: w.grant.no }]);
    let ends = w.ends();
    assert!(
        matches!(ends[..], [LeaseRequest::Verdict { what: Verdict::Refuse, .. }]),
        "what waits is answered: {ends:?}"
    );
    assert_eq!(w.live(), 1, "the other had nothing to bill");
    w.closed(1, [4, 4], [600, 100]);
    assert_eq!((w.live(), w.totals().0), (0, 100));
}

#[test]
fn silent_buyers_and_targets_are_refused_in_time() {
    let mut w = Wire::new("", ALPN);
    let syn = Made::new(SYN, 100, 0, b"").with_options(&SYN_OPTIONS);
    assert_eq!(w.verdict(1, false, syn), Verdict::Stop);
    w.establish(2);
    w.bench.pass(11);
    let told = w.guard.take();
    assert!(told.contains(&LeaseRequest::Kill { ct: 1 }) && told.contains(&LeaseRequest::Kill { ct: 2 }));
    assert_eq!(w.live(), 0);
    let refusals = w.bench.status().member("refusals").unwrap().canonical();
    assert_eq!(refusals, r#"{"connect-timeout":1,"hello-timeout":1}"#);
    let reset = Made::new(SYN, 100, 0, b"").with_options(&SYN_OPTIONS);
    w.verdict(3, false, reset);
    let told = w.packet(3, true, Made::new(RST | ACK, 0, 101, b""));
    assert!(matches!(told[0], LeaseRequest::Verdict { what: Verdict::Stop, .. }), "{told:?}");
    assert_eq!(text(&w.line(), "slug"), "connect-failed");
    assert_eq!(w.totals().3, 1, "an error of the way is no rejection");
}

#[test]
fn counters_are_asked_for_more_often_while_a_quota_runs_short() {
    let asked = |limits: &str| {
        let mut w = Wire::new("", &ALPN.replacen('{', limits, 1));
        w.accept(1);
        says(
            &w.bench,
            LeaseReport::Counts { list: vec![Counted { ct: 1, ..Counted::default() }], last: true },
        );
        w.bench.pass(1);
        let before = w.guard.counts.get();
        w.bench.pass(2);
        w.guard.counts.get() - before
    };
    // Two seconds of 8 Mbit/s are 2 MB.
    assert_eq!(asked(r#"{"limits":{"maxMbps":8,"maxGB":0.003},"#), 2);
    assert_eq!(asked(r#"{"limits":{"maxMbps":8,"maxGB":0.0019},"#), 8);
    assert_eq!(asked(r#"{"limits":{"maxGB":0.0019},"#), 8, "at the node's own rate");
}

#[test]
fn quotas_count_what_the_kernel_carries_and_end_it() {
    let limited = ALPN.replacen('{', r#"{"limits":{"maxGB":0.00001},"#, 1);
    let mut w = Wire::new("", &limited);
    w.accept(1);
    let counted = Counted { ct: 1, packets: [4, 4], bytes: [4 * HEADER, 4 * HEADER + 20_000] };
    says(&w.bench, LeaseReport::Counts { list: vec![counted], last: true });
    w.bench.tick();
    assert_eq!(w.bench.queued(ID), ["accepted", "active", "closing quota"]);
    assert_eq!(w.guard.take(), [LeaseRequest::End { no: w.grant.no }]);
    assert_eq!(w.ends(), []);
    w.closed(1, [4, 4], [0, 20_000]);
    w.bench.tick();
    assert_eq!(w.bench.queued(ID).last().unwrap(), "settled");
}

#[test]
fn what_a_lost_guard_let_go_on_counts_once_the_next_one_has_ended_it() {
    let mut w = Wire::new("", ALPN);
    w.accept(1);
    w.establish(2);
    w.bench.node.lose(None);
    assert_eq!((w.live(), w.bench.node.leases.count()), (1, 0), "what was not decided passes no more");
    w.bench.pass_ms(15_000);
    w.bench.tick();
    says(&w.bench, LeaseReport::Able(able()));
    let before = w.totals().0;
    w.closed(1, [40, 40], [1_000, 50_000]);
    assert_eq!((w.live(), w.totals().0 > before + 45_000), (0, true));
}

#[test]
fn without_a_next_guard_every_flow_ends_with_what_is_known() {
    let mut w = Wire::new("", ALPN);
    w.accept(1);
    w.bench.node.lose(None);
    w.bench.pass_ms(20_000);
    w.bench.tick();
    assert_eq!((w.live(), w.bench.node.leases.count()), (0, 0));
    assert_eq!(w.ends(), []);
    says(&w.bench, LeaseReport::Able(able()));
    let late = Made::new(ACK, 101, 9_001, b"late");
    let told = w.packet(1, false, late);
    assert!(matches!(told[..], [LeaseRequest::Verdict { what: Verdict::Drop, .. }]), "{told:?}");
}

#[test]
fn both_counts_and_the_charge_are_in_the_diagnostics() {
    let mut w = Wire::new("", ALPN);
    let found = |w: &Wire| {
        let check =
            w.bench.node.diagnostics_value().member("leases").and_then(|l| l.member("check").cloned());
        check.unwrap()
    };
    assert_eq!(found(&w), crate::json::Value::Null, "nothing was counted yet");
    let end = w.accept(1);
    w.buyer(1, FIN, end, b"");
    w.target(1, FIN, 9_001 + 70_000, end + 1, b"");
    w.closed(1, [9, 60], [hello().len() as u64, 70_000]);
    let of = |bytes| Amount { packets: 60, bytes };
    let said = |round, ingress: [u64; 2], counts| {
        LeaseReport::Checked(Checked {
            round,
            flows: 1,
            counts,
            tracked: [of(1000), of(ingress[0])],
            seen: [of(1000), of(ingress[1])],
            why: "why".to_owned(),
        })
    };
    // A hundredth and 4096 bytes of a connection are explained; not one more.
    for (seen, agrees) in
        [(100_000, true), (105_146, true), (105_148, false), (94_904, true), (94_903, false)]
    {
        says(&w.bench, said(1, [100_000, seen], [true; 2]));
        let ingress = found(&w).member("ingress").cloned().unwrap();
        assert_eq!(int(&ingress, "chargedBytes"), 70_000);
        assert_eq!(
            (int(&ingress, "trackedBytes"), int(&ingress, "independentBytes")),
            (100_000, seen as i64)
        );
        assert_eq!(ingress.member("agrees"), Some(&agrees.into()), "{seen}");
    }
    says(&w.bench, said(1, [100_000, 0], [true, false]));
    let check = found(&w);
    let ingress = check.member("ingress").cloned().unwrap();
    assert_eq!(
        ["independentBytes", "agrees"].map(|n| ingress.member(n).cloned()),
        [Some(crate::json::Value::Null), Some(crate::json::Value::Null)]
    );
    assert_eq!(text(&check, "reason"), "why");
    // The guard's counts have begun anew, and so has the charge.
    says(&w.bench, said(2, [0, 0], [true; 2]));
    assert_eq!(int(found(&w).member("ingress").unwrap(), "chargedBytes"), 0);
    w.bench.node.lose_leases();
    assert_eq!(found(&w), crate::json::Value::Null);
}

//! Leases: who is given one, until when, and what becomes of them without the guard.
use super::bench::{START, TOKEN, text};
use super::fake_guard::*;
use super::*;
use crate::core::lifecycle::NodeEvent;
use crate::guard::client::Listener as _;
use crate::guard::lease_wire::{Ability, Denial, LeaseReport, LeaseRequest};
use crate::lease::service::{ANSWER_MS, LOOK_MS, MAX_CONNECTIONS, MAX_PER_SESSION};
use crate::policy::refusal::Refusal;
use crate::session::{Credentials, Gate as _, Target};
use crate::time::Unix;
use futures_lite::future::{block_on, poll_once};
use std::rc::Rc;

#[test]
fn a_session_with_leases_is_taken_while_they_are_possible() {
    let lease_only = BOTH.replace(r#""relay","lease""#, r#""lease""#);
    let mut bench = Bench::new();
    bench.open(ID, &lease_only);
    assert_eq!(bench.queued(ID), ["refused transport-unsupported"]);
    let (bench, _guard) = leasing("", &lease_only);
    assert_eq!(text(bench.status().member("offload").unwrap(), "active"), "software");
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::SessionClosed), "no CONNECT");
    assert!(tenant(&bench, "a.test").is_ok());
    let ways = |bench: &Bench| {
        use crate::coordinator::node::Node as _;
        bench.node.registration().member("transports").unwrap().canonical()
    };
    assert!(ways(&bench).contains("lease"));
    bench.services.calls.borrow_mut().clear();
    says(&bench, LeaseReport::Able(Ability { possible: false, reason: "no flowtable".into(), ..able() }));
    assert!(!ways(&bench).contains("lease"));
    assert_eq!(*bench.services.calls.borrow(), ["ways"], "the coordinator is told");
    assert_eq!(tenant(&bench, "a.test").err(), Some(Refusal::LeaseUnavailable));
    let offload = bench.status().member("offload").unwrap().clone();
    assert_eq!((text(&offload, "active"), text(&offload, "reason")), ("relay", "no flowtable"));
}

#[test]
fn a_request_is_refused_like_a_connect_and_counted() {
    let config = "network: { maxMbps: 1000, maxGBPerDay: 1000, blocklistDomains: [bad.test] }";
    let (bench, _guard) = leasing(config, BOTH);
    assert_eq!(tenant(&bench, "bad.test").err(), Some(Refusal::DomainBlocked));
    let credentials = Credentials { session_id: ID.into(), token: TOKEN.to_vec() };
    let other_port = Target { port: 80, ..target("a.test") };
    let ask = |target: Option<Result<&Target, Refusal>>, reachable| {
        let judged = bench.node.admit_lease(None, Some(&credentials), target, reachable);
        judged.err().map(|d| d.refusal)
    };
    assert_eq!(ask(Some(Ok(&other_port)), true), Some(Refusal::PortDenied));
    let good = target("a.test");
    assert_eq!(ask(Some(Ok(&good)), false), Some(Refusal::LeaseUnavailable));
    assert_eq!(ask(None, true), None);
    bench.node.on(NodeEvent::Pause);
    assert_eq!(ask(None, true), Some(Refusal::Paused));
    let rejected = bench.node.sessions.borrow()[ID].meter.borrow().totals().rejected;
    assert_eq!(rejected, 4);
    let wrong = Credentials { token: b"x".to_vec(), ..credentials.clone() };
    let denied = bench.node.admit_lease(None, Some(&wrong), None, true).err().unwrap();
    assert_eq!(denied.refusal, Refusal::AuthRequired);
}

#[test]
fn a_lease_is_told_when_the_guard_has_it() {
    let limits = BOTH.replacen('{', r#"{"limits":{"maxMbps":8,"maxNewPerSecond":7},"#, 1);
    let (bench, guard) = leasing("", &limits);
    let connection = bench.node.leases.connect().unwrap();
    let (given, grant) = lease(&bench, &guard, &connection, "a.test");
    assert_eq!((grant.buyer, grant.target, grant.ttl_s), (bench::BUYER, TARGET, 600));
    assert_eq!((grant.new_per_second, grant.cap_kbps, grant.class), (7, 8000, 1));
    assert_eq!((given.host.as_str(), given.port), ("a.test", grant.port));
    assert_eq!(given.expires_at, Unix(START + 600));
    assert!((40_000..=40_999).contains(&given.port));
}

#[test]
fn what_the_guard_denies_or_does_not_answer_is_unavailable() {
    let (bench, guard) = leasing("", BOTH);
    let connection = bench.node.leases.connect().unwrap();
    let mut asked = Box::pin(connection.open(wanted(&bench, "a.test")));
    assert!(block_on(poll_once(&mut asked)).is_none());
    let Some(LeaseRequest::Grant(grant)) = guard.take().pop() else { panic!("no grant") };
    says(&bench, LeaseReport::Denied { no: grant.no, why: Denial::Failed });
    assert_eq!(block_on(asked).err(), Some(Refusal::LeaseUnavailable));
    // A session whose rate nobody can hold has none.
    says(&bench, LeaseReport::Able(Ability { caps: false, ..able() }));
    let uncapped = block_on(poll_once(connection.open(wanted(&bench, "a.test"))));
    assert_eq!(uncapped, Some(Err(Refusal::LeaseUnavailable)));
    // One who gives up while the guard is asked leaves nothing there.
    says(&bench, LeaseReport::Able(able()));
    let mut asked = Box::pin(connection.open(wanted(&bench, "a.test")));
    assert!(block_on(poll_once(&mut asked)).is_none());
    drop(asked);
    drop(connection);
    assert!(matches!(guard.take()[..], [LeaseRequest::Grant(_), LeaseRequest::End { no: 2 }]));
}

#[test]
fn a_guard_that_does_not_answer_or_listen_is_given_up() {
    let (mut bench, guard) = leasing("", BOTH);
    let connection = bench.node.leases.connect().unwrap();
    let (_, grant) = lease(&bench, &guard, &connection, "a.test");
    drop(connection);
    assert_eq!(guard.take(), [LeaseRequest::End { no: grant.no }]);
    wait_and_look(&mut bench, ANSWER_MS - 1);
    assert!(!guard.given_up.get());
    wait_and_look(&mut bench, 1);
    assert!(guard.given_up.replace(false), "nobody knows whether it has ended");

    bench.node.lose(None);
    assert_eq!(bench.node.leases.count(), 0);
    says(&bench, LeaseReport::Able(able()));
    guard.deaf.set(true);
    let connection = bench.node.leases.connect().unwrap();
    assert!(block_on(poll_once(connection.open(wanted(&bench, "a.test")))).is_none());
    assert!(guard.given_up.get());
}

#[test]
fn a_guard_is_not_late_while_nobody_looked() {
    let (mut bench, guard) = leasing("", BOTH);
    let (one, two) = (bench.node.leases.connect().unwrap(), bench.node.leases.connect().unwrap());
    lease(&bench, &guard, &one, "a.test");
    lease(&bench, &guard, &two, "b.test");
    drop(one);
    wait_and_look(&mut bench, ANSWER_MS / 2);
    // The processor is somewhere else: what the guard has said meanwhile was not heard, and it may not have been asked yet.
    bench.pass_ms(60_000);
    bench.tick();
    wait_and_look(&mut bench, ANSWER_MS / 2 - 2 * LOOK_MS - 1);
    assert!(!guard.given_up.get(), "what nobody looked is not the guard's");
    wait_and_look(&mut bench, 1);
    assert!(guard.given_up.replace(false), "the rest of it is");

    // Something new that is asked before anybody looks takes nothing of it away.
    bench.node.lose(None);
    says(&bench, LeaseReport::Able(able()));
    lease(&bench, &guard, &two, "a.test");
    let three = bench.node.leases.connect().unwrap();
    lease(&bench, &guard, &three, "b.test");
    drop(two);
    bench.pass_ms(60_000);
    drop(three);
    bench.tick();
    assert!(!guard.given_up.get());
    // Whoever never gets more than a moment in a while gives up all the same.
    let mut looks = 0;
    while !guard.given_up.get() {
        bench.pass_ms(60_000);
        bench.tick();
        looks += 1;
    }
    assert_eq!(looks, ANSWER_MS / (2 * LOOK_MS) - 1);
}

#[test]
fn a_lease_is_renewed_and_ended_by_its_name_and_its_session_alone() {
    let (mut bench, guard) = leasing("", BOTH);
    let connection = bench.node.leases.connect().unwrap();
    let (given, grant) = lease(&bench, &guard, &connection, "a.test");
    bench.pass_ms(1000);
    let mine = tenant(&bench, "a.test").unwrap();
    assert_eq!(connection.renew(&given.id, &*mine).unwrap().expires_at, Unix(START + 600));
    assert_eq!(guard.take(), [], "the guard is not kept busy by one that was just given");
    bench.pass_ms(9000);
    let mine = tenant(&bench, "a.test").unwrap();
    bench.open(&id(1), BOTH);
    let theirs = Credentials { session_id: id(1), token: TOKEN.to_vec() };
    let theirs = bench.node.admit_lease(None, Some(&theirs), None, true).ok().unwrap();
    assert_eq!(connection.renew(&given.id, &*theirs), None);
    assert!(!block_on(connection.end(&given.id, &*theirs)));
    assert_eq!(connection.renew(&given.id, &*mine).unwrap().expires_at, Unix(START + 610));
    assert_eq!(guard.take(), [LeaseRequest::Renew { no: grant.no, ttl_s: 600 }]);
    let mut ended = Box::pin(connection.end(&given.id, &*mine));
    assert!(block_on(poll_once(&mut ended)).is_none(), "it waits until nothing is left in the kernel");
    assert_eq!(guard.take(), [LeaseRequest::End { no: grant.no }]);
    says(&bench, LeaseReport::Ended { no: grant.no });
    assert!(block_on(ended));
    assert_eq!(connection.renew(&given.id, &*mine), None);
}

#[test]
fn leases_end_with_time_connection_session_and_node() {
    let (mut bench, guard) = leasing("", BOTH);
    let end = |no| vec![LeaseRequest::End { no }];
    // Time.
    let connection = bench.node.leases.connect().unwrap();
    let (_, first) = lease(&bench, &guard, &connection, "a.test");
    bench.pass(599);
    assert_eq!(guard.take(), []);
    bench.pass(1);
    assert_eq!(guard.take(), end(first.no));
    says(&bench, LeaseReport::Ended { no: first.no });
    assert_eq!(
        block_on(poll_once(connection.idle())),
        Some(true),
        "its time was over, and it was not given back"
    );
    // Rules that forbid its host, or a name that it stands for.
    let (_, second) = lease(&bench, &guard, &connection, "a.test");
    assert!(block_on(poll_once(connection.idle())).is_none());
    bench.configure("network: { maxMbps: 1000, maxGBPerDay: 1000, blocklistDomains: [cdn.a.test] }");
    assert_eq!(guard.take(), end(second.no));
    says(&bench, LeaseReport::Ended { no: second.no });
    bench.configure("");
    // Other limits than it was granted for.
    let (_, third) = lease(&bench, &guard, &connection, "a.test");
    let both = bench::profile(r#"{"transports":["relay","lease"]}"#);
    bench.policy(Some(ID), both, r#"{"maxMbps":4}"#, 0);
    assert_eq!(guard.take(), end(third.no));
    says(&bench, LeaseReport::Ended { no: third.no });
    // Several at once, in one word: the kill switch.
    lease(&bench, &guard, &connection, "a.test");
    lease(&bench, &guard, &connection, "b.test");
    bench.node.on(NodeEvent::Pause);
    assert_eq!(guard.take(), [LeaseRequest::EndAll], "before anything else is done");
    says(&bench, LeaseReport::Gone);
    assert_eq!(bench.node.leases.count(), 0);
    bench.node.on(NodeEvent::Start);
    bench.tick();
    // The session.
    let (_, last) = lease(&bench, &guard, &connection, "a.test");
    bench.close(ID, "buyer-ended");
    assert_eq!(guard.take(), end(last.no));
}

#[test]
fn a_connection_knows_whether_it_was_the_node_who_ended_its_leases() {
    let (bench, guard) = leasing("", BOTH);
    let connection = bench.node.leases.connect().unwrap();
    let (given, grant) = lease(&bench, &guard, &connection, "a.test");
    let tenant = tenant(&bench, "a.test").unwrap();
    let mut end = Box::pin(connection.end(&given.id, &*tenant));
    assert!(block_on(poll_once(&mut end)).is_none(), "it waits for the guard");
    says(&bench, LeaseReport::Ended { no: grant.no });
    assert!(block_on(end));
    assert_eq!(block_on(poll_once(connection.idle())), Some(false), "the buyer gave it back");
    lease(&bench, &guard, &connection, "a.test");
    bench.node.on(NodeEvent::Pause);
    assert_eq!(block_on(poll_once(connection.idle())), None, "not before the kernel has nothing of it");
    says(&bench, LeaseReport::Gone);
    assert_eq!(block_on(poll_once(connection.idle())), Some(true));
}

#[test]
fn a_grant_that_comes_after_all_were_ended_is_taken_back() {
    let (bench, guard) = leasing("", BOTH);
    let connection = bench.node.leases.connect().unwrap();
    let mut asked = Box::pin(connection.open(wanted(&bench, "a.test")));
    assert!(block_on(poll_once(&mut asked)).is_none());
    let Some(LeaseRequest::Grant(grant)) = guard.take().pop() else { panic!("no grant") };
    says(&bench, LeaseReport::Gone);
    says(&bench, LeaseReport::Granted { no: grant.no });
    assert_eq!(block_on(asked).err(), Some(Refusal::LeaseUnavailable));
    assert_eq!(guard.take(), [LeaseRequest::End { no: grant.no }]);
}

#[test]
fn who_asks_while_all_leases_are_being_ended_waits() {
    let all_end = |(bench, guard): &(Bench, Rc<FakeGuard>)| {
        let theirs = bench.node.leases.connect().unwrap();
        lease(bench, guard, &theirs, "a.test");
        lease(bench, guard, &theirs, "b.test");
        drop(theirs);
        assert_eq!(guard.take(), [LeaseRequest::EndAll]);
        bench.node.leases.connect().unwrap()
    };
    let world = leasing("", BOTH);
    let connection = all_end(&world);
    let (bench, guard) = &world;
    let mut asked = Box::pin(connection.open(wanted(bench, "c.test")));
    assert!(block_on(poll_once(&mut asked)).is_none());
    assert_eq!(guard.take(), [], "not before the others are gone");
    says(bench, LeaseReport::Gone);
    assert!(block_on(poll_once(&mut asked)).is_none());
    let Some(LeaseRequest::Grant(grant)) = guard.take().pop() else { panic!("no grant") };
    says(bench, LeaseReport::Granted { no: grant.no });
    assert!(block_on(asked).is_ok());

    // What was allowed when it was asked for may not be any more.
    let mut world = leasing("", BOTH);
    let connection = all_end(&world);
    let (bench, guard) = &mut world;
    let asked = connection.open(wanted(bench, "c.test"));
    bench.configure("network: { maxMbps: 1000, maxGBPerDay: 1000, blocklistDomains: [c.test] }");
    says(bench, LeaseReport::Gone);
    assert_eq!(block_on(asked).err(), Some(Refusal::LeaseUnavailable));
    assert_eq!(guard.take(), []);
}

#[test]
fn connections_that_hold_leases_are_bounded_for_all_and_for_each_session() {
    let (bench, _guard) = leasing("", BOTH);
    let leases = &bench.node.leases;
    let mine: Rc<str> = ID.into();
    let mut all: Vec<_> = (0..MAX_PER_SESSION).map(|_| leases.connect().unwrap()).collect();
    assert!(all.iter().all(|c| c.belongs_to(&mine)));
    let one_more = leases.connect().unwrap();
    assert!(!one_more.belongs_to(&mine));
    assert!(all[0].belongs_to(&mine), "it has its place already");
    drop(one_more);
    all.pop();
    assert!(leases.connect().unwrap().belongs_to(&mine));
    all.extend((all.len()..MAX_CONNECTIONS).map(|_| leases.connect().unwrap()));
    assert!(leases.connect().is_none());
    drop(all);
    assert!(leases.connect().is_some());
}

//! From `accepted` to `settled`: what is posted, in which order, and what it says.
use super::bench::{carry, int, is_reset, text};
use super::*;
use crate::coordinator::node::{Node as _, Outgoing};
use crate::coordinator::wire::BundleStatus;
use crate::json::Value;
use crate::policy::refusal::Refusal;
use crate::session::{Direction, Outcome};
use crate::time::Unix;

#[test]
fn a_session_lives_and_settles_with_the_sum_of_its_bundles() {
    let mut bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    carry(&flow, Direction::Egress, 1000);
    carry(&flow, Direction::Ingress, 50_000);
    bench.pass(300);
    assert_eq!(bench.node.durable.borrow().bundles.len(), 1, "sealed when its window ended");
    carry(&flow, Direction::Ingress, 7000);
    flow.finish(Outcome::Done);
    assert_eq!(bench.refusal(ID, "blocked.test"), None);
    bench.close(ID, "buyer-ended");
    assert_eq!(bench.queued(ID), ["accepted", "active", "closing buyer-ended", "settled"]);
    bench.take_all();
    assert_eq!(bench.posted(ID), ["accepted", "active", "closing buyer-ended", "settled"]);
    assert_eq!(bench.bundles.len(), 2);
    let totals = bench.transitions.last().unwrap().member("totals").unwrap().clone();
    let sum = |name: &str| bench.bundles.iter().map(|b| int(b, name)).sum::<i64>();
    for name in ["bytesIngress", "bytesEgress", "connections", "rejected"] {
        assert_eq!(sum(name), int(&totals, name), "{name}");
    }
    assert_eq!((int(&totals, "bytesIngress"), int(&totals, "bytesEgress")), (57_000, 1000));
    assert_eq!(int(&totals, "bundles"), 2);
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::SessionClosed));
    bench.pass(3600);
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::AuthRequired), "forgotten at its expiresAt");
}

#[test]
fn settled_waits_for_the_answer_to_every_bundle() {
    let mut bench = Bench::active("", "{}");
    for _ in 0..3 {
        carry(&bench.tunnel(ID, "a.test"), Direction::Ingress, 10);
        bench.pass(300);
    }
    bench.close(ID, "budget");
    while let Some(Outgoing::Transition(_)) = bench.node.next_outgoing() {
        bench.take_one();
    }
    assert_eq!(bench.posted(ID), ["accepted", "active", "closing budget"]);
    let Some(Outgoing::Bundles(bundles)) = bench.node.next_outgoing() else { panic!() };
    assert_eq!(bundles.len(), 3);
    bench.answer(&bundles[..1], &BundleStatus::Duplicate);
    bench.answer(&bundles[1..2], &BundleStatus::Refused("no".into()));
    assert_eq!(bench.node.next_outgoing(), Some(Outgoing::Bundles(bundles[2..].to_vec())));
    bench.answer(&bundles[2..], &BundleStatus::Accepted);
    let Some(Outgoing::Transition(settled)) = bench.node.next_outgoing() else { panic!() };
    assert_eq!(text(&settled, "transition"), "settled");
}

#[test]
fn a_session_without_traffic_has_one_bundle_of_zeros() {
    let mut bench = Bench::active("", "{}");
    bench.pass(3600);
    bench.take_all();
    assert_eq!(bench.posted(ID), ["accepted", "active", "closing expired", "settled"]);
    assert_eq!(bench.bundles.len(), 1);
    assert_eq!((int(&bench.bundles[0], "bytesIngress"), int(&bench.bundles[0], "seq")), (0, 0));
}

#[test]
fn a_session_expires_to_the_second_and_its_flows_are_reset() {
    let mut bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    for _ in 0..40 {
        bench.pass(89);
        carry(&flow, Direction::Ingress, 1);
    }
    bench.pass(3600 - 40 * 89 - 1);
    assert!(!is_reset(&flow) && carry(&flow, Direction::Ingress, 5) == 5);
    bench.pass(1);
    assert!(is_reset(&flow));
    assert_eq!(carry(&flow, Direction::Ingress, 5), 0, "nothing is granted any more");
    assert_eq!(bench.queued(ID).last().unwrap(), "closing expired", "not settled while its flow lives");
    drop(flow);
    bench.tick();
    assert_eq!(bench.queued(ID).last().unwrap(), "settled");
}

#[test]
fn a_closed_sessions_requests_are_refused_and_counted_until_it_is_settled() {
    let mut bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    bench.close(ID, "coordinator");
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::SessionClosed));
    drop(flow);
    bench.tick();
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::SessionClosed), "too late to be counted");
    let settled = bench.node.durable.borrow().transitions.last().unwrap().clone();
    assert_eq!(int(settled.member("totals").unwrap(), "rejected"), 1);
}

#[test]
fn a_second_close_changes_nothing() {
    let mut bench = Bench::active("", "{}");
    bench.close(ID, "budget");
    bench.close(ID, "policy");
    bench.close(&id(9), "policy");
    assert_eq!(bench.queued(ID), ["accepted", "active", "closing budget", "settled"]);
    assert!(bench.queued(&id(9)).is_empty());
}

#[test]
fn a_close_older_than_what_was_last_applied_is_ignored() {
    let mut bench = Bench::active("", "{}");
    bench.pass(100);
    bench.policy(Some(ID), profile("{}"), "{}", 0);
    let close = |bench: &Bench, ago: i64| {
        crate::json::object([
            ("sessionId", ID.into()),
            ("nodeId", bench.node.key.node_id().into()),
            ("issuedAt", Unix(bench.now() - ago).to_string().into()),
            ("reason", "policy".into()),
        ])
    };
    bench.signal("close", close(&bench, 1)).unwrap();
    assert_eq!(bench.queued(ID), ["accepted", "active"]);
    bench.signal("close", close(&bench, 0)).unwrap();
    assert_eq!(bench.queued(ID), ["accepted", "active", "closing policy", "settled"]);
}

#[test]
fn an_order_that_is_not_the_coordinators_is_alerted_and_not_applied() {
    let mut bench = Bench::active("", "{}");
    let mut close = crate::json::object([
        ("sessionId", ID.into()),
        ("nodeId", "ed25519:other".into()),
        ("issuedAt", Unix(START).to_string().into()),
        ("reason", "policy".into()),
    ]);
    bench.signal("close", close.clone()).unwrap();
    assert!(bench.has_alert("close-wrong-node"));
    close.set("coordinatorSig", Value::Null);
    bench.raw_signals(vec![("close", close), ("unheard-of", Value::Null)]).unwrap();
    assert!(bench.has_alert("close-bad-signature"));
    assert_eq!(bench.queued(ID), ["accepted", "active"]);
    bench.close(ID, "policy");
    assert!(!bench.has_alert("close-wrong-node") && !bench.has_alert("close-bad-signature"));
}

#[test]
fn the_owner_can_close_one_session() {
    use crate::api::{Backend as _, Problem};
    use crate::config::{Platform, Store};
    let mut bench = Bench::active("", "{}");
    bench.open(&id(1), "{}");
    let store = Store::open(bench.dir.0.join("config.yaml"), Platform::Other);
    let control = crate::core::backend::Control {
        node: bench.node.clone(),
        source: crate::core::source::Source::File(store),
        platform: Platform::Other,
        epoch: 1 << 24,
    };
    control.close_session(ID).unwrap();
    bench.tick();
    assert_eq!(bench.queued(ID), ["accepted", "active", "closing stopped", "settled"]);
    assert_eq!(bench.queued(&id(1)), ["accepted", "active"]);
    assert_eq!(control.sessions().as_array().unwrap().len(), 1, "a settled one is not open");
    let unknown = Problem::session_unknown();
    assert_eq!(control.close_session(ID).unwrap_err().slug, unknown.slug, "and cannot be closed again");
    assert_eq!(bench.status().member("sessions"), Some(&1.into()));
}

#[test]
fn an_orderly_end_settles_everything_even_if_a_flow_does_not_end() {
    use crate::core::lifecycle::NodeEvent;
    let bench = Bench::active("", "{}");
    let flow = bench.tunnel(ID, "a.test");
    carry(&flow, Direction::Ingress, 500);
    bench.node.on(NodeEvent::Drain);
    assert!(is_reset(&flow));
    bench.tick();
    assert_eq!(bench.queued(ID).last().unwrap(), "closing stopped");
    bench.node.finish();
    assert_eq!(bench.queued(ID).last().unwrap(), "settled");
    drop(flow);
    let mut bench = bench.crash();
    bench.take_all();
    assert_eq!(bench.posted(ID), ["accepted", "active", "closing stopped", "settled"]);
    assert_eq!((bench.bundles.len(), int(&bench.bundles[0], "bytesIngress")), (1, 500));
}

#[test]
fn a_transition_refused_for_good_is_alerted_until_one_is_taken() {
    use crate::coordinator::node::Posted;
    let mut bench = Bench::active("", "{}");
    let Some(Outgoing::Transition(body)) = bench.node.next_outgoing() else { panic!() };
    bench.node.transition_posted(&body, Posted::Refused(Default::default()));
    assert_eq!(bench.queued(ID), ["active"], "it is not posted again");
    assert!(bench.has_alert("transition-refused"));
    bench.take_all();
    assert!(!bench.has_alert("transition-refused"));
}

#[test]
fn refused_bundles_are_kept_for_seven_days_with_their_alert() {
    let mut bench = Bench::active("", "{}");
    bench.close(ID, "budget");
    while let Some(Outgoing::Transition(_)) = bench.node.next_outgoing() {
        bench.take_one();
    }
    let Some(Outgoing::Bundles(bundles)) = bench.node.next_outgoing() else { panic!() };
    bench.answer(&bundles, &BundleStatus::Refused("window-unknown".into()));
    bench.take_all();
    let mut bench = bench.crash();
    let refused = |bench: &Bench| bench.node.diagnostics_value().member("refusedBundles").cloned().unwrap();
    let kept = refused(&bench).canonical();
    assert_eq!(kept, crate::json::array(bundles).canonical(), "as it was signed, over a restart");
    assert!(bench.has_alert("bundle-refused"));
    bench.pass(7 * 86_400 - 1);
    assert!(bench.has_alert("bundle-refused"));
    bench.pass(1);
    assert_eq!(refused(&bench), Value::Array(vec![]));
    assert!(!bench.has_alert("bundle-refused"));
}

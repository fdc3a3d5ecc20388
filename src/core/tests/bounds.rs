//! Every table at its limit: fail closed, and lose nothing.
use super::bench::{carry, coordinator, is_reset};
use super::*;
use crate::coordinator::node::Node as _;
use crate::coordinator::wire::BundleStatus;
use crate::core::durable::{self, Known, MAX_BUNDLES, MAX_KNOWN, MAX_NONCES, MAX_TRANSITIONS};
use crate::core::ledger::MAX_FLOWS;
use crate::core::node::MAX_SESSIONS;
use crate::json::{Value, object};
use crate::policy::refusal::Refusal;
use crate::session::Direction;
use crate::signed::{Kind, sign};

#[test]
fn one_session_more_than_fit_is_refused_for_capacity() {
    let mut bench = Bench::new();
    for n in 0..MAX_SESSIONS as u32 {
        bench.open(&id(n), "{}");
        assert_eq!(bench.queued(&id(n)), ["accepted", "active"]);
    }
    bench.open(&id(99), "{}");
    assert_eq!(bench.queued(&id(99)), ["refused capacity"]);
    bench.close(&id(0), "budget");
    bench.take_all();
    bench.open(&id(100), "{}");
    assert_eq!(bench.queued(&id(100)), ["accepted", "active"]);
}

#[test]
fn one_flow_more_than_fit_is_told_to_come_again() {
    let generous = "network: { maxMbps: 9, maxGBPerDay: 9, perSession: { maxConnections: 10000, maxNewPerSecond: 10000, \
                    maxNewPerHostPerSecond: 10000 }, perTarget: { maxConnectionsPerHost: 10000, maxConnectionsPerDomain: 10000, \
                    maxNewPerHostPerSecond: 10000, maxNewPerDomainPerSecond: 10000 } }\nbreakers: { sessionBurst: 10000, \
                    nodeBurst: 10000 }";
    let bench = Bench::active(generous, "{}");
    let flows: Vec<_> = (0..MAX_FLOWS).map(|_| bench.connect(ID, "a.test").unwrap()).collect();
    let denied = bench.connect(ID, "a.test").err().unwrap();
    assert_eq!((denied.refusal, denied.retry_after_s), (Refusal::RateLimited, Some(1)));
    drop(flows);
    assert_eq!(bench.refusal(ID, "a.test"), None);
}

#[test]
fn with_few_descriptors_there_are_few_tunnels_and_the_owner_is_told() {
    let bench = Bench::active("", "{}");
    bench.node.limit_tunnels(3, 256);
    assert!(bench.has_alert("descriptors-low"), "a session may have 512");
    let caps = bench.node.registration().member("caps").cloned().unwrap();
    assert_eq!(caps.member("maxConnections"), Some(&Value::Int(3)));
    let flows: Vec<_> = (0..3).map(|_| bench.connect(ID, "a.test").unwrap()).collect();
    let denied = bench.connect(ID, "a.test").err().unwrap();
    assert_eq!((denied.refusal, denied.retry_after_s), (Refusal::RateLimited, Some(1)));
    drop(flows);
    assert_eq!(bench.refusal(ID, "a.test"), None);
    bench.node.limit_tunnels(600, 2000);
    assert!(!bench.has_alert("descriptors-low"));
}

#[test]
fn with_the_table_of_known_ids_full_no_session_is_opened_until_one_is_forgotten() {
    let mut bench = Bench::new();
    for n in 0..MAX_KNOWN as u32 {
        let known = Known { hash: String::new(), until: START + 100 };
        bench.node.durable.borrow_mut().apply(&durable::known(&id(1000 + n), &known));
    }
    bench.open(ID, "{}");
    assert_eq!(bench.queued(ID), ["refused capacity"]);
    assert_eq!(bench.node.durable.borrow().known.len(), MAX_KNOWN, "the refusal is not remembered either");
    bench.pass(101);
    bench.open(ID, "{}");
    assert_eq!(bench.queued(ID).last().unwrap(), "active");
}

fn spool(bench: &Bench, bundles: usize) {
    let mut durable = bench.node.durable.borrow_mut();
    for n in 0..bundles {
        let bundle = object([
            ("sessionId", id(77).into()),
            ("seq", n.into()),
            ("windowStart", "2026-01-01T00:00:00Z".into()),
        ]);
        let members = [("id", id(77).into()), ("bundle", bundle), ("chain", Value::Null)];
        durable.apply(&durable::record("bundle", members));
    }
}

#[test]
fn with_the_spool_of_bundles_full_sessions_are_closed_and_no_bundle_is_lost() {
    let mut bench = Bench::active("", "{}");
    bench.open(&id(1), "{}");
    let flow = bench.tunnel(ID, "a.test");
    carry(&flow, Direction::Ingress, 1000);
    spool(&bench, MAX_BUNDLES - 3);
    bench.tick();
    assert!(!is_reset(&flow), "there is room for what is open");
    spool(&bench, 1);
    bench.tick();
    assert!(is_reset(&flow) && bench.has_alert("spool-full"));
    drop(flow);
    bench.tick();
    assert_eq!(bench.queued(ID).last().unwrap(), "settled");
    bench.open(&id(2), "{}");
    assert_eq!(bench.queued(&id(2)), ["refused capacity"]);
    let mut bench = bench.crash_with_snapshot();
    let waiting = bench.node.durable.borrow().bundles.len();
    assert_eq!(waiting, MAX_BUNDLES);
    bench.take_all();
    assert_eq!(bench.bundles.len(), MAX_BUNDLES);
    assert!(!bench.has_alert("spool-full"));
    bench.open(&id(3), "{}");
    assert_eq!(bench.queued(&id(3)), ["accepted", "active"]);
}

#[test]
fn with_the_refused_bundles_at_their_bound_no_session_is_opened() {
    let mut bench = Bench::new();
    spool(&bench, MAX_BUNDLES);
    let bundles = bench.node.durable.borrow().bundles.clone();
    for part in bundles.chunks(64) {
        bench.answer(part, &BundleStatus::Refused("no".into()));
    }
    bench.open(ID, "{}");
    assert_eq!(bench.queued(ID), ["refused capacity"]);
    assert_eq!(bench.node.durable.borrow().refused.len(), MAX_BUNDLES, "kept all the same");
    bench.pass(7 * 86_400 + 1);
    bench.open(&id(1), "{}");
    assert_eq!(bench.queued(&id(1)), ["accepted", "active"]);
}

#[test]
fn with_the_table_of_nonces_full_no_probe_is_answered() {
    let mut bench = Bench::new();
    for n in 0..MAX_NONCES {
        let members = [("nonce", n.to_string().into()), ("until", (START + 100).into())];
        bench.node.durable.borrow_mut().apply(&durable::record("nonce", members));
    }
    assert!(bench.node.keep_nonce("x").is_err(), "which means: no answer");
    assert_eq!(bench.node.durable.borrow().nonces.len(), MAX_NONCES);
    bench.pass(101);
    bench.node.keep_nonce("x").unwrap();
}

#[test]
fn orders_wait_while_their_answers_are_not_taken() {
    let mut bench = Bench::new();
    let mut refused = 0;
    while bench.node.durable.borrow().transitions.len() < MAX_TRANSITIONS {
        let mut batch = Vec::new();
        for _ in 0..20 {
            let mut order = open_order(&id(refused), START);
            order.set("category", "unheard-of");
            sign(Kind::SessionOpen, &mut order, &coordinator());
            batch.push(("open", order));
            refused += 1;
        }
        bench.raw_signals(batch).unwrap();
    }
    let cursor = bench.node.cursor();
    assert!(bench.signal("open", open_order(ID, START)).is_err());
    assert_eq!(bench.node.cursor(), cursor);
    bench.take_all();
    bench.signal("open", open_order(&id(9999), START)).unwrap();
    assert_eq!(bench.queued(&id(9999)), ["accepted", "active"]);
}

#[test]
fn the_journal_does_not_keep_what_nobody_reads_again() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..5000).map(|n| format!("\"name-{n}.some.example\"")).collect();
    let order = format!(r#"{{"blockDomains":[{}]}}"#, names.join(","));
    bench.open(ID, &format!(r#"{{"policyProfile":{}}}"#, profile(&order).canonical()));
    bench.policy(None, profile(&order), "{}", 0);
    assert_eq!(bench.refusal(ID, "name-4999.some.example"), Some(Refusal::DomainBlocked));
    let length = std::fs::metadata(bench.dir.0.join("journal")).unwrap().len();
    assert!(length < 2000, "{length}");
}

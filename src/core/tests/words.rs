//! What the node says of itself: against the schemas, and against what is true.
use super::bench::{carry, int, text};
use super::schema::assert_valid;
use super::*;
use crate::api::{Archive, Backend as _};
use crate::config::{Platform, Store};
use crate::coordinator::node::Node as _;
use crate::coordinator::wire::{HeartbeatAnswer, Observed};
use crate::core::backend::Control;
use crate::core::lifecycle::NodeEvent;
use crate::json::{Value, object, parse};
use crate::session::Direction;
use crate::time::Unix;

/// A node that has something to say in every member.
fn talkative(config: &str) -> Bench {
    let mut bench = Bench::active(config, r#"{"limits":{"maxMbps":8,"maxConnections":4}}"#);
    let flow = bench.tunnel(ID, "a.test");
    carry(&flow, Direction::Ingress, 5000);
    drop(flow);
    bench.connect_as(ID, b"wrong", "a.test", 443).err().unwrap();
    bench.connect_as(ID, b"0123456789abcdefghij", "a.test", 80).err().unwrap();
    let account =
        parse(br#"{"creditsToday":1.5,"emshBonusForecast":0,"reputation":{"score":0.9,"tier":"gold"}}"#);
    bench.node.heartbeat_answered(HeartbeatAnswer {
        account: account.unwrap(),
        observed: Some(Observed { address: "203.0.113.9".into(), region: "PH-NCR".into(), confidence: 0.9 }),
        server_time: Unix(START),
    });
    bench.node.alert("an-alert", "a sentence");
    bench.node.probe_ended(ID, Ok(()));
    bench.pass(2);
    bench
}

fn control(bench: &Bench) -> Control {
    let store = Store::open(bench.dir.0.join("config.yaml"), Platform::Other);
    Control {
        node: bench.node.clone(),
        source: crate::core::source::Source::File(store),
        platform: Platform::Other,
        epoch: 1 << 24,
    }
}

#[test]
fn the_status_is_what_its_schema_says_in_every_state() {
    assert_valid(&Bench::new().status(), "status");
    let mut bench = talkative("");
    assert_valid(&bench.status(), "status");
    assert_eq!(
        bench.status().member("refusals"),
        Some(&object([("auth-required", 1.into()), ("port-denied", 1.into())]))
    );
    for event in [
        NodeEvent::Pause,
        NodeEvent::Start,
        NodeEvent::Stop,
        NodeEvent::Quarantine("x".into()),
        NodeEvent::Drain,
    ] {
        bench.node.on(event);
        bench.tick();
        assert_valid(&bench.status(), "status");
    }
    bench.configure("security: { guard: required }\nnetwork: { maxMbps: 1, maxGBPerDay: 1 }");
    assert_valid(&bench.status(), "status");
}

#[test]
fn sessions_are_what_their_schema_says() {
    let mut bench = talkative("");
    bench.open(&id(1), &format!(r#"{{"notBefore":"{}"}}"#, Unix(START + 30)));
    let control = control(&bench);
    let sessions = object([("sessions", control.sessions())]);
    assert_valid(&sessions, "sessions");
    let states: Vec<_> =
        control.sessions().as_array().unwrap().iter().map(|s| text(s, "state").to_owned()).collect();
    assert_eq!(states, ["active", "handshake"]);
}

#[test]
fn what_the_coordinator_is_sent_is_what_the_schemas_say() {
    let mut bench = talkative("");
    assert_valid(&bench.node.registration(), "register-request");
    assert_valid(&bench.node.heartbeat(), "heartbeat-request");
    assert_eq!(bench.node.heartbeat().member("telemetry"), None, "not without the owner's word");
    assert_eq!(bench.node.heartbeat().member("sessions"), Some(&1.into()));
    bench.close(ID, "budget");
    assert_eq!(bench.node.heartbeat().member("sessions"), Some(&0.into()), "a settled one is none");
    assert_eq!(text(&bench.node.heartbeat(), "state"), "idle");
    bench.take_all();
    for transition in &bench.transitions {
        assert_valid(transition, "transition");
    }
    for bundle in &bench.bundles {
        assert_valid(bundle, "metering-bundle");
    }
}

#[test]
fn telemetry_is_sent_when_the_owner_has_said_so() {
    let mut bench = talkative("ui: { telemetryOptIn: true }");
    bench.node.heartbeat();
    bench.services.cpu_us.set(2_500_000);
    bench.pass(10);
    let heartbeat = bench.node.heartbeat();
    assert_valid(&heartbeat, "heartbeat-request");
    let telemetry = heartbeat.member("telemetry").unwrap();
    assert_eq!(telemetry.member("cpuPercent").unwrap().as_f64(), Some(25.0), "2.5 s of the last 10");
    assert_eq!((text(telemetry, "board"), int(telemetry, "rssKB")), ("test-board", 4096));
    assert_eq!(text(telemetry, "offload"), "relay");
}

#[test]
fn a_heartbeat_tells_the_contracts_states_only() {
    use crate::core::lifecycle::NodeState;
    let schema = parse(include_bytes!("../../../schemas/heartbeat-request.schema.json")).unwrap();
    let allowed =
        schema.member("properties").unwrap().member("state").unwrap().member("enum").unwrap().clone();
    let silent = [NodeState::Locked, NodeState::Unconfigured];
    for state in NodeState::ALL {
        let told = allowed.as_array().unwrap().contains(&state.as_str().into());
        assert_ne!(told, silent.contains(&state), "{state:?}: such a node calls nobody");
    }
}

#[test]
fn an_answer_without_credits_leaves_the_account_as_it_was() {
    let mut bench = talkative("");
    bench.node.bundles_posted(vec![], Value::Null);
    assert_valid(&bench.status(), "status");
    bench.node.bundles_posted(vec![], 7.into());
    assert_eq!(bench.status().member("account").unwrap().member("creditsToday"), Some(&7.into()));
    bench.pass(1);
}

#[test]
fn an_alert_is_no_longer_than_the_contract_allows() {
    let bench = Bench::new();
    bench.node.alert("long", &"ä".repeat(2000));
    assert_valid(&bench.node.heartbeat(), "heartbeat-request");
}

#[test]
fn what_was_billed_can_be_exported_and_verified() {
    let mut bench = Bench::active("", "{}");
    for _ in 0..2 {
        let flow = bench.tunnel(ID, "a.test");
        carry(&flow, Direction::Egress, 70_000);
        flow.finish(crate::session::Outcome::Done);
        bench.pass(300);
    }
    bench.node.on(NodeEvent::Stop);
    bench.take_all();
    let export =
        |archive, since| -> Vec<u8> { control(&bench).export(archive, since).unwrap().flatten().collect() };
    let (log, bundles) = (export(Archive::Access, None), export(Archive::Bundles, None));
    let report = crate::meter::verify(&[("access.jsonl", &log), ("bundles.jsonl", &bundles)]);
    assert!(report.is_ok(), "{report}");
    let session = &report.sessions[0];
    assert_eq!((session.bundles, session.bytes_egress, session.settled), (2, 140_000, true));
    let lines = bundles.split_inclusive(|b| *b == b'\n').count();
    assert_eq!(lines, 3, "two bundles and the totals");
    let later = export(Archive::Bundles, Some(Unix(START + 300)));
    assert_eq!(later.split_inclusive(|b| *b == b'\n').count(), 2, "the first window ended then");
    let bench = bench.crash();
    let again: Vec<u8> = control(&bench).export(Archive::Bundles, None).unwrap().flatten().collect();
    assert_eq!(again, bundles, "over a restart");
}

#[test]
fn the_nodes_own_log_can_be_read() {
    crate::error!("a line of this test");
    let bench = Bench::new();
    let log = control(&bench).recent_log();
    assert!(log.iter().any(|l| l == "error: a line of this test"), "{log:?}");
    assert!(log.len() <= crate::log::KEPT);
}

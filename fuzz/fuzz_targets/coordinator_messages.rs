//! Every message of the coordinator: any bytes are answered or refused, and orders are judged as if they were rightly signed.
#![no_main]
use echomesh::coordinator::orders::{
    Judgement, OpenContext, OrderContext, judge_close, judge_open, judge_policy,
};
use echomesh::coordinator::wire;
use echomesh::json::{self, Value};
use echomesh::probe::plan::{self, ProbeContext};
use echomesh::signed::{self, Kind, NodeKey};
use echomesh::time::Unix;
use libfuzzer_sys::fuzz_target;

const NOW: Unix = Unix(1_768_478_410);

fn answers(data: &[u8]) {
    let _ = wire::registered(data);
    let _ = wire::heartbeat_answer(data);
    let _ = wire::metering_answer(data);
    let _ = wire::report_answer(data);
    let _ = wire::probe_request(data);
    let _ = wire::problem(data);
    if let Ok(signals) = wire::signals(data) {
        let _ = format!("{signals:?}");
    }
}

/// The object as the coordinator would have signed it for this node.
fn genuine(kind: Kind, object: &Value, node: &str, coordinator: &NodeKey) -> Value {
    let mut object = object.clone();
    object.set("nodeId", node);
    signed::sign(kind, &mut object, coordinator);
    object
}

fn orders(object: &Value) {
    let coordinator = NodeKey::from_seed(&[7; 32]).expect("a seed is a key");
    let (node, public) = (coordinator.node_id(), coordinator.public());
    let open = OpenContext {
        node_id: &node,
        coordinator: &public,
        now: NOW,
        known: &|_| None,
        region_allow: &["PH-NCR".to_owned()],
        observed_region: None,
        category_opt_out: &[],
        extra_ports: &[],
        transports: &["relay"],
        paused: false,
        outside_schedule: false,
        quarantined: false,
        guard_down: false,
        has_capacity: true,
    };
    if let Judgement::Accept(accepted) =
        judge_open(&genuine(Kind::SessionOpen, object, &node, &coordinator), &open)
    {
        assert!(accepted.expires_at > accepted.not_before && accepted.expires_at > NOW);
        assert_eq!(accepted.session_id.len(), 36);
    }
    let context = OrderContext { node_id: &node, coordinator: &public, now: NOW };
    let _ = judge_close(&genuine(Kind::SessionClose, object, &node, &coordinator), &context, &|_| None);
    let _ = judge_policy(&genuine(Kind::Policy, object, &node, &coordinator), &context, &|_| None);
    let probe = ProbeContext {
        node_id: &node,
        coordinator: &public,
        now: NOW,
        approved: &[],
        allow_plain: true,
        extra_ports: &[],
        answered: &|_| false,
        active: &|_| true,
    };
    if let Ok(challenge) = plan::judge(&genuine(Kind::ProbeRequest, object, &node, &coordinator), &probe) {
        assert!(challenge.plan.is_err(), "no endpoint is approved here");
    }
}

fuzz_target!(|data: &[u8]| {
    answers(data);
    match json::parse(data) {
        Ok(object @ Value::Object(_)) => orders(&object),
        _ => {}
    }
});

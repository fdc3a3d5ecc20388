//! Whatever happens, in whatever order: what must never be.
use super::bench::{carry, int, text};
use super::*;
use crate::coordinator::node::Node as _;
use crate::core::lifecycle::{NodeEvent, State};
use crate::core::session::At;
use crate::json::Value;
use crate::session::{Direction, Flow};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Open(u32, u8),
    Close(u32),
    Policy(Option<u32>, u8),
    Configure(u8),
    Control(u8),
    Connect(u32, u8),
    Carry(usize, u32),
    End(usize),
    Pass(i64),
    Jump(i64),
    Observe(bool),
    Post,
    Crash,
}

const HOSTS: [&str; 3] = ["a.test", "b.test", "sub.a.test"];
const CONFIGS: [&str; 5] = [
    "",
    "network: { maxMbps: 1000, maxGBPerDay: 0.001, perSession: { maxGB: 0.001 } }",
    "network: { maxMbps: 1000, maxGBPerDay: 1, blocklistDomains: [a.test], perSession: { maxConnections: 2 } }",
    "policy: { categoryOptOut: [qa] }",
    "node: { regionAllow: [PH-NCR], schedules: [{ days: [Mon, Tue], start: \"11:30\", end: \"12:30\" }] }",
];
const PROFILES: [&str; 5] = [
    "{}",
    r#"{"blockDomains":["b.test"]}"#,
    r#"{"allowDomains":["a.test"]}"#,
    r#"{"alpn":[],"ech":"deny"}"#,
    r#"{"transports":[]}"#,
];
const LIMITS: [&str; 3] =
    ["{}", r#"{"maxGB":0.00005}"#, r#"{"maxGBPerDay":0.00003,"maxConnections":1,"maxMbps":1}"#];

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4u32, any::<u8>()).prop_map(|(s, n)| Step::Open(s, n)),
        1 => (0..4u32).prop_map(Step::Close),
        2 => (prop::option::of(0..4u32), any::<u8>()).prop_map(|(s, n)| Step::Policy(s, n)),
        1 => any::<u8>().prop_map(Step::Configure),
        1 => any::<u8>().prop_map(Step::Control),
        6 => (0..4u32, any::<u8>()).prop_map(|(s, h)| Step::Connect(s, h)),
        8 => (any::<usize>(), 1..400_000u32).prop_map(|(f, n)| Step::Carry(f, n)),
        3 => any::<usize>().prop_map(Step::End),
        3 => (1..700i64).prop_map(Step::Pass),
        1 => prop_oneof![-4000..4000i64, Just(-90_000), Just(90_000)].prop_map(Step::Jump),
        1 => any::<bool>().prop_map(Step::Observe),
        2 => Just(Step::Post),
        1 => Just(Step::Crash),
    ]
}

struct World {
    bench: Bench,
    flows: Vec<(String, Flow)>,
    active: BTreeMap<String, ()>,
    /// The newest session of each slot, and when it was ordered.
    slots: [(u32, i64); 4],
}

impl World {
    fn take(mut self, step: &Step) -> World {
        let now = self.bench.now();
        match step {
            Step::Open(s, n) => {
                // A coordinator never uses an id again; it may repeat itself while the id is remembered.
                let next = self.slots.iter().map(|(n, _)| n + 1).max().unwrap();
                let slot = &mut self.slots[*s as usize];
                if n % 4 != 0 || (now - slot.1).abs() > 80_000 {
                    *slot = (next, now);
                }
                let mut order = open_order(&id(slot.0), now);
                order.set("policyProfile", profile(PROFILES[usize::from(*n) % 2]));
                order.set("limits", crate::json::parse(LIMITS[usize::from(*n) % 3].as_bytes()).unwrap());
                self.bench.signal("open", order).unwrap();
            }
            Step::Close(s) => self.bench.close(&self.id(*s), "budget"),
            Step::Policy(s, n) => {
                let (profile, limits) = (profile(PROFILES[usize::from(*n) % 5]), LIMITS[usize::from(*n) % 3]);
                let session = s.map(|s| self.id(s));
                self.bench.policy(session.as_deref(), profile, limits, i64::from(*n % 4) * 100);
            }
            Step::Configure(n) => self.bench.configure(CONFIGS[usize::from(*n) % CONFIGS.len()]),
            Step::Control(n) => self.bench.node.on(match n % 8 {
                0 => NodeEvent::Pause,
                1 => NodeEvent::Stop,
                2 => NodeEvent::Quarantine("x".into()),
                3 => NodeEvent::ClearQuarantine,
                _ => NodeEvent::Start,
            }),
            Step::Connect(s, h) => {
                if let Ok(flow) = self.bench.connect(&self.id(*s), HOSTS[usize::from(*h) % 3]) {
                    flow.passed_hello();
                    self.flows.push((self.id(*s), flow));
                }
            }
            Step::Carry(f, n) if !self.flows.is_empty() => self.carry(f % self.flows.len(), *n),
            Step::End(f) if !self.flows.is_empty() => drop(self.flows.swap_remove(f % self.flows.len())),
            Step::Pass(s) => self.bench.pass(*s),
            Step::Jump(s) => self.bench.jump(*s),
            Step::Post => drop(self.bench.take_one()),
            Step::Observe(inside) => {
                let region = if *inside { "PH-NCR" } else { "DE-BE" };
                let observed = crate::coordinator::wire::Observed {
                    address: String::new(),
                    region: region.into(),
                    confidence: 0.9,
                };
                self.bench.node.heartbeat_answered(crate::coordinator::wire::HeartbeatAnswer {
                    account: Value::Null,
                    observed: Some(observed),
                    server_time: crate::time::Unix(now),
                });
            }
            Step::Crash => {
                self.flows.clear();
                self.bench = self.bench.crash();
            }
            Step::Carry(..) | Step::End(_) => {}
        }
        self.bench.tick();
        // The tasks of flows that are to end do so in the same turn.
        self.flows.retain(|(_, flow)| !bench::is_reset(flow));
        self.bench.tick();
        self
    }

    fn id(&self, slot: u32) -> String {
        id(self.slots[slot as usize].0)
    }

    fn carry(&mut self, flow: usize, bytes: u32) {
        let (session, flow) = &self.flows[flow];
        let found = self.bench.node.sessions.borrow().get(session).cloned();
        let passed = carry(flow, Direction::Ingress, bytes as usize);
        let Some(found) = found else {
            assert_eq!(passed, 0, "of a session that is gone");
            return;
        };
        let state = found.machine.borrow().state();
        assert!(
            passed == 0 || matches!(state, State::Active | State::Probing),
            "{passed} bytes in {state:?}"
        );
        let limits = found.allowance.borrow().limits().clone();
        let totals = found.meter.borrow().totals().clone();
        if let (Some(gb), true) = (limits.max_gb, passed > 0) {
            assert!(totals.bytes_ingress <= (gb * 1e9).round() as u64, "maxGB was overrun");
        }
        let day = &self.bench.node.ledger.allowance.borrow().day;
        assert!(
            passed == 0 || day.current().used() <= day.limit_bytes.unwrap(),
            "the owner's day was overrun"
        );
    }

    fn check(&mut self) {
        let now = self.bench.clock.now();
        for (id, flow) in &self.flows {
            let session = self.bench.node.sessions.borrow().get(id).cloned().expect("its session is there");
            let state = flow.state();
            assert!(
                At(&session, now).still_allowed(&state.host, state.port),
                "{} lives under rules that refuse it",
                state.host
            );
            assert_eq!(
                self.bench.node.shared.refusal.get(),
                None,
                "a flow lives although the node carries nothing"
            );
            assert!(session.machine.borrow().carries(), "a flow lives in a session that does not carry");
        }
        for (id, session) in self.bench.node.sessions.borrow().iter() {
            let live = self.flows.iter().filter(|(of, _)| of == id).count();
            assert_eq!(session.connections() as usize, live, "the count of connections");
            if let Some(most) = session.allowance.borrow().limits().max_connections {
                assert!(live <= most as usize);
            }
            if session.machine.borrow().carries() {
                self.active.insert(id.clone(), ());
            }
        }
        if self.bench.state() == "quarantined" {
            assert!(self.flows.is_empty());
            assert_eq!(self.bench.status().member("sessions"), Some(&0.into()));
        }
    }

    fn finish(mut self) {
        self.flows.clear();
        self.bench.node.on(NodeEvent::Stop);
        self.bench.tick();
        self.bench.take_all();
        let bundles = &self.bench.bundles;
        for id in self.active.keys() {
            let of: Vec<&Value> = bundles.iter().filter(|b| text(b, "sessionId") == id).collect();
            for (seq, bundle) in of.iter().enumerate() {
                assert_eq!(int(bundle, "seq"), seq as i64, "in order, each once");
            }
            let settled: Vec<&Value> = self
                .bench
                .transitions
                .iter()
                .filter(|t| text(t, "sessionId") == id && text(t, "transition") == "settled")
                .collect();
            assert_eq!(settled.len(), 1, "{:?}", self.bench.posted(id));
            let totals = settled[0].member("totals").unwrap();
            for name in ["bytesIngress", "bytesEgress", "connections", "rejected"] {
                assert_eq!(of.iter().map(|b| int(b, name)).sum::<i64>(), int(totals, name), "{name} of {id}");
            }
            assert_eq!(int(totals, "bundles"), of.len() as i64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_passes_that_the_rules_refuse_and_all_that_passed_is_settled(
        steps in prop::collection::vec(any_step(), 1..60)
    ) {
        let mut world = World { bench: Bench::new(), flows: vec![], active: BTreeMap::new(), slots: [(0, START); 4] };
        for step in &steps {
            world = world.take(step);
            world.check();
        }
        world.finish();
    }
}

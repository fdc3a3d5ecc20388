//! Whatever happens, in whatever order: what must never be.
use super::bench::{carry, int, text};
use super::oracle::{LIMITS, Oracle, Ordered, PLANS, PROFILES};
use super::*;
use crate::coordinator::node::Node as _;
use crate::core::lifecycle::NodeEvent;
use crate::json::Value;
use crate::policy::schedule::zones::{ZONES, Zone};
use crate::session::{Direction, Flow, Phase};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::task::{Context, Waker};

#[derive(Clone, Debug)]
enum Step {
    Open(u32, u8),
    Close(u32),
    Policy(Option<u32>, u8),
    Configure(u8),
    Control(u8),
    Connect(u32, u8),
    Crowd(u32),
    Silent(u32),
    WrongOrder(u32, u8),
    WrongPolicy(u8),
    WrongRequest(u32, u8),
    Carry(usize, u32),
    End(usize),
    Pass(i64),
    Jump(i64, bool),
    Correct(i64),
    Observe(u8),
    Post,
    Crash,
}

const HOSTS: [&str; 3] = ["a.test", "b.test", "sub.a.test"];

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4u32, any::<u8>()).prop_map(|(s, n)| Step::Open(s, n)),
        1 => (0..4u32).prop_map(Step::Close),
        2 => (prop::option::of(0..4u32), any::<u8>()).prop_map(|(s, n)| Step::Policy(s, n)),
        2 => any::<u8>().prop_map(Step::Configure),
        1 => any::<u8>().prop_map(Step::Control),
        6 => (0..4u32, any::<u8>()).prop_map(|(s, h)| Step::Connect(s, h)),
        2 => (0..4u32).prop_map(Step::Crowd),
        1 => (0..4u32).prop_map(Step::Silent),
        2 => (0..4u32, any::<u8>()).prop_map(|(s, n)| Step::WrongOrder(s, n)),
        1 => any::<u8>().prop_map(Step::WrongPolicy),
        3 => (0..4u32, any::<u8>()).prop_map(|(s, n)| Step::WrongRequest(s, n)),
        8 => (any::<usize>(), 1..400_000u32).prop_map(|(f, n)| Step::Carry(f, n)),
        3 => any::<usize>().prop_map(Step::End),
        3 => (1..700i64).prop_map(Step::Pass),
        2 => (any_jump(), any::<bool>()).prop_map(|(s, look)| Step::Jump(s, look)),
        1 => (-4000..4000i64).prop_map(Step::Correct),
        2 => any::<u8>().prop_map(Step::Observe),
        2 => Just(Step::Post),
        1 => Just(Step::Crash),
    ]
}

/// Seconds by which the system's clock is set: a little, over an hour's change, a day, a month, years, and to 1970.
fn any_jump() -> impl Strategy<Value = i64> {
    let far = [-90_000, 90_000, -2_700_000, 2_700_000, 86_400 * 3000, -86_400 * 3000, i64::MIN];
    prop_oneof![3 => -4000..4000i64, 2 => prop::sample::select(far.to_vec())]
}

/// Where and when it begins: an ordinary Monday, and shortly before clocks change.
const BEGINNINGS: [(Zone, i64); 5] = [
    (ZONES[0], START),
    (ZONES[1], 1_774_746_000 - 3000),
    (ZONES[2], 1_541_300_400 - 3000),
    (ZONES[3], 1_775_314_800 - 3000),
    (ZONES[4], 1_325_239_200 - 3000),
];

struct World {
    bench: Bench,
    oracle: Oracle,
    zone: Zone,
    flows: Vec<(String, Flow)>,
    active: BTreeMap<String, ()>,
    /// The newest session of each slot, and when it was ordered.
    slots: [(u32, i64); 4],
    began: i64,
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
                let (with, limits) = (usize::from(*n) % 3, usize::from(*n / 2) % LIMITS.len());
                let until = now + if n % 5 == 0 { 3600 } else { 400_000 };
                order.set("policyProfile", profile(PROFILES[with].json));
                order.set("limits", crate::json::parse(LIMITS[limits].0.as_bytes()).unwrap());
                order.set("expiresAt", crate::time::Unix(until).to_string());
                let (carried, by_day) = (0, BTreeMap::new());
                let ordered = Ordered {
                    from: now,
                    until,
                    since: now,
                    profile: with,
                    limits,
                    over: false,
                    carried,
                    by_day,
                };
                self.oracle.sessions.entry(id(slot.0)).or_insert(ordered);
                self.bench.signal("open", order).unwrap();
            }
            Step::Close(s) => {
                let id = self.id(*s);
                self.oracle
                    .sessions
                    .get_mut(&id)
                    .filter(|s| s.since <= now)
                    .into_iter()
                    .for_each(|s| s.over = true);
                self.bench.close(&id, "budget");
            }
            Step::Policy(s, n) => {
                let (with, limits) = (usize::from(*n) % 5, usize::from(*n) % LIMITS.len());
                let (session, ago) = (s.map(|s| self.id(s)), i64::from(*n % 4) * 100);
                let named = |id: &String| session.as_ref().is_none_or(|s| s == id);
                for (_, known) in
                    self.oracle.sessions.iter_mut().filter(|(id, s)| named(id) && s.since <= now - ago)
                {
                    (known.profile, known.limits, known.since) = (with, limits, now - ago);
                }
                let profile = profile(PROFILES[with].json);
                self.bench.policy(session.as_deref(), profile, LIMITS[limits].0, ago);
            }
            Step::Configure(n) => {
                let plan = usize::from(*n) % PLANS.len();
                self.oracle.configure(plan, now + i64::from(self.offset()));
                self.bench.configure(PLANS[plan].yaml);
            }
            Step::Control(n) => self.control(*n),
            Step::Connect(s, h) => self.connect(*s, *h),
            Step::Crowd(s) => (0..4).for_each(|_| self.connect(*s, 1)),
            Step::Silent(s) => self.silent(*s),
            Step::WrongOrder(s, n) => {
                let next = self.slots.iter().map(|(n, _)| n + 1).max().unwrap();
                self.slots[*s as usize] = (next, now);
                offences::open(&mut self.bench, &id(next), *n);
            }
            Step::WrongPolicy(n) => offences::policy(&mut self.bench, *n),
            Step::WrongRequest(s, n) => {
                let admitted = offences::request(&self.bench, &self.id(*s), *n).is_ok();
                assert!(!admitted, "request {} was admitted", n % 5);
            }
            Step::Carry(f, n) if !self.flows.is_empty() => self.carry(f % self.flows.len(), *n),
            Step::End(f) if !self.flows.is_empty() => drop(self.flows.swap_remove(f % self.flows.len())),
            Step::Pass(s) => self.bench.pass(*s),
            Step::Jump(s, look) => {
                self.bench.jump(if *s == i64::MIN { -now } else { *s });
                // Somebody may come, and bytes may pass, before the node has looked at the clock.
                for n in 0..if *look { 0 } else { self.flows.len() } {
                    self.carry(n, 1000);
                    self.connect(n as u32 % 4, n as u8);
                }
            }
            Step::Correct(s) => {
                // To the truth by the monotonic clock, or nearly.
                let passed = i64::try_from(self.bench.clock.now().mono_ms() / 1000).unwrap();
                self.bench.node.correct_clock((self.began + passed + s) * 1000);
            }
            Step::Post => drop(self.bench.take_one()),
            Step::Observe(n) => {
                let inside = n % 8 == 0;
                self.oracle.seen(inside);
                let region = if inside { "PH-NCR" } else { "DE-BE" };
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
                self.oracle.close_all();
                self.oracle.strikes = 0;
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

    fn offset(&self) -> i32 {
        self.zone.0(crate::time::Unix(self.bench.now())).offset_s
    }

    /// What the clock on the owner's wall shows: his router's, or the corrected one while that was never set.
    fn own(&self) -> Option<i64> {
        let times = [self.bench.system(), self.bench.now()];
        let set = times.into_iter().find(|t| crate::time::Unix(*t).to_string().as_str() >= "2025");
        set.map(|t| t + i64::from(self.zone.0(crate::time::Unix(t)).offset_s))
    }

    fn control(&mut self, n: u8) {
        let event = match n % 8 {
            0 => NodeEvent::Pause,
            1 => NodeEvent::Stop,
            2 => NodeEvent::Quarantine("x".into()),
            3 => NodeEvent::ClearQuarantine,
            _ => NodeEvent::Start,
        };
        match n % 8 {
            0 => self.oracle.running = false,
            1 => {
                self.oracle.running = false;
                self.oracle.close_all();
            }
            2 => {
                self.oracle.quarantined = true;
                self.oracle.close_all();
            }
            3 => (self.oracle.quarantined, self.oracle.strikes) = (false, 0),
            _ => self.oracle.running = true,
        }
        self.bench.node.on(event);
    }

    fn connect(&mut self, s: u32, h: u8) {
        let (id, host) = (self.id(s), HOSTS[usize::from(h) % 3]);
        if let Ok(flow) = self.bench.connect(&id, host) {
            let objection = self.oracle.objection(&id, host, self.bench.now(), self.own());
            assert_eq!(objection, None, "admitted to {host}");
            flow.passed_hello();
            self.flows.push((id, flow));
        }
    }

    /// A tunnel in which no hello comes.
    fn silent(&mut self, s: u32) {
        let Ok(flow) = self.bench.connect(&self.id(s), "b.test") else { return };
        flow.connected(20_000);
        flow.enter(Phase::Hello);
        self.bench.pass(11);
        let ending = flow.poll_ending(&mut Context::from_waker(Waker::noop()));
        assert!(ending.is_ready(), "a tunnel without a hello lives on");
    }

    fn carry(&mut self, flow: usize, bytes: u32) {
        let (session, flow) = &self.flows[flow];
        let direction = if bytes & 1 == 0 { Direction::Ingress } else { Direction::Egress };
        let passed = carry(flow, direction, bytes as usize);
        if passed > 0 {
            let (now, offset) = (self.bench.now(), self.offset());
            let objection = self.oracle.objection(session, &flow.state().host, now, self.own());
            assert_eq!(objection, None, "{passed} bytes have passed");
            let overrun = self.oracle.carry(session, passed as u64, now, offset);
            assert_eq!(overrun, None, "overrun by the last of {passed} bytes");
        }
    }

    fn check(&mut self) {
        let (now, own) = (self.bench.now(), self.own());
        for (id, flow) in &self.flows {
            let host = &flow.state().host;
            assert_eq!(self.oracle.objection(id, host, now, own), None, "a flow to {host} lives");
        }
        for id in self.oracle.sessions.keys() {
            let live = self.flows.iter().filter(|(of, _)| of == id).count();
            assert!(live <= self.oracle.connections(id), "{live} connections");
        }
        for (id, session) in self.bench.node.sessions.borrow().iter() {
            assert!(self.oracle.sessions.contains_key(id), "a session that nobody may order");
            let live = self.flows.iter().filter(|(of, _)| of == id).count();
            assert_eq!(session.connections() as usize, live, "the count of connections");
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

/// Each writes a journal at every step: fewer than of others, unless the suite says how many.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_passes_that_the_rules_refuse_and_all_that_passed_is_settled(
        beginning in 0..BEGINNINGS.len(), steps in prop::collection::vec(any_step(), 1..60)
    ) {
        let (zone, began) = BEGINNINGS[beginning];
        let oracle = Oracle { running: true, ..Oracle::default() };
        let bench = Bench::at(began, zone.0, "");
        let mut world =
            World { bench, oracle, zone, flows: vec![], active: BTreeMap::new(), slots: [(0, began); 4], began };
        for step in &steps {
            world = world.take(step);
            world.check();
        }
        world.finish();
    }
}

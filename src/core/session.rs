//! One session: the coordinator's order, what it may still carry, and what it has carried.
use super::ledger::Ledger;
use super::lifecycle::{SessionMachine, State};
use super::rules::Rules;
use crate::config::{Breakers, SessionLimits};
use crate::coordinator::orders::{Open, PolicyProfile};
use crate::meter::{AccessLine, Path, SessionMeter};
use crate::mutant;
use crate::policy::decision::{Standing, judge_host};
use crate::policy::refusal::Refusal;
use crate::session::allowance::{Allowance, NodeSpent, Spent};
use crate::session::breakers::{Burst, Failures};
use crate::session::credit::Credit;
use crate::session::{Account, Direction, Flow, FlowState, HelloRules, Outcome, SHORT_S, Target, Way};
use crate::time::{DAY, Now, Unix};
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;

/// Seconds that a `429` names when a target has as many connections as it may.
const TARGET_WAIT_S: u32 = 1;

/// What the coordinator allows a session: of its `open`, or of the newest `policy`.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The rules.
    pub profile: PolicyProfile,
    /// The coordinator's limits.
    pub limits: SessionLimits,
    /// When the coordinator made the order.
    pub since: Unix,
}

/// A session the node has accepted and not yet settled.
pub struct Session {
    /// The coordinator's order.
    pub order: Open,
    /// What the coordinator allows it now.
    pub terms: RefCell<Terms>,
    /// Where it stands.
    pub machine: RefCell<SessionMachine>,
    /// What it has carried.
    pub meter: RefCell<SessionMeter>,
    /// What it may still carry.
    pub allowance: RefCell<Allowance>,
    /// When it rests.
    pub breakers: RefCell<(Burst, Failures)>,
    /// The rules in force, replaced whole.
    pub rules: RefCell<Rc<Rules>>,
    shared: Shared,
    name: Rc<str>,
    connections: Cell<u32>,
    /// The ways by which bytes have gone.
    path: Cell<Option<Path>>,
    /// Bytes that its flows have taken in and not yet passed on and counted.
    held: Cell<u64>,
    /// How far the ends of its leases' connections are believed.
    credit: Cell<Credit>,
}

/// What all sessions have in common.
#[derive(Clone)]
pub struct Shared {
    /// Clocks, caps and flows.
    pub ledger: Rc<Ledger>,
    /// Why the node as a whole carries nothing now; kept up to date by the core.
    pub refusal: Rc<Cell<Option<Refusal>>>,
    /// Whether the guard can give leases now.
    pub kernel: Rc<Cell<bool>>,
}

impl Session {
    /// An accepted session that has carried nothing.
    pub fn new(
        order: Open,
        terms: Terms,
        (rules, limits, breakers): (Rc<Rules>, SessionLimits, &Breakers),
        meter: SessionMeter,
        shared: Shared,
    ) -> Session {
        let today = utc_day(shared.ledger.now());
        Session {
            name: order.session_id.as_str().into(),
            order,
            terms: RefCell::new(terms),
            machine: RefCell::default(),
            meter: RefCell::new(meter),
            allowance: RefCell::new(Allowance::new(limits, today)),
            breakers: RefCell::new((Burst::of_session(breakers), Failures::new(breakers))),
            rules: RefCell::new(rules),
            shared,
            connections: Cell::new(0),
            path: Cell::new(None),
            held: Cell::new(0),
            credit: Cell::default(),
        }
    }

    /// The way by which its bytes have gone, the relay if there were none.
    pub fn path(&self) -> Path {
        self.path.get().unwrap_or(Path::Relay)
    }

    /// Live connections.
    pub fn connections(&self) -> u32 {
        self.connections.get()
    }

    /// Whether it carries at `now`: the machine's word, and the order's time.
    pub fn carries(&self, now: Now) -> bool {
        self.machine.borrow().carries()
            && now.unix() >= self.order.not_before
            && now.unix() < self.order.expires_at
    }

    /// Takes the owner's new settings of the breakers.
    pub fn apply_breakers(&self, settings: &Breakers) {
        let mut own = self.breakers.borrow_mut();
        own.0.apply(&Burst::of_session(settings));
        own.1.apply(&Failures::new(settings));
    }

    /// Seconds for which a breaker of its own, or of the node, lets it open nothing.
    pub fn rest_s(&self, now_us: u64) -> Option<u32> {
        let own = self.breakers.borrow();
        let waits =
            [own.0.wait_s(now_us), own.1.wait_s(now_us), self.shared.ledger.burst.borrow().wait_s(now_us)];
        waits.into_iter().flatten().max()
    }

    /// Opens a flow and takes its place; `None` when the node's table of flows is full.
    pub fn open_flow(self: &Rc<Session>, to: &Target, from: (Option<IpAddr>, Way), now: Now) -> Option<Flow> {
        let state = self.shared.ledger.open_flow(&self.name, to, from, now)?;
        self.connections.set(self.connections.get() + 1);
        Some(Flow::new(state, self.clone()))
    }

    /// Counts and logs a request that was refused, or failed, before it became a flow.
    pub fn refused(&self, host: &str, port: u16, (from, way): (Option<IpAddr>, Way), refusal: Refusal) {
        let now = self.shared.ledger.now();
        let (status, slug) = self.settle(Outcome::Refused(refusal), now);
        let line = self.line((host, port), way, status, slug);
        self.log(now, AccessLine { buyer_address: from, ..line });
    }

    /// Its id, as flows and leases know it.
    pub fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// What all sessions have in common.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether there is a way by which it can be carried now.
    pub fn has_way(&self) -> bool {
        let rules = self.rules.borrow();
        rules.by_relay() || (rules.by_lease() && self.shared.kernel.get())
    }

    fn line(
        &self,
        (host, port): (&str, u16),
        way: Way,
        status: u16,
        slug: Option<&'static str>,
    ) -> AccessLine {
        AccessLine {
            session_id: self.order.session_id.clone(),
            buyer: self.order.buyer.clone(),
            buyer_address: None,
            host_hash: self.shared.ledger.host_hash(host),
            port,
            status,
            slug,
            ingress: 0,
            egress: 0,
            duration_ms: 0,
            path: path(way),
        }
    }

    fn log(&self, now: Now, line: AccessLine) {
        let text = self.meter.borrow_mut().write_line(now, &line);
        if let Some(text) = text {
            self.shared.ledger.log_line(&text);
        }
    }

    /// Counts what a flow's end means: an error on the way, a refusal after the 200, or nothing but its bytes.
    fn settle(&self, outcome: Outcome, now: Now) -> (u16, Option<&'static str>) {
        let mut meter = self.meter.borrow_mut();
        match outcome {
            Outcome::Refused(refusal) => {
                self.shared.ledger.refused(refusal);
                if refusal.is_error() {
                    meter.error(now);
                    self.shared.ledger.qos.borrow_mut().error(now);
                } else {
                    meter.rejected(now);
                }
                (refusal.status().unwrap_or(200), Some(refusal.slug()))
            }
            Outcome::TargetReset => {
                meter.error(now);
                self.shared.ledger.qos.borrow_mut().error(now);
                (200, None)
            }
            Outcome::Done | Outcome::Aborted | Outcome::Killed => (200, None),
        }
    }
}

/// Whether a handshake failed by the buyer's or the target's doing. A name that did not resolve may be the resolver's.
fn is_failure(outcome: Outcome) -> bool {
    match outcome {
        Outcome::TargetReset => true,
        Outcome::Refused(refusal) => {
            refusal.status().is_none() || matches!(refusal, Refusal::ConnectFailed | Refusal::ConnectTimeout)
        }
        Outcome::Done | Outcome::Aborted | Outcome::Killed => false,
    }
}

fn path(way: Way) -> Path {
    match way {
        Way::Relay => Path::Relay,
        Way::Kernel => Path::Kernel,
    }
}

/// The number of the UTC day.
fn utc_day(now: Now) -> i64 {
    now.unix().0.div_euclid(DAY)
}

impl Account for Session {
    fn now_us(&self) -> u64 {
        self.shared.ledger.now().mono_us
    }

    fn available(&self) -> usize {
        let ledger = &self.shared.ledger;
        let now = ledger.now();
        // Flows that are being reset in this turn get nothing more, nor those that will be when the core has seen what
        // time it is.
        let late = !ledger.hours(now).open || !self.carries(now);
        if late || self.shared.refusal.get().is_some() || !self.rules.borrow().by_relay() {
            ledger.ring();
            return 0;
        }
        let node = ledger.allowance.borrow_mut().available(ledger.periods(now), ledger.held().get());
        let own = self.allowance.borrow_mut().available(now.mono_us, utc_day(now), self.held.get());
        let free = node.min(own);
        if free == 0 && ledger.allowance.borrow().runs_short() {
            ledger.ring();
        }
        usize::try_from(free).unwrap_or(usize::MAX)
    }

    fn hold(&self, bytes: u64) {
        for held in [self.shared.ledger.held(), &self.held] {
            held.set(held.get().saturating_add(bytes));
        }
    }

    fn release(&self, bytes: u64) {
        for held in [self.shared.ledger.held(), &self.held] {
            held.set(held.get().saturating_sub(bytes));
        }
    }

    fn wait(&self, waker: &Waker) {
        self.shared.ledger.pacer.wait(waker);
    }

    fn count(&self, flow: &FlowState, direction: Direction, bytes: u64) {
        let now = self.shared.ledger.now();
        if direction == Direction::Ingress && flow.bytes().0 == bytes {
            self.breakers.borrow_mut().1.good(now.mono_us);
        }
        let (ingress, egress) = match direction {
            Direction::Ingress => (bytes, 0),
            Direction::Egress => (0, bytes),
        };
        let way = path(flow.way);
        self.path.set(Some(self.path.get().map_or(way, |p| p.and(way))));
        self.meter.borrow_mut().add_on(now, way, ingress, egress);
        let node_spent = self.shared.ledger.count(now, ingress, egress);
        let mut own = self.allowance.borrow_mut();
        own.turn(now.mono_us, utc_day(now));
        own.take(bytes);
        if node_spent || own.spent(now.mono_us, utc_day(now)).is_some() {
            self.shared.ledger.ring();
        }
    }

    fn runs_short(&self) -> bool {
        let node = self.shared.ledger.allowance.borrow();
        node.runs_out_in(SHORT_S) || self.allowance.borrow().runs_out_in(SHORT_S, node.rate())
    }

    fn connected(&self, _: &FlowState, latency_us: u64) {
        let now = self.shared.ledger.now();
        self.meter.borrow_mut().connected(now, latency_us);
        self.shared.ledger.qos.borrow_mut().connected(now, latency_us);
    }

    fn passed_hello(&self, _: &FlowState) {
        let now = self.shared.ledger.now();
        self.meter.borrow_mut().connection(now);
        self.shared.ledger.qos.borrow_mut().connection(now);
    }

    fn uncount(&self, _: &FlowState, direction: Direction, bytes: u64) {
        self.meter.borrow_mut().uncount(direction, bytes);
    }

    fn credit(&self) -> &Cell<Credit> {
        &self.credit
    }

    fn hello_rules(&self, flow: &FlowState) -> HelloRules {
        let rules = self.rules.borrow();
        HelloRules { host: flow.host.clone(), alpn: rules.alpn(), ech_deny: rules.ech_deny() }
    }

    fn judge_alias(&self, name: &str) -> Result<(), Refusal> {
        self.rules.borrow().judge_alias(name)
    }

    fn ended(&self, flow: &Rc<FlowState>) {
        self.shared.ledger.close_flow(flow.id);
        self.connections.set(self.connections.get().saturating_sub(1));
        if self.connections.get() == 0 && self.machine.borrow().state() == State::Closing {
            self.shared.ledger.ring();
        }
        let now = self.shared.ledger.now();
        if is_failure(flow.outcome()) && self.breakers.borrow_mut().1.bad(now.mono_us) {
            self.shared.ledger.ring();
        }
        let (status, slug) = self.settle(flow.outcome(), now);
        let (ingress, egress) = flow.bytes();
        let duration_ms = now.mono_us.saturating_sub(flow.started_us) / 1000;
        let line = self.line((&flow.host, flow.port), flow.way, status, slug);
        let buyer_address = flow.buyer_address;
        self.log(now, AccessLine { ingress, egress, duration_ms, buyer_address, ..line });
    }
}

/// A session at one instant, for the decision.
#[derive(Clone, Copy)]
pub struct At<'a> {
    session: &'a Session,
    now: Now,
    way: Way,
    /// Whether this way can serve the connection that the request came by.
    reachable: bool,
}

impl<'a> At<'a> {
    /// For a CONNECT.
    pub fn relay(session: &'a Session, now: Now) -> At<'a> {
        At { session, now, way: Way::Relay, reachable: true }
    }

    /// For a lease, or a connection through one.
    pub fn kernel(session: &'a Session, now: Now, reachable: bool) -> At<'a> {
        At { session, now, way: Way::Kernel, reachable }
    }

    /// Whether a live flow would still be admitted under the rules in force.
    pub fn still_allowed(&self, flow: &FlowState) -> bool {
        let at = At { way: flow.way, ..*self };
        let rules = self.session.rules.borrow();
        (rules.by_relay() || flow.way == Way::Kernel)
            && at.way_open()
            && at.host_allowed(&flow.host, flow.port)
            && (!flow.has_alias(|name| rules.judge_alias(name).is_err()) || mutant::out("live-alias"))
    }

    /// Whether port, lists and categories let a host be reached.
    pub fn host_allowed(&self, host: &str, port: u16) -> bool {
        self.port_allowed(port) && judge_host(host, self).is_ok() && !self.category_denied(host)
    }
}

impl Standing for At<'_> {
    fn node(&self) -> Option<Refusal> {
        let ledger = &self.session.shared.ledger;
        let known = self.session.shared.refusal.get();
        // The core looks when it wakes; the clock may have been set since.
        let closed = known.is_none() && !ledger.hours(self.now).open && !mutant::out("schedule-at-admission");
        if closed {
            ledger.ring();
        }
        known.or(closed.then_some(Refusal::OutsideSchedule))
    }
    fn session_open(&self) -> bool {
        let by_way = self.way == Way::Kernel || self.session.rules.borrow().by_relay();
        self.session.carries(self.now) && by_way
    }
    fn way_open(&self) -> bool {
        let kernel = || self.session.rules.borrow().by_lease() && self.session.shared.kernel.get();
        self.reachable && (self.way == Way::Relay || kernel())
    }
    fn port_allowed(&self, port: u16) -> bool {
        self.session.rules.borrow().port_allowed(port)
    }
    fn blocked(&self, host: &str) -> bool {
        self.session.rules.borrow().blocked(host)
    }
    fn allowed(&self, host: &str) -> bool {
        self.session.rules.borrow().allowed(host)
    }
    fn category_denied(&self, host: &str) -> bool {
        let rules = self.session.rules.borrow();
        rules.opted_out(&self.session.order.category) || rules.sensitive(host)
    }
    fn take_place(&self, host: &str) -> Result<(), u32> {
        let (ledger, now_us) = (&self.session.shared.ledger, self.now.mono_us);
        if let Some(wait) = self.session.rest_s(now_us) {
            return Err(wait);
        }
        if !ledger.targets.borrow_mut().ready(host, now_us) {
            return Err(TARGET_WAIT_S);
        }
        let connections = self.session.connections.get();
        self.session.allowance.borrow_mut().take_place(host, connections, now_us)?;
        ledger.targets.borrow_mut().admit(host, now_us);
        let tripped = self.session.breakers.borrow_mut().0.opened(now_us);
        if ledger.burst.borrow_mut().opened(now_us) || tripped {
            ledger.ring();
        }
        Ok(())
    }
    fn quota_wait(&self) -> Option<u32> {
        let ledger = &self.session.shared.ledger;
        let seconds = |until: i64| u32::try_from(until - self.now.unix().0).unwrap_or(1).max(1);
        let spent = ledger.allowance.borrow_mut().spent(ledger.periods(self.now));
        match spent {
            Some(NodeSpent::Month) => Some(seconds(ledger.next_month(self.now).0)),
            Some(NodeSpent::Day) => Some(seconds(ledger.next_day(self.now).0)),
            None => {
                let day = utc_day(self.now);
                let own =
                    self.session.allowance.borrow_mut().spent(self.now.mono_us, day) == Some(Spent::Day);
                own.then(|| seconds((day + 1) * DAY))
            }
        }
    }
}

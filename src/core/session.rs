//! One session: the coordinator's order, what it may still carry, and what it has carried.
use super::ledger::{Ledger, Notice};
use super::lifecycle::SessionMachine;
use super::rules::Rules;
use crate::coordinator::wire::Open;
use crate::meter::SessionMeter;
use crate::meter::access_log::Entry;
use crate::policy::decision::{Standing, judge_host};
use crate::policy::refusal::Refusal;
use crate::session::allowance::{Allowance, NodeSpent, Spent};
use crate::session::{Account, Direction, FlowState, HelloRules, Outcome};
use crate::time::{DAY, Now};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// A session the node has accepted and not yet settled.
pub struct Session {
    /// The coordinator's order.
    pub order: Open,
    /// Where it stands.
    pub machine: RefCell<SessionMachine>,
    /// What it has carried.
    pub meter: RefCell<SessionMeter>,
    /// What it may still carry.
    pub allowance: RefCell<Allowance>,
    /// The rules in force, replaced whole.
    pub rules: RefCell<Rc<Rules>>,
    /// Why the node as a whole carries nothing now; kept up to date by the core.
    pub node_refusal: Rc<Cell<Option<Refusal>>>,
    ledger: Rc<Ledger>,
    connections: Cell<u32>,
}

impl Session {
    /// An accepted session that has carried nothing.
    pub fn new(
        order: Open,
        rules: Rc<Rules>,
        limits: crate::config::SessionLimits,
        meter: SessionMeter,
        shared: (Rc<Ledger>, Rc<Cell<Option<Refusal>>>),
    ) -> Session {
        let (ledger, node_refusal) = shared;
        let today = utc_day(ledger.now());
        Session {
            order,
            machine: RefCell::default(),
            meter: RefCell::new(meter),
            allowance: RefCell::new(Allowance::new(limits, today)),
            rules: RefCell::new(rules),
            node_refusal,
            ledger,
            connections: Cell::new(0),
        }
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

    /// Takes a place for a connection; given back when the flow ends.
    pub fn connect(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// Counts and logs a request that was refused before it became a flow.
    pub fn refused(&self, host: &str, port: u16, refusal: Refusal) {
        let now = self.ledger.now();
        self.ledger.refused(refusal);
        self.meter.borrow_mut().rejected(now);
        self.log(&Entry {
            at: now.unix(),
            session_id: &self.order.session_id,
            buyer: &self.order.buyer,
            host,
            port,
            status: i64::from(refusal.status().unwrap_or(0)),
            slug: Some(refusal.slug()),
            ingress: 0,
            egress: 0,
            duration_ms: 0,
            path: "relay",
        });
    }

    fn log(&self, entry: &Entry<'_>) {
        let now = self.ledger.now();
        let line = self.ledger.log.borrow_mut().append(entry, now);
        self.meter.borrow_mut().log_line(now, &line);
    }

    fn flow_ended(&self, flow: &FlowState) {
        let now = self.ledger.now();
        let (ingress, egress) = flow.bytes();
        let (status, slug) = match flow.outcome() {
            Outcome::Refused(r) => (r.status().map_or(200, i64::from), Some(r.slug())),
            _ => (200, None),
        };
        match flow.outcome() {
            Outcome::Refused(r) => {
                self.ledger.refused(r);
                let mut meter = self.meter.borrow_mut();
                if r.is_error() { meter.error(now) } else { meter.rejected(now) }
                self.ledger.qos.borrow_mut().ended(now, r.is_error());
            }
            Outcome::TargetReset => {
                self.meter.borrow_mut().error(now);
                self.ledger.qos.borrow_mut().ended(now, true);
            }
            _ => {}
        }
        self.log(&Entry {
            at: now.unix(),
            session_id: &self.order.session_id,
            buyer: &self.order.buyer,
            host: &flow.host,
            port: flow.port,
            status,
            slug,
            ingress,
            egress,
            duration_ms: now.mono_us.saturating_sub(flow.started_us) / 1000,
            path: "relay",
        });
    }
}

/// The number of the UTC day.
fn utc_day(now: Now) -> i64 {
    now.unix().0.div_euclid(DAY)
}

impl Account for Session {
    fn now_us(&self) -> u64 {
        self.ledger.now().mono_us
    }

    fn available(&self) -> usize {
        let now = self.ledger.now();
        if !self.machine.borrow().carries() {
            return 0;
        }
        let node = self.ledger.allowance.borrow_mut().available(now.mono_us, self.ledger.periods(now));
        let own = self.allowance.borrow_mut().available(now.mono_us, utc_day(now));
        usize::try_from(node.min(own)).unwrap_or(usize::MAX)
    }

    fn wait(&self, waker: &Waker) {
        self.ledger.pacer.wait(waker);
    }

    fn count(&self, _: &FlowState, direction: Direction, bytes: u64) {
        let now = self.ledger.now();
        let (ingress, egress) = match direction {
            Direction::Ingress => (bytes, 0),
            Direction::Egress => (0, bytes),
        };
        let periods = self.ledger.periods(now);
        self.meter.borrow_mut().add(now, ingress, egress);
        self.ledger.qos.borrow_mut().bytes(now, bytes);
        self.ledger.count_today(periods, ingress, egress);
        let mut node = self.ledger.allowance.borrow_mut();
        node.take(bytes, periods);
        let mut own = self.allowance.borrow_mut();
        own.take(bytes, utc_day(now));
        match own.spent(utc_day(now)) {
            Some(Spent::Session) => {
                self.ledger.notify(Notice::SessionSpent(self.order.session_id.clone()));
            }
            Some(Spent::Day) => self.ledger.notify(Notice::QuotaReached),
            None => {}
        }
        if node.spent(periods).is_some() {
            self.ledger.notify(Notice::QuotaReached);
        }
    }

    fn connected(&self, _: &FlowState, latency_us: u64) {
        let now = self.ledger.now();
        self.meter.borrow_mut().connected(now, latency_us);
        self.ledger.qos.borrow_mut().connected(now, latency_us);
    }

    fn passed_hello(&self, _: &FlowState) {
        let now = self.ledger.now();
        self.meter.borrow_mut().connection(now);
        self.ledger.qos.borrow_mut().ended(now, false);
    }

    fn uncount_egress(&self, _: &FlowState, bytes: u64) {
        self.meter.borrow_mut().uncount_egress(bytes);
    }

    fn hello_rules(&self, flow: &FlowState) -> HelloRules {
        let rules = self.rules.borrow();
        HelloRules { host: flow.host.clone(), alpn: rules.alpn(), ech_deny: rules.ech_deny() }
    }

    fn judge_alias(&self, name: &str) -> Result<(), Refusal> {
        // An alias is judged for blocks only: an allow list names what buyers ask for.
        if self.rules.borrow().blocked(name) { Err(Refusal::DomainBlocked) } else { Ok(()) }
    }

    fn ended(&self, flow: &Rc<FlowState>) {
        self.ledger.close_flow(flow.id);
        self.connections.set(self.connections.get().saturating_sub(1));
        self.flow_ended(flow);
    }
}

/// A session at one instant, for the decision.
pub struct At<'a>(pub &'a Session, pub Now);

impl At<'_> {
    /// Whether a live flow to the host would still be admitted under the rules in force.
    pub fn still_allowed(&self, host: &str, port: u16) -> bool {
        self.port_allowed(port) && judge_host(host, self).is_ok() && !self.category_denied()
    }
}

impl Standing for At<'_> {
    fn node(&self) -> Option<Refusal> {
        self.0.node_refusal.get()
    }
    fn session_open(&self) -> bool {
        self.0.carries(self.1)
    }
    fn port_allowed(&self, port: u16) -> bool {
        self.0.rules.borrow().port_allowed(port)
    }
    fn blocked(&self, host: &str) -> bool {
        self.0.rules.borrow().blocked(host)
    }
    fn allowed(&self, host: &str) -> bool {
        self.0.rules.borrow().allowed(host)
    }
    fn category_denied(&self) -> bool {
        self.0.rules.borrow().opted_out(&self.0.order.category)
    }
    fn take_place(&self, host: &str) -> Result<(), u32> {
        let connections = self.0.connections.get();
        self.0.allowance.borrow_mut().take_place(host, connections, self.1.mono_us)
    }
    fn quota_wait(&self) -> Option<u32> {
        let ledger = &self.0.ledger;
        let seconds = |until: i64| u32::try_from(until - self.1.unix().0).unwrap_or(1).max(1);
        let spent = ledger.allowance.borrow_mut().spent(ledger.periods(self.1));
        match spent {
            Some(NodeSpent::Month) => Some(seconds(ledger.next_month(self.1).0)),
            Some(NodeSpent::Day) => Some(seconds(ledger.next_day(self.1).0)),
            None => {
                let day = utc_day(self.1);
                let own = self.0.allowance.borrow_mut().spent(day) == Some(Spent::Day);
                own.then(|| seconds((day + 1) * DAY))
            }
        }
    }
}

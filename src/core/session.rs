//! One session: the coordinator's order, what it may still carry, and what it has carried.
use super::ledger::Ledger;
use super::lifecycle::SessionMachine;
use super::rules::Rules;
use crate::config::{Breakers, SessionLimits};
use crate::coordinator::orders::{Open, PolicyProfile};
use crate::meter::{AccessLine, Path, SessionMeter};
use crate::policy::refusal::Refusal;
use crate::session::allowance::Allowance;
use crate::session::breakers::{Burst, Failures};
use crate::session::credit::Credit;
use crate::session::{Flow, Outcome, Target, Way};
use crate::time::{DAY, Now, Unix};
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;

mod account;
mod standing;

pub use self::standing::At;

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

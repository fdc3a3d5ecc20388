//! A session as the gate sees it: what may pass now.
use super::{Session, TARGET_WAIT_S, utc_day};
use crate::mutant;
use crate::policy::decision::{Standing, judge_host};
use crate::policy::refusal::Refusal;
use crate::session::allowance::{NodeSpent, Spent};
use crate::session::{FlowState, Way};
use crate::time::{DAY, Now};

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

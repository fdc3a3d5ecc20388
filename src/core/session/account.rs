//! A session as its flows see it: what they may take in, and what they have carried.
use super::{Session, is_failure, path, utc_day};
use crate::core::lifecycle::State;
use crate::meter::AccessLine;
use crate::policy::refusal::Refusal;
use crate::session::credit::Credit;
use crate::session::{Account, Direction, FlowState, HelloRules, SHORT_S};
use std::cell::Cell;
use std::rc::Rc;
use std::task::Waker;

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

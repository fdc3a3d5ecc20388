//! One connection of a lease: what it has carried, how it ends and when.
use super::event::Note;
use super::tally::{Settled, Tally};
use crate::guard::lease_wire::{Counted, LeaseNo};
use crate::session::{Direction, Flow, Outcome, Phase};
use std::cell::Cell;
use std::rc::Rc;

/// How long a connection that both sides have ended may be quiet before the kernel forgets it, milliseconds. What was lost of its
/// last bytes is sent again meanwhile, each time after twice the pause (RFC 6298 section 5.5), and so is the wait.
const LINGER_MS: u64 = 2_000;
/// The longest of these waits, milliseconds.
const MAX_LINGER_MS: u64 = 16_000;
/// They end together with others, at multiples of so many milliseconds: the guard reads all connections to see that one is gone, or
/// twenty.
const TOGETHER_MS: u64 = 1_000;

/// What is to become of a flow, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// It lives.
    Live,
    /// It is over on the wire; the kernel is told to forget it then.
    Linger(u64),
    /// The kernel is to have forgotten it by then, or the guard is not to be believed.
    Forgotten(u64),
    /// The kernel has forgotten it; its last counters are waited for until then.
    LastCount(u64),
}

/// One connection.
pub(super) struct Connection {
    pub flow: Flow,
    pub charged: Rc<Cell<[u64; 2]>>,
    pub lease: LeaseNo,
    pub tally: Tally,
    /// Its hello was accepted: its bytes count.
    pub accepted: bool,
    pub outcome: Option<Outcome>,
    pub plan: Plan,
    /// Packets when its counters were last read, once both sides have ended it, and how long it may be quiet.
    packets: Option<u64>,
    quiet_ms: u64,
}

impl Plan {
    fn linger(now_ms: u64, quiet_ms: u64) -> Plan {
        Plan::Linger((now_ms + quiet_ms).next_multiple_of(TOGETHER_MS))
    }

    pub fn due_ms(self) -> Option<u64> {
        match self {
            Plan::Live => None,
            Plan::Linger(at) | Plan::Forgotten(at) | Plan::LastCount(at) => Some(at),
        }
    }
}

impl Connection {
    /// One that lives and whose hello nobody has judged yet.
    pub fn new(lease: LeaseNo, flow: Flow, charged: Rc<Cell<[u64; 2]>>, tally: Tally) -> Connection {
        Connection {
            flow,
            charged,
            lease,
            tally,
            accepted: false,
            outcome: None,
            plan: Plan::Live,
            packets: None,
            quiet_ms: LINGER_MS,
        }
    }

    /// Tells the session what has passed.
    pub fn pass_on(&mut self) {
        if !self.accepted {
            return;
        }
        let fresh = self.tally.fresh();
        self.pass_on_these(fresh);
    }

    fn pass_on_these(&self, [egress, ingress]: [u64; 2]) {
        for (direction, bytes) in [(Direction::Egress, egress), (Direction::Ingress, ingress)] {
            if bytes > 0 {
                self.flow.count(direction, bytes);
            }
        }
        let [out, back] = self.charged.get();
        self.charged.set([out.saturating_add(egress), back.saturating_add(ingress)]);
    }

    /// The line of the access log. What the end of the connection corrects counts into the window that is open now.
    pub fn finish(mut self, otherwise: Outcome) {
        self.pass_on();
        let is_over = self.tally.is_over();
        if self.accepted {
            let mut credit = self.flow.credit().get();
            let Settled { more, less } = std::mem::take(&mut self.tally).settle(&mut credit);
            self.flow.credit().set(credit);
            self.pass_on_these(more);
            let [egress, ingress] = less;
            self.flow.uncount(Direction::Egress, egress);
            self.flow.uncount(Direction::Ingress, ingress);
            let [out, back] = self.charged.get();
            self.charged.set([out.saturating_sub(egress), back.saturating_sub(ingress)]);
        }
        let outcome = if is_over { Outcome::Done } else { otherwise };
        self.flow.finish(self.outcome.unwrap_or(outcome));
    }

    pub fn note(&mut self, note: Note, now_ms: u64) {
        self.tally.note(&note);
        match note {
            Note::Established { latency_us, opening } => {
                self.tally.open(opening);
                self.flow.connected(latency_us);
                self.flow.enter(Phase::Hello);
            }
            Note::Accepted => {
                self.accepted = true;
                self.flow.passed_hello();
            }
            Note::Refused(refusal) => {
                self.outcome.get_or_insert(Outcome::Refused(refusal));
                self.leave(now_ms);
            }
            Note::Gone => {
                self.outcome.get_or_insert(Outcome::Aborted);
                self.leave(now_ms);
            }
            Note::Fin { .. } => {
                if self.tally.is_over() {
                    self.leave(now_ms);
                } else if self.accepted {
                    self.flow.enter(Phase::HalfClosed);
                }
            }
            Note::Reset { direction, .. } => {
                let unanswered = self.flow.state().bytes().0 == 0 && direction == Direction::Ingress;
                let outcome = if unanswered { Outcome::TargetReset } else { Outcome::Aborted };
                self.outcome.get_or_insert(outcome);
                self.leave(now_ms);
            }
        }
    }

    /// It is over on the wire.
    fn leave(&mut self, now_ms: u64) {
        if self.plan == Plan::Live {
            self.plan = Plan::linger(now_ms, LINGER_MS);
        }
    }

    /// Where something still passes, it is not over.
    pub fn stay(&mut self, counted: &Counted, now_ms: u64) {
        if !matches!(self.plan, Plan::Linger(_)) {
            return;
        }
        let [out, back] = counted.packets;
        let before = self.packets.replace(out.saturating_add(back));
        if before.is_some() && before != self.packets {
            self.quiet_ms = (self.quiet_ms * 2).min(MAX_LINGER_MS);
            self.plan = Plan::linger(now_ms, self.quiet_ms);
        }
    }
}

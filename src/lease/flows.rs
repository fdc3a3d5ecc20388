//! The connections of leases: the gate's verdicts go to the guard, what it notes to the session's flows, and what the node
//! ends ends in the kernel.
use super::connection::{Connection, Plan};
use super::event::{Action, Note, Packet};
use super::gate::{Gate, MAX_FLOWS, Owner};
use super::service::{Held, Leases};
use super::table::State;
use super::tally::Tally;
use crate::guard::lease_wire::{Checked, Counted, CtId, LeaseNo, LeaseReport, LeaseRequest, PASSED};
use crate::policy::refusal::Refusal;
use crate::session::{Ending, HelloRules, Outcome};
use crate::sorted::SortedMap;
use crate::time::Now;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How often the counters are asked for while there are flows, milliseconds.
const COUNT_MS: u64 = 1_000;
/// The same while a quota may be used up before the next but one time: no more than a second of the cap passes beyond it.
const COUNT_SHORT_MS: u64 = 250;
/// How long last counters may come after the guard has said that a lease is gone, milliseconds.
const LAST_COUNT_MS: u64 = 300;
/// The same after a guard was lost: `procd` starts the next one two seconds later, and it reads its configuration and the kernel's tables.
const NEXT_GUARD_MS: u64 = 20_000;

/// All of them.
pub(super) struct Flows {
    gate: RefCell<Gate>,
    all: RefCell<SortedMap<CtId, Box<Connection>>>,
    counted_ms: Cell<u64>,
    /// How often, milliseconds.
    every_ms: Cell<u64>,
    /// Counters are asked for: from the first packet on until the guard says that it has no connection. That also shows the
    /// guard that somebody is there.
    counting: Cell<bool>,
    /// The answer that is coming in has named a connection.
    listed: Cell<bool>,
    /// The guard's two counts, and the payload that was charged since they began: egress and ingress.
    checked: RefCell<Option<Checked>>,
    charged: Rc<Cell<[u64; 2]>>,
    /// Counting has begun, and nobody has been woken for it.
    begun: Cell<bool>,
    /// Wakes the task that ends what the node ends.
    waker: RefCell<Option<Waker>>,
}

impl Default for Flows {
    fn default() -> Flows {
        Flows {
            gate: RefCell::new(Gate::new(0)),
            all: RefCell::default(),
            counted_ms: Cell::new(0),
            every_ms: Cell::new(COUNT_MS),
            counting: Cell::new(false),
            listed: Cell::new(false),
            checked: RefCell::default(),
            charged: Rc::default(),
            begun: Cell::new(false),
            waker: RefCell::default(),
        }
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Not decided yet.
    pub undecided: usize,
    /// Accepted.
    pub accepted: usize,
    /// Over, but for their last counters.
    pub ending: usize,
}

impl Flows {
    /// So many may be there at a time. Those that there are go on.
    pub fn bound(&self, most: u32) {
        self.gate.borrow_mut().bound_to(usize::try_from(most).unwrap_or(MAX_FLOWS));
    }

    /// What leases have carried, counted twice, and what was charged of it: payload of egress and ingress.
    pub fn checked(&self) -> Option<(Checked, [u64; 2])> {
        self.checked.borrow().clone().map(|checked| (checked, self.charged.get()))
    }

    /// The guard has counted again. Where both counts have begun anew, so does what was charged.
    pub fn check(&self, checked: Checked) {
        let round = checked.round;
        if self.checked.replace(Some(checked)).is_some_and(|before| before.round != round) {
            self.charged.set([0; 2]);
        }
    }

    /// How many there are.
    pub fn counts(&self) -> FlowCounts {
        let (undecided, accepted) = self.gate.borrow().count();
        let ending = self.all.borrow().values().filter(|c| c.plan != Plan::Live).count();
        FlowCounts { undecided, accepted, ending }
    }

    /// A packet has come: there is something to count.
    fn begin_counting(&self, now_ms: u64) {
        if !self.counting.replace(true) {
            self.counted_ms.set(now_ms);
            self.begun.set(true);
        }
    }

    /// A part of the guard's answer is here.
    fn listed(&self, any: bool, last: bool) {
        self.listed.set(self.listed.get() || any);
        if last {
            let short = self.all.borrow().values().any(|c| c.accepted && c.flow.runs_short());
            self.every_ms.set(if short { COUNT_SHORT_MS } else { COUNT_MS });
        }
        if last && !self.listed.replace(false) && self.all.borrow().is_empty() {
            self.counting.set(false);
        }
    }

    /// When something is due next, monotonic milliseconds.
    pub fn next_ms(&self) -> Option<u64> {
        let gate = self.gate.borrow().next_deadline_us().map(|us| us.div_ceil(1000));
        let plan = self.all.borrow().values().filter_map(|c| c.plan.due_ms()).min();
        let count = self.counting.get().then_some(self.counted_ms.get() + self.every_ms.get());
        [gate, plan, count].into_iter().flatten().min()
    }

    /// By when the guard has to say of a connection that it is gone.
    pub fn awaited(&self) -> Option<u64> {
        let all = self.all.borrow();
        let dues =
            all.values().filter_map(|c| if let Plan::Forgotten(at) = c.plan { Some(at) } else { None });
        dues.min()
    }

    /// It has so much longer for that.
    pub fn make_up(&self, lost_ms: u64) {
        for connection in self.all.borrow_mut().values_mut() {
            if let Plan::Forgotten(at) = &mut connection.plan {
                *at += lost_ms;
            }
        }
    }

    /// The kernel has forgotten these; last counters may be on their way.
    pub fn forgotten(&self, which: impl Fn(LeaseNo) -> bool, now_ms: u64) {
        let mut all = self.all.borrow_mut();
        for (ct, connection) in all.iter_mut().filter(|(_, c)| which(c.lease)) {
            self.gate.borrow_mut().closed(*ct);
            connection.outcome.get_or_insert(Outcome::Killed);
            if !matches!(connection.plan, Plan::LastCount(_)) {
                connection.plan = Plan::LastCount(now_ms + LAST_COUNT_MS);
            }
        }
    }

    /// Nobody counts any more. What was accepted goes on in the kernel until the next guard ends it and says what it carried;
    /// if none does in time, it ends with what is known.
    pub fn lost(&self, now_ms: u64) {
        self.counting.set(false);
        *self.checked.borrow_mut() = None;
        self.gate.borrow_mut().gone();
        let all = std::mem::take(&mut *self.all.borrow_mut()).into_iter();
        let (mut accepted, undecided): (Vec<_>, Vec<_>) = all.partition(|(_, c)| c.accepted);
        accepted.iter_mut().for_each(|(_, c)| c.plan = Plan::LastCount(now_ms + NEXT_GUARD_MS));
        *self.all.borrow_mut() = accepted.into_iter().collect();
        for (_, connection) in undecided {
            connection.finish(Outcome::Killed);
        }
        self.charged.set([0; 2]);
    }

    /// Lets a connection go, for its last word.
    fn take(&self, ct: CtId) -> Option<Box<Connection>> {
        self.all.borrow_mut().remove(&ct)
    }

    /// Does something to a connection, if there is one of that number.
    fn with<T>(&self, ct: CtId, change: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        self.all.borrow_mut().get_mut(&ct).map(|c| change(c))
    }

    fn count(&self, counted: &Counted, now_ms: u64) {
        self.with(counted.ct, |c| {
            c.tally.count(counted);
            c.pass_on();
            c.stay(counted, now_ms);
        });
    }
}

impl Leases {
    /// A packet waits for its verdict.
    pub(super) fn packet(&self, report: &LeaseReport, now: Now) {
        let LeaseReport::Packet { packet, ct, port, buyer, reply, length, bytes } = report else { return };
        let (port, buyer, reply, length) = (*port, *buyer, *reply, *length);
        self.flows.begin_counting(now.mono_ms());
        let packet = Packet { number: *packet, ct: *ct, port, buyer, reply, length, bytes };
        let mut owner = Sessions { leases: self };
        let actions = self.flows.gate.borrow_mut().packet(&packet, now.mono_us, &mut owner);
        self.carry_out(*ct, actions, now.mono_ms());
    }

    /// Counters of flows that live.
    pub(super) fn counted(&self, list: &[Counted], last: bool) {
        let now_ms = self.now().mono_ms();
        list.iter().for_each(|counted| self.flows.count(counted, now_ms));
        self.flows.listed(!list.is_empty(), last);
    }

    /// Whether [`Leases::tick`] is to be called earlier than it has said.
    pub fn take_begun(&self) -> bool {
        self.flows.begun.take()
    }

    /// A connection is gone from the kernel.
    pub(super) fn closed(&self, last: &Counted) {
        self.flows.gate.borrow_mut().closed(last.ct);
        self.flows.count(last, self.now().mono_ms());
        let Some(connection) = self.flows.take(last.ct) else { return };
        let ending = self.table.borrow().get(connection.lease).is_none_or(|l| l.state == State::Ending);
        connection.finish(if ending { Outcome::Killed } else { Outcome::Aborted });
    }

    /// Does what is due for the flows.
    pub(super) fn tick_flows(&self, now: Now) {
        let now_ms = now.mono_ms();
        let actions = self.flows.gate.borrow_mut().tick(now.mono_us);
        self.carry_out(0, actions, now_ms);
        let due: Vec<(CtId, Plan)> = {
            let all = self.flows.all.borrow();
            let is_due = |plan: Plan| plan.due_ms().is_some_and(|at| now_ms >= at);
            all.iter().filter(|(_, c)| is_due(c.plan)).map(|(ct, c)| (*ct, c.plan)).collect()
        };
        for (ct, plan) in due {
            match plan {
                Plan::Live | Plan::Forgotten(_) => {}
                Plan::Linger(_) => self.kill(ct, now_ms),
                Plan::LastCount(_) => {
                    if let Some(connection) = self.flows.take(ct) {
                        connection.finish(Outcome::Killed);
                    }
                }
            }
        }
        if self.flows.counting.get() && now_ms >= self.flows.counted_ms.get() + self.flows.every_ms.get() {
            self.flows.counted_ms.set(now_ms);
            self.send(LeaseRequest::Count);
        }
    }

    /// Ends for ever what the node ends, as soon as it does.
    pub async fn attend(&self) {
        poll_fn(|cx| {
            self.end_flows(cx);
            Poll::Pending
        })
        .await
    }

    /// Ends the flows that the node has ended, and has the task woken for the next.
    pub fn end_flows(&self, cx: &mut Context<'_>) {
        *self.flows.waker.borrow_mut() = Some(cx.waker().clone());
        let over: Vec<(CtId, Ending)> = {
            let all = self.flows.all.borrow();
            let live = all.iter().filter(|(_, c)| matches!(c.plan, Plan::Live | Plan::Linger(_)));
            let ends = live.filter_map(|(ct, c)| match c.flow.poll_ending(cx) {
                Poll::Ready(ending) => Some((*ct, ending)),
                Poll::Pending => None,
            });
            ends.collect()
        };
        let now_ms = self.now().mono_ms();
        for (ct, ending) in over {
            let outcome = match ending {
                Ending::Reset => Outcome::Killed,
                Ending::Close => Outcome::Done,
                Ending::HelloTimeout => Outcome::Refused(Refusal::HelloTimeout),
            };
            self.conclude(ct, outcome);
            self.kill(ct, now_ms);
        }
    }

    /// Has the kernel forget a connection; its last counters end the flow.
    fn kill(&self, ct: CtId, now_ms: u64) {
        let actions = self.flows.gate.borrow_mut().end(ct);
        let due = self.answer_due(now_ms);
        let lease = self.flows.with(ct, |c| {
            c.plan = Plan::Forgotten(due);
            c.lease
        });
        // A lease that is being ended takes its connections with it.
        let ends = |no| self.table.borrow().get(no).is_none_or(|l| l.state == State::Ending);
        let told = lease.is_some_and(ends);
        let actions = actions.into_iter().filter(|a| !(told && matches!(a, Action::Kill(_))));
        self.carry_out(ct, actions.collect(), now_ms);
        self.drop_if_empty(ct);
    }

    /// A flow whose bytes never counted needs no last counters.
    fn drop_if_empty(&self, ct: CtId) {
        let empty = self.flows.all.borrow().get(&ct).is_some_and(|c| !c.accepted && c.outcome.is_some());
        if empty && let Some(connection) = self.flows.take(ct) {
            connection.finish(Outcome::Aborted);
        }
    }

    fn conclude(&self, ct: CtId, outcome: Outcome) {
        self.flows.with(ct, |c| _ = c.outcome.get_or_insert(outcome));
    }

    fn carry_out(&self, first: CtId, actions: Vec<Action>, now_ms: u64) {
        let mut ct = first;
        for action in actions {
            match action {
                Action::Of(other) => ct = other,
                Action::Verdict { packet: PASSED, .. } => {}
                Action::Verdict { packet, what } => self.send(LeaseRequest::Verdict { packet, what }),
                Action::Kill(ct) => {
                    self.send(LeaseRequest::Kill { ct });
                    let due = self.answer_due(now_ms);
                    self.flows.with(ct, |c| c.plan = Plan::Forgotten(due));
                }
                Action::Seen { direction, length, payload } => {
                    self.tally(ct, |t| t.seen(direction, length, payload));
                }
                Action::Passed { direction, payload, end } => {
                    self.tally(ct, |t| t.passed(direction, payload, end));
                }
                Action::Note(note) => self.note(ct, note, now_ms),
            }
        }
    }

    fn tally(&self, ct: CtId, change: impl FnOnce(&mut Tally)) {
        self.flows.with(ct, |c| change(&mut c.tally));
    }

    fn note(&self, ct: CtId, note: Note, now_ms: u64) {
        let short = self.flows.with(ct, |c| {
            c.note(note, now_ms);
            note == Note::Accepted && c.flow.runs_short()
        });
        if short == Some(true) {
            // The core's task waits for what was next before.
            self.flows.every_ms.set(COUNT_SHORT_MS);
            self.flows.begun.set(true);
        }
        self.drop_if_empty(ct);
    }
}

/// Whom the gate asks.
struct Sessions<'a> {
    leases: &'a Leases,
}

impl Owner for Sessions<'_> {
    fn admit(&mut self, ct: CtId, port: u16, buyer: (IpAddr, u16)) -> Result<(), Refusal> {
        let leases = self.leases;
        if let Some(old) = leases.flows.take(ct) {
            old.finish(Outcome::Aborted);
        }
        let no = leases.table.borrow().at_port(port, buyer.0).map(|l| l.no);
        let no = no.ok_or(Refusal::LeaseUnavailable)?;
        let held = leases.held.borrow();
        let Held { tenant, target, aliases, .. } = held.get(&no).ok_or(Refusal::LeaseUnavailable)?;
        let flow = tenant.admit(target).map_err(|denied| denied.refusal)?;
        if let Err(refusal) = flow.judge_aliases(aliases) {
            flow.finish(Outcome::Refused(refusal));
            return Err(refusal);
        }
        // The task that ends flows is woken for this one too.
        if let Some(waker) = &*leases.flows.waker.borrow() {
            let _ = flow.poll_ending(&mut Context::from_waker(waker));
        }
        let tally = Tally::default();
        let charged = leases.flows.charged.clone();
        let connection = Connection::new(no, flow, charged, tally);
        leases.flows.all.borrow_mut().insert(ct, Box::new(connection));
        Ok(())
    }

    fn rules(&mut self, ct: CtId) -> Option<HelloRules> {
        let all = self.leases.flows.all.borrow();
        all.get(&ct).filter(|c| c.outcome.is_none()).map(|c| c.flow.hello_rules())
    }
}

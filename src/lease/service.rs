//! The leases of this node: joins their table, the buyers' requests, the sessions that pay and the guard that has them
//! in the kernel. Whatever is in doubt ends: a lease that the guard does not answer for is one that nobody may use.
mod connection;

pub use self::connection::Connection;
use super::flows::{FlowCounts, Flows};
use super::table::{Lease, State, Table};
use crate::bell::Bell;
use crate::clock::Clock;
use crate::guard::client::Link;
use crate::guard::lease_wire::{Ability, Checked, LeaseNo, LeaseReport, LeaseRequest};
use crate::guard::protocol::Request;
use crate::guard::view::SILENCE_MS;
use crate::session::{LeaseTerms, Target, Tenant};
use crate::sorted::SortedMap;
use crate::time::{Now, Unix};
use async_io::Timer;
use futures_lite::future;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// Connections of buyers that may hold leases, of all sessions and of one.
pub const MAX_CONNECTIONS: usize = 256;
#[allow(missing_docs, reason = "the line above")]
pub const MAX_PER_SESSION: usize = 32;
/// How long the guard may take to answer, milliseconds. Who does not is not believed any more: no sooner than one who says nothing at
/// all, since a processor that others keep busy keeps it from both.
pub const ANSWER_MS: u64 = SILENCE_MS;
/// How often it is looked whether an answer is late, milliseconds. What is longer than two of these was not the guard's time alone.
pub const LOOK_MS: u64 = 250;

/// Who has the leases in the kernel.
pub trait Guard {
    /// Sends a message now or not at all; false if it could not be sent.
    fn send(&self, request: LeaseRequest) -> bool;
    /// Gives the connection up, if there is one: the guard then ends all leases.
    fn give_up(&self) -> bool;
}

impl Guard for Link {
    fn send(&self, request: LeaseRequest) -> bool {
        Link::send(self, &Request::Lease(request))
    }

    fn give_up(&self) -> bool {
        Link::give_up(self)
    }
}

/// A lease that is wanted, after all checks.
pub struct Wanted {
    /// Who pays.
    pub tenant: Rc<dyn Tenant>,
    /// Where the buyer's connection comes from.
    pub buyer: IpAddr,
    /// The host and its port.
    pub target: Target,
    /// The checked address of it, of the buyer's family.
    pub address: IpAddr,
    /// Names that the host is an alias of.
    pub aliases: Vec<String>,
}

/// A lease as its buyer is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its name.
    pub id: String,
    /// Its port on the router.
    pub port: u16,
    /// Its host.
    pub host: String,
    /// Until when.
    pub expires_at: Unix,
}

/// What is kept of a lease beside the table.
pub(super) struct Held {
    pub tenant: Rc<dyn Tenant>,
    pub target: Target,
    pub aliases: Vec<String>,
    terms: LeaseTerms,
    /// Monotonic milliseconds by which the guard has to answer.
    due_ms: Option<u64>,
}

/// All leases.
pub struct Leases {
    clock: Rc<Clock>,
    guard: RefCell<Option<Rc<dyn Guard>>>,
    ability: RefCell<Option<Ability>>,
    pub(super) table: RefCell<Table>,
    pub(super) held: RefCell<SortedMap<LeaseNo, Held>>,
    pub(super) flows: Flows,
    connections: RefCell<SortedMap<u64, Option<Rc<str>>>>,
    next_connection: Cell<u64>,
    /// Everything is being ended: by when the guard has to say that it is.
    clearing: Cell<Option<u64>>,
    /// When it was last looked whether an answer is late.
    looked_ms: Cell<u64>,
    changed: Bell,
}

impl Leases {
    /// No leases, on ports of this range, both ends included.
    pub fn new(clock: Rc<Clock>, ports: (u16, u16)) -> Rc<Leases> {
        Rc::new(Leases {
            clock,
            guard: RefCell::default(),
            ability: RefCell::default(),
            table: RefCell::new(Table::new(ports)),
            held: RefCell::default(),
            flows: Flows::default(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            clearing: Cell::new(None),
            looked_ms: Cell::new(0),
            changed: Bell::default(),
        })
    }

    /// The guard's end is reached so.
    pub fn guarded_by(&self, guard: Rc<dyn Guard>) {
        *self.guard.borrow_mut() = Some(guard);
    }

    /// What the guard can do; none while there is no guard.
    pub fn ability(&self) -> Option<Ability> {
        self.ability.borrow().clone()
    }

    /// Whether leases are possible now.
    pub fn is_possible(&self) -> bool {
        self.ability.borrow().as_ref().is_some_and(|a| a.possible)
    }

    /// What leases have carried, counted twice, and what was charged of it: payload of egress and ingress.
    pub fn checked(&self) -> Option<(Checked, [u64; 2])> {
        self.flows.checked()
    }

    /// How many connections there are.
    pub fn flow_counts(&self) -> FlowCounts {
        self.flows.counts()
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Leases in the kernel, those that are being ended included.
    pub fn count(&self) -> usize {
        self.table.borrow().iter().count()
    }

    /// Connections of buyers that may hold leases.
    pub fn connection_count(&self) -> usize {
        self.connections.borrow().len()
    }

    /// A buyer's connection that may ask for leases; none if there are too many.
    pub fn connect(self: &Rc<Leases>) -> Option<Connection> {
        let mut connections = self.connections.borrow_mut();
        if connections.len() >= MAX_CONNECTIONS {
            return None;
        }
        let number = self.next_connection.replace(self.next_connection.get() + 1);
        connections.insert(number, None);
        Some(Connection::new(self.clone(), number))
    }

    /// Ends the leases that would not be given any more: node, session, lists or limits have changed.
    pub fn review(&self) {
        let refused = |no: LeaseNo| {
            self.held.borrow().get(&no).is_none_or(|held| {
                let allowed = held.tenant.still_allowed(&held.target, &held.aliases);
                !allowed || held.tenant.terms() != held.terms
            })
        };
        let over = self.table.borrow_mut().end_where(|lease| refused(lease.no));
        self.tell_ended(&over);
    }

    /// Does what is due; milliseconds until something is next.
    pub fn tick(&self, now: Now) -> Option<u64> {
        let now_ms = now.mono_ms();
        let over = self.table.borrow_mut().expire(now_ms);
        self.tell_ended(&over);
        self.look(now_ms);
        self.tick_flows(now);
        let look = self.awaited().map(|due| due.min(now_ms + LOOK_MS));
        let next = [look, self.table.borrow().next_expiry_ms(), self.flows.next_ms()];
        let next = next.into_iter().flatten().min();
        next.map(|at| at.saturating_sub(now_ms).max(1))
    }

    /// By when the guard has to answer what it is asked now.
    pub(super) fn answer_due(&self, now_ms: u64) -> u64 {
        self.make_up(now_ms);
        now_ms + ANSWER_MS
    }

    /// By when it has to answer what it was asked first.
    fn awaited(&self) -> Option<u64> {
        let held = self.held.borrow();
        let dues = held.values().filter_map(|h| h.due_ms).chain(self.clearing.get());
        dues.chain(self.flows.awaited()).min()
    }

    /// Who could not look for a while cannot say that the guard was late: it shares the processor that was not there, and what it
    /// has said may not have been heard. So much longer it has, for each answer; after so many looks it is late all the same.
    fn make_up(&self, now_ms: u64) {
        let since_ms = now_ms.saturating_sub(self.looked_ms.replace(now_ms));
        let lost_ms = since_ms.saturating_sub(2 * LOOK_MS);
        if lost_ms > 0 {
            let mut held = self.held.borrow_mut();
            held.values_mut().filter_map(|h| h.due_ms.as_mut()).for_each(|due| *due += lost_ms);
            self.clearing.set(self.clearing.get().map(|due| due + lost_ms));
            self.flows.make_up(lost_ms);
        }
    }

    /// Looks whether an answer is late.
    fn look(&self, now_ms: u64) {
        self.make_up(now_ms);
        if self.awaited().is_some_and(|due| now_ms >= due) {
            self.distrust("it did not answer in time");
        }
    }

    /// A report of the guard's; true if what can be offered has changed.
    pub fn hear(&self, report: LeaseReport) -> bool {
        let now = self.clock.now();
        let now_ms = now.mono_ms();
        let mut offer_changed = false;
        match report {
            LeaseReport::Able(ability) => {
                offer_changed = self.is_possible() != ability.possible;
                self.flows.bound(ability.max_flows);
                *self.ability.borrow_mut() = Some(ability);
            }
            LeaseReport::Granted { no } => self.granted(no),
            LeaseReport::Denied { no, .. } | LeaseReport::Ended { no } => self.drop_lease(no, now_ms),
            LeaseReport::Gone => {
                self.clearing.set(None);
                self.drop_all(now_ms);
            }
            LeaseReport::Packet { .. } => {
                self.packet(&report, now);
                return false;
            }
            LeaseReport::Counts { list, last } => self.counted(&list, last),
            LeaseReport::Closed(last) => self.closed(&last),
            LeaseReport::Checked(checked) => self.flows.check(checked),
        }
        self.changed.ring();
        offer_changed
    }

    /// The guard is gone, and with it every lease. True if that changes what can be offered.
    pub fn lost(&self) -> bool {
        let was_possible = self.is_possible();
        let now_ms = self.clock.now().mono_ms();
        *self.ability.borrow_mut() = None;
        self.clearing.set(None);
        self.drop_all(now_ms);
        self.flows.lost(now_ms);
        self.changed.ring();
        was_possible
    }

    fn granted(&self, no: LeaseNo) {
        if self.table.borrow_mut().granted(no) {
            if let Some(held) = self.held.borrow_mut().get_mut(&no) {
                held.due_ms = None;
            }
        } else if self.table.borrow().get(no).is_none() {
            // It was given up before the guard had it.
            self.send(LeaseRequest::End { no });
        }
    }

    fn drop_lease(&self, no: LeaseNo, now_ms: u64) {
        self.table.borrow_mut().ended(no, now_ms);
        self.held.borrow_mut().remove(&no);
        self.flows.forgotten(|of| of == no, now_ms);
    }

    fn drop_all(&self, now_ms: u64) {
        self.table.borrow_mut().gone(now_ms);
        self.held.borrow_mut().clear();
        self.flows.forgotten(|_| true, now_ms);
    }

    /// Tells the guard that these leases end, together if there are no others.
    fn tell_ended(&self, over: &[LeaseNo]) {
        if over.is_empty() {
            return;
        }
        let due = self.answer_due(self.clock.now().mono_ms());
        let mut held = self.held.borrow_mut();
        for no in over {
            if let Some(held) = held.get_mut(no) {
                held.due_ms = Some(due);
            }
        }
        drop(held);
        let all = self.table.borrow().iter().all(|l| l.state == State::Ending);
        if all && over.len() > 1 {
            self.clearing.set(Some(due));
            self.send(LeaseRequest::EndAll);
        } else {
            over.iter().for_each(|no| self.send(LeaseRequest::End { no: *no }));
        }
        self.changed.ring();
    }

    pub(super) fn send(&self, request: LeaseRequest) {
        let guard = self.guard.borrow().clone();
        if !guard.is_some_and(|g| g.send(request)) {
            self.distrust("it takes no messages");
        }
    }

    /// What the guard does is not known: it is left alone, and then ends every lease.
    pub(super) fn distrust(&self, why: &str) {
        self.clearing.set(None);
        self.held.borrow_mut().values_mut().for_each(|h| h.due_ms = None);
        self.flows.make_up(ANSWER_MS);
        let guard = self.guard.borrow().clone();
        if guard.is_some_and(|g| g.give_up()) {
            crate::warn!("the guard is given up over leases: {why}");
        }
    }

    fn given(&self, lease: &Lease, until: Unix) -> Given {
        let now = self.clock.now();
        let left_ms = i64::try_from(lease.expires_ms.saturating_sub(now.mono_ms())).unwrap_or(0);
        let expires_at = Unix((now.unix_ms + left_ms).div_euclid(1000)).min(until);
        Given { id: lease.id.clone(), port: lease.port, host: lease.ask.host.to_string(), expires_at }
    }

    fn is_idle(&self, connection: u64) -> bool {
        self.table.borrow().iter().all(|l| l.ask.connection != connection)
    }

    /// Waits while all leases are being ended: a buyer who comes then has nothing to do with them. [`Leases::tick`] sees to it
    /// that this ends.
    async fn cleared(&self) {
        loop {
            let seen = self.changed.count();
            if self.clearing.get().is_none() {
                return;
            }
            self.changed.after(seen).await;
        }
    }

    /// Waits until a lease is no longer in a state. A guard that takes too long for it is believed no more.
    async fn after(&self, no: LeaseNo, state: State) {
        let answered = async {
            loop {
                let seen = self.changed.count();
                if self.table.borrow().get(no).is_none_or(|l| l.state != state) {
                    return;
                }
                self.changed.after(seen).await;
            }
        };
        let late = async {
            loop {
                Timer::after(Duration::from_millis(LOOK_MS)).await;
                self.look(self.clock.now().mono_ms());
            }
        };
        future::or(answered, late).await;
    }
}

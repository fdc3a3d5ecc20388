//! The door of the relay: carries out what [`Admission`] decides about connections that nobody has authenticated yet.
use super::admission::{Admission, Arrival, Counts, Limits, Source};
use super::watch::{Deadline, Mark, Watch};
use crate::session::Gate;
use async_executor::LocalExecutor;
use async_io::Timer;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// The bounds of a router with 128 MB of memory and one slow core.
pub const DEFAULT_LIMITS: Limits =
    Limits { pending: 512, pending_per_source: 64, handshakes: 100, handshakes_per_source: 20 };
/// How often waiting handshakes get their turn.
const TURN: Duration = Duration::from_millis(10);
/// How often it is looked whether a flood is over.
const LOOK: Duration = Duration::from_secs(5);

/// The door.
pub struct Door {
    admission: RefCell<Admission<Rc<Mark>>>,
    watch: Rc<Watch>,
    gate: Rc<dyn Gate>,
    executor: Rc<LocalExecutor<'static>>,
    turning: Cell<bool>,
    flooded: Cell<bool>,
}

impl Door {
    /// A door with nobody before it.
    pub fn new(gate: Rc<dyn Gate>, executor: Rc<LocalExecutor<'static>>) -> Rc<Door> {
        Rc::new(Door {
            admission: RefCell::new(Admission::new(DEFAULT_LIMITS)),
            watch: Watch::new(),
            gate,
            executor,
            turning: Cell::new(false),
            flooded: Cell::new(false),
        })
    }

    /// Other bounds from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.admission.borrow_mut().set_limits(limits);
    }

    /// What has happened.
    pub fn counts(&self) -> Counts {
        self.admission.borrow().counts()
    }

    /// A seat for a connection that was just accepted, or none: then it is to be closed.
    pub fn enter(self: &Rc<Door>, from: Option<IpAddr>) -> Option<Seat> {
        let source = from.map_or(Source::Local, Source::of);
        let now_ms = self.gate.now().mono_ms();
        let mark = Rc::new(Mark::default());
        let arrival = self.admission.borrow_mut().arrive(source, now_ms, mark.clone());
        self.look(now_ms);
        let Arrival::Seated(id, out) = arrival else { return None };
        if let Some(out) = out {
            out.end();
        }
        let deadline = self.watch.start(now_ms, mark);
        self.watch.sweep_in(&self.executor, &self.gate);
        Some(Seat { door: self.clone(), id, source, from, deadline })
    }

    /// Closes up to so many connections because descriptors or memory have run out.
    pub fn shed(self: &Rc<Door>, most: usize) {
        let now_ms = self.gate.now().mono_ms();
        let gone: Vec<_> =
            std::iter::from_fn(|| self.admission.borrow_mut().shed(now_ms)).take(most).collect();
        gone.iter().for_each(|mark| mark.end());
        self.look(now_ms);
    }

    /// A connection waits for its handshake. While others do the next turn is soon; all are looked at before only for one that
    /// may shake hands now, so that a flood of hellos costs no more than that of its handshakes.
    fn ask(self: &Rc<Door>, seat: u64) {
        let may = self.admission.borrow_mut().ask(seat, self.gate.now().mono_us);
        if may || !self.turning.get() {
            self.turn();
        }
    }

    /// Grants the handshakes that may be made now, and goes on while somebody waits.
    fn turn(self: &Rc<Door>) {
        let now = self.gate.now();
        while let Some(mark) = { self.admission.borrow_mut().grant(now.mono_us) } {
            mark.grant();
        }
        self.look(now.mono_ms());
        if !self.admission.borrow().has_waiting() || self.turning.replace(true) {
            return;
        }
        let door = self.clone();
        let turns = async move {
            Timer::after(TURN).await;
            door.turning.set(false);
            door.turn();
        };
        self.executor.spawn(turns).detach();
    }

    /// Tells the node when a flood begins, and when it is over.
    fn look(self: &Rc<Door>, now_ms: u64) {
        if self.flooded.get() || !self.admission.borrow().is_flooded(now_ms) {
            return;
        }
        self.flooded.set(true);
        self.gate.flood(true);
        let door = self.clone();
        let until_over = async move {
            while door.admission.borrow().is_flooded(door.gate.now().mono_ms()) {
                Timer::after(LOOK).await;
            }
            door.flooded.set(false);
            door.gate.flood(false);
        };
        self.executor.spawn(until_over).detach();
    }
}

/// The place of one connection from its acceptance until a buyer is authenticated, and its deadline.
pub struct Seat {
    door: Rc<Door>,
    id: u64,
    source: Source,
    /// The connection's address; `None` for a Unix socket.
    pub from: Option<IpAddr>,
    deadline: Deadline,
}

impl Seat {
    /// Waits until the connection has to go.
    pub async fn over(&self) {
        self.deadline.over().await;
    }

    /// Waits until the TLS handshake may begin.
    pub async fn turn(&self) {
        self.door.ask(self.id);
        let mark = self.deadline.mark();
        poll_fn(|cx| if mark.is_granted(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// A buyer was authenticated on this connection.
    pub fn authenticated(&self) {
        let now_ms = self.door.gate.now().mono_ms();
        self.door.admission.borrow_mut().authenticated(self.source, now_ms);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut admission = self.door.admission.borrow_mut();
        if self.deadline.mark().is_over() {
            admission.late(self.id);
        } else {
            admission.leave(self.id);
        }
    }
}

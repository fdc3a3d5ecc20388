//! One accounted connection of a buyer, from its admission to its log line.
use super::credit::Credit;
use super::gate::{Direction, Ending, HelloRules};
use crate::policy::refusal::Refusal;
use crate::policy::wan::Leaving;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Most bytes of names that a flow keeps of those that its host is an alias of. Chains are far shorter; of a longer one
/// nothing is kept, and the flow ends when rules change.
pub const MAX_ALIAS_BYTES: usize = 512;

/// A quota that lasts no longer than this is short, seconds: what is counted once a second may not have been counted for two.
pub const SHORT_S: u64 = 2;

/// Where a flow stands; decides which deadline holds for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Admitted: the name is being resolved, the target dialled. The relay bounds this itself.
    Dialling,
    /// The 200 is out, the ClientHello is awaited (10 s).
    Hello,
    /// Both ways open (idle time 5 min, lifetime).
    Open,
    /// One way is closed (60 s).
    HalfClosed,
}

/// How a flow ended, for its log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both halves closed, or it idled out.
    Done,
    /// Refused, or failed on the way to the target.
    Refused(Refusal),
    /// The target reset it before its first byte: an error.
    TargetReset,
    /// Reset later, by either side.
    Aborted,
    /// The node ended it: pause, stop, quota, policy, lifetime.
    Killed,
}

/// Which way a flow's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through this process.
    Relay,
    /// Through the kernel: this process sees its first packets and its last.
    Kernel,
}

/// The part of a flow that its session sees.
#[derive(Debug)]
pub struct FlowState {
    /// Unique in this process.
    pub id: u64,
    /// The host of the CONNECT request.
    pub host: String,
    /// The port of the CONNECT request.
    pub port: u16,
    /// Where the buyer's connection came from, if the owner has that logged.
    pub buyer_address: Option<IpAddr>,
    /// Which way it goes.
    pub way: Way,
    /// Monotonic microseconds of the admission.
    pub started_us: u64,
    phase: Cell<Phase>,
    phase_since_us: Cell<u64>,
    active: Cell<bool>,
    passed_hello: Cell<bool>,
    ingress: Cell<u64>,
    egress: Cell<u64>,
    held: Cell<u64>,
    /// The names its host was an alias of when it was dialled, one a line; `None` if they were too many to keep.
    aliases: OnceCell<Option<Box<str>>>,
    outcome: Cell<Outcome>,
    leaving: Cell<Option<Leaving>>,
    ending: Cell<Option<Ending>>,
    waker: RefCell<Option<Waker>>,
}

impl FlowState {
    /// A flow that was just admitted.
    pub fn new(id: u64, host: &str, port: u16, now_us: u64) -> FlowState {
        FlowState {
            id,
            host: host.to_owned(),
            port,
            buyer_address: None,
            way: Way::Relay,
            started_us: now_us,
            phase: Cell::new(Phase::Dialling),
            phase_since_us: Cell::new(now_us),
            active: Cell::new(false),
            passed_hello: Cell::new(false),
            ingress: Cell::new(0),
            egress: Cell::new(0),
            held: Cell::new(0),
            aliases: OnceCell::new(),
            outcome: Cell::new(Outcome::Aborted),
            leaving: Cell::new(None),
            ending: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// The same, with the address to log and the way it goes.
    pub fn coming_from(self, buyer_address: Option<IpAddr>, way: Way) -> FlowState {
        FlowState { buyer_address, way, ..self }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Monotonic microseconds since when, for [`Phase::Open`] the last sweep that saw a byte pass.
    pub fn phase_since_us(&self) -> u64 {
        self.phase_since_us.get()
    }

    /// Whether bytes passed since the last call; if so the idle time starts at `now_us`.
    pub fn take_active(&self, now_us: u64) -> bool {
        let active = self.active.replace(false);
        if active && self.phase.get() == Phase::Open {
            self.phase_since_us.set(now_us);
        }
        active
    }

    /// Whether one of the names that its host was an alias of is `refused` now; so it is taken to be if they were too many
    /// to keep.
    pub fn has_alias(&self, refused: impl Fn(&str) -> bool) -> bool {
        match self.aliases.get() {
            None => false,
            Some(None) => true,
            Some(Some(names)) => names.lines().any(refused),
        }
    }

    fn keep_aliases(&self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let few = names.iter().map(|n| n.len() + 1).sum::<usize>() <= MAX_ALIAS_BYTES;
        // A flow is dialled once.
        _ = self.aliases.set(few.then(|| names.join("\n").into()));
    }

    /// Payload bytes from and to the target so far.
    pub fn bytes(&self) -> (u64, u64) {
        (self.ingress.get(), self.egress.get())
    }

    /// Whether the ClientHello was accepted.
    pub fn passed_hello(&self) -> bool {
        self.passed_hello.get()
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Outcome {
        self.outcome.get()
    }

    fn total(&self, direction: Direction) -> &Cell<u64> {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// How its connection to the target leaves, if it does so by the line.
    pub fn leaving(&self) -> Option<Leaving> {
        self.leaving.get()
    }

    /// Its connection to the target stands.
    pub fn leaves(&self, leaving: Option<Leaving>) {
        self.leaving.set(leaving);
    }

    /// Tells the flow's task to end it. The first order stands, but a reset overrides a gentler one.
    pub fn end(&self, ending: Ending) {
        if self.ending.get().is_none() || ending == Ending::Reset {
            self.ending.set(Some(ending));
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The session behind a flow: who pays, what is left, what the rules are now.
pub trait Account {
    /// Monotonic microseconds.
    fn now_us(&self) -> u64;
    /// Bytes that may pass now: the least of the session's and the node's buckets.
    fn available(&self) -> usize;
    /// Wakes when there may be more than now.
    fn wait(&self, waker: &Waker);
    /// Bytes were taken in, and will pass or be given back: until then nobody else is granted them.
    fn hold(&self, bytes: u64);
    /// Bytes that were held have passed, or will not.
    fn release(&self, bytes: u64);
    /// Bytes have passed: takes them from the buckets, meters them, and ends flows whose quota is used up.
    fn count(&self, flow: &FlowState, direction: Direction, bytes: u64);
    /// Whether a quota may be used up within [`SHORT_S`] at the rates in force.
    fn runs_short(&self) -> bool;
    /// The target answered the SYN after so many microseconds.
    fn connected(&self, flow: &FlowState, latency_us: u64);
    /// The ClientHello was accepted.
    fn passed_hello(&self, flow: &FlowState);
    /// Bytes that were counted and never got to the other side.
    fn uncount(&self, flow: &FlowState, direction: Direction, bytes: u64);
    /// How far the ends of its leases' connections are believed.
    fn credit(&self) -> &Cell<Credit>;
    /// Rules in force now.
    fn hello_rules(&self, flow: &FlowState) -> HelloRules;
    /// Whether a name that the host is an alias of (CNAME) may be reached.
    fn judge_alias(&self, name: &str) -> Result<(), Refusal>;
    /// The flow is over: counters and log line.
    fn ended(&self, flow: &Rc<FlowState>);
}

/// A connection that was admitted. Dropping it writes its log line and gives its place free.
pub struct Flow {
    state: Rc<FlowState>,
    account: Rc<dyn Account>,
}

impl Flow {
    /// Joins a flow to its session.
    pub fn new(state: Rc<FlowState>, account: Rc<dyn Account>) -> Flow {
        Flow { state, account }
    }

    /// The shared part.
    pub fn state(&self) -> &Rc<FlowState> {
        &self.state
    }

    /// Enters a phase; its deadline starts now.
    pub fn enter(&self, phase: Phase) {
        self.state.phase.set(phase);
        self.state.phase_since_us.set(self.account.now_us());
    }

    /// Bytes that may pass now, at most `want`; pending (and woken later) when none may.
    pub fn poll_grant(&self, cx: &mut Context<'_>, want: usize) -> Poll<usize> {
        match self.account.available().min(want) {
            0 if want > 0 => {
                self.account.wait(cx.waker());
                Poll::Pending
            }
            granted => Poll::Ready(granted),
        }
    }

    /// Payload was taken from the buyer that is still to be passed on to the target.
    pub fn hold(&self, bytes: u64) {
        self.state.held.set(self.state.held.get().saturating_add(bytes));
        self.account.hold(bytes);
    }

    fn release(&self, bytes: u64) {
        let held = self.state.held.get();
        self.state.held.set(held.saturating_sub(bytes));
        self.account.release(bytes.min(held));
    }

    /// Payload that has passed at the socket to the target. What was held of it is held no longer.
    pub fn count(&self, direction: Direction, bytes: u64) {
        if direction == Direction::Egress {
            self.release(bytes);
        }
        let total = self.state.total(direction);
        total.set(total.get() + bytes);
        self.state.active.set(true);
        self.account.count(&self.state, direction, bytes);
    }

    /// Takes back bytes that were counted and never got to the other side: written but never acknowledged by a target that
    /// is being reset, or sent again by a side of a lease.
    pub fn uncount(&self, direction: Direction, bytes: u64) {
        let total = self.state.total(direction);
        let bytes = bytes.min(total.get());
        total.set(total.get() - bytes);
        self.account.uncount(&self.state, direction, bytes);
    }

    /// How far the ends of its session's connections are believed that the kernel carries.
    pub fn credit(&self) -> &Cell<Credit> {
        self.account.credit()
    }

    /// Whether a quota of its session's or the node's may soon be used up.
    pub fn runs_short(&self) -> bool {
        self.account.runs_short()
    }

    /// The target's SYN-ACK came `latency_us` after the SYN.
    pub fn connected(&self, latency_us: u64) {
        self.account.connected(&self.state, latency_us);
    }

    /// The ClientHello was accepted: the flow counts as a connection and is open.
    pub fn passed_hello(&self) {
        self.state.passed_hello.set(true);
        self.account.passed_hello(&self.state);
        self.enter(Phase::Open);
    }

    /// Rules for the ClientHello, as they are now.
    pub fn hello_rules(&self) -> HelloRules {
        self.account.hello_rules(&self.state)
    }

    /// Whether all CNAME targets may be reached; if so they are kept, to be judged again when rules change.
    pub fn judge_aliases(&self, names: &[String]) -> Result<(), Refusal> {
        names.iter().try_for_each(|name| self.account.judge_alias(name))?;
        self.state.keep_aliases(names);
        Ok(())
    }

    /// Ready when the node wants the flow ended.
    pub fn poll_ending(&self, cx: &mut Context<'_>) -> Poll<Ending> {
        match self.state.ending.get() {
            Some(ending) => Poll::Ready(ending),
            None => {
                let mut waker = self.state.waker.borrow_mut();
                if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// How it ended. Without a word it is [`Outcome::Aborted`].
    pub fn finish(self, outcome: Outcome) {
        self.state.outcome.set(outcome);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.release(self.state.held.get());
        self.account.ended(&self.state);
    }
}

//! The lifecycle of a session and of the node: events in, actions out, no clock and no I/O.
//!
//! One table says what may follow what. The machine runs it, and the diagram in `docs/lifecycle.md` is drawn from it.
mod node;

pub use node::*;

use std::fmt;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is known of it yet, or nothing is left of it.
    Idle,
    /// The coordinator's `open` came and is being judged.
    Discover,
    /// Accepted; its `notBefore` is awaited.
    Handshake,
    /// Buyers are carried.
    Active,
    /// Buyers are carried while a challenge of the coordinator is answered.
    Probing,
    /// Nothing is carried any more; its flows are ending.
    Closing,
    /// Its last bundle is sealed; the answers of the coordinator are awaited.
    Settled,
    /// A violation was found: nothing is carried, and it will be closed.
    Quarantine,
}

/// Why a session is closed: `closing.reason` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// By the coordinator's order: the buyer has ended it.
    BuyerEnded,
    /// By the coordinator's order: the buyer's budget is used up.
    Budget,
    /// By the coordinator's order: its policy.
    Policy,
    /// By the coordinator's order, for a reason of its own.
    Coordinator,
    /// `expiresAt` has come.
    Expired,
    /// `maxGB` has been carried.
    Quota,
    /// The owner or the system stopped the node.
    Stopped,
    /// The node went into quarantine.
    Quarantined,
    /// The owner destroyed the node's identity.
    Wiped,
}

impl CloseReason {
    /// All of them.
    pub const ALL: [CloseReason; 9] = [
        CloseReason::BuyerEnded,
        CloseReason::Budget,
        CloseReason::Policy,
        CloseReason::Coordinator,
        CloseReason::Expired,
        CloseReason::Quota,
        CloseReason::Stopped,
        CloseReason::Quarantined,
        CloseReason::Wiped,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::BuyerEnded => "buyer-ended",
            CloseReason::Budget => "budget",
            CloseReason::Policy => "policy",
            CloseReason::Coordinator => "coordinator",
            CloseReason::Expired => "expired",
            CloseReason::Quota => "quota",
            CloseReason::Stopped => "stopped",
            CloseReason::Quarantined => "quarantined",
            CloseReason::Wiped => "wiped",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<CloseReason> {
        CloseReason::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The coordinator's `open` came.
    Assigned,
    /// It was judged and found good.
    Accepted,
    /// It was judged and refused.
    Refused,
    /// `notBefore` has come.
    Begin,
    /// A challenge is being answered.
    ProbeStarted,
    /// It has been, or could not be.
    ProbeEnded,
    /// The session is to end.
    CloseRequested(CloseReason),
    /// It, or the node, broke a rule.
    Violation,
    /// Its last flow has ended and left its line, or there was none.
    Drained,
    /// The coordinator has answered its `settled`.
    Acknowledged,
}

/// What the coordinator is told of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is its word on the wire")]
pub enum Transition {
    Accepted,
    Refused,
    Active,
    Closing,
    Settled,
}

impl Transition {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Transition::Accepted => "accepted",
            Transition::Refused => "refused",
            Transition::Active => "active",
            Transition::Closing => "closing",
            Transition::Settled => "settled",
        }
    }
}

/// What the caller has to do, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Queue the transition. The queue holds `settled` back until every bundle of the session has been answered.
    Post(Transition),
    /// From now on buyers may be carried.
    StartCarrying,
    /// Nothing may be carried any more: reset the session's flows. Once it is [`State::Closing`] and none is left, give
    /// [`Event::Drained`].
    StopCarrying,
    /// Close the session's meter and queue its bundles.
    SealBundles,
    /// Drop the session but for its identifier.
    Forget,
}

/// An event that cannot happen in this state: a mistake of the caller, or of the coordinator. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// Where the session stands.
    pub state: State,
    /// What does not fit there.
    pub event: Event,
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot follow in state {:?}", self.event, self.state)
    }
}

impl std::error::Error for Illegal {}

/// One row of the table: this event, in this state, leads there, and the actions are due. All close reasons are alike
/// here.
struct Row {
    from: State,
    on: Event,
    to: State,
    actions: &'static [Action],
    /// What the diagram says.
    #[allow(dead_code, reason = "read where the diagram is drawn, which is a test")]
    label: &'static str,
}

const CLOSE: Event = Event::CloseRequested(CloseReason::Coordinator);
const POST_CLOSING: Action = Action::Post(Transition::Closing);

/// Whatever is not here is illegal.
const TABLE: &[Row] = &[
    row(State::Idle, Event::Assigned, State::Discover, &[], "coordinator assigns session"),
    row(
        State::Discover,
        Event::Refused,
        State::Idle,
        &[Action::Post(Transition::Refused), Action::Forget],
        "refused",
    ),
    row(
        State::Discover,
        Event::Accepted,
        State::Handshake,
        &[Action::Post(Transition::Accepted)],
        "accepted",
    ),
    row(
        State::Handshake,
        Event::Begin,
        State::Active,
        &[Action::StartCarrying, Action::Post(Transition::Active)],
        "notBefore has come, metering starts",
    ),
    row(State::Active, Event::ProbeStarted, State::Probing, &[], "coordinator's challenge, traffic goes on"),
    row(State::Probing, Event::ProbeEnded, State::Active, &[], "challenge answered"),
    row(State::Handshake, CLOSE, State::Closing, &[POST_CLOSING], "closed before it began"),
    row(
        State::Active,
        CLOSE,
        State::Closing,
        &[Action::StopCarrying, POST_CLOSING],
        "ended, expired or budget reached",
    ),
    row(
        State::Probing,
        CLOSE,
        State::Closing,
        &[Action::StopCarrying, POST_CLOSING],
        "ended, expired or budget reached",
    ),
    row(State::Handshake, Event::Violation, State::Quarantine, &[], "violation"),
    row(
        State::Active,
        Event::Violation,
        State::Quarantine,
        &[Action::StopCarrying],
        "policy or geo violation",
    ),
    row(
        State::Probing,
        Event::Violation,
        State::Quarantine,
        &[Action::StopCarrying],
        "policy or geo violation",
    ),
    row(State::Quarantine, CLOSE, State::Closing, &[POST_CLOSING], "closed as quarantined"),
    row(State::Quarantine, Event::ProbeEnded, State::Quarantine, &[], "challenge cut off"),
    row(State::Closing, Event::ProbeEnded, State::Closing, &[], "challenge cut off"),
    row(
        State::Closing,
        Event::Drained,
        State::Settled,
        &[Action::SealBundles, Action::Post(Transition::Settled)],
        "last flow gone, counters sealed",
    ),
    row(State::Settled, Event::ProbeEnded, State::Settled, &[], "challenge cut off"),
    row(State::Settled, Event::Acknowledged, State::Idle, &[Action::Forget], "bundles and totals answered"),
];

const fn row(from: State, on: Event, to: State, actions: &'static [Action], label: &'static str) -> Row {
    Row { from, on, to, actions, label }
}

impl State {
    /// All of them.
    pub const ALL: [State; 8] = [
        State::Idle,
        State::Discover,
        State::Handshake,
        State::Active,
        State::Probing,
        State::Closing,
        State::Settled,
        State::Quarantine,
    ];

    /// The state's name, as in the status and in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Discover => "discover",
            State::Handshake => "handshake",
            State::Active => "active",
            State::Probing => "probing",
            State::Closing => "closing",
            State::Settled => "settled",
            State::Quarantine => "quarantine",
        }
    }

    /// Reads the state's name.
    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// The machine of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionMachine {
    state: State,
    assigned: bool,
    reason: Option<CloseReason>,
}

impl SessionMachine {
    /// A session of which nothing is known yet.
    pub fn new() -> SessionMachine {
        SessionMachine { state: State::Idle, assigned: false, reason: None }
    }

    /// A session as the journal knew it. What it carried when the process died is lost, so the caller closes one that
    /// was open; a challenge died with the process.
    pub fn restore(state: State, reason: Option<CloseReason>) -> SessionMachine {
        let state = if state == State::Probing { State::Active } else { state };
        SessionMachine { state, assigned: true, reason }
    }

    /// Applies an event and returns what is to be done, in this order.
    pub fn on(&mut self, event: Event) -> Result<&'static [Action], Illegal> {
        let illegal = Illegal { state: self.state, event };
        let kind = if let Event::CloseRequested(_) = event { CLOSE } else { event };
        let row = TABLE.iter().find(|row| row.from == self.state && row.on == kind).ok_or(illegal)?;
        if event == Event::Assigned && self.assigned {
            return Err(illegal);
        }
        match event {
            Event::Assigned => self.assigned = true,
            Event::CloseRequested(reason) => self.reason = self.reason.or(Some(reason)),
            Event::Violation => self.reason = Some(CloseReason::Quarantined),
            _ => {}
        }
        self.state = row.to;
        Ok(row.actions)
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether buyers may be carried.
    pub fn carries(&self) -> bool {
        matches!(self.state, State::Active | State::Probing)
    }

    /// Whether it counts as one of the node's sessions: accepted and not yet closing.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Handshake | State::Active | State::Probing)
    }

    /// Whether it is over: refused or settled. It never begins again.
    pub fn is_over(&self) -> bool {
        self.state == State::Idle && self.assigned
    }

    /// Why it was closed, once it is closing. The first reason stands.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.reason
    }
}

impl Default for SessionMachine {
    fn default() -> SessionMachine {
        SessionMachine::new()
    }
}

#[cfg(test)]
mod tests;

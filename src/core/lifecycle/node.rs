//! The node as a whole: what it may do now, what it reports, and what a change of that means for its sessions.
use super::CloseReason;
use crate::json::{FieldError, Fields, Value, object};
use crate::policy::refusal::Refusal;
use crate::time::Unix;

/// What the node reports: the first that holds, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// No coordinator is configured.
    Unconfigured,
    /// The key is sealed and nobody has given the passphrase.
    Locked,
    /// The guard is required, and its table is not in force.
    GuardDown,
    /// A violation was found; only the owner ends this.
    Quarantined,
    /// The owner wants nothing carried.
    Paused,
    /// The owner's schedule is closed.
    OutsideSchedule,
    /// The sessions are being closed.
    Draining,
    /// There is a session.
    Active,
    /// There is none.
    Idle,
}

impl NodeState {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [NodeState; 9] = [
        NodeState::Unconfigured,
        NodeState::Locked,
        NodeState::GuardDown,
        NodeState::Quarantined,
        NodeState::Paused,
        NodeState::OutsideSchedule,
        NodeState::Draining,
        NodeState::Active,
        NodeState::Idle,
    ];

    /// The word in status and heartbeat.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeState::Unconfigured => "unconfigured",
            NodeState::Locked => "locked",
            NodeState::GuardDown => "guard-down",
            NodeState::Quarantined => "quarantined",
            NodeState::Paused => "paused",
            NodeState::OutsideSchedule => "outside-schedule",
            NodeState::Draining => "draining",
            NodeState::Active => "active",
            NodeState::Idle => "idle",
        }
    }

    /// Why the node is in it, where nobody has said more.
    pub fn reason(self) -> &'static str {
        match self {
            NodeState::Unconfigured => "No coordinator is configured; set coordinator.url.",
            NodeState::Locked => "The key is locked; give its passphrase.",
            NodeState::GuardDown => "The guard's firewall table is not in force, so nothing new is carried.",
            NodeState::Quarantined => "A violation was found.",
            NodeState::Paused => "Paused by the owner.",
            NodeState::OutsideSchedule => "The owner's schedule is closed now.",
            NodeState::Draining => "The sessions are being closed.",
            NodeState::Active => "Sessions are open.",
            NodeState::Idle => "Ready; no session is open.",
        }
    }
}

/// What the rest of the node observes. Everything is off in the default: it fails closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// There is a coordinator to work for.
    pub configured: bool,
    /// The key is at hand.
    pub unlocked: bool,
    /// The guard's table is in force, or no guard is required.
    pub guard_ok: bool,
    /// The owner's schedule is open.
    pub schedule_open: bool,
    /// Sessions that are not settled yet.
    pub sessions: usize,
}

/// What the owner wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    Pause,
    Stop,
}

/// What happens to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// Something observed has changed.
    Conditions(Conditions),
    /// The owner: carry.
    Start,
    /// The owner: carry nothing for now. Sessions stay.
    Pause,
    /// The owner: close the sessions and take no new ones.
    Stop,
    /// A rule was broken, with a sentence for the owner.
    Quarantine(String),
    /// The owner has seen it and wants to go on.
    ClearQuarantine,
    /// The process is to end.
    Drain,
}

/// What the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeAction {
    /// Reset the flows of all sessions. The sessions stay.
    ResetFlows,
    /// Close every session for this reason; for [`CloseReason::Quarantined`] after a violation event each.
    CloseSessions(CloseReason),
    /// The reported state has changed.
    StateChanged,
    /// What [`NodeMachine::to_value`] gives has changed and must become durable.
    Save,
}

/// The machine of the node. Quarantine is a latch: nothing but [`NodeEvent::ClearQuarantine`] opens it, not even a
/// restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMachine {
    conditions: Conditions,
    wish: Wish,
    quarantine: Option<String>,
    draining: bool,
    since: Unix,
}

impl NodeMachine {
    /// A node that has observed nothing yet.
    pub fn new(now: Unix) -> NodeMachine {
        NodeMachine {
            conditions: Conditions::default(),
            wish: Wish::Run,
            quarantine: None,
            draining: false,
            since: now,
        }
    }

    /// Applies an event and returns what is to be done, in this order.
    pub fn on(&mut self, event: NodeEvent, now: Unix) -> Vec<NodeAction> {
        let (state, carried, saved) = (self.state(), self.refusal().is_none(), self.to_value());
        let mut actions = Vec::new();
        let mut close = None;
        match event {
            NodeEvent::Conditions(conditions) => self.conditions = conditions,
            NodeEvent::Start => self.wish = Wish::Run,
            NodeEvent::Pause => self.wish = Wish::Pause,
            NodeEvent::Stop => {
                self.wish = Wish::Stop;
                close = Some(CloseReason::Stopped);
            }
            NodeEvent::Quarantine(reason) => {
                self.quarantine.get_or_insert(reason);
                close = Some(CloseReason::Quarantined);
            }
            NodeEvent::ClearQuarantine => self.quarantine = None,
            NodeEvent::Drain => {
                self.draining = true;
                close = Some(CloseReason::Stopped);
            }
        }
        if carried && self.refusal().is_some() {
            actions.push(NodeAction::ResetFlows);
        }
        actions.extend(close.map(NodeAction::CloseSessions));
        if self.state() != state {
            self.since = now;
            actions.push(NodeAction::StateChanged);
        }
        if self.to_value() != saved {
            actions.push(NodeAction::Save);
        }
        actions
    }

    /// What is reported.
    pub fn state(&self) -> NodeState {
        let holds = |state: &NodeState| match state {
            NodeState::Unconfigured => !self.conditions.configured,
            NodeState::Locked => !self.conditions.unlocked,
            NodeState::GuardDown => !self.conditions.guard_ok,
            NodeState::Quarantined => self.quarantine.is_some(),
            NodeState::Paused => self.is_paused(),
            NodeState::OutsideSchedule => !self.conditions.schedule_open,
            NodeState::Draining => self.draining || self.wish == Wish::Stop,
            NodeState::Active => self.conditions.sessions > 0,
            NodeState::Idle => true,
        };
        NodeState::ALL.into_iter().find(holds).unwrap_or(NodeState::Idle)
    }

    /// A sentence for the owner: why this state.
    pub fn reason(&self) -> &str {
        match (self.state(), &self.quarantine) {
            (NodeState::Quarantined, Some(reason)) => reason,
            (NodeState::Paused, _) if self.wish == Wish::Stop => "Stopped by the owner.",
            (state, _) => state.reason(),
        }
    }

    /// Why it is in quarantine, whatever else holds; `None` if it is not.
    pub fn quarantine(&self) -> Option<&str> {
        self.quarantine.as_deref()
    }

    /// Since when it is in this state.
    pub fn since(&self) -> Unix {
        self.since
    }

    /// What a new flow gets, in the contract's order of checks; `None` if it may go on to the checks of its session.
    pub fn refusal(&self) -> Option<Refusal> {
        let checks = [
            (!self.conditions.guard_ok, Refusal::GuardDown),
            (!self.conditions.unlocked, Refusal::Locked),
            (self.quarantine.is_some(), Refusal::Quarantined),
            (self.wish != Wish::Run, Refusal::Paused),
            (!self.conditions.schedule_open, Refusal::OutsideSchedule),
            (self.draining || !self.conditions.configured, Refusal::SessionClosed),
        ];
        checks.into_iter().find(|(holds, _)| *holds).map(|(_, refusal)| refusal)
    }

    /// What a new `open` gets, in the contract's order of its refusals; `None` if the node would take it.
    pub fn open_refusal(&self) -> Option<&'static str> {
        let out_of_service = !self.conditions.configured || !self.conditions.unlocked;
        let checks = [
            (self.wish != Wish::Run || self.draining || out_of_service, "paused"),
            (!self.conditions.schedule_open, "outside-schedule"),
            (self.quarantine.is_some(), "quarantined"),
            (!self.conditions.guard_ok, "guard-down"),
        ];
        checks.into_iter().find(|(holds, _)| *holds).map(|(_, slug)| slug)
    }

    /// What outlives the process: `{wish, quarantine?}`.
    pub fn to_value(&self) -> Value {
        let wish = match self.wish {
            Wish::Run => "run",
            Wish::Pause => "pause",
            Wish::Stop => "stop",
        };
        let quarantine = self.quarantine.as_ref().map(|reason| ("quarantine", reason.as_str().into()));
        object([("wish", wish.into())].into_iter().chain(quarantine))
    }

    /// What [`NodeMachine::to_value`] wrote.
    pub fn restore(value: &Value, now: Unix) -> Result<NodeMachine, FieldError> {
        let fields = Fields::of(value)?;
        let wish = match fields.str("wish")? {
            "run" => Wish::Run,
            "pause" => Wish::Pause,
            "stop" => Wish::Stop,
            other => return Err(fields.error("wish", format!("{other} is not run, pause or stop"))),
        };
        let quarantine = fields.opt_str("quarantine")?.map(str::to_owned);
        Ok(NodeMachine { wish, quarantine, ..NodeMachine::new(now) })
    }

    /// A stop is reported as a pause once no session is left.
    fn is_paused(&self) -> bool {
        match self.wish {
            Wish::Run => false,
            Wish::Pause => true,
            Wish::Stop => self.conditions.sessions == 0,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;

use super::super::{Action, Event, SessionMachine, State};
use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;

const READY: Conditions =
    Conditions { configured: true, unlocked: true, guard_ok: true, schedule_open: true, sessions: 0 };
const NOW: Unix = Unix(100);

fn ready() -> NodeMachine {
    let mut node = NodeMachine::new(Unix(0));
    node.on(NodeEvent::Conditions(READY), Unix(1));
    node
}

/// What the documentation says of each state; see the test of the diagram.
pub fn table() -> String {
    let mut out =
        String::from("| node state | new flows get | a new `open` gets | reason |\n|---|---|---|---|\n");
    let plain = Conditions { sessions: 1, ..READY };
    for state in NodeState::ALL {
        let mut node = ready();
        node.on(NodeEvent::Conditions(plain), NOW);
        match state {
            NodeState::Unconfigured => set(&mut node, Conditions { configured: false, ..plain }),
            NodeState::Locked => set(&mut node, Conditions { unlocked: false, ..plain }),
            NodeState::GuardDown => set(&mut node, Conditions { guard_ok: false, ..plain }),
            NodeState::Quarantined => {
                drop(node.on(NodeEvent::Quarantine("A violation was found.".into()), NOW))
            }
            NodeState::Paused => drop(node.on(NodeEvent::Pause, NOW)),
            NodeState::OutsideSchedule => set(&mut node, Conditions { schedule_open: false, ..plain }),
            NodeState::Draining => drop(node.on(NodeEvent::Drain, NOW)),
            NodeState::Active => {}
            NodeState::Idle => set(&mut node, READY),
        }
        assert_eq!(node.state(), state);
        let flows = node.refusal().map_or("carried", Refusal::slug);
        let opens = node.open_refusal().unwrap_or("judged");
        writeln!(out, "| `{}` | {flows} | {opens} | {} |", state.as_str(), node.reason()).unwrap();
    }
    out
}

fn set(node: &mut NodeMachine, conditions: Conditions) {
    node.on(NodeEvent::Conditions(conditions), NOW);
}

#[test]
fn a_node_that_knows_nothing_yet_carries_nothing() {
    let node = NodeMachine::new(NOW);
    assert_eq!((node.state(), node.refusal()), (NodeState::Unconfigured, Some(Refusal::GuardDown)));
    assert_eq!(node.open_refusal(), Some("paused"));
}

#[test]
fn a_flow_gets_the_first_refusal_of_the_contracts_order() {
    let mut node = ready();
    assert_eq!(node.refusal(), None);
    let mut seen = Vec::new();
    node.on(NodeEvent::Drain, NOW);
    seen.push(node.refusal());
    set(&mut node, Conditions { schedule_open: false, ..READY });
    seen.push(node.refusal());
    node.on(NodeEvent::Pause, NOW);
    seen.push(node.refusal());
    node.on(NodeEvent::Quarantine("x".into()), NOW);
    seen.push(node.refusal());
    set(&mut node, Conditions { unlocked: false, ..READY });
    seen.push(node.refusal());
    set(&mut node, Conditions { guard_ok: false, unlocked: false, ..READY });
    seen.push(node.refusal());
    let slugs: Vec<_> = seen.into_iter().map(|r| r.unwrap().slug()).collect();
    assert_eq!(
        slugs,
        ["session-closed", "outside-schedule", "paused", "quarantined", "locked", "guard-down"]
    );
}

#[test]
fn a_pause_resets_flows_and_keeps_sessions() {
    let mut node = ready();
    set(&mut node, Conditions { sessions: 2, ..READY });
    let actions = node.on(NodeEvent::Pause, NOW);
    assert_eq!(actions, [NodeAction::ResetFlows, NodeAction::StateChanged, NodeAction::Save]);
    assert_eq!((node.state(), node.since(), node.reason()), (NodeState::Paused, NOW, "Paused by the owner."));
    assert!(node.on(NodeEvent::Pause, Unix(200)).is_empty());
    assert_eq!(node.since(), NOW);
    node.on(NodeEvent::Start, Unix(300));
    assert_eq!((node.state(), node.refusal()), (NodeState::Active, None));
}

#[test]
fn a_stop_closes_the_sessions_and_is_a_pause_once_they_are_gone() {
    let mut node = ready();
    set(&mut node, Conditions { sessions: 1, ..READY });
    let actions = node.on(NodeEvent::Stop, NOW);
    assert_eq!(actions[..2], [NodeAction::ResetFlows, NodeAction::CloseSessions(CloseReason::Stopped)]);
    assert_eq!((node.state(), node.open_refusal()), (NodeState::Draining, Some("paused")));
    set(&mut node, READY);
    assert_eq!((node.state(), node.reason()), (NodeState::Paused, "Stopped by the owner."));
}

#[test]
fn quarantine_closes_all_and_only_the_owner_ends_it() {
    let mut node = ready();
    let actions = node.on(NodeEvent::Quarantine("Region XX is not allowed.".into()), NOW);
    assert_eq!(actions[..2], [NodeAction::ResetFlows, NodeAction::CloseSessions(CloseReason::Quarantined)]);
    for event in [NodeEvent::Start, NodeEvent::Pause, NodeEvent::Start, NodeEvent::Conditions(READY)] {
        node.on(event, NOW);
        assert_eq!(node.state(), NodeState::Quarantined);
    }
    node.on(NodeEvent::Quarantine("Another.".into()), NOW);
    assert_eq!(node.reason(), "Region XX is not allowed.");
    let mut node = NodeMachine::restore(&node.to_value(), NOW).unwrap();
    set(&mut node, READY);
    assert_eq!((node.state(), node.reason()), (NodeState::Quarantined, "Region XX is not allowed."));
    node.on(NodeEvent::ClearQuarantine, NOW);
    assert_eq!(node.state(), NodeState::Idle);
}

#[test]
fn a_saved_wish_that_is_none_is_refused() {
    let value = object([("wish", "maybe".into())]);
    assert_eq!(NodeMachine::restore(&value, NOW).unwrap_err().pointer, "/wish");
}

#[derive(Clone, Debug)]
enum Step {
    Node(NodeEvent),
    Session(usize, Event),
    Traffic(usize, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let conditions = (any::<[bool; 4]>(), 0usize..3, any::<bool>()).prop_map(|(b, sessions, good)| {
        let [configured, unlocked, guard_ok, schedule_open] = b.map(|bit| bit || good);
        NodeEvent::Conditions(Conditions { configured, unlocked, guard_ok, schedule_open, sessions })
    });
    let node = prop_oneof![
        4 => conditions,
        2 => Just(NodeEvent::Start),
        1 => Just(NodeEvent::Pause),
        1 => Just(NodeEvent::Stop),
        1 => Just(NodeEvent::Quarantine("v".into())),
        2 => Just(NodeEvent::ClearQuarantine),
    ];
    let session = prop_oneof![
        Just(Event::Assigned),
        Just(Event::Accepted),
        Just(Event::Begin),
        Just(Event::ProbeStarted),
        Just(Event::ProbeEnded),
        Just(Event::CloseRequested(CloseReason::Expired)),
        Just(Event::Drained),
    ];
    let step = prop_oneof![
        2 => node.prop_map(Step::Node),
        4 => (0usize..3, session).prop_map(|(i, e)| Step::Session(i, e)),
        4 => (0usize..3, 1u64..1000).prop_map(|(i, n)| Step::Traffic(i, n)),
    ];
    prop::collection::vec(step, 0..120)
}

/// Three sessions and a flow in each, driven as the node drives them.
struct World {
    node: NodeMachine,
    sessions: [SessionMachine; 3],
    flows: [bool; 3],
    carried: [u64; 3],
    sealed: [u32; 3],
}

impl World {
    fn session(&mut self, i: usize, event: Event) {
        for action in self.sessions[i].on(event).unwrap_or(&[]) {
            match action {
                Action::StopCarrying => self.flows[i] = false,
                Action::SealBundles => self.sealed[i] += 1,
                _ => {}
            }
        }
    }

    fn node(&mut self, event: NodeEvent) {
        for action in self.node.on(event, NOW) {
            match action {
                NodeAction::ResetFlows => self.flows = [false; 3],
                NodeAction::CloseSessions(reason) => (0..3).for_each(|i| {
                    if reason == CloseReason::Quarantined {
                        self.session(i, Event::Violation);
                    }
                    self.session(i, Event::CloseRequested(reason));
                }),
                _ => {}
            }
        }
    }

    /// A flow is admitted only if node and session allow it, and then passes bytes without asking again.
    fn traffic(&mut self, i: usize, bytes: u64) {
        self.flows[i] |= self.node.refusal().is_none() && self.sessions[i].carries();
        self.carried[i] += if self.flows[i] { bytes } else { 0 };
    }
}

proptest! {
    /// No flow lives while the node or its session forbids it; quarantine leaves no session open; who was active settles.
    #[test]
    fn no_flow_outlives_the_permission_to_carry(steps in steps()) {
        let mut w = World {
            node: ready(),
            sessions: [(); 3].map(|()| SessionMachine::new()),
            flows: [false; 3],
            carried: [0; 3],
            sealed: [0; 3],
        };
        for step in steps {
            let quarantined = matches!(step, Step::Node(NodeEvent::Quarantine(_)));
            let stays = w.node.quarantine.is_some() && !matches!(step, Step::Node(NodeEvent::ClearQuarantine));
            match step {
                Step::Node(event) => w.node(event),
                Step::Session(i, event) => w.session(i, event),
                Step::Traffic(i, bytes) => w.traffic(i, bytes),
            }
            prop_assert!(!stays || w.node.quarantine.is_some());
            prop_assert!(!quarantined || w.sessions.iter().all(|s| !s.is_open()));
            for (flow, session) in w.flows.iter().zip(&w.sessions) {
                prop_assert!(!flow || (session.carries() && w.node.refusal().is_none()));
            }
        }
        w.node(NodeEvent::Drain);
        for i in 0..3 {
            w.session(i, Event::Drained);
            prop_assert!(w.carried[i] == 0 || w.sealed[i] == 1);
            prop_assert!(matches!(w.sessions[i].state(), State::Idle | State::Discover | State::Settled));
        }
    }
}

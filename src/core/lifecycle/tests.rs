use super::*;
use proptest::prelude::*;
use std::collections::HashSet;
use std::fmt::Write as _;

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Assigned),
        Just(Event::Accepted),
        Just(Event::Refused),
        Just(Event::Begin),
        Just(Event::ProbeStarted),
        Just(Event::ProbeEnded),
        prop::sample::select(CloseReason::ALL.to_vec()).prop_map(Event::CloseRequested),
        Just(Event::Violation),
        Just(Event::Drained),
        Just(Event::Acknowledged),
    ]
}

const EVENTS: [Event; 10] = [
    Event::Assigned,
    Event::Accepted,
    Event::Refused,
    Event::Begin,
    Event::ProbeStarted,
    Event::ProbeEnded,
    CLOSE,
    Event::Violation,
    Event::Drained,
    Event::Acknowledged,
];

fn after(events: &[Event]) -> SessionMachine {
    let mut machine = SessionMachine::new();
    for event in events {
        machine.on(*event).unwrap();
    }
    machine
}

#[test]
fn a_session_goes_from_assignment_to_settlement() {
    let mut m = SessionMachine::new();
    let mut all = Vec::new();
    for event in [
        Event::Assigned,
        Event::Accepted,
        Event::Begin,
        Event::ProbeStarted,
        Event::ProbeEnded,
        Event::CloseRequested(CloseReason::BuyerEnded),
        Event::Drained,
        Event::Acknowledged,
    ] {
        all.extend_from_slice(m.on(event).unwrap());
    }
    assert_eq!(
        all,
        [
            Action::Post(Transition::Accepted),
            Action::StartCarrying,
            Action::Post(Transition::Active),
            Action::StopCarrying,
            Action::Post(Transition::Closing),
            Action::SealBundles,
            Action::Post(Transition::Settled),
            Action::Forget,
        ]
    );
    assert!(m.is_over());
    assert_eq!(m.close_reason(), Some(CloseReason::BuyerEnded));
}

#[test]
fn every_event_that_the_table_does_not_name_is_refused_and_changes_nothing() {
    let legal: HashSet<(State, Event)> = TABLE.iter().map(|row| (row.from, row.on)).collect();
    assert_eq!(legal.len(), TABLE.len(), "no row stands twice");
    assert_eq!(legal.len(), 18);
    for state in State::ALL {
        for event in EVENTS {
            let mut m = SessionMachine { state, assigned: false, reason: None };
            let before = m.clone();
            let result = m.on(event);
            assert_eq!(result.is_ok(), legal.contains(&(state, event)), "{event:?} in {state:?}");
            if result.is_err() {
                assert_eq!(result, Err(Illegal { state, event }));
                assert_eq!(m, before);
            }
        }
    }
}

#[test]
fn a_session_that_is_over_is_never_assigned_again() {
    for mut m in [
        after(&[Event::Assigned, Event::Refused]),
        after(&[Event::Assigned, Event::Accepted, CLOSE, Event::Drained, Event::Acknowledged]),
    ] {
        assert!(m.is_over());
        let illegal = Illegal { state: State::Idle, event: Event::Assigned };
        assert_eq!(m.on(Event::Assigned), Err(illegal));
        assert_eq!(illegal.to_string(), "Assigned cannot follow in state Idle");
    }
}

#[test]
fn a_quarantined_session_settles_and_says_why_it_was_closed() {
    let mut m = after(&[Event::Assigned, Event::Accepted, Event::Begin]);
    assert_eq!(m.on(Event::Violation), Ok(&[Action::StopCarrying][..]));
    assert!(!m.carries() && !m.is_open());
    m.on(Event::CloseRequested(CloseReason::Coordinator)).unwrap();
    assert_eq!(m.close_reason(), Some(CloseReason::Quarantined));
    assert!(m.on(Event::Drained).unwrap().contains(&Action::SealBundles));
}

#[test]
fn the_first_reason_to_close_stands() {
    let mut m = after(&[Event::Assigned, Event::Accepted, Event::Begin]);
    m.on(Event::CloseRequested(CloseReason::Expired)).unwrap();
    assert!(m.on(Event::CloseRequested(CloseReason::Stopped)).is_err());
    assert_eq!(m.close_reason(), Some(CloseReason::Expired));
}

#[test]
fn a_restored_session_goes_on_where_it_stood() {
    for state in State::ALL {
        assert_eq!(State::parse(state.as_str()), Some(state));
    }
    for reason in CloseReason::ALL {
        assert_eq!(CloseReason::parse(reason.as_str()), Some(reason));
    }
    let mut m = SessionMachine::restore(State::Probing, None);
    assert_eq!(m.state(), State::Active);
    m.on(Event::CloseRequested(CloseReason::Stopped)).unwrap();
    let mut m = SessionMachine::restore(m.state(), m.close_reason());
    assert!(m.on(Event::Drained).is_ok());
}

proptest! {
    /// A byte may pass between `StartCarrying` and `StopCarrying` only, and that is Active and Probing.
    #[test]
    fn nothing_is_carried_outside_active_and_probing(events in prop::collection::vec(any_event(), 0..60)) {
        let (mut m, mut carrying) = (SessionMachine::new(), false);
        for event in events {
            for action in m.on(event).unwrap_or(&[]) {
                match action {
                    Action::StartCarrying => carrying = true,
                    Action::StopCarrying => carrying = false,
                    _ => {}
                }
            }
            prop_assert_eq!(carrying, m.carries());
            prop_assert_eq!(carrying, matches!(m.state(), State::Active | State::Probing));
        }
    }

    /// From wherever it stands, an accepted session ends with `closing`, its bundles sealed once, then `settled`.
    #[test]
    fn every_accepted_session_settles_with_its_bundles(events in prop::collection::vec(any_event(), 0..60)) {
        let (mut m, mut all) = (SessionMachine::new(), Vec::new());
        let ending = [CLOSE, Event::Drained, Event::Acknowledged];
        for event in events.into_iter().chain(ending) {
            all.extend_from_slice(m.on(event).unwrap_or(&[]));
        }
        let count = |action| all.iter().filter(|a| **a == action).count();
        let accepted = count(Action::Post(Transition::Accepted));
        prop_assert!(accepted <= 1);
        prop_assert_eq!(count(Action::SealBundles), accepted);
        if accepted == 1 {
            prop_assert!(m.is_over());
            let place = |action| all.iter().position(|a| *a == action).unwrap();
            let closing = place(Action::Post(Transition::Closing));
            prop_assert!(closing < place(Action::SealBundles));
            prop_assert!(place(Action::SealBundles) < place(Action::Post(Transition::Settled)));
            prop_assert_eq!(count(Action::Post(Transition::Settled)), 1);
        }
    }
}

fn diagram() -> String {
    let mut out = String::from("```mermaid\nstateDiagram-v2\n    [*] --> Idle\n");
    for row in TABLE.iter().filter(|row| row.from != row.to) {
        writeln!(out, "    {:?} --> {:?}: {}", row.from, row.to, row.label).unwrap();
    }
    out.push_str("```\n\n| in | event | to | then |\n|---|---|---|---|\n");
    for row in TABLE {
        let event = if row.on == CLOSE { "CloseRequested".to_owned() } else { format!("{:?}", row.on) };
        let actions: Vec<String> = row.actions.iter().map(|action| format!("{action:?}")).collect();
        writeln!(out, "| {:?} | {event} | {:?} | {} |", row.from, row.to, actions.join(", ")).unwrap();
    }
    out
}

/// The block between the marks is written by `UPDATE_DOCS=1 cargo test`.
#[test]
fn the_diagram_in_the_documentation_is_the_table() {
    const BEGIN: &str = "<!-- lifecycle:begin -->\n";
    const END: &str = "<!-- lifecycle:end -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/lifecycle.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("docs/lifecycle.md has no begin mark");
    let (block, tail) = rest.split_once(END).expect("docs/lifecycle.md has no end mark");
    let drawn = format!("\n{}\n{}\n", diagram(), super::node::tests::table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{drawn}{END}{tail}")).unwrap();
    } else {
        assert_eq!(block, drawn, "run UPDATE_DOCS=1 cargo test to bring docs/lifecycle.md up to date");
    }
}

use super::*;
use crate::coordinator::node::Outgoing;
use crate::coordinator::testing::*;
use crate::http::testing::Reply;
use futures_lite::future::block_on;

#[test]
fn it_registers_then_beats_polls_and_posts() {
    let polls = Rc::new(RefCell::new(Vec::new()));
    let seen = polls.clone();
    let script: Script = Rc::new(move |path, body| match path {
        p if p.starts_with("GET /api/sessions/control?") => {
            seen.borrow_mut().push(p.to_owned());
            let first = r#"{"signals":[{"cursor":"c1","type":"open","body":{}}],"cursor":"c/1"}"#;
            (seen.borrow().len() == 1).then(|| Reply::json(200, first))
        }
        "POST /api/attest/metering" => {
            Some(results(body, |seq| if seq == 1 { "duplicate" } else { "accepted" }))
        }
        _ => None,
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().extend([
        transition("accepted"),
        Outgoing::Bundles(vec![bundle(0), bundle(1)]),
        transition("settled"),
    ]);
    f.run(|n| n.has("\"settled\" Taken") && n.has("heartbeat") && polls.borrow().len() == 2);
    assert_eq!(
        *polls.borrow(),
        [
            "GET /api/sessions/control?cursor=&waitMs=2000",
            "GET /api/sessions/control?cursor=c%2F1&waitMs=2000"
        ]
    );
    let log = f.node.log.borrow();
    let place = |line: &str| log.iter().position(|l| l == line).unwrap_or_else(|| panic!("{line} {log:?}"));
    assert!(place("registered 1") < place("heartbeat"));
    assert!(place("registered 1") < place("signal open c1"));
    assert!(place("\"accepted\" Taken") < place("bundle 0 Accepted"));
    assert!(place("bundle 1 Duplicate") < place("\"settled\" Taken"));
    assert_eq!(f.client.status().state, "online");
    assert!(f.node.alerts.borrow().is_empty());
}

#[test]
fn what_is_put_into_the_outbox_later_is_posted_at_once() {
    let f = Fixture::new(FakeNode::default(), Rc::new(|_, _| None));
    f.run(|n| n.has("heartbeat"));
    let added = Cell::new(false);
    f.run(|n| {
        if !added.replace(true) {
            n.outbox.borrow_mut().push_back(transition("active"));
            f.client.outbox_changed();
        }
        n.has("\"active\" Taken")
    });
}

#[test]
fn a_clock_that_is_wrong_is_corrected_once_and_the_request_repeated() {
    let real = Rc::new(Clock::new());
    let asked = Rc::new(Cell::new(0));
    let (theirs, count) = (real.clone(), asked.clone());
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/nodes/register" && count.replace(count.get() + 1) == 0).then(|| {
            Reply::json(401, &format!(r#"{{"type":"signature-stale","serverTime":"{}"}}"#, at(&theirs)))
        })
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.clock.set(1_000_000);
    f.run(|n| n.has("registered 1"));
    assert_eq!((f.node.times("corrected"), asked.get()), (1, 2));
    assert!((f.clock.now().unix_ms - real.now().unix_ms).abs() < 2000);
}

#[test]
fn a_forgotten_node_registers_again_and_goes_on() {
    let polls = Rc::new(Cell::new(0));
    let count = polls.clone();
    let script: Script = Rc::new(move |path, _| {
        (path.starts_with("GET /api/sessions") && count.replace(count.get() + 1) == 0)
            .then(|| Reply::json(403, r#"{"type":"node-unknown"}"#))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.times("registered 1") == 2 && polls.get() == 2);
}

#[test]
fn an_unknown_cursor_starts_over_with_an_empty_one() {
    let script: Script = Rc::new(|path, _| match path {
        p if p.contains("cursor=old") => Some(Reply::json(410, r#"{"type":"cursor-unknown"}"#)),
        p if p.contains("cursor=&") => Some(Reply::json(200, r#"{"signals":[],"cursor":"new"}"#)),
        _ => None,
    });
    let node = FakeNode::default();
    *node.cursor.borrow_mut() = "old".into();
    let f = Fixture::new(node, script);
    f.run(|n| *n.cursor.borrow() == "new");
}

#[test]
fn the_cursor_is_not_acknowledged_when_its_effect_was_not_kept() {
    let polls = Rc::new(RefCell::new(Vec::new()));
    let seen = polls.clone();
    let script: Script = Rc::new(move |path, _| {
        path.starts_with("GET /api/sessions").then(|| {
            seen.borrow_mut().push(path.to_owned());
            Reply::json(200, r#"{"signals":[{"cursor":"c1","type":"close","body":{}}],"cursor":"c1"}"#)
        })
    });
    let f = Fixture::new(FakeNode { disk_full: Cell::new(true), ..FakeNode::default() }, script);
    f.run(|n| n.alerts.borrow().contains(&node::STATE_NOT_KEPT));
    assert_eq!(polls.borrow().len(), 1);
    assert_eq!(*f.node.cursor.borrow(), "");
    assert!(!f.node.has("signal close c1"));
}

#[test]
fn one_bad_bundle_does_not_take_the_others_with_it() {
    let script: Script = Rc::new(|path, body| {
        (path == "POST /api/attest/metering").then(|| {
            let bundles = body.member("bundles").unwrap().as_array().unwrap();
            let bad = bundles.iter().any(|b| b.member("seq") == Some(&Value::Int(1)));
            if bad { Reply::json(422, r#"{"type":"bundle-bad"}"#) } else { results(body, |_| "accepted") }
        })
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().push_back(Outgoing::Bundles(vec![bundle(0), bundle(1), bundle(2)]));
    f.run(|n| n.outbox.borrow().is_empty());
    assert!(f.node.has("bundle 0 Accepted") && f.node.has("bundle 2 Accepted"));
    assert!(f.node.has("bundle 1 Refused(\"bundle-bad\")"));
}

#[test]
fn a_final_refusal_of_a_transition_is_told_and_the_next_one_posted() {
    let script: Script = Rc::new(|path, body| {
        let accepted = body.member("transition") == Some(&Value::from("accepted"));
        (path == "POST /api/sessions/control" && accepted)
            .then(|| Reply::json(404, r#"{"type":"session-unknown","detail":"x"}"#))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().extend([transition("accepted"), transition("active")]);
    f.run(|n| n.has("\"active\" Taken"));
    assert!(
        f.node
            .log
            .borrow()
            .iter()
            .any(|l| l.starts_with("\"accepted\" Refused") && l.contains("session-unknown"))
    );
}

#[test]
fn a_transition_counts_as_taken_only_when_the_answer_can_be_read() {
    let tries = Rc::new(Cell::new(0));
    let count = tries.clone();
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/sessions/control" && count.replace(count.get() + 1) == 0)
            .then(|| Reply::json(200, r#"{"signals":[{]"#))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().push_back(transition("accepted"));
    f.run(|n| n.has("\"accepted\" Taken"));
    assert_eq!(tries.get(), 2);
}

#[test]
fn a_server_error_is_tried_again_until_it_passes() {
    let tries = Rc::new(Cell::new(0));
    let count = tries.clone();
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/nodes/register" && count.replace(count.get() + 1) < 2)
            .then(|| Reply::json(503, "{}").last())
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.has("registered 1"));
    assert_eq!(tries.get(), 3);
    assert!(f.node.has("backoff"));
}

#[test]
fn an_answer_that_breaks_the_contract_raises_an_alert() {
    let script: Script =
        Rc::new(|path, _| (path == "POST /api/nodes/register").then(|| Reply::json(200, "{}")));
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.alerts.borrow().contains(&node::COORDINATOR_MALFORMED));
    assert!(!f.node.has("registered 1"));
}

#[test]
fn an_alert_stands_while_one_lane_has_reason_for_it() {
    let script: Script = Rc::new(|path, _| match path {
        "POST /api/nodes/heartbeat" => Some(Reply::json(200, "{}")),
        p if p.starts_with("GET /api/sessions") => Some(Reply::json(200, r#"{"signals":[],"cursor":""}"#)),
        p if p.starts_with("GET /api/probes") => Some(Reply::json(400, r#"{"type":"odd"}"#)),
        _ => None,
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.alerts.borrow().len() == 2);
    f.node.outbox.borrow_mut().push_back(transition("active"));
    f.run(|n| n.has("\"active\" Taken"));
    let mut alerts = f.node.alerts.borrow().clone();
    alerts.sort();
    assert_eq!(alerts, [node::COORDINATOR_MALFORMED, node::COORDINATOR_REFUSES]);
}

#[test]
fn a_certificate_outside_its_time_is_a_clock_that_is_not_set() {
    let f = Fixture::with_certificate((2090, 2091), FakeNode::default(), Rc::new(|_, _| None));
    f.run(|n| n.alerts.borrow().contains(&node::CLOCK_UNSET));
    assert_eq!(f.client.status().last_contact, None);
}

#[test]
fn a_kept_connection_that_goes_stale_costs_no_backoff() {
    let beats = Rc::new(Cell::new(0));
    let count = beats.clone();
    let script: Script = Rc::new(move |path, _| {
        let first = path == "POST /api/sessions/control" && count.replace(count.get() + 1) == 1;
        // Nothing at all, and the end of the connection, on the second post.
        first.then(|| Reply::raw("").last())
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.node.outbox.borrow_mut().extend([transition("accepted"), transition("active")]);
    f.run(|n| n.has("\"active\" Taken"));
    assert_eq!(beats.get(), 3);
    assert!(!f.node.has("backoff"));
}

#[test]
fn a_refused_registration_is_not_repeated_until_asked_for() {
    let tries = Rc::new(Cell::new(0));
    let count = tries.clone();
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/nodes/register" && count.replace(count.get() + 1) == 0)
            .then(|| Reply::json(403, r#"{"type":"banned"}"#))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.alerts.borrow().contains(&node::REGISTER_REFUSED));
    assert_eq!((tries.get(), f.client.status().state), (1, "refused"));
    f.client.register_again();
    f.run(|n| n.has("registered 1"));
    assert!(f.node.alerts.borrow().is_empty());
}

#[test]
fn a_flush_empties_the_outbox_within_its_deadline() {
    let stuck = Rc::new(Cell::new(false));
    let hang = stuck.clone();
    let script: Script = Rc::new(move |path, _| {
        (path == "POST /api/sessions/control" && hang.get()).then(|| Reply::json(503, "{}"))
    });
    let f = Fixture::new(FakeNode::default(), script);
    f.run(|n| n.has("heartbeat"));
    f.node.outbox.borrow_mut().extend([transition("closing"), transition("settled")]);
    let flush = |ms| block_on(f.ex.run(f.client.flush(&*f.node, Duration::from_millis(ms))));
    assert!(flush(5000));
    assert!(f.node.has("\"settled\" Taken"));
    stuck.set(true);
    f.node.outbox.borrow_mut().push_back(transition("closing"));
    assert!(!flush(300));
}

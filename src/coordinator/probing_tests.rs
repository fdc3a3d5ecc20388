use super::*;
use crate::clock::Clock;
use crate::coordinator::testing::*;
use crate::http::testing::{Answering, Got, Handler, Reply, TestServer};
use crate::json::{object, parse};
use crate::probe::plan::endpoint_trailer;
use crate::signed::{Kind, sign, verify};
use crate::time::Unix;
use futures_lite::future::block_on;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A coordinator that hands out `requests` one after the other, and an endpoint that serves them; all reports are
/// collected.
fn probing(requests: Vec<Value>, node: FakeNode, spoil: bool) -> (Fixture, Rc<RefCell<Vec<Value>>>) {
    let reports: Rc<RefCell<Vec<Value>>> = Rc::default();
    let (taken, queue) = (reports.clone(), RefCell::new(VecDeque::from(requests)));
    let script: Script = Rc::new(move |path, body| match path {
        p if p.starts_with("GET /api/probes/request") => {
            queue.borrow_mut().pop_front().map(|r| Reply::json(200, &r.canonical()))
        }
        "POST /api/probes/report" => {
            taken.borrow_mut().push(body.clone());
            let follow_up = queue.borrow_mut().pop_front();
            let answer = object([("ack", true.into()), ("probe", follow_up.into())]);
            Some(Reply::json(200, &answer.canonical()))
        }
        _ => None,
    });
    let mut f = Fixture::new(node, script);
    let content: Handler = Rc::new(move |got: Got| -> Answering {
        Box::pin(async move {
            let nonce = got.target.split("nonce=").nth(1).unwrap().split('&').next().unwrap().to_owned();
            let body = vec![7; 1 << 20];
            let hash = blake3::hash(if spoil { b"other" } else { &body });
            let trailer = endpoint_trailer(&nonce, 1 << 20, &hash, Unix(0), &key(3)).canonical();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() + trailer.len());
            Reply::raw([head.as_bytes(), &body, trailer.as_bytes()].concat())
        })
    });
    let endpoint = TestServer::start(&f.ex, Some(f.ca.server("probe.example", (2020, 2090))), content);
    let client = Rc::get_mut(&mut f.client).unwrap();
    client.settings.extra_ports = vec![endpoint.port, 443];
    *f.node.cursor.borrow_mut() = endpoint.port.to_string();
    (f, reports)
}

fn challenge(port: &str, nonce: &str) -> Value {
    let mut r = object([
        ("sessionId", SESSION.into()),
        ("nodeId", key(1).node_id().into()),
        ("issuedAt", at(&Clock::new()).into()),
        ("endpoint", format!("https://probe.example:{port}/p").into()),
        ("size", (1 << 20).into()),
        ("nonce", nonce.into()),
        ("ttl", 30.into()),
    ]);
    sign(Kind::ProbeRequest, &mut r, &key(2));
    r
}

#[test]
fn a_probe_is_fetched_reported_and_followed_up() {
    let requests: Rc<RefCell<Vec<Value>>> = Rc::default();
    let (f, reports) = probing(vec![], FakeNode::default(), false);
    let port = f.node.cursor.borrow().clone();
    requests.borrow_mut().extend([challenge(&port, "n1"), challenge(&port, "n1")]);
    for request in requests.take() {
        let report = block_on(f.ex.run(f.client.answer(&*f.node, &request))).unwrap();
        assert!(verify(Kind::ProbeReport, &report, &key(1).public()));
        reports.borrow_mut().push(report);
    }
    let reports = reports.borrow();
    assert_eq!(reports[0].member("bytes"), Some(&Value::Int(1 << 20)), "{}", reports[0].canonical());
    assert_eq!(reports[1].member("refused"), Some(&Value::from("nonce-reused")));
    assert!(f.node.has("probe started") && f.node.has("probe ended Ok(())"));
}

#[test]
fn a_forged_probe_gets_no_answer_but_an_alert() {
    let mut forged = challenge("443", "n1");
    sign(Kind::ProbeRequest, &mut forged, &key(9));
    let (f, reports) = probing(vec![forged], FakeNode::default(), false);
    f.run(|n| n.alerts.borrow().contains(&node::PROBE_FORGED));
    assert!(reports.borrow().is_empty());
    assert!(f.node.nonces.borrow().is_empty());
    assert!(f.node.has("order forged"), "many of them are a quarantine");
}

#[test]
fn a_probe_for_another_node_is_refused_and_counts_as_forged_and_one_that_is_only_malformed_does_not() {
    let mut foreign = challenge("443", "n1");
    foreign.set("nodeId", key(8).node_id());
    sign(Kind::ProbeRequest, &mut foreign, &key(2));
    let (f, reports) = probing(vec![foreign], FakeNode::default(), false);
    f.run(|_| reports.borrow().len() == 1);
    assert_eq!(reports.borrow()[0].member("refused"), Some(&Value::from("wrong-node")));
    assert!(f.node.has("order forged") && f.node.alerts.borrow().contains(&node::PROBE_FORGED));
    let mut nameless = challenge("443", "");
    sign(Kind::ProbeRequest, &mut nameless, &key(2));
    let (f, _) = probing(vec![nameless], FakeNode::default(), false);
    f.run(|n| n.alerts.borrow().contains(&node::PROBE_FORGED));
    assert!(!f.node.has("order forged"));
}

#[test]
fn at_most_three_follow_ups_are_taken_in_a_row() {
    let requests = (0..6).map(|n| challenge("1", &format!("n{n}"))).collect();
    let (f, reports) = probing(requests, FakeNode::default(), false);
    f.run(|_| reports.borrow().len() == 5);
    let nonces: Vec<_> = reports.borrow().iter().map(|r| r.member("nonce").unwrap().canonical()).collect();
    assert_eq!(nonces.join(" "), r#""n0" "n1" "n2" "n3" "n5""#, "n4 came as the fourth follow-up");
    assert_eq!(reports.borrow()[0].member("refused"), Some(&Value::from("endpoint-denied")));
}

#[test]
fn content_that_is_not_the_endpoints_and_addresses_that_are_not_public_are_refused() {
    for (node, spoil, refused) in [
        (FakeNode::default(), true, "endpoint-untrusted"),
        (FakeNode { deny_addresses: true, ..FakeNode::default() }, false, "endpoint-denied"),
    ] {
        let (f, _) = probing(vec![], node, spoil);
        let request = challenge(&f.node.cursor.borrow(), "n1");
        let report = block_on(f.ex.run(f.client.answer(&*f.node, &request))).unwrap();
        assert_eq!(report.member("refused"), Some(&Value::from(refused)));
    }
    let (f, _) = probing(vec![], FakeNode::default(), false);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut f = f;
    Rc::get_mut(&mut f.client).unwrap().settings.extra_ports = vec![closed];
    let request = challenge(&closed.to_string(), "n1");
    let report = block_on(f.ex.run(f.client.answer(&*f.node, &request))).unwrap();
    assert_eq!(report.member("refused"), Some(&Value::from("fetch-failed")));
    assert!(parse(report.canonical().as_bytes()).is_ok());
    assert!(f.server.connections.get() == 0);
}

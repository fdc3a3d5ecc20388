//! Requests for leases over the outer TLS, with a guard that grants all.
use super::*;
use crate::clock::Clock;
use crate::guard::lease_wire::{Ability, LeaseReport, LeaseRequest, Offload};
use crate::lease::service::{Guard, Leases};
use crate::session::{Flow, LeaseTerms, Target, Tenant};
use crate::time::Unix;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};

/// What was asked of the guard.
pub type Asked = Arc<Mutex<Vec<LeaseRequest>>>;

struct Granting {
    asked: Asked,
    leases: RefCell<Weak<Leases>>,
}

impl Guard for Granting {
    fn send(&self, request: LeaseRequest) -> bool {
        let answer = match &request {
            LeaseRequest::Grant(grant) => Some(LeaseReport::Granted { no: grant.no }),
            LeaseRequest::End { no } => Some(LeaseReport::Ended { no: *no }),
            LeaseRequest::EndAll => Some(LeaseReport::Gone),
            _ => None,
        };
        self.asked.lock().unwrap().push(request);
        if let (Some(answer), Some(leases)) = (answer, self.leases.borrow().upgrade()) {
            leases.hear(answer);
        }
        true
    }
    fn give_up(&self) -> bool {
        true
    }
}

/// Leases that are granted at once.
pub fn granted(asked: &Asked) -> Rc<Leases> {
    let leases = Leases::new(Rc::new(Clock::new()), (40_000, 40_999));
    let guard = Granting { asked: asked.clone(), leases: RefCell::new(Rc::downgrade(&leases)) };
    leases.guarded_by(Rc::new(guard));
    leases.hear(LeaseReport::Able(Ability {
        possible: true,
        offload: Offload::Plain,
        caps: false,
        reason: String::new(),
        max_flows: 10,
    }));
    leases
}

/// A session with every right.
pub struct TestTenant(pub Rc<str>);

impl Tenant for TestTenant {
    fn session(&self) -> &Rc<str> {
        &self.0
    }
    fn terms(&self) -> LeaseTerms {
        LeaseTerms { new_per_second: 5, cap_kbps: 0, until: Unix(i64::MAX) }
    }
    fn judge_aliases(&self, names: &[String]) -> Result<(), Refusal> {
        if names.iter().any(|n| n == "blocked.test") { Err(Refusal::DomainBlocked) } else { Ok(()) }
    }
    fn admit(&self, _: &Target) -> Result<Flow, Denied> {
        Err(Refusal::Paused.into())
    }
    fn still_allowed(&self, _: &Target, _: &[String]) -> bool {
        true
    }
    fn refused(&self, _: &Target, _: Refusal) {}
}

fn post(path: &str, content: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: node\r\nAuthorization: Basic YTpi\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    )
}

fn wanted(host: &str) -> String {
    post("/leases", &format!("{{\"host\":\"{host}\",\"port\":443}}"))
}

/// One answer: status and content.
fn answer(peer: &mut Peer) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
    let mut content = vec![0; length];
    peer.read_exact(&mut content).unwrap();
    (head[9..12].parse().unwrap(), String::from_utf8(content).unwrap())
}

fn ask(peer: &mut Peer, request: &str) -> (u16, String) {
    peer.write_all(request.as_bytes()).unwrap();
    answer(peer)
}

fn slug(content: &str) -> String {
    let value = crate::json::parse(content.as_bytes()).unwrap();
    value.member("type").unwrap().as_str().unwrap().to_owned()
}

fn leasing() -> Relay {
    Relay::start(Setup { tls: true, leases: true, ..Setup::default() })
}

#[test]
fn leases_are_asked_for_renewed_and_ended_on_one_connection() {
    let relay = leasing();
    let mut peer = relay.peer();
    let (status, content) = ask(&mut peer, &wanted("origin.test"));
    let told = crate::json::parse(content.as_bytes()).unwrap();
    let member = |name: &str| told.member(name).unwrap().as_str().unwrap().to_owned();
    assert_eq!((status, member("host")), (201, "origin.test".to_owned()));
    let endpoint: std::net::SocketAddr = member("endpoint").parse().unwrap();
    assert!(endpoint.ip().is_loopback() && (40_000..=40_999).contains(&endpoint.port()));
    let Some(LeaseRequest::Grant(grant)) = relay.asked().pop() else { panic!("no grant") };
    assert_eq!(
        (grant.port, grant.target.is_loopback(), grant.buyer.is_loopback()),
        (endpoint.port(), true, true)
    );
    let id = member("leaseId");
    // Two requests in one write are answered one after the other.
    peer.write_all((post(&format!("/leases/{id}/renew"), "") + &post("/leases/ab/renew", "")).as_bytes())
        .unwrap();
    assert_eq!(answer(&mut peer).0, 200);
    let (status, content) = answer(&mut peer);
    assert_eq!((status, slug(&content).as_str()), (404, "lease-unknown"));
    let delete = format!("DELETE /leases/{id} HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n");
    assert_eq!(ask(&mut peer, &delete).0, 204);
    assert_eq!(ask(&mut peer, &delete).0, 404);
    assert_eq!(relay.asked().last(), Some(&LeaseRequest::End { no: grant.no }));
    // The next one ends with the connection.
    assert_eq!(ask(&mut peer, &wanted("origin.test")).0, 201);
    peer.finish();
    drop(peer);
    pause(100);
    assert_eq!(relay.asked().last(), Some(&LeaseRequest::End { no: grant.no + 1 }));
}

#[test]
fn a_refused_lease_leaves_the_connection_and_its_leases() {
    let relay = leasing();
    let mut peer = relay.peer();
    assert_eq!(ask(&mut peer, &wanted("origin.test")).0, 201);
    for (host, status, reason) in [
        ("private.test", 403, "address-denied"),
        ("mixed.test", 403, "address-denied"),
        ("127.0.0.1", 403, "address-denied"),
        ("alias.test", 403, "domain-blocked"),
        ("unknown.test", 502, "resolve-failed"),
    ] {
        let (got, content) = ask(&mut peer, &wanted(host));
        assert_eq!((got, slug(&content).as_str()), (status, reason), "{host}");
    }
    let (status, content) = ask(&mut peer, &post("/leases", "{\"host\":\"origin.test\",\"port\":8443}"));
    assert_eq!((status, slug(&content).as_str()), (503, "lease-unavailable"), "the firewall knows 443 alone");
    let (status, content) = ask(&mut peer, &post("/leases", "no JSON"));
    assert_eq!((status, slug(&content).as_str()), (403, "not-https"));
    assert!(!relay.asked().iter().any(|r| matches!(r, LeaseRequest::End { .. })), "it still holds its lease");
    let (status, content) =
        ask(&mut peer, "CONNECT origin.test:443 HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n\r\n");
    assert_eq!(
        (status, slug(&content).as_str()),
        (403, "not-https"),
        "tunnels have connections of their own"
    );
    assert_eq!(rest(&mut peer), b"");
}

#[test]
fn without_the_outer_tls_there_are_no_leases() {
    let relay = Relay::start(Setup { leases: true, ..Setup::default() });
    let mut peer = relay.peer();
    let (status, content) = ask(&mut peer, &wanted("origin.test"));
    assert_eq!((status, slug(&content).as_str()), (503, "lease-unavailable"));
    assert_eq!(rest(&mut peer), b"");
    assert_eq!(relay.asked(), []);
}

/// The kernel would send the LAN's own connections out by the line.
#[test]
fn a_buyer_with_an_address_that_is_not_public_gets_no_lease() {
    // Its own address is 127.0.0.1.
    let of = |own: &str, allowed| {
        Relay::start_at(own, Setup { tls: true, leases: true, allowed, ..Setup::default() })
    };
    let inside = of("127.0.0.2:0", ("127.0.0.2", 32));
    let (status, content) = ask(&mut inside.peer(), &wanted("origin.test"));
    assert_eq!((status, slug(&content).as_str()), (503, "lease-unavailable"));
    assert_eq!(inside.asked(), []);
    let not_outward = of("127.0.0.2:0", ("127.0.0.1", 32));
    assert_eq!(ask(&mut not_outward.peer(), &wanted("origin.test")).0, 503, "the router's end is in the LAN");
    let both = of("127.0.0.2:0", ("127.0.0.0", 30));
    assert_eq!(ask(&mut both.peer(), &wanted("origin.test")).0, 201);
}

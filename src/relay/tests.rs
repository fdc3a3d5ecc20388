//! The relay on loopback sockets, with a gate that the test holds.
mod leases;
mod peer;
mod support;
mod tunnels;

use super::admission::GRACE_MS;
use super::connect;
use super::lease_ask;
use crate::policy::refusal::Refusal;
use crate::session::{Denied, Ending, Outcome, Phase};
use peer::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;
use support::*;

fn alert(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}

/// Everything until the end of the stream.
fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

fn is_reset(stream: &mut impl Read) -> bool {
    let mut byte = [0; 64];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) => return e.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn a_refusal_of_the_gate_is_answered_whole() {
    for denied in [
        Denied::from(Refusal::AuthRequired),
        Refusal::Paused.into(),
        Denied { refusal: Refusal::RateLimited, retry_after_s: Some(3) },
    ] {
        let relay = Relay::start(Setup { denied: Some(denied), ..Setup::default() });
        let mut buyer = relay.connect();
        buyer.write_all(&[connect_to("origin.test"), hello("origin.test")].concat()).unwrap();
        assert_eq!(rest(&mut buyer), connect::refusal(denied, None));
    }
}

#[test]
fn what_fails_on_the_way_to_the_target_is_answered_and_logged() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (host, port, refusal) in [
        ("unknown.test", 443, Refusal::ResolveFailed),
        ("private.test", 443, Refusal::AddressDenied),
        ("mixed.test", 443, Refusal::AddressDenied),
        ("alias.test", 443, Refusal::DomainBlocked),
        ("127.0.0.1", 443, Refusal::AddressDenied),
        ("origin.test", closed, Refusal::ConnectFailed),
    ] {
        let relay = Relay::start(Setup::default());
        let mut buyer = relay.connect();
        let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n\r\n");
        buyer.write_all(request.as_bytes()).unwrap();
        assert_eq!(rest(&mut buyer), connect::refusal(refusal.into(), None), "{host}");
        assert_eq!(relay.ended().outcome, Outcome::Refused(refusal), "{host}");
    }
}

#[test]
fn a_head_that_is_none_is_told_so() {
    let relay = Relay::start(Setup::default());
    let mut buyer = relay.connect();
    buyer.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    assert_eq!(rest(&mut buyer), connect::bad_head(connect::BadHead::Malformed));
    let mut buyer = relay.connect();
    buyer
        .write_all(b"POST /leases HTTP/1.1\r\nAuthorization: Basic YTpi\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let unavailable = lease_ask::refusal(Refusal::LeaseUnavailable.into(), None, true);
    assert_eq!(rest(&mut buyer), unavailable);
}

#[test]
fn a_refused_hello_gets_its_alert_and_the_target_nothing() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, ..Setup::default() });
        for (bytes, refusal, answer) in [
            (hello("other.test"), Refusal::SniMismatch, alert(112)),
            (hello(""), Refusal::SniMissing, alert(112)),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Refusal::NotTls, Vec::new()),
        ] {
            let (mut buyer, mut target) = relay.open();
            buyer.write_all(&bytes).unwrap();
            assert_eq!(rest(&mut buyer), answer, "{refusal:?}");
            let mut got = Vec::new();
            let _ = target.read_to_end(&mut got);
            assert_eq!(got, b"", "{refusal:?}");
            let ended = relay.ended();
            assert_eq!((ended.outcome, ended.ingress, ended.egress), (Outcome::Refused(refusal), 0, 0));
        }
    }
}

#[test]
fn a_hello_that_does_not_come_is_told_when_the_node_says() {
    let relay = Relay::start(Setup::default());
    let (mut buyer, mut target) = relay.open();
    buyer.write_all(&hello("origin.test")[..100]).unwrap();
    assert_eq!(relay.phase(), Phase::Hello);
    relay.end(Ending::HelloTimeout);
    assert_eq!(rest(&mut buyer), alert(49));
    assert_eq!(relay.ended().outcome, Outcome::Refused(Refusal::HelloTimeout));
    assert!(is_reset(&mut target), "it is let go although the buyer lingers");
}

#[test]
fn a_hello_byte_by_byte_arrives_unaltered_and_is_counted() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, ..Setup::default() });
        let (mut buyer, mut target) = relay.open();
        let sent = hello("origin.test");
        for byte in &sent {
            buyer.write_all(&[*byte]).unwrap();
        }
        let mut got = vec![0; sent.len()];
        target.read_exact(&mut got).unwrap();
        assert_eq!(got, sent);
        target.write_all(b"answer").unwrap();
        let mut got = [0; 6];
        buyer.read_exact(&mut got).unwrap();
        buyer.finish();
        assert_eq!(rest(&mut target), b"");
        drop(target);
        assert_eq!(rest(&mut buyer), b"");
        let ended = relay.ended();
        assert_eq!((ended.outcome, ended.ingress, ended.egress), (Outcome::Done, 6, sent.len() as u64));
        assert!(ended.passed_hello);
    }
}

#[test]
fn what_is_sent_with_the_request_is_carried() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, ..Setup::default() });
        let mut buyer = relay.peer();
        let early = [hello("origin.test"), pattern(100_000, 7)].concat();
        buyer
            .write_all(&[connect_to_port("origin.test", relay.target_port()), early.clone()].concat())
            .unwrap();
        let mut target = relay.accept();
        let mut got = vec![0; early.len()];
        target.read_exact(&mut got).unwrap();
        assert!(got == early);
    }
}

#[test]
fn a_kill_holds_before_the_hello_too() {
    let relay = Relay::start(Setup::default());
    let (mut buyer, mut target) = relay.open();
    relay.end(Ending::Reset);
    assert!(is_reset(&mut target));
    assert!(is_reset(buyer.socket()));
    assert_eq!(relay.ended().outcome, Outcome::Killed);
}

#[test]
fn silent_strangers_make_room_for_the_next() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, strangers: 4, ..Setup::default() });
        let mut silent: Vec<TcpStream> = (0..4).map(|_| relay.connect()).collect();
        pause(GRACE_MS + 50);
        let (mut buyer, _target) = relay.open_through();
        assert!(matches!(silent[0].read(&mut [0]), Ok(0) | Err(_)), "the oldest is closed");
        silent[3].set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        assert!(silent[3].read(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock));
        buyer.finish();
    }
}

#[test]
fn a_buyer_may_come_over_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("echomesh-relay-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let relay = Relay::start_on(listener.into(), "127.0.0.1:0".parse().unwrap(), Setup::default());
    let mut buyer = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let early = [hello("origin.test"), pattern(300_000, 8)].concat();
    buyer.write_all(&connect_to_port("origin.test", relay.target_port())).unwrap();
    let mut target = relay.accept();
    buyer.write_all(&early).unwrap();
    let mut got = vec![0; early.len()];
    target.read_exact(&mut got).unwrap();
    assert!(got == early);
    target.write_all(&early).unwrap();
    drop(target);
    let mut all = Vec::new();
    buyer.read_to_end(&mut all).unwrap();
    assert!(all.ends_with(&early));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn without_tls_only_this_machine_is_served() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let shared = lone_shared();
    let refused = async_io::block_on(super::serve_plain(listener, shared)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_next_address_is_tried_when_one_refuses() {
    let relay = Relay::start(Setup::default());
    let mut buyer = relay.connect();
    buyer.write_all(&connect_to_port("several.test", relay.target_port())).unwrap();
    relay.accept();
    let mut answer = vec![0; connect::ESTABLISHED.len()];
    buyer.read_exact(&mut answer).unwrap();
    assert_eq!(answer, connect::ESTABLISHED);
}

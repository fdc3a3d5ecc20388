//! Each is refused, and would succeed without the rule that its comment names.
use super::*;

/// `lease-overlap`: a copy that is lost behind us, then another hello in its place.
#[test]
fn another_hello_in_place_of_the_accepted_one() {
    let mut b = Bench::established(100);
    assert_eq!(b.buyer(ACK, 101, curl()), Some(Verdict::Stop));
    assert_eq!(b.buyer(ACK, 101, &evil()), Some(Verdict::Refuse));
    assert_eq!((b.refused(), b.gate.count()), (Some(Refusal::NotTls), (0, 0)));
}

/// `lease-overlap`: pieces of two hellos.
#[test]
fn overlaps_that_differ() {
    for order in [[0, 1], [1, 0]] {
        let mut b = Bench::established(100);
        let evil = evil();
        let both = [&curl()[..300], &evil[100..300]];
        b.buyer(ACK, 101 + 100 * order[0], both[order[0] as usize]);
        b.buyer(ACK, 101 + 100 * order[1], both[order[1] as usize]);
        assert_eq!((b.refused(), b.arrived(100)), (Some(Refusal::NotTls), vec![]));
    }
}

/// `lease-urgent`: a stack takes the urgent byte out.
#[test]
fn urgent_data_in_the_hello() {
    let mut b = Bench::established(100);
    assert_eq!(b.buyer(URG, 101, b""), Some(Verdict::Refuse), "the pointer counts without data too");
    assert_eq!(b.refused(), Some(Refusal::NotTls));
}

/// `lease-second-hello`: sent before the target could have asked for it.
#[test]
fn two_hellos_in_one_go() {
    for second in [curl().to_vec(), evil(), vec![22], vec![21]] {
        let mut b = Bench::established(100);
        assert_eq!(b.buyer(ACK, 101, &[curl(), &second].concat()), Some(Verdict::Refuse));
        assert_eq!((b.refused(), b.arrived(100)), (Some(Refusal::NotTls), vec![]));
        let mut b = Bench::established(100);
        b.buyer(ACK, 101, curl());
        assert_eq!(b.buyer(ACK, 101 + curl().len() as u32, &second), Some(Verdict::Refuse));
        assert_eq!(b.arrived(100), curl());
    }
}

/// `lease-second-hello`: behind something that looks like early data, which a second copy turns into a hello.
#[test]
fn early_data_that_becomes_a_hello() {
    let mut b = Bench::established(100);
    let end = 101 + curl().len() as u32;
    b.buyer(ACK, 101, curl());
    let evil = evil();
    assert_eq!(b.buyer(ACK, end, &[&[23, 3, 3, 2, 0][..], &evil[5..]].concat()), Some(Verdict::Stop));
    b.target(ACK, 9_001, end, &server_hello(RETRY));
    assert_eq!(b.buyer(ACK, end, &evil), Some(Verdict::Refuse));
}

/// A ServerHello cut so that a request for a second hello is not seen as one.
#[test]
fn an_answer_in_tiny_records() {
    let mut b = Bench::established(100);
    b.buyer(ACK, 101, curl());
    let end = 101 + curl().len() as u32;
    assert_eq!(b.target(ACK, 9_001, end, &[22, 3, 3, 0, 4, 2, 0, 0, 86, 22, 3]), Some(Verdict::Drop));
    assert_eq!((b.refused(), &b.killed[..]), (Some(Refusal::NotTls), &[1][..]));
}

/// `lease-syn-data`, `lease-midstream`, `lease-multipath`.
#[test]
fn what_begins_no_flow() {
    for (flags, payload, verdict) in [
        (SYN, &b"x"[..], Verdict::Drop),
        (ACK, b"", Verdict::Drop),
        (ACK, b"x", Verdict::Drop),
        (SYN | ACK, b"", Verdict::Drop),
        (SYN | FIN, b"", Verdict::Drop),
        (SYN | RST, b"", Verdict::Drop),
        (SYN | URG, b"", Verdict::Drop),
        (0, b"", Verdict::Drop),
        (RST, b"", Verdict::Drop),
    ] {
        let mut b = Bench::new();
        assert_eq!((b.buyer(flags, 1, payload), b.gate.count()), (Some(verdict), (0, 0)), "{flags}");
    }
    let mut b = Bench::new();
    assert_eq!(b.target(SYN, 1, 0, b""), Some(Verdict::Drop));
    let multipath = Made::new(SYN, 1, 0, b"").with_options(&[30, 12, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(b.from(1, BUYER, false, multipath), Some(Verdict::Refuse));
    b.sessions.denied = Some(Refusal::RateLimited);
    assert_eq!((b.buyer(SYN, 1, b""), b.gate.count()), (Some(Verdict::Refuse), (0, 0)));
}

#[test]
fn syns_that_do_not_fit_the_flow() {
    let mut b = Bench::new();
    b.buyer(SYN, 100, b"");
    assert_eq!(b.buyer(SYN, 100, b""), Some(Verdict::Stop), "sent again");
    assert_eq!(b.buyer(SYN, 200, b""), Some(Verdict::Drop));
    assert_eq!(b.buyer(ACK, 101, curl()), Some(Verdict::Drop), "the target has not answered");
    assert_eq!(b.target(SYN | ACK, 9_000, 201, b""), Some(Verdict::Drop));
    assert_eq!(b.target(SYN | ACK, 9_000, 101, b"x"), Some(Verdict::Drop));
    assert_eq!(b.target(ACK, 9_000, 101, b""), Some(Verdict::Drop));
    assert_eq!(b.target(SYN | ACK, 9_000, 101, b""), Some(Verdict::Stop));
    assert_eq!(b.target(SYN | ACK, 9_000, 101, b""), Some(Verdict::Stop), "sent again");
    assert_eq!(b.target(SYN | ACK, 9_001, 101, b""), Some(Verdict::Drop));
    assert_eq!(b.buyer(SYN, 200, b""), Some(Verdict::Drop));
    assert_eq!(b.buyer(ACK, 50, b"before its start"), Some(Verdict::Drop));
    assert_eq!(b.buyer(0, 101, curl()), Some(Verdict::Drop), "without ACK");
    assert_eq!(b.buyer(ACK, 101, curl()), Some(Verdict::Stop));
}

/// A target that remembers an earlier connection of the same ports.
#[test]
fn what_is_left_of_an_earlier_connection_can_be_reset() {
    let mut b = Bench::new();
    b.buyer(SYN, 100, b"");
    assert_eq!(b.target(ACK, 500, 77, b"left"), Some(Verdict::Drop), "nothing but that it is there");
    assert_eq!(b.target(FIN, 500, 77, b""), Some(Verdict::Drop));
    assert_eq!(b.target(ACK, 500, 101, b""), Some(Verdict::Drop), "that would be this connection's");
    assert_eq!(b.target(ACK, 500, 77, b""), Some(Verdict::Stop));
    assert_eq!(b.buyer(ACK, 101, curl()), Some(Verdict::Drop), "it opens nothing");
    assert_eq!(b.buyer(RST, 77, b""), Some(Verdict::Stop));
    assert_eq!((b.last(), &b.killed[..]), (Some(Note::Gone), &[1][..]));
    b.open(1, BUYER, 100);
    assert_eq!(b.buyer(ACK, 101, curl()), Some(Verdict::Stop));
}

#[test]
fn fins_and_resets_before_the_hello() {
    let mut b = Bench::established(100);
    b.buyer(ACK, 101, &curl()[..50]);
    assert_eq!(b.buyer(FIN, 151, b""), Some(Verdict::Drop));
    assert_eq!((b.verdicts[&3], b.last(), b.gate.count()), (Verdict::Refuse, Some(Note::Gone), (0, 0)));
    assert_eq!(b.arrived(100), b"");

    let mut b = Bench::established(100);
    assert_eq!(b.buyer(FIN, 151, &curl()[50..]), None, "the rest may come");
    assert_eq!(b.buyer(ACK, 101, &curl()[..50]), Some(Verdict::Stop));
    assert_eq!(
        b.last(),
        Some(Note::Fin { direction: Direction::Egress, end: 101 + curl().len() as u32, ack: None })
    );

    let mut b = Bench::established(100);
    b.buyer(FIN, 300, b"");
    assert_eq!(b.buyer(ACK, 290, &[0; 20]), Some(Verdict::Refuse), "data behind the FIN");

    let mut b = Bench::established(100);
    b.buyer(ACK, 101, &curl()[..50]);
    assert_eq!(b.buyer(RST, 151, b""), Some(Verdict::Stop));
    assert_eq!((b.verdicts[&3], b.last(), &b.killed[..]), (Verdict::Drop, Some(Note::Gone), &[1][..]));
    assert_eq!(b.buyer(ACK, 151, &curl()[50..]), Some(Verdict::Drop));

    let mut b = Bench::established(100);
    assert_eq!(b.buyer(RST, 101, curl()), Some(Verdict::Drop), "with data");
    assert_eq!((b.arrived(100), b.gate.count()), (vec![], (0, 0)));

    let mut b = Bench::new();
    b.buyer(SYN, 100, b"");
    assert_eq!(b.target(RST | ACK, 0, 101, b""), Some(Verdict::Stop));
    assert_eq!(b.refused(), Some(Refusal::ConnectFailed));
}

#[test]
fn a_target_that_speaks_first_is_not_heard() {
    let mut b = Bench::established(100);
    assert_eq!(b.target(ACK, 9_001, 101, b"220 ready"), Some(Verdict::Drop));
    assert_eq!(b.target(ACK, 9_001, 101, b""), Some(Verdict::Stop));
    assert_eq!(b.target(FIN, 9_001, 101, b""), Some(Verdict::Stop));
}

/// The kernel gives a number again.
#[test]
fn a_connection_begins_afresh_under_an_old_number() {
    let mut b = Bench::established(100);
    b.buyer(ACK, 101, &curl()[..50]);
    let other = IpAddr::from([198, 51, 100, 8]);
    assert_eq!(
        b.from(1, other, false, Made::new(ACK, 151, 9_001, b"x")),
        Some(Verdict::Drop),
        "another tuple"
    );
    assert_eq!((b.verdicts[&3], b.gate.count()), (Verdict::Refuse, (0, 0)));
    b.open(1, BUYER, 5_000);
    b.buyer(ACK, 5_001, curl());
    let end = 5_001 + curl().len() as u32;
    assert_eq!(b.target(ACK, 9_001, end, &server_hello([0; 32])), Some(Verdict::Accept));
    b.open(1, BUYER, 7_000);
    assert_eq!((b.gate.count(), b.buyer(ACK, 7_001, &evil())), ((1, 0), Some(Verdict::Refuse)));
}

#[test]
fn rules_that_change_or_end_count_at_once() {
    let mut b = Bench::established(100);
    b.sessions.rules = None;
    assert_eq!(b.buyer(ACK, 101, curl()), Some(Verdict::Refuse));
    assert_eq!(b.refused(), Some(Refusal::SessionClosed));
}

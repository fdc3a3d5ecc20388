//! Packets and connections of leases, as they come and go.
use super::super::nfqueue::Connection;
use super::*;

const MARKS: (u32, u32) = (0x0200_0000, 0x0100_0000);
/// The head of a packet with `hello`, as in [`reset`]'s tests.
const HELLO: &[u8] = b"\x45\0\0\x2d\x12\x34\x40\0\x3f\x06\x00\x00\x54\x01\x01\x02\x5d\xb8\xd8\x22\
    \xc3\x50\x01\xbb\x11\x22\x33\x44\x55\x66\x77\x88\x50\x18\x01\xf6\0\0\0\0hello";

fn tuple(ct: CtId) -> Tuple {
    let from = format!("84.1.1.2:{}", 1000 + ct).parse().unwrap();
    Tuple { from, to: "44.2.2.2:20000".parse().unwrap(), zone: 0 }
}

fn queued(packet: u32, ct: CtId) -> Queued<'static> {
    let connection = Some(Connection { ct, original: tuple(ct), answer: None, reply: false, mark: 0 });
    Queued { packet, connection, length: 45, bytes: HELLO }
}

fn is_open(buyer: IpAddr, port: u16) -> bool {
    (buyer.to_string().as_str(), port) == ("84.1.1.2", 20_000)
}

fn arrive(flows: &mut Flows, packet: u32, ct: CtId) -> bool {
    flows.arrive(&queued(packet, ct), is_open, 0).is_some()
}

fn entry(ct: CtId, bytes: u64) -> Entry {
    Entry {
        original: tuple(ct),
        mark: 0,
        counted: Counted { ct, packets: [1, 1], bytes: [bytes, 0] },
        is_counted: true,
    }
}

#[test]
fn a_packet_of_a_lease_is_what_run_is_asked_about() {
    let mut flows = Flows::new(10);
    let Some(LeaseReport::Packet { packet, ct, port, buyer, reply, length, bytes }) =
        flows.arrive(&queued(7, 3), is_open, 0)
    else {
        panic!("it is lost")
    };
    assert_eq!((packet, ct, port, reply, length), (7, 3, 20_000, false, 45));
    assert_eq!((buyer, &bytes[..]), (("84.1.1.2".parse().unwrap(), 1003), HELLO));
    assert_eq!(flows.tuple(3), Some(tuple(3)));
}

#[test]
fn what_no_lease_allows_is_lost() {
    let mut flows = Flows::new(10);
    assert!(flows.arrive(&Queued { connection: None, ..queued(1, 1) }, is_open, 0).is_none());
    assert!(flows.arrive(&queued(1, 1), |_, _| false, 0).is_none());
    assert!(flows.is_empty());
    assert_eq!(flows.judge(1, Verdict::Accept, MARKS), None, "nothing of that number waits");
}

#[test]
fn verdicts_become_what_the_kernel_knows() {
    let judge = |verdict| {
        let mut flows = Flows::new(10);
        assert!(arrive(&mut flows, 1, 1));
        let word = flows.judge(1, verdict, MARKS).unwrap();
        assert_eq!(flows.judge(1, verdict, MARKS), None, "once");
        (word.fate, word.mark, word.bytes)
    };
    assert_eq!(judge(Verdict::Stop), (Fate::Stop, None, None));
    assert_eq!(judge(Verdict::Accept), (Fate::Accept, Some(MARKS.0), None));
    assert_eq!(judge(Verdict::Pass), (Fate::Accept, None, None));
    assert_eq!(judge(Verdict::Drop), (Fate::Drop, None, None));
    let (fate, mark, bytes) = judge(Verdict::Refuse);
    assert_eq!((fate, mark), (Fate::Accept, Some(MARKS.1)));
    assert_eq!(bytes, reset::of(HELLO));
    assert_eq!(bytes.unwrap().len(), 40, "nothing of the hello is left");
}

#[test]
fn what_waits_of_a_refused_connection_is_reset_and_nothing_of_it_passes() {
    let mut flows = Flows::new(10);
    assert!((1..=4).all(|packet| arrive(&mut flows, packet, 1)));
    assert_eq!(flows.judge(2, Verdict::Refuse, MARKS).unwrap().mark, Some(MARKS.1));
    for (packet, verdict) in [(1, Verdict::Drop), (3, Verdict::Accept), (4, Verdict::Stop)] {
        let word = flows.judge(packet, verdict, MARKS).unwrap();
        assert_eq!(word, Word { packet, fate: Fate::Again, mark: None, bytes: None });
    }
    assert!(!arrive(&mut flows, 5, 1), "its mark keeps it away; if not, it is lost here");
    assert!(arrive(&mut flows, 6, 2), "others are not meant");
}

#[test]
fn what_cannot_be_a_reset_is_lost() {
    let mut flows = Flows::new(10);
    flows.arrive(&Queued { bytes: &HELLO[..30], ..queued(1, 1) }, is_open, 0);
    assert_eq!(flows.judge(1, Verdict::Refuse, MARKS), Some(Word::drop(1)));
}

#[test]
fn connections_and_packets_are_bounded() {
    let mut flows = Flows::new(2);
    assert!(arrive(&mut flows, 1, 1) && arrive(&mut flows, 2, 2));
    assert!(!arrive(&mut flows, 3, 3), "a third connection");
    assert!(arrive(&mut flows, 3, 1), "one more packet of the first");
    flows.judge(2, Verdict::Drop, MARKS).unwrap();
    assert!(arrive(&mut flows, 4, 3), "of the second the kernel has kept nothing");
    let mut flows = Flows::new(u32::MAX);
    assert_eq!((1..=MAX_FLOWS).filter(|n| arrive(&mut flows, 1, *n)).count(), MAX_FLOWS as usize);
    assert!(!arrive(&mut flows, 1, MAX_FLOWS + 1));
    let mut flows = Flows::new(10);
    assert!((1..=MAX_QUEUED).all(|packet| arrive(&mut flows, packet, 1)));
    assert!(!arrive(&mut flows, MAX_QUEUED + 1, 1));
}

#[test]
fn another_bound_holds_for_those_that_come() {
    let mut flows = Flows::new(2);
    assert!(arrive(&mut flows, 1, 1) && arrive(&mut flows, 2, 2));
    flows.bound(1);
    assert!(arrive(&mut flows, 3, 1) && arrive(&mut flows, 4, 2), "those that there are go on");
    flows.bound(3);
    assert!(arrive(&mut flows, 5, 3) && !arrive(&mut flows, 6, 4));
    flows.bound(u32::MAX);
    assert!((4..=MAX_FLOWS).all(|n| arrive(&mut flows, 1, n)) && !arrive(&mut flows, 1, MAX_FLOWS + 1));
}

#[test]
fn a_connection_stays_while_the_kernel_has_it() {
    let mut flows = Flows::new(10);
    arrive(&mut flows, 1, 1);
    flows.judge(1, Verdict::Stop, MARKS).unwrap();
    arrive(&mut flows, 2, 1);
    flows.judge(2, Verdict::Drop, MARKS).unwrap();
    assert!(flows.tuple(1).is_some(), "its SYN has passed");
    assert_eq!(flows.closed(&entry(1, 60)), entry(1, 60).counted);
    assert!(flows.is_empty());
}

#[test]
fn a_connection_is_forgotten_with_the_last_packet_that_waits() {
    let mut flows = Flows::new(10);
    assert!(arrive(&mut flows, 1, 1) && arrive(&mut flows, 2, 1));
    flows.judge(1, Verdict::Drop, MARKS).unwrap();
    assert!(flows.tuple(1).is_some(), "one waits still");
    flows.lose(2).unwrap();
    assert!(flows.is_empty(), "the kernel has kept nothing of it");
}

#[test]
fn an_end_that_was_not_reported_is_found_by_comparing() {
    let mut flows = Flows::new(10);
    for ct in 1..=3 {
        arrive(&mut flows, ct, ct);
    }
    flows.judge(1, Verdict::Stop, MARKS).unwrap();
    flows.judge(2, Verdict::Stop, MARKS).unwrap();
    assert_eq!(flows.compare(&[entry(1, 60), entry(2, 70)]), []);
    assert_eq!(flows.compare(&[entry(1, 90)]), [entry(2, 70).counted], "with what it had carried");
    assert!(flows.tuple(3).is_some(), "whose first packet waits the kernel does not list yet");
    assert_eq!(flows.compare(&[entry(1, 90)]), [], "once");
}

#[test]
fn packets_of_what_ends_and_late_ones_are_lost() {
    let mut flows = Flows::new(10);
    arrive(&mut flows, 1, 1);
    arrive(&mut flows, 2, 2);
    assert_eq!(flows.drop_where(|_, t| *t == tuple(1)), [Word::drop(1)]);
    assert_eq!(flows.tuple(1), None);
    assert_eq!(flows.drop_late(PATIENCE_MS), []);
    assert_eq!(flows.drop_late(PATIENCE_MS + 1), [Word::drop(2)]);
    assert!(flows.is_empty());
}

#[test]
fn only_what_the_kernel_itself_lets_pass_goes_on_without_a_verdict() {
    let (accepted, refused) = MARKS;
    let mut flows = Flows::new(10);
    let pass = |flows: &mut Flows, mark| {
        let queued = queued(2, 1);
        let connection = queued.connection.map(|c| Connection { mark, ..c });
        flows.ahead(&Queued { connection, ..queued }, accepted, refused)
    };
    assert_eq!(pass(&mut flows, accepted), None, "nobody knows it");
    assert!(arrive(&mut flows, 1, 1));
    assert_eq!(pass(&mut flows, accepted), None, "none of its packets has passed");
    flows.judge(1, Verdict::Stop, MARKS).unwrap();
    for mark in [0, refused, accepted | refused] {
        assert_eq!(pass(&mut flows, mark), None, "{mark:x}");
    }
    assert_eq!(pass(&mut flows, accepted | 0x0400_0000), Some(Ahead::Silent), "it ends nothing");
    let fin = [&HELLO[..33], &[0x11], &HELLO[34..]].concat();
    let connection = queued(2, 1).connection.map(|c| Connection { mark: accepted, ..c });
    let last = Queued { connection, bytes: &fin, ..queued(2, 1) };
    let Some(Ahead::End(LeaseReport::Packet { packet: PASSED, ct: 1, port: 20_000, bytes, .. })) =
        flows.ahead(&last, accepted, refused)
    else {
        panic!("it waits")
    };
    assert_eq!(bytes, fin);
    assert!(flows.drop_late(u64::MAX).is_empty(), "it does not wait");
    assert!(arrive(&mut flows, 3, 1));
    flows.judge(3, Verdict::Refuse, MARKS).unwrap();
    assert_eq!(pass(&mut flows, accepted), None, "run has refused it");
    assert!(!arrive(&mut flows, PASSED, 2), "its verdict could not be told from none");
}

/// A segment of this connection without payload.
fn empty(reply: bool, flags: u8, (seq, ack): (u32, u32), options: &[u8]) -> &'static [u8] {
    let ports = if reply { 0x01bb_c350u32 } else { 0xc350_01bb };
    let words = u8::try_from(5 + options.len() / 4).unwrap() << 4;
    let tcp =
        [&[ports, seq, ack].map(u32::to_be_bytes).concat()[..], &[words, flags, 1, 1, 0, 0, 0, 0], options];
    let length = u8::try_from(40 + options.len()).unwrap();
    [&HELLO[..3], &[length], &HELLO[4..20], &tcp.concat()].concat().leak()
}

#[test]
fn a_syn_that_is_refused_is_for_its_chain_to_answer_and_begins_nothing() {
    let mut flows = Flows::new(1);
    let syn = |packet, ct| Queued { bytes: empty(false, 2, (7, 0), b""), length: 40, ..queued(packet, ct) };
    assert!(flows.arrive(&syn(1, 1), is_open, 0).is_some());
    assert_eq!(flows.judge(1, Verdict::Refuse, MARKS), Some(Word::refuse(1, MARKS.1)));
    assert_eq!(
        Word::refuse(1, MARKS.1),
        Word { packet: 1, fate: Fate::Again, mark: Some(MARKS.1), bytes: None }
    );
    assert!(flows.is_empty(), "the kernel keeps nothing of it");
    assert!(flows.arrive(&syn(2, 2), is_open, 0).is_some(), "and there is room");
}

#[test]
fn a_handshake_goes_on_by_itself_once_its_syn_may() {
    let [syn_flag, syn_ack, ack_flag] = [2, 0x12, 0x10];
    let (accepted, refused) = MARKS;
    let mut flows = Flows::new(10);
    let of = |reply, bytes: &'static [u8]| {
        let connection = queued(2, 1).connection.map(|c| Connection { reply, ..c });
        Queued { connection, length: u32::try_from(bytes.len()).unwrap(), bytes, ..queued(2, 1) }
    };
    let (syn, ack) = (empty(false, syn_flag, (7, 0), b""), empty(false, ack_flag, (8, 100), b""));
    let answer = empty(true, syn_ack, (99, 8), b"\x02\x04\x05\xb4");
    let ahead = |flows: &mut Flows, reply, bytes| flows.ahead(&of(reply, bytes), accepted, refused);

    assert!(flows.arrive(&of(false, syn), is_open, 0).is_some(), "whether it may begin is for run to say");
    assert_eq!(ahead(&mut flows, true, answer), None, "run has not said so yet");
    flows.judge(2, Verdict::Stop, MARKS).unwrap();
    assert_eq!(ahead(&mut flows, false, ack), None, "the target has not answered");
    assert_eq!(ahead(&mut flows, true, empty(true, syn_ack, (99, 9), b"")), None, "it answers another SYN");
    let multipath = empty(true, syn_ack, (99, 8), b"\x1e\x04\0\0");
    assert_eq!(ahead(&mut flows, true, multipath), None, "another stream");
    assert_eq!(ahead(&mut flows, false, answer), None, "the buyer cannot answer for it");
    let Some(Ahead::Told(LeaseReport::Packet { packet: PASSED, ct: 1, reply: true, bytes, .. })) =
        ahead(&mut flows, true, answer)
    else {
        panic!("run is asked")
    };
    assert_eq!(bytes, answer);
    assert_eq!(ahead(&mut flows, true, answer), None, "once");
    assert_eq!(ahead(&mut flows, false, ack), Some(Ahead::Silent));
    assert_eq!(ahead(&mut flows, true, ack), None, "what the target acknowledges may settle a hello");
    for more in [1, 2, 4, 32] {
        assert_eq!(ahead(&mut flows, false, empty(false, ack_flag | more, (8, 100), b"")), None, "{more}");
    }
    assert_eq!(ahead(&mut flows, false, empty(false, 0, (8, 100), b"")), None, "it acknowledges nothing");
    assert_eq!(flows.ahead(&queued(3, 1), accepted, refused), None, "a hello is judged");

    assert!(flows.arrive(&of(false, syn), is_open, 0).is_some());
    assert_eq!(ahead(&mut flows, false, ack), None, "a SYN begins anew");
    flows.judge(2, Verdict::Stop, MARKS).unwrap();
    assert!(ahead(&mut flows, true, answer).is_some());
    assert!(flows.arrive(&queued(4, 1), is_open, 0).is_some());
    flows.judge(4, Verdict::Refuse, MARKS).unwrap();
    assert_eq!(ahead(&mut flows, false, ack), None, "it was refused");
}

#[test]
fn run_is_silent_only_while_there_is_something_to_be_said() {
    let mut flows = Flows::new(10);
    assert_eq!(flows.silence_ms(1_000, 60_000), 0);
    flows.arrive(&queued(1, 1), is_open, 60_000).unwrap();
    assert_eq!(flows.silence_ms(1_000, 60_000), 0, "a lease that nobody used for a minute");
    flows.arrive(&queued(2, 2), is_open, 65_000).unwrap();
    assert_eq!(flows.silence_ms(1_000, 70_500), 10_500);
    assert_eq!(flows.silence_ms(70_000, 70_500), 500);
}

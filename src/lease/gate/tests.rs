use super::*;
use crate::lease::event::Opening;
use crate::lease::segment::tests::{Made, SYN_OPTIONS};
use crate::lease::{flow, inspect};
use crate::session::Direction;
use crate::tls::client_hello::{HelloScan, MAX_HELLO, Progress};
use proptest::prelude::*;
use std::collections::BTreeMap;

mod attacks;
mod bounds;

const SYN: u8 = 2;
const ACK: u8 = 0x10;
const FIN: u8 = 0x11;
const RST: u8 = 4;
const URG: u8 = 0x30;
const BUYER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

/// Hellos as clients send them, each for `origin.test`.
fn hellos() -> [&'static [u8]; 5] {
    [
        &include_bytes!("../../../fuzz/seeds/client_hello/chromium.bin")[1..],
        &include_bytes!("../../../fuzz/seeds/client_hello/curl.bin")[1..],
        &include_bytes!("../../../fuzz/seeds/client_hello/go-pq.bin")[1..],
        &include_bytes!("../../../fuzz/seeds/client_hello/openssl-tls12.bin")[1..],
        &include_bytes!("../../../fuzz/seeds/client_hello/openssl-tls13.bin")[1..],
    ]
}

fn curl() -> &'static [u8] {
    hellos()[1]
}

/// The same hello for another host.
fn evil() -> Vec<u8> {
    let at = curl().windows(11).position(|w| w == b"origin.test").unwrap();
    let mut evil = curl().to_vec();
    evil[at..at + 4].copy_from_slice(b"evil");
    evil
}

fn rules() -> HelloRules {
    let alpn = ["h2", "http/1.1"].iter().map(|a| (*a).to_owned()).collect();
    HelloRules { host: "origin.test".into(), alpn, ech_deny: false }
}

/// What the relay says of the whole; `None` while more must come. A hello may be followed by early data alone.
fn oracle(stream: &[u8]) -> Option<Result<(), Refusal>> {
    let mut scan = HelloScan::default();
    match scan.advance(stream) {
        Progress::NeedMore => None,
        Progress::Refused(refusal) => Some(Err(refusal)),
        Progress::Complete => {
            let verdict =
                client_hello::judge(scan.hello().unwrap(), &rules(), client_hello::ech_public_names());
            let next = stream.get(scan.end().unwrap());
            Some(verdict.and(if matches!(next, None | Some(20 | 23)) {
                Ok(())
            } else {
                Err(Refusal::NotTls)
            }))
        }
    }
}

struct Sessions {
    rules: Option<HelloRules>,
    denied: Option<Refusal>,
}

impl Owner for Sessions {
    fn admit(&mut self, _: CtId, _: u16, _: (IpAddr, u16)) -> Result<(), Refusal> {
        self.denied.map_or(Ok(()), Err)
    }

    fn rules(&mut self, _: CtId) -> Option<HelloRules> {
        self.rules.clone()
    }
}

/// A gate, and a target that takes what gets through.
struct Bench {
    gate: Gate,
    sessions: Sessions,
    now_us: u64,
    sent: Vec<(CtId, bool, Made)>,
    verdicts: BTreeMap<u32, Verdict>,
    order: Vec<u32>,
    notes: Vec<(CtId, Note)>,
    killed: Vec<CtId>,
    /// Packets seen, their bytes, payload passed; each way.
    seen: [[u64; 3]; 2],
}

impl Bench {
    fn new() -> Bench {
        Bench {
            gate: Gate::new(MAX_FLOWS),
            sessions: Sessions { rules: Some(rules()), denied: None },
            now_us: 0,
            sent: Vec::new(),
            verdicts: BTreeMap::new(),
            order: Vec::new(),
            notes: Vec::new(),
            killed: Vec::new(),
            seen: [[0; 3]; 2],
        }
    }

    /// With flow 1 waiting for a hello; the buyer's first byte has the sequence number `isn + 1`.
    fn established(isn: u32) -> Bench {
        let mut b = Bench::new();
        b.open(1, BUYER, isn);
        b
    }

    fn open(&mut self, ct: CtId, buyer: IpAddr, isn: u32) {
        self.from(ct, buyer, false, Made::new(SYN, isn, 0, b"").with_options(&SYN_OPTIONS));
        self.now_us += 20_000;
        self.from(
            ct,
            buyer,
            true,
            Made::new(SYN | ACK, 9_000, isn.wrapping_add(1), b"").with_options(&SYN_OPTIONS),
        );
        self.from(ct, buyer, false, Made::new(ACK, isn.wrapping_add(1), 9_001, b""));
    }

    fn from(&mut self, ct: CtId, buyer: IpAddr, reply: bool, made: Made) -> Option<Verdict> {
        let number = self.sent.len() as u32;
        let bytes = made.bytes();
        self.sent.push((ct, reply, made));
        let buyer = (buyer, 50_000 + ct as u16);
        let length = bytes.len() as u32;
        let packet = Packet { number, ct, port: 40_000, buyer, reply, length, bytes: &bytes };
        let actions = self.gate.packet(&packet, self.now_us, &mut self.sessions);
        self.act(actions);
        self.verdicts.get(&number).copied()
    }

    fn act(&mut self, actions: Vec<Action>) {
        let mut of = 0;
        for action in actions {
            match action {
                Action::Verdict { packet, what } => {
                    assert_eq!(self.verdicts.insert(packet, what), None, "packet {packet} is answered once");
                    self.order.push(packet);
                }
                Action::Kill(ct) => self.killed.push(ct),
                Action::Note(note) => self.notes.push((of, note)),
                Action::Of(ct) => of = ct,
                Action::Seen { direction, length, .. } => {
                    let [packets, bytes, _] = &mut self.seen[usize::from(direction == Direction::Ingress)];
                    (*packets, *bytes) = (*packets + 1, *bytes + u64::from(length));
                }
                Action::Passed { direction, payload, .. } => {
                    self.seen[usize::from(direction == Direction::Ingress)][2] += u64::from(payload);
                }
            }
        }
    }

    fn buyer(&mut self, flags: u8, seq: u32, payload: &[u8]) -> Option<Verdict> {
        self.from(1, BUYER, false, Made::new(flags, seq, 9_001, payload))
    }

    fn target(&mut self, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Option<Verdict> {
        self.from(1, BUYER, true, Made::new(flags, seq, ack, payload))
    }

    /// The stream of flow 1 as its target has it, if it keeps the first copy of every byte.
    fn arrived(&self, isn: u32) -> Vec<u8> {
        let mut stream = super::super::reassembly::Stream::new(isn.wrapping_add(1));
        for number in &self.order {
            let (ct, reply, made) = &self.sent[*number as usize];
            let through = matches!(self.verdicts[number], Verdict::Stop | Verdict::Accept | Verdict::Pass);
            if *ct == 1 && !reply && through && made.flags & SYN == 0 {
                stream.take(stream.place(made.seq).unwrap(), &made.payload);
            }
        }
        stream.from(0).to_vec()
    }

    fn last(&self) -> Option<Note> {
        self.notes.last().map(|(_, note)| *note)
    }

    fn refused(&self) -> Option<Refusal> {
        self.notes.iter().find_map(|(_, n)| if let Note::Refused(r) = n { Some(*r) } else { None })
    }
}

/// The start of a ServerHello record with this random.
fn server_hello(random: [u8; 32]) -> Vec<u8> {
    [&[22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3][..], &random, &[0; 40]].concat()
}

#[test]
fn a_flow_from_its_syn_to_its_end() {
    let mut b = Bench::established(100);
    let opening = Opening { isn: [100, 9_000], v6: false, timestamps: true, sack: true };
    assert_eq!(b.notes, [(1, Note::Established { latency_us: 20_000, opening })]);
    assert_eq!(b.verdicts.values().collect::<Vec<_>>(), [&Verdict::Stop; 3]);
    assert_eq!(b.buyer(ACK, 101, curl()), Some(Verdict::Stop));
    assert_eq!((b.last(), b.gate.count()), (Some(Note::Accepted), (1, 0)));
    let end = 101 + curl().len() as u32;
    assert_eq!(b.target(ACK, 9_001, end, b""), Some(Verdict::Stop));
    assert_eq!(b.target(ACK, 9_001, end, &server_hello([7; 32])), Some(Verdict::Accept));
    assert_eq!(b.gate.count(), (0, 1));
    let hello = curl().len() as u64;
    assert_eq!(b.seen, [[3, 60 + 40 + 40 + hello, hello], [3, 60 + 40 + 40 + 83, 83]]);
    assert_eq!(b.buyer(ACK, end, b"in flight when it was marked"), Some(Verdict::Pass));
    assert_eq!(b.buyer(FIN, end + 10, b"last"), Some(Verdict::Pass));
    assert_eq!(b.last(), Some(Note::Fin { direction: Direction::Egress, end: end + 14, ack: Some(9_001) }));
    assert_eq!(b.target(FIN, 77, end, b""), Some(Verdict::Pass));
    assert_eq!(b.last(), Some(Note::Fin { direction: Direction::Ingress, end: 77, ack: Some(end) }));
    assert_eq!(b.target(RST | ACK, 78, end, b""), Some(Verdict::Pass));
    assert_eq!(b.last(), Some(Note::Reset { direction: Direction::Ingress, seq: 78, ack: Some(end) }));
    b.gate.closed(1);
    assert_eq!((b.gate.count(), b.buyer(FIN, end, b"")), ((0, 0), Some(Verdict::Drop)));
}

#[test]
fn a_refused_hello_resets_both_sides_and_reaches_nobody() {
    let mut b = Bench::established(100);
    let evil = evil();
    assert_eq!(b.buyer(ACK, 101, &evil[..200]), None);
    assert_eq!(b.buyer(ACK, 401, &evil[300..]), None);
    assert_eq!(b.buyer(ACK, 301, &evil[200..300]), Some(Verdict::Drop));
    assert_eq!(b.verdicts[&3], Verdict::Refuse, "the one that begins where the target stands");
    assert_eq!(b.verdicts[&4], Verdict::Drop);
    assert_eq!(
        b.order[3..],
        [3, 4, 5],
        "the kernel knows before it hears of the others, and resets the buyer for them"
    );
    assert_eq!((b.last(), b.arrived(100)), (Some(Note::Refused(Refusal::SniMismatch)), vec![]));
    assert_eq!((b.gate.count(), b.seen[0]), ((0, 0), [5, 60 + 4 * 40 + evil.len() as u64, 0]));
    assert_eq!(b.buyer(ACK, 101, curl()), Some(Verdict::Drop));
}

#[test]
fn a_hello_in_pieces_is_held_and_released_in_order() {
    let mut b = Bench::established(u32::MAX - 100);
    let (first, hello) = (u32::MAX - 99, hellos()[0]);
    assert_eq!(b.buyer(ACK, first.wrapping_add(1400), &hello[1400..]), None);
    assert_eq!(b.buyer(ACK, first.wrapping_add(1400), &hello[1400..]), Some(Verdict::Drop));
    assert_eq!(b.buyer(ACK, first, &hello[..700]), None);
    assert_eq!(b.buyer(ACK, first.wrapping_add(700), &hello[700..1400]), Some(Verdict::Stop));
    assert_eq!(b.order[3..], [4, 5, 6, 3]);
    assert_eq!(b.arrived(u32::MAX - 100), hello);
}

#[test]
fn early_data_goes_through_and_its_gap_is_waited_for() {
    let mut b = Bench::established(100);
    let early = [&[20, 3, 3, 0, 1, 1][..], &[23, 3, 3, 0, 100], &[9; 100]].concat();
    let end = 101 + curl().len() as u32;
    assert_eq!(b.buyer(ACK, 101, &[curl(), &early[..8]].concat()), Some(Verdict::Stop));
    assert_eq!(b.buyer(ACK, end + 50, &early[50..]), None, "it is not known what it is");
    assert_eq!(b.buyer(ACK, end + 8, &early[8..50]), Some(Verdict::Stop));
    assert_eq!(b.arrived(100), [curl(), &early].concat());
    assert_eq!(b.buyer(ACK, end, &early[..20]), Some(Verdict::Stop), "sent again, the same");
    assert_eq!(b.target(ACK, 9_001, end, &server_hello([7; 32])), Some(Verdict::Accept));
}

#[test]
fn a_second_hello_that_is_asked_for_is_judged() {
    for (second, refused) in [(curl().to_vec(), None), (evil(), Some(Refusal::SniMismatch))] {
        let mut b = Bench::established(100);
        let end = 101 + curl().len() as u32;
        b.buyer(ACK, 101, curl());
        let retry = server_hello(RETRY);
        assert_eq!(b.target(ACK, 9_001, end, &retry[..30]), Some(Verdict::Stop));
        assert_eq!(b.target(ACK, 9_031, end, &retry[30..]), Some(Verdict::Stop));
        assert_eq!(b.target(ACK, 9_096, end, &[20, 3, 3, 0, 1, 1]), Some(Verdict::Stop));
        assert_eq!(b.buyer(ACK, end, &[20, 3, 3, 0, 1, 1]), Some(Verdict::Stop));
        assert_eq!(b.buyer(ACK, end + 6, &second[..100]), None);
        let verdict = b.buyer(ACK, end + 106, &second[100..]);
        assert_eq!(b.refused(), refused);
        if refused.is_some() {
            assert_eq!((verdict, b.arrived(100).len()), (Some(Verdict::Drop), curl().len() + 6));
            continue;
        }
        assert_eq!(verdict, Some(Verdict::Stop));
        assert_eq!(b.target(ACK, 9_102, end + 106, b""), Some(Verdict::Stop), "not all of it is there");
        let whole = end + 6 + second.len() as u32;
        assert_eq!(b.target(ACK, 9_102, whole, b""), Some(Verdict::Accept));
        assert_eq!(b.notes.iter().filter(|(_, n)| *n == Note::Accepted).count(), 1);
    }
}

const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

#[test]
fn time_runs_out_at_every_stage() {
    let mut b = Bench::new();
    b.buyer(SYN, 100, b"");
    assert_eq!(b.gate.next_deadline_us(), Some(flow::PATIENCE_US));
    let actions = b.gate.tick(flow::PATIENCE_US - 1);
    assert_eq!(actions, []);
    let actions = b.gate.tick(flow::PATIENCE_US);
    b.act(actions);
    assert_eq!((b.refused(), &b.killed[..]), (Some(Refusal::ConnectTimeout), &[1][..]));

    let mut b = Bench::established(100);
    b.buyer(ACK, 101, &curl()[..9]);
    let actions = b.gate.tick(20_000 + flow::PATIENCE_US);
    b.act(actions);
    assert_eq!((b.refused(), b.verdicts[&3]), (Some(Refusal::HelloTimeout), Verdict::Refuse));

    let mut b = Bench::established(100);
    b.buyer(ACK, 101, curl());
    assert_eq!(b.gate.tick(20_000 + flow::ANSWER_US - 1), []);
    let actions = b.gate.tick(20_000 + flow::ANSWER_US);
    b.act(actions);
    assert_eq!((b.last(), &b.killed[..], b.gate.next_deadline_us()), (Some(Note::Gone), &[1][..], None));
}

/// Which hello, a byte of it to change, places and sizes of pieces, the first sequence number.
type Cut = (usize, Option<(usize, u8)>, Vec<(u16, u16)>, u32);

fn pieces() -> impl Strategy<Value = Cut> {
    let flip = prop::option::of((0usize..2000, 1u8..));
    (0usize..5, flip, prop::collection::vec((any::<u16>(), 1u16..700), 1..40), any::<u32>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// However a hello is cut, reordered and repeated: the gate says what the relay says of it whole, and nothing of one
    /// that is refused or not complete reaches the target.
    #[test]
    fn any_cut_gives_the_relays_verdict((which, flip, cuts, isn) in pieces()) {
        let mut hello = hellos()[which].to_vec();
        if let Some((at, bits)) = flip {
            let at = at % hello.len();
            hello[at] ^= bits;
        }
        let mut b = Bench::established(isn);
        let mut todo: Vec<(usize, usize)> = cuts.iter().map(|(at, size)| {
            let from = usize::from(*at) % hello.len();
            (from, (from + usize::from(*size)).min(hello.len()))
        }).collect();
        todo.extend((0..hello.len()).step_by(499).map(|from| (from, (from + 499).min(hello.len()))));
        // What was dropped is sent again, as a client would.
        for _ in 0..3 {
            for (from, to) in &todo {
                let place = isn.wrapping_add(1).wrapping_add(*from as u32);
                b.buyer(ACK, place, &hello[*from..*to]);
            }
        }
        match oracle(&hello) {
            None => {
                prop_assert_eq!((b.refused(), b.gate.count()), (None, (1, 0)));
                prop_assert_eq!(b.arrived(isn), b"");
            }
            Some(Err(refusal)) => {
                prop_assert_eq!(b.refused(), Some(refusal));
                prop_assert_eq!(b.arrived(isn), b"");
            }
            Some(Ok(())) => {
                prop_assert_eq!((b.refused(), b.last()), (None, Some(Note::Accepted)));
                prop_assert_eq!(b.arrived(isn), &hello[..]);
                let end = isn.wrapping_add(1).wrapping_add(hello.len() as u32);
                prop_assert_eq!(b.target(ACK, 9_001, end, &server_hello([1; 32])), Some(Verdict::Accept));
                prop_assert!((0..b.sent.len() as u32).all(|n| b.verdicts.contains_key(&n)), "all are answered");
            }
        }
    }

    /// Whatever comes: every packet has at most one verdict, what is kept is bounded, no panic.
    #[test]
    fn noise_is_answered(packets in prop::collection::vec(
        (0u32..4, any::<bool>(), 0usize..9, 0u32..600, 0u32..600, 0usize..500), 1..200,
    )) {
        let mut b = Bench::new();
        for (ct, reply, flags, seq, ack, size) in packets {
            let flags = [SYN, ACK, ACK, ACK, FIN, RST, SYN | ACK, URG, 0][flags];
            let payload = if flags & SYN != 0 { &[][..] } else { curl().get(size..).unwrap() };
            b.now_us += u64::from(ack) * 1000;
            b.from(ct, BUYER, reply, Made::new(flags, seq % 40 + 99, ack, payload));
            let actions = b.gate.tick(b.now_us);
            b.act(actions);
            prop_assert!(b.gate.undecided.len() + b.gate.open.len() <= 4);
        }
        for ct in 0..4 {
            let actions = b.gate.end(ct);
            b.act(actions);
        }
        prop_assert!((0..b.sent.len() as u32).all(|n| b.verdicts.contains_key(&n)), "all are answered in the end");
    }
}

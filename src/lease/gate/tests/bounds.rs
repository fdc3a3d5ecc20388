use super::*;

fn buyer(n: u32) -> IpAddr {
    IpAddr::from([198, 51, 100, n as u8])
}

#[test]
fn the_heaviest_buyers_oldest_gives_way() {
    let mut b = Bench::new();
    for ct in 0..MAX_UNDECIDED as u32 {
        b.open(ct, buyer(if ct % 2 == 0 { 1 } else { 2 + ct % 100 }), 100);
    }
    assert_eq!((b.gate.count().0, &b.killed[..]), (MAX_UNDECIDED, &[][..]));
    b.open(999, buyer(250), 100);
    assert_eq!((b.gate.count().0, &b.killed[..]), (MAX_UNDECIDED, &[0][..]));
    assert_eq!(
        b.notes.iter().find(|(ct, n)| *ct == 0 && *n == Note::Refused(Refusal::RateLimited)).iter().count(),
        1
    );
    b.from(2, buyer(1), false, Made::new(ACK, 101, 9_001, &curl()[..9]));
    b.open(1000, buyer(251), 100);
    assert_eq!((&b.killed[..], b.verdicts.values().last()), (&[0][..], Some(&Verdict::Stop)));
    assert!(b.verdicts.values().any(|v| *v == Verdict::Refuse), "what it held is answered");
}

#[test]
fn the_memory_of_all_is_bounded() {
    let mut b = Bench::new();
    let junk = [&[22, 3, 1, 0x3f, 0x00, 1, 0, 0x3e, 0xfc][..], &[0; 15_000]].concat();
    for ct in 0..200 {
        b.open(ct, buyer(1 + ct % 3), 100);
        for (n, piece) in junk.chunks(1000).enumerate() {
            b.from(ct, buyer(1 + ct % 3), false, Made::new(ACK, 101 + 1000 * n as u32, 9_001, piece));
        }
        let memory = b.gate.total(Flow::memory);
        assert!(memory <= MAX_MEMORY && b.gate.total(Flow::held) <= MAX_WAITING, "{memory}");
    }
    assert!(b.gate.count().0 > 25 && b.gate.count().0 < 80, "{:?}", b.gate.count());
    let waiting = (0..b.sent.len() as u32).filter(|n| !b.verdicts.contains_key(n)).count();
    assert_eq!(waiting, b.gate.total(Flow::held), "what gave way is answered");
}

#[test]
fn a_hello_byte_by_byte_needs_no_more_than_32_packets_at_once() {
    let mut b = Bench::established(100);
    for (n, byte) in curl().iter().enumerate() {
        b.buyer(ACK, 101 + n as u32, &[*byte]);
        assert!(b.gate.total(Flow::held) <= flow::MAX_HELD);
    }
    assert_eq!((b.last(), b.arrived(100).len()), (Some(Note::Accepted), flow::MAX_HELD));
    assert_eq!(b.buyer(ACK, 101, curl()), Some(Verdict::Stop), "the client sends the rest again");
    assert_eq!(b.arrived(100), curl());
}

#[test]
fn flows_are_as_many_as_the_guard_allows() {
    let mut b = Bench::new();
    b.gate = Gate::new(2);
    b.open(1, BUYER, 100);
    b.open(2, BUYER, 100);
    assert_eq!(b.from(3, BUYER, false, Made::new(SYN, 1, 0, b"")), Some(Verdict::Refuse));
    b.gate.closed(1);
    assert_eq!(b.from(3, BUYER, false, Made::new(SYN, 1, 0, b"")), Some(Verdict::Stop));
    b.gate.gone();
    assert_eq!(b.gate.count(), (0, 0));
}

#[test]
fn a_hello_may_have_16_kib() {
    let record = |n: usize| {
        [&[22, 3, 1][..], &(n as u16).to_be_bytes(), &[1, 0][..], &((n - 4) as u16).to_be_bytes()].concat()
    };
    let mut b = Bench::established(100);
    let huge = [record(MAX_HELLO - 5), vec![0; MAX_HELLO]].concat();
    for (n, piece) in huge.chunks(1000).enumerate() {
        b.buyer(ACK, 101 + 1000 * n as u32, piece);
    }
    assert_eq!(
        (b.refused(), oracle(&huge), b.arrived(100)),
        (Some(Refusal::NotTls), Some(Err(Refusal::NotTls)), vec![])
    );
    let mut b = Bench::established(100);
    b.buyer(ACK, 101, &record(MAX_HELLO - 4));
    assert_eq!(b.refused(), Some(Refusal::HelloTimeout));
}

#[test]
fn what_the_kernel_has_joined_is_read_as_far_as_it_matters() {
    let mut b = Bench::established(100);
    assert_eq!(
        b.buyer(ACK, 101, &[curl(), &[23, 3, 3, 0x3f, 0], &[0; 40_000]].concat()),
        Some(Verdict::Refuse)
    );
    assert_eq!(b.refused(), Some(Refusal::NotTls), "the second record is none");
    let mut b = Bench::established(100);
    let long = [curl(), &[23, 3, 3, 0xff, 0], &[0; 40_000]].concat();
    assert_eq!(b.buyer(ACK, 101, &long), Some(Verdict::Drop), "more than is kept");
    assert_eq!((b.last(), b.buyer(ACK, 101, &long[..1448])), (Some(Note::Accepted), Some(Verdict::Stop)));
}

#[test]
fn the_longest_reassembly_fits_into_a_flows_memory() {
    const { assert!(super::super::super::reassembly::WINDOW > MAX_HELLO) };
    assert_eq!(inspect::Inspector::new(0).stream().memory(), 0);
}

#[test]
fn another_bound_holds_for_flows_that_come() {
    let mut b = Bench::established(100);
    b.gate.bound_to(1);
    let syn =
        |b: &mut Bench, ct| b.from(ct, BUYER, false, Made::new(SYN, 7, 0, b"").with_options(&SYN_OPTIONS));
    assert_eq!(syn(&mut b, 2), Some(Verdict::Refuse));
    b.gate.bound_to(usize::MAX);
    assert_eq!((syn(&mut b, 3), b.gate.count()), (Some(Verdict::Stop), (2, 0)));
}

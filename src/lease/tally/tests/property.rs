//! What holds for whatever crosses the router and whatever both ends say of it.
use super::*;
use proptest::prelude::*;

/// One direction's data through a router, as its conntrack counts them.
#[derive(Clone, Debug)]
struct Transfer {
    opening: Opening,
    segments: Vec<(u16, u8)>,
    gro: u64,
    /// Of 256 segments, so many are lost behind the router, and before it.
    loss: (u8, u8),
    poll: usize,
}

struct Outcome {
    told: u64,
    most: u64,
    passed: u64,
    unique: u64,
    acknowledgements_told: u64,
    tally: Tally,
}

fn run(t: &Transfer) -> Outcome {
    let mut tally = Tally::default();
    tally.open(t.opening);
    let header = if t.opening.v6 { 60 } else { 40 } + if t.opening.timestamps { 12 } else { 0 };
    let (mut data, mut acks) = (Count::default(), Count::default());
    let (mut passed, mut unique, mut told, mut most) = (0, 0, [0; 2], 0);
    let mut joined = 0;
    for (n, (size, luck)) in t.segments.iter().enumerate() {
        let size = u64::from(*size);
        let lost_behind = *luck < t.loss.0;
        let lost_before = !lost_behind && 255 - *luck < t.loss.1;
        unique += size;
        // It crosses the router twice if it is lost behind it, and breaks what GRO had joined.
        let times = if lost_behind { 2 } else { 1 };
        for _ in 0..times {
            let joins = joined > 0 && joined < t.gro && !lost_behind && !lost_before;
            joined = if joins { joined + 1 } else { 1 };
            data =
                data.plus(Count { packets: u64::from(!joins), bytes: size + if joins { 0 } else { header } });
            passed += size;
        }
        if n % 2 == 0 || lost_behind || lost_before {
            let sack =
                if t.opening.sack && (lost_behind || lost_before) { 12 + 8 * (n as u64 % 3) } else { 0 };
            acks = acks.plus(Count { packets: 1, bytes: header + sack.min(28) });
        }
        if n % t.poll == t.poll - 1 {
            tally.count(&counted((acks.packets, acks.bytes), (data.packets, data.bytes)));
            let [out, back] = tally.fresh();
            told = [told[0] + out, told[1] + back];
            most = most.max(told[1].saturating_sub(passed));
        }
    }
    tally.count(&counted((acks.packets, acks.bytes), (data.packets, data.bytes)));
    Outcome { told: told[1], most, passed, unique, acknowledgements_told: told[0], tally }
}

fn transfers() -> impl Strategy<Value = Transfer> {
    let sizes = prop_oneof![
        4 => prop::collection::vec((Just(1440u16), any::<u8>()), 1..400),
        1 => prop::collection::vec((1u16..1440, any::<u8>()), 1..200),
    ];
    let options = (any::<[u32; 2]>(), any::<bool>(), any::<bool>(), any::<bool>());
    (options, sizes, 1u64..44, (0u8..13, 0u8..13), 1usize..60).prop_map(|(o, segments, gro, loss, poll)| {
        let opening = Opening { isn: o.0, v6: o.1, timestamps: o.2, sack: o.3 };
        Transfer { opening, segments, gro, loss, poll }
    })
}

proptest! {
    /// What is told never exceeds what has crossed the router; acknowledgements are nothing; a clean end is exact.
    #[test]
    fn the_running_count_is_a_lower_bound_and_the_end_is_exact(t in transfers()) {
        let o = run(&t);
        prop_assert_eq!((o.most, o.acknowledgements_told), (0, 0));
        prop_assert!(o.told <= o.passed);
        let mut tally = o.tally;
        let end = |n: usize, bytes: u64| t.opening.isn[n].wrapping_add(1).wrapping_add(bytes as u32);
        tally.note(&fin(Egress, end(0, 0)));
        tally.note(&fin(Ingress, end(1, o.unique)));
        let settled = tally.settle(&mut Credit::default());
        let all = o.told + settled.more[1] - settled.less[1];
        prop_assert_eq!(all, o.unique);
        prop_assert_eq!((settled.more[0], settled.less[0]), (0, 0));
    }

    /// What a reset counts and was lost before the router has not passed.
    #[test]
    fn a_reset_adds_nothing_to_what_has_passed(t in transfers(), lost in 0u64..100_000) {
        let o = run(&t);
        let mut tally = o.tally;
        let seq = t.opening.isn[1].wrapping_add(1).wrapping_add((o.unique + lost) as u32);
        tally.note(&Note::Reset { direction: Ingress, seq, ack: None });
        let settled = tally.settle(&mut Credit::default());
        prop_assert!(o.told + settled.more[1] - settled.less[1] <= o.passed);
    }

    /// A flow that carries data and is cut off is counted within 1 % of what has crossed the router.
    #[test]
    fn what_is_cut_off_is_within_one_percent(t in transfers()) {
        let bulk = t.segments.iter().all(|(size, _)| *size == 1440);
        let o = run(&t);
        let more = o.tally.settle(&mut Credit::default()).more[1];
        let all = o.told + more;
        prop_assert!(all <= o.passed);
        if bulk {
            prop_assert!(all >= o.passed - o.passed / 100, "{all} of {}", o.passed);
        }
    }
}

/// What two liars make of a connection: packets of 1440 bytes each way, where their FINs say they end, and what they say
/// they have got.
type Lie = ([u16; 2], [u32; 2], [Option<u32>; 2], bool);

proptest! {
    /// Whatever both ends say: a session is charged for seven eighths of what it carried, less the first 256 kB, and never for more
    /// than that.
    #[test]
    fn liars_gain_no_more_than_the_credit(
        lies in prop::collection::vec(any::<Lie>(), 1..60),
        honest in any::<bool>(),
    ) {
        let opening = Opening { isn: [7, 9], v6: false, timestamps: false, sack: false };
        let (mut credit, mut carried, mut charged) = (Credit::default(), 0, 0);
        for (packets, ends, got, resets) in lies {
            let mut t = Tally::default();
            t.open(opening);
            let packets = packets.map(|n| u64::from(n) * 10);
            let bytes = packets.map(|n| n * 1440);
            t.count(&Counted { ct: 1, packets, bytes: packets.map(|n| n * 1480) });
            let told: u64 = t.fresh().iter().sum();
            let end = |n: usize, lie: u32| {
                let most = if honest { bytes[n] } else { u64::from(lie) % (bytes[n] + 1) };
                opening.isn[n].wrapping_add(1).wrapping_add(most as u32)
            };
            let ends = [end(0, ends[0]), end(1, ends[1])];
            for (n, direction) in [Egress, Ingress].into_iter().enumerate() {
                let ack = if honest { Some(ends[1 - n].wrapping_add(1)) } else { got[n] };
                if resets && !honest {
                    t.note(&Note::Reset { direction, seq: ends[n], ack });
                } else {
                    t.note(&Note::Fin { direction, end: ends[n], ack });
                }
            }
            let Settled { more, less } = t.settle(&mut credit);
            carried += bytes.iter().sum::<u64>();
            charged += told + more.iter().sum::<u64>() - less.iter().sum::<u64>();
        }
        prop_assert!(charged <= carried, "{charged} of {carried}");
        prop_assert!(charged >= (carried - carried / 8).saturating_sub(256 << 10), "{charged} of {carried}");
        prop_assert!(!honest || charged == carried, "{charged} of {carried}");
    }
}

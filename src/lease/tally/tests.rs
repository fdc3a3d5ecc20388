mod property;

use super::*;
use Direction::{Egress, Ingress};

const OPENING: Opening = Opening { isn: [100, u32::MAX - 5], v6: false, timestamps: true, sack: true };

fn counted(out: (u64, u64), back: (u64, u64)) -> Counted {
    Counted { ct: 1, packets: [out.0, back.0], bytes: [out.1, back.1] }
}

fn open() -> Tally {
    let mut t = Tally::default();
    t.open(OPENING);
    t
}

fn fin(direction: Direction, end: u32) -> Note {
    Note::Fin { direction, end, ack: None }
}

#[test]
fn headers_go_off_and_what_the_gate_saw_counts_as_it_is() {
    let mut t = open();
    for (direction, length, payload) in
        [(Egress, 60, 0), (Ingress, 60, 0), (Egress, 52, 0), (Egress, 569, 517)]
    {
        t.seen(direction, length, payload);
        t.passed(direction, payload, payload);
    }
    assert_eq!(t.fresh(), [517, 0]);
    t.count(&counted((3, 681), (1, 60)));
    assert_eq!(t.fresh(), [0, 0], "the counters show nothing else");
    t.count(&counted((3 + 10, 681 + 520), (1 + 2, 60 + 2 * 52 + 100_000)));
    assert_eq!(t.fresh(), [0, 100_000 - 56], "GRO: few headers, so all of their options may be used up");
    t.count(&counted((13, 1201), (103, 100_164 + 100 * 1500)));
    assert_eq!(t.fresh(), [0, 144_800 - 144_800 / ONE_WAY_MARGIN]);
    let ipv6 = Opening { v6: true, timestamps: false, sack: false, ..OPENING };
    let mut t = Tally::default();
    t.open(ipv6);
    t.count(&counted((1, 1500), (1, 61)));
    assert_eq!(t.fresh(), [1440, 1], "no options, so it is exact");
}

#[test]
fn what_the_kernel_cut_for_the_queue_is_counted_once() {
    let mut t = open();
    let payload = 15 * 1448 + 405;
    (0..15).for_each(|_| t.seen(Ingress, 1500, 1448));
    t.seen(Ingress, 457, 405);
    let end = OPENING.isn[1].wrapping_add(1 + 100_000);
    t.passed(Ingress, payload, end);
    // Sent again, for the queue was slow.
    t.passed(Ingress, 1448, end.wrapping_sub(405));
    t.passed(Ingress, 405, end);
    t.note(&fin(Ingress, end));
    let elsewhere = 100_000 - u64::from(payload);
    t.count(&counted((0, 0), (3 + 1, 4 * 52 + 100_000)));
    let told = t.fresh()[1];
    assert!(told <= 100_000 && told + elsewhere / 100 >= 100_000, "{told}");
    assert_eq!(t.settle(&mut Credit::default()).more[1], 100_000 - told);
}

#[test]
fn what_was_cut_with_selective_acknowledgements_hides_nothing_else() {
    let mut t = open();
    // One packet for the kernel; each of its pieces has the 12 bytes more.
    (0..10).for_each(|_| t.seen(Ingress, 1500, 1436));
    let start = u32::MAX - 4;
    t.passed(Ingress, 14_360, start.wrapping_add(14_377));
    t.count(&counted((0, 0), (2, 52 + 12 + 14_360 + 52 + 17)));
    assert!(t.fresh()[1] <= 14_377);
    t.note(&fin(Ingress, start.wrapping_add(14_377)));
    assert_eq!(t.sides[1].told + t.clone().settle(&mut Credit::default()).more[1], 14_377);
}

#[test]
fn resets_without_timestamps_hide_no_payload() {
    let mut t = open();
    // SYN-ACK, the first data, FIN, and a reset of a late acknowledgement.
    for (length, payload) in [(60, 0), (142, 90), (52, 0), (40, 0)] {
        t.seen(Ingress, length, payload);
    }
    let start = u32::MAX - 4;
    t.passed(Ingress, 90, start.wrapping_add(90));
    t.note(&fin(Ingress, start.wrapping_add(93)));
    t.count(&counted((0, 0), (7, 60 + 142 + 52 + 40 + 3 * 53)));
    assert!(t.fresh()[1] <= 93);
    assert_eq!(t.sides[1].told + t.clone().settle(&mut Credit::default()).more[1], 93);
}

#[test]
fn acknowledgements_with_selective_ones_are_no_payload() {
    let mut t = open();
    t.count(&counted((1000, 1000 * 80), (3000, 3000 * 1500)));
    assert_eq!(t.fresh()[0], 0);
}

#[test]
fn a_clean_close_is_exact_and_a_wrap_is_told_by_the_counters() {
    for total in [0, 1, 1000, (1 << 32) - 1, 1 << 32, 5_000_000_000, 13_000_000_123] {
        let mut t = open();
        let packets = u64::div_ceil(total, 1448) + 1;
        t.count(&counted((9, 9 * 52), (packets, packets * 52 + total)));
        let told = t.fresh();
        assert!(
            told[1] <= total && told[1] >= (total - total / 100).saturating_sub(1448),
            "{told:?} of {total}"
        );
        t.note(&fin(Egress, 101));
        t.note(&fin(Ingress, (total as u32).wrapping_add(u32::MAX - 4)));
        assert!(t.is_over());
        assert_eq!(t.settle(&mut Credit::default()), Settled { more: [0, total - told[1]], less: [0, 0] });
    }
}

#[test]
fn what_acknowledges_what_the_other_sends_may_have_more_options() {
    let told = |up: u64| {
        let mut t = open();
        t.count(&counted((100, 100 * 52 + up), (100, 100 * 1500)));
        t.fresh()[1]
    };
    assert_eq!(told(144_800 / ONE_WAY), 144_800 - 144_800 / ONE_WAY_MARGIN);
    assert_eq!(told(144_800 / ONE_WAY + 1), 144_800 - 144_800 / MARGIN);
}

#[test]
fn what_was_sent_twice_is_given_back() {
    let mut t = open();
    t.count(&counted((9, 9 * 52), (1050, 1050 * 1500)));
    assert_eq!(t.fresh()[1], 1050 * 1448 - 1050 * 1448 / ONE_WAY_MARGIN);
    t.note(&fin(Egress, 101));
    t.note(&fin(Ingress, (1000 * 1448_u32).wrapping_add(u32::MAX - 4)));
    assert_eq!(
        t.settle(&mut Credit::default()),
        Settled { more: [0, 0], less: [0, 1050 * 1448 - 1050 * 1448 / ONE_WAY_MARGIN - 1000 * 1448] }
    );
}

#[test]
fn a_reset_says_what_both_have_got() {
    let start = u32::MAX - 4;
    let settle = |note: &[Note]| {
        let mut t = open();
        t.count(&counted((101, 101 * 52 + 300), (100, 100 * 1500)));
        note.iter().for_each(|n| t.note(n));
        t.settle(&mut Credit::default()).more
    };
    let reset = |direction, seq, ack| Note::Reset { direction, seq, ack };
    let estimate = 144_800 - 144_800 / ONE_WAY_MARGIN;
    let gives_up = |got: u32| settle(&[reset(Egress, 401, Some(start.wrapping_add(got)))]);
    assert_eq!(
        gives_up(140_000),
        [300, estimate],
        "what was on its way to the buyer has come from the target"
    );
    assert_eq!(gives_up(144_700), [300, 144_700], "no less than it has got");
    assert_eq!(gives_up(144_801), [300, estimate], "nor more than has passed");
    assert_eq!(settle(&[reset(Ingress, start.wrapping_add(144_800), Some(301))]), [200, 144_800]);
    assert_eq!(settle(&[reset(Ingress, start.wrapping_add(144_800), None)]), [0, 144_800]);
    assert_eq!(
        settle(&[fin(Egress, 401), reset(Ingress, start.wrapping_add(144_800), Some(402))]),
        [300, 144_800]
    );
    assert_eq!(settle(&[]), [0, estimate]);
    // The target has acknowledged more than the buyer says it has sent.
    let heard = Note::Fin { direction: Ingress, end: start.wrapping_add(144_800), ack: Some(401) };
    assert_eq!(settle(&[heard, reset(Egress, 301, None)]), [300, 144_800]);
}

#[test]
fn resets_of_late_acknowledgements_take_nothing_back() {
    let start = u32::MAX - 4;
    let settle = |notes: &[Note]| {
        let mut t = open();
        t.count(&counted((101, 101 * 52 + 300), (100, 100 * 1500)));
        notes.iter().for_each(|n| t.note(n));
        t.settle(&mut Credit::default()).more
    };
    let reset = |seq: u32, ack| Note::Reset { direction: Ingress, seq: start.wrapping_add(seq), ack };
    let late = [reset(141_904, None), reset(144_800, Some(401)), reset(140_456, Some(201))];
    assert_eq!(settle(&late), [300, 144_800]);
    let end = Note::Fin { direction: Ingress, end: start.wrapping_add(144_800), ack: Some(401) };
    assert_eq!(settle(&[end, reset(141_904, None)])[1], 144_800, "nor what its FIN has said");
    assert_eq!(settle(&[end, reset(144_801, None)])[1], 144_800, "which it may count");
}

#[test]
fn an_end_that_cannot_be_true_is_not_believed() {
    let start = u32::MAX - 4;
    let (packets, all) = (10_000_u32, 14_480_000_u32);
    let estimate = all - all / ONE_WAY_MARGIN as u32;
    let targets = |end: u32| vec![Note::Fin { direction: Ingress, end: start.wrapping_add(end), ack: None }];
    let buyers = |end: u32| vec![Note::Fin { direction: Egress, end: 101 + end, ack: None }];
    let confirmed = |end: u32| {
        vec![
            Note::Fin { direction: Egress, end: 101 + end, ack: None },
            Note::Fin { direction: Ingress, end: start, ack: Some(101 + end + 1) },
        ]
    };
    let reset =
        |end: u32| vec![Note::Reset { direction: Ingress, seq: start.wrapping_add(end), ack: Some(101) }];
    let notes: [&dyn Fn(u32) -> Vec<Note>; 4] = [&targets, &buyers, &confirmed, &reset];
    let (known, alone) = (all / 8 + (256 << 10), all / 16 + (64 << 10));
    let limits = [(1, known), (0, alone), (0, known), (1, alone)];
    for (kind, (note, (side, less))) in notes.into_iter().zip(limits).enumerate() {
        let [is_confirmed, is_reset] = [kind == 2, kind == 3];
        let more = all + 12 * packets;
        for (end, believed) in [
            (0, None),
            (all - less, Some(all - less)),
            (all - less - 1, None),
            (all, Some(all)),
            // A reset may count a FIN. What was lost before is more than has passed, and only the other side's word is one for more.
            (all + 1, if is_reset { Some(all) } else { is_confirmed.then_some(all + 1) }),
            (all + 2, is_confirmed.then_some(all + 2)),
            (more, is_confirmed.then_some(more)),
            (more + 1, None),
        ] {
            let mut t = open();
            let bulk = (u64::from(packets), u64::from(packets) * 1500);
            t.count(&if side == 1 { counted((1, 52), bulk) } else { counted(bulk, (1, 52)) });
            note(end).iter().for_each(|n| t.note(n));
            let wanted = believed.unwrap_or(estimate);
            assert_eq!(t.settle(&mut Credit::default()).more[side], u64::from(wanted), "{kind} {side} {end}");
        }
    }
}

#[test]
fn who_says_that_less_was_sent_than_the_target_has_is_not_believed() {
    let settle = |end: u32, got: u32| {
        let mut t = open();
        t.count(&counted((100, 100 * 1500), (1, 52)));
        t.note(&fin(Egress, 101 + end));
        t.note(&Note::Fin { direction: Ingress, end: u32::MAX - 4, ack: Some(101 + got) });
        t.note(&Note::Reset { direction: Ingress, seq: u32::MAX - 4, ack: Some(101) });
        t.settle(&mut Credit::default()).more[0]
    };
    let estimate = 144_800 - 144_800 / ONE_WAY_MARGIN;
    assert_eq!(settle(144_800, 144_801), 144_800);
    assert_eq!(settle(140_000, 139_000), 140_000, "the rest is on its way");
    assert_eq!(settle(140_000, 140_002), estimate);
    assert_eq!(settle(0, 144_800), estimate, "nor by the reset, which says the same");
}

#[test]
fn what_was_lost_and_comes_together_with_the_fin_is_counted() {
    // The FIN came by first; what was lost before it is sent again in one segment with it.
    let mut t = open();
    let start = u32::MAX - 4;
    for (payload, end) in [(90, 90), (500, 1090), (1000, 1090)] {
        t.seen(Ingress, 52 + payload, payload);
        t.passed(Ingress, payload, start.wrapping_add(end));
    }
    t.count(&counted((0, 0), (3, 3 * 52 + 1590)));
    t.note(&fin(Ingress, start.wrapping_add(1090)));
    let told = t.fresh()[1];
    assert_eq!(told + t.settle(&mut Credit::default()).more[1], 1090);
}

#[test]
fn counters_that_somebody_sets_back_lose_nothing_that_was_read() {
    let mut t = open();
    t.count(&counted((1, 52), (100, 100 * 1500)));
    t.count(&counted((0, 0), (50, 50 * 1500)));
    assert_eq!(t.fresh()[1], 150 * 1448 - 144_800 / ONE_WAY_MARGIN - 72_400 / ONE_WAY_MARGIN);
    t.note(&fin(Ingress, (200 * 1448_u32).wrapping_add(u32::MAX - 4)));
    let more = t.clone().settle(&mut Credit::default()).more[1];
    assert_eq!(more + t.sides[1].told, 200 * 1448, "the end is believed: more may have passed than was seen");
}

#[test]
fn packets_that_come_by_before_they_are_read_off_wait_for_the_counters() {
    let mut t = open();
    t.count(&counted((1, 1500), (0, 0)));
    t.seen(Egress, 1500, 1448);
    t.count(&counted((1, 1500), (0, 0)));
    t.count(&counted((2, 3000), (0, 0)));
    assert_eq!(t.fresh(), [1448 - 1448 / ONE_WAY_MARGIN, 0]);
}

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { pending: 8, pending_per_source: 4, handshakes: 8, handshakes_per_source: 2 };

fn v4(text: &str) -> Source {
    Source::of(text.parse().unwrap())
}

/// A table in which each of these sources has as many seats, taken at 0 ms and tagged with their numbers.
fn filled(seats: &[(&str, usize)]) -> Admission<u32> {
    let mut table = Admission::new(LIMITS);
    let mut tag = 0;
    for (source, count) in seats {
        for _ in 0..*count {
            assert_eq!(table.arrive(v4(source), 0, tag), Arrival::Seated(tag.into(), None));
            tag += 1;
        }
    }
    table
}

#[test]
fn a_source_is_an_address_or_half_of_one() {
    assert_eq!(v4("::ffff:44.1.2.3"), v4("44.1.2.3"));
    assert_ne!(v4("44.1.2.3"), v4("44.1.2.4"));
    assert_eq!(v4("44.1.2.3").group(), v4("44.1.2.200").group());
    assert_ne!(v4("44.1.2.3").group(), v4("44.1.3.3").group());
    assert_eq!(v4("2a10:1:2:3::1"), v4("2a10:1:2:3:ffff::"));
    assert_ne!(v4("2a10:1:2:3::1"), v4("2a10:1:2:4::1"));
    assert_eq!(v4("2a10:1:2:3::1").group(), v4("2a10:1:2:ffff::1").group());
    assert_ne!(v4("2a10:1:2:3::1").group(), v4("2a10:1:3:3::1").group());
}

#[test]
fn a_source_at_its_limit_gives_way_to_itself_and_not_at_once() {
    let mut table = filled(&[("44.0.0.1", 4)]);
    assert_eq!(table.arrive(v4("44.0.0.1"), GRACE_MS - 1, 9), Arrival::Refused);
    assert_eq!(table.arrive(v4("44.0.0.1"), GRACE_MS, 10), Arrival::Seated(4, Some(0)));
    assert_eq!(table.counts(), Counts { dropped: 2, late: 0 });
    assert!(table.is_flooded(GRACE_MS + FLOOD_MS - 1) && !table.is_flooded(GRACE_MS + FLOOD_MS));
}

#[test]
fn at_the_limit_the_heaviest_source_of_the_heaviest_group_gives_way() {
    // The heaviest source is not in the heaviest group.
    let mut table = filled(&[("44.1.0.1", 1), ("44.2.0.1", 3), ("44.2.0.2", 1), ("44.3.0.1", 3)]);
    assert_eq!(table.arrive(v4("44.9.0.1"), 1, 9), Arrival::Seated(8, Some(1)));
    // Now they are equal, and the longest seated goes; then the newcomers' own group is the heaviest.
    assert_eq!(table.arrive(v4("44.9.0.2"), 1, 10), Arrival::Seated(9, Some(2)));
    assert_eq!(table.arrive(v4("44.3.0.1"), 1, 11), Arrival::Refused);
    assert_eq!(table.seats.len(), LIMITS.pending);
}

#[test]
fn a_flood_from_many_addresses_leaves_room_for_one_more() {
    let mut table = Admission::new(LIMITS);
    for n in 0..10_000u32 {
        table.arrive(Source::V4(0x2c01_0000 + n % 256), u64::from(n / 10), n);
    }
    assert_eq!(table.seats.len(), LIMITS.pending);
    let Arrival::Seated(seat, Some(_)) = table.arrive(v4("44.200.0.1"), 1000, 77) else { panic!() };
    for n in 0..10_000u32 {
        table.arrive(Source::V4(0x2c01_0000 + n % 256), 1000 + u64::from(n / 10), n);
    }
    assert_eq!(table.leave(seat), Some(77), "it was not pushed out");
}

#[test]
fn a_buyer_s_source_gives_way_to_nobody_unknown() {
    let mut table = filled(&[]);
    let buyer = v4("44.5.0.1");
    table.authenticated(buyer, 0);
    table.authenticated(v4("44.6.0.1"), 0);
    // Half of all, where an unknown one had as many only by its own limit.
    for n in 0..4 {
        assert!(matches!(table.arrive(buyer, 0, n), Arrival::Seated(_, None)));
        assert!(matches!(table.arrive(v4("44.6.0.1"), 0, n), Arrival::Seated(_, None)));
    }
    assert_eq!(table.arrive(v4("44.7.0.1"), 5000, 9), Arrival::Refused);
    assert_eq!(table.arrive(buyer, 10, 9), Arrival::Refused, "its own limit holds");
    table.leave(0);
    assert!(matches!(table.arrive(v4("44.7.0.1"), 5000, 9), Arrival::Seated(_, None)));
    assert!(matches!(table.arrive(buyer, 5000, 10), Arrival::Seated(_, Some(9))), "the unknown one goes");
    // A day later it is as any other.
    assert!(table.is_known(buyer, KNOWN_MS - 1) && !table.is_known(buyer, KNOWN_MS));
}

#[test]
fn a_connection_s_seat_is_the_buyer_s_as_soon_as_the_source_is_known() {
    let mut table = filled(&[("44.5.0.1", 4), ("44.6.0.1", 4)]);
    table.authenticated(v4("44.5.0.1"), 1);
    for n in 0..4 {
        assert_eq!(table.arrive(Source::V4(n << 8), 1, n).out(), Some(4 + n));
    }
}

impl Arrival<u32> {
    fn out(self) -> Option<u32> {
        if let Arrival::Seated(_, out) = self { out } else { None }
    }
}

#[test]
fn what_is_remembered_of_buyers_is_bounded() {
    let mut table = filled(&[]);
    for n in 0..=MAX_KNOWN as u32 {
        table.authenticated(Source::V4(n), n.into());
    }
    assert_eq!(table.known.len(), MAX_KNOWN);
    assert!(!table.is_known(Source::V4(0), 1000) && table.is_known(Source::V4(1), 1000));
    assert!(table.is_known(Source::Local, u64::MAX));
}

#[test]
fn handshakes_are_granted_at_the_source_s_rate() {
    let mut table = filled(&[("44.0.0.1", 4)]);
    table.set_limits(Limits { handshakes: 100, ..LIMITS });
    (0..4).for_each(|seat| assert!(table.ask(seat, 0)));
    let mut granted = |us| std::iter::from_fn(|| table.grant(us)).collect::<Vec<_>>();
    assert_eq!(granted(0), [0, 1], "two at once");
    assert_eq!(granted(499_000), [0; 0]);
    assert_eq!(granted(500_000), [2]);
    assert_eq!(granted(1_000_000), [3]);
    assert!(!table.has_waiting());
}

#[test]
fn handshakes_of_all_sources_together_have_a_rate() {
    let mut table: Admission<u32> = Admission::new(Limits { pending: 64, ..LIMITS });
    for n in 0..40u32 {
        table.arrive(Source::V4(n << 8), 0, n);
        table.ask(n.into(), 0);
    }
    let mut granted = |us| std::iter::from_fn(|| table.grant(us)).count();
    assert_eq!(granted(0), 2, "a quarter of a second's");
    let later: usize = (1..=1000).map(|ms| granted(ms * 1000)).sum();
    assert_eq!(later, 8);
}

#[test]
fn the_next_handshake_is_a_buyer_s_then_of_the_lightest_group() {
    let mut table = Admission::new(Limits { pending: 64, pending_per_source: 16, ..LIMITS });
    let seat = |table: &mut Admission<&'static str>, source, tag| {
        let Arrival::Seated(id, None) = table.arrive(v4(source), 0, tag) else { panic!() };
        table.ask(id, 0);
    };
    seat(&mut table, "44.1.0.1", "first");
    seat(&mut table, "44.1.0.2", "same group");
    seat(&mut table, "44.1.0.3", "same group too");
    assert_eq!(table.grant(0), Some("first"));
    seat(&mut table, "44.2.0.1", "another group");
    table.authenticated(v4("44.3.0.1"), 0);
    seat(&mut table, "44.3.0.1", "buyer");
    assert_eq!(table.grant(0), Some("buyer"));
    assert_eq!(table.grant(0), Some("another group"));
    assert_eq!(table.grant(0), None, "the unknown ones' budget is used up");
    seat(&mut table, "44.3.0.1", "buyer again");
    assert_eq!(table.grant(0), Some("buyer again"), "the buyers' is not");
}

#[test]
fn a_new_network_comes_before_all_that_had_their_turn() {
    let limits = Limits { pending: 1000, handshakes: 100, ..LIMITS };
    let mut table: Admission<u32> = Admission::new(limits);
    let mut now_us = 0;
    for n in 0..500u32 {
        let Arrival::Seated(seat, None) = table.arrive(Source::V4((n % 200) << 8), now_us / 1000, n) else {
            panic!()
        };
        table.ask(seat, now_us);
        now_us += 6_000;
        while table.grant(now_us).is_some() {}
    }
    assert!(table.has_waiting(), "the flood is faster than its handshakes");
    let Arrival::Seated(seat, None) = table.arrive(v4("44.200.0.1"), now_us / 1000, 7777) else { panic!() };
    table.ask(seat, now_us);
    assert_eq!(table.grant(now_us + 10_000), Some(7777));
}

/// A seat that waits for its handshake.
fn waits(table: &mut Admission<u32>, source: u32, now_us: u64, tag: u32) -> bool {
    let Arrival::Seated(seat, None) = table.arrive(Source::V4(source), now_us / 1000, tag) else { panic!() };
    table.ask(seat, now_us)
}

#[test]
fn a_network_that_has_had_none_does_not_wait_for_those_that_take_every_turn() {
    let mut table: Admission<u32> = Admission::new(Limits { pending: 1000, handshakes: 100, ..LIMITS });
    let mut now_us = 0;
    for n in 0..500u32 {
        let may = waits(&mut table, (n % 200) << 8, now_us, n);
        assert_eq!(may, table.grant(now_us).is_some(), "whoever may not leaves all as it was");
        now_us += 6_000;
        while table.grant(now_us).is_some() {}
    }
    assert!(table.has_waiting() && table.grant(now_us).is_none(), "no turn is left for the flood");
    let new: Vec<u32> = (7000..7020).collect();
    assert!(new.iter().all(|n| waits(&mut table, n << 8, now_us, *n)));
    let at_once: Vec<u32> = std::iter::from_fn(|| table.grant(now_us)).collect();
    assert_eq!(at_once, new[..12], "half of a quarter of a second's, at the same moment");
    let rest: Vec<u32> = (1..=8).filter_map(|n| table.grant(now_us + n * 10_000)).collect();
    assert_eq!(rest, new[12..], "the others as turns come, before the flood");
}

#[test]
fn of_networks_that_have_had_none_the_one_with_the_fewest_connections_comes_first() {
    let mut table: Admission<u32> = Admission::new(Limits { pending: 1000, handshakes: 100, ..LIMITS });
    // Two of each network, from different addresses.
    for n in 0..400u32 {
        waits(&mut table, ((n % 200) << 8) | (n / 200), 0, n);
    }
    while table.grant(0).is_some() {}
    waits(&mut table, 300 << 8, 10_000, 7777);
    assert_eq!(table.grant(10_000), Some(7777), "beside 175 that came before and have had none either");
}

#[test]
fn descriptors_are_won_back_from_strangers_first() {
    let mut table = filled(&[("44.1.0.1", 1), ("44.2.0.1", 2)]);
    table.authenticated(v4("44.2.0.1"), 0);
    assert_eq!((table.shed(1), table.shed(1), table.shed(1)), (Some(0), Some(1), Some(2)));
    assert_eq!(table.shed(1), None);
}

#[test]
fn being_late_is_counted_once() {
    let mut table = filled(&[("44.1.0.1", 1)]);
    table.late(0);
    table.late(0);
    assert_eq!((table.counts().late, table.sources.len()), (1, 0));
}

proptest! {
    /// Whatever happens, the table stays within its bounds and agrees with itself.
    #[test]
    fn the_table_is_sound(steps in prop::collection::vec((0u8..6, 0u32..40, 0u64..400), 1..400)) {
        let mut table = Admission::new(LIMITS);
        let (mut now, mut known_seats) = (0u64, std::collections::BTreeSet::new());
        for (step, which, wait) in steps {
            now += wait;
            let source = Source::V4(((which / 10) << 8) | (which % 10));
            match step {
                0..=2 => {
                    let was_known = table.is_known(source, now);
                    if let Arrival::Seated(id, out) = table.arrive(source, now, table.next) {
                        if let Some(out) = out {
                            let buyer_out = known_seats.remove(&out);
                            prop_assert!(!buyer_out || was_known, "an unknown one pushed a buyer out");
                        }
                        if was_known { known_seats.insert(id); }
                    }
                }
                3 => { table.leave(u64::from(which)); known_seats.remove(&u64::from(which)); }
                4 => {
                    table.ask(u64::from(which), now * 1000);
                }
                _ => {
                    table.authenticated(source, now);
                    let held = table.sources.get(&source);
                    known_seats.extend(held.into_iter().flat_map(|h| h.seats.iter().copied()));
                }
            }
            while table.grant(now * 1000).is_some() {}
            prop_assert!(table.seats.len() <= LIMITS.pending);
            let held: usize = table.sources.values().map(|h| h.seats.len()).sum();
            prop_assert_eq!(held, table.seats.len());
            prop_assert_eq!(table.groups.values().sum::<u64>(), held as u64);
            prop_assert!(table.groups.values().all(|seats| *seats > 0));
            prop_assert_eq!(table.waiting, table.seats.values().filter(|s| s.waits).count());
            prop_assert!(table.sources.values().all(|h| !h.seats.is_empty() && (h.known || h.seats.len() <= LIMITS.pending_per_source)));
        }
    }
}

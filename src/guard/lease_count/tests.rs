use super::super::lease_rules::tests::SCOPE;
use super::super::lease_set::{self, watch};
use super::super::messages::replace;
use super::super::netlink;
use super::*;

fn devices(names: &[&str]) -> Places {
    Places::plain(names.iter().map(|n| (*n).to_owned()).collect(), 14)
}

fn dialled() -> Places {
    Places::pppoe(["eth0".to_owned()].into(), ["pppoe-wan".to_owned()].into())
}

fn grant(buyer: &str) -> Grant {
    lease_set::tests::grant(buyer, buyer)
}

fn read(batch: &[u8]) -> Found {
    let mut found = Found::of(COUNTING);
    netlink::messages(batch).for_each(|m| found.take(&m));
    found
}

#[test]
fn the_text_is_the_golden_one() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guard/testdata");
    for (name, places) in [("count", devices(&["wan0"])), ("count-pppoe", dialled())] {
        let text = render(&SCOPE, &places, true, &[grant("44.1.0.9"), grant("2a10:1::9")]).text;
        let path = format!("{data}/{name}.nft");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE_DOCS=1 cargo test writes it anew");
    }
}

#[test]
fn what_the_batch_says_is_read_back_as_the_same_table() {
    for (places, outward) in
        [devices(&["a-name-of-15-let", "eth0.2"]), dialled()].iter().flat_map(|p| [(p, true), (p, false)])
    {
        let table = render(&SCOPE, places, outward, &[grant("44.1.0.9")]).table;
        assert_eq!(read(&replace(&table)).table(), Some(&table));
    }
}

#[test]
fn a_lease_that_is_watched_is_in_the_table() {
    let grants = [grant("44.1.0.9"), grant("2a10:1::9")];
    let mut batch = replace(&render(&SCOPE, &devices(&["wan0"]), true, &[]).table);
    grants.iter().for_each(|g| batch.extend(watch(g, true)));
    let table = render(&SCOPE, &devices(&["wan0"]), true, &grants).table;
    assert_eq!(read(&batch).table(), Some(&table));
}

#[test]
fn there_is_room_for_four_devices() {
    assert!(!devices(&[]).have_room());
    assert!(devices(&["a", "b", "c", "d"]).have_room());
    assert!(!devices(&["a", "b", "c", "d", "e"]).have_room());
}

fn counted(ct: CtId, from: (u64, u64), to: (u64, u64)) -> Counted {
    Counted { ct, packets: [from.0, to.0], bytes: [from.1, to.1] }
}

fn of(packets: u64, bytes: u64) -> Amount {
    Amount { packets, bytes }
}

#[test]
fn connection_tracking_is_added_up() {
    let mut sums = Sums::default();
    sums.all(&[counted(1, (2, 100), (3, 300)), counted(2, (1, 50), (0, 0))]);
    sums.all(&[counted(1, (4, 200), (5, 900)), counted(2, (1, 50), (0, 0))]);
    sums.closed(&counted(1, (5, 250), (6, 960)));
    // One that nobody had seen alive.
    sums.closed(&counted(3, (1, 60), (1, 40)));
    assert_eq!((sums.flows, sums.tracked), (3, [of(7, 360), of(7, 1000)]));
    // The number of a connection that is gone may come back.
    sums.closed(&counted(1, (1, 60), (1, 40)));
    assert_eq!((sums.flows, sums.tracked), (4, [of(8, 420), of(8, 1040)]));
}

#[test]
fn counters_set_back_are_counted_on_from_zero() {
    let mut sums = Sums::default();
    sums.track(&counted(1, (9, 900), (9, 9000)));
    sums.track(&counted(1, (2, 200), (10, 10_000)));
    assert_eq!(sums.tracked, [of(11, 1100), of(10, 10_000)]);
}

fn table(counters: [(u64, u64); 2]) -> Found {
    let mut found = read(&replace(&render(&SCOPE, &devices(&["wan0"]), true, &[]).table));
    for (name, (packets, bytes)) in COUNTERS.into_iter().zip(counters) {
        let mut w = netlink::Writer::default();
        w.message((10 << 8 | 18, 0, 0), &[5, 0, 0, 0], |w| {
            w.put_text(1, COUNTING);
            w.put_text(2, name);
            w.put_be32(3, 1);
            w.nest(4, |w| {
                w.put(1, &bytes.to_be_bytes());
                w.put(2, &packets.to_be_bytes());
            });
        });
        netlink::messages(&w.finish()).for_each(|m| found.take(&m));
    }
    found
}

#[test]
fn the_tables_counters_are_added_up_without_the_lines_header() {
    let mut sums = Sums::default();
    assert!(sums.read(&table([(1, 60), (2, 128)]), [0, 14]));
    assert!(sums.read(&table([(3, 160), (4, 256)]), [0, 14]));
    assert_eq!(sums.seen, [of(3, 160), of(4, 200)]);
    // Another table, whose counters begin at zero.
    sums.from_zero();
    assert!(sums.read(&table([(1, 40), (1, 54)]), [0, 14]));
    assert_eq!(sums.seen, [of(4, 200), of(5, 240)]);
    assert!(!sums.read(&table([(0, 0), (1, 54)]), [0, 14]), "somebody has set a counter back");
}

#[test]
fn a_new_round_begins_with_what_lives() {
    let mut sums = Sums::default();
    sums.track(&counted(1, (9, 900), (9, 9000)));
    assert!(sums.read(&table([(9, 900), (0, 0)]), [0, 0]));
    sums.begin();
    assert_eq!(
        (sums.round, sums.flows, sums.tracked, sums.seen),
        (1, 1, Default::default(), Default::default())
    );
    sums.track(&counted(1, (10, 1000), (9, 9000)));
    assert_eq!(sums.tracked, [of(1, 100), of(0, 0)]);
}

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const BUYER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));
const TARGET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

fn of(session: &str, connection: u64) -> Ask {
    let (session, host) = (session.into(), "origin.test".into());
    Ask { session, connection, buyer: BUYER, host, target: TARGET, capped: false }
}

fn random(n: u64) -> Random {
    Random { id: u128::from(n).to_be_bytes(), port: n.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

fn granted(table: &mut Table, ask: Ask, n: u64, now_ms: u64) -> LeaseNo {
    let no = table.ask(ask, random(n), now_ms).unwrap().no;
    assert!(table.granted(no));
    no
}

#[test]
fn a_session_has_64_and_the_node_256() {
    let mut table = Table::new((40000, 40999));
    for n in 0..64 {
        granted(&mut table, of("a", 1), n, 0);
    }
    assert_eq!(table.ask(of("a", 1), random(64), 0), Err(Full::Session));
    for n in 64..256 {
        granted(&mut table, of(["b", "c", "d"][n as usize % 3], 2), n, 0);
    }
    assert_eq!(table.ask(of("e", 3), random(256), 0), Err(Full::Node));
    let first = table.iter().next().unwrap().no;
    assert!(table.end(first));
    assert_eq!(
        table.ask(of("e", 3), random(257), 0),
        Err(Full::Node),
        "the guard has not said that it is gone"
    );
    assert!(table.ended(first, 0).is_some());
    assert!(table.ask(of("e", 3), random(258), 0).is_ok());
}

#[test]
fn a_port_rests_and_the_longest_rested_is_next() {
    let mut table = Table::new((50000, 50001));
    let (a, b) = (granted(&mut table, of("a", 1), 0, 0), granted(&mut table, of("a", 1), 1, 0));
    let (first, second) = (table.get(a).unwrap().port, table.get(b).unwrap().port);
    assert_ne!(first, second);
    assert_eq!(table.ask(of("a", 1), random(2), 0), Err(Full::Node));
    table.ended(a, 1_000);
    table.ended(b, 2_000);
    assert_eq!(table.ask(of("a", 1), random(2), 1_000 + MIN_REST_MS - 1), Err(Full::Node));
    assert_eq!(table.ask(of("a", 1), random(2), 1_000 + MIN_REST_MS).unwrap().port, first);
    assert_eq!(table.ask(of("a", 1), random(3), 1_000 + MIN_REST_MS), Err(Full::Node));
    assert_eq!(table.ask(of("a", 1), random(3), 2_000 + REST_MS).unwrap().port, second);
}

#[test]
fn ports_are_chosen_by_the_random_number() {
    let port = |n| {
        let mut table = Table::new((40000, 40999));
        table.ask(of("a", 1), Random { id: [0; 16], port: n }, 0).unwrap().port
    };
    assert_eq!((port(0), port(999), port(1000), port(u64::MAX)), (40000, 40999, 40000, 40615));
    let mut whole = Table::new((65535, 65535));
    assert_eq!(whole.ask(of("a", 1), random(9), 0).unwrap().port, 65535);
}

#[test]
fn it_ends_with_its_connection_its_session_or_its_time() {
    let mut table = Table::new((40000, 40999));
    let a1 = granted(&mut table, of("a", 1), 1, 0);
    let a2 = granted(&mut table, of("a", 2), 2, 0);
    let b3 = granted(&mut table, of("b", 3), 3, 5);
    assert_eq!(table.end_of_connection(1), [a1]);
    assert_eq!(table.end_of_connection(1), [0; 0], "once is enough");
    assert_eq!(table.end_where(|l| *l.ask.session == *"a"), [a2]);
    assert_eq!((table.expire(5 + TTL_MS - 1), table.next_expiry_ms()), (vec![], Some(5 + TTL_MS)));
    assert_eq!((table.expire(5 + TTL_MS), table.next_expiry_ms()), (vec![b3], None));
    assert!(!table.end(b3));
}

#[test]
fn only_a_live_lease_is_renewed() {
    let mut table = Table::new((40000, 40999));
    let no = table.ask(of("a", 1), random(1), 0).unwrap().no;
    assert!(table.renew(no, 1).is_none(), "the guard has not granted it");
    table.granted(no);
    let renewed =
        |table: &mut Table, at| table.renew(no, at).map(|(l, is_told)| (l.expires_ms, l.ttl_s(at), is_told));
    let soon = RENEWAL_PAUSE_MS - 1;
    assert_eq!(renewed(&mut table, soon), Some((TTL_MS, 591, false)), "it has nearly all of it left");
    assert_eq!(renewed(&mut table, soon + 1), Some((TTL_MS + RENEWAL_PAUSE_MS, 600, true)));
    assert_eq!(renewed(&mut table, TTL_MS - 1), Some((2 * TTL_MS - 1, 600, true)));
    assert!(table.renew(no, 2 * TTL_MS - 1).is_none(), "its time is over");
    assert!(table.end(no) && table.renew(no, TTL_MS).is_none());
    assert!(!table.granted(no), "an answer that comes late does not bring it back");
}

#[test]
fn a_lease_is_found_by_its_owner_alone() {
    let mut table = Table::new((40000, 40999));
    let no = granted(&mut table, of("a", 1), 0xab, 0);
    let (id, port) = table.get(no).map(|l| (l.id.clone(), l.port)).unwrap();
    assert_eq!(id, format!("{:032x}", 0xab));
    assert_eq!(table.find(&id, "a").map(|l| l.no), Some(no));
    assert_eq!((table.find(&id, "b"), table.find(&id[..31], "a")), (None, None));
    assert_eq!(table.at_port(port, BUYER).map(|l| l.no), Some(no));
    assert_eq!(table.at_port(port, "::ffff:198.51.100.7".parse().unwrap()).map(|l| l.no), Some(no));
    assert_eq!((table.at_port(port, TARGET), table.at_port(port ^ 1, BUYER)), (None, None));
    table.end(no);
    assert_eq!((table.find(&id, "a"), table.at_port(port, BUYER)), (None, None));
}

#[test]
fn when_all_are_gone_every_port_rests() {
    let mut table = Table::new((40000, 40001));
    granted(&mut table, of("a", 1), 1, 0);
    granted(&mut table, of("b", 1), 2, 0);
    assert_eq!(table.gone(7).len(), 2);
    assert_eq!((table.iter().count(), table.ask(of("a", 1), random(3), 7)), (0, Err(Full::Node)));
}

#[test]
fn a_capped_session_has_one_class_and_there_are_64() {
    let mut table = Table::new((40000, 40999));
    let capped = |session: &str| Ask { capped: true, ..of(session, 1) };
    assert_eq!(table.ask(of("plain", 1), random(0), 0).unwrap().class, 0);
    for n in 1..=64 {
        for twin in 0..2 {
            let lease = table.ask(capped(&n.to_string()), random(2 * n + twin), 0).unwrap();
            assert_eq!(u64::from(lease.class), n);
        }
    }
    assert_eq!(table.ask(capped("65"), random(999), 0), Err(Full::Node));
    let of_7: Vec<LeaseNo> = table.end_where(|l| *l.ask.session == *"7");
    of_7.iter().for_each(|no| drop(table.ended(*no, 0)));
    assert_eq!(table.ask(capped("65"), random(999), 0).unwrap().class, 7);
}

proptest! {
    /// Whatever happens, in whatever order: numbers, names and ports are nobody else's, and every bound holds.
    #[test]
    fn nothing_is_given_twice(steps in prop::collection::vec((0u8..6, 0u64..5, any::<u64>()), 1..400)) {
        let mut table = Table::new((40000, 40029));
        let mut now_ms = 0;
        for (n, (what, session, luck)) in steps.into_iter().enumerate() {
            now_ms += luck % 3000;
            let pick = table.iter().nth(luck as usize % 40).map(|l| l.no);
            match (what, pick) {
                (0..=2, _) => {
                    let random = Random { id: (n as u128).to_be_bytes(), port: luck };
                    let before: Vec<u16> = table.iter().map(|l| l.port).collect();
                    if let Ok(lease) = table.ask(of(&session.to_string(), session), random, now_ms) {
                        prop_assert!(!before.contains(&lease.port) && (40000..=40029).contains(&lease.port));
                    }
                }
                (3, Some(no)) => drop(table.ended(no, now_ms)),
                (4, Some(no)) => drop(table.granted(no)),
                (4, None) => drop(table.expire(now_ms)),
                _ => drop(table.end_of_connection(session)),
            }
            let ports: BTreeSet<u16> = table.iter().map(|l| l.port).collect();
            prop_assert_eq!(ports.len(), table.iter().count());
            prop_assert!(table.resting.keys().all(|p| !ports.contains(p)) && table.resting.len() <= 30);
        }
    }
}

use super::super::lease_rules::tests::SCOPE;
use super::super::ranges::denied;
use super::*;
use crate::policy::addresses::Prefix;

fn own() -> Vec<Prefix> {
    vec![("44.2.2.0".parse().unwrap(), 24), ("2a10:2::".parse().unwrap(), 64)]
}

fn a_grant(no: LeaseNo) -> Grant {
    Grant {
        no,
        buyer: "44.1.0.9".parse().unwrap(),
        port: 40_000 + u16::try_from(no).unwrap(),
        target: "44.9.0.9".parse().unwrap(),
        ttl_s: 600,
        new_per_second: 20,
        burst: 40,
        cap_kbps: 0,
        class: 0,
    }
}

/// A book, and what it was told about the place.
struct World {
    book: Book,
    denied: (Ranges, Ranges),
    possible: bool,
}

impl World {
    fn new() -> World {
        World { book: Book::default(), denied: denied(&own()), possible: true }
    }

    fn grant(&mut self, grant: Grant, now_ms: u64) -> Vec<Action> {
        let site = Site { scope: &SCOPE, denied: (&self.denied.0, &self.denied.1), possible: self.possible };
        self.book.grant(grant, &site, now_ms)
    }

    fn denial(&mut self, grant: Grant) -> Option<Denial> {
        let before = self.book.grants().count();
        match self.grant(grant, 0).as_slice() {
            [Action::Say(LeaseReport::Denied { no, why })] => {
                assert_eq!((*no, before), (grant.no, self.book.grants().count()));
                Some(*why)
            }
            _ => None,
        }
    }
}

fn granted(no: LeaseNo) -> Action {
    Action::Say(LeaseReport::Granted { no })
}

fn ended(no: LeaseNo) -> Action {
    Action::Say(LeaseReport::Ended { no })
}

#[test]
fn the_first_lease_builds_the_table_and_the_last_one_leaves_it_for_a_while() {
    let mut w = World::new();
    assert_eq!(w.grant(a_grant(1), 0), [Action::Build(1), Action::Add(a_grant(1)), granted(1)]);
    assert_eq!(w.grant(a_grant(2), 0), [Action::Add(a_grant(2)), granted(2)]);
    assert_eq!(w.book.of(a_grant(2).buyer, 40_002), Some(&a_grant(2)));
    assert_eq!(w.book.of(a_grant(2).target, 40_002), None);
    assert_eq!(w.book.end(1, 5), [Action::Remove(a_grant(1)), ended(1)]);
    assert_eq!(w.book.end(1, 6), [ended(1)], "what is not there has ended");
    w.book.end(2, 10);
    assert_eq!((w.book.due_ms(), w.book.built), (Some(60_010), true));
    assert_eq!(w.grant(a_grant(3), 60_000), [Action::Add(a_grant(3)), granted(3)], "it still stands");
    w.book.end(3, 60_000);
    assert_eq!(w.book.expire(119_999), []);
    assert_eq!(w.book.expire(120_000), [Action::Clear]);
    assert_eq!((w.book.due_ms(), w.book.built), (None, false));
}

#[test]
fn a_lease_ends_by_itself_unless_it_is_renewed() {
    let mut w = World::new();
    w.grant(Grant { ttl_s: 10, ..a_grant(1) }, 1_000);
    w.grant(Grant { ttl_s: 10, ..a_grant(2) }, 1_000);
    assert_eq!(w.book.expire(10_999), []);
    let renewed = Grant { ttl_s: 600, ..a_grant(2) };
    assert_eq!(w.book.renew(2, 600, 10_999), [Action::Renew(renewed)]);
    assert_eq!(w.book.renew(1, 600, 11_000), [], "the kernel has dropped it");
    assert_eq!(w.book.renew(9, 600, 11_000), [], "there was none");
    let first = Grant { ttl_s: 10, ..a_grant(1) };
    assert_eq!(w.book.expire(11_000), [Action::Remove(first), ended(1)]);
    assert_eq!(w.book.due_ms(), Some(610_999));
}

#[test]
fn run_is_trusted_with_no_address_port_or_time() {
    let mut w = World::new();
    let at = |target: &str| Grant { target: target.parse().unwrap(), ..a_grant(1) };
    for target in
        ["192.168.1.5", "44.2.2.9", "127.0.0.1", "0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255"]
    {
        assert_eq!(w.denial(at(target)), Some(Denial::Failed), "{target}");
        let buyer = Grant { buyer: target.parse().unwrap(), ..a_grant(1) };
        assert_eq!(w.denial(buyer), Some(Denial::Failed), "buyer {target}");
    }
    let v6: IpAddr = "2a10:1::9".parse().unwrap();
    for target in
        ["::1", "fe80::1", "fd00::1", "2a10:2::5", "2002::1", "64:ff9b::c0a8:105", "::ffff:44.9.0.9"]
    {
        assert_eq!(w.denial(Grant { buyer: v6, ..at(target) }), Some(Denial::Failed), "{target}");
    }
    assert_eq!(w.denial(at("2a10:9::9")), Some(Denial::Failed), "the other family");
    for port in [0, 443, 39_999, 41_000] {
        assert_eq!(w.denial(Grant { port, ..a_grant(1) }), Some(Denial::Failed), "port {port}");
    }
    for ttl_s in [0, 601, u16::MAX] {
        assert_eq!(w.denial(Grant { ttl_s, ..a_grant(1) }), Some(Denial::Failed), "{ttl_s} s");
    }
    assert!(!w.book.built);
    assert_eq!(w.denial(Grant { buyer: v6, ..at("2a10:9::9") }), None);
}

#[test]
fn a_port_and_a_number_have_one_lease() {
    let mut w = World::new();
    w.grant(a_grant(1), 0);
    let other = Grant { buyer: "44.1.0.10".parse().unwrap(), ..a_grant(1) };
    assert_eq!(w.denial(Grant { no: 2, ..other }), Some(Denial::Failed), "port");
    assert_eq!(w.denial(Grant { port: 40_900, ..other }), Some(Denial::Failed), "number");
    w.possible = false;
    assert_eq!(w.denial(a_grant(3)), Some(Denial::Failed));
}

#[test]
fn there_are_256_at_most() {
    let mut w = World::new();
    for no in 1..=256 {
        assert_eq!(w.denial(a_grant(no)), None);
    }
    assert_eq!(w.denial(a_grant(257)), Some(Denial::Full));
    w.book.end(7, 0);
    assert_eq!(w.denial(a_grant(257)), None);
}

#[test]
fn what_fails_is_denied_or_ends_everything() {
    let gone = [Action::Clear, Action::Say(LeaseReport::Gone)];
    let not = |no| Action::Say(LeaseReport::Denied { no, why: Denial::Failed });
    let mut w = World::new();
    w.grant(a_grant(1), 0);
    assert_eq!(w.book.failed(&Action::Build(1), 0), [&gone[..], &[not(1)]].concat());
    assert!(w.book.is_empty() && !w.book.built);
    w.grant(a_grant(1), 0);
    w.grant(a_grant(2), 0);
    assert_eq!(w.book.failed(&Action::Add(a_grant(2)), 0), [not(2)]);
    assert_eq!(w.book.grants().count(), 1, "the other one lives on");
    for action in [Action::Renew(a_grant(1)), Action::Remove(a_grant(1)), Action::Clear] {
        w.grant(a_grant(1), 0);
        assert_eq!(w.book.failed(&action, 0), gone);
        assert!(w.book.is_empty() && !w.book.built);
    }
}

mod read_back {
    use super::super::super::lease_rules::tests::example;
    use super::super::super::lease_set::add;
    use super::super::super::messages::{NEW_ELEMENTS, number, replace};
    use super::super::super::netlink::{Writer, attribute, attributes, messages};
    use super::super::super::table::LEASES;
    use super::*;

    /// What a kernel says that took these leases, with so much time left.
    fn kernel(grants: &[Grant], left_ms: u64, only: Option<&str>) -> Found {
        let mut found = Found::of(LEASES);
        messages(&replace(&example().table)).for_each(|m| found.take(&m));
        for batch in grants.iter().map(add) {
            for message in messages(&batch).filter(|m| m.kind == number(NEW_ELEMENTS)) {
                let body = message.body.get(4..).unwrap();
                let element = attribute(attribute(body, 3).unwrap(), 1).unwrap();
                let set = super::super::super::netlink::text(body, 2).unwrap();
                if only.is_some_and(|o| o != set) {
                    continue;
                }
                let mut w = Writer::default();
                w.message((message.kind, 0, 0), &[1, 0, 0, 0], |w| {
                    w.put_text(1, LEASES);
                    w.put_text(2, set);
                    w.nest(3, |w| {
                        w.nest(1, |w| {
                            attributes(element).for_each(|(kind, value)| w.put(kind, value));
                            w.put(5, &left_ms.to_be_bytes());
                        });
                    });
                });
                messages(&w.finish()).for_each(|m| found.take(&m));
            }
        }
        found
    }

    #[test]
    fn the_kernels_elements_are_the_books() {
        let v6 =
            Grant { buyer: "2a10:1::9".parse().unwrap(), target: "2a10:9::9".parse().unwrap(), ..a_grant(2) };
        let mut w = World::new();
        w.grant(a_grant(1), 0);
        w.grant(v6, 0);
        let all = [a_grant(1), v6];
        assert!(w.book.is_whole(&kernel(&all, 599_000, None), 1_000));
        assert!(!w.book.is_whole(&Found::of(LEASES), 0), "no table");
        assert!(!w.book.is_whole(&kernel(&all[..1], 599_000, None), 1_000), "one is missing");
        assert!(
            !w.book.is_whole(&kernel(&[a_grant(1), v6, a_grant(3)], 599_000, None), 1_000),
            "one too many"
        );
        assert!(!w.book.is_whole(&kernel(&all, 900_000, None), 1_000), "more time than was given");
        let elsewhere = Grant { target: "44.9.0.10".parse().unwrap(), ..a_grant(1) };
        assert!(!w.book.is_whole(&kernel(&[elsewhere, v6], 599_000, None), 1_000), "another target");
        let faster = Grant { burst: 41, ..a_grant(1) };
        assert!(!w.book.is_whole(&kernel(&[faster, v6], 599_000, None), 1_000), "another limit");
        for only in ["open4", "leases4"] {
            assert!(!w.book.is_whole(&kernel(&all, 599_000, Some(only)), 1_000), "only {only}");
        }
        assert!(w.book.is_whole(&kernel(&[], 0, None), 599_000), "its time is about to be over");
    }
}

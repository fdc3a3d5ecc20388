use super::super::netlink::Writer;
use super::super::table::{LEASES, NAME};
use super::*;

/// First key, last key of a range, and whether it is the first beyond one.
type Element<'a> = (&'a [u8], Option<&'a [u8]>, bool);
type Expression<'a> = (&'a str, Vec<(u16, Value<'a>)>);

/// An attribute of an expression.
enum Value<'a> {
    Number(u32),
    Text(&'a str),
    Data(&'a [u8]),
    Bytes(&'a [u8]),
}
use Value::{Bytes, Data, Number, Text};

fn message(kind: u8, family: u8, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    w.message((number(kind), 0, 0), &[family, 0, 0, 0], fill);
    w.finish()
}

fn survey(rules: &[Vec<Expression<'_>>]) -> Survey {
    survey_of(1, rules)
}

/// Of rules of a table of this family (`NFPROTO_*`).
fn survey_of(family: u8, rules: &[Vec<Expression<'_>>]) -> Survey {
    let mut survey = Survey::new((40_000, 40_999), &["wan0".to_owned()].into());
    for rule in rules {
        let bytes = message(NEW_RULE, family, |w| {
            w.put_text(1, "fw4");
            w.put_text(2, "dstnat_wan");
            w.nest(4, |w| rule.iter().for_each(|e| expression(w, e)));
        });
        nl::messages(&bytes).for_each(|m| survey.take_rule(&m));
    }
    survey
}

fn expression(w: &mut Writer, (name, attributes): &Expression<'_>) {
    w.nest(1, |w| {
        w.put_text(1, name);
        w.nest(2, |w| {
            for (kind, value) in attributes {
                match value {
                    Number(n) => w.put_be32(*kind, *n),
                    Text(t) => w.put_text(*kind, t),
                    Data(d) => w.nest(*kind, |w| w.put(1, d)),
                    Bytes(b) => w.put(*kind, b),
                }
            }
        });
    });
}

fn load(name: &'static str, list: [(u16, u32); 4]) -> Expression<'static> {
    (name, list.into_iter().map(|(kind, n)| (kind, Number(n))).collect())
}

fn dport() -> Expression<'static> {
    load("payload", [(1, 1), (2, 2), (3, 2), (4, 2)])
}

fn meta(key: u32) -> Expression<'static> {
    ("meta", vec![(1, Number(1)), (2, Number(key))])
}

fn compare(operation: u32, value: &[u8]) -> Expression<'_> {
    ("cmp", vec![(1, Number(1)), (2, Number(operation)), (3, Data(value))])
}

fn dnat() -> Expression<'static> {
    ("nat", vec![(1, Number(1)), (2, Number(2))])
}

fn lookup(set: &str, register: u32) -> Expression<'_> {
    ("lookup", vec![(1, Text(set)), (2, Number(register))])
}

fn says(rule: Vec<Expression<'_>>) -> Option<String> {
    survey(&[rule]).claim()
}

#[test]
fn a_mapping_in_the_range_is_found_and_named() {
    let at =
        |port: u16| says(vec![meta(16), compare(0, &[6]), dport(), compare(0, &port.to_be_bytes()), dnat()]);
    let said = at(40_005).unwrap();
    assert_eq!(
        said,
        "lease.ports 40000-40999: a redirection in table fw4, chain dstnat_wan has port 40005; choose another range"
    );
    assert!(at(40_000).is_some() && at(40_999).is_some());
    assert_eq!((at(39_999), at(41_000), at(443)), (None, None, None));
    assert!(says(vec![dport(), compare(0, &40_005u16.to_be_bytes()), ("redir", vec![])]).is_some());
    let source = ("nat", vec![(1, Number(0))]);
    assert_eq!(says(vec![dport(), compare(0, &40_005u16.to_be_bytes()), source]), None, "its own way out");
    assert_eq!(says(vec![dport(), compare(0, &40_005u16.to_be_bytes())]), None, "no redirection");
}

/// `struct xt_tcp`: destination ports, and the flags of what is meant the other way round.
fn xt_tcp(first: u16, last: u16, inverted: u8) -> Vec<u8> {
    let ports = [0, u16::MAX, first, last].map(u16::to_ne_bytes);
    [ports.as_flattened(), &[0, 0, 0, inverted]].concat()
}

fn target(name: &str) -> Expression<'_> {
    ("target", vec![(1, Text(name)), (2, Number(0))])
}

#[test]
fn redirections_of_iptables_are_found() {
    let by_match = |name: &str, info: &[u8], to: &str| {
        says(vec![("match", vec![(1, Text(name)), (2, Number(0)), (3, Bytes(info))]), target(to)])
    };
    for name in ["DNAT", "REDIRECT", "NETMAP", "TPROXY"] {
        assert!(by_match("tcp", &xt_tcp(40_010, 40_010, 0), name).unwrap().contains("port 40010;"), "{name}");
        assert_eq!(by_match("tcp", &xt_tcp(80, 443, 0), name), None, "{name}");
    }
    assert!(by_match("tcp", &xt_tcp(39_000, 40_001, 0), "DNAT").unwrap().contains("ports 40000-40001;"));
    assert!(by_match("tcp", &xt_tcp(80, 80, 2), "DNAT").unwrap().contains("all ports"), "all but one");
    assert!(by_match("tcp", &[0; 4], "DNAT").unwrap().contains("all ports"), "cut off");
    assert!(by_match("multiport", &[0; 48], "DNAT").unwrap().contains("all ports"), "not understood");
    assert_eq!(by_match("udp", &xt_tcp(40_010, 40_010, 0), "DNAT"), None);
    assert_eq!(by_match("tcp", &xt_tcp(40_010, 40_010, 0), "MASQUERADE"), None, "its own way out");
    assert!(says(vec![("tproxy", vec![])]).is_some());
}

#[test]
fn ipv4s_protocol_is_understood_as_iptables_asks_for_it() {
    let protocol = || load("payload", [(1, 1), (2, 1), (3, 9), (4, 1)]);
    let says = |family, number| {
        survey_of(family, &[vec![protocol(), compare(0, &[number]), target("DNAT")]]).claim()
    };
    assert_eq!(says(2, 17), None, "UDP");
    assert!(says(2, 6).is_some() && says(10, 17).is_some(), "in IPv6 that is of an address");
}

#[test]
fn what_is_made_of_a_port_is_none() {
    let masked = ("bitwise", vec![(1, Number(1)), (2, Number(1))]);
    assert!(
        says(vec![dport(), masked, compare(0, &80u16.to_be_bytes()), dnat()]).unwrap().contains("all ports")
    );
}

#[test]
fn ranges_are_understood_in_each_form() {
    let b = |p: u16| p.to_be_bytes();
    let bounds = |from, to| says(vec![dport(), compare(5, &b(from)), compare(3, &b(to)), dnat()]);
    assert!(bounds(40_500, 50_000).unwrap().contains("ports 40500-40999"));
    assert_eq!(bounds(30_000, 39_999), None);
    let (from, to) = (b(39_000), b(40_000));
    let range = ("range", vec![(1, Number(1)), (2, Number(0)), (3, Data(&from)), (4, Data(&to))]);
    assert!(says(vec![dport(), range, dnat()]).unwrap().contains("port 40000;"));
    assert_eq!(says(vec![dport(), compare(2, &b(40_000)), dnat()]), None, "below");
    assert_eq!(says(vec![dport(), compare(4, &b(40_999)), dnat()]), None, "above");
}

#[test]
fn what_cannot_be_ruled_out_counts() {
    assert!(says(vec![dnat()]).unwrap().contains("has all ports"), "a host that gets everything");
    assert!(says(vec![dport(), compare(1, &22u16.to_be_bytes()), dnat()]).is_some(), "all but one");
    let device = |name: &[u8], operation| says(vec![meta(6), compare(operation, name), dnat()]);
    assert_eq!(device(b"br-lan\0\0\0\0\0\0\0\0\0\0", 0), None);
    assert!(device(b"wan0\0\0\0\0\0\0\0\0\0\0\0\0", 0).is_some());
    assert!(device(b"wa", 0).is_some(), "wa*");
    assert_eq!(device(b"wan\0\0\0\0\0\0\0\0\0\0\0\0\0", 0), None);
    assert!(device(b"br-lan\0\0\0\0\0\0\0\0\0\0", 1).is_some(), "whatever is not the LAN");
    assert_eq!(says(vec![meta(16), compare(0, &[17]), dnat()]), None, "UDP");
    assert!(says(vec![dport(), lookup("unread", 1), dnat()]).unwrap().contains("all ports"));
}

fn elements(list: &[Element<'_>]) -> Elements {
    let bytes = message(NEW_ELEMENTS, 1, |w| {
        w.nest(3, |w| {
            for (first, last, ends) in list {
                w.nest(1, |w| {
                    w.nest(1, |w| w.put(1, first));
                    if *ends {
                        w.put_be32(3, INTERVAL_END);
                    }
                    if let Some(last) = last {
                        w.nest(10, |w| w.put(1, last));
                    }
                });
            }
        });
    });
    let mut elements = Elements::default();
    nl::messages(&bytes).for_each(|m| elements.take(&m));
    elements
}

#[test]
fn sets_of_ports_are_looked_into() {
    let set = SetName { family: 1, table: "fw4".to_owned(), set: "__set0".to_owned() };
    let claim = |register, load: Expression<'static>, list: &[Element<'_>]| {
        let mut survey = survey(&[vec![load, lookup("__set0", register), dnat()]]);
        assert_eq!(survey.sets(), [set.clone()].into());
        survey.resolve(&set, &elements(list));
        assert!(survey.sets().is_empty());
        survey.claim()
    };
    let b = |p: u16| p.to_be_bytes();
    assert_eq!(claim(1, dport(), &[(&b(80), None, false), (&b(443), None, false)]), None);
    assert!(
        claim(1, dport(), &[(&b(80), None, false), (&b(40_009), None, false)])
            .unwrap()
            .contains("port 40009;")
    );
    // Ranges: 1000-39999 and 50000-end; then one that meets.
    let apart = [
        (&b(0)[..], None, true),
        (&b(1000), None, false),
        (&b(40_000), None, true),
        (&b(50_000), None, false),
    ];
    assert_eq!(claim(1, dport(), &apart), None);
    let meeting = [(&b(0)[..], None, true), (&b(1000), None, false), (&b(40_001), None, true)];
    assert!(claim(1, dport(), &meeting).unwrap().contains("port 40000;"));
    // Address and port, one behind the other.
    let second = load("payload", [(1, 9), (2, 2), (3, 2), (4, 2)]);
    let key = |p: u16| [&[44, 2, 2, 2][..], &p.to_be_bytes(), &[0, 0]].concat();
    assert!(claim(1, second, &[(&key(40_001), None, false)]).unwrap().contains("port 40001;"));
    let second = load("payload", [(1, 9), (2, 2), (3, 2), (4, 2)]);
    let (from, to) = (key(40_990), key(42_000));
    assert!(claim(1, second, &[(&from, Some(&to), false)]).unwrap().contains("ports 40990-40999;"));
}

#[test]
fn listeners_are_read_and_those_of_loopback_alone_pass() {
    let line = |local: &str, state: &str| {
        let mut survey = survey(&[]);
        survey.take_sockets(&format!(
            "  sl  local_address rem_address   st\n   0: {local} 00000000:0000 {state} 0\n"
        ));
        survey.claim()
    };
    let word = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
    assert!(
        line(&format!("{}:9C41", word([0; 4])), "0A").unwrap().contains("0.0.0.0 port 40001 has port 40001")
    );
    assert_eq!(line(&format!("{}:9C41", word([0; 4])), "01"), None, "a connection");
    assert_eq!(line(&format!("{}:9C41", word([127, 0, 0, 1])), "0A"), None);
    assert_eq!(line(&format!("{}:1F90", word([0; 4])), "0A"), None);
    let zero = word([0; 4]);
    assert!(line(&format!("{zero}{zero}{zero}{zero}:9C41"), "0A").unwrap().contains(":: port 40001"));
    assert_eq!(line(&format!("{zero}{zero}{zero}{}:9C41", word([0, 0, 0, 1])), "0A"), None);
    assert_eq!(line("xyz", "0A"), None);
}

#[test]
fn own_tables_are_no_claim_and_claims_are_bounded() {
    let mut survey = Survey::new((40_000, 40_999), &SortedSet::new());
    for table in [LEASES, NAME] {
        let bytes = message(NEW_RULE, 1, |w| {
            w.put_text(1, table);
            w.put_text(2, "lease_dnat");
            w.nest(4, |w| expression(w, &dnat()));
        });
        nl::messages(&bytes).for_each(|m| survey.take_rule(&m));
    }
    assert_eq!(survey.claim(), None);
    for port in 40_000..40_200 {
        survey.take_listener("44.2.2.2".parse().unwrap(), port);
    }
    assert_eq!(survey.claims.len(), MAX_CLAIMS);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_taken(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), text in ".{0,200}") {
        let mut survey = survey(&[]);
        let bytes = message(NEW_RULE, 1, |w| {
            w.put_text(1, "t");
            w.put_text(2, "c");
            w.put(4, &data);
        });
        nl::messages(&bytes).for_each(|m| survey.take_rule(&m));
        survey.take_sockets(&text);
        let mut elements = Elements::default();
        let bytes = message(NEW_ELEMENTS, 1, |w| w.put(3, &data));
        nl::messages(&bytes).for_each(|m| elements.take(&m));
        let _ = (survey.claim(), elements.ports(4));
    }
}

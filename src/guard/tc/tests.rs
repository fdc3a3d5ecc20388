use super::super::netlink::{Message, Writer, attributes, messages, u32_at};
use super::*;

/// What `tc` sends and the kernel answers, by name.
#[cfg(target_endian = "little")]
fn golden(name: &str) -> Vec<u8> {
    let text = include_str!("../testdata/tc.txt");
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
}

fn written(seq: u32, step: &Step) -> Vec<u8> {
    let mut w = Writer::default();
    write(&mut w, seq, 3, step);
    w.finish()
}

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const PLACE: Place = Place { family: Family::V4, side: Side::Destination, bucket: 0x2a, node: 3 };

#[cfg(target_endian = "little")]
#[test]
fn steps_are_those_of_tc() {
    let v4 = Ends { from: end("203.0.113.7:40001"), to: end("198.51.100.9:53546") };
    let v6 = Ends { from: end("[2001:db8::7]:53546"), to: end("[2001:db8:1::9]:443") };
    let place6 = Place { family: Family::V6, side: Side::Source, bucket: 0x2a, node: 1 };
    for (name, step) in [
        ("root", Step::Root),
        ("leaf", Step::Queue(0x101, Queue::Plain(64))),
        ("table", Step::Table(Family::V4, Side::Destination)),
        ("table6", Step::Table(Family::V6, Side::Source)),
        ("link", Step::Link(Family::V4, Side::Destination)),
        ("link6", Step::Link(Family::V6, Side::Source)),
        ("fragment", Step::Fragments(Family::V4, 2)),
        ("fragment6", Step::Fragments(Family::V6, 0)),
        ("filter", Step::Filter(PLACE, v4, 0x101)),
        ("filter6", Step::Filter(place6, v6, 0x101)),
        ("unfilter", Step::RemoveFilter(PLACE)),
        ("unclass", Step::RemoveClass(0x102)),
        ("unroot", Step::RemoveRoot),
    ] {
        let tc = golden(name);
        let seq = messages(&tc).next().unwrap().seq;
        assert_eq!(written(seq, &step), tc, "{name}");
    }
    for (name, what) in
        [("ask_qdiscs", Ask::Qdiscs), ("ask_classes", Ask::Classes), ("ask_filters", Ask::Filters)]
    {
        let tc = golden(name);
        let seq = messages(&tc).next().unwrap().seq;
        let device = if what == Ask::Qdiscs { 0 } else { 3 };
        assert_eq!(ask(what, seq, device), tc, "{name}");
    }
}

#[cfg(target_endian = "little")]
#[test]
fn a_class_is_that_of_tc_but_for_its_tables() {
    let tc = golden("class");
    let rate = Rate { rate: 625_000, ceil: 5_000_000_000, burst: 65_536, priority: 1 };
    let seq = messages(&tc).next().unwrap().seq;
    let ours = written(seq, &Step::Class(0x101, 1, rate));
    assert_eq!(ours.len(), tc.len());
    let split = |data: &[u8]| {
        let head = data[..44].to_vec();
        let options: Vec<(u16, Vec<u8>)> = attributes(&data[48..]).map(|(k, v)| (k, v.to_vec())).collect();
        (head, options)
    };
    let ((our_head, ours), (tc_head, mut tc)) = (split(&ours), split(&tc));
    assert_eq!(our_head, tc_head);
    let parms = &mut tc.last_mut().unwrap().1;
    for ratespec in [0, 12] {
        // Of the table: log of a cell and alignment.
        parms[ratespec] = 0;
        parms[ratespec + 4..ratespec + 6].fill(0);
    }
    for burst in [24, 28] {
        let (our, theirs) = (u32_at(&ours.last().unwrap().1, burst), u32_at(parms, burst));
        assert!(our.unwrap().abs_diff(theirs.unwrap()) <= 16, "{our:?} {theirs:?}: tc rounds down");
        parms[burst..burst + 4].copy_from_slice(&our.unwrap().to_ne_bytes());
    }
    assert_eq!(ours, tc);
}

#[cfg(target_endian = "little")]
#[test]
fn the_kernels_answers_are_read() {
    let mut found = Found::of(3);
    for name in ["qdiscs", "classes", "filters"] {
        messages(&golden(name)).for_each(|m| found.take(&m));
    }
    assert_eq!(found.root, Root::Ours);
    assert_eq!(found.classes, [1, 0x101].into());
    assert_eq!(found.filters, [PLACE.handle(), 0x0062_a001].into());
    assert_eq!(found.links, [0x8000_0002, 0x8010_0001].into());
    let qdiscs = golden("qdiscs");
    assert_eq!(messages(&qdiscs).filter_map(|m| ours(&m)).collect::<Vec<_>>(), [3]);
    let mut other = Found::of(2);
    messages(&qdiscs).for_each(|m| other.take(&m));
    assert_eq!(other.root, Root::Kernel, "the kernel's own is there by no number");
}

/// A root queueing discipline as the kernel tells it.
fn told(handle: u32, kind: &str, default: u32) -> Root {
    let mut w = Writer::default();
    w.message((NEW_QDISC, 0, 1), &head(3, handle, ROOT, 0), |w| {
        w.put_text(KIND, kind);
        w.nest(OPTIONS, |w| w.put(HTB_INIT, &[3, 10, default, 0, 0].map(u32::to_ne_bytes).concat()));
    });
    let data = w.finish();
    let mut found = Found::of(3);
    messages(&data).for_each(|m| found.take(&m));
    assert_eq!(messages(&data).next().and_then(|m| ours(&m)).is_some(), found.root == Root::Ours);
    found.root
}

#[test]
fn what_somebody_configured_is_not_ours() {
    assert_eq!(told(HANDLE, "htb", 0xfffe), Root::Ours);
    assert_eq!(told(0, "fq_codel", 0), Root::Kernel);
    assert_eq!(told(0x8001_0000, "cake", 0), Root::Other("cake".to_owned()));
    assert_eq!(told(HANDLE, "cake", 0xfffe), Root::Other("cake".to_owned()));
    assert_eq!(told(HANDLE, "htb", 0x30), Root::Other("htb".to_owned()), "the same number by chance");
    assert_eq!(told(0x0001_0000, "htb", 0xfffe), Root::Other("htb".to_owned()));
}

#[test]
fn only_anothers_changes_on_the_line_are_foreign() {
    let report = |kind, device, port| {
        let body = head(device, 0, 0, 0);
        is_foreign(&Message { kind, flags: 0, seq: 0, port, body: &body }, 3, 77)
    };
    assert!(report(DELETE_FILTER, 3, 78) && report(NEW_QDISC, 3, 0), "another program's, the kernel's");
    assert!(!report(NEW_FILTER, 3, 77), "our own");
    assert!(!report(NEW_FILTER, 4, 78), "another device's");
    assert!(!report(16, 3, 78), "a link's");
}

#[test]
fn ends_of_two_families_are_no_flow() {
    let (v4, v6) = (end("192.0.2.1:1"), end("[2001:db8::1]:2"));
    assert_eq!(Ends { from: v4, to: v6 }.family(), None);
    assert_eq!(Ends { from: v6, to: v6 }.family(), Some(Family::V6));
}

//! What is sent of leases is what is read, within its bounds.
use super::super::protocol::{MAX_MESSAGE, MAX_REQUEST, Malformed, Report, Request, VERSION};
use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn grant() -> Grant {
    Grant {
        no: 0x0102_0304,
        buyer: ip("84.1.1.2"),
        port: 20_000,
        target: ip("93.184.216.34"),
        ttl_s: MAX_TTL_S,
        new_per_second: 20,
        burst: 40,
        cap_kbps: 80_000,
        class: MAX_CLASS,
    }
}

fn able(reason: &str) -> LeaseReport {
    LeaseReport::Able(Ability {
        possible: true,
        offload: Offload::Plain,
        caps: false,
        reason: reason.to_owned(),
        max_flows: 4096,
    })
}

fn packet(length: usize) -> LeaseReport {
    LeaseReport::Packet {
        packet: 7,
        ct: 8,
        port: 20_000,
        buyer: (ip("2a02::2"), 50_000),
        reply: true,
        length: 70_000,
        bytes: vec![0x45; length],
    }
}

const COUNTER: Counted = Counted { ct: 9, packets: [1, 2], bytes: [60, u64::MAX] };

fn checked(why: &str) -> LeaseReport {
    let of = |packets, bytes| Amount { packets, bytes };
    LeaseReport::Checked(Checked {
        round: 1,
        flows: 2,
        counts: [true, false],
        tracked: [of(3, 4), of(5, 6)],
        seen: [of(7, 8), of(9, u64::MAX)],
        why: why.to_owned(),
    })
}

fn counts(flows: usize) -> LeaseReport {
    LeaseReport::Counts { list: vec![COUNTER; flows], last: true }
}

fn read(report: &LeaseReport) -> Result<LeaseReport, Malformed> {
    let message = Report::Lease(report.clone()).encode();
    assert!(message.len() <= MAX_MESSAGE, "{}", message.len());
    Report::decode(&message).map(|r| match r {
        Report::Lease(report) => report,
        other => panic!("{other:?}"),
    })
}

fn asked(request: &LeaseRequest) -> Result<Request, Malformed> {
    let message = Request::Lease(request.clone()).encode();
    assert!(message.len() <= MAX_REQUEST);
    Request::decode(&message)
}

#[test]
fn what_is_sent_is_what_is_read() {
    let reports = [
        able("fw4 offloads: flags offload"),
        able(""),
        LeaseReport::Granted { no: 1 },
        LeaseReport::Ended { no: u32::MAX },
        LeaseReport::Gone,
        packet(0),
        packet(MAX_PACKET),
        LeaseReport::Counts { list: Vec::new(), last: false },
        counts(MAX_COUNTED),
        LeaseReport::Closed(COUNTER),
        checked(""),
        checked(&"x".repeat(MAX_REASON)),
    ];
    let denied = DENIALS.map(|why| LeaseReport::Denied { no: 2, why });
    for report in reports.into_iter().chain(denied) {
        assert_eq!(read(&report), Ok(report));
    }
    let v6 = Grant { buyer: ip("2a02::1"), target: ip("::ffff:1.2.3.4"), class: 0, ..grant() };
    let requests = [
        LeaseRequest::Grant(grant()),
        LeaseRequest::Grant(v6),
        LeaseRequest::Renew { no: 3, ttl_s: 1 },
        LeaseRequest::End { no: 4 },
        LeaseRequest::EndAll,
        LeaseRequest::Kill { ct: 5 },
        LeaseRequest::Count,
    ];
    let verdicts = VERDICTS.map(|what| LeaseRequest::Verdict { packet: 6, what });
    for request in requests.into_iter().chain(verdicts) {
        assert_eq!(asked(&request), Ok(Request::Lease(request)));
    }
}

#[test]
fn the_shape_on_the_wire_is_the_one_of_version_1() {
    let request = |r: LeaseRequest| Request::Lease(r).encode();
    let wire = b"\x01\x85\x01\x02\x03\x04\x04\x54\x01\x01\x02\x04\x5d\xb8\xd8\x22\x4e\x20\x02\x58\0\x14\0\x28\0\x40\0\x01\x38\x80";
    assert_eq!(request(LeaseRequest::Grant(grant())), wire);
    assert_eq!(request(LeaseRequest::Renew { no: 1, ttl_s: 2 }), b"\x01\x86\0\0\0\x01\0\x02");
    assert_eq!(request(LeaseRequest::End { no: 1 }), b"\x01\x87\0\0\0\x01");
    assert_eq!(request(LeaseRequest::EndAll), b"\x01\x88");
    let accept = LeaseRequest::Verdict { packet: 1, what: Verdict::Accept };
    assert_eq!(request(accept), b"\x01\x89\0\0\0\x01\x01");
    assert_eq!(request(LeaseRequest::Kill { ct: 1 }), b"\x01\x8a\0\0\0\x01");
    assert_eq!(request(LeaseRequest::Count), b"\x01\x8b");

    let report = |r: LeaseReport| Report::Lease(r).encode();
    assert_eq!(report(able("no")), b"\x01\x09\x01\x01\0\0\0\x10\0no");
    assert_eq!(report(LeaseReport::Granted { no: 1 }), b"\x01\x0a\0\0\0\x01");
    assert_eq!(report(LeaseReport::Denied { no: 1, why: Denial::Failed }), b"\x01\x0b\0\0\0\x01\x01");
    assert_eq!(report(LeaseReport::Ended { no: 1 }), b"\x01\x0c\0\0\0\x01");
    assert_eq!(report(LeaseReport::Gone), b"\x01\x0d");
    let head = b"\x01\x0e\0\0\0\x07\0\0\0\x08\x4e\x20\x06\x2a\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\xc3\x50\x01\0\x01\x11\x70";
    assert_eq!(report(packet(2)), [&head[..], b"\x45\x45"].concat());
    let counted =
        b"\0\0\0\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x3c\xff\xff\xff\xff\xff\xff\xff\xff";
    assert_eq!(report(counts(1)), [&b"\x01\x0f\x01"[..], counted].concat());
    assert_eq!(report(LeaseReport::Closed(COUNTER)), [&b"\x01\x10"[..], counted].concat());
    let numbers: Vec<u8> = [3, 4, 5, 6, 7, 8, 9, u64::MAX].into_iter().flat_map(u64::to_be_bytes).collect();
    let head = b"\x01\x11\0\0\0\x01\0\0\0\0\0\0\0\x02\x01\0";
    assert_eq!(report(checked("no")), [&head[..], &numbers, b"no"].concat());
}

#[test]
fn what_is_beyond_a_bound_is_not_read() {
    let refused = |r: &LeaseRequest| assert_eq!(asked(r), Err(Malformed::Shape), "{r:?}");
    for ttl_s in [0, MAX_TTL_S + 1] {
        refused(&LeaseRequest::Renew { no: 1, ttl_s });
        refused(&LeaseRequest::Grant(Grant { ttl_s, ..grant() }));
    }
    refused(&LeaseRequest::Grant(Grant { class: MAX_CLASS + 1, ..grant() }));
    refused(&LeaseRequest::Grant(Grant { port: 0, ..grant() }));
    refused(&LeaseRequest::Grant(Grant { target: ip("2a02::1"), ..grant() }));
    assert_eq!(read(&packet(MAX_PACKET + 1)), Err(Malformed::Shape));
    assert_eq!(read(&counts(MAX_COUNTED + 1)), Err(Malformed::Shape));
    let over = [&b"\x01\x09\x01\x02\0\0\0\x10\0"[..], &[b'x'; MAX_REASON + 1]].concat();
    assert_eq!(Report::decode(&over), Err(Malformed::Shape));
    assert_eq!(Report::decode(b"\x01\x09\x01\x02\0\0\0\x10\0\xff"), Err(Malformed::Shape), "no UTF-8");
    assert_eq!(Report::decode(b"\x01\x09\x01\x03\0\0\0\x10\0"), Err(Malformed::Shape), "no such offload");
    assert_eq!(Request::decode(b"\x01\x89\0\0\0\x01\x05"), Err(Malformed::Shape), "no such verdict");
    let over = Report::Lease(checked(&"x".repeat(MAX_REASON))).encode();
    assert_eq!(Report::decode(&[&over[..], b"x"].concat()), Err(Malformed::Shape));
    assert_eq!(Report::decode(b"\x01\x12"), Err(Malformed::Shape), "no such kind");
    assert_eq!(Request::decode(b"\x01\x8c"), Err(Malformed::Shape), "no such kind");
}

#[test]
fn a_reason_is_cut_between_two_characters() {
    let Ok(LeaseReport::Able(read)) = read(&able(&"\u{20ac}".repeat(MAX_REASON))) else { panic!("not read") };
    assert_eq!(read.reason, "\u{20ac}".repeat(MAX_REASON / 3));
}

#[test]
fn what_is_cut_off_or_too_long_is_not_read() {
    // Of a packet and of counters any length of the list is one.
    let reports = [LeaseReport::Granted { no: 1 }, LeaseReport::Gone, LeaseReport::Closed(COUNTER)];
    for message in reports.map(|r| Report::Lease(r).encode()) {
        for length in 0..message.len() {
            assert_eq!(Report::decode(&message[..length]), Err(Malformed::Shape), "{length}");
        }
        assert_eq!(Report::decode(&[&message[..], &[0]].concat()), Err(Malformed::Shape));
    }
    let counted = Report::Lease(counts(2)).encode();
    assert_eq!(Report::decode(&counted[..counted.len() - 1]), Err(Malformed::Shape));
    let message = Request::Lease(LeaseRequest::Grant(grant())).encode();
    for length in 0..message.len() {
        assert_eq!(Request::decode(&message[..length]), Err(Malformed::Shape), "{length}");
    }
}

proptest! {
    #[test]
    fn what_is_read_is_what_would_be_sent(data in proptest::collection::vec(any::<u8>(), 0..80), kind in 0u8..12) {
        let message = [&[VERSION, FIRST_REPORT + kind][..], &data].concat();
        if let Ok(report) = Report::decode(&message) {
            prop_assert_eq!(report.encode(), message);
        }
        let message = [&[VERSION, FIRST_REQUEST + kind][..], &data].concat();
        if let Ok(request) = Request::decode(&message) {
            prop_assert_eq!(request.encode(), message);
        }
    }
}

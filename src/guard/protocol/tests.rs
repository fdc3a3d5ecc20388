//! What is sent is what is read, and nothing else is.
use super::*;
use proptest::prelude::*;

fn both() -> Wan {
    let uplink = |device: &str, address: &str| {
        let addresses = vec![address.parse().unwrap(); MAX_ADDRESSES];
        Some(Uplink { device: device.into(), index: 0x0102_0304, addresses })
    };
    Wan { v4: uplink("pppoe-wan", "84.1.1.2"), v6: uplink("a23456789012345", "2a02::2") }
}

const STATE: State = State { in_force: true, literals_differ: false, uid: 5310, refused: [1, 2, 3, 4, 5, 6] };

#[test]
fn what_is_sent_is_what_is_read() {
    let networks = vec![("192.168.1.0".parse().unwrap(), 24), ("fe80::".parse().unwrap(), 10)];
    let wans =
        [Wan::default(), both(), Wan { v4: None, ..both() }, Wan { v6: None, ..both() }].map(Report::Wan);
    let others = [
        Report::State(STATE),
        Report::Networks(networks),
        Report::Networks(Vec::new()),
        Report::Outward(vec!["84.1.1.1".parse().unwrap(), "2a02::1".parse().unwrap()]),
        Report::Piece { total: 5000, from: 4096, bytes: b"echomesh.".to_vec() },
        Report::Taken(7),
        Report::Written([9; 32]),
        Report::Refused(Refusal::Failed, "Keine Zeile: é.".to_owned()),
        Report::Refused(Refusal::Changed, String::new()),
    ];
    for report in others.into_iter().chain(wans) {
        assert_eq!(Report::decode(&report.encode()), Ok(report));
    }
    for request in [
        Request::ConfigChanged,
        Request::Read(4096),
        Request::Piece { from: 0, bytes: vec![b'x'; PIECE] },
        Request::Commit([1; 32]),
    ] {
        assert!(request.encode().len() <= MAX_REQUEST);
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
}

#[test]
fn the_shape_on_the_wire_is_the_one_of_version_1() {
    let piece = Report::Piece { total: 258, from: 1, bytes: b"ab".to_vec() };
    assert_eq!(piece.encode(), *b"\x01\x03\0\0\x01\x02\0\0\0\x01ab");
    assert_eq!(Report::Taken(3).encode(), *b"\x01\x04\0\0\0\x03");
    assert_eq!(Report::Refused(Refusal::Changed, "no".to_owned()).encode(), *b"\x01\x06\x01no");
    assert_eq!(Request::Read(2).encode(), *b"\x01\x82\0\0\0\x02");
    assert_eq!(Request::Piece { from: 1, bytes: b"c".to_vec() }.encode(), *b"\x01\x83\0\0\0\x01c");
    assert_eq!(Request::Commit([7; 32]).encode(), [&b"\x01\x84"[..], &[7; 32]].concat());
}

#[test]
fn a_piece_and_a_sentence_are_bounded() {
    let large = |n: usize| Request::decode(&Request::Piece { from: 0, bytes: vec![0; n] }.encode());
    assert!(large(PIECE).is_ok());
    assert_eq!(large(PIECE + 1), Err(Malformed::Shape));
    let bytes = vec![0; PIECE + 1];
    assert_eq!(
        Report::decode(&Report::Piece { total: 9999, from: 0, bytes }.encode()),
        Err(Malformed::Shape)
    );
    // A sentence is cut where it is sent, between two characters.
    let long = Report::Refused(Refusal::Failed, "é".repeat(MAX_SENTENCE));
    let Ok(Report::Refused(_, text)) = Report::decode(&long.encode()) else { panic!("not read") };
    assert_eq!(text.len(), MAX_SENTENCE);
    let over = [&b"\x01\x06\0"[..], &[b'x'; MAX_SENTENCE + 1]].concat();
    assert_eq!(Report::decode(&over), Err(Malformed::Shape));
    assert_eq!(Report::decode(b"\x01\x06\0\xff"), Err(Malformed::Shape), "no UTF-8");
}

#[test]
fn nothing_else_is_read() {
    let good = Report::State(STATE).encode();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        Report::decode(&bytes)
    };
    assert_eq!(changed(0, 2), Err(Malformed::Version));
    assert_eq!(changed(1, 17), Err(Malformed::Shape));
    assert_eq!(changed(2, 2), Err(Malformed::Shape), "neither yes nor no");
    for length in 0..good.len() {
        assert_eq!(Report::decode(&good[..length]), Err(Malformed::Shape), "{length}");
    }
    assert_eq!(Report::decode(&[&good[..], &[0]].concat()), Err(Malformed::Shape));
    assert_eq!(Request::decode(&[VERSION, 0x81, 0]), Err(Malformed::Shape));
}

#[test]
fn a_line_that_is_cut_off_or_has_an_odd_name_is_none() {
    let good = Report::Wan(both()).encode();
    for length in 0..good.len() {
        assert_eq!(Report::decode(&good[..length]), Err(Malformed::Shape), "{length}");
    }
    assert_eq!(Report::decode(&[&good[..], &[0]].concat()), Err(Malformed::Shape));
    let mut slash = good.clone();
    slash[4] = b'/';
    assert_eq!(Report::decode(&slash), Err(Malformed::Shape));
    let mut more = both();
    more.v6.as_mut().unwrap().addresses.push("2a02::3".parse().unwrap());
    assert_eq!(Report::decode(&Report::Wan(more).encode()), Err(Malformed::Shape));
}

#[test]
fn the_largest_list_is_read_and_one_more_is_not() {
    let list = vec![("10.0.0.0".parse().unwrap(), 8); MAX_NETWORKS + 1];
    let most = Report::Networks(list[1..].to_vec());
    assert_eq!(most.encode().len(), MAX_MESSAGE);
    assert_eq!(Report::decode(&most.encode()), Ok(most));
    assert_eq!(Report::decode(&Report::Networks(list).encode()), Err(Malformed::Shape));
    let wan = |n| Report::Outward(vec!["84.1.1.1".parse().unwrap(); n]);
    assert!(Report::decode(&wan(MAX_OUTWARD).encode()).is_ok());
    assert_eq!(Report::decode(&wan(MAX_OUTWARD + 1).encode()), Err(Malformed::Shape));
    let mut network = Report::Networks(vec![("84.1.1.0".parse().unwrap(), 24)]).encode();
    network[1] = 7;
    assert_eq!(Report::decode(&network), Err(Malformed::Shape), "a network is no address");
}

proptest! {
    #[test]
    fn what_is_read_is_what_would_be_sent(data in proptest::collection::vec(any::<u8>(), 0..80), kind in 1u8..9) {
        let data = [&[VERSION, kind][..], &data].concat();
        if let Ok(report) = Report::decode(&data) {
            prop_assert_eq!(report.encode(), &data[..]);
        }
        let data = [&[VERSION, 0x80 | data[1]][..], &data[2..]].concat();
        if let Ok(request) = Request::decode(&data) {
            prop_assert_eq!(request.encode(), data);
        }
    }
}

//! Against bytes that another encoder wrote after the kernel's source (struct of Python, little-endian).
#![cfg(target_endian = "little")]
use super::*;
use proptest::prelude::*;

const PACKET_BYTES: &[u8] = include_bytes!("../testdata/queue/packet.bin");
const CUT: &[u8] = include_bytes!("../testdata/queue/cut.bin");
const VERDICT_BYTES: &[u8] = include_bytes!("../testdata/queue/verdict.bin");
const TAKE: &[u8] = include_bytes!("../testdata/queue/take.bin");

fn read(data: &[u8]) -> Option<Queued<'_>> {
    nl::messages(data).next().and_then(|m| Queued::read(&m))
}

#[test]
fn a_packet_is_read_with_its_connection() {
    let queued = read(PACKET_BYTES).unwrap();
    assert_eq!((queued.packet, queued.length, queued.bytes.len()), (0x0102_0304, 45, 45));
    assert!(queued.bytes.ends_with(b"hello"));
    let connection = queued.connection.unwrap();
    assert_eq!((connection.ct, connection.reply), (0xc937_4e78, false));
    let answer = connection.answer.unwrap();
    assert_eq!(
        (answer.from, answer.to),
        ("93.184.216.34:443".parse().unwrap(), "84.1.1.2:50000".parse().unwrap())
    );
    let original = connection.original;
    assert_eq!(
        (original.from, original.to),
        ("84.1.1.2:50000".parse().unwrap(), "44.2.2.2:20000".parse().unwrap())
    );
}

#[test]
fn a_packet_that_was_cut_tells_its_whole_length() {
    let queued = read(CUT).unwrap();
    assert_eq!((queued.packet, queued.length, queued.bytes.len()), (5, 70_000, 40));
    assert!(queued.connection.unwrap().reply);
}

#[test]
fn what_is_asked_for_is_what_the_kernel_expects() {
    assert_eq!(take_queue(7).concat(), TAKE);
    let bytes = &read(PACKET_BYTES).unwrap().bytes[..40];
    assert_eq!(verdict(0x0102_0304, Fate::Accept, Some(0x0100_0000), Some(bytes)), VERDICT_BYTES);
    let bare = |fate| {
        let message = verdict(9, fate, None, None);
        assert_eq!(message.len(), 32);
        message[24..28].to_vec()
    };
    assert_eq!(
        [Fate::Drop, Fate::Accept, Fate::Again, Fate::Stop].map(bare),
        [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 4], [0, 0, 0, 5]]
    );
}

#[test]
fn what_belongs_to_no_connection_of_tcp_has_none() {
    let at = |what: &[u8]| PACKET_BYTES.windows(what.len()).position(|w| w == what).unwrap();
    let changed = |at: usize, to: u8| {
        let mut data = PACKET_BYTES.to_vec();
        data[at] = to;
        read(&data).map(|q| (q.packet, q.connection.is_some()))
    };
    assert_eq!(changed(at(&[8, 0, 12, 0, 0, 0, 0, 0]) + 7, 1), Some((0x0102_0304, false)), "related");
    assert_eq!(changed(at(&[8, 0, 12, 0, 0, 0, 0, 0]) + 7, 2), Some((0x0102_0304, true)), "new");
    assert_eq!(changed(at(&[8, 0, 12, 0, 0, 0, 0, 0]) + 7, 4), Some((0x0102_0304, false)), "related, reply");
    assert_eq!(changed(at(&[5, 0, 1, 0, 6]) + 4, 17), Some((0x0102_0304, false)), "UDP");
    assert_eq!(changed(18, 0), None, "another queue");
    assert_eq!(changed(4, 1), None, "no packet");
    assert_eq!(changed(22, 99), None, "without a number");
}

proptest! {
    #[test]
    fn any_bytes_are_read(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let body = [&family()[..], &data].concat();
        if let Some(queued) = Queued::read(&Message { kind: PACKET, flags: 0, seq: 0, port: 0, body: &body }) {
            prop_assert!(queued.bytes.len() <= data.len() && queued.length as usize >= queued.bytes.len());
        }
    }
}

//! Against the answers of a kernel (6.18, x86_64) to another program, and what that program asked.
#![cfg(target_endian = "little")]
use super::*;
use proptest::prelude::*;

const ASK: &[u8] = include_bytes!("../testdata/conntrack/ask.bin");
const DUMPED: &[u8] = include_bytes!("../testdata/conntrack/dump.bin");
const DELETED: &[u8] = include_bytes!("../testdata/conntrack/delete.bin");
const DESTROYED: &[u8] = include_bytes!("../testdata/conntrack/destroy.bin");

fn tuple(from: &str, to: &str) -> Tuple {
    Tuple { from: from.parse().unwrap(), to: to.parse().unwrap(), zone: 0 }
}

fn v4() -> Entry {
    Entry {
        original: tuple("127.0.0.1:50000", "127.0.0.9:443"),
        mark: 0x0400_0007,
        counted: Counted { ct: 0xc937_4e78, packets: [4, 3], bytes: [1216, 174] },
        is_counted: true,
    }
}

fn all(data: &[u8]) -> Vec<Told> {
    nl::messages(data).filter_map(|m| read(&m)).collect()
}

#[test]
fn what_the_kernel_has_is_read() {
    let v6 = Entry {
        original: tuple("[::1]:50000", "[::1]:443"),
        mark: 0x0400_0007,
        counted: Counted { ct: 0x95bb_2b85, packets: [4, 3], bytes: [1296, 234] },
        is_counted: true,
    };
    assert_eq!(all(DUMPED), [Told::There(v6), Told::There(v4())]);
    assert_eq!(all(DESTROYED), [Told::Gone(v4())]);
}

#[test]
fn an_entry_without_counters_is_not_counted() {
    let mut bare = DUMPED.to_vec();
    for kind in [9, 10] {
        // `CTA_COUNTERS_ORIG` and `CTA_COUNTERS_REPLY`, with `NLA_F_NESTED`, become kinds that nobody knows.
        let nested = [kind, 0x80];
        let at: Vec<usize> = bare
            .windows(4)
            .enumerate()
            .filter(|(_, w)| w[2..] == nested && w[0] == 28)
            .map(|(i, _)| i)
            .collect();
        at.into_iter().for_each(|i| bare[i + 2] = 63);
    }
    let entries = all(&bare);
    assert_eq!(entries.len(), 2);
    for told in entries {
        let Told::There(entry) = told else { panic!("it is there") };
        assert!(!entry.is_counted && entry.counted.bytes == [0, 0]);
    }
}

#[test]
fn what_is_asked_is_what_the_kernel_took() {
    assert_eq!(ask(0x0400_0000, 7), ASK);
    let original = v4().original;
    assert_eq!(delete([(0xc937_4e78, &original)].into_iter(), 9), DELETED);
    let two = [(1, &original), (2, &tuple("[2a02::1]:1", "[2a02::2]:2"))];
    assert_eq!(nl::messages(&delete(two.into_iter(), 9)).count(), 2);
}

#[test]
fn an_entry_of_a_zone_is_deleted_there() {
    let zoned = Tuple { zone: 7, ..v4().original };
    let batch = delete([(1, &zoned)].into_iter(), 9);
    let message = nl::messages(&batch).next().unwrap();
    // A deletion and the report of one have the same form.
    let Some(Told::Gone(entry)) = read(&message) else { panic!("not read") };
    assert_eq!(entry.original, zoned);
}

#[test]
fn what_is_no_tcp_connection_is_none() {
    let mut udp = DESTROYED.to_vec();
    let at = udp.windows(5).position(|w| w == [5, 0, 1, 0, 6]).unwrap();
    udp[at + 4] = 17;
    assert_eq!(all(&udp), []);
    let mut other = DESTROYED.to_vec();
    other[4] = 4;
    assert_eq!(all(&other), []);
    for length in 0..DESTROYED.len() {
        assert_eq!(all(&DESTROYED[..length]), [], "{length}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in [NEW, DELETE] {
            let body = [&[2, 0, 0, 0][..], &data].concat();
            read(&Message { kind, flags: 0, seq: 0, port: 0, body: &body });
        }
    }
}

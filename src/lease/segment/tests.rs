use super::*;
use proptest::prelude::*;

/// A packet to be built: what the tests of this folder send.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub v6: bool,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Made {
    pub fn new(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Made {
        Made { v6: false, seq, ack, flags, options: Vec::new(), payload: payload.to_vec() }
    }

    pub fn with_options(self, options: &[u8]) -> Made {
        Made { options: options.to_vec(), ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let header = TCP_HEADER + self.options.len();
        let length = (header + self.payload.len()) as u16;
        let mut packet = if self.v6 {
            let mut ip = vec![0x60, 0, 0, 0, 0, 0, TCP, 64];
            ip[4..6].copy_from_slice(&length.to_be_bytes());
            ip.resize(IPV6, 7);
            ip
        } else {
            let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, TCP];
            ip[2..4].copy_from_slice(&(length + 20).to_be_bytes());
            ip.resize(IPV4, 7);
            ip
        };
        packet.extend([0xc3, 0x50, 0x01, 0xbb]);
        packet.extend(self.seq.to_be_bytes());
        packet.extend(self.ack.to_be_bytes());
        packet.extend([(header as u8 / 4) << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(&self.options);
        packet.extend(&self.payload);
        packet
    }
}

/// As Linux sends them: maximum segment size, SACK permitted, timestamps, window scale.
pub(crate) const SYN_OPTIONS: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];

fn parse(bytes: &[u8]) -> Result<Segment<'_>, Malformed> {
    Segment::parse(bytes, bytes.len() as u32)
}

#[test]
fn a_segment_is_read_in_both_families() {
    for (v6, header) in [(false, 60), (true, 80)] {
        let made = Made { v6, ..Made::new(0x12, 0xffff_fff0, 7, b"") }.with_options(&SYN_OPTIONS);
        let bytes = made.bytes();
        let s = parse(&bytes).unwrap();
        assert_eq!((s.seq, s.ack, s.header, s.length), (0xffff_fff0, 7, header, 0));
        assert!(s.flags.syn() && s.flags.ack() && !s.flags.fin() && !s.flags.rst() && !s.flags.urg());
        assert_eq!(s.options, Options { timestamps: true, sack: true, multipath: false });
        let data = Made { v6, ..Made::new(0x39, 1, 2, b"hello") }.bytes();
        let s = parse(&data).unwrap();
        assert_eq!((s.payload, s.length, s.options), (&b"hello"[..], 5, Options::default()));
        assert!(s.flags.fin() && s.flags.urg());
    }
}

#[test]
fn what_stacks_read_differently_is_refused() {
    let v4 = Made::new(0x10, 1, 2, b"hello").bytes();
    let v6 = Made { v6: true, ..Made::new(0x10, 1, 2, b"hello") }.bytes();
    let with = |packet: &[u8], at: usize, value: u8| {
        let mut packet = packet.to_vec();
        packet[at] = value;
        parse(&packet).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(&v4, 0, 0x55), Malformed::Version);
    assert_eq!(with(&v4, 0, 0x44), Malformed::Length);
    assert_eq!(with(&v4, 0, 0x46), Malformed::Extension);
    assert_eq!(with(&v4, 3, 44), Malformed::Length);
    assert_eq!(with(&v4, 3, 46), Malformed::Length);
    assert_eq!(with(&v4, 6, 0x20), Malformed::Fragment);
    assert_eq!(with(&v4, 6, 0x01), Malformed::Fragment);
    assert_eq!(with(&v4, 7, 1), Malformed::Fragment);
    assert_eq!(with(&v4, 9, 17), Malformed::NotTcp);
    assert_eq!(with(&v4, 32, 0x40), Malformed::Length);
    assert_eq!(with(&v4, 32, 0x70), Malformed::Length);
    assert_eq!(with(&v6, 5, 24), Malformed::Length);
    assert_eq!(with(&v6, 6, 44), Malformed::Fragment);
    for extension in [0, 43, 51, 60, 135] {
        assert_eq!(with(&v6, 6, extension), Malformed::Extension);
    }
    assert_eq!(with(&v6, 6, 17), Malformed::NotTcp);
    for end in 0..40 {
        assert!(matches!(Segment::parse(&v4[..end], 45), Err(Malformed::Short)), "{end}");
    }
}

#[test]
fn a_packet_may_be_cut_behind_its_headers() {
    let bytes = Made::new(0x11, 1, 2, b"hello").with_options(&[1; 12]).bytes();
    let s = Segment::parse(&bytes[..52], 57).unwrap();
    assert_eq!((s.length, s.payload), (5, &b""[..]));
    assert_eq!(Segment::parse(&bytes[..51], 57), Err(Malformed::Short), "in the options");
    assert_eq!(Segment::parse(&bytes, 56), Err(Malformed::Length));
}

#[test]
fn options_must_fit() {
    let read = |options: &[u8]| {
        let bytes = Made::new(2, 0, 0, b"").with_options(options).bytes();
        parse(&bytes).map(|s| s.options)
    };
    let none = Options::default();
    assert_eq!(read(&[0, 30, 0, 0]), Ok(none), "nothing counts behind the end");
    assert_eq!(read(&[1, 1, 1, 8]), Err(Malformed::Options));
    assert_eq!(read(&[8, 0, 1, 1]), Err(Malformed::Options));
    assert_eq!(read(&[8, 1, 1, 1]), Err(Malformed::Options));
    assert_eq!(read(&[8, 5, 1, 1]), Err(Malformed::Options));
    assert_eq!(read(&[30, 4, 0, 0]), Ok(Options { multipath: true, ..none }));
    assert_eq!(read(&[99, 4, 30, 30]), Ok(none), "an option's content is none");
}

proptest! {
    /// Every field comes back, and no byte of a header ever panics or counts as payload.
    #[test]
    fn what_is_built_is_read(
        v6 in any::<bool>(), seq in any::<u32>(), ack in any::<u32>(), flags in any::<u8>(), nops in 0usize..=10,
        payload in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..300, flip in any::<(u8, u8)>(),
    ) {
        let made = Made { v6, seq, ack, flags, options: vec![1; 4 * nops], payload };
        let mut bytes = made.bytes();
        let s = parse(&bytes).unwrap();
        prop_assert_eq!((s.seq, s.ack, s.flags.0, s.payload), (seq, ack, flags, &made.payload[..]));
        prop_assert_eq!(s.header + s.length as usize, bytes.len());
        let (length, at) = (bytes.len() as u32, usize::from(flip.0) % bytes.len());
        bytes[at] ^= flip.1;
        bytes.truncate(cut);
        if let Ok(s) = Segment::parse(&bytes, length) {
            prop_assert!(s.header + s.payload.len() == bytes.len() && s.payload.len() <= s.length as usize);
        }
    }
}

//! The reset (RFC 9293, section 3.5.2) that takes the place of a refused packet: from its sender to its receiver, with its sequence
//! number and nothing in it.

use super::rules::{ACK, FIN, RST, SYN};

/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// Bytes of a TCP header without options, and of the IP headers.
const HEADER: usize = 20;
const HEADER_V6: usize = 40;
const FLAGS: u8 = RST | ACK;
/// Bytes of a packet that suffice: IPv6's header and TCP's, with room for extensions.
pub const ENOUGH: usize = 128;
/// Extension headers of IPv6 that are passed over at most: hop-by-hop, routing, destination options (RFC 8200, section 4.1).
const MAX_EXTENSIONS: usize = 4;
const EXTENSIONS: [u8; 3] = [0, 43, 60];

/// The reset in the place of a TCP packet; none if the headers are not whole.
pub fn of(packet: &[u8]) -> Option<Vec<u8>> {
    match packet.first()? >> 4 {
        4 => v4(packet),
        6 => v6(packet),
        _ => None,
    }
}

/// Whether a packet of TCP ends a direction of its connection, or all of it; also where its flags are not to be found.
pub fn is_end(packet: &[u8]) -> bool {
    flags(packet).is_none_or(|flags| flags & (FIN | RST) != 0)
}

/// TCP's flags; those of a packet of IPv6 with extension headers are not found.
fn flags(packet: &[u8]) -> Option<u8> {
    let tcp = match packet.first().map(|first| (first >> 4, usize::from(first & 15))) {
        Some((4, words)) => words * 4,
        _ => HEADER_V6,
    };
    packet.get(tcp + 13).copied()
}

/// Whether a packet of TCP asks for a connection.
pub fn is_syn(packet: &[u8]) -> bool {
    flags(packet).is_some_and(|flags| flags & (SYN | ACK) == SYN)
}

fn v4(packet: &[u8]) -> Option<Vec<u8>> {
    let mut head: [u8; HEADER] = *packet.first_chunk()?;
    let length = usize::from(head[0] & 15) * 4;
    let is_part = u16::from_be_bytes([head[6], head[7]]) & 0x3fff != 0;
    if length < HEADER || head[9] != TCP || is_part {
        return None;
    }
    // Without options.
    head[0] = 0x45;
    [head[2], head[3]] = [0, 40];
    [head[10], head[11]] = [0, 0];
    [head[10], head[11]] = finish(sum(0, &head));
    let addresses = head.get(12..20)?;
    let tcp = reset(packet.get(length..)?, addresses)?;
    Some([&head[..], &tcp].concat())
}

fn v6(packet: &[u8]) -> Option<Vec<u8>> {
    let mut head: [u8; HEADER_V6] = *packet.first_chunk()?;
    let mut next = head[6];
    let mut rest = packet.get(HEADER_V6..)?;
    for _ in 0..MAX_EXTENSIONS {
        if !EXTENSIONS.contains(&next) {
            break;
        }
        let [kind, length] = *rest.first_chunk()?;
        next = kind;
        rest = rest.get(8 * (usize::from(length) + 1)..)?;
    }
    if next != TCP {
        return None;
    }
    [head[4], head[5], head[6]] = [0, 20, TCP];
    let addresses = head.get(8..40)?;
    let tcp = reset(rest, addresses)?;
    Some([&head[..], &tcp].concat())
}

/// The header; `addresses` are the sender's and the receiver's, of the pseudo header.
fn reset(segment: &[u8], addresses: &[u8]) -> Option<[u8; HEADER]> {
    // Ports, sequence number and acknowledgement; no window, no options, nothing urgent.
    let kept = segment.first_chunk::<12>()?;
    segment.get(..HEADER)?;
    let mut tcp = [0; HEADER];
    tcp.get_mut(..12)?.copy_from_slice(kept);
    [tcp[12], tcp[13]] = [5 << 4, FLAGS];
    let pseudo = sum(u32::from(TCP) + 20, addresses);
    [tcp[16], tcp[17]] = finish(sum(pseudo, &tcp));
    Some(tcp)
}

/// The sum of 16-bit words (RFC 1071); an even number of bytes.
fn sum(start: u32, bytes: &[u8]) -> u32 {
    bytes
        .chunks_exact(2)
        .fold(start, |sum, word| sum + word.first_chunk().map_or(0, |w| u32::from(u16::from_be_bytes(*w))))
}

fn finish(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `hello` of 5 bytes from 84.1.1.2:50000 to 93.184.216.34:443, with IPv4 options; written down by hand.
    const V4: &[u8] =
        b"\x46\0\0\x35\x12\x34\x40\0\x3f\x06\x00\x00\x54\x01\x01\x02\x5d\xb8\xd8\x22\x01\x01\x01\0\
        \xc3\x50\x01\xbb\x11\x22\x33\x44\x55\x66\x77\x88\x60\x18\x01\xf6\0\0\0\0\x01\x01\x01\x01hello";

    /// What a checksum over a right header gives.
    fn is_right(ip: &[u8], pseudo: &[u8], tcp: &[u8]) -> bool {
        let all = |parts: &[&[u8]]| {
            let bytes = parts.concat();
            let mut total = 0u64;
            for (at, byte) in bytes.iter().enumerate() {
                total += u64::from(*byte) << if at % 2 == 0 { 8 } else { 0 };
            }
            total.is_multiple_of(0xffff)
        };
        (ip.is_empty() || all(&[ip])) && all(&[pseudo, &[0, 6, 0, 20], tcp])
    }

    #[test]
    fn a_hello_becomes_a_reset_with_its_sequence_number() {
        let rst = of(V4).unwrap();
        assert_eq!(rst.len(), 40);
        assert_eq!(rst[..10], *b"\x45\0\0\x28\x12\x34\x40\0\x3f\x06");
        assert_eq!(rst[12..20], V4[12..20]);
        assert_eq!(rst[20..36], *b"\xc3\x50\x01\xbb\x11\x22\x33\x44\x55\x66\x77\x88\x50\x14\0\0");
        assert_eq!(rst[38..], [0, 0]);
        assert!(is_right(&rst[..20], &rst[12..20], &rst[20..]));
    }

    #[test]
    fn so_it_does_by_ipv6_without_what_stood_between() {
        let mut packet = b"\x60\x0a\xbc\xde\0\x21\0\x40".to_vec();
        packet.extend([0x2a; 32]);
        packet.extend([60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]);
        packet.extend(&V4[24..]);
        let rst = of(&packet).unwrap();
        assert_eq!(rst.len(), 60);
        assert_eq!(rst[..8], *b"\x60\x0a\xbc\xde\0\x14\x06\x40");
        assert_eq!(rst[40..52], V4[24..36]);
        assert!(is_right(&[], &rst[8..40], &rst[40..]));
    }

    #[test]
    fn a_fin_or_a_reset_is_an_end_and_so_is_what_cannot_be_read() {
        let v6 = [&b"\x60\0\0\0\0\x14\x06\x40"[..], &[0x2a; 32], &V4[24..44]].concat();
        for (packet, at) in [(V4.to_vec(), 37), (v6, 53)] {
            assert!(!is_end(&packet));
            for (flags, ends) in [(0x10, false), (0x18, false), (0x11, true), (4, true), (2, false)] {
                let mut packet = packet.clone();
                packet[at] = flags;
                assert_eq!((is_end(&packet), is_syn(&packet)), (ends, flags == 2), "{flags}");
            }
            assert!(is_end(&packet[..at]) && !is_syn(&packet[..at]));
        }
        assert!(is_end(&[]));
    }

    #[test]
    fn what_is_no_whole_tcp_header_becomes_nothing() {
        assert_eq!(of(&[]), None);
        for length in 0..44 {
            assert_eq!(of(&V4[..length]), None, "{length}");
        }
        assert!(of(&V4[..44]).is_some(), "its own header is enough");
        let changed = |at: usize, to: u8| {
            let mut packet = V4.to_vec();
            packet[at] = to;
            of(&packet)
        };
        assert_eq!(changed(9, 17), None, "UDP");
        assert_eq!(changed(6, 0x20), None, "a fragment");
        assert_eq!(changed(7, 1), None, "a later fragment");
        assert_eq!(changed(0, 0x44), None, "a header below its size");
        assert_eq!(changed(0, 0x56), None, "another version");
    }

    proptest! {
        #[test]
        fn any_packet_becomes_nothing_or_a_bare_reset(first in 0x40u8..0x70, data in proptest::collection::vec(any::<u8>(), 0..150)) {
            let packet = [&[first][..], &data].concat();
            if let Some(rst) = of(&packet) {
                prop_assert_eq!(rst.len(), if first < 0x50 { 40 } else { 60 });
                let tcp = &rst[rst.len() - 20..];
                prop_assert_eq!((tcp[12], tcp[13]), (0x50, FLAGS));
                let ip = if first < 0x50 { &rst[..20] } else { &[][..] };
                let addresses = &rst[if first < 0x50 { 12 } else { 8 }..rst.len() - 20];
                prop_assert!(is_right(ip, addresses, tcp));
            }
        }
    }
}

//! One TCP segment out of a queued packet (RFC 791, RFC 8200, RFC 9293 section 3.1), which may be larger than the line
//! takes: the kernel hands over what GRO has joined.
//!
//! What a target's stack may read otherwise than we do is refused: fragments (conntrack has joined honest ones), options
//! of IPv4, extension headers of IPv6.
use crate::guard::rules;
use std::fmt;

const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: u8 = 6;
const TCP_HEADER: usize = 20;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const SACK_PERMITTED: u8 = 4;
const TIMESTAMPS: u8 = 8;
const MULTIPATH: u8 = 30;

/// Why a packet is no segment that may be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A header is not all there.
    Short,
    /// Neither IPv4 nor IPv6.
    Version,
    /// Lengths that contradict one another, or the packet.
    Length,
    /// A piece of a packet.
    Fragment,
    /// Options of IPv4, or something between the headers of IPv6 and TCP.
    Extension,
    /// Another protocol.
    NotTcp,
    /// TCP options that run over each other or over the header.
    Options,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Short => "a header is not all there",
            Malformed::Version => "neither IPv4 nor IPv6",
            Malformed::Length => "its lengths contradict one another",
            Malformed::Fragment => "a fragment",
            Malformed::Extension => "IPv4 options or IPv6 extension headers",
            Malformed::NotTcp => "not TCP",
            Malformed::Options => "TCP options that do not fit",
        })
    }
}

/// The bits of byte 13 of the header that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

#[allow(missing_docs, reason = "the names of RFC 9293")]
impl Flags {
    pub const FIN: u8 = rules::FIN;
    pub const SYN: u8 = rules::SYN;
    pub const RST: u8 = rules::RST;
    pub const ACK: u8 = rules::ACK;
    pub const URG: u8 = 32;

    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    pub fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    pub fn urg(self) -> bool {
        self.0 & Self::URG != 0
    }
}

/// What was negotiated, as far as it changes headers or streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Timestamps (RFC 7323 section 3): 12 bytes in each later header.
    pub timestamps: bool,
    /// Selective acknowledgements (RFC 2018 section 2): later headers may have up to 40 bytes of options.
    pub sack: bool,
    /// Multipath TCP (RFC 8684): the stream is not what the segments say.
    pub multipath: bool,
}

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Sequence number of the first byte, or of the SYN.
    pub seq: u32,
    /// Acknowledgement number; means something with ACK alone.
    pub ack: u32,
    /// Control bits.
    pub flags: Flags,
    /// Options.
    pub options: Options,
    /// Whether it came in an IPv6 packet.
    pub v6: bool,
    /// Bytes of the headers of IP and TCP.
    pub header: usize,
    /// Bytes of payload on the line.
    pub length: u32,
    /// The payload; its end may be missing.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a packet from its IP header on. `length` is the whole packet's; `bytes` may be cut behind the headers.
    ///
    /// # Errors
    /// Why it is not fit to be judged.
    pub fn parse(bytes: &'a [u8], length: u32) -> Result<Segment<'a>, Malformed> {
        let whole = length as usize;
        if bytes.len() > whole {
            return Err(Malformed::Length);
        }
        let (ip, total) = match bytes.first().map(|b| b >> 4) {
            None => return Err(Malformed::Short),
            Some(4) => (IPV4, ipv4(bytes)?),
            Some(6) => (IPV6, ipv6(bytes)?),
            Some(_) => return Err(Malformed::Version),
        };
        if total != whole {
            return Err(Malformed::Length);
        }
        let tcp = bytes.get(ip..).unwrap_or_default();
        let Some(fixed) = tcp.first_chunk::<TCP_HEADER>() else { return Err(Malformed::Short) };
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, ..] = *fixed;
        let header = usize::from(offset >> 4) * 4;
        if header < TCP_HEADER || ip + header > whole {
            return Err(Malformed::Length);
        }
        let options = tcp.get(TCP_HEADER..header).ok_or(Malformed::Short)?;
        Ok(Segment {
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            flags: Flags(flags),
            options: read_options(options)?,
            v6: ip == IPV6,
            header: ip + header,
            length: length - u32::try_from(ip + header).unwrap_or(0),
            payload: tcp.get(header..).unwrap_or_default(),
        })
    }
}

/// The total length.
fn ipv4(bytes: &[u8]) -> Result<usize, Malformed> {
    let Some(header) = bytes.first_chunk::<IPV4>() else { return Err(Malformed::Short) };
    let [version, _, high, low, _, _, flags, offset, _, protocol, ..] = *header;
    match version & 15 {
        0..5 => return Err(Malformed::Length),
        5 => {}
        _ => return Err(Malformed::Extension),
    }
    // More fragments, or an offset; "don't fragment" is neither.
    if flags & 0x3f != 0 || offset != 0 {
        return Err(Malformed::Fragment);
    }
    if protocol == TCP { Ok(usize::from(u16::from_be_bytes([high, low]))) } else { Err(Malformed::NotTcp) }
}

/// The total length.
fn ipv6(bytes: &[u8]) -> Result<usize, Malformed> {
    let Some(header) = bytes.first_chunk::<IPV6>() else { return Err(Malformed::Short) };
    let [_, _, _, _, high, low, next, ..] = *header;
    match next {
        TCP => Ok(IPV6 + usize::from(u16::from_be_bytes([high, low]))),
        44 => Err(Malformed::Fragment),
        // Hop-by-hop, routing, authentication, destination options, mobility, HIP, shim6.
        0 | 43 | 51 | 60 | 135 | 139 | 140 => Err(Malformed::Extension),
        _ => Err(Malformed::NotTcp),
    }
}

fn read_options(mut bytes: &[u8]) -> Result<Options, Malformed> {
    let mut options = Options::default();
    while let Some((&kind, rest)) = bytes.split_first() {
        match kind {
            END => break,
            NO_OPERATION => {
                bytes = rest;
                continue;
            }
            TIMESTAMPS => options.timestamps = true,
            SACK_PERMITTED => options.sack = true,
            MULTIPATH => options.multipath = true,
            _ => {}
        }
        let length = rest.first().map_or(0, |n| usize::from(*n));
        let fits = length >= 2 && length <= bytes.len();
        bytes = bytes.get(length..).filter(|_| fits).ok_or(Malformed::Options)?;
    }
    Ok(options)
}

#[cfg(test)]
pub(crate) mod tests;

//! Where connections come from.
use std::net::IpAddr;

/// Where connections come from: what one party has for itself. An IPv4 address, or an IPv6 /64. The variants' order
/// keeps a group together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// This machine, over a Unix socket.
    Local,
    /// An IPv4 address.
    V4(u32),
    /// The first half of an IPv6 address.
    V6(u64),
}

impl Source {
    /// The source of an address; a mapped IPv4 address is one.
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source::V4(v4.to_bits()),
            IpAddr::V6(v6) => Source::V6(u64::try_from(v6.to_bits() >> 64).unwrap_or(0)),
        }
    }

    /// What one party may have many sources of: an IPv4 /24, an IPv6 /48 (RFC 6177: the largest usual assignment to one
    /// site).
    pub(super) fn group(self) -> Source {
        match self {
            Source::Local => Source::Local,
            Source::V4(bits) => Source::V4(bits & !0xff),
            Source::V6(bits) => Source::V6(bits & !0xffff),
        }
    }
}

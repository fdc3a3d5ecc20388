//! What a rule at an Ethernet device can see of packets that a PPPoE line carries (RFC 2516): the kernel has not taken them out
//! of their frames yet, so all of it is asked for by its place.
use super::expr::{BEHIND_V4, BEHIND_V6, Expr};

/// Bytes of a frame's header before the packet: that of the session, and the protocol of PPP.
pub const HEADER: u32 = 8;
/// Version, type and code of a session's frames. No packet of IP begins so, nor any other that would have the rest behind it; their
/// Ethernet's type is not asked for, since `nft` (1.0.6) dies of listing a rule that asks for one that it does not know.
const SESSION: [u8; 2] = [0x11, 0x00];
/// The base of payloads that begins with the session's header.
const NETWORK: u32 = 1;
const TCP: u8 = 6;

/// A packet of TCP from a buyer to its lease's port. Behind IP options or extension headers, with which leases carry nothing, its
/// ports are not where they are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromBuyer {
    /// Of IPv6.
    pub v6: bool,
    /// First and last port that leases have.
    pub ports: (u16, u16),
    /// The set of source address and destination port.
    pub set: &'static str,
}

/// Places of the packet's header: number and value of PPP's protocol and of the first byte, as far as it has to be some value;
/// then those of the next protocol, the source address and the destination port.
struct Layout {
    protocol: u16,
    first: Option<u8>,
    next: u32,
    source: (u32, u32),
    port: u32,
    behind: u32,
}

const V4: Layout =
    Layout { protocol: 0x0021, first: Some(0x45), next: 9, source: (12, 4), port: 22, behind: BEHIND_V4 };
const V6: Layout =
    Layout { protocol: 0x0057, first: None, next: 6, source: (8, 16), port: 42, behind: BEHIND_V6 };

impl FromBuyer {
    const fn layout(&self) -> Layout {
        if self.v6 { V6 } else { V4 }
    }

    /// As `nft list` writes it.
    pub fn text(&self) -> String {
        let Layout { protocol, first, next, source, port, .. } = self.layout();
        let at = |offset: u32, length: u32| format!("@nh,{},{}", (HEADER + offset) * 8, length * 8);
        let first = first.map(|byte| format!("{} {byte:#x} ", at(0, 1))).unwrap_or_default();
        let (low, high) = self.ports;
        let port = at(port, 2);
        format!(
            "@nh,0,16 0x1100 @nh,48,16 {protocol:#x} {first}{} {TCP:#x} {port} {low:#x}-{high:#x} {} . {port} @{}",
            at(next, 1),
            at(source.0, source.1),
            self.set
        )
    }

    /// As the kernel's expressions.
    pub fn expressions(&self) -> Vec<Expr> {
        let Layout { protocol, first, next, source, port, behind } = self.layout();
        let load = |offset: u32, length, register| Expr::Payload {
            base: NETWORK,
            offset: HEADER + offset,
            length,
            register,
        };
        let is = |value: &[u8]| Expr::Cmp { equal: true, value: value.to_vec() };
        let [low, high] = [self.ports.0, self.ports.1].map(|p| p.to_be_bytes().to_vec());
        let of_frame = |offset| Expr::Payload { base: NETWORK, offset, length: 2, register: 1 };
        let mut all = vec![of_frame(0), is(&SESSION)];
        all.extend([of_frame(HEADER - 2), is(&protocol.to_be_bytes())]);
        if let Some(first) = first {
            all.extend([load(0, 1, 1), is(&[first])]);
        }
        all.extend([load(next, 1, 1), is(&[TCP]), load(port, 2, 1)]);
        all.extend([Expr::Bound { lower: true, value: low }, Expr::Bound { lower: false, value: high }]);
        all.extend([load(source.0, source.1, 1), load(port, 2, behind)]);
        all.push(Expr::Lookup { set: self.set.to_owned(), inverted: false });
        all
    }
}

//! A lease's packets as rules at a device see them, before the kernel has looked into them: all of it is asked for by its place.
//! So it costs least: what the kernel has inlined are loads of up to four bytes, comparisons, and masks of four bytes
//! (`nft_do_chain`); words like `meta` are calls. On a PPPoE line packets are in their frames there (RFC 2516).
use super::expr::{BEHIND_V4, BEHIND_V6, Expr};

/// Bytes of a frame's header before the packet: that of the session, and the protocol of PPP.
pub const HEADER: u32 = 8;
/// Version, type and code of a session's frames. No packet of IP begins so, nor any other that would have the rest behind it; their
/// Ethernet's type is not asked for, since `nft` (1.0.6) dies of listing a rule that asks for one that it does not know.
const SESSION: u32 = 0x1100;
/// Bases of payloads: that which begins with the packet, or the session's header, and that of TCP.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const TCP: u32 = 6;

/// Two neighbouring blocks of ports, or the same one twice, as small as they can be and have all ports of a range between them: so
/// few comparisons leave out nearly all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    mask: u16,
    blocks: [u16; 2],
}

impl Cover {
    /// Of the range from `first` to `last`.
    pub fn of((first, last): (u16, u16)) -> Cover {
        let near = |bits: &u32| (last >> bits).saturating_sub(first >> bits) <= 1;
        let mask = u16::MAX << (0..15).find(near).unwrap_or(15);
        Cover { mask, blocks: [first & mask, last & mask] }
    }
}

/// Where the port at the router's end is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// In the header of TCP; of a packet that leaves by the device, or comes in.
    Plain {
        /// It leaves.
        out: bool,
    },
    /// In a PPPoE line's frame that comes in, behind a header of IP without options.
    Framed {
        /// Of IPv6.
        v6: bool,
    },
}

/// Of no lease: the port at the router's end is none of theirs. It is the first thing that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Where the port is.
    pub at: At,
    /// Where leases' ports are.
    pub cover: Cover,
}

impl Elsewhere {
    /// Base and offset of both ports, and how far ours is from the right.
    fn place(&self) -> (u32, u32, u32) {
        match self.at {
            At::Plain { out } => (TRANSPORT, 0, if out { 16 } else { 0 }),
            At::Framed { v6 } => (NETWORK, HEADER + if v6 { 40 } else { 20 }, 0),
        }
    }

    /// As `nft list` writes it.
    pub fn text(&self) -> String {
        let (base, offset, shift) = self.place();
        let word = |half: u16| u32::from(half) << shift;
        let base = if base == NETWORK { "nh" } else { "th" };
        let ports = format!("@{base},{},32 & {:#x}", offset * 8, word(self.cover.mask));
        let mut words = self.frame().map(|value| format!("@nh,48,16 {value:#x}")).unwrap_or_default();
        for value in self.others() {
            let gap = if words.is_empty() { "" } else { " " };
            words.push_str(&format!("{gap}{ports} != {:#x}", word(value)));
        }
        words
    }

    /// The blocks, each once.
    fn others(&self) -> impl Iterator<Item = u16> {
        let [one, other] = self.cover.blocks;
        [Some(one), Some(other).filter(|other| *other != one)].into_iter().flatten()
    }

    /// What protocol of PPP the frame has.
    fn frame(&self) -> Option<u16> {
        match self.at {
            At::Plain { .. } => None,
            At::Framed { v6 } => Some(protocol(v6)),
        }
    }

    /// As the kernel's expressions.
    pub fn expressions(&self) -> Vec<Expr> {
        let (base, offset, shift) = self.place();
        let word = |half: u16| (u32::from(half) << shift).to_be_bytes().to_vec();
        let mut all = Vec::new();
        if let Some(value) = self.frame() {
            all.extend([
                load(HEADER - 2, 2, 1),
                Expr::Cmp { equal: true, value: value.to_be_bytes().to_vec() },
            ]);
        }
        // At a place that is a multiple of four: from others four bytes are not loaded inline.
        all.push(Expr::Payload { base, offset, length: 4, register: 1 });
        all.push(Expr::Bitwise { mask: word(self.cover.mask), xor: vec![0; 4] });
        all.extend(self.others().map(|value| Expr::Cmp { equal: false, value: word(value) }));
        all
    }
}

/// The protocol of PPP that packets of IP have (RFC 1332, RFC 5072).
fn protocol(v6: bool) -> u16 {
    if v6 { 0x0057 } else { 0x0021 }
}

fn load(offset: u32, length: u32, register: u32) -> Expr {
    Expr::Payload { base: NETWORK, offset, length, register }
}

/// A packet of TCP between a lease's buyer and its port. Behind IP options or extension headers, with which leases carry nothing,
/// its ports are not where they are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfLease {
    /// Of IPv6.
    pub v6: bool,
    /// To the buyer.
    pub out: bool,
    /// In a PPPoE line's frame.
    pub framed: bool,
    /// The set of the buyer's address and the lease's port.
    pub set: &'static str,
}

/// Bytes of the packet: where, how many, under which mask if under one, and what they are.
type Is = (u32, u32, Option<u32>, u32);

impl OfLease {
    fn header(&self) -> u32 {
        if self.framed { HEADER } else { 0 }
    }

    /// What has to be so.
    fn conditions(&self) -> Vec<Is> {
        let mut all: Vec<Is> = Vec::new();
        let at = self.header();
        if self.framed {
            all.extend([(at - 2, 2, None, protocol(self.v6).into()), (0, 2, None, SESSION)]);
        }
        if self.v6 {
            all.push((at + 6, 1, None, TCP));
            // The frame has said which it is.
            all.extend((!self.framed).then_some((0, 4, Some(0xf000_0000), 0x6000_0000)));
        } else {
            all.extend([(at, 1, None, 0x45), (at + 9, 1, None, TCP)]);
        }
        all
    }

    /// Where the buyer's address and the lease's port are: offset and length of the one, offset of the other.
    fn ends(&self) -> (u32, u32, u32) {
        let (source, length, ports) = if self.v6 { (8, 16, 40) } else { (12, 4, 20) };
        let (address, port) = if self.out { (source + length, ports) } else { (source, ports + 2) };
        (self.header() + address, length, self.header() + port)
    }

    /// As `nft list` writes it.
    pub fn text(&self) -> String {
        let at = |offset: u32, length: u32| format!("@nh,{},{}", offset * 8, length * 8);
        let mut words: Vec<String> = Vec::new();
        for (offset, length, mask, value) in self.conditions() {
            let mask = mask.map(|mask| format!(" & {mask:#x} ==")).unwrap_or_default();
            words.push(format!("{}{mask} {value:#x}", at(offset, length)));
        }
        let (address, length, port) = self.ends();
        words.push(format!("{} . {} @{}", at(address, length), at(port, 2), self.set));
        words.join(" ")
    }

    /// As the kernel's expressions.
    pub fn expressions(&self) -> Vec<Expr> {
        let mut all = Vec::new();
        for (offset, length, mask, value) in self.conditions() {
            all.push(load(offset, length, 1));
            all.extend(mask.map(|m| Expr::Bitwise { mask: m.to_be_bytes().to_vec(), xor: vec![0; 4] }));
            let value = value.to_be_bytes().into_iter().skip(4 - length as usize).collect();
            all.push(Expr::Cmp { equal: true, value });
        }
        let behind = if self.v6 { BEHIND_V6 } else { BEHIND_V4 };
        let (address, length, port) = self.ends();
        all.extend([load(address, length, 1), load(port, 2, behind)]);
        all.push(Expr::Lookup { set: self.set.to_owned(), inverted: false });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn has(cover: Cover, port: u16) -> bool {
        cover.blocks.contains(&(port & cover.mask))
    }

    proptest! {
        #[test]
        fn a_cover_has_the_whole_range_and_at_most_four_times_as_much(a: u16, b: u16, part: u16) {
            let (first, last) = (a.min(b), a.max(b));
            let cover = Cover::of((first, last));
            for port in [first, last, first + part % (last - first).max(1)] {
                prop_assert!(has(cover, port));
            }
            let size = u32::from(!cover.mask) + 1;
            prop_assert!(2 * size <= 4 * (u32::from(last - first) + 1));
        }
    }

    #[test]
    fn a_cover_is_as_small_as_it_can_be() {
        let of = |first, last| {
            let Cover { mask, blocks } = Cover::of((first, last));
            (mask, blocks)
        };
        assert_eq!(of(40_000, 40_999), (0xfc00, [0x9c00, 0xa000]));
        assert_eq!(of(40_001, 40_001), (0xffff, [40_001; 2]));
        assert_eq!(of(0x9c00, 0x9cff), (0xff80, [0x9c00, 0x9c80]));
        assert_eq!(of(32_000, 33_000), (0xfc00, [0x7c00, 0x8000]));
        assert_eq!(of(1, 65_535), (0x8000, [0, 0x8000]));
    }
}

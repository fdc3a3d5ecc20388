//! Messages of the kernel's traffic control (linux/pkt_sched.h, linux/pkt_cls.h): an HTB queueing discipline, its classes
//! and queues, `u32` filters, and what the kernel says is there.
mod found;

pub use found::{Ask, Found, Root, ask, is_foreign, ours};

use super::netlink::{ACK, CREATE, REQUEST, Writer};
use std::net::{IpAddr, SocketAddr};

/// The number of our root queueing discipline, by which it is known again after a restart; `ec40:` in `tc`'s words.
pub const HANDLE: u32 = 0xec40_0000;
/// The class of everything that is not ours.
pub const OTHERS: u16 = 0xfffe;
/// The class of fragments of TCP behind the first, which have no ports: whose they are is not known.
pub const FRAGMENTS: u16 = 0xfffd;
/// Bits of IPv4's field of the fragment's place (RFC 791 section 3.1).
pub const PLACE_BITS: u16 = 13;
/// Chains of a hash table.
pub const BUCKETS: u8 = 255;

/// `RTM_*`.
const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
const NEW_CLASS: u16 = 40;
const DELETE_CLASS: u16 = 41;
const NEW_FILTER: u16 = 44;
const DELETE_FILTER: u16 = 45;
/// `NLM_F_EXCL`, `NLM_F_REPLACE`.
const EXCLUSIVE: u16 = 0x200;
const REPLACE: u16 = 0x100;
/// `TC_H_ROOT`.
const ROOT: u32 = u32::MAX;
/// `TCA_KIND`, `TCA_OPTIONS`.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// `TCA_HTB_PARMS`, `TCA_HTB_INIT`, `TCA_HTB_RATE64`, `TCA_HTB_CEIL64`.
const HTB_CLASS: u16 = 1;
const HTB_INIT: u16 = 2;
const HTB_RATE: u16 = 6;
const HTB_CEIL: u16 = 7;
/// `TC_LINKLAYER_ETHERNET`: the kernel then counts by itself and wants no table of rates.
const ETHERNET: u8 = 1;
/// Nanoseconds of a tick, in which HTB has its bursts (`PSCHED_SHIFT`).
const TICK_NS: u64 = 64;
/// `TCA_FQ_CODEL_TARGET`, `TCA_FQ_CODEL_LIMIT`, `TCA_FQ_CODEL_FLOWS`, `TCA_FQ_CODEL_DROP_BATCH_SIZE`, `TCA_FQ_CODEL_MEMORY_LIMIT`.
const FQ_TARGET: u16 = 1;
const FQ_LIMIT: u16 = 2;
const FQ_FLOWS: u16 = 5;
const FQ_BATCH: u16 = 8;
const FQ_MEMORY: u16 = 9;
/// `TCA_U32_CLASSID`, `TCA_U32_HASH`, `TCA_U32_LINK`, `TCA_U32_DIVISOR`, `TCA_U32_SEL`.
const U32_CLASS: u16 = 1;
const U32_HASH: u16 = 2;
const U32_LINK: u16 = 3;
const U32_DIVISOR: u16 = 4;
const U32_SELECTOR: u16 = 5;
/// `TC_U32_TERMINAL`: the search ends at what matches.
const TERMINAL: u8 = 1;

/// What is in force for a class: bytes a second, and bytes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What it has in any case, bytes a second.
    pub rate: u64,
    /// What it may take if there is enough, bytes a second.
    pub ceil: u64,
    /// Bytes that may go at once.
    pub burst: u64,
    /// 0 goes before 7.
    pub priority: u8,
}

/// How a class's packets wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// `fq_codel` as the kernel makes it.
    Fair,
    /// `fq_codel` with bounds.
    SmallFair {
        /// Packets at most.
        packets: u32,
        /// Flows that are told apart.
        flows: u32,
        /// Bytes of memory that packets may take. What is beyond is dropped one by one.
        memory: u32,
        /// Microseconds that packets may wait for good.
        target_us: u32,
    },
    /// `pfifo` of so many packets.
    Plain(u32),
}

/// IP's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// By which port a hash table is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The source's: packets to targets.
    Source,
    /// The destination's: packets to buyers.
    Destination,
}

/// Where a flow's filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// IP's version.
    pub family: Family,
    /// The table.
    pub side: Side,
    /// The chain in it.
    pub bucket: u8,
    /// The number in the chain, from 1 to 0xfff.
    pub node: u16,
}

/// A packet's ends as it leaves by the WAN; both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where it comes from: the router's address, behind which it is masqueraded.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
}

/// Something asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Our queueing discipline in the place of the kernel's own.
    Root,
    /// The end of it; the kernel puts its own in its place.
    RemoveRoot,
    /// A class below another one (0: below the root), or its new rate.
    Class(u16, u16, Rate),
    /// Its end; no filter may lead to it.
    RemoveClass(u16),
    /// How a class's packets wait.
    Queue(u16, Queue),
    /// A hash table.
    Table(Family, Side),
    /// The rule that sends a family's TCP to the table.
    Link(Family, Side),
    /// Fragments of TCP go to their class; of IPv4 those whose place has this bit, so that it is not the first.
    Fragments(Family, u16),
    /// A flow's packets of one direction go to a class.
    Filter(Place, Ends, u16),
    /// The end of that.
    RemoveFilter(Place),
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The filters' priority and `ETH_P_*` as `tcm_info` has them.
    fn info(self) -> u32 {
        let (priority, protocol) = match self {
            Family::V4 => (1, 0x0800u16),
            Family::V6 => (2, 0x86dd),
        };
        priority << 16 | u32::from(u16::from_ne_bytes(protocol.to_be_bytes()))
    }

    /// Bytes of its header without options.
    const fn header(self) -> u32 {
        match self {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }
}

/// The number of a hash table.
const fn table(family: Family, side: Side) -> u32 {
    let number = match (family, side) {
        (Family::V4, Side::Source) => 4,
        (Family::V4, Side::Destination) => 5,
        (Family::V6, Side::Source) => 6,
        (Family::V6, Side::Destination) => 7,
    };
    number << 20
}

impl Place {
    /// As the kernel counts it: table, chain, number.
    pub fn handle(self) -> u32 {
        table(self.family, self.side) | u32::from(self.bucket) << 12 | u32::from(self.node & 0xfff)
    }
}

/// One comparison of a filter: mask, value, and where.
type Key = (u32, u32, u32);

/// Adds what asks the kernel for a step on a device.
pub fn write(w: &mut Writer, seq: u32, device: u32, step: &Step) {
    let flags = REQUEST | ACK;
    let new = flags | CREATE | EXCLUSIVE;
    match *step {
        Step::Root => w.message((NEW_QDISC, new, seq), &head(device, HANDLE, ROOT, 0), |w| {
            w.put_text(KIND, "htb");
            // `struct tc_htb_glob`: version, divisor for quanta, default class.
            let init = [3, 10, u32::from(OTHERS), 0, 0];
            w.nest(OPTIONS, |w| w.put(HTB_INIT, &init.map(u32::to_ne_bytes).concat()));
        }),
        Step::RemoveRoot => {
            w.message((DELETE_QDISC, flags, seq), &head(device, HANDLE, ROOT, 0), |_| {});
        }
        Step::Class(minor, parent, rate) => {
            let head = head(device, class(minor), class(parent), 0);
            w.message((NEW_CLASS, flags | CREATE, seq), &head, |w| {
                w.put_text(KIND, "htb");
                w.nest(OPTIONS, |w| put_rate(w, rate));
            });
        }
        Step::RemoveClass(minor) => {
            w.message((DELETE_CLASS, flags, seq), &head(device, class(minor), 0, 0), |_| {});
        }
        Step::Queue(minor, queue) => {
            let head = head(device, 0, class(minor), 0);
            w.message((NEW_QDISC, flags | CREATE | REPLACE, seq), &head, |w| put_queue(w, queue));
        }
        Step::Table(family, side) => {
            let head = head(device, table(family, side), HANDLE, family.info());
            w.message((NEW_FILTER, new, seq), &head, |w| {
                w.put_text(KIND, "u32");
                let chains = u32::from(BUCKETS) + 1;
                w.nest(OPTIONS, |w| w.put(U32_DIVISOR, &chains.to_ne_bytes()));
            });
        }
        Step::Link(family, side) => link(w, (new, seq), device, family, side),
        Step::Fragments(family, bit) => fragments(w, (new, seq), device, family, bit),
        Step::Filter(place, ends, minor) => {
            let head = head(device, place.handle(), HANDLE, place.family.info());
            w.message((NEW_FILTER, new, seq), &head, |w| {
                w.put_text(KIND, "u32");
                w.nest(OPTIONS, |w| {
                    w.put(U32_CLASS, &class(minor).to_ne_bytes());
                    w.put(U32_HASH, &(place.handle() & !0xfff).to_ne_bytes());
                    w.put(U32_SELECTOR, &selector(TERMINAL, 0, 0, &ends.keys()));
                });
            });
        }
        Step::RemoveFilter(place) => {
            let head = head(device, place.handle(), HANDLE, place.family.info());
            w.message((DELETE_FILTER, flags, seq), &head, |w| w.put_text(KIND, "u32"));
        }
    }
}

/// Adds a question that is answered by "invalid argument" (`EINVAL`) if the kernel has HTB, and by "not found"
/// (`ENOENT`) if it has not; nothing is changed: HTB makes no queueing discipline without its options.
pub fn write_trial(w: &mut Writer, seq: u32, device: u32) {
    let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
    w.message((NEW_QDISC, flags, seq), &head(device, HANDLE, ROOT, 0), |w| w.put_text(KIND, "htb"));
}

/// `struct tcmsg`.
fn head(device: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut head = [0; 20];
    for (place, number) in head.chunks_exact_mut(4).zip([0, device, handle, parent, info]) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    head
}

fn class(minor: u16) -> u32 {
    HANDLE | u32::from(minor)
}

/// `struct tc_htb_opt`, and rates that do not fit it.
fn put_rate(w: &mut Writer, rate: Rate) {
    let narrow = |rate: u64| u32::try_from(rate).unwrap_or(u32::MAX);
    let mut parms = Vec::with_capacity(44);
    for number in [rate.rate, rate.ceil] {
        // `struct tc_ratespec`: log of a cell, link layer, overhead, alignment, least packet, rate.
        parms.extend([0, ETHERNET, 0, 0, 0, 0, 0, 0]);
        parms.extend(narrow(number).to_ne_bytes());
    }
    let ticks = |per_second: u64| {
        let ns = rate.burst.saturating_mul(1_000_000_000).checked_div(per_second).unwrap_or(0);
        u32::try_from(ns / TICK_NS).unwrap_or(u32::MAX)
    };
    // Bursts, quantum, level (the kernel's own), priority. A quantum of a few packets shares evenly at any rate.
    let rest = [ticks(rate.rate), ticks(rate.ceil), 15_140, 0, u32::from(rate.priority)];
    parms.extend(rest.map(u32::to_ne_bytes).concat());
    for (kind, number) in [(HTB_RATE, rate.rate), (HTB_CEIL, rate.ceil)] {
        if number > u64::from(u32::MAX) {
            w.put(kind, &number.to_ne_bytes());
        }
    }
    w.put(HTB_CLASS, &parms);
}

fn put_queue(w: &mut Writer, queue: Queue) {
    let option = |w: &mut Writer, kind, number: u32| w.put(kind, &number.to_ne_bytes());
    match queue {
        Queue::Fair => w.put_text(KIND, "fq_codel"),
        Queue::SmallFair { packets, flows, memory, target_us } => {
            w.put_text(KIND, "fq_codel");
            w.nest(OPTIONS, |w| {
                option(w, FQ_LIMIT, packets);
                option(w, FQ_FLOWS, flows);
                option(w, FQ_MEMORY, memory);
                option(w, FQ_TARGET, target_us);
                option(w, FQ_BATCH, 1);
            });
        }
        Queue::Plain(packets) => {
            w.put_text(KIND, "pfifo");
            // `struct tc_fifo_qopt`.
            w.put(OPTIONS, &packets.to_ne_bytes());
        }
    }
}

/// First and only fragments of TCP without options of IP go to the chain of the port's low byte.
fn link(w: &mut Writer, (flags, seq): (u16, u32), device: u32, family: Family, side: Side) {
    let (node, mask) = match side {
        Side::Source => (1, 0x00ff_0000),
        Side::Destination => (2, 0x0000_00ff),
    };
    let keys: &[Key] = match family {
        Family::V4 => &[(0x0f00_0000, 0x0500_0000, 0), (0x1fff, 0, 4), (0x00ff_0000, 0x0006_0000, 8)],
        Family::V6 => &[(0xff00, 0x0600, 4)],
    };
    w.message((NEW_FILTER, flags, seq), &head(device, node, HANDLE, family.info()), |w| {
        w.put_text(KIND, "u32");
        w.nest(OPTIONS, |w| {
            w.put(U32_LINK, &table(family, side).to_ne_bytes());
            w.put(U32_SELECTOR, &selector(0, family.header(), mask, keys));
        });
    });
}

/// Behind the two links: a packet with ports is no longer looked at here, if it is a flow's.
fn fragments(w: &mut Writer, (flags, seq): (u16, u32), device: u32, family: Family, bit: u16) {
    let place = 1 << bit;
    let keys: &[Key] = match family {
        Family::V4 => &[(place, place, 4), (0x00ff_0000, 0x0006_0000, 8)],
        // The header of a fragment (RFC 8200 section 4.5), and TCP behind it.
        Family::V6 => &[(0xff00, 0x2c00, 4), (0xff00_0000, 0x0600_0000, 40)],
    };
    let node = 3 + u32::from(bit);
    w.message((NEW_FILTER, flags, seq), &head(device, node, HANDLE, family.info()), |w| {
        w.put_text(KIND, "u32");
        w.nest(OPTIONS, |w| {
            w.put(U32_CLASS, &class(FRAGMENTS).to_ne_bytes());
            w.put(U32_SELECTOR, &selector(TERMINAL, 0, 0, keys));
        });
    });
}

/// `struct tc_u32_sel` and its keys.
fn selector(flags: u8, hash_at: u32, hash_mask: u32, keys: &[Key]) -> Vec<u8> {
    let count = u8::try_from(keys.len()).unwrap_or(u8::MAX);
    let mut selector = vec![flags, 0, count, 0, 0, 0, 0, 0, 0, 0];
    // A position below 2^15, of 16 bits.
    selector.extend(u16::try_from(hash_at).unwrap_or(0).to_ne_bytes());
    selector.extend(hash_mask.to_be_bytes());
    for (mask, value, at) in keys {
        selector.extend([mask.to_be_bytes(), value.to_be_bytes(), at.to_ne_bytes(), [0; 4]].concat());
    }
    selector
}

impl Ends {
    /// The family, if both ends are of one.
    pub const fn family(&self) -> Option<Family> {
        let family = Family::of(self.from.ip());
        if self.from.is_ipv4() == self.to.is_ipv4() { Some(family) } else { None }
    }

    /// Addresses and ports as a header has them.
    fn keys(&self) -> Vec<Key> {
        let mut words = Vec::with_capacity(9);
        for end in [self.from, self.to] {
            match end.ip() {
                IpAddr::V4(ip) => words.push(u32::from(ip)),
                IpAddr::V6(ip) => {
                    let bits = u128::from(ip);
                    words.extend([96, 64, 32, 0].map(|shift| (bits >> shift & 0xffff_ffff) as u32));
                }
            }
        }
        words.push(u32::from(self.from.port()) << 16 | u32::from(self.to.port()));
        let first = Family::of(self.from.ip()).header() - 4 * (words.len() as u32 - 1);
        words.into_iter().zip(0..).map(|(word, i)| (u32::MAX, word, first + 4 * i)).collect()
    }
}

#[cfg(test)]
mod tests;

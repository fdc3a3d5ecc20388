//! Messages of connection tracking (linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c). Counters are only
//! ever read: zeroing them would take them from whoever else counts.
use super::lease_wire::{Counted, CtId};
use super::netlink::{self as nl, DUMP, Message, REQUEST, Writer};
use std::net::{IpAddr, SocketAddr};

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
/// `IPCTNL_MSG_CT_NEW`, which an answer is too, `IPCTNL_MSG_CT_GET`, `IPCTNL_MSG_CT_DELETE`.
const NEW: u16 = SUBSYSTEM << 8;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
/// `AF_INET`, `AF_INET6` of linux/socket.h.
const V4: u8 = 2;
const V6: u8 = 10;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// A TCP connection in one direction, with the zone of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// From where.
    pub from: SocketAddr,
    /// To where.
    pub to: SocketAddr,
    /// `CTA_ZONE`, 0 unless somebody uses zones.
    pub zone: u16,
}

/// A connection that the kernel has, or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As its first packet came in.
    pub original: Tuple,
    /// Its mark.
    pub mark: u32,
    /// Its number and what it has carried.
    pub counted: Counted,
    /// The kernel counts it: counting was on when it began (`nf_conntrack_acct`).
    pub is_counted: bool,
}

/// A message about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is there.
    There(Entry),
    /// It is gone.
    Gone(Entry),
}

/// Asks for all connections of either family that have all of these bits in their mark.
pub fn ask(bits: u32, seq: u32) -> Vec<u8> {
    let mut w = Writer::default();
    w.message((GET, REQUEST | DUMP, seq), &[0; 4], |w| {
        w.put_be32(8, bits);
        w.put_be32(21, bits);
    });
    w.finish()
}

/// Deletes connections, as many messages as there are; what is not there any more is an error that means nothing.
///
/// The kernel compares the number: a successor with the same ports stays.
pub fn delete<'a>(entries: impl Iterator<Item = (CtId, &'a Tuple)>, seq: u32) -> Vec<u8> {
    let mut w = Writer::default();
    for (ct, tuple) in entries {
        let family = if tuple.from.is_ipv4() { V4 } else { V6 };
        w.message((DELETE, REQUEST, seq), &[family, 0, 0, 0], |w| {
            put_tuple(w, tuple);
            w.put_be32(12, ct);
            if tuple.zone != 0 {
                w.put(18, &tuple.zone.to_be_bytes());
            }
        });
    }
    w.finish()
}

/// What is read of an entry: kinds up to `CTA_ZONE`.
pub type Attributes<'a> = nl::Kinds<'a, 19>;

/// Reads a message; none if it is not about a TCP connection.
pub fn read(message: &Message<'_>) -> Option<Told> {
    let told = match message.kind {
        NEW => Told::There,
        DELETE => Told::Gone,
        _ => return None,
    };
    let list = Attributes::of(message.body.get(4..)?);
    let direction = |kind| list.get(kind).map_or((0, 0), counters);
    let ((packets, bytes), (packets_back, bytes_back)) = (direction(9), direction(10));
    Some(told(Entry {
        original: tuple_of(&list)?,
        mark: mark_of(&list),
        counted: Counted { ct: id_of(&list)?, packets: [packets, packets_back], bytes: [bytes, bytes_back] },
        is_counted: list.get(9).is_some(),
    }))
}

/// `CTA_COUNTERS_PACKETS`, `CTA_COUNTERS_BYTES`.
fn counters(list: &[u8]) -> (u64, u64) {
    (nl::be64(list, 1).unwrap_or(0), nl::be64(list, 2).unwrap_or(0))
}

/// `CTA_ID` of an entry's attributes.
pub fn id_of(list: &Attributes<'_>) -> Option<CtId> {
    list.be32(12)
}

/// `CTA_MARK` of an entry's attributes, which has none if it is 0.
pub fn mark_of(list: &Attributes<'_>) -> u32 {
    list.be32(8).unwrap_or(0)
}

/// `CTA_TUPLE_ORIG` of an entry's attributes, if it is one of TCP.
pub fn tuple_of(list: &Attributes<'_>) -> Option<Tuple> {
    tuple(list, 1)
}

/// `CTA_TUPLE_REPLY`: as answers come in. Before NAT has chosen the source, which it does as the first packet leaves, its
/// destination is the buyer.
pub fn answer_of(list: &Attributes<'_>) -> Option<Tuple> {
    tuple(list, 2)
}

fn tuple(list: &Attributes<'_>, kind: u16) -> Option<Tuple> {
    let tuple = nl::Kinds::<3>::of(list.get(kind)?);
    let (addresses, protocol) = (nl::Kinds::<5>::of(tuple.get(1)?), nl::Kinds::<4>::of(tuple.get(2)?));
    if protocol.get(1)? != [TCP] {
        return None;
    }
    let port = |kind| Some(u16::from_be_bytes(*protocol.get(kind)?.first_chunk()?));
    let v4 = |kind| addresses.get(kind)?.first_chunk::<4>().map(|a| IpAddr::from(*a));
    let v6 = |kind| addresses.get(kind)?.first_chunk::<16>().map(|a| IpAddr::from(*a));
    let (from, to) = v4(1).zip(v4(2)).or_else(|| v6(3).zip(v6(4)))?;
    let zone = list.get(18).and_then(|z| z.first_chunk()).map_or(0, |z| u16::from_be_bytes(*z));
    Some(Tuple { from: SocketAddr::new(from, port(2)?), to: SocketAddr::new(to, port(3)?), zone })
}

/// `NLA_F_NESTED` on what holds attributes: the kernel's strict check of ctnetlink asks for it.
const NESTED: u16 = 0x8000;

fn put_tuple(w: &mut Writer, tuple: &Tuple) {
    w.nest(NESTED | 1, |w| {
        w.nest(NESTED | 1, |w| {
            let (from, to) = if tuple.from.is_ipv4() { (1, 2) } else { (3, 4) };
            put_address(w, from, tuple.from.ip());
            put_address(w, to, tuple.to.ip());
        });
        w.nest(NESTED | 2, |w| {
            w.put(1, &[TCP]);
            w.put(2, &tuple.from.port().to_be_bytes());
            w.put(3, &tuple.to.port().to_be_bytes());
        });
    });
}

fn put_address(w: &mut Writer, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(a) => w.put(kind, &a.octets()),
        IpAddr::V6(a) => w.put(kind, &a.octets()),
    }
}

#[cfg(test)]
mod tests;

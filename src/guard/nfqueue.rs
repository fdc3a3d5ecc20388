//! Messages of the packet queue (linux/netfilter/nfnetlink_queue.h, net/netfilter/nfnetlink_queue.c).
use super::conntrack::{self, Tuple, answer_of, id_of, mark_of, tuple_of};
use super::lease_wire::{CtId, MAX_PACKET};
use super::netlink::{self as nl, ACK, Message, REQUEST, Writer};

/// The queue of the leases' packets.
pub const QUEUE: u16 = 7878;
/// Packets that wait for a verdict at most; the kernel drops what is beyond.
pub const MAX_QUEUED: u32 = 1024;
/// `NFNL_SUBSYS_QUEUE`.
const SUBSYSTEM: u16 = 3;
/// `NFQNL_MSG_PACKET`, `NFQNL_MSG_VERDICT`, `NFQNL_MSG_CONFIG`.
const PACKET: u16 = SUBSYSTEM << 8;
const VERDICT: u16 = SUBSYSTEM << 8 | 1;
const CONFIG: u16 = SUBSYSTEM << 8 | 2;
/// `NFQNL_CFG_CMD_BIND`, `NFQNL_COPY_PACKET`.
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
/// `NFQA_CFG_F_FAIL_OPEN`, `NFQA_CFG_F_CONNTRACK`, `NFQA_CFG_F_GSO`.
const FAIL_OPEN: u32 = 1;
const CONNTRACK: u32 = 2;
const GSO: u32 = 4;
/// `IP_CT_ESTABLISHED`, `IP_CT_NEW`, `IP_CT_ESTABLISHED_REPLY` (linux/netfilter/nf_conntrack_common.h).
const ESTABLISHED: u32 = 0;
const NEW: u32 = 2;
const REPLY: u32 = 3;

/// What the kernel does with a packet (`NF_DROP`, `NF_ACCEPT`, `NF_REPEAT`, `NF_STOP` of linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is lost.
    Drop,
    /// It goes on to the hook's next chain.
    Accept,
    /// It comes to the same chain again, which knows by now what its connection is.
    Again,
    /// It goes out, past the hook's later chains.
    Stop,
}

/// The messages that take the queue, each acknowledged, with their numbers from `seq` on. Before the last one no packet comes.
///
/// Flags that are not wanted are named in the mask, too: without `GSO` the kernel cuts what it has put together into packets with
/// whole checksums, each of which can be replaced; and what finds no room is dropped, not let through.
pub fn take_queue(seq: u32) -> [Vec<u8>; 3] {
    let config = |at: u32, fill: &dyn Fn(&mut Writer)| {
        let mut w = Writer::default();
        w.message((CONFIG, REQUEST | ACK, seq.wrapping_add(at)), &family(), fill);
        w.finish()
    };
    let [a, b, c, d] = u32::try_from(MAX_PACKET).unwrap_or(u32::MAX).to_be_bytes();
    [
        config(0, &|w| w.put(1, &[BIND, 0, 0, 0])),
        config(1, &|w| {
            w.put_be32(5, CONNTRACK);
            w.put_be32(4, CONNTRACK | FAIL_OPEN | GSO);
            w.put_be32(3, MAX_QUEUED);
        }),
        config(2, &|w| w.put(2, &[a, b, c, d, COPY_PACKET])),
    ]
}

/// `struct nfgenmsg` of the queue.
fn family() -> [u8; 4] {
    let [high, low] = QUEUE.to_be_bytes();
    [0, 0, high, low]
}

/// The kernel's word on a packet: its mark, and other bytes in its place. Not acknowledged; an error is reported.
pub fn verdict(packet: u32, fate: Fate, mark: Option<u32>, bytes: Option<&[u8]>) -> Vec<u8> {
    let fate: u32 = match fate {
        Fate::Drop => 0,
        Fate::Accept => 1,
        Fate::Again => 4,
        Fate::Stop => 5,
    };
    let mut w = Writer::default();
    w.message((VERDICT, REQUEST, 0), &family(), |w| {
        let [a, b, c, d] = fate.to_be_bytes();
        let [e, f, g, h] = packet.to_be_bytes();
        w.put(2, &[a, b, c, d, e, f, g, h]);
        if let Some(mark) = mark {
            w.put_be32(3, mark);
        }
        if let Some(bytes) = bytes {
            w.put(10, bytes);
        }
    });
    w.finish()
}

/// A packet that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued<'a> {
    /// Its number.
    pub packet: u32,
    /// Its connection; none of a packet that belongs to none, or that only relates to one.
    pub connection: Option<Connection>,
    /// Bytes of the whole.
    pub length: u32,
    /// Its bytes from the IP header on; the end may be missing.
    pub bytes: &'a [u8],
}

/// To what a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Number.
    pub ct: CtId,
    /// As its first packet came in: who connected, and to what.
    pub original: Tuple,
    /// As the target's packets come in, as far as NAT has decided it.
    pub answer: Option<Tuple>,
    /// The packet goes the other way.
    pub reply: bool,
    /// Its mark.
    pub mark: u32,
}

impl<'a> Queued<'a> {
    /// Reads a message; none if it is no packet of the queue. Without a number no verdict could be given.
    pub fn read(message: &Message<'a>) -> Option<Queued<'a>> {
        let (head, list) = message.body.split_first_chunk::<4>()?;
        if message.kind != PACKET || head.get(2..) != Some(&QUEUE.to_be_bytes()[..]) {
            return None;
        }
        let list = Attributes::of(list);
        let bytes = list.get(10).unwrap_or_default();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Some(Queued {
            packet: list.be32(1)?,
            connection: connection(&list),
            length: list.be32(13).unwrap_or(length).max(length),
            bytes,
        })
    }
}

/// What is read of a packet: kinds up to `NFQA_CAP_LEN`.
type Attributes<'a> = nl::Kinds<'a, 14>;

fn connection(list: &Attributes<'_>) -> Option<Connection> {
    let reply = match list.be32(12)? {
        ESTABLISHED | NEW => false,
        REPLY => true,
        _ => return None,
    };
    let entry = conntrack::Attributes::of(list.get(11)?);
    let (original, answer, mark) = (tuple_of(&entry)?, answer_of(&entry), mark_of(&entry));
    Some(Connection { ct: id_of(&entry)?, original, answer, reply, mark })
}

#[cfg(test)]
mod tests;

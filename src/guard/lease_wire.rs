//! The messages of leases between guard and `run`: kinds 9 to 17 and 0x85 to 0x8b of [`super::protocol`].
//!
//! `run` chooses the numbers of leases and judges packets; the guard knows what the kernel has and says so.
use super::found::Amount;
use std::net::IpAddr;

/// First kind of the guard's lease messages, and of `run`'s.
pub const FIRST_REPORT: u8 = 9;
#[allow(missing_docs, reason = "the line above")]
pub const FIRST_REQUEST: u8 = 0x85;
/// Longest life of a grant that is not renewed, seconds.
pub const MAX_TTL_S: u16 = 600;
/// Highest number of a session with a cap of its own.
pub const MAX_CLASS: u16 = 64;
/// Bytes of a queued packet at most: what the kernel copies (`nfqnl_set_mode` of nfnetlink_queue.c).
pub const MAX_PACKET: usize = 0xffff - 4;
/// Flows in one message of counters.
pub const MAX_COUNTED: usize = 512;
/// Bytes of the reason in [`Ability`].
pub const MAX_REASON: usize = 400;
/// The number of a packet in [`LeaseReport::Packet`] that waits for no verdict.
pub const PASSED: u32 = 0;

/// Number of a lease: `run`'s choice, unique while the connection lives.
pub type LeaseNo = u32;
/// The kernel's number of a connection (`CTA_ID`).
pub type CtId = u32;

/// What a buyer may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its number.
    pub no: LeaseNo,
    /// Who may connect.
    pub buyer: IpAddr,
    /// To which port of the router's.
    pub port: u16,
    /// Where it leads, of the buyer's family; its port is 443.
    pub target: IpAddr,
    /// Life in seconds unless it is renewed, 1 to [`MAX_TTL_S`].
    pub ttl_s: u16,
    /// New connections in a second.
    pub new_per_second: u16,
    /// New connections at once.
    pub burst: u16,
    /// Cap of the session, kbit/s; 0 for none.
    pub cap_kbps: u32,
    /// Number of the session among those with caps, 1 to [`MAX_CLASS`]; 0 for none.
    pub class: u16,
}

/// What `run` makes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is decided: it goes out, past later hooks.
    Stop,
    /// Its connection is accepted.
    Accept,
    /// A FIN or RST of an accepted connection: it goes on.
    Pass,
    /// It is lost.
    Drop,
    /// Its connection is refused: both sides are reset, and the packet never reaches the target.
    Refuse,
}

pub(super) const VERDICTS: [Verdict; 5] =
    [Verdict::Stop, Verdict::Accept, Verdict::Pass, Verdict::Drop, Verdict::Refuse];

/// What `run` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseRequest {
    /// A new lease; answered by [`LeaseReport::Granted`] or [`LeaseReport::Denied`].
    Grant(Grant),
    /// A lease lives so many seconds from now, 1 to [`MAX_TTL_S`].
    Renew {
        /// Which one.
        no: LeaseNo,
        /// Seconds.
        ttl_s: u16,
    },
    /// A lease and its connections end; answered by [`LeaseReport::Ended`] when the kernel has none of them any more.
    End {
        /// Which one.
        no: LeaseNo,
    },
    /// All leases and their connections end; answered by [`LeaseReport::Gone`].
    EndAll,
    /// What becomes of a packet.
    Verdict {
        /// Its number in [`LeaseReport::Packet`].
        packet: u32,
        /// What becomes of it.
        what: Verdict,
    },
    /// One connection ends.
    Kill {
        /// Which one.
        ct: CtId,
    },
    /// The counters of all connections, answered by [`LeaseReport::Counts`].
    Count,
}

/// How flows are carried on once they are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// By the kernel's flowtable.
    Software,
    /// By the kernel's ordinary forwarding.
    Plain,
}

pub(super) const OFFLOADS: [Offload; 2] = [Offload::Software, Offload::Plain];

/// What the guard can do with leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ability {
    /// Leases are possible.
    pub possible: bool,
    /// How they are carried.
    pub offload: Offload,
    /// A session's leases can have a cap.
    pub caps: bool,
    /// Why no better, or why not at all; at most [`MAX_REASON`] bytes.
    pub reason: String,
    /// Connections at most: a quarter of what the kernel keeps.
    pub max_flows: u32,
}

/// Why a lease was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There are too many.
    Full,
    /// The kernel did not take it, or leases are not possible now.
    Failed,
}

pub(super) const DENIALS: [Denial; 2] = [Denial::Full, Denial::Failed];

/// Counters of a connection: original direction, reply. Bytes with all headers from IP's on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Which one.
    pub ct: CtId,
    /// Packets.
    pub packets: [u64; 2],
    /// Bytes.
    pub bytes: [u64; 2],
}

/// What buyers and router have exchanged over leases, counted twice: by connection tracking, from which bytes are charged, and by
/// a table of its own at the WAN's devices. From buyers, and to them; bytes with all headers from IP's on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Another number: both counts have begun anew.
    pub round: u32,
    /// Connections.
    pub flows: u64,
    /// Which way is counted twice.
    pub counts: [bool; 2],
    /// What connection tracking has.
    pub tracked: [Amount; 2],
    /// What the table has.
    pub seen: [Amount; 2],
    /// Why a way is not counted twice; at most [`MAX_REASON`] bytes.
    pub why: String,
}

/// What the guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseReport {
    /// What it can do, when the connection begins and when it changes.
    Able(Ability),
    /// The lease can be used.
    Granted {
        /// Which one.
        no: LeaseNo,
    },
    /// It was not granted.
    Denied {
        /// Which one.
        no: LeaseNo,
        /// Why.
        why: Denial,
    },
    /// The kernel has neither the lease nor any connection of it.
    Ended {
        /// Which one.
        no: LeaseNo,
    },
    /// The kernel has no lease and no connection of any.
    Gone,
    /// A packet waits for [`LeaseRequest::Verdict`]; if its number is [`PASSED`], it has gone on.
    Packet {
        /// Its number.
        packet: u32,
        /// Its connection.
        ct: CtId,
        /// The lease's port.
        port: u16,
        /// Who connected.
        buyer: (IpAddr, u16),
        /// It comes from the target.
        reply: bool,
        /// Bytes of the whole packet.
        length: u32,
        /// Its bytes from the IP header on, at most [`MAX_PACKET`]; the end may be missing.
        bytes: Vec<u8>,
    },
    /// Counters, in answer to [`LeaseRequest::Count`].
    Counts {
        /// At most [`MAX_COUNTED`].
        list: Vec<Counted>,
        /// No more follow.
        last: bool,
    },
    /// A connection is gone from the kernel; these are its last counters.
    Closed(Counted),
    /// Both counts of what leases have carried, with [`LeaseReport::Counts`] and before [`LeaseReport::Gone`].
    Checked(Checked),
}

#[cfg(test)]
mod tests;

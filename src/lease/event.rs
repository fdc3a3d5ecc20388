//! What the gate hears and what it says: queued packets, what they do to their flows, and what is to be done.
use super::segment::Segment;
use crate::guard::lease_wire::{CtId, Verdict};
use crate::policy::refusal::Refusal;
use crate::session::Direction;
use std::net::IpAddr;

/// A queued packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What its verdict names.
    pub number: u32,
    /// Its connection in the kernel.
    pub ct: CtId,
    /// The lease's port.
    pub port: u16,
    /// Where the flow comes from.
    pub buyer: (IpAddr, u16),
    /// Whether the target sent it.
    pub reply: bool,
    /// Bytes of all of it.
    pub length: u32,
    /// From the IP header on; the end may be missing.
    pub bytes: &'a [u8],
}

impl Packet<'_> {
    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        if self.reply { Direction::Ingress } else { Direction::Egress }
    }

    pub(super) fn seen(&self) -> Action {
        let payload = Segment::parse(self.bytes, self.length).map_or(0, |segment| segment.length);
        Action::Seen { direction: self.direction(), length: self.length, payload }
    }
}

/// What a flow's two SYNs say; what counts its bytes needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Sequence numbers of the SYNs of buyer and target.
    pub isn: [u32; 2],
    /// Whether it is IPv6.
    pub v6: bool,
    /// Whether every segment has timestamps.
    pub timestamps: bool,
    /// Whether segments may have selective acknowledgements.
    pub sack: bool,
}

impl Opening {
    /// What the buyer's SYN offers.
    pub fn of(syn: &Segment<'_>) -> Opening {
        let options = syn.options;
        Opening { isn: [syn.seq, 0], v6: syn.v6, timestamps: options.timestamps, sack: options.sack }
    }

    /// What the target agrees to.
    pub fn agree(&mut self, syn_ack: &Segment<'_>) {
        self.isn[1] = syn_ack.seq;
        self.timestamps &= syn_ack.options.timestamps;
        self.sack &= syn_ack.options.sack;
    }
}

/// What the caller is told of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The target has answered the SYN so many microseconds after the first one; the hello is awaited.
    Established {
        /// As the relay measures it.
        latency_us: u64,
        /// For the count of its bytes.
        opening: Opening,
    },
    /// The hello is accepted. It may still be refused: for a second hello, or for bytes that contradict it.
    Accepted,
    /// It is refused or has failed, and is over.
    Refused(Refusal),
    /// It is over before it was decided, and nobody is to blame.
    Gone,
    /// One side has no more to say; the sequence number behind its last byte.
    Fin {
        /// Whose.
        direction: Direction,
        /// RFC 9293: the FIN's own number.
        end: u32,
        /// What it has got, if it is known.
        ack: Option<u32>,
    },
    /// One side has given up.
    Reset {
        /// Who.
        direction: Direction,
        /// Its sequence number.
        seq: u32,
        /// What it has got, if it says so.
        ack: Option<u32>,
    },
}

impl Note {
    pub(super) fn reset(packet: &Packet<'_>, segment: &Segment<'_>) -> Note {
        let ack = segment.flags.ack().then_some(segment.ack);
        Note::Reset { direction: packet.direction(), seq: segment.seq, ack }
    }
}

/// What the caller has to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the guard.
    Verdict {
        /// Which packet.
        packet: u32,
        /// What becomes of it.
        what: Verdict,
    },
    /// Tell the guard to end the connection.
    Kill(CtId),
    /// Tell the session. Of the flow that the event was about, or [`Action::Of`] says whose.
    Note(Note),
    /// The following notes are about this flow.
    Of(CtId),
    /// The kernel has counted a packet of the flow that came by here, whatever becomes of it.
    Seen {
        /// Which way it goes.
        direction: Direction,
        /// Bytes, headers included.
        length: u32,
        /// Bytes of payload.
        payload: u32,
    },
    /// Payload of packets that came by here was let through.
    Passed {
        /// Which way.
        direction: Direction,
        /// Bytes.
        payload: u32,
        /// Sequence number behind the last of them: what is sent again is no more payload.
        end: u32,
    },
}

/// What a packet has done to its flow.
#[derive(Debug)]
pub(super) enum Step {
    /// It goes on as it is.
    Stay,
    /// It is accepted for good.
    Decided,
    /// It is refused; the packet has no verdict yet.
    Refused(Refusal),
    /// It is over; the packet has its verdict, others may wait.
    Over(Note),
    /// One side has reset it.
    Reset(Note),
}

//! The payload of a flow whose packets the kernel alone sees: from its counters while it lives, from sequence numbers at a
//! clean end.
use super::gate::Opening;
use crate::guard::lease_wire::Counted;
use crate::session::Direction;

/// Bytes of a TCP header without options, of an IP header of each version, and of the timestamps with their padding
/// (RFC 7323 appendix A).
const TCP: u64 = 20;
const IPV4: u64 = 20;
const IPV6: u64 = 40;
const TIMESTAMPS: u64 = 12;

/// The count of one flow. What it says only grows.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    opening: Option<Opening>,
    egress: Half,
    ingress: Half,
}

/// One direction: packets and bytes, headers included.
#[derive(Clone, Debug, Default)]
struct Half {
    seen: [u64; 2],
    /// What the counters had shown before somebody set them back.
    before: [u64; 2],
    /// What the kernel has counted and nobody has got.
    lost: [u64; 2],
    /// Sequence number behind the last byte.
    end: Option<u32>,
    told: u64,
}

impl Payload {
    /// Both SYNs are known.
    pub fn open(&mut self, opening: Opening) {
        self.opening = Some(opening);
    }

    /// The kernel has counted a packet that never passed.
    pub fn not_passed(&mut self, direction: Direction, length: u32) {
        let [packets, bytes] = &mut self.half(direction).lost;
        *packets += 1;
        *bytes += u64::from(length);
    }

    /// One side's last sequence number.
    pub fn end(&mut self, direction: Direction, end: u32) {
        self.half(direction).end.get_or_insert(end);
    }

    /// Whether both sides have said their last.
    pub fn is_over(&self) -> bool {
        self.egress.end.is_some() && self.ingress.end.is_some()
    }

    /// The counters now. Some programs set them back to zero; what they had shown is kept.
    pub fn count(&mut self, now: &Counted) {
        let Counted { packets: [out_packets, in_packets], bytes: [out_bytes, in_bytes], .. } = *now;
        self.egress.count([out_packets, out_bytes]);
        self.ingress.count([in_packets, in_bytes]);
    }

    /// Payload since the last call: egress, ingress.
    pub fn fresh(&mut self) -> (u64, u64) {
        let Some(Opening { isn: [buyer, target], v6, timestamps, .. }) = self.opening else { return (0, 0) };
        let header = TCP + if v6 { IPV6 } else { IPV4 } + if timestamps { TIMESTAMPS } else { 0 };
        (self.egress.fresh(buyer, header), self.ingress.fresh(target, header))
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        }
    }
}

impl Half {
    fn count(&mut self, now: [u64; 2]) {
        if now.iter().zip(&self.seen).any(|(now, seen)| now < seen) {
            self.before.iter_mut().zip(&self.seen).for_each(|(before, seen)| *before += seen);
        }
        self.seen = now;
    }

    fn fresh(&mut self, isn: u32, header: u64) -> u64 {
        let least = self.least(header);
        let now = self.end.map_or(least, |end| {
            let below = u64::from(end.wrapping_sub(isn.wrapping_add(1)));
            // The numbers wrap every 4 GiB; the counters tell how often they have.
            let wraps = (least.saturating_sub(below) + (1 << 31)) >> 32;
            below + (wraps << 32)
        });
        let fresh = now.saturating_sub(self.told);
        self.told += fresh;
        fresh
    }

    fn least(&self, header: u64) -> u64 {
        let [packets, bytes] = self.seen;
        let ([packets_before, bytes_before], [packets_lost, bytes_lost]) = (self.before, self.lost);
        let packets = (packets_before + packets).saturating_sub(packets_lost);
        (bytes_before + bytes).saturating_sub(bytes_lost).saturating_sub(packets * header)
    }
}

//! What shall be in the kernel's traffic control so that capped sessions keep their caps on the kernel path, and the steps
//! from what is there.
//!
//! Every relayed byte leaves by the WAN once, whichever way it goes: to the buyer or to the target. So one class of the
//! WAN's egress for each session holds both directions, and one above them all holds the cap of all sessions. Packets come
//! to a class by their exact ends, two filters a flow: nothing else of the router's has these ends at that time, since NAT
//! gives them to one connection alone. What is not ours goes first, and waits as it would without us.
//!
//! Fragments behind the first have no ports, so nobody knows whose they are. Two ends that want more than their cap could
//! cut their segments so; TCP does not otherwise. All fragments of TCP together have a small part of the smallest cap.
use super::tc::{Ends, FRAGMENTS, Family, Found, OTHERS, PLACE_BITS, Place, Queue, Rate, Root, Side, Step};
use crate::sorted::{SortedMap, SortedSet};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Sessions with a class at most, which are numbered from 1.
pub const MAX_SESSIONS: u16 = 64;
/// Flows with filters at most.
pub const MAX_FLOWS: usize = 4096;
/// Filters of a chain at most. A buyer who chooses its ports so that they all fall into one chain shall not make the
/// router search long for the others in it.
const MAX_CHAIN: u32 = 64;
/// How long our queueing discipline stays without a session. To put it there and to take it away drops what waits on the
/// line, so it is not done for each lease.
pub const LINGER: Duration = Duration::from_secs(60);
/// The class above all sessions'; a session's is 0x100 and its number.
const ALL: u16 = 1;
const SESSIONS: u16 = 0x100;
/// Bytes a second that no router's line has.
const UNLIMITED: u64 = 10_000_000_000;
/// A cap is of payload, as the relay counts it; 1460 bytes of it are 1514 on the wire (Ethernet, IPv4, TCP). With shorter
/// segments less is passed than the cap says, never more.
const WIRE: (u64, u64) = (1514, 1460);
/// Bytes that may go at once: a hundredth of a second's, and not less than a few packets.
const BURST_PART: u64 = 100;
const MIN_BURST: u64 = 16 * 1024;
/// How long a class stays when its session has no lease any more, milliseconds: what waits in it was counted, so it is to leave, and
/// what the buyer acknowledges of it is answered with a reset.
pub const DRAIN_MS: u64 = 200;
/// What of a session may wait, milliseconds. What is dropped here has been counted, and TCP makes a queue overflow the more seldom the
/// longer it is: twice as long, a quarter of the losses.
const QUEUE_MS: u64 = 400;
/// The same in packets and, with a kernel's `fq_codel`, in memory; and flows that are told apart.
const QUEUE: RangeInclusive<u32> = 64..=1000;
const MEMORY: RangeInclusive<u32> = 65_536..=1_048_576;
const QUEUE_FLOWS: u32 = 64;
/// What may wait for good, microseconds: all of that. With the kernel's 5 ms every third group of segments was dropped, which alone
/// take longer.
const TARGET_US: RangeInclusive<u32> = 5_000..=400_000;
/// The part of the smallest cap that fragments have.
const FRAGMENT_PART: u64 = 16;
/// `pfifo`'s length for what is not ours, where the kernel has nothing better: that of an Ethernet device's own queue.
const OTHERS_QUEUE: u32 = 1000;

/// A session's cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Its number, 1 to [`MAX_SESSIONS`].
    pub class: u16,
    /// kbit/s; 0: no cap of its own.
    pub kbps: u32,
}

/// Why a flow or a cap cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Too many flows, or too many with ports of one kind.
    Flows,
    /// A session without a class, or of a number that there is not.
    Class,
    /// Ends of two families.
    Ends,
    /// A flow that has filters.
    Known,
}

/// What was put in force, as far as every step was done.
#[derive(Debug, Default)]
pub struct Shaping {
    standing: bool,
    total_kbps: u32,
    /// The smallest cap; 0 while there is none.
    least_kbps: u32,
    classes: SortedMap<u16, u32>,
    /// Sessions without a lease whose class is there still.
    leaving: SortedSet<u16>,
    flows: SortedMap<u32, (u16, [Place; 2])>,
    chains: SortedMap<(Family, Side, u8), u64>,
}

impl Shaping {
    /// Whether our queueing discipline is there.
    pub const fn stands(&self) -> bool {
        self.standing
    }

    /// Whether a session has a class.
    pub fn has(&self, class: u16) -> bool {
        self.classes.contains_key(&class)
    }

    /// Whether no session has one.
    pub fn is_idle(&self) -> bool {
        self.classes.is_empty()
    }

    /// Nothing is there (any more).
    pub fn forget(&mut self) {
        *self = Shaping::default();
    }

    /// Steps to these caps, and to that of all sessions together (kbit/s; 0: none). Flows of a session that is not among
    /// them lose their filters.
    ///
    /// # Errors
    /// [`Full::Class`]; then nothing has changed.
    pub fn caps(&mut self, caps: &[Cap], total_kbps: u32) -> Result<Vec<Step>, Full> {
        let wanted: SortedMap<u16, u32> = caps.iter().map(|c| (c.class, c.kbps)).collect();
        if wanted.keys().any(|class| !(1..=MAX_SESSIONS).contains(class)) {
            return Err(Full::Class);
        }
        let mut steps = Vec::new();
        if wanted.is_empty() && !self.standing {
            return Ok(steps);
        }
        let fresh = !std::mem::replace(&mut self.standing, true);
        if fresh {
            foundation(&mut steps);
        }
        let of_all_changed = fresh || self.total_kbps != total_kbps;
        if of_all_changed {
            self.total_kbps = total_kbps;
            let total = on_the_wire(total_kbps);
            steps.push(Step::Class(ALL, 0, rate(total, total)));
        }
        let least_kbps = wanted.values().copied().reduce(least).map_or(0, |kbps| least(kbps, total_kbps));
        if std::mem::replace(&mut self.least_kbps, least_kbps) != least_kbps || of_all_changed {
            steps.push(Step::Class(FRAGMENTS, ALL, fragments_rate(least_kbps, total_kbps)));
        }
        if fresh {
            steps.push(Step::Queue(FRAGMENTS, queue(1)));
        }
        let gone: Vec<u16> = self.classes.keys().filter(|c| !wanted.contains_key(c)).copied().collect();
        for class in gone {
            let flows: Vec<u32> =
                self.flows.iter().filter(|(_, f)| f.0 == class).map(|(ct, _)| *ct).collect();
            flows.into_iter().for_each(|ct| steps.extend(self.end(ct)));
            // Nothing holds back what is left.
            steps.push(Step::Class(SESSIONS + class, ALL, rate(UNLIMITED, UNLIMITED)));
            self.classes.remove(&class);
            self.leaving.insert(class);
        }
        for (class, kbps) in wanted {
            if self.leaving.remove(&class) {
                // Another session's, by now: its queue would take no change (`fq_codel_change`), and what waits there is not this one's.
                steps.push(Step::RemoveClass(SESSIONS + class));
            }
            let before = self.classes.insert(class, kbps);
            if before != Some(kbps) || of_all_changed {
                steps.push(Step::Class(
                    SESSIONS + class,
                    ALL,
                    share_of(on_the_wire(least(kbps, total_kbps)), total_kbps),
                ));
            }
            if before.is_none() {
                steps.push(Step::Queue(SESSIONS + class, queue(least(kbps, total_kbps))));
            }
        }
        Ok(steps)
    }

    /// Whether a class is there that no session has.
    pub fn is_draining(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Steps that take such classes away, with what still waits there.
    pub fn drained(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.leaving).into_iter().map(|c| Step::RemoveClass(SESSIONS + c)).collect()
    }

    /// Steps that put a flow's packets, which have these ends in either direction, into a session's class.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub fn begin(&mut self, ct: u32, class: u16, ends: [Ends; 2]) -> Result<Vec<Step>, Full> {
        if !self.has(class) {
            return Err(Full::Class);
        }
        if self.flows.contains_key(&ct) {
            return Err(Full::Known);
        }
        let [to_buyer, to_target] = ends;
        let places = if self.flows.len() < MAX_FLOWS {
            [(to_buyer, Side::Destination), (to_target, Side::Source)].map(|(e, side)| self.place(&e, side))
        } else {
            [Err(Full::Flows); 2]
        };
        match places {
            [Ok(first), Ok(second)] => {
                self.flows.insert(ct, (class, [first, second]));
                let minor = SESSIONS + class;
                Ok(vec![Step::Filter(first, to_buyer, minor), Step::Filter(second, to_target, minor)])
            }
            [first, second] => {
                [first, second].into_iter().flatten().for_each(|place| self.free(place));
                first.and(second).map(|_| Vec::new())
            }
        }
    }

    /// Steps that take a flow's filters away; none if it has none.
    pub fn end(&mut self, ct: u32) -> Vec<Step> {
        let Some((_, places)) = self.flows.remove(&ct) else { return Vec::new() };
        places.iter().for_each(|place| self.free(*place));
        places.map(Step::RemoveFilter).to_vec()
    }

    /// Whether what was read from the kernel is what was put there.
    pub fn equals(&self, found: &Found) -> bool {
        if !self.standing {
            return found.root != Root::Ours;
        }
        let sessions = self.classes.keys().chain(&self.leaving).map(|class| SESSIONS + class);
        let classes: SortedSet<u16> = sessions.chain([ALL, FRAGMENTS, OTHERS]).collect();
        let filters: SortedSet<u32> =
            self.flows.values().flat_map(|flow| flow.1).map(Place::handle).collect();
        found.root == Root::Ours
            && found.classes == classes
            && found.filters == filters
            && found.links.len() == LINKS.len()
            && found.fragments.len() == fragments().count()
    }

    fn place(&mut self, ends: &Ends, side: Side) -> Result<Place, Full> {
        let family = ends.family().ok_or(Full::Ends)?;
        let port = match side {
            Side::Source => ends.from.port(),
            Side::Destination => ends.to.port(),
        };
        let bucket = port.to_le_bytes()[0];
        let chain = self.chains.get(&(family, side, bucket)).copied().unwrap_or(0);
        let free = chain.trailing_ones();
        if free >= MAX_CHAIN {
            return Err(Full::Flows);
        }
        self.chains.insert((family, side, bucket), chain | 1 << free);
        Ok(Place { family, side, bucket, node: free as u16 + 1 })
    }

    fn free(&mut self, place: Place) {
        let key = (place.family, place.side, place.bucket);
        if let Some(chain) = self.chains.get_mut(&key) {
            *chain &= !(1 << place.node.saturating_sub(1));
            if *chain == 0 {
                self.chains.remove(&key);
            }
        }
    }
}

const LINKS: [(Family, Side); 4] = [
    (Family::V4, Side::Source),
    (Family::V4, Side::Destination),
    (Family::V6, Side::Source),
    (Family::V6, Side::Destination),
];

/// The filters of fragments: of IPv4 one for each bit of their place, of IPv6 one.
fn fragments() -> impl Iterator<Item = (Family, u16)> {
    (0..PLACE_BITS).map(|bit| (Family::V4, bit)).chain([(Family::V6, 0)])
}

/// What is there with the first session: the line as it was for all others, in a class without a limit.
fn foundation(steps: &mut Vec<Step>) {
    let all = Rate { rate: UNLIMITED, ceil: UNLIMITED, burst: UNLIMITED / BURST_PART, priority: 0 };
    steps.extend([Step::Root, Step::Class(OTHERS, 0, all), Step::Queue(OTHERS, Queue::Fair)]);
    steps.extend(LINKS.map(|(family, side)| Step::Table(family, side)));
    steps.extend(LINKS.map(|(family, side)| Step::Link(family, side)));
    steps.extend(fragments().map(|(family, bit)| Step::Fragments(family, bit)));
}

/// The lower one of two caps of which 0 is none.
pub fn least(a: u32, b: u32) -> u32 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

/// What a session has in any case, and fragments, is little enough that all together keep below the cap of all; the rest is
/// lent.
fn share_of(ceil: u64, total_kbps: u32) -> Rate {
    let shares = u64::from(MAX_SESSIONS) + 1;
    let share = if total_kbps == 0 { ceil } else { on_the_wire(total_kbps) / shares };
    rate(share.min(ceil), ceil)
}

/// Fragments are held down while somebody has a cap.
fn fragments_rate(least_kbps: u32, total_kbps: u32) -> Rate {
    let part = if least_kbps == 0 { 1 } else { FRAGMENT_PART };
    share_of(on_the_wire(least_kbps) / part, total_kbps)
}

fn rate(rate: u64, ceil: u64) -> Rate {
    Rate { rate: rate.max(1), ceil, burst: (ceil / BURST_PART).max(MIN_BURST), priority: 1 }
}

/// Bytes a second of a cap of payload in kbit/s.
fn on_the_wire(kbps: u32) -> u64 {
    if kbps == 0 { UNLIMITED } else { u64::from(kbps) * 125 * WIRE.0 / WIRE.1 }
}

fn queue(kbps: u32) -> Queue {
    let within = |number: u64, range: RangeInclusive<u32>| {
        u32::try_from(number).unwrap_or(u32::MAX).clamp(*range.start(), *range.end())
    };
    let per_second = on_the_wire(kbps);
    let bytes = per_second * QUEUE_MS / 1000;
    let memory = within(bytes, MEMORY);
    Queue::SmallFair {
        packets: within(bytes / WIRE.0, QUEUE),
        flows: QUEUE_FLOWS,
        memory,
        target_us: within(u64::from(memory) * 1_000_000 / per_second.max(1), TARGET_US),
    }
}

/// What serves instead where the kernel has no `fq_codel`.
pub fn plain(queue: Queue) -> Queue {
    match queue {
        Queue::Fair => Queue::Plain(OTHERS_QUEUE),
        Queue::SmallFair { packets, .. } => Queue::Plain(packets),
        Queue::Plain(_) => queue,
    }
}

#[cfg(test)]
mod tests;

//! Who may stand before the door: connections that nobody has authenticated yet, and their TLS handshakes.
//!
//! A connection costs its peer one packet, and a handshake costs the router more than the peer. Both are bounded, for
//! all sources together and for each. At a bound the heaviest group of sources gives way first, and within it the
//! heaviest source: whoever opens few connections is served while somebody else opens thousands. A source from which a
//! buyer was authenticated lately never gives way to one that is unknown.
mod recent;
mod source;

use crate::mutant;
use crate::session::limits::Bucket;
use crate::sorted::SortedMap;
use recent::Recent;
pub use source::Source;
use std::collections::VecDeque;

/// Buyers' sources that are remembered.
pub const MAX_KNOWN: usize = 512;
/// How long a buyer's source is remembered, milliseconds: a day.
pub const KNOWN_MS: u64 = 24 * 3600 * 1000;
/// How long a source's own newcomer does not push out its oldest connection, milliseconds. It bounds what a source at
/// its limit can make the node do; a buyer behind the same address comes in between the slow ones all the same.
pub const GRACE_MS: u64 = 1000;
/// How long after the last time that a bound was met the flood counts as going on, milliseconds.
pub const FLOOD_MS: u64 = 60_000;
/// Handshakes of known sources for each of the unknown ones'.
const KNOWN_SHARE: u32 = 4;
/// How fast a handshake of a group is forgotten when turns are given, thousandths per second: in 20 seconds. A flood from
/// many networks has had a handshake for each of them by then, and a new network comes before all of those.
const GROUP_LEAK: u32 = 50;

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are not authenticated, of all sources.
    pub pending: usize,
    /// The same of one source; one that is known may have half of all.
    pub pending_per_source: usize,
    /// TLS handshakes per second of all sources that are not known.
    pub handshakes: u32,
    /// The same of one source.
    pub handshakes_per_source: u32,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections dropped because of a bound.
    pub dropped: u64,
    /// Connections whose time was over before a buyer was authenticated.
    pub late: u64,
}

/// The verdict on a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<T> {
    /// It has this seat; the other connection, if there is one, has to go.
    Seated(u64, Option<T>),
    /// It has to go.
    Refused,
}

/// The table. `T` is what the caller knows a connection by.
#[derive(Debug)]
pub struct Admission<T> {
    limits: Limits,
    next: u64,
    seats: SortedMap<u64, Seat<T>>,
    sources: SortedMap<Source, Held>,
    /// Seats of each group.
    groups: SortedMap<Source, u64>,
    known: SortedMap<Source, u64>,
    waiting: usize,
    unknown_budget: Bucket,
    known_budget: Bucket,
    by_source: Recent,
    by_group: Recent,
    counts: Counts,
    bitten_ms: Option<u64>,
}

#[derive(Debug)]
struct Seat<T> {
    source: Source,
    since_ms: u64,
    waits: bool,
    tag: T,
}

/// Which handshakes may be made at a moment.
struct Turns {
    now_ms: u64,
    /// What a source may have had lately at most, thousandths.
    per_source: u32,
    known: bool,
    /// Of unknown sources whose group has had none lately; and of any.
    unknown: bool,
    again: bool,
}

/// The order of turns, first to last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_unknown: bool,
    /// What the group has had lately, and its seats.
    group: u32,
    seats: u64,
    /// What the source has had lately.
    own: u32,
    id: u64,
}

/// The seats of one source, oldest first.
#[derive(Debug, Default)]
struct Held {
    seats: VecDeque<u64>,
    known: bool,
}

impl<T: Clone> Admission<T> {
    /// An empty table.
    pub fn new(limits: Limits) -> Admission<T> {
        Admission {
            limits,
            next: 0,
            seats: SortedMap::new(),
            sources: SortedMap::new(),
            groups: SortedMap::new(),
            known: SortedMap::new(),
            waiting: 0,
            unknown_budget: budget(limits.handshakes),
            known_budget: budget(limits.handshakes.saturating_mul(KNOWN_SHARE)),
            by_source: Recent::default(),
            by_group: Recent::default(),
            counts: Counts::default(),
            bitten_ms: None,
        }
    }

    /// Other bounds from now on; who has a seat keeps it.
    pub fn set_limits(&mut self, limits: Limits) {
        if limits != self.limits {
            self.limits = limits;
            self.unknown_budget = budget(limits.handshakes);
            self.known_budget = budget(limits.handshakes.saturating_mul(KNOWN_SHARE));
        }
    }

    /// A connection was accepted.
    pub fn arrive(&mut self, source: Source, now_ms: u64, tag: T) -> Arrival<T> {
        let known = self.is_known(source, now_ms);
        let own = self.sources.get(&source).map_or(0, |h| h.seats.len());
        let most = if known { (self.limits.pending / 2).max(1) } else { self.limits.pending_per_source };
        let place = if own >= most && !mutant::out("pending-per-source") {
            self.oldest_of(source, now_ms)
        } else if self.seats.len() >= self.limits.pending && !mutant::out("pending-cap") {
            self.heaviest(source, known, now_ms)
        } else {
            return Arrival::Seated(self.seat(source, known, now_ms, tag), None);
        };
        self.bitten_ms = Some(now_ms);
        self.counts.dropped += 1;
        match place {
            Some(out) => {
                let out = self.leave(out);
                Arrival::Seated(self.seat(source, known, now_ms, tag), out)
            }
            None => Arrival::Refused,
        }
    }

    /// Takes a seat for other needs, such as when descriptors run out; `None` if none is taken.
    pub fn shed(&mut self, now_ms: u64) -> Option<T> {
        let seat = self.worst(None, false).or_else(|| self.worst(None, true))?.1;
        self.bitten_ms = Some(now_ms);
        self.counts.dropped += 1;
        self.leave(seat)
    }

    /// A connection is over, or a buyer's: the seat is free. `None` if it was taken away before.
    pub fn leave(&mut self, seat: u64) -> Option<T> {
        let gone = self.seats.remove(&seat)?;
        self.waiting -= usize::from(gone.waits);
        let group = gone.source.group();
        match self.seats_of(group) {
            0 | 1 => self.groups.remove(&group),
            seats => self.groups.insert(group, seats - 1),
        };
        if let Some(held) = self.sources.get_mut(&gone.source) {
            held.seats.retain(|s| *s != seat);
            if held.seats.is_empty() {
                self.sources.remove(&gone.source);
            }
        }
        Some(gone.tag)
    }

    /// A connection's time was over.
    pub fn late(&mut self, seat: u64) {
        if self.leave(seat).is_some() {
            self.counts.late += 1;
        }
    }

    /// A buyer was authenticated from this source.
    pub fn authenticated(&mut self, source: Source, now_ms: u64) {
        if self.known.len() >= MAX_KNOWN
            && !self.known.contains_key(&source)
            && let Some(oldest) = self.known.iter().min_by_key(|(_, at)| **at).map(|(s, _)| *s)
        {
            self.known.remove(&oldest);
        }
        self.known.insert(source, now_ms);
        if let Some(held) = self.sources.get_mut(&source) {
            held.known = true;
        }
    }

    /// A connection has its ClientHello ready. [`Admission::grant`] says when its turn has come; whether that may be now.
    pub fn ask(&mut self, seat: u64, now_us: u64) -> bool {
        let turns = self.turns(now_us);
        let Some(asks) = self.seats.get_mut(&seat) else { return false };
        if !asks.waits {
            asks.waits = true;
            self.waiting += 1;
        }
        self.seats.get(&seat).is_some_and(|asks| self.rank(&turns, seat, asks).is_some())
    }

    /// Whether somebody waits for a handshake.
    pub fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// The next connection that may shake hands now: one of a known source, else of the group that has had the least lately,
    /// of such groups the one with the fewest seats, and then the oldest of the source that has had the least. Half of what
    /// unknown sources may do at once is for groups that have had none: who comes for the first time so does not wait while
    /// those who come again and again take every turn as soon as there is one.
    pub fn grant(&mut self, now_us: u64) -> Option<T> {
        let turns = self.turns(now_us);
        let Turns { now_ms, per_source, .. } = turns;
        let waiting = self.seats.iter().filter(|(_, s)| s.waits);
        let ranks = waiting.filter_map(|(id, s)| self.rank(&turns, *id, s));
        let Some(Rank { is_unknown, id, .. }) = ranks.min() else {
            self.note_wait(now_ms);
            return None;
        };
        if is_unknown {
            self.unknown_budget.take(1)
        } else {
            self.known_budget.take(1)
        }
        let seat = self.seats.get_mut(&id)?;
        seat.waits = false;
        self.waiting -= 1;
        self.by_source.add(seat.source, per_source, now_ms);
        self.by_group.add(seat.source.group(), GROUP_LEAK, now_ms);
        Some(seat.tag.clone())
    }

    fn turns(&mut self, now_us: u64) -> Turns {
        let free = mutant::out("handshake-rate");
        let left = self.unknown_budget.available(now_us);
        Turns {
            now_ms: now_us / 1000,
            per_source: self.limits.handshakes_per_source.saturating_mul(1000),
            known: free || self.known_budget.available(now_us) > 0,
            unknown: free || left > 0,
            again: free || left > at_once(self.limits.handshakes) / 2,
        }
    }

    fn seats_of(&self, group: Source) -> u64 {
        self.groups.get(&group).copied().unwrap_or(0)
    }

    /// Where in the order a connection stands; `None` if it may not shake hands now.
    fn rank(&self, turns: &Turns, id: u64, seat: &Seat<T>) -> Option<Rank> {
        let is_known = self.sources.get(&seat.source).is_some_and(|h| h.known);
        let own = self.by_source.level(seat.source, turns.per_source, turns.now_ms);
        let within = is_known
            || own.saturating_add(1000) <= turns.per_source
            || mutant::out("handshake-rate-per-source");
        let group = self.by_group.level(seat.source.group(), GROUP_LEAK, turns.now_ms);
        let may = if is_known { turns.known } else { turns.again || (turns.unknown && group == 0) };
        let seats = self.seats_of(seat.source.group());
        (may && within).then_some(Rank { is_unknown: !is_known, group, seats, own, id })
    }

    /// Whether a bound was met lately.
    pub fn is_flooded(&self, now_ms: u64) -> bool {
        self.bitten_ms.is_some_and(|at| now_ms.saturating_sub(at) < FLOOD_MS)
    }

    /// What has happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn note_wait(&mut self, now_ms: u64) {
        // A few that wait are the rule at work on honest buyers; many are a flood.
        if self.waiting * 8 >= self.limits.pending {
            self.bitten_ms = Some(now_ms);
        }
    }

    fn is_known(&self, source: Source, now_ms: u64) -> bool {
        let lately = |at: &u64| now_ms.saturating_sub(*at) < KNOWN_MS;
        source == Source::Local
            || (self.known.get(&source).is_some_and(lately) && !mutant::out("known-source"))
    }

    fn seat(&mut self, source: Source, known: bool, since_ms: u64, tag: T) -> u64 {
        let id = self.next;
        self.next += 1;
        self.seats.insert(id, Seat { source, since_ms, waits: false, tag });
        self.groups.insert(source.group(), self.seats_of(source.group()) + 1);
        self.sources.edit(source, Held::default, |held| {
            held.seats.push_back(id);
            held.known = known;
        });
        id
    }

    /// The source's oldest seat, unless that is so young that the newcomer had better go.
    fn oldest_of(&self, source: Source, now_ms: u64) -> Option<u64> {
        let oldest = *self.sources.get(&source)?.seats.front()?;
        let since = self.seats.get(&oldest)?.since_ms;
        (now_ms.saturating_sub(since) >= GRACE_MS).then_some(oldest)
    }

    /// The seat that gives way to this newcomer when all are taken; `None` if the newcomer itself does.
    fn heaviest(&self, newcomer: Source, known: bool, now_ms: u64) -> Option<u64> {
        let unknown = self.worst((!known).then_some(newcomer), false);
        let found = if known { unknown.or_else(|| self.worst(Some(newcomer), true)) } else { unknown };
        let (source, seat) = found?;
        if source == newcomer { self.oldest_of(source, now_ms) } else { Some(seat) }
    }

    /// Source and oldest seat of the heaviest source of the heaviest group, known or not, with the newcomer counted in;
    /// of equals the one that has had its seat longest.
    fn worst(&self, newcomer: Option<Source>, known: bool) -> Option<(Source, u64)> {
        let own_group = newcomer.map(Source::group);
        let mut worst: Option<(usize, Load)> = None;
        let mut group: Option<(Source, usize, Load)> = None;
        for (source, held) in self.sources.iter().filter(|(_, h)| h.known == known) {
            let Some(oldest) = held.seats.front() else { continue };
            let load = Load {
                seats: held.seats.len() + usize::from(newcomer == Some(*source)),
                oldest: *oldest,
                source: *source,
            };
            group = match group {
                Some((of, total, most)) if of == source.group() => {
                    Some((of, total + held.seats.len(), most.heavier(load)))
                }
                before => {
                    worst = heavier_group(worst, before);
                    let own = usize::from(own_group == Some(source.group()));
                    Some((source.group(), held.seats.len() + own, load))
                }
            };
        }
        heavier_group(worst, group).map(|(_, load)| (load.source, load.oldest))
    }
}

/// What one source holds.
#[derive(Clone, Copy, Debug)]
struct Load {
    seats: usize,
    oldest: u64,
    source: Source,
}

impl Load {
    fn heavier(self, other: Load) -> Load {
        let key = |l: &Load| (l.seats, std::cmp::Reverse(l.oldest));
        if key(&other) > key(&self) { other } else { self }
    }
}

fn heavier_group(a: Option<(usize, Load)>, b: Option<(Source, usize, Load)>) -> Option<(usize, Load)> {
    let Some((_, total, load)) = b else { return a };
    let key = |(total, load): &(usize, Load)| (*total, std::cmp::Reverse(load.oldest));
    match a {
        Some(a) if key(&a) >= key(&(total, load)) => Some(a),
        _ => Some((total, load)),
    }
}

/// Handshakes that may be made at once: a quarter of a second's.
fn at_once(per_second: u32) -> u64 {
    (per_second / 4).max(1).into()
}

fn budget(per_second: u32) -> Bucket {
    Bucket::new(per_second.into(), at_once(per_second))
}

#[cfg(test)]
mod tests;

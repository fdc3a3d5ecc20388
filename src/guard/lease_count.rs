//! Leases' packets counted a second time, where connection tracking has no part in it: at the WAN's devices, before any
//! flowtable takes a packet and behind all that sends one. Only what has a lease's buyer and port at its ends is counted.
//!
//! Between buyer and router alone: there both directions are known by the lease's port, while towards the target they
//! have a port that NAT chose.
use super::draft::{Draft, NamedChain, NamedSet, Rendered};
use super::found::{Amount, Found};
use super::framed::{self, At, Cover, Elsewhere, OfLease};
use super::lease_rules::LeaseScope;
use super::lease_set::{BUYERS, key};
use super::lease_wire::{Counted, CtId, Grant};
use super::rules::{Word as W, device};
use super::table::{COUNTING, Device, Hook, Key, Place};
use crate::sorted::{SortedMap, SortedSet};

/// The counters: from buyers, and to them.
pub const COUNTERS: [&str; 2] = ["from_buyers", "to_buyers"];
/// The chains of a device, inward and outward; devices at most.
const CHAINS: [(&str, &str); 4] = [("in0", "out0"), ("in1", "out1"), ("in2", "out2"), ("in3", "out3")];
/// Before a flowtable (0), which keeps the packets that it takes.
const PRIORITY: i32 = -50;

/// Where all packets of the WAN pass, whatever layer a flowtable takes or sends them at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The devices by which they come in, and those by which they leave.
    pub devices: [SortedSet<String>; 2],
    /// Bytes that each of them has there before its IP header.
    pub headers: [u64; 2],
    /// They come in as the frames of a PPPoE line.
    pub framed: bool,
}

impl Places {
    /// The same devices both ways.
    pub fn plain(devices: SortedSet<String>, link_header: u64) -> Places {
        // What comes in has lost its link's header.
        Places { devices: [devices.clone(), devices], headers: [0, link_header], framed: false }
    }

    /// A PPPoE line: a flowtable takes frames in at the devices below, and sends by the line's own (kernel: `nft_dev_path_info`,
    /// `DEV_PATH_PPPOE`), where packets have no header yet.
    pub fn pppoe(below: SortedSet<String>, line: SortedSet<String>) -> Places {
        Places { devices: [below, line], headers: [framed::HEADER.into(), 0], framed: true }
    }

    /// Whether the table can be at so many devices.
    pub fn have_room(&self) -> bool {
        self.devices.iter().all(|list| (1..=CHAINS.len()).contains(&list.len()))
    }
}

/// The table at these places, at most [`CHAINS`] each way; `outward` where the kernel has a place behind its routes (Linux 5.16).
pub fn render(scope: &LeaseScope, places: &Places, outward: bool, grants: &[Grant]) -> Rendered {
    let cover = Cover::of(scope.ports);
    let [inward, out] = &places.devices;
    let mut chains: Vec<NamedChain> = Vec::new();
    let mut at = |name, place, rules| {
        chains.push((name, Some(Hook { nat: false, place, priority: PRIORITY }), rules));
    };
    for (name, (chain, _)) in inward.iter().zip(CHAINS) {
        at(chain, Place::Ingress(named(name)), counted(false, places.framed, cover));
    }
    let out = out.iter().filter(|_| outward);
    for (name, (_, chain)) in out.zip(CHAINS) {
        at(chain, Place::Egress(named(name)), counted(true, false, cover));
    }
    let counters = if outward { &COUNTERS[..] } else { &["from_buyers"] };
    Draft { name: COUNTING, counters, sets: buyers(grants), flowtables: Vec::new(), chains }.rendered()
}

fn named(name: &str) -> Device {
    device(name).try_into().unwrap_or_default()
}

/// A packet of no lease leaves by its port; the sets are asked about the others alone. All in one chain, since going to another
/// one costs as much as a rule.
fn counted(out: bool, framed: bool, cover: Cover) -> Vec<Vec<W>> {
    let [from, to] = COUNTERS;
    let counter = if out { to } else { from };
    let ports = if framed {
        vec![At::Framed { v6: false }, At::Framed { v6: true }]
    } else {
        vec![At::Plain { out }]
    };
    let elsewhere = ports.into_iter().map(|at| vec![W::Elsewhere(Elsewhere { at, cover }), W::Accept]);
    let of_lease = [false, true]
        .into_iter()
        .zip(BUYERS)
        .map(|(v6, set)| vec![W::OfLease(OfLease { v6, out, framed, set }), W::Count(counter), W::Accept]);
    elsewhere.chain(of_lease).collect()
}

fn buyers(grants: &[Grant]) -> Vec<NamedSet> {
    let (v6, v4): (Vec<&Grant>, Vec<&Grant>) = grants.iter().partition(|g| g.buyer.is_ipv6());
    let set = |name, kind, list: &[&Grant]| {
        let elements = list.iter().map(|g| (key(g), false)).collect();
        (name, kind, elements, list.iter().map(|g| format!("{} . {}", g.buyer, g.port)).collect())
    };
    let [four, six] = BUYERS;
    vec![set(four, Key::V4Counted, &v4), set(six, Key::V6Counted, &v6)]
}

/// Both counts, from the beginning of a round.
#[derive(Debug, Default)]
pub struct Sums {
    /// Rounds that have begun: where one of the counts was interfered with, both begin anew.
    pub round: u32,
    /// Connections of this round.
    pub flows: u64,
    /// What connection tracking has counted: from buyers, and for them.
    pub tracked: [Amount; 2],
    /// What the table has.
    pub seen: [Amount; 2],
    live: SortedMap<CtId, Counted>,
    read: [Amount; 2],
}

impl Sums {
    /// Connection tracking's counters of a connection. What has fallen was set back to zero.
    pub fn track(&mut self, now: &Counted) {
        let before = self.live.insert(now.ct, *now);
        self.flows += u64::from(before.is_none());
        let before = before.unwrap_or_default();
        for (way, sum) in self.tracked.iter_mut().enumerate() {
            let [now, before] = [now, &before].map(|c| amount(c, way));
            let fell = now.packets < before.packets || now.bytes < before.bytes;
            sum.add(if fell { now } else { now.less(before) });
        }
    }

    /// Its last ones.
    pub fn closed(&mut self, last: &Counted) {
        self.track(last);
        self.live.remove(&last.ct);
    }

    /// All that there are.
    pub fn all(&mut self, list: &[Counted]) {
        list.iter().for_each(|counted| self.track(counted));
        let there: SortedSet<CtId> = list.iter().map(|c| c.ct).collect();
        self.live.retain(|ct, _| there.contains(ct));
    }

    /// The table's counters; each packet has so many bytes before its IP header, inward and outward. False if they have fallen.
    #[must_use]
    pub fn read(&mut self, found: &Found, headers: [u64; 2]) -> bool {
        let count = |name: &str| found.counts().get(name).copied().unwrap_or_default();
        let mut whole = true;
        for ((name, read), (seen, header)) in
            COUNTERS.into_iter().zip(&mut self.read).zip(self.seen.iter_mut().zip(headers))
        {
            let now = count(name);
            whole &= now.packets >= read.packets && now.bytes >= read.bytes;
            let new = now.less(*read);
            let bytes = new.bytes.saturating_sub(new.packets.saturating_mul(header));
            seen.add(Amount { packets: new.packets, bytes });
            *read = now;
        }
        whole
    }

    /// The table is a new one, with counters at zero.
    pub fn from_zero(&mut self) {
        self.read = Default::default();
    }

    /// Both counts begin anew.
    pub fn begin(&mut self) {
        *self = Sums {
            round: self.round.wrapping_add(1),
            live: std::mem::take(&mut self.live),
            ..Sums::default()
        };
        self.flows = u64::try_from(self.live.len()).unwrap_or(u64::MAX);
    }
}

fn amount(counted: &Counted, way: usize) -> Amount {
    let of = |list: &[u64; 2]| list.get(way).copied().unwrap_or(0);
    Amount { packets: of(&counted.packets), bytes: of(&counted.bytes) }
}

#[cfg(test)]
mod tests;

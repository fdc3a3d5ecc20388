//! The leases that the kernel has, as the guard knows them: it trusts `run` with nothing that it can check itself.
//!
//! Pure: each event gives what is to be done, in order. The glue does it, and says when the kernel would not.
use super::found::Found;
use super::lease_rules::LeaseScope;
use super::lease_set::{data, key, limit, sets};
use super::lease_wire::{Denial, Grant, LeaseNo, LeaseReport, MAX_TTL_S};
use super::ranges::Ranges;
use crate::mutant::out;
use crate::sorted::SortedMap;
use std::net::IpAddr;

/// Leases at most.
pub const MAX_LEASES: usize = 256;
/// How far the kernel's time and the guard's may be apart when elements are compared, milliseconds: a transaction takes a
/// while, and so does reading.
const SLACK_MS: u64 = 3_000;
/// How much later than the guard's an element's time may be over in the kernel, milliseconds: it begins when the element is put there,
/// and on a slow router that is busy the first lease's table takes seconds to build. The guard ends a lease at its own time.
const LATE_MS: u64 = 15_000;

/// How long the table stays when no lease lives, milliseconds: the next one is not to wait for another table.
const LINGER_MS: u64 = 60_000;

/// Something to be done with the kernel, or said. If one fails, those behind it are not done, but what
/// [`Book::failed`] says is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The table is not there: it is to be put in force, for this lease, and read back.
    Build(LeaseNo),
    /// The elements of a lease are to be put in.
    Add(Grant),
    /// They are to be put in again, with new time.
    Renew(Grant),
    /// They are to be taken out, if they are there, and the lease's connections are to be killed: those from `buyer` to
    /// `port`; read back.
    Remove(Grant),
    /// The table goes, and every connection with the mark of leases; read back.
    Clear,
    /// To be said to `run`.
    Say(LeaseReport),
}

/// What a grant is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Ports and marks.
    pub scope: &'a LeaseScope,
    /// What may not be reached, IPv4 and IPv6: what the table denies.
    pub denied: (&'a Ranges, &'a Ranges),
    /// Whether leases are possible at all now.
    pub possible: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    grant: Grant,
    /// When the kernel has dropped it by itself, monotonic milliseconds.
    ends_ms: u64,
}

/// The book of leases.
#[derive(Debug, Default)]
pub struct Book {
    entries: SortedMap<LeaseNo, Entry>,
    /// Whether the table stands.
    built: bool,
    /// When it goes if no lease comes.
    idle_ms: Option<u64>,
}

impl Book {
    /// Whether no lease lives.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The lease of a buyer's port.
    pub fn of(&self, buyer: IpAddr, port: u16) -> Option<&Grant> {
        self.grants().find(|g| (g.buyer, g.port) == (buyer, port))
    }

    /// All that live.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.entries.values().map(|e| &e.grant)
    }

    /// `run` asks for a lease.
    pub fn grant(&mut self, grant: Grant, site: &Site<'_>, now_ms: u64) -> Vec<Action> {
        if let Some(why) = self.refusal(&grant, site) {
            return vec![Action::Say(LeaseReport::Denied { no: grant.no, why })];
        }
        let ends_ms = now_ms.saturating_add(u64::from(grant.ttl_s) * 1000);
        self.entries.insert(grant.no, Entry { grant, ends_ms });
        self.idle_ms = None;
        let mut actions = Vec::new();
        if !std::mem::replace(&mut self.built, true) {
            actions.push(Action::Build(grant.no));
        }
        actions.extend([Action::Add(grant), Action::Say(LeaseReport::Granted { no: grant.no })]);
        actions
    }

    fn refusal(&self, grant: &Grant, site: &Site<'_>) -> Option<Denial> {
        let Site { scope, denied, possible } = *site;
        let (first, last) = scope.ports;
        let is_denied = |a: IpAddr| denied.0.contains(a) || denied.1.contains(a);
        let in_range = (first..=last).contains(&grant.port);
        let is_known = self.entries.contains_key(&grant.no) || self.grants().any(|g| g.port == grant.port);
        let bad = [
            !possible,
            !out("lease-guard-target") && is_denied(grant.target),
            !out("lease-guard-buyer") && is_denied(grant.buyer),
            !out("lease-guard-range") && !in_range,
            grant.buyer.is_ipv4() != grant.target.is_ipv4(),
            !(1..=MAX_TTL_S).contains(&grant.ttl_s),
            is_known,
        ];
        if bad.contains(&true) {
            return Some(Denial::Failed);
        }
        (self.entries.len() >= MAX_LEASES).then_some(Denial::Full)
    }

    /// The kernel did not do what was to be done. A lease that cannot be put in is denied; after anything else nobody knows
    /// what is there, so everything ends. That is tried again until it is done.
    pub fn failed(&mut self, action: &Action, now_ms: u64) -> Vec<Action> {
        let denied = |no| Action::Say(LeaseReport::Denied { no, why: Denial::Failed });
        match action {
            Action::Say(_) => Vec::new(),
            Action::Build(no) => [self.end_all(), vec![denied(*no)]].concat(),
            Action::Add(Grant { no, .. }) => {
                self.forget(*no, now_ms);
                vec![denied(*no)]
            }
            Action::Renew(_) | Action::Remove(_) | Action::Clear => self.end_all(),
        }
    }

    /// `run` wants a lease to live on. One that is not there any more is not renewed: `run` has been told, or is about to be.
    pub fn renew(&mut self, no: LeaseNo, ttl_s: u16, now_ms: u64) -> Vec<Action> {
        let Some(entry) = self.entries.get_mut(&no).filter(|e| e.ends_ms > now_ms) else { return Vec::new() };
        entry.grant.ttl_s = ttl_s.clamp(1, MAX_TTL_S);
        entry.ends_ms = now_ms.saturating_add(u64::from(entry.grant.ttl_s) * 1000);
        vec![Action::Renew(entry.grant)]
    }

    /// `run` ends a lease. One that is not there has ended.
    pub fn end(&mut self, no: LeaseNo, now_ms: u64) -> Vec<Action> {
        let gone = self.forget(no, now_ms).map(Action::Remove);
        gone.into_iter().chain([Action::Say(LeaseReport::Ended { no })]).collect()
    }

    fn forget(&mut self, no: LeaseNo, now_ms: u64) -> Option<Grant> {
        let entry = self.entries.remove(&no)?;
        if self.entries.is_empty() {
            self.idle_ms = Some(now_ms.saturating_add(LINGER_MS));
        }
        Some(entry.grant)
    }

    /// Leases whose time is over end: the kernel has dropped their elements, not their connections. The table goes when
    /// there were none for a while: then nothing of the router's is closed.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Action> {
        let over = self.entries.iter().filter(|(_, e)| e.ends_ms <= now_ms).map(|(no, _)| *no);
        let over: Vec<LeaseNo> = over.collect();
        let mut actions: Vec<Action> = over.into_iter().flat_map(|no| self.end(no, now_ms)).collect();
        if self.idle_ms.take_if(|due| *due <= now_ms).is_some() && std::mem::take(&mut self.built) {
            actions.push(Action::Clear);
        }
        actions
    }

    /// When [`Book::expire`] is due.
    pub fn due_ms(&self) -> Option<u64> {
        self.entries.values().map(|e| e.ends_ms).chain(self.idle_ms).min()
    }

    /// All leases end: `run` wants it or is gone, the table is another one because the network or the configuration is, somebody
    /// else has changed it, a transaction failed, or another program wants their ports.
    pub fn end_all(&mut self) -> Vec<Action> {
        self.entries.clear();
        self.built = false;
        self.idle_ms = None;
        vec![Action::Clear, Action::Say(LeaseReport::Gone)]
    }

    /// Whether the kernel has these leases and no others. One whose time is about to be over may be there or not.
    pub fn is_whole(&self, found: &Found, now_ms: u64) -> bool {
        [false, true].into_iter().all(|v6| {
            let (open, leases) = sets(v6);
            let (Some(open), Some(leases)) = (found.leases(open), found.leases(leases)) else { return false };
            let wanted: SortedMap<Vec<u8>, &Entry> = self
                .entries
                .values()
                .filter(|e| e.grant.buyer.is_ipv6() == v6)
                .map(|e| (key(&e.grant), e))
                .collect();
            let left = |e: &Entry| e.ends_ms.saturating_sub(now_ms).saturating_add(LATE_MS);
            let all_known = open.iter().all(|(k, found)| {
                wanted.get(k).is_some_and(|e| found.limit.is_none() && found.left_ms <= left(e))
            }) && leases.iter().all(|(k, found)| {
                wanted.get(k).is_some_and(|e| {
                    let as_granted = found.data == data(&e.grant) && found.limit == Some(limit(&e.grant));
                    as_granted && found.left_ms <= left(e)
                })
            });
            let is_there = |k, e: &Entry| {
                e.ends_ms <= now_ms.saturating_add(SLACK_MS) || open.contains_key(k) && leases.contains_key(k)
            };
            all_known && wanted.iter().all(|(k, e)| is_there(k, e))
        })
    }
}

#[cfg(test)]
mod tests;

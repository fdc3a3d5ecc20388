//! What other programs claim of the ports that leases have: sockets of this router that listen, and redirections in other tables
//! (the owner's, a UPnP daemon's). The table of leases comes before both, so a range that meets one is not used.
//!
//! Rules of others are read for what could send a new TCP connection from the WAN elsewhere. What is not understood counts
//! as a claim: a lease less does no harm, a port taken from the owner does.
mod reading;

use self::reading::{Reading, port};
use super::early::Early;
use super::found::Theirs;
use super::messages::{INTERVAL_END, NEW_ELEMENTS, NEW_RULE, number};
use super::netlink::{self as nl, Message, attributes};
use crate::sorted::SortedSet;
use std::net::{IpAddr, Ipv6Addr};

/// Sets of others that are looked into at most; the rest count as claims.
pub const MAX_SETS: usize = 64;
/// Claims that are kept at most: one is enough to refuse a range.
const MAX_CLAIMS: usize = 64;

/// A set of another table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetName {
    /// `NFPROTO_*`.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Its name.
    pub set: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    /// These ports.
    Range(u16, u16),
    /// Those in a set, so many bytes into its keys.
    In(SetName, usize),
}

/// Ports that somebody claims, and who.
#[derive(Debug)]
pub struct Survey {
    ports: (u16, u16),
    wan: SortedSet<String>,
    claims: Vec<(Which, String)>,
    early: Early,
}

impl Survey {
    /// Of this range, on a router whose WAN has these devices.
    pub fn new(ports: (u16, u16), wan: &SortedSet<String>) -> Survey {
        Survey { ports, wan: wan.clone(), claims: Vec::new(), early: Early::default() }
    }

    /// Takes in a message of a dump of all chains.
    pub fn take_chain(&mut self, message: &Message<'_>) {
        self.early.take_chain(message);
    }

    /// Takes in a message of a dump of all rules.
    pub fn take_rule(&mut self, message: &Message<'_>) {
        let Some(theirs) = Theirs::of(message, NEW_RULE, 2) else { return };
        self.early.take_rule(&theirs);
        let Theirs { family, table, chain, body } = theirs;
        let mut reading = Reading::new(family, &self.wan);
        for (_, expression) in attributes(nl::attribute(body, 4).unwrap_or_default()) {
            let data = nl::attribute(expression, 2).unwrap_or_default();
            reading.take(nl::text(expression, 1).unwrap_or_default(), data);
        }
        if reading.takes() {
            let which = match reading.set {
                Some((set, at)) => Which::In(SetName { family, table: table.to_owned(), set }, at),
                None => Which::Range(reading.ports.0, reading.ports.1),
            };
            self.add(which, format!("a redirection in table {table}, chain {chain}"));
        }
    }

    /// Takes in a socket: where it listens.
    fn take_listener(&mut self, address: IpAddr, port: u16) {
        if !address.is_loopback() {
            self.add(Which::Range(port, port), format!("a program that listens at {address} port {port}"));
        }
    }

    /// Takes in `/proc/net/tcp` or `/proc/net/tcp6` (proc_pid_net(5)).
    pub fn take_sockets(&mut self, text: &str) {
        for line in text.lines().skip(1) {
            let mut fields = line.split_whitespace().skip(1);
            let (Some(local), Some(state)) = (fields.next(), fields.nth(1)) else { continue };
            if state == LISTENING
                && let Some((address, port)) = socket(local)
            {
                self.take_listener(address, port);
            }
        }
    }

    fn add(&mut self, which: Which, whose: String) {
        let (first, last) = self.ports;
        let meets = !matches!(which, Which::Range(a, b) if b < first || last < a);
        if meets && self.claims.len() < MAX_CLAIMS {
            self.claims.push((which, whose));
        }
    }

    /// The sets that have to be read before anything can be said.
    pub fn sets(&self) -> SortedSet<SetName> {
        let of = |(which, _): &(Which, String)| match which {
            Which::In(set, _) => Some(set.clone()),
            Which::Range(..) => None,
        };
        self.claims.iter().filter_map(of).take(MAX_SETS).collect()
    }

    /// What a set holds, from a dump of its elements: the claims by it become those of its ports.
    pub fn resolve(&mut self, set: &SetName, elements: &Elements) {
        for (which, whose) in std::mem::take(&mut self.claims) {
            match &which {
                Which::In(name, at) if name == set => {
                    for (first, last) in elements.ports(*at) {
                        self.add(Which::Range(first, last), whose.clone());
                    }
                }
                _ => self.claims.push((which, whose)),
            }
        }
    }

    /// Who is in the way of leases: a sentence. A set that was not read counts as all ports.
    pub fn claim(&self) -> Option<String> {
        self.claim_of_range().or_else(|| self.early.claim())
    }

    fn claim_of_range(&self) -> Option<String> {
        let (which, whose) = self.claims.first()?;
        let (first, last) = self.ports;
        let all = (0, u16::MAX);
        let (a, b) = match which {
            Which::Range(a, b) => (*a, *b),
            Which::In(..) => all,
        };
        let what = match (a.max(first), b.min(last)) {
            _ if (a, b) == all => "all ports".to_owned(),
            (a, b) if a == b => format!("port {a}"),
            (a, b) => format!("ports {a}-{b}"),
        };
        Some(format!("lease.ports {first}-{last}: {whose} has {what}; choose another range"))
    }
}

/// `TCP_LISTEN` in hexadecimal.
const LISTENING: &str = "0A";

/// `ADDRESS:PORT` in hexadecimal, the address in words of the machine's own order.
fn socket(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word =
        |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

/// The elements of a set, as a dump tells them.
#[derive(Debug, Default)]
pub struct Elements {
    /// Key, last key of a range if the element says so, and whether it is the first beyond one.
    list: Vec<(Vec<u8>, Option<Vec<u8>>, bool)>,
}

/// Elements that are looked at; a port's set has no more.
const MAX_ELEMENTS: usize = 65_536;

impl Elements {
    /// Takes in a message.
    pub fn take(&mut self, message: &Message<'_>) {
        let body = message.body.get(4..).filter(|_| message.kind == number(NEW_ELEMENTS)).unwrap_or_default();
        let key = |element, kind| nl::attribute(nl::attribute(element, kind)?, 1).map(<[u8]>::to_vec);
        for (_, element) in attributes(nl::attribute(body, 3).unwrap_or_default()) {
            if let Some(first) = key(element, 1).filter(|_| self.list.len() < MAX_ELEMENTS) {
                let ends = nl::be32(element, 3).unwrap_or(0) & INTERVAL_END != 0;
                self.list.push((first, key(element, 10), ends));
            }
        }
    }

    /// The ports so many bytes into the keys.
    fn ports(&self, at: usize) -> Vec<(u16, u16)> {
        let of = |key: &[u8]| key.get(at..).and_then(port);
        let mut sorted: Vec<_> = self.list.iter().collect();
        sorted.sort();
        let has_ends = sorted.iter().any(|e| e.2);
        let mut found = Vec::new();
        for (index, (key, last, ends)) in sorted.iter().enumerate() {
            let Some(first) = of(key).filter(|_| !ends) else { continue };
            let last = match (last, sorted.get(index + 1)) {
                (Some(last), _) => of(last).unwrap_or(first),
                (None, Some((next, _, true))) => of(next).unwrap_or(first).saturating_sub(1),
                // The last range of a set of ranges may reach to the end.
                (None, None) if has_ends => u16::MAX,
                (None, _) => first,
            };
            found.push((first, last));
        }
        found
    }
}

#[cfg(test)]
mod tests;

//! What other programs claim of the ports that leases have: sockets of this router that listen, and redirections in other tables
//! (the owner's, a UPnP daemon's). The table of leases comes before both, so a range that meets one is not used.
//!
//! Rules of others are read for what could send a new TCP connection from the WAN elsewhere. What is not understood counts
//! as a claim: a lease less does no harm, a port taken from the owner does.
use super::early::Early;
use super::found::Theirs;
use super::messages::{INTERVAL_END, NEW_ELEMENTS, NEW_RULE, number};
use super::netlink::{self as nl, Message, attributes};
use crate::sorted::{SortedMap, SortedSet};
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

/// What a register holds that matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Port,
    Device,
    Protocol,
}

/// What a rule says so far.
struct Reading<'a> {
    wan: &'a SortedSet<String>,
    held: SortedMap<usize, Held>,
    first: u16,
    last: u16,
    set: Option<(String, usize)>,
    /// It could meet a new TCP connection from the WAN.
    concerns: bool,
    redirects: bool,
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
        let mut reading = Reading {
            wan: &self.wan,
            held: SortedMap::new(),
            first: 0,
            last: u16::MAX,
            set: None,
            concerns: true,
            redirects: false,
        };
        for (_, expression) in attributes(nl::attribute(body, 4).unwrap_or_default()) {
            let data = nl::attribute(expression, 2).unwrap_or_default();
            reading.take(nl::text(expression, 1).unwrap_or_default(), data);
        }
        if reading.concerns && reading.redirects {
            let which = match reading.set {
                Some((set, at)) => Which::In(SetName { family, table: table.to_owned(), set }, at),
                None => Which::Range(reading.first, reading.last),
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

impl Reading<'_> {
    fn take(&mut self, name: &str, data: &[u8]) {
        let value = |kind| nl::attribute(nl::attribute(data, kind)?, 1);
        let register = |kind| nl::be32(data, kind).and_then(place);
        match name {
            "payload" => {
                // The destination port in the transport header.
                let is_port = [2, 3, 4].map(|k| nl::be32(data, k)) == [Some(2); 3];
                self.hold(register(1), is_port.then_some(Held::Port));
            }
            "meta" => {
                let held = match nl::be32(data, 2) {
                    Some(6) => Some(Held::Device),
                    Some(16) => Some(Held::Protocol),
                    _ => None,
                };
                self.hold(register(1), held);
            }
            "cmp" => {
                let Some((held, value)) = register(1).and_then(|r| self.held.get(&r)).zip(value(3)) else {
                    return;
                };
                self.compare(*held, nl::be32(data, 2).unwrap_or(1), value);
            }
            "range" if nl::be32(data, 2) == Some(0) => {
                let is_port = register(1).and_then(|r| self.held.get(&r)) == Some(&Held::Port);
                if let Some((from, to)) =
                    value(3).and_then(port).zip(value(4).and_then(port)).filter(|_| is_port)
                {
                    (self.first, self.last) = (self.first.max(from), self.last.min(to));
                }
            }
            "lookup" if nl::be32(data, 5).unwrap_or(0) == 0 => {
                let Some(from) = register(2) else { return };
                let at =
                    self.held.iter().find(|(r, h)| **r >= from && **h == Held::Port).map(|(r, _)| r - from);
                self.set = nl::text(data, 1).map(ToOwned::to_owned).zip(at).or(self.set.take());
            }
            // `NFT_NAT_DNAT`.
            "nat" => self.redirects |= nl::be32(data, 1) == Some(1),
            "redir" => self.redirects = true,
            _ => {}
        }
    }

    fn hold(&mut self, register: Option<usize>, held: Option<Held>) {
        let Some(register) = register else { return };
        match held {
            Some(held) => _ = self.held.insert(register, held),
            None => _ = self.held.remove(&register),
        }
    }

    /// `NFT_CMP_EQ`, `LT`, `LTE`, `GT`, `GTE` are 0 and 2 to 5.
    fn compare(&mut self, held: Held, operation: u32, value: &[u8]) {
        match (held, operation) {
            (Held::Port, _) => {
                let Some(port) = port(value) else { return };
                match operation {
                    0 => (self.first, self.last) = (port, port),
                    2 => self.last = self.last.min(port.saturating_sub(1)),
                    3 => self.last = self.last.min(port),
                    4 => self.first = self.first.max(port.saturating_add(1)),
                    5 => self.first = self.first.max(port),
                    _ => {}
                }
            }
            // A value that is not padded is the beginning of a name.
            (Held::Device, 0) => {
                let name = value.split(|b| *b == 0).next().unwrap_or_default();
                let is_whole = name.len() < value.len();
                self.concerns &= self
                    .wan
                    .iter()
                    .map(|w| w.as_bytes())
                    .any(|w| if is_whole { w == name } else { w.starts_with(name) });
            }
            (Held::Protocol, 0) => self.concerns &= value == [6],
            _ => {}
        }
    }
}

fn port(value: &[u8]) -> Option<u16> {
    value.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}

/// Where a register begins in the kernel's array of them, bytes: `NFT_REG_1` to `4` of 16, `NFT_REG32_00` to `15` of 4.
fn place(register: u32) -> Option<usize> {
    match register {
        1..=4 => Some((register as usize - 1) * 16),
        8..=23 => Some((register as usize - 8) * 4),
        _ => None,
    }
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

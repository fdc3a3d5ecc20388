//! One rule of another program's: which new connections it could send elsewhere.
use crate::guard::netlink as nl;
use crate::sorted::{SortedMap, SortedSet};

/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;
const TCP: &[u8] = &[6];
/// Targets of iptables (`xt_nat`, `xt_REDIRECT`, `xt_NETMAP`, `xt_TPROXY`) that send a connection elsewhere.
const TARGETS: [&str; 4] = ["DNAT", "REDIRECT", "NETMAP", "TPROXY"];
/// Of `struct xt_tcp` (linux/netfilter/xt_tcpudp.h), in the machine's byte order: first and last destination port, and the flags of
/// what is meant the other way round.
const XT_TCP_PORTS: usize = 4;
const XT_TCP_FLAGS: usize = 11;
const XT_TCP_NOT_PORTS: u8 = 2;

/// What a register holds that matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Port,
    Device,
    Protocol,
}

/// What a rule says so far.
pub struct Reading<'a> {
    family: u8,
    wan: &'a SortedSet<String>,
    held: SortedMap<usize, Held>,
    /// First and last that it could meet.
    pub ports: (u16, u16),
    /// Those in a set, so many bytes into its keys.
    pub set: Option<(String, usize)>,
    /// It could meet a new TCP connection from the WAN.
    concerns: bool,
    redirects: bool,
}

impl<'a> Reading<'a> {
    /// Of a rule of this family (`NFPROTO_*`), nothing of which has been read; the WAN has these devices.
    pub fn new(family: u8, wan: &'a SortedSet<String>) -> Reading<'a> {
        Reading {
            family,
            wan,
            held: SortedMap::new(),
            ports: (0, u16::MAX),
            set: None,
            concerns: true,
            redirects: false,
        }
    }

    /// Whether it could send a new TCP connection from the WAN elsewhere.
    pub fn takes(&self) -> bool {
        self.concerns && self.redirects
    }

    /// Takes in an expression: its name and its attributes.
    pub fn take(&mut self, name: &str, data: &[u8]) {
        match name {
            "payload" | "meta" => self.hold(register(data, 1), self.loaded(name, data)),
            // What they make of it is another value.
            "bitwise" | "byteorder" => self.hold(register(data, 2), None),
            "cmp" | "range" | "lookup" => self.test(name, data),
            "match" => self.matched(nl::text(data, 1).unwrap_or_default(), data),
            // `NFT_NAT_DNAT`.
            "nat" => self.redirects |= nl::be32(data, 1) == Some(1),
            "redir" | "tproxy" => self.redirects = true,
            "target" => self.redirects |= nl::text(data, 1).is_some_and(|name| TARGETS.contains(&name)),
            _ => {}
        }
    }

    /// What an expression loads.
    fn loaded(&self, name: &str, data: &[u8]) -> Option<Held> {
        if name == "meta" {
            return match nl::be32(data, 2) {
                Some(6) => Some(Held::Device),
                Some(16) => Some(Held::Protocol),
                _ => None,
            };
        }
        match [2, 3, 4].map(|kind| nl::be32(data, kind)) {
            // The destination port in the transport header.
            [Some(2), Some(2), Some(2)] => Some(Held::Port),
            // IPv4's protocol, for which iptables asks so.
            [Some(1), Some(9), Some(1)] if self.family == IPV4 => Some(Held::Protocol),
            _ => None,
        }
    }

    /// An expression that ends the rule for some packets.
    fn test(&mut self, name: &str, data: &[u8]) {
        let value = |kind| nl::attribute(nl::attribute(data, kind)?, 1);
        let held = |kind| register(data, kind).and_then(|r| self.held.get(&r)).copied();
        match name {
            "cmp" => {
                if let Some((held, value)) = held(1).zip(value(3)) {
                    self.compare(held, nl::be32(data, 2).unwrap_or(1), value);
                }
            }
            "range" if nl::be32(data, 2) == Some(0) && held(1) == Some(Held::Port) => {
                if let Some((from, to)) = value(3).and_then(port).zip(value(4).and_then(port)) {
                    self.narrow(from, to);
                }
            }
            "lookup" if nl::be32(data, 5).unwrap_or(0) == 0 => {
                let Some(from) = register(data, 2) else { return };
                let at =
                    self.held.iter().find(|(r, h)| **r >= from && **h == Held::Port).map(|(r, _)| r - from);
                self.set = nl::text(data, 1).map(ToOwned::to_owned).zip(at).or(self.set.take());
            }
            _ => {}
        }
    }

    /// One of iptables' own matches (linux/netfilter/nf_tables_compat.h: `NFTA_MATCH_NAME`, `NFTA_MATCH_INFO`). Those that are not
    /// known may hold for all.
    fn matched(&mut self, name: &str, data: &[u8]) {
        let info = nl::attribute(data, 3).unwrap_or_default();
        let host = |at: usize| Some(u16::from_ne_bytes(*info.get(at..)?.first_chunk()?));
        match name {
            "udp" => self.concerns = false,
            "tcp" if info.get(XT_TCP_FLAGS).is_some_and(|flags| flags & XT_TCP_NOT_PORTS == 0) => {
                if let Some((from, to)) = host(XT_TCP_PORTS).zip(host(XT_TCP_PORTS + 2)) {
                    self.narrow(from, to);
                }
            }
            _ => {}
        }
    }

    fn narrow(&mut self, from: u16, to: u16) {
        self.ports = (self.ports.0.max(from), self.ports.1.min(to));
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
                    0 => self.narrow(port, port),
                    2 => self.narrow(0, port.saturating_sub(1)),
                    3 => self.narrow(0, port),
                    4 => self.narrow(port.saturating_add(1), u16::MAX),
                    5 => self.narrow(port, u16::MAX),
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
            (Held::Protocol, 0) => self.concerns &= value == TCP,
            _ => {}
        }
    }
}

/// Where a register begins in the kernel's array of them, bytes: `NFT_REG_1` to `4` of 16, `NFT_REG32_00` to `15` of 4.
fn place(register: u32) -> Option<usize> {
    match register {
        1..=4 => Some((register as usize - 1) * 16),
        8..=23 => Some((register as usize - 8) * 4),
        _ => None,
    }
}

fn register(data: &[u8], kind: u16) -> Option<usize> {
    nl::be32(data, kind).and_then(place)
}

/// A port as it is on the wire.
pub fn port(value: &[u8]) -> Option<u16> {
    value.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}

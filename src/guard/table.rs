//! A firewall table as plain data: what is rendered, and what the kernel says it has. Two equal ones do the same.
pub use super::expr::{Expr, Fixed};
use crate::sorted::{SortedMap, SortedSet};

/// The name of the table that holds the service user, in family `inet`.
pub const NAME: &str = "echomesh";
/// The name of the table of leases, in family `inet`.
pub const LEASES: &str = "echomesh_lease";
/// The name of the table that counts leases' packets, in family `netdev`.
pub const COUNTING: &str = "echomesh_count";

/// The family of the table of a name, as it is numbered and named.
pub fn family(name: &str) -> (u8, &'static str) {
    // NFPROTO_NETDEV, NFPROTO_INET.
    if name == COUNTING { (5, "netdev") } else { (1, "inet") }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Named counters.
    pub counters: SortedSet<String>,
    /// Sets by name.
    pub sets: SortedMap<String, Set>,
    /// Flowtables by name.
    pub flowtables: SortedMap<String, Flowtable>,
    /// Chains by name.
    pub chains: SortedMap<String, Chain>,
}

/// A flowtable: connections in it pass from one device of its to another by a shorter way. It counts their packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flowtable {
    /// The devices at which it takes packets in.
    pub devices: SortedSet<String>,
}

/// A set or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Type of its keys.
    pub key: Key,
    /// Keys, each with whether it is the first beyond a range (interval sets alone). Of a key that is a lease's none: those come
    /// and go.
    pub elements: SortedSet<(Vec<u8>, bool)>,
}

/// Types of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A port.
    Port,
    /// Name of a device.
    Device,
    /// An address.
    V4,
    #[allow(missing_docs, reason = "the other family")]
    V6,
    /// Ranges of addresses.
    V4Ranges,
    #[allow(missing_docs, reason = "the other family")]
    V6Ranges,
    /// Address and port.
    V4Port,
    #[allow(missing_docs, reason = "the other family")]
    V6Port,
    /// Buyer and lease port of what is counted.
    V4Counted,
    #[allow(missing_docs, reason = "the other family")]
    V6Counted,
    /// Buyer and lease port, for a while.
    V4Open,
    #[allow(missing_docs, reason = "the other family")]
    V6Open,
    /// The same, and the target and its port.
    V4Lease,
    #[allow(missing_docs, reason = "the other family")]
    V6Lease,
}

/// `NFT_SET_*`.
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const TIMEOUT: u32 = 0x10;
/// As many as there are leases.
const MAX_COUNTED: u32 = super::leases::MAX_LEASES as u32;

impl Key {
    const ALL: [Key; 14] = [
        Key::Port,
        Key::Device,
        Key::V4,
        Key::V6,
        Key::V4Ranges,
        Key::V6Ranges,
        Key::V4Port,
        Key::V6Port,
        Key::V4Counted,
        Key::V6Counted,
        Key::V4Open,
        Key::V6Open,
        Key::V4Lease,
        Key::V6Lease,
    ];

    /// Number of the type for whoever lists it (nftables' datatype.h; a concatenation has 6 bits for each), bytes of a
    /// key, and the set's flags.
    pub fn numbers(self) -> (u32, u32, u32) {
        match self {
            Key::Port => (13, 2, 0),
            Key::Device => (41, 16, 0),
            Key::V4 => (7, 4, 0),
            Key::V6 => (8, 16, 0),
            Key::V4Ranges => (7, 4, INTERVAL),
            Key::V6Ranges => (8, 16, INTERVAL),
            Key::V4Port | Key::V4Counted => (7 << 6 | 13, 8, 0),
            Key::V6Port | Key::V6Counted => (8 << 6 | 13, 20, 0),
            Key::V4Open => (7 << 6 | 13, 8, TIMEOUT),
            Key::V6Open => (8 << 6 | 13, 20, TIMEOUT),
            Key::V4Lease => (7 << 6 | 13, 8, MAP | TIMEOUT),
            Key::V6Lease => (8 << 6 | 13, 20, MAP | TIMEOUT),
        }
    }

    /// Type and bytes of what a map gives for a key: the same as its keys'.
    pub fn data(self) -> Option<(u32, u32)> {
        let (kind, length, flags) = self.numbers();
        (flags & MAP != 0).then_some((kind, length))
    }

    /// Whether its elements are leases.
    pub fn is_of_leases(self) -> bool {
        self.numbers().2 & TIMEOUT != 0
    }

    /// What `nft` lists as flags.
    pub fn flags(self) -> Option<&'static str> {
        match self.numbers().2 & !MAP {
            INTERVAL => Some("interval"),
            TIMEOUT => Some("timeout"),
            _ => None,
        }
    }

    /// The most elements that a set may have, where it is said: the kernel then takes the table that it finds things in fastest
    /// (`nft_hash` instead of `nft_rhash`).
    pub fn size(self) -> Option<u32> {
        matches!(self, Key::V4Counted | Key::V6Counted).then_some(MAX_COUNTED)
    }

    /// The type of these numbers and this size.
    pub fn of(numbers: (u32, u32, u32), size: Option<u32>) -> Option<Key> {
        Key::ALL.into_iter().find(|k| (k.numbers(), k.size()) == (numbers, size))
    }

    /// As `nft` writes it.
    pub fn text(self) -> &'static str {
        match self {
            Key::Port => "inet_service",
            Key::Device => "ifname",
            Key::V4 | Key::V4Ranges => "ipv4_addr",
            Key::V6 | Key::V6Ranges => "ipv6_addr",
            Key::V4Port | Key::V4Counted | Key::V4Open => "ipv4_addr . inet_service",
            Key::V6Port | Key::V6Counted | Key::V6Open => "ipv6_addr . inet_service",
            Key::V4Lease => "ipv4_addr . inet_service : ipv4_addr . inet_service",
            Key::V6Lease => "ipv6_addr . inet_service : ipv6_addr . inet_service",
        }
    }
}

/// Where the kernel calls a chain. What no rule decides goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// It translates addresses: called for the first packet of a connection alone.
    pub nat: bool,
    /// The place on a packet's way.
    pub place: Place,
    /// The lower, the earlier.
    pub priority: i32,
}

/// `NF_INET_*`, and `NF_NETDEV_*` of a device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the kernel")]
pub enum Place {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Ingress(Device),
    Egress(Device),
}

/// The name of a device, with zeros behind it (`IFNAMSIZ`).
pub type Device = [u8; 16];

impl Place {
    const ALL: [(Place, &'static str); 5] = [
        (Place::Prerouting, "prerouting"),
        (Place::Input, "input"),
        (Place::Forward, "forward"),
        (Place::Output, "output"),
        (Place::Postrouting, "postrouting"),
    ];

    /// The place of this number, at a device if the family has places there.
    pub fn of(number: u32, device: Option<Device>) -> Option<Place> {
        match (device, number) {
            (None, _) => Place::ALL.get(number as usize).map(|p| p.0),
            (Some(device), 0) => Some(Place::Ingress(device)),
            (Some(device), 1) => Some(Place::Egress(device)),
            _ => None,
        }
    }

    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Place::Prerouting | Place::Ingress(_) => 0,
            Place::Input | Place::Egress(_) => 1,
            Place::Forward => 2,
            Place::Output => 3,
            Place::Postrouting => 4,
        }
    }

    /// The device it is at, if it is at one.
    pub fn device(self) -> Option<Device> {
        match self {
            Place::Ingress(device) | Place::Egress(device) => Some(device),
            _ => None,
        }
    }

    fn text(self) -> String {
        let at = |hook, device: Device| {
            let name = device.iter().take_while(|b| **b != 0).map(|b| char::from(*b));
            format!("{hook} device \"{}\"", name.collect::<String>())
        };
        match self {
            Place::Ingress(device) => at("ingress", device),
            Place::Egress(device) => at("egress", device),
            _ => Place::ALL.iter().find(|p| p.0 == self).map_or("", |p| p.1).to_owned(),
        }
    }
}

impl Hook {
    /// `filter` or `nat`.
    pub fn kind(&self) -> &'static str {
        if self.nat { "nat" } else { "filter" }
    }

    /// As `nft` lists it: by the name of a priority that is near (nftables' `std_prio_lookup`), where it has one there.
    pub fn text(&self) -> String {
        let name = self.place.text();
        let near: &[(&str, i32)] = match self.place {
            Place::Prerouting => {
                &[("raw", -300), ("mangle", -150), ("dstnat", -100), ("filter", 0), ("security", 50)]
            }
            Place::Postrouting => {
                &[("raw", -300), ("mangle", -150), ("filter", 0), ("security", 50), ("srcnat", 100)]
            }
            _ => &[("raw", -300), ("mangle", -150), ("filter", 0), ("security", 50)],
        };
        let found = near.iter().map(|(n, p)| (n, self.priority - p)).find(|(_, d)| d.abs() <= 10);
        let priority = match found {
            None => self.priority.to_string(),
            Some((name, 0)) => (*name).to_string(),
            Some((name, d)) => format!("{name} {} {}", if d < 0 { '-' } else { '+' }, d.abs()),
        };
        format!("type {} hook {name} priority {priority}; policy accept;", self.kind())
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Of one that the kernel calls: where.
    pub hook: Option<Hook>,
    /// Its rules.
    pub rules: Vec<Vec<Expr>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_keys_are_told_apart() {
        for key in Key::ALL {
            assert_eq!(Key::of(key.numbers(), key.size()), Some(key));
        }
    }
}

//! Where the router stands: devices that lead outward, networks of the owner's, name servers; read from the kernel's
//! answers to `RTM_GETLINK`, `RTM_GETADDR` and `RTM_GETROUTE` (linux/rtnetlink.h).
use super::netlink::{Message, attribute, attributes, u32_at};
use crate::policy::addresses::Prefix;
use crate::policy::routes::{Route, inner, is_default};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Most networks that are told to `run`; a router with more is not served rather than served in part.
pub const MAX_NETWORKS: usize = 4096;

/// Most addresses of the WAN that are told to `run`.
pub const MAX_OUTWARD: usize = 16;

/// `RTM_NEWLINK`, `RTM_NEWADDR`, `RTM_NEWROUTE`.
const LINK: u16 = 16;
const ADDRESS: u16 = 20;
const ROUTE: u16 = 24;
/// `RTN_UNICAST`, and those of a delegated prefix: blackhole, unreachable, prohibit.
const UNICAST: u8 = 1;
const REFUSING: std::ops::RangeInclusive<u8> = 6..=8;

/// Where the router stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Devices with a default route.
    pub wan: BTreeSet<String>,
    /// The router's own addresses on these devices, at most [`MAX_OUTWARD`].
    pub outward: Vec<IpAddr>,
    /// Own addresses, connected networks, networks behind other routers of the house, delegated prefixes, gateways, name
    /// servers.
    pub inside: Vec<Prefix>,
    /// The system's name servers.
    pub resolvers: Vec<IpAddr>,
}

/// The kernel's answers, as they come.
#[derive(Debug, Default)]
pub struct Answers {
    names: BTreeMap<u32, String>,
    addresses: Vec<Prefix>,
    /// Own addresses by device.
    own: Vec<(u32, IpAddr)>,
    routes: Vec<Route<u32>>,
}

impl Answers {
    /// Takes a message in.
    pub fn take(&mut self, message: &Message<'_>) {
        match message.kind {
            LINK => _ = self.link(message.body),
            ADDRESS => _ = self.address(message.body),
            ROUTE => self.route(message.body),
            _ => {}
        }
    }

    /// All of it together, with the system's name servers.
    pub fn network(self, resolvers: Vec<IpAddr>) -> Network {
        let named = |index: &u32| self.names.get(index).cloned();
        let ways_out = self.routes.iter().filter(|r| r.unicast && is_default(r));
        let wan: BTreeSet<String> = ways_out.filter_map(|r| named(&r.device)).filter(|n| n != "lo").collect();
        let leads_out = |device: &u32| named(device).is_some_and(|name| wan.contains(&name));
        let mut outward: Vec<IpAddr> =
            self.own.iter().filter(|(device, _)| leads_out(device)).map(|own| own.1).collect();
        outward.sort_unstable();
        outward.dedup();
        outward.truncate(MAX_OUTWARD);
        let mut inside = inner(&self.routes);
        inside.extend(&self.addresses);
        inside.extend(resolvers.iter().map(|a| (*a, full(*a))));
        inside.sort_unstable();
        inside.dedup();
        Network { wan, outward, inside, resolvers }
    }

    /// `struct ifinfomsg`, `IFLA_IFNAME`.
    fn link(&mut self, body: &[u8]) -> Option<()> {
        let name = attribute(body.get(16..)?, 3)?;
        let name = std::str::from_utf8(name.strip_suffix(&[0])?).ok()?;
        self.names.insert(u32_at(body, 4)?, name.to_owned());
        Some(())
    }

    /// `struct ifaddrmsg`; of a point-to-point line `IFA_LOCAL` is this end and `IFA_ADDRESS` the other.
    fn address(&mut self, body: &[u8]) -> Option<()> {
        let length = *body.get(1)?;
        let list = body.get(8..)?;
        let own = attribute(list, 2).or_else(|| attribute(list, 1)).and_then(ip);
        self.own.extend(u32_at(body, 4).zip(own));
        for (kind, value) in attributes(list) {
            let Some(address) = ip(value) else { continue };
            match kind {
                1 => self.addresses.push((address, length.min(full(address)))),
                2 => self.addresses.push((address, full(address))),
                _ => {}
            }
        }
        Some(())
    }

    /// `struct rtmsg`: every table's, since packets may be sent by rules to any of them.
    fn route(&mut self, body: &[u8]) {
        let [family, to_bits, from_bits, _, _, _, _, kind, ..] = *body else { return };
        let any: IpAddr = match i32::from(family) {
            2 => IpAddr::from([0; 4]),
            10 => IpAddr::from([0; 16]),
            _ => return,
        };
        if kind != UNICAST && !REFUSING.contains(&kind) {
            return;
        }
        let list = body.get(12..).unwrap_or_default();
        let address = |kind| attribute(list, kind).and_then(ip);
        let to = (address(1).unwrap_or(any), to_bits);
        let from = address(2).map(|a| (a, from_bits)).filter(|f| f.1 > 0);
        let mut add = |device, gateway| {
            self.routes.push(Route { to, from, gateway, device, unicast: kind == UNICAST });
        };
        let device = |at: &[u8], offset| u32_at(at, offset).unwrap_or(0);
        match attribute(list, 9) {
            // `struct rtnexthop`: length, flags, hops, interface; then attributes.
            Some(mut hops) => {
                while let Some(length) = super::netlink::u16_at(hops, 0).map(usize::from).filter(|l| *l >= 8)
                {
                    let Some(hop) = hops.get(..length) else { break };
                    add(device(hop, 4), gateway(hop.get(8..).unwrap_or_default()));
                    hops = hops.get(length.saturating_add(3) & !3..).unwrap_or_default();
                }
            }
            None => add(attribute(list, 4).map_or(0, |v| device(v, 0)), gateway(list)),
        }
    }
}

/// `RTA_GATEWAY`, or `RTA_VIA` of the other family (`u16` family, then the address).
fn gateway(list: &[u8]) -> Option<IpAddr> {
    attribute(list, 5).and_then(ip).or_else(|| ip(attribute(list, 18)?.get(2..)?))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|b| (*b).into()),
        16 => bytes.first_chunk::<16>().map(|b| (*b).into()),
        _ => None,
    }
}

/// Bits of a prefix that is one address.
pub(super) fn full(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{Writer, messages};
    use super::*;

    fn told(fill: impl FnOnce(&mut Writer)) -> Network {
        let mut w = Writer::default();
        fill(&mut w);
        let data = w.finish();
        let mut answers = Answers::default();
        messages(&data).for_each(|m| answers.take(&m));
        answers.network(vec!["127.0.0.1".parse().unwrap()])
    }

    fn link(w: &mut Writer, index: u32, name: &str) {
        let mut head = [0; 16];
        head[4..8].copy_from_slice(&index.to_ne_bytes());
        w.message((LINK, 0, 1), &head, |w| w.put_text(3, name));
    }

    fn route(w: &mut Writer, (to, bits): (&str, u8), kind: u8, device: u32, gateway: Option<&str>) {
        let octets = |text: &str| match text.parse().unwrap() {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let family = if to.contains(':') { 10 } else { 2 };
        w.message((ROUTE, 0, 1), &[family, bits, 0, 0, 254, 3, 0, kind, 0, 0, 0, 0], |w| {
            if bits > 0 {
                w.put(1, &octets(to));
            }
            w.put(4, &device.to_ne_bytes());
            if let Some(gateway) = gateway {
                w.put(5, &octets(gateway));
            }
        });
    }

    #[test]
    fn a_routers_tables_are_read() {
        let network = told(|w| {
            link(w, 2, "wan0");
            link(w, 3, "br-lan");
            w.message((ADDRESS, 0, 1), &[2, 24, 0, 0, 3, 0, 0, 0], |w| {
                w.put(1, &[192, 168, 1, 1]);
                w.put(2, &[192, 168, 1, 1]);
            });
            // A point-to-point line: the other end, then this one.
            w.message((ADDRESS, 0, 1), &[2, 32, 0, 0, 2, 0, 0, 0], |w| {
                w.put(1, &[84, 1, 1, 1]);
                w.put(2, &[84, 1, 1, 9]);
            });
            w.message((ADDRESS, 0, 1), &[10, 64, 0, 0, 2, 0, 0, 0], |w| w.put(1, &[0x2a; 16]));
            route(w, ("0.0.0.0", 0), 1, 2, Some("84.1.1.1"));
            route(w, ("85.5.5.0", 24), 1, 3, Some("192.168.1.2"));
            route(w, ("84.9.0.0", 16), 1, 2, Some("84.1.1.1"));
            route(w, ("2a02:aa::", 56), 7, 1, None);
            route(w, ("::", 0), 7, 3, None);
        });
        assert_eq!(network.wan, ["wan0".to_owned()].into());
        let outward: Vec<String> = network.outward.iter().map(ToString::to_string).collect();
        assert_eq!(
            outward,
            ["84.1.1.9", "2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a"],
            "this end of the WAN alone"
        );
        let text: Vec<String> = network.inside.iter().map(|(a, n)| format!("{a}/{n}")).collect();
        assert_eq!(
            text,
            [
                "84.1.1.1/32",
                "84.1.1.9/32",
                "85.5.5.0/24",
                "127.0.0.1/32",
                "192.168.1.1/24",
                "192.168.1.1/32",
                "192.168.1.2/32",
                "2a02:aa::/56",
                "2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a/64",
            ]
        );
    }

    #[test]
    fn several_next_hops_are_several_ways_out() {
        let network = told(|w| {
            link(w, 2, "wan0");
            link(w, 4, "wan1");
            let hop = |device: u32, gateway: [u8; 4]| {
                let mut hop = vec![16, 0, 0, 0];
                hop.extend(device.to_ne_bytes());
                hop.extend([8, 0, 5, 0]);
                hop.extend(gateway);
                hop
            };
            w.message((ROUTE, 0, 1), &[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0], |w| {
                w.put(9, &[hop(2, [84, 1, 1, 1]), hop(4, [85, 1, 1, 1])].concat());
            });
        });
        assert_eq!(network.wan, ["wan0".to_owned(), "wan1".to_owned()].into());
        assert_eq!(network.inside.len(), 3);
    }
}

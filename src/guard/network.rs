//! Where the router stands: devices that lead outward, networks of the owner's, name servers; read from the kernel's
//! answers to `RTM_GETLINK`, `RTM_GETADDR` and `RTM_GETROUTE` (linux/rtnetlink.h).
use super::netlink::{Message, attribute, attributes, text, u32_at};
use crate::policy::addresses::Prefix;
use crate::policy::routes::{Route, inner, is_default};
use crate::policy::wan::{Choice, DefaultRoute, Device, Wan, choose};
use crate::sorted::{SortedMap, SortedSet};
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
/// `RT_TABLE_MAIN`.
const MAIN: u32 = 254;
/// `RTM_F_CLONED`: what a host on the way has said of the size of packets to one address (kernel: `rt_fill_info`). It is no route.
const CLONED: u32 = 0x200;
/// `RTNH_F_DEAD`, `RTNH_F_LINKDOWN`: nothing goes by such a hop, and nothing arrives.
const DEAD: u32 = 1;
const UNPLUGGED: u32 = 16;
/// `IFF_UP` (linux/if.h).
const UP: u32 = 1;

/// Where the router stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The devices by which the node leaves: those of `uplinks`; where the kernel lets nobody bind a socket to a device,
    /// all that have a default route.
    pub wan: SortedSet<String>,
    /// Which of them is for what.
    pub uplinks: Wan,
    /// The router's own addresses on these devices, at most [`MAX_OUTWARD`].
    pub outward: Vec<IpAddr>,
    /// Own addresses, connected networks, networks behind other routers of the house, delegated prefixes, gateways, name
    /// servers.
    pub inside: Vec<Prefix>,
    /// The system's name servers.
    pub resolvers: Vec<IpAddr>,
    /// The numbers of the ports of those of `uplinks` that are bridges, by the bridge's.
    pub ports: SortedMap<u32, SortedSet<u32>>,
}

/// The kernel's answers, as they come.
#[derive(Debug, Default)]
pub struct Answers {
    devices: SortedMap<u32, Device>,
    ports: SortedMap<u32, SortedSet<u32>>,
    addresses: Vec<Prefix>,
    routes: Vec<Route<u32>>,
    defaults: Vec<DefaultRoute>,
}

/// What is wanted of the answers beside what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The device that the owner wants.
    pub choice: Choice,
    /// Whether sockets may be bound to a device.
    pub binds: bool,
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
    pub fn network(mut self, wanted: &Wanted, resolvers: Vec<IpAddr>) -> Network {
        let uplinks = self.wan(&wanted.choice);
        let wan: SortedSet<String> = if wanted.binds {
            uplinks.uplinks().map(|u| u.device.clone()).collect()
        } else {
            let named = |index: &u32| self.devices.get(index).map(|d| d.name.clone());
            let ways_out = self.routes.iter().filter(|r| r.unicast && is_default(r));
            ways_out.filter_map(|r| named(&r.device)).filter(|n| n != "lo").collect()
        };
        let leading_out = self.devices.values().filter(|d| wan.contains(&d.name));
        let mut outward: Vec<IpAddr> = leading_out.flat_map(|d| d.addresses.iter().copied()).collect();
        outward.sort_unstable();
        outward.dedup();
        outward.truncate(MAX_OUTWARD);
        let mut inside = inner(&self.routes);
        inside.extend(&self.addresses);
        inside.extend(resolvers.iter().map(|a| (*a, full(*a))));
        inside.sort_unstable();
        inside.dedup();
        let ports = uplinks.uplinks().filter_map(|u| Some((u.index, self.ports.remove(&u.index)?))).collect();
        Network { wan, uplinks, outward, inside, resolvers, ports }
    }

    /// Own addresses, each also with the length of its network, and the other ends of point-to-point lines.
    pub fn addresses(self) -> Vec<Prefix> {
        self.addresses
    }

    /// The devices that lead outward.
    pub fn wan(&self, choice: &Choice) -> Wan {
        let devices: Vec<Device> = self.devices.values().filter(|d| !d.name.is_empty()).cloned().collect();
        choose(choice, &self.defaults, &devices)
    }

    /// `struct ifinfomsg`, `IFLA_IFNAME`; of a port `IFLA_MASTER`, and `IFLA_INFO_SLAVE_KIND` in `IFLA_LINKINFO`.
    fn link(&mut self, body: &[u8]) -> Option<()> {
        let list = body.get(16..)?;
        let name = attribute(list, 3)?;
        let name = std::str::from_utf8(name.strip_suffix(&[0])?).ok()?;
        let index = u32_at(body, 4)?;
        if attribute(list, 18).and_then(|info| text(info, 4)) == Some("bridge") {
            let bridge = attribute(list, 10).and_then(|v| u32_at(v, 0))?;
            self.ports.edit(bridge, SortedSet::new, |ports| ports.insert(index));
        }
        let up = u32_at(body, 8)? & UP != 0;
        self.devices.edit(index, Device::default, |device| {
            device.index = index;
            device.up = up;
            name.clone_into(&mut device.name);
        });
        Some(())
    }

    /// `struct ifaddrmsg`; of a point-to-point line `IFA_LOCAL` is this end and `IFA_ADDRESS` the other.
    fn address(&mut self, body: &[u8]) -> Option<()> {
        let length = *body.get(1)?;
        let list = body.get(8..)?;
        // Without `IFA_LOCAL`, as for most of IPv6, `IFA_ADDRESS` is this end.
        let own = attribute(list, 2).or(attribute(list, 1)).and_then(ip);
        self.devices.edit(u32_at(body, 4)?, Device::default, |device| device.addresses.extend(own));
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
        let [family, to_bits, from_bits, _, table, _, _, kind, ..] = *body else { return };
        let any: IpAddr = match i32::from(family) {
            2 => IpAddr::from([0; 4]),
            10 => IpAddr::from([0; 16]),
            _ => return,
        };
        let is_cloned = u32_at(body, 8).is_some_and(|flags| flags & CLONED != 0);
        if is_cloned || (kind != UNICAST && !REFUSING.contains(&kind)) {
            return;
        }
        let list = body.get(12..).unwrap_or_default();
        let address = |kind| attribute(list, kind).and_then(ip);
        let to = (address(1).unwrap_or(any), to_bits);
        let from = address(2).map(|a| (a, from_bits)).filter(|f| f.1 > 0);
        // `RTA_TABLE`, where the number has more than 8 bits, and `RTA_PRIORITY`.
        let number = |kind| attribute(list, kind).and_then(|v| u32_at(v, 0));
        let is_main = number(15).unwrap_or(u32::from(table)) == MAIN;
        let metric = number(6).unwrap_or(0);
        let mut add = |device, gateway, flags: u32| {
            let route = Route { to, from, gateway, device, unicast: kind == UNICAST };
            if is_main && route.unicast && is_default(&route) && flags & DEAD == 0 {
                let unplugged = flags & UNPLUGGED != 0;
                self.defaults.push(DefaultRoute {
                    v6: any.is_ipv6(),
                    bits: to_bits,
                    metric,
                    device,
                    unplugged,
                });
            }
            self.routes.push(route);
        };
        match attribute(list, 9) {
            // `struct rtnexthop`: length, flags, hops, interface; then attributes.
            Some(mut hops) => {
                while let Some(length) = super::netlink::u16_at(hops, 0).map(usize::from).filter(|l| *l >= 8)
                {
                    let Some(hop) = hops.get(..length) else { break };
                    let flags = hop.get(2).copied().unwrap_or(0);
                    add(u32_at(hop, 4).unwrap_or(0), gateway(hop.get(8..).unwrap_or_default()), flags.into());
                    hops = hops.get(length.saturating_add(3) & !3..).unwrap_or_default();
                }
            }
            // `rtm_flags` has the hop's flags.
            None => add(number(4).unwrap_or(0), gateway(list), u32_at(body, 8).unwrap_or(0)),
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

    const AUTO: Wanted = Wanted { choice: Choice::Auto, binds: true };

    fn told(fill: impl FnOnce(&mut Writer)) -> Network {
        told_to(&AUTO, fill)
    }

    fn told_to(wanted: &Wanted, fill: impl FnOnce(&mut Writer)) -> Network {
        let mut w = Writer::default();
        fill(&mut w);
        let data = w.finish();
        let mut answers = Answers::default();
        messages(&data).for_each(|m| answers.take(&m));
        answers.network(wanted, vec!["127.0.0.1".parse().unwrap()])
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
            // Of a host outside, as the line to it is: not of a route.
            let flags = CLONED.to_ne_bytes();
            w.message((ROUTE, 0, 1), &[&[2, 32, 0, 0, 254, 3, 0, 1], &flags[..]].concat(), |w| {
                w.put(1, &[93, 184, 216, 34]);
                w.put(4, &2u32.to_ne_bytes());
            });
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
        let fill = |w: &mut Writer| {
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
        };
        let network = told(fill);
        assert_eq!(network.wan, ["wan0".to_owned()].into(), "one of them is used");
        assert_eq!(network.inside.len(), 3);
        let network = told_to(&Wanted { binds: false, ..AUTO }, fill);
        assert_eq!(network.wan, ["wan0".to_owned(), "wan1".to_owned()].into(), "the kernel chooses");
    }

    #[test]
    fn the_line_is_known_with_its_number_and_addresses() {
        let network = told(|w| {
            link(w, 2, "wan0");
            link(w, 9, "ppp0");
            for (index, own) in [(2u32, [84, 1, 1, 7]), (9, [86, 1, 1, 7])] {
                let head = [&[2, 32, 0, 0][..], &index.to_ne_bytes()].concat();
                w.message((ADDRESS, 0, 1), &head, |w| {
                    w.put(1, &[86, 0, 0, 1]);
                    w.put(2, &own);
                });
            }
            w.message((ADDRESS, 0, 1), &[&[10, 64, 0, 0][..], &9u32.to_ne_bytes()].concat(), |w| {
                w.put(1, &"2a02::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
            });
            let default = |w: &mut Writer, device: u32, table: u8, metric: u32| {
                w.message((ROUTE, 0, 1), &[2, 0, 0, 0, table, 3, 0, 1, 0, 0, 0, 0], |w| {
                    w.put(4, &device.to_ne_bytes());
                    w.put(6, &metric.to_ne_bytes());
                });
            };
            default(w, 2, 254, 20);
            default(w, 9, 254, 10);
            default(w, 2, 100, 0);
            route(w, ("::", 0), 1, 9, Some("fe80::1"));
        });
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let v4 = network.uplinks.v4.unwrap();
        assert_eq!((v4.device.as_str(), v4.index, v4.addresses), ("ppp0", 9, vec![address("86.1.1.7")]));
        assert_eq!(network.uplinks.v6.unwrap().addresses, [address("2a02::7")]);
        assert_eq!(network.wan, ["ppp0".to_owned()].into(), "a route of another table is not the line");
    }

    #[test]
    fn a_bridge_that_leads_out_has_its_ports() {
        let port = |w: &mut Writer, index: u32, name: &str, kind: &str, master: u32| {
            let head = [&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat();
            w.message((LINK, 0, 1), &head, |w| {
                w.put_text(3, name);
                w.put(10, &master.to_ne_bytes());
                w.nest(18, |w| w.put_text(4, kind));
            });
        };
        let network = told(|w| {
            link(w, 9, "br-wan");
            port(w, 2, "eth0", "bridge", 9);
            port(w, 3, "eth3", "bridge", 9);
            port(w, 4, "eth4", "bond", 9);
            port(w, 5, "lan1", "bridge", 8);
            route(w, ("0.0.0.0", 0), 1, 9, Some("84.1.1.1"));
        });
        assert_eq!(network.ports, [(9, [2, 3].into())].into(), "no bond's, and of no other bridge");
        assert_eq!(network.wan, ["br-wan".to_owned()].into());
    }

    #[test]
    fn a_dead_hop_is_no_line() {
        let with = |flags: u32| {
            told(|w| {
                link(w, 2, "wan0");
                let head = [&[2, 0, 0, 0, 254, 3, 0, 1][..], &flags.to_ne_bytes()].concat();
                w.message((ROUTE, 0, 1), &head, |w| w.put(4, &2u32.to_ne_bytes()));
            })
        };
        assert!(with(DEAD | UNPLUGGED).uplinks.is_down());
        assert_eq!(with(UNPLUGGED).uplinks.v4.unwrap().device, "wan0");
    }
}

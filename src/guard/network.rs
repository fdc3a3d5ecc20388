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
mod tests;

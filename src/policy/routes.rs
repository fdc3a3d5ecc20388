//! Which networks lie on the owner's side, as the kernel's routing tables tell (`/proc/net/route`,
//! `/proc/net/ipv6_route`): routes that do not lead where the default route leads, and every gateway. An interface's own
//! prefix does not tell of networks behind another router, nor of the rest of a delegated prefix.
use super::addresses::Prefix;
use crate::mutant::out;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route that is no more specific than this is a default route: VPNs split theirs into halves, and 2000::/3 is all
/// there is of IPv6.
const DEFAULT_BITS: u8 = 7;
/// `RTF_GATEWAY` (linux/route.h).
const GATEWAY: u32 = 2;

/// A route of one of the tables; devices are told apart by `D`.
#[derive(Clone, Debug)]
pub struct Route<D> {
    /// Where it leads.
    pub to: Prefix,
    /// Whose packets alone take it (IPv6); on OpenWrt the delegated prefix.
    pub from: Option<Prefix>,
    /// The next router.
    pub gateway: Option<IpAddr>,
    /// The device.
    pub device: D,
    /// Whether packets that take it go anywhere.
    pub unicast: bool,
}

/// Whether it leads to the Internet as a whole.
pub fn is_default<D>(route: &Route<D>) -> bool {
    route.to.1 <= DEFAULT_BITS
}

/// The networks of both tables that must not be dialled. Lines that are none are passed over, the heading first.
pub fn inside(v4: &str, v6: &str) -> Vec<Prefix> {
    let routes: Vec<Route<&str>> =
        v4.lines().filter_map(line_v4).chain(v6.lines().filter_map(line_v6)).collect();
    inner(&routes)
}

/// The networks that must not be dialled: those that lead elsewhere than the default route, and every gateway.
pub fn inner<D: PartialEq>(routes: &[Route<D>]) -> Vec<Prefix> {
    let outward: Vec<&D> = routes.iter().filter(|r| r.unicast && is_default(r)).map(|r| &r.device).collect();
    let mut found = Vec::new();
    for route in routes {
        let outside = outward.contains(&&route.device) && route.gateway.is_some();
        if !is_default(route) && !outside && !out("live-routes") {
            found.push(route.to);
        }
        found.extend(route.from.filter(|_| !out("live-delegated")));
        let gateway = route.gateway.filter(|_| !out("live-gateways"));
        found.extend(gateway.map(|g| (g, if g.is_ipv4() { 32 } else { 128 })));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The name servers of a resolv.conf(5).
pub fn name_servers(text: &str) -> impl Iterator<Item = Prefix> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|w| *w == "nameserver").and_then(|_| words.next())?;
        let address: IpAddr = address.split('%').next()?.parse().ok()?;
        Some((address, if address.is_ipv4() { 32 } else { 128 }))
    })
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`; addresses as the machine's own words of 32 bits.
fn line_v4(line: &str) -> Option<Route<&str>> {
    let mut words = line.split_whitespace();
    let device = words.next()?;
    let mut hex = words.map(|w| u32::from_str_radix(w, 16));
    let mut next = || hex.next()?.ok();
    let (to, gateway, flags) = (next()?, next()?, next()?);
    let mask = hex.nth(3)?.ok()?;
    let address = |word: u32| Ipv4Addr::from(word.to_ne_bytes());
    let length = u8::try_from(address(mask).to_bits().leading_ones()).ok()?;
    Some(Route {
        to: (address(to).into(), length),
        from: None,
        gateway: (flags & GATEWAY != 0).then(|| address(gateway).into()),
        device,
        unicast: true,
    })
}

/// `destination length source length next-hop metric references uses flags device`, all hexadecimal.
fn line_v6(line: &str) -> Option<Route<&str>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [to, to_bits, from, from_bits, hop, _, _, _, flags, device] = words.as_slice() else { return None };
    let prefix = |address: &str, bits: &str| -> Option<Prefix> {
        let address = u128::from_str_radix(address, 16).ok().filter(|_| address.len() == 32)?;
        Some((Ipv6Addr::from_bits(address).into(), u8::from_str_radix(bits, 16).ok()?))
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let gateway = prefix(hop, "80")?.0;
    Some(Route {
        to: prefix(to, to_bits)?,
        from: Some(prefix(from, from_bits)?).filter(|f| f.1 > 0),
        gateway: (flags & GATEWAY != 0).then_some(gateway),
        device,
        unicast: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::addresses::{AddressGuard, contains};

    /// A line of `/proc/net/route` as this machine's kernel would write it.
    fn v4(device: &str, to: &str, bits: u32, gateway: &str, flags: u32) -> String {
        let word =
            |text: &str| format!("{:08X}", u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets()));
        let mask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - bits).unwrap_or(0)).to_string();
        format!("{device}\t{}\t{}\t{flags:04X}\t0\t0\t0\t{}\t0\t0\t0\n", word(to), word(gateway), word(&mask))
    }

    fn v6(to: &str, from: &str, hop: &str, flags: u32, device: &str) -> String {
        let part = |text: &str| {
            let (address, bits) = text.split_once('/').unwrap();
            let address = address.parse::<Ipv6Addr>().unwrap().to_bits();
            format!("{address:032x} {:02x}", bits.parse::<u8>().unwrap())
        };
        let hop = hop.parse::<Ipv6Addr>().unwrap().to_bits();
        format!("{} {} {hop:032x} 00000400 00000001 00000000 {flags:08x} {device:>8}\n", part(to), part(from))
    }

    fn denied(found: &[Prefix], address: &str) -> bool {
        found.iter().any(|p| contains(*p, address.parse().unwrap()))
    }

    const HEADING: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    fn what_lies_behind_another_router_of_the_house_is_inside() {
        let table = [
            HEADING.to_owned(),
            v4("wan", "0.0.0.0", 0, "84.1.1.1", 3),
            v4("wan", "84.1.1.0", 24, "0.0.0.0", 1),
            v4("wan", "84.9.0.0", 16, "84.1.1.1", 3),
            v4("br-lan", "85.5.5.0", 24, "192.168.1.2", 3),
        ]
        .concat();
        let found = inside(&table, "");
        for inner in ["84.1.1.1", "84.1.1.200", "85.5.5.5", "192.168.1.2"] {
            assert!(denied(&found, inner), "{inner}");
        }
        for outer in ["84.9.1.1", "85.5.6.1", "8.8.8.8"] {
            assert!(!denied(&found, outer), "{outer}");
        }
    }

    #[test]
    fn the_whole_delegated_prefix_is_inside() {
        let table = [
            v6("::/0", "2a02:1:2::/48", "fe80::1", 3, "wan"),
            v6("2a02:aa::/56", "::/0", "::", 0x200, "lo"),
            v6("2a02:bb:0:4::/62", "::/0", "fe80::2", 3, "br-lan"),
            v6("::/0", "::/0", "::", 0x20_0200, "lo"),
        ]
        .concat();
        let found = inside("", &table);
        for inner in ["2a02:1:2:ffff::1", "2a02:aa:0:ff::9", "2a02:bb:0:7::1", "fe80::1"] {
            assert!(denied(&found, inner), "{inner}");
        }
        for outer in ["2a02:1:3::1", "2a02:ab::1", "2a02:bb:0:8::1", "2606:4700::1111"] {
            assert!(!denied(&found, outer), "{outer}");
        }
    }

    #[test]
    fn a_default_route_in_halves_denies_nothing_but_its_gateway() {
        let table = [
            v4("tun0", "0.0.0.0", 1, "10.8.0.1", 3),
            v4("tun0", "128.0.0.0", 1, "10.8.0.1", 3),
            v4("tun0", "84.9.0.0", 16, "10.8.0.1", 3),
        ]
        .concat();
        assert_eq!(inside(&table, ""), [("10.8.0.1".parse().unwrap(), 32)]);
        assert_eq!(inside("", &v6("2000::/3", "::/0", "::", 1, "6in4")), []);
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        assert_eq!(inside("wan 0 0\nwan x y z 0 0 0 q\n", "00 00\n\nzz 00 zz 00 zz 0 0 0 0 lo\n"), []);
        let text =
            "# nameserver 1.1.1.1\nnameserver 9.9.9.9\nsearch lan\nnameserver fe80::1%eth0\nnameserver\n";
        let servers: Vec<Prefix> = name_servers(text).collect();
        assert_eq!(servers, [("9.9.9.9".parse().unwrap(), 32), ("fe80::1".parse().unwrap(), 128)]);
    }

    #[test]
    fn the_guard_takes_them() {
        let mut guard = AddressGuard::default();
        guard.refresh(inside(&v4("br-lan", "85.5.5.0", 24, "0.0.0.0", 1), ""), 0);
        assert!(guard.judge("85.5.5.5".parse().unwrap()).is_err());
        assert!(guard.judge("85.5.6.5".parse().unwrap()).is_ok());
    }
}

//! Which device leads to the Internet: that of the main table's default route with the lowest metric, or the one that the
//! owner names; for IPv4 and IPv6 each.
use std::net::IpAddr;

/// Longest name of a device, bytes (`IFNAMSIZ` of linux/if.h, without its NUL).
pub const MAX_NAME: usize = 15;
/// Most addresses of a device that are told.
pub const MAX_ADDRESSES: usize = 16;
/// Since this Linux a socket may be bound to a device without `CAP_NET_RAW` (commit c427bfec18f2).
const BINDS_SINCE: (u32, u32) = (5, 7);

/// Which device the owner wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// That of the default route.
    #[default]
    Auto,
    /// This one.
    Device(String),
}

impl Choice {
    /// Of `network.wanDevice`.
    pub fn of(text: &str) -> Choice {
        if text == "auto" { Choice::Auto } else { Choice::Device(text.to_owned()) }
    }

    /// As it is written in the configuration.
    pub fn name(&self) -> &str {
        match self {
            Choice::Auto => "auto",
            Choice::Device(name) => name,
        }
    }
}

/// A device that leads outward, for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub device: String,
    /// Its number; a line that is dialled again may have the same name and another number.
    pub index: u32,
    /// Its addresses of this family, link-local ones left out.
    pub addresses: Vec<IpAddr>,
}

/// The devices that lead outward. The default is a router without a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wan {
    /// For IPv4.
    pub v4: Option<Uplink>,
    /// For IPv6.
    pub v6: Option<Uplink>,
}

/// How a connection left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The number of its device.
    pub index: u32,
    /// Its own address.
    pub source: IpAddr,
}

impl Wan {
    /// The device by which an address is reached.
    pub fn toward(&self, address: IpAddr) -> Option<&Uplink> {
        if address.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }

    /// Whether a connection that left so can still go on.
    pub fn carries(&self, leaving: Leaving) -> bool {
        let uplink = self.toward(leaving.source);
        uplink.is_some_and(|u| u.index == leaving.index && u.addresses.contains(&leaving.source))
    }

    /// Both, the first for IPv4.
    pub fn uplinks(&self) -> impl Iterator<Item = &Uplink> {
        self.v4.iter().chain(&self.v6)
    }

    /// Whether there is no line at all.
    pub fn is_down(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

/// A default route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Of IPv6.
    pub v6: bool,
    /// Bits of its destination: a route for all there is comes before those that VPNs split it into.
    pub bits: u8,
    /// `RTA_PRIORITY`; the lowest wins.
    pub metric: u32,
    /// The number of its device.
    pub device: u32,
    /// The cable is out (`RTNH_F_LINKDOWN`).
    pub unplugged: bool,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether the owner has switched it on (`IFF_UP`).
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Chooses among the devices.
pub fn choose(choice: &Choice, defaults: &[DefaultRoute], devices: &[Device]) -> Wan {
    let one = |v6| match choice {
        Choice::Auto => {
            let of_family = defaults.iter().filter(|d| d.v6 == v6);
            let best = of_family.min_by_key(|d| (d.unplugged, d.bits, d.metric))?;
            uplink(devices.iter().find(|d| d.index == best.device && d.name != "lo")?, v6)
        }
        Choice::Device(name) => {
            let named = devices.iter().find(|d| d.name == *name && d.up)?;
            uplink(named, v6).filter(|u| !u.addresses.is_empty())
        }
    };
    Wan { v4: one(false), v6: one(true) }
}

fn uplink(device: &Device, v6: bool) -> Option<Uplink> {
    let outward = device.addresses.iter().filter(|a| a.is_ipv6() == v6 && !is_link_local(**a));
    let mut addresses: Vec<IpAddr> = outward.copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    Some(Uplink { device: device.name.clone(), index: device.index, addresses })
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

/// Whether a text can be the name of a device (`dev_valid_name` of net/core/dev.c), printable besides.
pub fn is_device_name(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'"'));
    (1..=MAX_NAME).contains(&text.len()) && plain && text != "." && text != ".."
}

/// Whether a kernel of this release lets everybody bind a socket to a device. One whose release cannot be read does not.
pub fn can_bind(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= BINDS_SINCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, name: &str, addresses: &[&str]) -> Device {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Device { index, name: name.into(), up: true, addresses }
    }

    fn route(device: u32, metric: u32) -> DefaultRoute {
        DefaultRoute { v6: false, bits: 0, metric, device, unplugged: false }
    }

    fn auto(defaults: &[DefaultRoute]) -> Option<String> {
        let devices = [
            device(1, "lo", &["127.0.0.1"]),
            device(2, "wan0", &["84.1.1.2"]),
            device(3, "wwan0", &["85.1.1.2"]),
        ];
        choose(&Choice::Auto, defaults, &devices).v4.map(|u| u.device)
    }

    #[test]
    fn the_lowest_metric_wins() {
        assert_eq!(auto(&[route(2, 20), route(3, 10)]).as_deref(), Some("wwan0"));
        assert_eq!(auto(&[route(2, 10), route(3, 20)]).as_deref(), Some("wan0"));
        assert_eq!(auto(&[]), None);
    }

    #[test]
    fn a_vpns_halves_do_not_win_over_the_line_they_run_on() {
        let half = DefaultRoute { bits: 1, ..route(3, 0) };
        assert_eq!(auto(&[half, route(2, 100)]).as_deref(), Some("wan0"));
        assert_eq!(auto(&[half]).as_deref(), Some("wwan0"), "unless there is nothing else");
    }

    #[test]
    fn a_line_with_its_cable_out_is_the_last_choice() {
        let unplugged = DefaultRoute { unplugged: true, ..route(2, 0) };
        assert_eq!(auto(&[unplugged, route(3, 100)]).as_deref(), Some("wwan0"));
        assert_eq!(auto(&[unplugged]).as_deref(), Some("wan0"));
    }

    #[test]
    fn loopback_and_devices_that_are_gone_lead_nowhere() {
        assert_eq!(auto(&[route(1, 0)]), None);
        assert_eq!(auto(&[route(9, 0)]), None);
    }

    #[test]
    fn the_families_are_chosen_each_on_its_own() {
        let v6 = DefaultRoute { v6: true, ..route(7, 512) };
        let devices = [device(2, "wan0", &["84.1.1.2"]), device(7, "6in4", &["fe80::1", "2a02::2"])];
        let wan = choose(&Choice::Auto, &[route(2, 0), v6], &devices);
        assert_eq!(wan.v4.as_ref().unwrap().device, "wan0");
        let six = wan.v6.as_ref().unwrap();
        assert_eq!((six.index, six.addresses.clone()), (7, vec!["2a02::2".parse().unwrap()]));
        assert_eq!(wan.toward("2606:4700::1".parse().unwrap()).unwrap().device, "6in4");
    }

    #[test]
    fn a_named_device_needs_no_default_route_but_an_address() {
        let devices = [device(2, "wan0", &["84.1.1.2"]), device(5, "pppoe-wan", &["86.1.1.2"])];
        let named = |name: &str| choose(&Choice::of(name), &[route(2, 0)], &devices);
        let wan = named("pppoe-wan");
        assert_eq!((wan.v4.unwrap().index, wan.v6), (5, None));
        assert!(named("wan9").is_down(), "no other one stands in for it");
        let down = [Device { up: false, ..devices[1].clone() }];
        assert!(choose(&Choice::of("pppoe-wan"), &[], &down).is_down());
        assert_eq!(Choice::of("auto"), Choice::Auto);
    }

    #[test]
    fn a_connection_goes_on_with_its_device_and_its_address() {
        let wan = choose(&Choice::Auto, &[route(2, 0)], &[device(2, "wan0", &["84.1.1.2"])]);
        let leaving = |index, source: &str| Leaving { index, source: source.parse().unwrap() };
        assert!(wan.carries(leaving(2, "84.1.1.2")));
        assert!(!wan.carries(leaving(3, "84.1.1.2")), "dialled again");
        assert!(!wan.carries(leaving(2, "84.1.1.3")), "another address");
        assert!(!wan.carries(leaving(2, "2a02::2")), "no line of that family");
        assert!(!Wan::default().carries(leaving(2, "84.1.1.2")));
    }

    #[test]
    fn names_of_devices() {
        for good in ["wan", "pppoe-wan", "eth0.2", "br-lan", "wlan0-1", "a23456789012345"] {
            assert!(is_device_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "eth0:1", "a\"b", "a234567890123456", "wän"] {
            assert!(!is_device_name(bad), "{bad}");
        }
    }

    #[test]
    fn kernels_that_bind() {
        for (release, binds) in [
            ("5.7.0", true),
            ("5.4.238", false),
            ("6.12.1-x", true),
            ("4.19.0", false),
            ("10.0", true),
            ("", false),
        ] {
            assert_eq!(can_bind(release), binds, "{release}");
        }
    }
}

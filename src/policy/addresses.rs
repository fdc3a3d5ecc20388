//! Which addresses may be dialled: global unicast only, and none of the router's own networks.
use super::refusal::Refusal;
use crate::mutant::{out, row_out};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and the length of its prefix.
pub type Prefix = (IpAddr, u8);

/// Age in milliseconds at which the live set is to be read again: a line that was just redialled has another address.
pub const STALE_MS: u64 = 5_000;

/// IANA IPv4 special-purpose registry (RFC 6890), globally reachable entries included: nobody's web site is there;
/// and multicast.
const SPECIAL_V4: [(Ipv4Addr, u8); 18] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 52, 193, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(192, 175, 48, 0), 24),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// IANA IPv6 special-purpose registry; and what was once special and still means something to a router: addresses with
/// an IPv4 one in them, site-local ones, multicast. 2001::/23 holds Teredo, ORCHID and benchmarking; 2002::/16 is 6to4:
/// both carry an IPv4 address, and neither has a site of its own. Rows outside 2000::/3 are denied twice.
const SPECIAL_V6: [(Ipv6Addr, u8); 18] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 128),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 1), 128),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x100, 0, 0, 1, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Global unicast (RFC 4291 section 2.4, as IANA has allocated it).
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The well-known NAT64 prefix (RFC 6052): what an IPv6-only line makes of IPv4 addresses.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// The special-purpose ranges of IPv4.
pub fn special_v4() -> impl Iterator<Item = Prefix> {
    SPECIAL_V4.iter().map(|(a, bits)| ((*a).into(), *bits))
}

/// The special-purpose ranges within [`global_v6`].
pub fn special_v6() -> impl Iterator<Item = Prefix> {
    SPECIAL_V6.iter().map(|(a, bits)| ((*a).into(), *bits))
}

/// Global unicast of IPv6; what is outside is denied, but for [`nat64`].
pub fn global_v6() -> Prefix {
    (GLOBAL_V6.0.into(), GLOBAL_V6.1)
}

/// The well-known prefix of translators: an address in it is judged as the IPv4 address it stands for.
pub fn nat64() -> Prefix {
    (NAT64.0.into(), NAT64.1)
}

/// Judges addresses before they are dialled.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard {
    allow: Vec<Prefix>,
    live: Vec<Prefix>,
    refreshed_ms: Option<u64>,
}

impl AddressGuard {
    /// A guard that lets the lab's addresses pass, whatever they are.
    pub fn new(allow: Vec<Prefix>) -> AddressGuard {
        AddressGuard { allow, live: Vec::new(), refreshed_ms: None }
    }

    /// Replaces the live set: the interfaces' addresses with their prefixes, what lies behind other routers of the
    /// owner's, gateways and name servers.
    pub fn refresh(&mut self, networks: Vec<Prefix>, mono_ms: u64) {
        self.live = networks;
        self.refreshed_ms = Some(mono_ms);
    }

    /// Whether the live set must be read again before a judgement.
    pub fn is_stale(&self, mono_ms: u64) -> bool {
        // A mutation run changes from one moment to the next what is read.
        cfg!(feature = "mutants") || self.refreshed_ms.is_none_or(|at| mono_ms.saturating_sub(at) >= STALE_MS)
    }

    /// The live set holds no longer.
    pub fn forget(&mut self) {
        self.refreshed_ms = None;
    }

    /// Whether `address` may be dialled. Before the live set is known, none may.
    ///
    /// # Errors
    /// [`Refusal::AddressDenied`].
    pub fn judge(&self, address: IpAddr) -> Result<(), Refusal> {
        let within = |list: &[Prefix], a: IpAddr| list.iter().any(|p| contains(*p, a));
        if within(&self.allow, address) {
            return Ok(());
        }
        self.judge_public(address)
    }

    /// Whether `address` is a public one and not of the live set: on the other side of the line.
    pub fn is_public(&self, address: IpAddr) -> bool {
        self.judge_public(address).is_ok()
    }

    fn judge_public(&self, address: IpAddr) -> Result<(), Refusal> {
        let within = |list: &[Prefix], a: IpAddr| list.iter().any(|p| contains(*p, a));
        let embedded = embedded_v4(address).map(IpAddr::V4);
        let unknown = self.refreshed_ms.is_none();
        let live = |a| within(&self.live, a) && !out("live-networks");
        let own = unknown || live(address) || embedded.is_some_and(|v4| live(v4) && !out("nat64-live"));
        if own || is_special(address) { Err(Refusal::AddressDenied) } else { Ok(()) }
    }

    /// Whether all of a name's addresses may be dialled: one that may not refuses the name.
    ///
    /// # Errors
    /// [`Refusal::AddressDenied`].
    pub fn judge_all(&self, addresses: &[IpAddr]) -> Result<(), Refusal> {
        if out("every-answer-judged") && addresses.iter().any(|a| self.judge(*a).is_ok()) {
            return Ok(());
        }
        addresses.iter().try_for_each(|a| self.judge(*a))
    }
}

/// Whether `prefix` holds `address`; the families must agree.
pub fn contains(prefix: Prefix, address: IpAddr) -> bool {
    match (prefix, address) {
        ((IpAddr::V4(net), len), IpAddr::V4(a)) => contains_v4((net, len), a),
        ((IpAddr::V6(net), len), IpAddr::V6(a)) => contains_v6((net, len), a),
        _ => false,
    }
}

fn contains_v4((net, len): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let shift = 32u32.saturating_sub(u32::from(len));
    (net.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
}

fn contains_v6((net, len): (Ipv6Addr, u8), address: Ipv6Addr) -> bool {
    let shift = 128u32.saturating_sub(u32::from(len));
    (net.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
}

/// Whether the address is of a special-purpose range, or stands for one of IPv4.
pub fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => SPECIAL_V4.iter().any(|p| contains_v4(*p, a) && !row_out("special-v4", p.0, p.1)),
        IpAddr::V6(a) if contains_v6(NAT64, a) => {
            let embedded = embedded_v4(address);
            embedded.is_none_or(|v4| is_special(v4.into()) && !out("nat64-embedded"))
        }
        IpAddr::V6(a) => {
            let global = contains_v6(GLOBAL_V6, a) || out("global-unicast");
            let row = SPECIAL_V6.iter().any(|p| contains_v6(*p, a) && !row_out("special-v6", p.0, p.1));
            !global || row || isatap_v4(a).is_some_and(|v4| is_special(v4.into()) && !out("isatap"))
        }
    }
}

/// The IPv4 address of an ISATAP interface (RFC 5214 section 6.1): a tunnel would end there.
fn isatap_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., group, mark, high, low] = address.segments();
    let is_isatap = group & !0x200 == 0 && mark == 0x5efe;
    is_isatap.then(|| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
}

/// The IPv4 address that a translator would reach. The other forms that carry one (mapped, compatible, 64:ff9b:1::/48,
/// 6to4, Teredo) are denied whole, so theirs need not be known.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V6(a) if contains_v6(NAT64, a) => Some(Ipv4Addr::from_bits(a.to_bits() as u32)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A guard of a machine without addresses.
    fn alone() -> AddressGuard {
        let mut guard = AddressGuard::default();
        guard.refresh(Vec::new(), 0);
        guard
    }

    fn denied(text: &str) -> bool {
        alone().judge(ip(text)) == Err(Refusal::AddressDenied)
    }

    #[test]
    fn as_long_as_the_own_networks_are_not_known_every_address_is_denied() {
        let mut guard = AddressGuard::new(vec![(ip("127.0.0.0"), 8)]);
        assert_eq!(guard.judge(ip("8.8.8.8")), Err(Refusal::AddressDenied));
        assert_eq!(guard.judge(ip("127.0.0.1")), Ok(()));
        guard.refresh(Vec::new(), 0);
        assert_eq!(guard.judge(ip("8.8.8.8")), Ok(()));
    }

    #[test]
    fn special_purpose_ranges_are_denied_from_end_to_end() {
        for text in "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 \
            127.255.255.255 169.254.0.0 169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.9 192.0.0.255 \
            192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.0 \
            198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 \
            :: ::1 ::8.8.8.8 ::ffff:8.8.8.8 ::ffff:10.0.0.1 64:ff9b::10.0.0.1 64:ff9b::192.168.1.1 \
            64:ff9b::127.0.0.1 64:ff9b:1::1 64:ff9b:1:808:8:800:: 100::1 100:0:0:1::1 2001::1 2001:2::1 2001:10::1 \
            2001:20::1 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8::1 2002:c0a8:101::1 2002:808:808::1 \
            2620:4f:8000::1 3fff::1 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff 4000::1 5f00::1 fc00::1 fdff::1 fe80::1 \
            fec0::1 ff02::1 1fff::1 2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:192.168.1.1"
            .split_whitespace()
        {
            assert!(denied(text), "{text}");
        }
    }

    #[test]
    fn their_neighbours_are_allowed() {
        for text in "1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
            169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.167.255.255 192.169.0.0 \
            198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255 8.8.8.8 2000::1 2001:200::1 \
            2001:4860:4860::8888 2003::1 2606:4700::1111 3ffe::1 3fff:1000::1 64:ff9b::8.8.8.8 2606:4700::5efe:8.8.8.8 \
            2606:4700::400:5efe:10.0.0.1"
            .split_whitespace()
        {
            assert!(!denied(text), "{text}");
        }
    }

    #[test]
    fn own_addresses_and_connected_networks_are_denied() {
        let mut guard = alone();
        assert_eq!(guard.judge(ip("93.184.216.9")), Ok(()));
        guard.refresh(vec![(ip("93.184.216.34"), 24), (ip("2606:2800:220::1"), 64), (ip("8.8.4.4"), 32)], 5);
        for own in ["93.184.216.34", "93.184.216.9", "2606:2800:220::99", "8.8.4.4", "64:ff9b::8.8.4.4"] {
            assert_eq!(guard.judge(ip(own)), Err(Refusal::AddressDenied), "{own}");
        }
        for other in ["93.184.217.1", "2606:2800:220:1::1", "8.8.4.5", "64:ff9b::8.8.4.5"] {
            assert_eq!(guard.judge(ip(other)), Ok(()), "{other}");
        }
    }

    #[test]
    fn the_lab_list_stands_beside_every_check() {
        let mut guard = AddressGuard::new(vec![(ip("127.0.0.0"), 8), (ip("::1"), 128)]);
        guard.refresh(vec![(ip("127.0.0.1"), 8)], 0);
        assert_eq!(guard.judge_all(&[ip("127.0.0.1"), ip("127.9.9.9"), ip("::1"), ip("8.8.8.8")]), Ok(()));
        assert_eq!(guard.judge(ip("10.0.0.1")), Err(Refusal::AddressDenied));
        assert_eq!(guard.judge(ip("::2")), Err(Refusal::AddressDenied));
    }

    #[test]
    fn one_denied_address_refuses_the_name() {
        let guard = alone();
        assert_eq!(guard.judge_all(&[ip("8.8.8.8"), ip("192.168.0.1")]), Err(Refusal::AddressDenied));
        assert_eq!(guard.judge_all(&[ip("8.8.8.8"), ip("2606:4700::1111")]), Ok(()));
    }

    #[test]
    fn the_live_set_grows_stale() {
        let mut guard = AddressGuard::default();
        assert!(guard.is_stale(0));
        guard.refresh(Vec::new(), 1000);
        assert!(!guard.is_stale(5_999));
        assert!(guard.is_stale(6_000));
    }

    proptest! {
        #[test]
        fn nothing_outside_global_unicast_and_nat64_is_allowed(bits in any::<u128>()) {
            let a = Ipv6Addr::from_bits(bits);
            if alone().judge(a.into()).is_ok() {
                prop_assert!(a.segments()[0] >> 13 == 1 || a.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]);
            }
        }

        #[test]
        fn nat64_is_judged_as_the_address_it_stands_for(bits in any::<u32>()) {
            let guard = alone();
            let v4 = Ipv4Addr::from_bits(bits);
            let v6 = Ipv6Addr::from_bits((0x64_ff9b << 96) | u128::from(bits));
            prop_assert_eq!(guard.judge(v6.into()), guard.judge(v4.into()));
        }
    }
}

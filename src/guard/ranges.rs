//! Sets of addresses as disjoint ranges, the form in which the kernel keeps an interval set.
use crate::policy::addresses::{self, Prefix};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Last bit pattern of an IPv4 address.
const TOP_V4: u128 = u32::MAX as u128;

/// Ranges of addresses of one family, first and last, in order, with a gap between any two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    v6: bool,
    list: Vec<(u128, u128)>,
}

impl Ranges {
    /// The union of ranges of bit patterns.
    pub fn new(v6: bool, mut parts: Vec<(u128, u128)>) -> Ranges {
        parts.sort_unstable();
        let mut list: Vec<(u128, u128)> = Vec::with_capacity(parts.len());
        for (first, last) in parts {
            match list.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => list.push((first, last)),
            }
        }
        Ranges { v6, list }
    }

    /// The union of the prefixes of one family.
    pub fn of(v6: bool, prefixes: &[Prefix]) -> Ranges {
        Ranges::new(v6, prefixes.iter().filter(|p| p.0.is_ipv6() == v6).map(range).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = bits(address);
        address.is_ipv6() == self.v6 && self.list.iter().any(|(a, b)| (*a..=*b).contains(&bits))
    }

    /// As elements of an interval set: each key with whether it is the first beyond a range. A range that reaches the last
    /// address has no end.
    pub fn elements(&self) -> Vec<(Vec<u8>, bool)> {
        let top = if self.v6 { u128::MAX } else { TOP_V4 };
        let mut elements = Vec::with_capacity(self.list.len() * 2);
        for (first, last) in &self.list {
            elements.push((self.key(*first), false));
            if *last < top {
                elements.push((self.key(*last + 1), true));
            }
        }
        elements
    }

    /// As `nft` lists them: prefixes where a range is one.
    pub fn text(&self) -> Vec<String> {
        self.list.iter().map(|(first, last)| self.one(*first, *last)).collect()
    }

    fn one(&self, first: u128, last: u128) -> String {
        let width = if self.v6 { 128 } else { 32 };
        let mut text = self.address(first).to_string();
        let size = (first ^ last).checked_add(1);
        let free = size.map_or(width, u128::trailing_zeros);
        let whole = size.is_none_or(u128::is_power_of_two) && first.trailing_zeros().min(width) >= free;
        match (whole, free) {
            (true, 0) => {}
            (true, free) => {
                let _ = write!(text, "/{}", width - free);
            }
            (false, _) => {
                let _ = write!(text, "-{}", self.address(last));
            }
        }
        text
    }

    fn address(&self, bits: u128) -> IpAddr {
        if self.v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
    }

    fn key(&self, bits: u128) -> Vec<u8> {
        if self.v6 { bits.to_be_bytes().to_vec() } else { (bits as u32).to_be_bytes().to_vec() }
    }
}

/// What may not be reached beside the live set: the special-purpose ranges of both families.
///
/// NAT64 addresses are judged as the addresses they stand for, so the IPv4 part is there twice.
pub fn denied(live: &[Prefix]) -> (Ranges, Ranges) {
    let mut v4: Vec<_> = addresses::special_v4().map(|p| range(&p)).collect();
    v4.extend(live.iter().filter(|p| p.0.is_ipv4()).map(range));
    let v4 = Ranges::new(false, v4);
    let nat64 = range(&addresses::nat64());
    let global = range(&addresses::global_v6());
    let mut v6 = vec![(0, nat64.0 - 1), (nat64.1 + 1, global.0 - 1), (global.1 + 1, u128::MAX)];
    v6.extend(v4.list.iter().map(|(a, b)| (nat64.0 | a, nat64.0 | b)));
    v6.extend(addresses::special_v6().map(|p| range(&p)));
    v6.extend(live.iter().filter(|p| p.0.is_ipv6()).map(range));
    (v4, Ranges::new(true, v6))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_bits().into(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn range((address, length): &Prefix) -> (u128, u128) {
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let free = width.saturating_sub(u32::from(*length));
    let mask = 1u128.checked_shl(free).map_or(u128::MAX, |n| n - 1);
    let first = bits(*address) & !mask;
    (first, first | mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::addresses::AddressGuard;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        (address.parse().unwrap(), length.parse().unwrap())
    }

    #[test]
    fn neighbours_and_overlaps_become_one() {
        let all: Vec<Prefix> =
            "10.0.0.0/9 10.128.0.0/9 44.2.2.9/32 44.2.2.10/31 44.2.2.10/32 224.0.0.0/4 240.0.0.0/4"
                .split(' ')
                .map(prefix)
                .collect();
        let ranges = Ranges::of(false, &all);
        assert_eq!(ranges.text(), ["10.0.0.0/8", "44.2.2.9-44.2.2.11", "224.0.0.0/3"]);
        assert_eq!(ranges.elements().len(), 5, "the last one is open");
        assert_eq!(Ranges::of(true, &[prefix("::/0")]).text(), ["::/0"]);
        assert_eq!(Ranges::of(true, &[prefix("::1/128")]).text(), ["::1"]);
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|b| Ipv4Addr::from_bits(b).into()),
            any::<u128>().prop_map(|b| Ipv6Addr::from_bits(b).into()),
            any::<u128>().prop_map(|b| Ipv6Addr::from_bits((b >> 3) | (1 << 125)).into()),
            any::<u32>().prop_map(|b| Ipv6Addr::from_bits((0x64_ff9b << 96) | u128::from(b)).into()),
        ]
    }

    proptest! {
        #[test]
        fn the_kernels_set_and_the_relays_check_say_the_same(
            asked in address(), own in address(), length in 8u8..=128,
        ) {
            let length = if own.is_ipv4() { length.min(32) } else { length };
            let mut guard = AddressGuard::default();
            guard.refresh(vec![(own, length)], 0);
            let (v4, v6) = denied(&[(own, length)]);
            for address in [asked, own] {
                let denied = v4.contains(address) || v6.contains(address);
                prop_assert_eq!(denied, guard.judge(address).is_err(), "{}", address);
            }
        }
    }
}

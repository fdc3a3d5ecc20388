//! What the owner's configuration lets the service user reach.
//!
//! Addresses that the owner wrote as literals may lie inside: a resolver in the LAN, a coordinator beside the router. They, and
//! the device by which everything leaves, are taken when the guard starts and when root sends it SIGHUP, never because `run` asks: a broken `run` can write the
//! configuration. What it can gain by that is ports of global addresses.
use super::lease_rules::{LeaseScope, Marks};
use crate::config::{Config, Offload};
use crate::http::url::Url;
use crate::policy::addresses::Prefix;
use crate::policy::wan::Choice;
use crate::sorted::SortedSet;
use std::net::IpAddr;

/// The port of HTTPS, the only one that buyers reach.
const HTTPS: u16 = 443;
/// The port of plain HTTP, for probes where the owner allows it.
const HTTP: u16 = 80;

/// A cap from which on there is none: no line of a router that needs one is as fast, 10^6 bit/s.
const UNCAPPED_MBPS: f64 = 10_000.0;

/// What may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Ports of global addresses.
    pub ports: SortedSet<u16>,
    /// Ports from which buyers are answered.
    pub listen: SortedSet<u16>,
    /// Addresses written in the configuration, each with its port, wherever they are.
    pub literals: SortedSet<(IpAddr, u16)>,
    /// Networks of the laboratory, at `ports`; none outside of it.
    pub open: Vec<Prefix>,
    /// Whether the system's name servers are asked.
    pub asks_system: bool,
    /// The bit of the connection mark that says: begun by the service user.
    pub mark: u32,
    /// The device by which everything leaves.
    pub wan_device: Choice,
    /// Leases; none if the mask has too few bits for them.
    pub leases: Option<LeaseScope>,
    /// How the owner wants accepted connections of leases carried.
    pub offload: Offload,
    /// What all leases together may carry, kbit/s; 0: as much as they can.
    pub max_kbps: u32,
}

impl Scope {
    /// What a configuration asks for.
    pub fn of(config: &Config) -> Scope {
        let security = &config.security;
        let mut scope = Scope {
            ports: config.lab.ports.iter().copied().chain([HTTPS]).collect(),
            listen: [config.relay.listen.port()].into(),
            open: config.lab.allow_addresses.clone(),
            asks_system: !security.dns_over_https || security.doh_bootstrap.is_empty(),
            mark: highest_bit(config.lease.mark_mask),
            wan_device: config.network.wan_device.clone(),
            leases: Marks::of(config.lease.mark_mask)
                .map(|marks| LeaseScope { ports: config.lease.ports, marks }),
            offload: config.network.offload,
            max_kbps: kbps(config.network.max_mbps),
            ..Scope::default()
        };
        if config.policy.allow_plain_http_probes {
            scope.ports.insert(HTTP);
        }
        scope.add_url(config.coordinator.url.as_deref());
        if security.dns_over_https {
            let port = scope.add_url(security.doh_url.as_deref());
            let bootstrap = security.doh_bootstrap.iter();
            scope.literals.extend(port.into_iter().flat_map(|p| bootstrap.clone().map(move |a| (*a, p))));
        }
        scope
    }

    /// This scope with the ports of another one, and its way to carry leases. Its literals, its device and the ports of leases stay; whether the other one wants others is told too.
    pub fn with_ports_of(&self, other: &Scope) -> (Scope, bool) {
        let new = Scope {
            ports: other.ports.clone(),
            listen: other.listen.clone(),
            offload: other.offload,
            max_kbps: other.max_kbps,
            ..self.clone()
        };
        // What needs a restart is not what a signal would change.
        let differs = new != self.changed_to(other.clone());
        (new, differs)
    }

    /// What a new configuration asks for, as far as that goes without a restart: the bits of marks and the ports of leases stay.
    /// Connections that live, the queue of undecided packets and `run` have the old ones, and a bit that has meant one thing
    /// must not mean another while they do.
    pub fn changed_to(&self, new: Scope) -> Scope {
        Scope { mark: self.mark, leases: self.leases, ..new }
    }

    fn add_url(&mut self, url: Option<&str>) -> Option<u16> {
        let origin = Url::parse(url?).ok()?.origin;
        match origin.literal() {
            Some(address) => _ = self.literals.insert((address, origin.port)),
            None => _ = self.ports.insert(origin.port),
        }
        Some(origin.port)
    }
}

/// A rate in kbit/s; 0 for one that no router's line has.
pub fn kbps(mbps: f64) -> u32 {
    // A cap below one kbit/s is not none.
    if mbps < UNCAPPED_MBPS { ((mbps * 1000.0) as u32).max(1) } else { 0 }
}

/// The highest of the bits that the node may use; the kernel path has the others.
fn highest_bit(mask: u32) -> u32 {
    1u32.checked_shl(31u32.saturating_sub(mask.leading_zeros())).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Face, Platform, parse};

    fn scope(more: &str) -> Scope {
        let text = format!("version: 1\n{more}");
        Scope::of(&parse(text.as_bytes(), Face::Yaml, Platform::Other).unwrap())
    }

    #[test]
    fn by_default_443_and_the_default_resolver() {
        let scope = scope("");
        assert_eq!(scope.ports, [443].into());
        assert_eq!(scope.listen, [8443].into());
        assert_eq!(scope.mark, 0x0800_0000);
        assert!(!scope.asks_system && scope.open.is_empty());
        assert_eq!(scope.literals.len(), 4);
        assert!(scope.literals.contains(&("9.9.9.9".parse().unwrap(), 443)));
    }

    const KEY: &str = "  publicKey: 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n";

    #[test]
    fn a_name_gives_its_port_and_a_literal_gives_itself() {
        let named = scope(&format!("coordinator:\n  url: https://c.test:8444\n{KEY}"));
        assert_eq!(named.ports, [443, 8444].into());
        let literal = scope(&format!("coordinator:\n  url: https://192.168.1.9:8444\n{KEY}"));
        assert_eq!(literal.ports, [443].into());
        assert!(literal.literals.contains(&("192.168.1.9".parse().unwrap(), 8444)));
    }

    #[test]
    fn plain_http_and_the_systems_resolver_where_the_owner_wants_them() {
        let scope = scope("policy:\n  allowPlainHttpProbes: true\nsecurity:\n  dnsOverHttps: false\n");
        assert_eq!(scope.ports, [80, 443].into());
        assert!(scope.asks_system && scope.literals.is_empty());
        let own = self::scope("security:\n  dohUrl: https://d.test/q\n");
        assert!(own.asks_system, "the server's name has to be resolved by somebody");
    }

    #[test]
    fn literals_do_not_change_with_the_ports() {
        let old = scope("");
        let new = scope(&format!(
            "coordinator:\n  url: https://10.0.0.1:22\n{KEY}relay:\n  listen: 0.0.0.0:9443\nnetwork:\n  wanDevice: br-lan\n"
        ));
        assert_eq!(new.wan_device, Choice::of("br-lan"));
        let (now, differs) = old.with_ports_of(&new);
        assert!(differs);
        assert_eq!((&now.literals, &now.listen), (&old.literals, &new.listen));
        assert_eq!(now.wan_device, Choice::Auto);
        assert_eq!(now.with_ports_of(&now), (now.clone(), false));
    }

    #[test]
    fn what_has_marks_keeps_them_until_a_restart() {
        let old = scope("");
        let new = scope("lease:\n  markMask: \"0x07800000\"\n  ports: 20000-20063\nnetwork:\n  maxMbps: 7\n");
        assert_ne!((&new.leases, new.mark), (&old.leases, old.mark));
        let now = old.changed_to(new.clone());
        assert_eq!((&now.leases, now.mark, now.max_kbps), (&old.leases, old.mark, 7_000));
        assert_eq!(old.with_ports_of(&new), (now, false), "no signal would change it");
    }

    #[test]
    fn the_bit_is_one_of_the_mask() {
        for mask in [0x0f00_0000, 1, 0x8000_0000, 0x30] {
            assert_eq!((highest_bit(mask).count_ones(), highest_bit(mask) & !mask), (1, 0));
        }
    }
}

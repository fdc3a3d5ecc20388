//! The networks of the owner's side: interfaces, routes, name servers.
use super::net::interfaces;
use crate::mutant::out;
use crate::policy::routes::{inside, name_servers};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;

/// Most bytes of a table, some ten thousand routes.
const MAX_TABLE: u64 = 2 << 20;
/// Where the name servers stand: the program's own, and those that OpenWrt asks.
pub(super) const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/tmp/resolv.conf.d/resolv.conf.auto"];

/// Everything that must not be dialled because it is the owner's: addresses and prefixes of the interfaces, routes that
/// lead inside, gateways, name servers.
///
/// # Errors
/// The kernel's, or a table too large to be known whole.
pub fn own_networks() -> io::Result<Vec<(IpAddr, u8)>> {
    let mut found = if out("live-interfaces") { Vec::new() } else { interfaces()? };
    found.extend(inside(&table("/proc/net/route")?, &table_if_any("/proc/net/ipv6_route")?));
    for path in RESOLVERS {
        found.extend(name_servers(&table_if_any(path)?).filter(|_| !out("live-name-servers")));
    }
    Ok(found)
}

fn table(path: &str) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(MAX_TABLE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_TABLE { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

/// A kernel without IPv6 has no table of it.
pub(super) fn table_if_any(path: &str) -> io::Result<String> {
    match table(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_own_addresses_are_among_them() {
        let found = own_networks().unwrap();
        assert!(interfaces().unwrap().iter().all(|own| found.contains(own)));
        assert!(found.iter().all(|(_, bits)| *bits > 0), "{found:?}");
    }
}

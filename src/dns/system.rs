//! The system's resolver, off the event loop: getaddrinfo blocks.
use super::{Answer, ResolveError};
use std::net::{IpAddr, ToSocketAddrs};

/// getaddrinfo tells no time to live.
const TTL_S: u32 = 10;

/// All addresses, and seconds to keep them. Aliases are not told, so CNAMEs are not judged on this path.
pub(super) async fn ask(host: &str) -> (Result<Answer, ResolveError>, u32) {
    let name = host.to_owned();
    (blocking::unblock(move || lookup(&name)).await, TTL_S)
}

fn lookup(host: &str) -> Result<Answer, ResolveError> {
    let found = (host, 0).to_socket_addrs().map_err(|_| ResolveError::NoAddress)?;
    let mut addresses: Vec<IpAddr> = found.map(|a| a.ip()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    if addresses.is_empty() {
        Err(ResolveError::NoAddress)
    } else {
        Ok(Answer { addresses, aliases: Vec::new() })
    }
}

//! The system's resolver, off the event loop: getaddrinfo blocks.
use super::cache::Cache;
use super::{Answer, Lookup, ResolveError, Resolver};
use crate::time::Now;
use async_io::Timer;
use futures_lite::future;
use std::cell::RefCell;
use std::net::{IpAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

/// getaddrinfo tells no time to live.
const KEEP_MS: u64 = 10_000;

/// Asks getaddrinfo. It does not tell aliases, so CNAMEs are not judged on this path.
#[derive(Debug, Default)]
pub struct SystemResolver {
    cache: RefCell<Cache>,
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, now: Now) -> Lookup<'a> {
        if let Some(kept) = self.cache.borrow().find(host, now.mono_ms()) {
            return Box::pin(future::ready(kept));
        }
        Box::pin(async move {
            let name = host.to_owned();
            let asked = async { blocking::unblock(move || lookup(&name)).await };
            let late = async {
                Timer::after(Duration::from_millis(super::TIMEOUT_MS)).await;
                Err(ResolveError::TimedOut)
            };
            let found = future::or(asked, late).await.map(Rc::new);
            if found != Err(ResolveError::TimedOut) {
                self.cache.borrow_mut().keep(host, found.clone(), now.mono_ms(), KEEP_MS);
            }
            found
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_loopback_and_then_cached() {
        let resolver = SystemResolver::default();
        let now = Now { mono_us: 0, unix_ms: 0 };
        let answer = async_io::block_on(resolver.resolve("localhost", now)).unwrap();
        assert!(answer.addresses.iter().all(IpAddr::is_loopback));
        assert_eq!(resolver.cache.borrow().find("localhost", 9_999), Some(Ok(answer)));
    }
}

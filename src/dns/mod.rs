//! Names to addresses: by DNS over HTTPS, or by the system where the owner has not configured that.
mod cache;
mod doh;
mod message;
mod names;
mod system;

pub use names::Names;

use crate::clock::Clock;
use crate::http::client::{Resolve, Resolving};
use crate::time::Now;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;

/// What a name resolves to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// All its addresses, of A and AAAA records; IPv4 first, which every line has.
    pub addresses: Vec<IpAddr>,
    /// The names it is an alias of (CNAME), in normal form.
    pub aliases: Vec<String>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// The name has no address.
    NoAddress,
    /// The resolver refused, failed, or answered something else than was asked.
    Failed,
    /// It did not answer in time.
    TimedOut,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResolveError::NoAddress => "the name has no address",
            ResolveError::Failed => "the resolver failed or gave no valid answer; check security.dohUrl",
            ResolveError::TimedOut => "the resolver did not answer within 5 seconds",
        })
    }
}

impl std::error::Error for ResolveError {}

/// Longest time for an answer.
const TIMEOUT_MS: u64 = 5000;

/// A lookup under way.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Rc<Answer>, ResolveError>> + 'a>>;

/// Resolves names in normal form ([`crate::policy::hosts::normal`]).
pub trait Resolver {
    /// All addresses of `host`, within 5 seconds.
    fn resolve<'a>(&'a self, host: &'a str, now: Now) -> Lookup<'a>;
}

/// The same resolver for the node's own requests.
pub struct OwnNames {
    /// Where to look.
    pub resolver: Rc<dyn Resolver>,
    /// What the resolver is told the time by.
    pub clock: Rc<Clock>,
}

impl Resolve for OwnNames {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let found = self.resolver.resolve(host, self.clock.now()).await;
            found.map(|answer| answer.addresses.clone()).map_err(|e| e.to_string())
        })
    }
}

//! What a data path asks of the node: may this pass, and who pays for it.
use super::Tenant;
use crate::lease::service::Leases;
use crate::policy::refusal::Refusal;
use crate::time::Now;
use std::net::IpAddr;
use std::rc::Rc;

/// Host and port of a CONNECT request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Lower-case A-label name without final dot, or the text of an address literal.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The address, if the host is a literal.
    pub literal: Option<IpAddr>,
}

/// The buyer's Basic credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// What stands before the first colon.
    pub session_id: String,
    /// The bytes after it.
    pub token: Vec<u8>,
}

/// A refusal before the 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The reason.
    pub refusal: Refusal,
    /// Seconds for `Retry-After`, with 429.
    pub retry_after_s: Option<u32>,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Denied {
        Denied { refusal, retry_after_s: None }
    }
}

/// Direction of payload, seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the target.
    Ingress,
    /// Taken by the target.
    Egress,
}

/// Why the node ends a live tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Reset both sides: pause, stop, quota, policy, lifetime.
    Reset,
    /// Nothing passed for the idle time, or the other half's time is over: close.
    Close,
    /// No complete ClientHello in time: alert, then close.
    HelloTimeout,
}

/// Rules for the first ClientHello of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloRules {
    /// The host the outer SNI must equal.
    pub host: String,
    /// Protocols that may be offered.
    pub alpn: std::rc::Rc<[String]>,
    /// Whether any ECH extension is refused.
    pub ech_deny: bool,
}

/// The node, as the relay sees it.
pub trait Gate {
    /// The clocks.
    fn now(&self) -> Now;

    /// All checks before the name is resolved, in the contract's order. `target` carries what the request line already
    /// decided (`not-https`, `address-denied`, …), for its place in that order. The refusal is counted and logged here;
    /// `from` is where the buyer's connection comes from.
    fn admit(
        &self,
        from: Option<IpAddr>,
        credentials: Option<&Credentials>,
        target: Result<&Target, Refusal>,
    ) -> Result<super::Flow, Denied>;

    /// The same checks of a request for a lease; a target of `None` is that of a request about a lease that there is.
    /// `reachable` is whether the kernel path can serve the connection that it came by.
    ///
    /// # Errors
    /// As of [`Gate::admit`].
    fn admit_lease(
        &self,
        _from: Option<IpAddr>,
        _credentials: Option<&Credentials>,
        _target: Option<Result<&Target, Refusal>>,
        _reachable: bool,
    ) -> Result<Rc<dyn Tenant>, Denied> {
        Err(Refusal::LeaseUnavailable.into())
    }

    /// The kernel path, where there can be one.
    fn leases(&self) -> Option<Rc<Leases>> {
        None
    }

    /// A bound on connections that nobody has authenticated was met, or has not been for a while.
    fn flood(&self, _begins: bool) {}
}

//! The one decision of every data path: may this buyer's request go out now?
use super::refusal::Refusal;
use crate::mutant;
use crate::session::{Denied, Target};

/// What the decision depends on, asked only as far as the order of checks needs it.
pub trait Standing {
    /// Why the node as a whole carries nothing: `guard-down`, `locked`, `quarantined`, `paused`, `outside-schedule`.
    fn node(&self) -> Option<Refusal>;
    /// Whether the session carries now: begun, not expired, closed or used up.
    fn session_open(&self) -> bool;
    /// Whether there is the way that the buyer asks for: the relay always is there, the kernel path may not be.
    fn way_open(&self) -> bool;
    /// Whether a port is carried.
    fn port_allowed(&self, port: u16) -> bool;
    /// Whether a block list of the owner or the session has the host.
    fn blocked(&self, host: &str) -> bool;
    /// Whether the allow lists of the owner and the session both have the host.
    fn allowed(&self, host: &str) -> bool;
    /// Whether the owner has opted out of the session's category since it was opened, or the host is of a category that
    /// the owner does not allow.
    fn category_denied(&self, host: &str) -> bool;
    /// Takes a place and a token for a new connection to the host; seconds to wait if there is none.
    fn take_place(&self, host: &str) -> Result<(), u32>;
    /// Seconds until the quota that is used up starts anew.
    fn quota_wait(&self) -> Option<u32>;
}

/// Judges a request of an authenticated buyer, before its name is resolved, in the contract's order. `target` may
/// hold what the request line alone refuses: `not-https`, or a port that is none.
pub fn admit(target: Result<&Target, Refusal>, standing: &dyn Standing) -> Result<(), Denied> {
    judge_standing(standing)?;
    let target = target?;
    if !standing.port_allowed(target.port) && !mutant::out("port-443") {
        return Err(Refusal::PortDenied.into());
    }
    if target.literal.is_some() && !mutant::out("literal-denied") {
        return Err(Refusal::AddressDenied.into());
    }
    judge_host(&target.host, standing)?;
    if standing.category_denied(&target.host) {
        return Err(Refusal::CategoryDenied.into());
    }
    standing
        .take_place(&target.host)
        .map_err(|wait| Denied { refusal: Refusal::RateLimited, retry_after_s: Some(wait) })?;
    match standing.quota_wait() {
        Some(wait) => Err(Denied { refusal: Refusal::QuotaReached, retry_after_s: Some(wait) }),
        None => Ok(()),
    }
}

/// The first of those checks, which need no target.
pub fn judge_standing(standing: &dyn Standing) -> Result<(), Refusal> {
    if let Some(refusal) = standing.node() {
        return Err(refusal);
    }
    if !standing.session_open() && !mutant::out("session-open") {
        return Err(Refusal::SessionClosed);
    }
    if !standing.way_open() && !mutant::out("lease-way-open") {
        return Err(Refusal::LeaseUnavailable);
    }
    Ok(())
}

/// Judges a name by the lists: of the request, or one that it is an alias of.
pub fn judge_host(host: &str, standing: &dyn Standing) -> Result<(), Refusal> {
    if standing.blocked(host) && !mutant::out("host-blocked") {
        return Err(Refusal::DomainBlocked);
    }
    if !standing.allowed(host) && !mutant::out("host-allowed") {
        return Err(Refusal::DomainNotAllowed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// All doors open, but for the ones a test shuts.
    #[derive(Default)]
    struct Shut {
        node: Option<Refusal>,
        closed: bool,
        no_way: bool,
        port: bool,
        blocked: bool,
        not_allowed: bool,
        category: bool,
        rate: bool,
        quota: bool,
        places: Cell<u32>,
    }

    impl Standing for Shut {
        fn node(&self) -> Option<Refusal> {
            self.node
        }
        fn session_open(&self) -> bool {
            !self.closed
        }
        fn way_open(&self) -> bool {
            !self.no_way
        }
        fn port_allowed(&self, port: u16) -> bool {
            !self.port && port == 443
        }
        fn blocked(&self, host: &str) -> bool {
            self.blocked && host == "host.test"
        }
        fn allowed(&self, host: &str) -> bool {
            !self.not_allowed && host == "host.test"
        }
        fn category_denied(&self, _: &str) -> bool {
            self.category
        }
        fn take_place(&self, _: &str) -> Result<(), u32> {
            self.places.set(self.places.get() + 1);
            if self.rate { Err(1) } else { Ok(()) }
        }
        fn quota_wait(&self) -> Option<u32> {
            self.quota.then_some(60)
        }
    }

    fn target() -> Target {
        Target { host: "host.test".into(), port: 443, literal: None }
    }

    #[test]
    fn each_door_refuses_with_its_own_reason_and_the_first_shut_one_decides() {
        let mut shut = Shut::default();
        assert_eq!(admit(Ok(&target()), &shut), Ok(()));
        let mut expect = |change: fn(&mut Shut), refusal| {
            change(&mut shut);
            assert_eq!(admit(Ok(&target()), &shut).unwrap_err().refusal, refusal);
        };
        // From the last door to the first, so that each one hides all behind it.
        expect(|s| s.quota = true, Refusal::QuotaReached);
        expect(|s| s.rate = true, Refusal::RateLimited);
        expect(|s| s.category = true, Refusal::CategoryDenied);
        expect(|s| s.not_allowed = true, Refusal::DomainNotAllowed);
        expect(|s| s.blocked = true, Refusal::DomainBlocked);
        expect(|s| s.port = true, Refusal::PortDenied);
        expect(|s| s.no_way = true, Refusal::LeaseUnavailable);
        expect(|s| s.closed = true, Refusal::SessionClosed);
        expect(|s| s.node = Some(Refusal::Paused), Refusal::Paused);
    }

    #[test]
    fn what_the_request_line_decides_keeps_its_place() {
        let mut shut = Shut { blocked: true, ..Shut::default() };
        assert_eq!(admit(Err(Refusal::NotHttps), &shut).unwrap_err().refusal, Refusal::NotHttps);
        assert_eq!(admit(Err(Refusal::AddressDenied), &shut).unwrap_err().refusal, Refusal::AddressDenied);
        shut.closed = true;
        assert_eq!(admit(Err(Refusal::NotHttps), &shut).unwrap_err().refusal, Refusal::SessionClosed);
    }

    #[test]
    fn an_address_literal_is_denied_after_its_port() {
        let literal = Target { host: "1.1.1.1".into(), port: 443, literal: Some([1, 1, 1, 1].into()) };
        assert_eq!(admit(Ok(&literal), &Shut::default()).unwrap_err().refusal, Refusal::AddressDenied);
        let other_port = Target { port: 8443, ..literal };
        assert_eq!(admit(Ok(&other_port), &Shut::default()).unwrap_err().refusal, Refusal::PortDenied);
    }

    #[test]
    fn a_refused_request_takes_no_place() {
        let shut = Shut { blocked: true, ..Shut::default() };
        admit(Ok(&target()), &shut).unwrap_err();
        assert_eq!(shut.places.get(), 0);
    }
}

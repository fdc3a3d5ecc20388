//! Admission: who the buyer is, and whether the request may go out.
use super::leases::Holder;
use super::node::Node;
use super::session::{At, Session};
use crate::lease::service::Leases;
use crate::mutant;
use crate::policy::decision::{admit, judge_standing};
use crate::policy::refusal::Refusal;
use crate::session::{Credentials, Denied, Flow, Gate, Target, Tenant, Way};
use crate::time::Now;
use std::net::IpAddr;
use std::rc::Rc;

/// The node's table of flows is full.
pub const FULL: Denied = Denied { refusal: Refusal::RateLimited, retry_after_s: Some(1) };

impl Gate for Node {
    fn now(&self) -> Now {
        self.ledger.now()
    }

    fn admit(
        &self,
        from: Option<IpAddr>,
        credentials: Option<&Credentials>,
        target: Result<&Target, Refusal>,
    ) -> Result<Flow, Denied> {
        let Some(session) = self.authenticate(credentials) else {
            let refusal = self.stranger(credentials);
            self.ledger.refused(refusal);
            return Err(refusal.into());
        };
        let now = self.ledger.now();
        let from = from.filter(|_| self.config().privacy.log_buyer_address);
        let flow = admit(target, &At::relay(&session, now))
            .and_then(|()| session.open_flow(target?, (from, Way::Relay), now).ok_or(FULL));
        if let Err(denied) = &flow {
            let (host, port) = target.map_or(("", 0), |t| (t.host.as_str(), t.port));
            session.refused(host, port, (from, Way::Relay), denied.refusal);
        }
        flow
    }

    fn admit_lease(
        &self,
        from: Option<IpAddr>,
        credentials: Option<&Credentials>,
        target: Option<Result<&Target, Refusal>>,
        reachable: bool,
    ) -> Result<Rc<dyn Tenant>, Denied> {
        let Some(session) = self.authenticate(credentials) else {
            let refusal = self.stranger(credentials);
            self.ledger.refused(refusal);
            return Err(refusal.into());
        };
        let from = from.filter(|_| self.config().privacy.log_buyer_address);
        let at = At::kernel(&session, self.ledger.now(), reachable);
        let judged = match target {
            Some(target) => admit(target, &at),
            None => judge_standing(&at).map_err(Denied::from),
        };
        if let Err(denied) = judged {
            let named = target.and_then(Result::ok);
            let (host, port) = named.map_or(("", 0), |t| (t.host.as_str(), t.port));
            session.refused(host, port, (from, Way::Kernel), denied.refusal);
            return Err(denied);
        }
        Ok(Rc::new(Holder { session, from }))
    }

    fn leases(&self) -> Option<Rc<Leases>> {
        Some(self.leases.clone())
    }

    fn flood(&self, begins: bool) {
        if !begins {
            return self.clear_alert("flood");
        }
        crate::warn!(
            "connections without credentials have reached a limit of relay; some are dropped or wait"
        );
        self.alert(
            "flood",
            "More connections without credentials than relay.maxPending and its sisters allow: the heaviest sources' are dropped or wait, known buyers' are not.",
        );
    }
}

impl Node {
    /// The session of valid credentials. An unknown session and a wrong token take the same way: the token is hashed in
    /// either case, and hashes are compared in constant time.
    fn authenticate(&self, credentials: Option<&Credentials>) -> Option<Rc<Session>> {
        let any = || self.sessions.borrow().values().next().cloned();
        if mutant::out("auth-present") && credentials.is_none() {
            return any();
        }
        let credentials = credentials?;
        let session = self.sessions.borrow().get(&credentials.session_id).cloned();
        let session = session.or_else(|| any().filter(|_| mutant::out("auth-session")));
        let hash = session.as_ref().map(|s| s.order.token_hash.as_str());
        if is_token(credentials, hash) { session } else { None }
    }

    /// What is said to the buyer of a session that is over, and to everybody else.
    fn stranger(&self, credentials: Option<&Credentials>) -> Refusal {
        let closed = self.closed.borrow();
        let now = self.ledger.now().unix();
        let was_buyer = credentials.is_some_and(|c| is_token(c, closed.token_hash(&c.session_id, now)));
        if was_buyer {
            self.shared().refusal.get().unwrap_or(Refusal::SessionClosed)
        } else {
            Refusal::AuthRequired
        }
    }
}

/// Whether the token's hash is the one wanted. It is hashed in any case.
fn is_token(credentials: &Credentials, wanted: Option<&str>) -> bool {
    let given = blake3::hash(&credentials.token);
    let wanted = wanted.and_then(|h| h.strip_prefix("b3:")).and_then(|h| blake3::Hash::from_hex(h).ok());
    // `blake3::Hash` compares in constant time.
    wanted.is_some_and(|wanted| wanted == given || mutant::out("auth-token"))
}

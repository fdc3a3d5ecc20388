//! Admission: who the buyer is, and whether the request may go out.
use super::node::Node;
use super::session::{At, Session};
use crate::policy::decision::admit;
use crate::policy::refusal::Refusal;
use crate::session::{Credentials, Denied, Flow, Gate, Target};
use crate::time::Now;
use std::rc::Rc;

/// Seconds a buyer waits when the node's table of flows is full.
const FULL_WAIT_S: u32 = 1;

impl Gate for Node {
    fn now(&self) -> Now {
        self.ledger.now()
    }

    fn admit(
        &self,
        credentials: Option<&Credentials>,
        target: Result<&Target, Refusal>,
    ) -> Result<Flow, Denied> {
        let Some(session) = self.authenticate(credentials) else {
            self.ledger.refused(Refusal::AuthRequired);
            return Err(Refusal::AuthRequired.into());
        };
        let now = self.ledger.now();
        let flow = admit(target, &At(&session, now)).and_then(|()| {
            let target = target?;
            let full = Denied { refusal: Refusal::RateLimited, retry_after_s: Some(FULL_WAIT_S) };
            session.open_flow(&target.host, target.port, now).ok_or(full)
        });
        if let Err(denied) = &flow {
            let (host, port) = target.map_or(("", 0), |t| (t.host.as_str(), t.port));
            session.refused(host, port, denied.refusal);
        }
        flow
    }
}

impl Node {
    /// The session of valid credentials. An unknown session and a wrong token take the same way: the token is hashed in
    /// either case, and hashes are compared in constant time.
    fn authenticate(&self, credentials: Option<&Credentials>) -> Option<Rc<Session>> {
        let credentials = credentials?;
        let given = blake3::hash(&credentials.token);
        let session = self.sessions.borrow().get(&credentials.session_id).cloned();
        let hash = session.as_ref().and_then(|s| s.order.token_hash.strip_prefix("b3:"));
        let wanted = hash.and_then(|h| blake3::Hash::from_hex(h).ok());
        // `blake3::Hash` compares in constant time.
        if wanted? == given { session } else { None }
    }
}

//! A buyer's connection, on which leases are asked for and live.
use super::super::table::{Ask, Full, Lease, Random, State};
use super::{Given, Held, Leases, MAX_PER_SESSION, Wanted};
use crate::guard::lease_wire::{Grant, LeaseNo, LeaseRequest};
use crate::mutant;
use crate::policy::refusal::Refusal;
use crate::session::{LeaseTerms, Tenant};
use std::cell::Cell;
use std::rc::Rc;

/// A buyer's TLS connection. Its leases end with it.
pub struct Connection {
    pub(super) leases: Rc<Leases>,
    pub(super) number: u64,
    /// Leases that the buyer has been given here and has not given back.
    kept: Cell<usize>,
}

impl Connection {
    pub(super) fn new(leases: Rc<Leases>, number: u64) -> Connection {
        Connection { leases, number, kept: Cell::new(0) }
    }

    /// Takes a place among the session's connections; false if it has none left.
    pub fn belongs_to(&self, session: &Rc<str>) -> bool {
        let mut connections = self.leases.connections.borrow_mut();
        let others = connections.iter().filter(|(n, of)| **n != self.number && of.as_ref() == Some(session));
        if others.count() >= MAX_PER_SESSION {
            return false;
        }
        if let Some(own) = connections.get_mut(&self.number) {
            *own = Some(session.clone());
        }
        true
    }

    /// Asks the guard for a lease.
    ///
    /// # Errors
    /// [`Refusal::LeaseUnavailable`]: there is none to be had.
    pub async fn open(&self, wanted: Wanted) -> Result<Given, Refusal> {
        self.leases.cleared().await;
        // Much may have changed while that took.
        if !wanted.tenant.still_allowed(&wanted.target, &wanted.aliases) {
            return Err(Refusal::LeaseUnavailable);
        }
        let terms = wanted.tenant.terms();
        let no = self.ask(wanted, terms).ok_or(Refusal::LeaseUnavailable)?;
        self.leases.after(no, State::Asked).await;
        let table = self.leases.table.borrow();
        let lease = table.get(no).filter(|l| l.state == State::Granted).ok_or(Refusal::LeaseUnavailable)?;
        self.kept.update(|kept| kept + 1);
        Ok(self.leases.given(lease, terms.until))
    }

    fn ask(&self, wanted: Wanted, terms: LeaseTerms) -> Option<LeaseNo> {
        let leases = &self.leases;
        let ability = leases.ability().filter(|a| a.possible && leases.clearing.get().is_none())?;
        let capped = terms.cap_kbps > 0;
        if capped && !ability.caps && !mutant::out("lease-capped") {
            return None;
        }
        let Wanted { tenant, buyer, target, address, aliases } = wanted;
        let now_ms = leases.clock.now().mono_ms();
        let ask = Ask {
            session: tenant.session().clone(),
            connection: self.number,
            buyer,
            host: target.host.as_str().into(),
            target: address,
            capped,
        };
        let grant = {
            let mut table = leases.table.borrow_mut();
            let lease = match table.ask(ask, random()?, now_ms) {
                Ok(lease) => lease,
                Err(full) => {
                    let whose = if full == Full::Node { "the node" } else { "a session" };
                    crate::info!("no lease is left for {whose}");
                    return None;
                }
            };
            grant_of(lease, &terms, now_ms)
        };
        let due_ms = Some(leases.answer_due(now_ms));
        leases.held.borrow_mut().insert(grant.no, Held { tenant, target, aliases, terms, due_ms });
        leases.send(LeaseRequest::Grant(grant));
        Some(grant.no)
    }

    /// Makes a lease of the session hold longer; `None` if there is none of that name.
    pub fn renew(&self, id: &str, tenant: &dyn Tenant) -> Option<Given> {
        let leases = &self.leases;
        let now_ms = leases.clock.now().mono_ms();
        let no = leases.table.borrow().find(id, tenant.session())?.no;
        let (given, ttl_s) = {
            let mut table = leases.table.borrow_mut();
            let (lease, is_due) = table.renew(no, now_ms)?;
            (leases.given(lease, tenant.terms().until), is_due.then(|| lease.ttl_s(now_ms)))
        };
        if let Some(ttl_s) = ttl_s {
            leases.send(LeaseRequest::Renew { no, ttl_s });
        }
        Some(given)
    }

    /// Ends a lease of the session and its flows; false if there is none of that name. Waits for the guard's word.
    pub async fn end(&self, id: &str, tenant: &dyn Tenant) -> bool {
        let leases = &self.leases;
        let Some(no) = leases.table.borrow().find(id, tenant.session()).map(|l| l.no) else { return false };
        let over = leases.table.borrow_mut().end(no);
        if over {
            leases.tell_ended(&[no]);
        }
        leases.after(no, State::Ending).await;
        self.kept.update(|kept| kept.saturating_sub(1));
        true
    }

    /// Waits until it has no lease; whether one of them was ended by the node.
    pub async fn idle(&self) -> bool {
        loop {
            let seen = self.leases.changed.count();
            if self.leases.is_idle(self.number) {
                return self.kept.get() > 0;
            }
            self.leases.changed.after(seen).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.leases.connections.borrow_mut().remove(&self.number);
        let over = self.leases.table.borrow_mut().end_of_connection(self.number);
        self.leases.tell_ended(&over);
    }
}

fn grant_of(lease: &Lease, terms: &LeaseTerms, now_ms: u64) -> Grant {
    Grant {
        no: lease.no,
        buyer: lease.ask.buyer,
        port: lease.port,
        target: lease.ask.target,
        ttl_s: lease.ttl_s(now_ms),
        new_per_second: terms.new_per_second,
        burst: terms.new_per_second,
        cap_kbps: terms.cap_kbps,
        class: lease.class,
    }
}

fn random() -> Option<Random> {
    let (mut id, mut port) = ([0; 16], [0; 8]);
    let system = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&system, &mut id).ok()?;
    ring::rand::SecureRandom::fill(&system, &mut port).ok()?;
    Some(Random { id, port: u64::from_be_bytes(port) })
}

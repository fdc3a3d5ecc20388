//! The coordinator's orders: what they change here, and what becomes durable before they are acknowledged.
use super::durable::{self, Known, record};
use super::lifecycle::{CloseReason, Event, State, Transition};
use super::node::{MAX_SESSIONS, Node};
use super::quarantine::Violation;
use super::rules::Rules;
use super::session::{Session, Terms};
use crate::coordinator::orders::{
    self, Judgement, Open, OpenContext, OpenRefusal, OrderContext, OrderFault, PolicyOrder,
};
use crate::coordinator::wire::Signal;
use crate::json::Value;
use crate::meter::SessionMeter;
use crate::mutant;
use crate::signed::PublicKey;
use crate::time::{DAY, Unix};
use std::rc::Rc;

/// What may be wrong with an order, as far as there is an alert of it.
const ORDER_ALERTS: [&str; 8] = [
    "bad-signature",
    "wrong-node",
    "stale",
    "malformed",
    "duplicate-session",
    "region-denied",
    "category-denied",
    "port-denied",
];

impl Node {
    /// Applies signals, oldest first, and makes their effects and the new cursor durable in one write. An error means
    /// that nothing may be acknowledged.
    pub fn apply_signals(&self, signals: &[Signal], cursor: &str) -> Result<(), String> {
        let Some(key) = self.coordinator_key() else { return Err("no coordinator is configured".into()) };
        if self.durable.borrow().transitions.len() >= durable::MAX_TRANSITIONS {
            return Err("too many answers to earlier orders wait for the coordinator to take them".into());
        }
        self.durable.borrow_mut().expire(self.ledger.now().unix().0);
        // The clock may have been set since the hours were looked at.
        self.review();
        let mut records = Vec::new();
        for signal in signals {
            match signal.kind.as_str() {
                "open" => self.on_open(&signal.body, &key, &mut records),
                "close" => self.on_close(&signal.body, &key, &mut records),
                "policy" => self.on_policy(&signal.body, &key),
                other => {
                    crate::warn!("the coordinator sent a signal of unknown type {other:?}; it is ignored")
                }
            }
        }
        records.push(record("cursor", [("cursor", cursor.into())]));
        self.commit(records)?;
        self.ledger.ring();
        Ok(())
    }

    fn on_open(&self, body: &Value, key: &PublicKey, records: &mut Vec<Value>) {
        let config = self.config();
        let now = self.ledger.now().unix();
        let refused = self.machine.borrow().open_refusal();
        let state = |slug| refused == Some(slug);
        let judgement = {
            let (durable, region) = (self.durable.borrow(), self.region.borrow());
            // Records of this batch are not in `durable` yet.
            let known = |id: &str| {
                let pending = records.iter().find(|r| is_known(r, id));
                let pending = pending.and_then(|r| r.member("hash")?.as_str()).map(str::to_owned);
                let kept = || durable.known.get(id).map(|k| k.hash.clone());
                // Forgotten by its time, but not yet answered for: no object has this fingerprint.
                let unanswered = || {
                    (durable.is_unanswered(id) || self.sessions.borrow().contains_key(id)).then(String::new)
                };
                pending.or_else(kept).or_else(unanswered)
            };
            let context = OpenContext {
                node_id: &self.key.node_id(),
                coordinator: key,
                now,
                known: &known,
                region_allow: &config.node.region_allow,
                observed_region: region.observed(),
                category_opt_out: &config.policy.category_opt_out,
                extra_ports: &config.lab.ports,
                transports: if self.leases.is_possible() { &["relay", "lease"] } else { &["relay"] },
                paused: state("paused"),
                outside_schedule: state("outside-schedule"),
                quarantined: state("quarantined"),
                guard_down: state("guard-down"),
                has_capacity: self.has_capacity(&durable, records),
            };
            orders::judge_open(body, &context)
        };
        match judgement {
            Judgement::Ignore => {}
            Judgement::Accept(open) => self.accept(*open, records),
            Judgement::Refuse { session_id, reason, remember_until } => {
                self.refuse_open(body, session_id, reason, remember_until, records);
            }
        }
    }

    /// Whether one more session fits, with the bundle that it will have in any case.
    fn has_capacity(&self, durable: &durable::Durable, records: &[Value]) -> bool {
        !self.behind.get()
            && self.sessions.borrow().len() < MAX_SESSIONS
            && durable.known.len() + records.len() < durable::MAX_KNOWN
            && self.spool_room(durable) > 1
    }

    fn accept(&self, mut open: Open, records: &mut Vec<Value>) {
        let id = open.session_id.clone();
        let terms =
            Terms { profile: open.profile.clone(), limits: open.limits.clone(), since: open.issued_at };
        let Ok(rules) = Rules::new(self.owner_rules(), &terms.profile) else {
            return self.refuse_open(
                &open.raw,
                Some(id),
                OpenRefusal::Malformed,
                Some(open.expires_at),
                records,
            );
        };
        let limits = self.effective(&terms.limits);
        let meter = SessionMeter::new(&self.key.node_id(), &id);
        let known =
            Known { hash: orders::fingerprint(&open.raw), until: open.expires_at.0.saturating_add(DAY) };
        records.push(durable::known(&id, &known));
        records.push(durable::open(&id, &durable::Open::default()));
        // Up to a megabyte, and its fingerprint is all that is asked for again.
        open.raw = Value::Null;
        self.clear_order_alerts("open");
        let config = self.config();
        let in_force = (Rc::new(rules), limits, &config.breakers);
        let session = Rc::new(Session::new(open, terms, in_force, meter, self.shared()));
        self.sessions.borrow_mut().insert(id.clone(), session.clone());
        crate::info!("session {id} opened for {}, {}", session.order.buyer, session.order.category);
        self.fire(&session, Event::Assigned, records);
        self.fire(&session, Event::Accepted, records);
    }

    fn refuse_open(
        &self,
        body: &Value,
        session_id: Option<String>,
        reason: OpenRefusal,
        remember_until: Option<Unix>,
        records: &mut Vec<Value>,
    ) {
        let slug = reason.slug();
        crate::warn!("an open was refused: {slug}");
        match reason {
            OpenRefusal::BadSignature | OpenRefusal::WrongNode => self.forged_order("open", slug),
            OpenRefusal::Malformed | OpenRefusal::Stale | OpenRefusal::DuplicateSession => self.alert(
                &format!("open-{slug}"),
                "The coordinator sent an order to open a session that is not valid; it was refused.",
            ),
            OpenRefusal::RegionDenied | OpenRefusal::CategoryDenied | OpenRefusal::PortDenied => self.alert(
                &format!("open-{slug}"),
                "The coordinator ordered what this node's owner does not allow; it was refused.",
            ),
            _ => {}
        }
        let Some(id) = session_id else { return };
        if let Some(until) = remember_until.filter(|_| self.durable.borrow().known.len() < durable::MAX_KNOWN)
        {
            let known = Known { hash: orders::fingerprint(body), until: until.0 };
            records.push(durable::known(&id, &known));
        }
        // Answers are idempotent on the id: a second one would say nothing.
        let slug_of = Transition::Refused.as_str();
        let pending = |r: &Value| r.member("body").is_some_and(|b| durable::is_transition(b, &id, slug_of));
        if self.durable.borrow().waits(&id, slug_of) || records.iter().any(pending) {
            return;
        }
        let mut refused = self.transition(&id, Transition::Refused);
        refused.reason = Some(slug.to_owned());
        records.push(record("transition", [("body", refused.to_value())]));
    }

    fn on_close(&self, body: &Value, key: &PublicKey, records: &mut Vec<Value>) {
        let node_id = self.key.node_id();
        let context = OrderContext { node_id: &node_id, coordinator: key, now: self.ledger.now().unix() };
        let last = |id: &str| self.last_order(id);
        match orders::judge_close(body, &context, &last) {
            Ok(close) => {
                self.clear_order_alerts("close");
                let session = self.sessions.borrow().get(&close.session_id).cloned();
                let reason = CloseReason::parse(close.reason).unwrap_or(CloseReason::Coordinator);
                match session {
                    Some(session) => self.close(&session, reason, records),
                    None => crate::info!("a close for the unknown session {} is ignored", close.session_id),
                }
            }
            Err(fault) => self.order_fault("close", &fault),
        }
    }

    fn on_policy(&self, body: &Value, key: &PublicKey) {
        let node_id = self.key.node_id();
        let context = OrderContext { node_id: &node_id, coordinator: key, now: self.ledger.now().unix() };
        let last = |id: Option<&str>| id.and_then(|id| self.last_order(id));
        match orders::judge_policy(body, &context, &last) {
            Ok(policy) => {
                self.clear_order_alerts("policy");
                self.apply_policy(&policy);
            }
            Err(fault) => self.order_fault("policy", &fault),
        }
    }

    /// When the coordinator made the last order that was applied to a session.
    fn last_order(&self, id: &str) -> Option<Unix> {
        self.sessions.borrow().get(id).map(|s| s.terms.borrow().since)
    }

    /// Nothing of it has to be durable: a session that was open when the process died is closed.
    fn apply_policy(&self, policy: &PolicyOrder) {
        for session in self.all_sessions() {
            let named = policy.session_id.as_ref().is_none_or(|id| *id == session.order.session_id);
            let older = policy.issued_at < session.terms.borrow().since;
            if !named || older || session.machine.borrow().state() == State::Settled {
                continue;
            }
            let terms = Terms {
                profile: policy.profile.clone(),
                limits: policy.limits.clone(),
                since: policy.issued_at,
            };
            *session.terms.borrow_mut() = terms;
            self.apply_rules(&session);
        }
    }

    /// A good order of the kind came: what was wrong with an earlier one is over.
    fn clear_order_alerts(&self, what: &str) {
        for slug in ORDER_ALERTS {
            self.clear_alert(&format!("{what}-{slug}"));
        }
    }

    fn order_fault(&self, what: &str, fault: &OrderFault) {
        let slug = fault.slug();
        crate::warn!("a {what} was not applied: {slug}");
        match fault {
            OrderFault::BadSignature | OrderFault::WrongNode => self.forged_order(what, slug),
            OrderFault::Superseded => {}
            OrderFault::Stale | OrderFault::Malformed(_) => self.alert(
                &format!("{what}-{slug}"),
                "The coordinator sent an order that is not valid; it was not applied.",
            ),
        }
    }

    /// An order that is not the coordinator's to this node. One may be a mistake; many are an attack on whoever speaks
    /// in its name.
    pub(super) fn forged_order(&self, what: &str, slug: &str) {
        self.alert(
            &format!("{what}-{slug}"),
            "An order came that the coordinator did not sign for this node; it was not applied.",
        );
        self.count_forged();
    }

    /// Counts an order or a probe request that is not the coordinator's to this node.
    pub(super) fn count_forged(&self) {
        let (limit, now_us) = (self.config().breakers.forged_orders, self.ledger.now().mono_us);
        if self.forged.borrow_mut().add(limit, now_us) && !mutant::out("forged-orders") {
            let seen = format!(
                "{limit} orders or probe requests came within an hour that the coordinator did not sign for this node."
            );
            self.quarantine(Violation::OrdersForged, &seen);
        }
    }
}

/// Whether a record says that a session id is known.
fn is_known(record: &Value, id: &str) -> bool {
    let is = |name: &str, text: &str| record.member(name).and_then(Value::as_str) == Some(text);
    is("k", "known") && is("id", id)
}

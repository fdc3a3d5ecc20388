//! The coordinator's orders: what they change here, and what becomes durable before they are acknowledged.
use super::durable::{self, Known, record};
use super::lifecycle::{CloseReason, Event, State, Transition};
use super::node::{MAX_SESSIONS, Node};
use super::rules::Rules;
use super::session::{Session, Terms};
use crate::coordinator::orders::{
    self, Judgement, Open, OpenContext, OpenRefusal, OrderContext, OrderFault, PolicyOrder,
};
use crate::coordinator::wire::Signal;
use crate::json::Value;
use crate::meter::SessionMeter;
use crate::signed::PublicKey;
use crate::time::{DAY, Unix};
use std::rc::Rc;

impl Node {
    /// Applies signals, oldest first, and makes their effects and the new cursor durable in one write. An error means
    /// that nothing may be acknowledged.
    pub fn apply_signals(&self, signals: &[Signal], cursor: &str) -> Result<(), String> {
        let Some(key) = self.coordinator_key() else { return Err("no coordinator is configured".into()) };
        let mut records = Vec::new();
        for signal in signals {
            match signal.kind.as_str() {
                "open" => self.on_open(&signal.body, &key, &mut records),
                "close" => self.on_close(&signal.body, &key, &mut records),
                "policy" => self.on_policy(&signal.body, &key, &mut records),
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
            // Records of this batch are not in `durable` yet, but sessions opened by it are in the table.
            let known = |id: &str| {
                let pending = self.sessions.borrow().get(id).map(|s| orders::fingerprint(&s.order.raw));
                pending.or_else(|| durable.known.get(id).map(|k| k.hash.clone()))
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
                transports: &["relay"],
                paused: state("paused"),
                outside_schedule: state("outside-schedule"),
                quarantined: state("quarantined"),
                guard_down: state("guard-down"),
                has_capacity: self.sessions.borrow().len() < MAX_SESSIONS
                    && durable.known.len() < durable::MAX_KNOWN
                    && durable.bundles.len() < durable::MAX_BUNDLES,
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

    fn accept(&self, open: Open, records: &mut Vec<Value>) {
        let id = open.session_id.clone();
        let terms =
            Terms { profile: open.profile.clone(), limits: open.limits.clone(), since: open.issued_at };
        let Ok(rules) = Rules::new(self.owner_rules(), &terms.profile) else {
            return self.refuse_open(&open.raw, Some(id), OpenRefusal::Malformed, None, records);
        };
        let limits = self.effective(&terms.limits);
        let meter = SessionMeter::new(&self.key.node_id(), &id);
        let known =
            Known { hash: orders::fingerprint(&open.raw), until: open.expires_at.0.saturating_add(DAY) };
        records.push(durable::known(&id, &known));
        records
            .push(durable::open(&id, &durable::Open { order: Some(open.raw.clone()), ..Default::default() }));
        let session = Rc::new(Session::new(open, terms, (Rc::new(rules), limits), meter, self.shared()));
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
        if matches!(reason, OpenRefusal::BadSignature | OpenRefusal::WrongNode | OpenRefusal::Malformed) {
            self.alert(
                &format!("open-{slug}"),
                "The coordinator sent an order to open a session that is not valid.",
            );
        }
        let Some(id) = session_id else { return };
        if let Some(until) = remember_until {
            let known = Known { hash: orders::fingerprint(body), until: until.0 };
            records.push(durable::known(&id, &known));
        }
        let mut refused = self.transition(&id, Transition::Refused);
        refused.reason = Some(slug.to_owned());
        records.push(record("transition", [("body", refused.to_value())]));
    }

    fn on_close(&self, body: &Value, key: &PublicKey, records: &mut Vec<Value>) {
        let node_id = self.key.node_id();
        let context = OrderContext { node_id: &node_id, coordinator: key, now: self.ledger.now().unix() };
        match orders::judge_close(body, &context, &|_| None) {
            Ok(close) => {
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

    fn on_policy(&self, body: &Value, key: &PublicKey, records: &mut Vec<Value>) {
        let node_id = self.key.node_id();
        let context = OrderContext { node_id: &node_id, coordinator: key, now: self.ledger.now().unix() };
        let last = |id: Option<&str>| {
            let sessions = self.sessions.borrow();
            id.and_then(|id| sessions.get(id)).map(|s| s.terms.borrow().since)
        };
        match orders::judge_policy(body, &context, &last) {
            Ok(policy) => self.apply_policy(&policy, records),
            Err(fault) => self.order_fault("policy", &fault),
        }
    }

    fn apply_policy(&self, policy: &PolicyOrder, records: &mut Vec<Value>) {
        let sessions: Vec<Rc<Session>> = self.sessions.borrow().values().cloned().collect();
        for session in sessions {
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
            let id = session.order.session_id.as_str();
            records.push(record("policy", [("id", id.into()), ("policy", policy.raw.clone())]));
            self.apply_rules(&session);
        }
    }

    fn order_fault(&self, what: &str, fault: &OrderFault) {
        let slug = fault.slug();
        crate::warn!("a {what} was not applied: {slug}");
        if *fault != OrderFault::Superseded {
            self.alert(
                &format!("{what}-{slug}"),
                "The coordinator sent an order that is not valid; it was not applied.",
            );
        }
    }
}

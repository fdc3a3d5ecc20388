//! Driving sessions through their lifecycle, and what becomes durable on the way.
use super::durable::record;
use super::lifecycle::{Action, CloseReason, Event, State, Transition};
use super::node::Node;
use super::session::Session;
use crate::coordinator::wire;
use crate::json::Value;
use crate::meter::SessionMeter;
use crate::session::limits::limits_to_value;
use std::rc::Rc;

impl Node {
    /// Gives a session an event, does what follows, and adds what must become durable to `records`.
    pub(super) fn fire(&self, session: &Rc<Session>, event: Event, records: &mut Vec<Value>) {
        let actions = session.machine.borrow_mut().on(event);
        match actions {
            Ok(actions) => actions.iter().for_each(|a| self.act(session, *a, event, records)),
            Err(e) => crate::debug!("session {}: {e}", session.order.session_id),
        }
    }

    fn act(&self, session: &Rc<Session>, action: Action, event: Event, records: &mut Vec<Value>) {
        let id = session.order.session_id.as_str();
        match action {
            Action::Post(transition) => records.push(self.posted(session, transition, event)),
            Action::StartCarrying => crate::info!("session {id} is active"),
            Action::StopCarrying => {
                self.leases.review();
                self.ledger.reset_flows(|_, of| of == id);
            }
            Action::SealBundles => {
                let sealed = session.meter.borrow_mut().close(self.ledger.now());
                records.extend(sealed.iter().map(|s| self.bundle_record(session, s)));
            }
            Action::Forget => {
                let (hash, until) = (&session.order.token_hash, session.order.expires_at);
                self.closed.borrow_mut().remember(id, hash, until, self.ledger.now().unix());
                self.sessions.borrow_mut().remove(id);
            }
        }
    }

    fn posted(&self, session: &Rc<Session>, transition: Transition, event: Event) -> Value {
        let id = session.order.session_id.as_str();
        let mut body = self.transition(id, transition);
        match transition {
            Transition::Accepted => {
                body.limits = Some(limits_to_value(session.allowance.borrow().limits()));
            }
            Transition::Closing => {
                let reason =
                    if let Event::CloseRequested(reason) = event { reason.as_str() } else { "stopped" };
                crate::info!("session {id} is closing: {reason}");
                body.reason = Some(reason.to_owned());
            }
            Transition::Settled => body.totals = Some(session.meter.borrow().totals().to_value()),
            Transition::Refused | Transition::Active => {}
        }
        record("transition", [("body", body.to_value())])
    }

    /// A transition that takes place now.
    pub(super) fn transition(&self, id: &str, transition: Transition) -> wire::Transition {
        wire::Transition {
            session_id: id.to_owned(),
            transition: transition.as_str(),
            at: self.ledger.now().unix(),
            reason: None,
            limits: None,
            totals: None,
        }
    }

    /// Closes a session: flows are reset now, the rest follows when the last has left its line.
    pub(super) fn close(&self, session: &Rc<Session>, reason: CloseReason, records: &mut Vec<Value>) {
        if matches!(session.machine.borrow().state(), State::Closing | State::Settled) {
            return;
        }
        self.fire(session, Event::CloseRequested(reason), records);
        self.drained(session, records);
    }

    /// Goes on with a closing session once no flow is left.
    pub(super) fn drained(&self, session: &Rc<Session>, records: &mut Vec<Value>) {
        if session.connections() == 0 {
            self.settle(session, records);
        }
    }

    fn settle(&self, session: &Rc<Session>, records: &mut Vec<Value>) {
        if session.machine.borrow().state() == State::Closing {
            self.fire(session, Event::Drained, records);
            // All that is left to do is in the queue of transitions and bundles.
            records.push(record("gone", [("id", session.order.session_id.as_str().into())]));
        }
    }

    /// Closes all sessions for a reason of the node's own.
    pub(super) fn close_all(&self, reason: CloseReason, records: &mut Vec<Value>) {
        for session in self.all_sessions() {
            if reason == CloseReason::Quarantined {
                self.fire(&session, Event::Violation, records);
            }
            self.close(&session, reason, records);
        }
        self.ledger.ring();
    }

    /// The end: settles what is closing, although a flow may not have ended. Its process ends with it.
    pub fn finish(&self) {
        let mut records = Vec::new();
        for session in self.all_sessions() {
            self.settle(&session, &mut records);
        }
        // With no flow left this writes what was carried and nothing ahead.
        if self.commit(records).is_err() {
            crate::error!("the state could not be written at the end");
        }
        self.keep_all();
    }

    /// Sessions none of whose regions the owner serves any more.
    pub(super) fn close_sessions_out_of_region(&self) {
        let config = self.config();
        let allowed = &config.node.region_allow;
        let current = self.region.borrow().current(allowed).map(str::to_owned);
        let legal = |s: &Session| {
            current.as_ref().is_some_and(|c| allowed.contains(c) && s.order.regions.contains(c))
        };
        let mut records = Vec::new();
        for session in self.all_sessions().iter().filter(|s| !legal(s)) {
            self.close(session, CloseReason::Stopped, &mut records);
        }
        self.note(records);
    }

    /// Seals windows whose time is over.
    pub(super) fn seal_due(&self, session: &Rc<Session>, records: &mut Vec<Value>) {
        let sealed = {
            let mut meter = session.meter.borrow_mut();
            meter.due(self.ledger.now());
            meter.take_sealed()
        };
        records.extend(sealed.iter().map(|s| self.bundle_record(session, s)));
    }

    fn bundle_record(&self, session: &Session, sealed: &crate::meter::Sealed) -> Value {
        // The bundle's digest covers lines that may still be in memory.
        self.ledger.flush_log();
        let chain = session.meter.borrow().chain_state();
        bundle_record(&session.order.session_id, sealed.signed(&self.key), chain)
    }

    /// Sessions that were open when the process died: what their open window held is lost, so they are closed with the
    /// bundles that were sealed, or one of zeros if there was none.
    ///
    /// After power loss more may be lost than the open window: which bundles there were is not known, and another one in
    /// the place of one of them would be a double. Such a session is closed and not settled.
    pub(super) fn close_lost_sessions(&self, power_lost: bool) {
        let open = self.durable.borrow().open.clone();
        let mut records = Vec::new();
        for (id, open) in open {
            crate::warn!("session {id} was open when the node died; it is closed");
            if !open.closing {
                let mut closing = self.transition(&id, Transition::Closing);
                closing.reason = Some(CloseReason::Stopped.as_str().to_owned());
                records.push(record("transition", [("body", closing.to_value())]));
            }
            if power_lost {
                let text = "Power was lost while a session was open; it is closed, and its last windows are not billed.";
                self.alert("session-lost", text);
            } else {
                self.settle_lost(&id, open.chain.as_ref(), &mut records);
            }
            records.push(record("gone", [("id", id.into())]));
        }
        self.note(records);
    }

    fn settle_lost(&self, id: &str, chain: Option<&Value>, records: &mut Vec<Value>) {
        let node_id = self.key.node_id();
        let restored = chain.map(|c| SessionMeter::restore(&node_id, c)).transpose();
        let Ok(restored) = restored else {
            // A chain begun anew would have a second bundle 0: better no `settled` than a doubled one.
            return self
                .alert("chain-lost", "The state of a session's bundles is not readable; it is not settled.");
        };
        let mut meter = restored.unwrap_or_else(|| SessionMeter::new(&node_id, id));
        for sealed in meter.close(self.ledger.now()) {
            records.push(bundle_record(id, sealed.signed(&self.key), meter.chain_state()));
        }
        let mut settled = self.transition(id, Transition::Settled);
        settled.totals = Some(meter.totals().to_value());
        records.push(record("transition", [("body", settled.to_value())]));
    }
}

fn bundle_record(id: &str, bundle: Value, chain: Value) -> Value {
    record("bundle", [("id", id.into()), ("bundle", bundle), ("chain", chain)])
}

//! The node's state: what is observed, what the owner wants, and what follows for sessions and flows.
use super::durable::record;
use super::ledger::Notice;
use super::lifecycle::{CloseReason, Conditions, Event, NodeAction, NodeEvent, State};
use super::node::Node;
use super::session::Session;
use crate::config::GuardMode;
use crate::policy::schedule::{Hours, hours};
use crate::session::allowance::Spent;
use crate::time::{DAY, Now};
use std::rc::Rc;
use std::time::Duration;

/// Seconds between sweeps of the flows, while there are any.
const SWEEP_US: u64 = 1_000_000;

impl Node {
    /// Gives the node an event, and does what follows.
    pub fn on(&self, event: NodeEvent) {
        let actions = self.machine.borrow_mut().on(event, self.ledger.now().unix());
        // Before anything is done: new flows are refused from this moment.
        self.shared.refusal.set(self.machine.borrow().refusal());
        for action in actions {
            match action {
                NodeAction::ResetFlows => self.ledger.reset_flows(|_, _| true),
                NodeAction::CloseSessions(reason) => self.close_all(reason),
                NodeAction::StateChanged => {
                    let machine = self.machine.borrow();
                    crate::info!("state {}: {}", machine.state().as_str(), machine.reason());
                    drop(machine);
                    self.tell(|s| s.state_changed());
                }
                NodeAction::Save => {
                    let state = self.machine.borrow().to_value();
                    self.note(vec![record("node", [("state", state)])]);
                }
            }
        }
    }

    /// Looks at the conditions and tells the machine.
    pub(super) fn review(&self) {
        let config = self.config();
        let live = |s: &&Rc<Session>| s.machine.borrow().state() != State::Settled;
        let conditions = Conditions {
            configured: config.coordinator.url.is_some() && config.coordinator.public_key.is_some(),
            unlocked: true,
            // There is no guard in this version: where it is required, nothing is carried.
            guard_ok: config.security.guard == GuardMode::Optional,
            schedule_open: self.hours_now(self.ledger.now()).open,
            sessions: self.sessions.borrow().values().filter(live).count(),
        };
        self.on(NodeEvent::Conditions(conditions));
    }

    /// The owner's hours, looked up again only when they change or the wall clock was set.
    pub(super) fn hours_now(&self, now: Now) -> Hours {
        if let Some((hours, asked)) = self.hours.get()
            && hours.next_change.is_none_or(|t| now.unix() < t)
            && !was_set(asked, now)
        {
            return hours;
        }
        let fresh = hours(&self.config().node.schedules, now.unix(), &self.ledger.local);
        self.hours.set(Some((fresh, now)));
        fresh
    }

    /// Does what is due, and says when something will be next.
    pub fn tick(&self) -> Option<Duration> {
        let now = self.ledger.now();
        let mut records = Vec::new();
        for notice in self.ledger.take_notices() {
            self.on_notice(&notice, now, &mut records);
        }
        let sessions: Vec<Rc<Session>> = self.sessions.borrow().values().cloned().collect();
        for session in &sessions {
            self.step(session, now, &mut records);
        }
        self.note(records);
        self.review();
        if self.ledger.live_flows() > 0 && now.mono_us.saturating_sub(self.swept_us.get()) >= SWEEP_US {
            self.swept_us.set(now.mono_us);
            self.ledger.sweep(now);
        }
        self.next_tick(now)
    }

    fn on_notice(&self, notice: &Notice, now: Now, records: &mut Vec<crate::json::Value>) {
        let find = |id: &String| self.sessions.borrow().get(id).cloned();
        match notice {
            Notice::SessionSpent(id) => {
                if let Some(session) = find(id) {
                    self.close(&session, CloseReason::Quota, records);
                }
            }
            Notice::Drained(id) => {
                if let Some(session) = find(id) {
                    self.drained(&session, records);
                }
            }
            Notice::QuotaReached => self.reset_spent(now),
        }
    }

    /// Resets the flows of sessions that may carry no more today; the sessions stay.
    fn reset_spent(&self, now: Now) {
        let node = self.ledger.allowance.borrow_mut().spent(self.ledger.periods(now)).is_some();
        if node {
            self.alert(
                "quota-reached",
                "The day's or the month's quota is used up; nothing is carried until it starts anew.",
            );
        }
        let day = now.unix().0.div_euclid(DAY);
        let spent: Vec<String> = {
            let sessions = self.sessions.borrow();
            let over = |s: &&Rc<Session>| s.allowance.borrow_mut().spent(day) == Some(Spent::Day);
            sessions.values().filter(over).map(|s| s.order.session_id.clone()).collect()
        };
        self.ledger.reset_flows(|_, id| node || spent.iter().any(|s| s == id));
    }

    /// One session's turn: begin, seal, expire.
    fn step(&self, session: &Rc<Session>, now: Now, records: &mut Vec<crate::json::Value>) {
        let state = session.machine.borrow().state();
        if state == State::Settled {
            return;
        }
        self.seal_due(session, records);
        if now.unix() >= session.order.expires_at {
            self.close(session, CloseReason::Expired, records);
        } else if state == State::Handshake
            && now.unix() >= session.order.not_before
            && self.shared.refusal.get().is_none()
        {
            self.fire(session, Event::Begin, records);
        }
    }

    /// How long nothing is due by itself; `None` if only an event can change anything.
    fn next_tick(&self, now: Now) -> Option<Duration> {
        let mut next_s: Option<i64> = self.hours.get().and_then(|(h, _)| h.next_change).map(|t| t.0);
        let mut earlier = |t: i64| next_s = Some(next_s.map_or(t, |n| n.min(t)));
        for session in self.sessions.borrow().values() {
            match session.machine.borrow().state() {
                State::Settled => continue,
                State::Handshake if now.unix() < session.order.not_before => {
                    earlier(session.order.not_before.0)
                }
                _ => {}
            }
            earlier(session.order.expires_at.0);
            if let Some(end) = session.meter.borrow().window_end() {
                earlier(end.0);
            }
        }
        let by_clock = next_s.map(|s| s.saturating_mul(1000).saturating_sub(now.unix_ms).max(1));
        let sweep = (self.ledger.live_flows() > 0).then_some(1000);
        let ms = by_clock.into_iter().chain(sweep).min()?;
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(1)))
    }
}

/// Whether the wall clock went another way than the monotonic one, by more than two seconds.
fn was_set(before: Now, now: Now) -> bool {
    let wall = now.unix_ms.saturating_sub(before.unix_ms);
    let passed = i64::try_from(now.mono_ms().saturating_sub(before.mono_ms())).unwrap_or(i64::MAX);
    wall.saturating_sub(passed).abs() > 2000
}

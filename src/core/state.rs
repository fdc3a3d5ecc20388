//! The node's state: what is observed, what the owner wants, and what follows for sessions and flows.
use super::durable::{Durable, MAX_BUNDLES, record};
use super::lifecycle::{CloseReason, Conditions, Event, NodeAction, NodeEvent, State};
use super::node::Node;
use super::session::Session;
use crate::guard::view::Status;
use crate::json::Value;
use crate::session::allowance::Spent;
use crate::time::{DAY, Now};
use std::rc::Rc;
use std::time::Duration;

/// Microseconds between sweeps of the flows, while there are any.
const SWEEP_US: u64 = 1_000_000;
/// Microseconds between tries to write a journal that cannot be written.
const RETRY_US: u64 = 5_000_000;
/// Longest sleep in milliseconds while there are sessions: somebody may set the system's clock meanwhile, and a bundle is
/// to be posted within 30 s of its window's end.
const WATCH_MS: i64 = 15_000;

impl Node {
    /// Gives the node an event, and does what follows.
    pub fn on(&self, event: NodeEvent) {
        let actions = self.machine.borrow_mut().on(event, self.ledger.now().unix());
        // Before anything is done: new flows are refused from this moment.
        self.shared.refusal.set(self.machine.borrow().refusal());
        let mut records = Vec::new();
        for action in actions {
            match action {
                NodeAction::ResetFlows => {
                    // The leases first: their flows end with them, in one word to the guard.
                    self.leases.review();
                    self.ledger.reset_flows(|_, _| true);
                }
                NodeAction::CloseSessions(reason) => self.close_all(reason, &mut records),
                NodeAction::StateChanged => {
                    let machine = self.machine.borrow();
                    crate::info!("state {}: {}", machine.state().as_str(), machine.reason());
                    drop(machine);
                    self.notice_state();
                    self.tell(|s| s.state_changed());
                }
                NodeAction::Save => {
                    let state = self.machine.borrow().to_value();
                    records.push(record("node", [("state", state)]));
                }
            }
        }
        // What is wanted and what follows from it for the sessions, in one write.
        self.note(records);
    }

    /// The sessions, settled ones that wait for their answers included.
    pub(super) fn all_sessions(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().values().cloned().collect()
    }

    /// How many are not settled yet: what the contract calls the node's sessions.
    pub(super) fn session_count(&self) -> usize {
        let live = |s: &&Rc<Session>| s.machine.borrow().state() != State::Settled;
        self.sessions.borrow().values().filter(live).count()
    }

    /// How many bundles the spool has room for, beside one for each session.
    pub(super) fn spool_room(&self, durable: &Durable) -> usize {
        let kept = durable.bundles.len() + durable.refused.len();
        MAX_BUNDLES.saturating_sub(kept + self.session_count())
    }

    /// Looks at the conditions and tells the machine.
    pub(super) fn review(&self) {
        let config = self.config();
        let conditions = Conditions {
            configured: config.coordinator.url.is_some() && self.coordinator_key().is_some(),
            unlocked: true,
            guard_ok: self.guard_status() != Status::Down,
            schedule_open: self.ledger.hours(self.ledger.now()).open,
            sessions: self.session_count(),
        };
        self.on(NodeEvent::Conditions(conditions));
    }

    /// Does what is due, and says when something will be next.
    pub fn tick(&self) -> Option<Duration> {
        let now = self.ledger.now();
        // The hours first: a session may begin in the turn in which they open.
        self.review();
        let mut records = Vec::new();
        self.review_quotas(now, &mut records);
        self.review_breakers(now);
        self.review_events(now);
        self.leases.review();
        for session in self.all_sessions() {
            self.step(&session, now, &mut records);
        }
        self.review_spool(now, &mut records);
        self.ledger.expire_logs(now);
        self.note(records);
        self.write_ahead();
        self.keep();
        self.review();
        if self.ledger.live_flows() > 0 && now.mono_us.saturating_sub(self.swept_us.get()) >= SWEEP_US {
            self.swept_us.set(now.mono_us);
            self.ledger.sweep(now);
        }
        if self.behind.get() && now.mono_us.saturating_sub(self.tried_us.get()) >= RETRY_US {
            self.rewrite_journal();
            self.tell(|s| s.outbox_changed());
        }
        self.next_tick(now)
    }

    /// Writes the quotas' counts down before flows carry more than the journal covers: a process that is killed gives
    /// nobody a second quota.
    fn write_ahead(&self) {
        let wanted = self.ledger.live_flows() > 0 && self.ledger.allowance.borrow().runs_short();
        if wanted && !self.behind.get() && self.commit(Vec::new()).is_err() {
            crate::error!(
                "the quotas' counts could not be written; nothing more is carried until they can be"
            );
        }
    }

    /// Closes sessions that have carried their `maxGB`; resets the flows of those that may carry no more today.
    fn review_quotas(&self, now: Now, records: &mut Vec<Value>) {
        let spent = self.ledger.allowance.borrow_mut().spent(self.ledger.periods(now)).is_some();
        if spent {
            self.alert(
                "quota-reached",
                "The day's or the month's quota is used up; nothing is carried until it starts anew.",
            );
            self.leases.review();
            self.ledger.reset_flows(|_, _| true);
        } else {
            self.clear_alert("quota-reached");
        }
        let day = now.unix().0.div_euclid(DAY);
        for session in self.all_sessions() {
            let spent = session.allowance.borrow_mut().spent(now.mono_us, day);
            match spent {
                Some(Spent::Session) => self.close(&session, CloseReason::Quota, records),
                Some(Spent::Day) if session.connections() > 0 => {
                    let id = session.order.session_id.as_str();
                    self.ledger.reset_flows(|_, of| of == id);
                }
                _ => {}
            }
        }
    }

    /// What happened long ago is told no more.
    fn review_events(&self, now: Now) {
        let bygone = self.alerts.borrow().bygone(now.unix());
        if let Some(code) = bygone {
            self.clear_alert(&code);
        }
    }

    /// Alerts about breakers that have tripped, for as long as they hold.
    fn review_breakers(&self, now: Now) {
        let mut bursts = Vec::new();
        let mut failing = Vec::new();
        for session in self.all_sessions() {
            let id = session.order.session_id.as_str();
            let (burst, failures) = &*session.breakers.borrow();
            bursts.extend(burst.wait_s(now.mono_us).map(|_| id.to_owned()));
            failing.extend(failures.wait_s(now.mono_us).map(|_| id.to_owned()));
        }
        if self.ledger.burst.borrow().wait_s(now.mono_us).is_some() {
            bursts.insert(0, "all together".to_owned());
        }
        self.show(
            "burst-breaker",
            &bursts,
            "Far more connections than usual were opened; nothing new is opened for a while. Sessions",
        );
        self.show(
            "handshake-failures",
            &failing,
            "Most handshakes failed; nothing new is opened for a while. Sessions",
        );
    }

    /// Raises an alert that names these, or takes it back if there are none.
    fn show(&self, code: &str, names: &[String], sentence: &str) {
        if names.is_empty() {
            self.clear_alert(code);
        } else {
            self.alert(code, &format!("{sentence}: {}.", names.join(", ")));
        }
    }

    /// Closes all sessions while there is still room for their last bundles.
    fn review_spool(&self, now: Now, records: &mut Vec<Value>) {
        let kept_until = self.durable.borrow().refused_until();
        if kept_until.is_some_and(|t| t <= now.unix().0) {
            self.durable.borrow_mut().expire(now.unix().0);
        }
        let (room, refused) = {
            let durable = self.durable.borrow();
            (self.spool_room(&durable), !durable.refused.is_empty())
        };
        if room > 0 {
            self.clear_alert("spool-full");
        } else {
            self.alert(
                "spool-full",
                "Too many bundles wait for the coordinator or were refused by it; no session is carried meanwhile.",
            );
            self.close_all(CloseReason::Stopped, records);
        }
        if !refused {
            self.clear_alert("bundle-refused");
        }
    }

    /// One session's turn: begin, seal, expire.
    fn step(&self, session: &Rc<Session>, now: Now, records: &mut Vec<Value>) {
        let state = session.machine.borrow().state();
        if state == State::Settled {
            return;
        }
        self.seal_due(session, records);
        self.drained(session, records);
        if session.machine.borrow().carries() && !session.carries(now) {
            // Expired, or the clock was set back before its beginning.
            let id = session.order.session_id.as_str();
            self.ledger.reset_flows(|_, of| of == id);
        }
        if now.unix() >= session.order.expires_at {
            self.close(session, CloseReason::Expired, records);
        } else if state == State::Handshake
            && now.unix() >= session.order.not_before
            && self.shared.refusal.get().is_none()
            && session.has_way()
        {
            self.fire(session, Event::Begin, records);
        }
    }

    /// How long nothing is due by itself; `None` if only an event can change anything.
    fn next_tick(&self, now: Now) -> Option<Duration> {
        let mut next_s: Option<i64> = self.ledger.hours(now).next_change.map(|t| t.0);
        let mut earlier = |t: i64| next_s = Some(next_s.map_or(t, |n| n.min(t)));
        if self.alerts.borrow().has("quota-reached") {
            earlier(self.ledger.next_day(now).0);
        }
        if self.ledger.keeps_lines() {
            earlier((now.unix().0.div_euclid(DAY) + 1) * DAY);
        }
        if let Some(t) = self.durable.borrow().refused_until() {
            earlier(t);
        }
        for session in self.sessions.borrow().values() {
            match session.machine.borrow().state() {
                // A closing one rings when its last flow is gone.
                State::Settled | State::Closing => continue,
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
        let watch = (self.session_count() > 0).then_some(WATCH_MS);
        let retry = self.behind.get().then_some(RETRY_US as i64 / 1000);
        let leases = self.leases.tick(now).and_then(|ms| i64::try_from(ms).ok());
        let keep = self.keep_in(now).map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX).max(1));
        let ms =
            by_clock.into_iter().chain(sweep).chain(watch).chain(retry).chain(leases).chain(keep).min()?;
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(1)))
    }
}

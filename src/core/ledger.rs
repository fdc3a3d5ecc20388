//! What all sessions share: the clocks, the owner's caps, the table of live flows, and the counters of the node.
use crate::clock::Clock;
use crate::config::{Config, Schedule};
use crate::json::{Value, object};
use crate::meter::{HostHasher, LogStore, Qos};
use crate::policy::refusal::Refusal;
use crate::policy::schedule::{Hours, LocalTime, day_start, hours, local_day, next_midnight};
use crate::session::FlowState;
use crate::session::allowance::{NodeAllowance, NodeCaps, Periods, month_end, month_number};
use crate::session::breakers::Burst;
use crate::session::pacer::Pacer;
use crate::session::targets::Targets;
use crate::time::{DAY, Now, Unix};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

mod flows;
mod logs;

/// Time for a complete ClientHello after the 200.
pub const HELLO_US: u64 = 10_000_000;
/// A tunnel in which nothing passes for so long is closed.
pub const IDLE_US: u64 = 300_000_000;
/// How long the other half lives after a FIN.
pub const HALF_CLOSED_US: u64 = 60_000_000;
/// No tunnel lives longer: a buyer's longest session of work, and a bound on what a lost peer can hold.
pub const LIFETIME_US: u64 = 24 * 3600 * 1_000_000;
/// How long the hours are believed, microseconds: what is seen of a schedule ahead has an end.
const HOURS_KEPT_US: u64 = 24 * 3600 * 1_000_000;
/// Seconds until the node looks whether somebody has set a clock that is unset.
const UNSET_LOOK_S: i64 = 60;
/// Most live flows of the node.
pub const MAX_FLOWS: usize = 8192;

/// A live flow and the session it belongs to.
type Live = (Rc<FlowState>, Rc<str>);

/// Where the access log and the archive of bundles go, and the first day's key for host names.
pub struct AccessLog {
    /// The access log's files.
    pub store: LogStore,
    /// What was billed: sealed bundles and `settled` bodies, a line each.
    pub bundles: LogStore,
    /// A fresh random key.
    pub key: [u8; 32],
}

/// The offset of local time from UTC; replaced in tests.
pub type LocalClock = fn(Unix) -> LocalTime;

/// Shared by the sessions and the core.
pub struct Ledger {
    /// The clocks.
    pub clock: Rc<Clock>,
    /// Local time.
    pub local: LocalClock,
    /// The owner's caps.
    pub allowance: RefCell<NodeAllowance>,
    /// Connections by target.
    pub targets: RefCell<Targets>,
    /// The breaker of all sessions together.
    pub burst: RefCell<Burst>,
    /// Serves flows that wait for tokens.
    pub pacer: Pacer,
    /// Refusals by slug since the start.
    pub refusals: RefCell<HashMap<Refusal, u64>>,
    /// Quality of service of the node.
    pub qos: RefCell<Qos>,
    /// The access log.
    pub log: RefCell<LogStore>,
    /// What was billed.
    pub bundles: RefCell<LogStore>,
    hasher: RefCell<HostHasher>,
    flows: RefCell<HashMap<u64, Live>>,
    next_flow: Cell<u64>,
    most_flows: Cell<usize>,
    reset_day: Cell<u8>,
    retention_days: Cell<u16>,
    /// The day (UTC) on which old lines were last taken out of the logs.
    expired_day: Cell<Option<i64>>,
    /// And the second they were asked for.
    periods: Cell<Option<(Unix, Periods)>>,
    schedules: RefCell<Vec<Schedule>>,
    hours: Cell<Option<(Hours, Now)>>,
    /// Bytes that flows have taken in and not yet passed on and counted.
    held: Cell<u64>,
    bell: RefCell<Option<Waker>>,
    rung: Cell<bool>,
}

impl Ledger {
    /// Nothing carried yet.
    pub fn new(clock: Rc<Clock>, local: LocalClock, log: AccessLog, config: &Config) -> Ledger {
        let now = clock.now();
        let periods = periods_at(now, local, config.network.month_reset_day);
        Ledger {
            allowance: RefCell::new(NodeAllowance::new(caps(config), periods)),
            targets: RefCell::new(Targets::new(&config.network.per_target)),
            burst: RefCell::new(Burst::of_node(&config.breakers)),
            clock,
            local,
            pacer: Pacer::default(),
            refusals: RefCell::default(),
            qos: RefCell::new(Qos::new(now)),
            log: RefCell::new(log.store),
            bundles: RefCell::new(log.bundles),
            hasher: RefCell::new(HostHasher::new(now.unix().0.div_euclid(DAY), log.key)),
            flows: RefCell::default(),
            next_flow: Cell::new(0),
            most_flows: Cell::new(MAX_FLOWS),
            reset_day: Cell::new(config.network.month_reset_day),
            retention_days: Cell::new(config.privacy.retention_days),
            expired_day: Cell::new(None),
            periods: Cell::new(None),
            schedules: RefCell::new(config.node.schedules.clone()),
            hours: Cell::new(None),
            held: Cell::new(0),
            bell: RefCell::default(),
            rung: Cell::new(false),
        }
    }

    /// The quota counters, for the journal, written so many bytes ahead.
    pub fn quota(&self, ahead: u64) -> Value {
        let allowance = self.allowance.borrow();
        object([
            ("day", allowance.day.to_value()),
            ("month", allowance.month.to_value()),
            ("resetDay", i64::from(self.reset_day.get()).into()),
            ("ahead", ahead.into()),
        ])
    }

    /// Goes on with counters from the journal. What was written ahead may have been carried, and is charged. Counters
    /// that cannot be read count as nothing used.
    pub fn restore(&self, quota: Option<&Value>) {
        let Some(quota) = quota else { return };
        let int = |name: &str| quota.member(name).and_then(Value::as_int);
        let ahead = int("ahead").unwrap_or(0).unsigned_abs();
        let now = self.periods(self.now());
        let mut allowance = self.allowance.borrow_mut();
        let allowance = &mut *allowance;
        for (name, counts) in [("day", &mut allowance.day), ("month", &mut allowance.month)] {
            let Some(value) = quota.member(name) else { continue };
            match counts.restore(value) {
                Ok(()) => counts.add_lost(ahead),
                Err(e) => crate::error!("the stored quota of the {name} is not readable: {e}"),
            }
        }
        if int("resetDay").is_some_and(|day| day != i64::from(self.reset_day.get())) {
            allowance.month.renumber(now.month);
        }
    }

    /// Takes the owner's new caps and hours.
    pub fn apply(&self, config: &Config) {
        let now = self.now();
        let reset_day = config.network.month_reset_day;
        if self.reset_day.replace(reset_day) != reset_day {
            let month = periods_at(now, self.local, reset_day).month;
            self.allowance.borrow_mut().month.renumber(month);
        }
        self.retention_days.set(config.privacy.retention_days);
        self.expired_day.set(None);
        self.schedules.borrow_mut().clone_from(&config.node.schedules);
        self.forget_local_time();
        self.allowance.borrow_mut().apply(caps(config), now.mono_us);
        self.targets.borrow_mut().apply(&config.network.per_target);
        self.burst.borrow_mut().apply(&Burst::of_node(&config.breakers));
        self.reset_excess();
    }

    /// The clocks.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The local day and the owner's month. Local time is asked once for each second: this is on the path of every
    /// chunk.
    pub fn periods(&self, now: Now) -> Periods {
        if let Some((second, periods)) = self.periods.get()
            && second == now.unix()
        {
            return Periods { mono_us: now.mono_us, ..periods };
        }
        let periods = periods_at(now, self.local, self.reset_day.get());
        self.periods.set(Some((now.unix(), periods)));
        periods
    }

    /// The owner's hours by the router's own clock; when they change, by the corrected clock, of which `now` is a reading.
    /// Closed as long as nobody knows the time.
    pub fn hours(&self, now: Now) -> Hours {
        if self.schedules.borrow().is_empty() {
            return Hours { open: true, next_change: None };
        }
        let Some(own) = self.clock.owners() else {
            return Hours { open: false, next_change: Some(Unix(now.unix().0.saturating_add(UNSET_LOOK_S))) };
        };
        let Hours { open, next_change } = self.hours_at(own);
        // Rounded up: a node that looks too early would look again at once.
        let ahead_s = -own.unix_ms.saturating_sub(now.unix_ms).div_euclid(1000);
        Hours { open, next_change: next_change.map(|t| Unix(t.0.saturating_add(ahead_s))) }
    }

    /// Looked up again only when they change or the router's clock was set.
    fn hours_at(&self, own: Now) -> Hours {
        if let Some((hours, asked)) = self.hours.get()
            && own.mono_us.saturating_sub(asked.mono_us) < HOURS_KEPT_US
            && hours.next_change.is_none_or(|t| own.unix() < t)
            && !was_set(asked, own)
        {
            return hours;
        }
        let fresh = hours(&self.schedules.borrow(), own.unix(), &self.local);
        self.hours.set(Some((fresh, own)));
        fresh
    }

    /// What was asked of local time is asked again: the zone may be another one.
    pub fn forget_local_time(&self) {
        self.periods.set(None);
        self.hours.set(None);
        self.ring();
    }

    /// Bytes that flows have taken in and not yet passed on: they are granted, and not counted yet.
    pub fn held(&self) -> &Cell<u64> {
        &self.held
    }

    /// When the next local day begins.
    pub fn next_day(&self, now: Now) -> Unix {
        next_midnight(now.unix(), &self.local)
    }

    /// When the owner's next month begins.
    pub fn next_month(&self, now: Now) -> Unix {
        let day = month_end(self.periods(now).month, self.reset_day.get());
        day_start(now.unix(), day, &self.local)
    }

    /// Counts a refusal.
    pub fn refused(&self, refusal: Refusal) {
        *self.refusals.borrow_mut().entry(refusal).or_default() += 1;
    }

    /// Counts payload against the owner's caps; true if a quota is used up by it, or is to be written down.
    pub fn count(&self, now: Now, ingress: u64, egress: u64) -> bool {
        let periods = self.periods(now);
        self.qos.borrow_mut().add(now, ingress, egress);
        let mut allowance = self.allowance.borrow_mut();
        allowance.turn(periods);
        allowance.take(ingress, egress);
        allowance.spent(periods).is_some() || allowance.runs_short()
    }

    /// Ingress and egress of the day that the quota counts.
    pub fn bytes_today(&self, now: Now) -> (u64, u64) {
        let mut allowance = self.allowance.borrow_mut();
        allowance.turn(self.periods(now));
        let today = allowance.day.current();
        (today.ingress, today.egress)
    }

    /// Wakes the core's ticker: something changed that may need it earlier.
    pub fn ring(&self) {
        self.rung.set(true);
        if let Some(waker) = self.bell.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Ready once the bell was rung since the last time.
    pub fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rung.replace(false) {
            return Poll::Ready(());
        }
        *self.bell.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn caps(config: &Config) -> NodeCaps {
    NodeCaps {
        max_mbps: config.network.max_mbps,
        max_gb_per_day: config.network.max_gb_per_day,
        max_gb_per_month: config.network.max_gb_per_month,
    }
}

fn periods_at(now: Now, local: LocalClock, reset_day: u8) -> Periods {
    let (day, _) = local_day(now.unix(), &local);
    Periods { day, month: month_number(day, reset_day), mono_us: now.mono_us }
}

/// Whether the wall clock went another way than the monotonic one, by more than two seconds.
fn was_set(before: Now, now: Now) -> bool {
    let wall = now.unix_ms.saturating_sub(before.unix_ms);
    let passed = i64::try_from(now.mono_ms().saturating_sub(before.mono_ms())).unwrap_or(i64::MAX);
    wall.saturating_sub(passed).abs() > 2000
}

/// A key from the system's random numbers, if it has any to give.
pub fn random_key() -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut key);
    filled.is_ok().then_some(key)
}

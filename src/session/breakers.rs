//! Breakers: who suddenly opens far more than he used to, or whose handshakes mostly fail, opens nothing for a while.
//! Live connections go on. Pure; all instants are monotonic microseconds.
use crate::config::Breakers as Settings;
use crate::mutant;
use std::collections::VecDeque;

const SECOND_US: u64 = 1_000_000;
const HOUR_US: u64 = 3600 * SECOND_US;
/// Microseconds over which a burst is counted.
pub const INTERVAL_US: u64 = 10 * SECOND_US;
/// Each interval counts an eighth of what is normal: the last minute and a half, in the main.
const WEIGHT: u64 = 8;
/// Intervals after which nothing is left of what was normal.
const FORGOTTEN: u64 = 64;
/// Failures are counted over one to two of these.
const HALF_WINDOW_US: u64 = 30 * SECOND_US;
/// A breaker that trips again so soon after a cool-down rests twice as long.
const AGAIN_US: u64 = 600 * SECOND_US;
/// Longest cool-down, seconds, unless the configured one is longer.
const LONGEST_S: u64 = 640;

/// A time in which nothing new is opened.
#[derive(Clone, Copy, Debug, Default)]
struct CoolDown {
    until_us: u64,
    length_s: u64,
}

impl CoolDown {
    fn trip(&mut self, base_s: u32, now_us: u64) {
        let base = u64::from(base_s);
        let again = self.length_s > 0 && now_us < self.until_us.saturating_add(AGAIN_US);
        self.length_s = if again { (self.length_s * 2).min(LONGEST_S).max(base) } else { base };
        self.until_us = now_us.saturating_add(self.length_s * SECOND_US);
    }

    /// Seconds until it is over, at least one; `None` if there is none.
    fn left_s(&self, now_us: u64) -> Option<u32> {
        let left = self.until_us.checked_sub(now_us).filter(|left| *left > 0)?;
        Some(u32::try_from(left.div_ceil(SECOND_US)).unwrap_or(u32::MAX))
    }
}

/// Trips when more is opened in ten seconds than a floor and a multiple of what was normal.
#[derive(Clone, Debug)]
pub struct Burst {
    floor: u32,
    factor: u32,
    cool_down_s: u32,
    interval: u64,
    count: u32,
    /// Eight times the normal count of an interval.
    normal: u64,
    rest: CoolDown,
}

impl Burst {
    /// The breaker of one session.
    pub fn of_session(settings: &Settings) -> Burst {
        Burst::new(settings.session_burst, settings)
    }

    /// The breaker of all sessions together.
    pub fn of_node(settings: &Settings) -> Burst {
        Burst::new(settings.node_burst, settings)
    }

    fn new(floor: u32, settings: &Settings) -> Burst {
        Burst {
            floor,
            factor: settings.burst_factor,
            cool_down_s: settings.cool_down_s,
            interval: 0,
            count: 0,
            normal: 0,
            rest: CoolDown::default(),
        }
    }

    /// Takes the settings of a fresh breaker; what was counted, and a cool-down, stay.
    pub fn apply(&mut self, fresh: &Burst) {
        (self.floor, self.factor, self.cool_down_s) = (fresh.floor, fresh.factor, fresh.cool_down_s);
    }

    /// Seconds to wait; `None` if a connection may be opened.
    pub fn wait_s(&self, now_us: u64) -> Option<u32> {
        self.rest.left_s(now_us).filter(|_| !mutant::out("burst-breaker"))
    }

    /// Counts a connection that is opened; true if it is the one that trips the breaker.
    pub fn opened(&mut self, now_us: u64) -> bool {
        self.turn(now_us / INTERVAL_US);
        self.count = self.count.saturating_add(1);
        let tripped = u64::from(self.count) >= self.limit();
        if tripped {
            self.rest.trip(self.cool_down_s, now_us);
            self.count = 0;
        }
        tripped
    }

    fn limit(&self) -> u64 {
        (self.normal * u64::from(self.factor) / WEIGHT).max(u64::from(self.floor)).max(1)
    }

    fn turn(&mut self, interval: u64) {
        let passed = interval.saturating_sub(self.interval);
        for n in 0..passed.min(FORGOTTEN) {
            let count = if n == 0 { u64::from(self.count) } else { 0 };
            self.normal = self.normal - self.normal / WEIGHT + count;
        }
        if passed > 0 {
            self.interval = interval;
            self.count = 0;
        }
    }
}

/// Trips when too many of a session's handshakes fail: hellos that are refused, targets that refuse, do not answer, or
/// reset before their first byte.
#[derive(Clone, Debug)]
pub struct Failures {
    percent: u32,
    samples: u32,
    cool_down_s: u32,
    half: u64,
    /// Good and bad of this half of the window and of the one before.
    counts: [(u32, u32); 2],
    rest: CoolDown,
}

impl Failures {
    /// Nothing seen yet.
    pub fn new(settings: &Settings) -> Failures {
        Failures {
            percent: settings.failure_percent,
            samples: settings.failure_samples,
            cool_down_s: settings.cool_down_s,
            half: 0,
            counts: [(0, 0); 2],
            rest: CoolDown::default(),
        }
    }

    /// Takes the settings of a fresh one; what was counted, and a cool-down, stay.
    pub fn apply(&mut self, fresh: &Failures) {
        (self.percent, self.samples, self.cool_down_s) = (fresh.percent, fresh.samples, fresh.cool_down_s);
    }

    /// Seconds to wait; `None` if a connection may be opened.
    pub fn wait_s(&self, now_us: u64) -> Option<u32> {
        self.rest.left_s(now_us).filter(|_| !mutant::out("failure-breaker"))
    }

    /// The target's first byte came.
    pub fn good(&mut self, now_us: u64) {
        self.turn(now_us / HALF_WINDOW_US);
        self.counts[0].0 = self.counts[0].0.saturating_add(1);
    }

    /// A handshake failed; true if this is the failure that trips the breaker.
    pub fn bad(&mut self, now_us: u64) -> bool {
        self.turn(now_us / HALF_WINDOW_US);
        self.counts[0].1 = self.counts[0].1.saturating_add(1);
        let sum = |part: fn(&(u32, u32)) -> u32| self.counts.iter().map(|c| u64::from(part(c))).sum::<u64>();
        let (good, bad) = (sum(|c| c.0), sum(|c| c.1));
        let all = good + bad;
        // Connections that were under way when it tripped do not prolong the cool-down.
        let tripped = self.rest.left_s(now_us).is_none()
            && all >= u64::from(self.samples)
            && bad * 100 >= all * u64::from(self.percent);
        if tripped {
            self.rest.trip(self.cool_down_s, now_us);
            self.counts = [(0, 0); 2];
        }
        tripped
    }

    fn turn(&mut self, half: u64) {
        match half.saturating_sub(self.half) {
            0 => return,
            1 => self.counts = [(0, 0), self.counts[0]],
            _ => self.counts = [(0, 0); 2],
        }
        self.half = half;
    }
}

/// Counts events of the last hour.
#[derive(Clone, Debug, Default)]
pub struct Hourly(VecDeque<u64>);

impl Hourly {
    /// Counts one more; true if there have been `limit` within an hour. Counting starts anew then.
    pub fn add(&mut self, limit: u32, now_us: u64) -> bool {
        while self.0.front().is_some_and(|at| now_us.saturating_sub(*at) >= HOUR_US) {
            self.0.pop_front();
        }
        self.0.push_back(now_us);
        let full = self.0.len() >= limit as usize;
        if full {
            self.0.clear();
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        session_burst: 20,
        node_burst: 100,
        burst_factor: 3,
        failure_percent: 60,
        failure_samples: 10,
        forged_orders: 3,
        cool_down_s: 30,
    };
    const S: u64 = SECOND_US;

    /// Opens as many as it is let; how many that were.
    fn open(burst: &mut Burst, n: u32, now_us: u64) -> u32 {
        let mut opened = 0;
        while opened < n && burst.wait_s(now_us).is_none() {
            burst.opened(now_us);
            opened += 1;
        }
        opened
    }

    #[test]
    fn a_burst_above_the_floor_rests_for_a_cool_down_that_doubles() {
        let mut b = Burst::of_session(&SETTINGS);
        assert_eq!(open(&mut b, 19, 0), 19);
        assert_eq!(b.wait_s(0), None);
        assert_eq!(open(&mut b, 9, S), 1, "the twentieth trips it");
        assert_eq!((b.wait_s(S), b.wait_s(30 * S), b.wait_s(31 * S)), (Some(30), Some(1), None));
        assert_eq!(open(&mut b, 99, 40 * S), 20);
        assert_eq!(b.wait_s(40 * S), Some(60), "again within ten minutes");
        assert_eq!(open(&mut b, 99, 701 * S), 20);
        assert_eq!(b.wait_s(701 * S), Some(30), "long after: from the beginning");
    }

    #[test]
    fn a_cool_down_has_an_end_however_often_it_trips() {
        let mut c = CoolDown::default();
        let mut now = 0;
        for _ in 0..70 {
            c.trip(30, now);
            now = c.until_us;
            assert!(c.length_s <= LONGEST_S);
        }
        c.trip(3600, now);
        assert_eq!(c.left_s(now), Some(3600), "what the owner wants is longer");
    }

    #[test]
    fn what_is_normal_moves_with_use_and_is_forgotten() {
        let mut b = Burst::of_session(&SETTINGS);
        for i in 0..60 {
            assert_eq!(open(&mut b, 15, i * INTERVAL_US), 15);
        }
        assert_eq!(open(&mut b, 99, 60 * INTERVAL_US), 45, "three times its 15");
        let mut b = Burst::of_session(&SETTINGS);
        for i in 0..60 {
            open(&mut b, 15, i * INTERVAL_US);
        }
        assert_eq!(open(&mut b, 99, 200 * INTERVAL_US), 20, "idle for long: the floor");
    }

    #[test]
    fn mostly_failing_trips_and_mostly_good_does_not() {
        let mut f = Failures::new(&SETTINGS);
        (0..4).for_each(|_| f.good(0));
        assert!((0..5).all(|_| !f.bad(0)));
        assert!(f.bad(0), "six of ten");
        assert_eq!((f.wait_s(0), f.wait_s(30 * S)), (Some(30), None));
        let mut f = Failures::new(&SETTINGS);
        (0..50).for_each(|_| f.good(0));
        assert!((0..74).all(|_| !f.bad(0)), "59.7 %");
        assert!(f.bad(0));
    }

    #[test]
    fn few_failures_or_old_ones_do_not_trip() {
        let mut f = Failures::new(&SETTINGS);
        assert!((0..9).all(|_| !f.bad(0)), "nine are too few to judge");
        assert!(!f.bad(60 * S), "those were over a minute ago");
        assert!((0..8).all(|_| !f.bad(89 * S)));
        assert!(f.bad(90 * S), "the half before counts");
    }

    #[test]
    fn failures_on_the_way_when_it_tripped_do_not_prolong_it() {
        let mut f = Failures::new(&SETTINGS);
        assert_eq!((0..10).filter(|_| f.bad(0)).count(), 1);
        assert!((0..40).all(|_| !f.bad(S)));
        assert_eq!(f.wait_s(S), Some(29));
    }

    #[test]
    fn an_hour_is_counted_and_the_count_starts_anew() {
        let mut hourly = Hourly::default();
        assert!(!hourly.add(3, 0) && !hourly.add(3, HOUR_US - 1));
        assert!(!hourly.add(3, HOUR_US), "the first is an hour old");
        assert!(hourly.add(3, HOUR_US + 1));
        assert!(!hourly.add(3, HOUR_US + 2));
        assert!(hourly.add(1, HOUR_US + 3), "a lower limit holds at once");
    }

    #[test]
    fn new_settings_keep_a_cool_down() {
        let mut b = Burst::of_session(&SETTINGS);
        open(&mut b, 20, 0);
        b.apply(&Burst::of_session(&Settings { session_burst: 1000, ..SETTINGS }));
        assert_eq!((b.wait_s(0), b.floor), (Some(30), 1000));
    }
}

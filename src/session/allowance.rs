//! What a session, or the node as a whole, may still carry: rates, connections and quotas together. Pure.
use super::limits::{Bucket, HostRates, Rate, bucket, burst_bytes, bytes_per_second, gigabytes};
use super::quota::{DAY_US, MONTH_US, Quota};
use crate::config::SessionLimits;
use crate::mutant;

/// Least bytes for which the owner's counts are written ahead.
const MIN_STRIDE: u64 = 64 * 1024;
/// Shortest wait that a `429` names, seconds.
const RETRY_S: u32 = 1;

/// A session's own limits and how far they are used.
#[derive(Debug)]
pub struct Allowance {
    limits: SessionLimits,
    rate: Option<Bucket>,
    new: Option<Rate>,
    hosts: Option<HostRates>,
    day: Quota,
    total: Quota,
}

/// Which quota of a session is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// `maxGB`: the session is over.
    Session,
    /// `maxGBPerDay`: it rests until the next day (UTC).
    Day,
}

impl Allowance {
    /// Limits of a session that has carried nothing yet. `utc_day` is the number of the day since 1970-01-01.
    pub fn new(limits: SessionLimits, utc_day: i64) -> Allowance {
        Allowance {
            rate: bucket(&limits),
            new: limits.max_new_per_second.map(Rate::new),
            hosts: limits.max_new_per_host_per_second.map(HostRates::new),
            day: Quota::new(utc_day, limits.max_gb_per_day.map(gigabytes), DAY_US),
            total: Quota::new(0, limits.max_gb.map(gigabytes), 0),
            limits,
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    /// New limits from now on; what was used stays used.
    pub fn apply(&mut self, limits: SessionLimits, now_us: u64) {
        match (&mut self.rate, limits.max_mbps.map(bytes_per_second)) {
            (Some(old), Some(rate)) => old.set_rate(now_us, rate, burst_bytes(&limits, rate)),
            _ => self.rate = bucket(&limits),
        }
        match (&mut self.new, limits.max_new_per_second) {
            (Some(old), Some(n)) => old.set_limit(n),
            (slot, n) => *slot = n.map(Rate::new),
        }
        match (&mut self.hosts, limits.max_new_per_host_per_second) {
            (Some(old), Some(n)) => old.set_limit(n),
            (slot, n) => *slot = n.map(HostRates::new),
        }
        self.day.limit_bytes = limits.max_gb_per_day.map(gigabytes);
        self.total.limit_bytes = limits.max_gb.map(gigabytes);
        self.limits = limits;
    }

    /// Bytes that may pass now, beside `held` ones that were granted and have not passed. `utc_day` is put in force.
    pub fn available(&mut self, now_us: u64, utc_day: i64, held: u64) -> u64 {
        self.day.turn(utc_day, now_us);
        let rate = self.rate.as_mut().map_or(u64::MAX, |b| b.portion(now_us));
        let quota = self.day.remaining().min(self.total.remaining());
        // Of the rate they take nothing before they pass: a target that takes no bytes would keep others from theirs.
        rate.min(quota.saturating_sub(held))
    }

    /// Whether the quotas may be used up within so many seconds at its own rate, which is at most `line` bytes a second.
    pub fn runs_out_in(&self, seconds: u64, line: u64) -> bool {
        let rate = self.rate.as_ref().map_or(line, |own| own.rate().min(line));
        self.day.remaining().min(self.total.remaining()) <= rate.saturating_mul(seconds)
    }

    /// Puts a day in force.
    pub fn turn(&mut self, now_us: u64, utc_day: i64) {
        self.day.turn(utc_day, now_us);
    }

    /// Counts bytes that have passed in the day in force.
    pub fn take(&mut self, bytes: u64) {
        if let Some(rate) = &mut self.rate {
            rate.take(bytes);
        }
        self.day.add(bytes, 0);
        self.total.add(bytes, 0);
    }

    /// The quota that is used up, if any. `utc_day` is put in force.
    pub fn spent(&mut self, now_us: u64, utc_day: i64) -> Option<Spent> {
        if self.total.remaining() == 0 {
            return Some(Spent::Session);
        }
        self.day.turn(utc_day, now_us);
        (self.day.remaining() == 0).then_some(Spent::Day)
    }

    /// Takes a token for a new connection to `host`, beside `connections` that stand; else the seconds to wait.
    pub fn take_place(&mut self, host: &str, connections: u32, now_us: u64) -> Result<(), u32> {
        if self.limits.max_connections.is_some_and(|most| connections >= most)
            && !mutant::out("max-connections")
        {
            return Err(RETRY_S);
        }
        // All doors are tried before any token is taken, so that a refusal costs nothing.
        let ready = self.new.as_mut().is_none_or(|r| r.ready(now_us))
            && self.hosts.as_mut().is_none_or(|h| h.ready(host, now_us));
        if !ready {
            return Err(RETRY_S);
        }
        let taken = self.new.as_mut().is_none_or(|r| r.admit(now_us))
            && self.hosts.as_mut().is_none_or(|h| h.admit(host, now_us));
        if taken { Ok(()) } else { Err(RETRY_S) }
    }
}

/// The owner's caps on all sessions together.
#[derive(Debug)]
pub struct NodeAllowance {
    rate: Bucket,
    /// Bytes of the local day.
    pub day: Quota,
    /// Bytes of the month that the owner counts by.
    pub month: Quota,
    /// Bytes that may pass before the counts must be written down again.
    ahead: u64,
}

/// The numbers of the local day and of the owner's month, at a reading of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// Local days since 1970-01-01.
    pub day: i64,
    /// Months since 1970-01, counted from the reset day.
    pub month: i64,
    /// Microseconds.
    pub mono_us: u64,
}

/// The owner's caps as the configuration gives them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeCaps {
    /// 10^6 bit/s.
    pub max_mbps: f64,
    /// 10^9 bytes per local day.
    pub max_gb_per_day: f64,
    /// 10^9 bytes per month.
    pub max_gb_per_month: Option<f64>,
}

impl NodeAllowance {
    /// Nothing used yet.
    pub fn new(caps: NodeCaps, periods: Periods) -> NodeAllowance {
        let rate = bytes_per_second(caps.max_mbps);
        NodeAllowance {
            rate: Bucket::new(rate, node_burst(rate)),
            day: Quota::new(periods.day, Some(gigabytes(caps.max_gb_per_day)), DAY_US),
            month: Quota::new(periods.month, caps.max_gb_per_month.map(gigabytes), MONTH_US),
            ahead: 0,
        }
    }

    /// New caps from now on.
    pub fn apply(&mut self, caps: NodeCaps, now_us: u64) {
        let rate = bytes_per_second(caps.max_mbps);
        self.rate.set_rate(now_us, rate, node_burst(rate));
        self.day.limit_bytes = Some(gigabytes(caps.max_gb_per_day));
        self.month.limit_bytes = caps.max_gb_per_month.map(gigabytes);
    }

    /// Bytes that may pass now, beside `held` ones, as far as the counts have been written ahead.
    pub fn available(&mut self, periods: Periods, held: u64) -> u64 {
        self.turn(periods);
        let quota = self.day.remaining().min(self.month.remaining()).min(self.ahead);
        self.rate.portion(periods.mono_us).min(quota.saturating_sub(held))
    }

    /// Counts bytes that have passed in the day and the month in force.
    pub fn take(&mut self, ingress: u64, egress: u64) {
        let bytes = ingress.saturating_add(egress);
        self.rate.take(bytes);
        self.day.add(ingress, egress);
        self.month.add(ingress, egress);
        self.ahead = self.ahead.saturating_sub(bytes);
    }

    /// Whether the day's or the month's quota is used up; the month's is the longer wait and is named first.
    pub fn spent(&mut self, periods: Periods) -> Option<NodeSpent> {
        self.turn(periods);
        if self.month.remaining() == 0 {
            return Some(NodeSpent::Month);
        }
        (self.day.remaining() == 0).then_some(NodeSpent::Day)
    }

    /// Puts the periods in force. What was written ahead was for those before.
    pub fn turn(&mut self, periods: Periods) {
        let day = self.day.turn(periods.day, periods.mono_us);
        if self.month.turn(periods.month, periods.mono_us) || day {
            self.ahead = 0;
        }
    }

    /// Bytes for which the counts are written ahead at a time: a hundredth of the smaller quota, and at least what the
    /// rate carries in a second. If the process is killed, so much is charged at most that was not carried.
    pub fn stride(&self) -> u64 {
        let quota = self.day.limit_bytes.into_iter().chain(self.month.limit_bytes).min().unwrap_or(u64::MAX);
        (quota / 100).max(self.rate.rate()).max(MIN_STRIDE)
    }

    /// The counts, and so many bytes more, stand in the journal.
    pub fn written_ahead(&mut self, bytes: u64) {
        self.ahead = bytes;
    }

    /// Bytes that may pass before the counts must be written down again.
    pub fn ahead(&self) -> u64 {
        self.ahead
    }

    /// What the rate carries in a time, bytes.
    pub fn bytes_in(&self, us: u64) -> u64 {
        self.rate.rate().saturating_mul(us / 1_000_000)
    }

    /// Bytes a second.
    pub fn rate(&self) -> u64 {
        self.rate.rate()
    }

    /// Whether the quotas may be used up within so many seconds.
    pub fn runs_out_in(&self, seconds: u64) -> bool {
        self.day.remaining().min(self.month.remaining()) <= self.rate.rate().saturating_mul(seconds)
    }

    /// Whether the counts should be written soon, lest flows have to wait.
    pub fn runs_short(&self) -> bool {
        self.ahead < self.stride() / 2
    }
}

/// Which of the owner's quotas is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeSpent {
    /// `maxGBPerMonth`.
    Month,
    /// `maxGBPerDay`.
    Day,
}

fn node_burst(rate: u64) -> u64 {
    burst_bytes(&SessionLimits::default(), rate)
}

/// The owner's month: it begins on `reset_day` (1 to 28) of each calendar month, local time.
pub fn month_number(local_day: i64, reset_day: u8) -> i64 {
    let (year, month, day) = crate::time::civil_from_days(local_day);
    (year - 1970) * 12 + month - 1 - i64::from(day < i64::from(reset_day))
}

/// The local day on which the month after `month` begins.
pub fn month_end(month: i64, reset_day: u8) -> i64 {
    let next = month + 1;
    crate::time::days_from_civil(1970 + next.div_euclid(12), next.rem_euclid(12) + 1, i64::from(reset_day))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> SessionLimits {
        SessionLimits { max_mbps: Some(8.0), burst_kb: Some(100), ..SessionLimits::default() }
    }

    #[test]
    fn the_lowest_of_rate_day_and_total_binds() {
        let mut a = Allowance::new(
            SessionLimits { max_gb: Some(0.000_3), max_gb_per_day: Some(0.000_2), ..limits() },
            10,
        );
        assert_eq!(a.available(0, 10, 0), 100_000);
        a.take(100_000);
        assert_eq!(a.available(0, 10, 0), 0);
        assert_eq!(a.available(1_000_000, 10, 0), 100_000);
        a.take(60_000);
        assert_eq!(a.available(2_000_000, 10, 0), 40_000, "the rest of the day");
        a.take(40_000);
        assert_eq!((a.spent(0, 10), a.available(3_000_000, 10, 0)), (Some(Spent::Day), 0));
        assert_eq!(
            (a.spent(0, 11), a.available(3_000_000, 11, 0)),
            (None, 100_000),
            "a new day, the rest of the total"
        );
        a.take(100_000);
        assert_eq!(a.spent(0, 12), Some(Spent::Session));
    }

    #[test]
    fn new_limits_bind_what_is_already_used() {
        let mut a = Allowance::new(limits(), 0);
        a.take(500_000);
        a.apply(SessionLimits { max_gb: Some(0.000_5), ..limits() }, 0);
        assert_eq!(a.spent(0, 0), Some(Spent::Session));
    }

    #[test]
    fn a_refused_place_costs_no_token() {
        let per_host = SessionLimits {
            max_new_per_second: Some(2),
            max_new_per_host_per_second: Some(1),
            ..SessionLimits::default()
        };
        let mut a = Allowance::new(per_host, 0);
        assert_eq!(a.take_place("a.test", 0, 0), Ok(()));
        assert_eq!(a.take_place("a.test", 1, 0), Err(1));
        assert_eq!(a.take_place("b.test", 1, 0), Ok(()), "the refusal for a.test left the session's token");
        assert_eq!(a.take_place("c.test", 2, 0), Err(1));
        let few = SessionLimits { max_connections: Some(1), ..SessionLimits::default() };
        assert_eq!(Allowance::new(few, 0).take_place("a.test", 1, 0), Err(1));
    }

    #[test]
    fn the_month_begins_on_its_day() {
        let day = crate::time::days_from_civil;
        assert_eq!(month_number(day(2026, 3, 14), 15), month_number(day(2026, 2, 15), 15));
        assert_eq!(month_number(day(2026, 3, 15), 15), month_number(day(2026, 3, 14), 15) + 1);
        assert_eq!(month_number(day(2026, 1, 1), 1), month_number(day(2025, 12, 31), 1) + 1);
        assert_eq!(month_end(month_number(day(2025, 12, 20), 15), 15), day(2026, 1, 15));
    }

    #[test]
    fn the_nodes_quotas_hold_for_all_sessions_together() {
        let caps = NodeCaps { max_mbps: 1000.0, max_gb_per_day: 0.001, max_gb_per_month: Some(0.002) };
        let on = |day| Periods { day, month: 1, mono_us: 9 };
        let mut node = NodeAllowance::new(caps, on(1));
        node.take(400_000, 600_000);
        assert_eq!((node.spent(on(1)), node.available(on(1), 0)), (Some(NodeSpent::Day), 0));
        assert_eq!(node.spent(on(2)), None);
        node.take(1_000_000, 0);
        assert_eq!(node.spent(on(3)), Some(NodeSpent::Month));
    }

    #[test]
    fn nothing_passes_that_is_not_written_ahead() {
        let caps = NodeCaps { max_mbps: 8.0, max_gb_per_day: 1.0, max_gb_per_month: None };
        let on = |day| Periods { day, month: 1, mono_us: 9 };
        let mut node = NodeAllowance::new(caps, on(1));
        assert_eq!((node.available(on(1), 0), node.stride()), (0, 10_000_000));
        node.written_ahead(100_000);
        node.take(60_000, 0);
        assert_eq!((node.available(on(1), 0), node.runs_short()), (40_000, true));
        assert_eq!(node.available(on(1), 39_999), 1, "granted to another flow already");
        node.written_ahead(node.stride());
        assert!(!node.runs_short());
        assert_eq!(node.available(on(2), 0), 0, "not for another day");
    }
}

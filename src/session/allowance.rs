//! What a session, or the node as a whole, may still carry: rates, connections and quotas together. Pure.
use super::limits::{Bucket, HostRates, Quota, Rate, bucket, burst_bytes, bytes_per_second, gigabytes};
use crate::config::SessionLimits;
use crate::mutant;

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
            day: Quota::new(utc_day, limits.max_gb_per_day.map(gigabytes)),
            total: Quota::new(0, limits.max_gb.map(gigabytes)),
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

    /// Bytes that may pass now: no rate and no quota is overrun by more than was read at once.
    pub fn available(&mut self, now_us: u64, utc_day: i64) -> u64 {
        let rate = self.rate.as_mut().map_or(u64::MAX, |b| b.available(now_us));
        rate.min(self.day.remaining(utc_day)).min(self.total.remaining(0))
    }

    /// Counts bytes that have passed.
    pub fn take(&mut self, bytes: u64, utc_day: i64) {
        if let Some(rate) = &mut self.rate {
            rate.take(bytes);
        }
        self.day.add(utc_day, bytes);
        self.total.add(0, bytes);
    }

    /// The quota that is used up, if any.
    pub fn spent(&mut self, utc_day: i64) -> Option<Spent> {
        if self.total.remaining(0) == 0 {
            return Some(Spent::Session);
        }
        (self.day.remaining(utc_day) == 0).then_some(Spent::Day)
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
}

/// The numbers of the local day and of the owner's month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// Local days since 1970-01-01.
    pub day: i64,
    /// Months since 1970-01, counted from the reset day.
    pub month: i64,
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
            day: Quota::new(periods.day, Some(gigabytes(caps.max_gb_per_day))),
            month: Quota::new(periods.month, caps.max_gb_per_month.map(gigabytes)),
        }
    }

    /// New caps from now on.
    pub fn apply(&mut self, caps: NodeCaps, now_us: u64) {
        let rate = bytes_per_second(caps.max_mbps);
        self.rate.set_rate(now_us, rate, node_burst(rate));
        self.day.limit_bytes = Some(gigabytes(caps.max_gb_per_day));
        self.month.limit_bytes = caps.max_gb_per_month.map(gigabytes);
    }

    /// Bytes that may pass now.
    pub fn available(&mut self, now_us: u64, periods: Periods) -> u64 {
        let quota = self.day.remaining(periods.day).min(self.month.remaining(periods.month));
        self.rate.available(now_us).min(quota)
    }

    /// Counts bytes that have passed.
    pub fn take(&mut self, bytes: u64, periods: Periods) {
        self.rate.take(bytes);
        self.day.add(periods.day, bytes);
        self.month.add(periods.month, bytes);
    }

    /// Whether the day's or the month's quota is used up; the month's is the longer wait and is named first.
    pub fn spent(&mut self, periods: Periods) -> Option<NodeSpent> {
        if self.month.remaining(periods.month) == 0 {
            return Some(NodeSpent::Month);
        }
        (self.day.remaining(periods.day) == 0).then_some(NodeSpent::Day)
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
        assert_eq!(a.available(0, 10), 100_000);
        a.take(100_000, 10);
        assert_eq!(a.available(0, 10), 0);
        assert_eq!(a.available(1_000_000, 10), 100_000);
        a.take(60_000, 10);
        assert_eq!(a.available(2_000_000, 10), 40_000, "the rest of the day");
        a.take(40_000, 10);
        assert_eq!((a.spent(10), a.available(3_000_000, 10)), (Some(Spent::Day), 0));
        assert_eq!(
            (a.spent(11), a.available(3_000_000, 11)),
            (None, 100_000),
            "a new day, the rest of the total"
        );
        a.take(100_000, 11);
        assert_eq!(a.spent(12), Some(Spent::Session));
    }

    #[test]
    fn new_limits_bind_what_is_already_used() {
        let mut a = Allowance::new(limits(), 0);
        a.take(500_000, 0);
        a.apply(SessionLimits { max_gb: Some(0.000_5), ..limits() }, 0);
        assert_eq!(a.spent(0), Some(Spent::Session));
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
        let (first, second) = (Periods { day: 1, month: 1 }, Periods { day: 2, month: 1 });
        let mut node = NodeAllowance::new(caps, first);
        node.take(1_000_000, first);
        assert_eq!((node.spent(first), node.available(9, first)), (Some(NodeSpent::Day), 0));
        assert_eq!(node.spent(second), None);
        node.take(1_000_000, second);
        assert_eq!(node.spent(Periods { day: 3, month: 1 }), Some(NodeSpent::Month));
    }
}

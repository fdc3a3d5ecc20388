//! Bytes counted by the day or by the month, against a limit, by a clock that may be wrong. Pure.
//!
//! Each period has a count of its own, also after the clock was set away from it and back. A period begins with nothing
//! used only if it is later than the one before it, and only twice in the least time that periods last: a clock that is
//! set again and again gives nobody more. Otherwise it begins with the fullest count of those that are kept.
use crate::json::{FieldError, Fields, MAX_INTEGER, Value, object};
use crate::mutant;
use std::collections::VecDeque;

/// Periods that are kept, the one in force included.
pub const KEPT: usize = 4;
/// Less than any local day lasts, microseconds.
pub const DAY_US: u64 = 20 * 3600 * 1_000_000;
/// Less than any month lasts, microseconds.
pub const MONTH_US: u64 = 27 * 24 * 3600 * 1_000_000;

/// What was carried in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The period's number.
    pub number: i64,
    /// Bytes from the targets.
    pub ingress: u64,
    /// Bytes to the targets.
    pub egress: u64,
    /// Bytes that a process which was killed may have carried without having written them down.
    pub lost: u64,
}

impl Count {
    /// What counts against the limit.
    pub fn used(&self) -> u64 {
        self.ingress.saturating_add(self.egress).saturating_add(self.lost)
    }

    fn to_value(self) -> Value {
        object([
            ("day", self.number.into()),
            ("used", self.used().into()),
            ("ingress", self.ingress.into()),
            ("egress", self.egress.into()),
        ])
    }

    /// What [`Count::to_value`] wrote; what of `used` has no direction was lost.
    fn from_value(value: &Value) -> Result<Count, FieldError> {
        let fields = Fields::of(value)?;
        let bytes = |name: &str| Ok(fields.opt_int(name, 0..=MAX_INTEGER)?.unwrap_or(0).unsigned_abs());
        let (ingress, egress) = (bytes("ingress")?, bytes("egress")?);
        let used = fields.int("used", 0..=MAX_INTEGER)?.unsigned_abs();
        let number = fields.int("day", -MAX_INTEGER..=MAX_INTEGER)?;
        Ok(Count { number, ingress, egress, lost: used.saturating_sub(ingress.saturating_add(egress)) })
    }
}

/// The counts of some periods, against one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The limit; none means no limit.
    pub limit_bytes: Option<u64>,
    current: Count,
    /// Others, the last in force first.
    others: VecDeque<Count>,
    least_us: u64,
    /// When the last two began with nothing used, by the monotonic clock.
    begun: [Option<u64>; 2],
}

impl Quota {
    /// Nothing used in the period `number`, of a kind that lasts no less than `least_us`.
    pub fn new(number: i64, limit_bytes: Option<u64>, least_us: u64) -> Quota {
        let current = Count { number, ..Count::default() };
        Quota { limit_bytes, current, others: VecDeque::new(), least_us, begun: [None; 2] }
    }

    /// The count of the period in force.
    pub fn current(&self) -> Count {
        self.current
    }

    /// Counts bytes that have passed in the period in force.
    pub fn add(&mut self, ingress: u64, egress: u64) {
        self.current.ingress = self.current.ingress.saturating_add(ingress);
        self.current.egress = self.current.egress.saturating_add(egress);
    }

    /// Counts bytes that may have passed in the period in force before the process was killed.
    pub fn add_lost(&mut self, bytes: u64) {
        self.current.lost = self.current.lost.saturating_add(bytes);
    }

    /// Bytes that may still pass in the period in force; `u64::MAX` without a limit.
    pub fn remaining(&self) -> u64 {
        self.limit_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(self.current.used()))
    }

    /// Puts a period in force, at a reading of the monotonic clock; true if it was not.
    pub fn turn(&mut self, number: i64, mono_us: u64) -> bool {
        if number == self.current.number {
            return false;
        }
        let known = self.others.iter().position(|c| c.number == number).and_then(|at| self.others.remove(at));
        let later = number > self.current.number;
        let next = known.unwrap_or_else(|| match later && self.may_begin(mono_us) {
            true => Count { number, ..Count::default() },
            false => Count { number, ..self.fullest() },
        });
        let last = std::mem::replace(&mut self.current, next);
        self.others.push_front(last);
        self.others.truncate(KEPT - 1);
        true
    }

    /// Gives the count in force another number, and forgets the others: their numbers mean something else now.
    pub fn renumber(&mut self, number: i64) {
        self.current.number = number;
        self.others.clear();
    }

    fn may_begin(&mut self, mono_us: u64) -> bool {
        let recent = |t: &Option<u64>| t.is_some_and(|t| mono_us.saturating_sub(t) < self.least_us);
        if self.begun.iter().all(recent) && !mutant::out("quota-begins-twice-at-most") {
            return false;
        }
        self.begun = [Some(mono_us), self.begun[0]];
        true
    }

    fn fullest(&self) -> Count {
        self.others.iter().copied().chain([self.current]).max_by_key(Count::used).unwrap_or_default()
    }

    /// The durable part. The limit comes from the rules in force.
    pub fn to_value(&self) -> Value {
        let mut value = self.current.to_value();
        value.set("others", Value::Array(self.others.iter().map(|c| c.to_value()).collect()));
        value
    }

    /// Goes on with what [`Quota::to_value`] wrote.
    ///
    /// # Errors
    /// The member that is not valid; the counts are then as they were.
    pub fn restore(&mut self, value: &Value) -> Result<(), FieldError> {
        let current = Count::from_value(value)?;
        let others = value.member("others").and_then(Value::as_array).unwrap_or_default();
        let others = others.iter().take(KEPT - 1).map(Count::from_value).collect::<Result<_, _>>()?;
        (self.current, self.others) = (current, others);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;
    use proptest::prelude::*;

    fn full(number: i64) -> Quota {
        let mut q = Quota::new(number, Some(100), DAY_US);
        q.add(60, 40);
        q
    }

    fn left(q: &mut Quota, number: i64, hours: u64) -> u64 {
        q.turn(number, hours * 3_600_000_000);
        q.remaining()
    }

    #[test]
    fn a_quota_counts_its_day() {
        let mut q = full(10);
        assert_eq!(left(&mut q, 10, 0), 0);
        assert_eq!(left(&mut q, 11, 0), 100);
        q.add(1, 2);
        assert_eq!(q.current(), Count { number: 11, ingress: 1, egress: 2, lost: 0 });
        assert_eq!(Quota::new(0, None, DAY_US).remaining(), u64::MAX);
    }

    #[test]
    fn a_clock_set_back_or_far_ahead_and_back_gives_no_second_quota() {
        for away in [9, 8, 3, -20_000, 11, 12, 4000] {
            let mut q = full(10);
            left(&mut q, away, 0);
            assert_eq!(left(&mut q, 10, 0), 0, "after {away}");
        }
        let mut q = full(10);
        assert_eq!(left(&mut q, 9, 0), 0, "an earlier day that nothing is known of");
        assert_eq!(left(&mut q, 10, 0), 0, "the day it was");
        assert_eq!(left(&mut q, 11, 30), 100);
    }

    #[test]
    fn after_a_correction_by_years_the_days_begin_anew_as_they_come() {
        let mut q = full(4000);
        assert_eq!(left(&mut q, 10, 0), 0, "what was carried under the wrong date counts");
        assert_eq!(left(&mut q, 11, 8), 100);
        q.add(100, 0);
        assert_eq!(left(&mut q, 12, 32), 100);
    }

    #[test]
    fn a_clock_set_again_and_again_gives_two_fresh_days_at_most() {
        let mut q = full(10);
        let fresh = (0..50).filter(|n| {
            let left = left(&mut q, 11 + n * 7, 1);
            q.add(left, 0);
            left > 0
        });
        assert_eq!(fresh.count(), 2);
        assert_eq!(left(&mut q, 10, 2), 0, "nor the day it was, which is forgotten");
        assert_eq!(left(&mut q, 5000, 22), 100, "a day later one begins again");
    }

    #[test]
    fn another_reset_day_keeps_the_count_until_the_next_month() {
        let mut q = full(10);
        q.renumber(9);
        assert_eq!(left(&mut q, 9, 0), 0);
        assert_eq!(left(&mut q, 10, 40), 100);
    }

    #[test]
    fn a_quota_survives_in_writing() {
        let mut q = full(-3);
        q.turn(-2, 0);
        q.add(1, 0);
        q.add_lost(5);
        let mut read = Quota::new(0, Some(100), DAY_US);
        read.restore(&q.to_value()).unwrap();
        assert_eq!((read.current(), left(&mut read, -3, 0)), (q.current(), 0));
        let old = parse(br#"{"day":1,"used":7}"#).unwrap();
        read.restore(&old).unwrap();
        assert_eq!(read.current(), Count { number: 1, lost: 7, ..Count::default() });
        let e = read.restore(&parse(br#"{"day":1,"used":-1}"#).unwrap()).unwrap_err();
        assert_eq!(e.pointer, "/used");
    }

    proptest! {
        /// Days that come by themselves, and a clock that is set anywhere at any time in between.
        #[test]
        fn a_day_of_real_time_carries_three_quotas_at_most_whatever_the_clock_shows(
            steps in prop::collection::vec((0u64..9, 0i64..40, 1u64..90), 1..80)
        ) {
            let (mut q, mut hour) = (Quota::new(20, Some(100), DAY_US), 0);
            let mut carried: Vec<(u64, u64)> = Vec::new();
            for (hours, number, bytes) in steps {
                hour += hours;
                let granted = left(&mut q, number, hour).min(bytes);
                q.add(granted, 0);
                carried.push((hour, granted));
                let day: u64 = carried.iter().filter(|(h, _)| hour - h < 20).map(|(_, b)| b).sum();
                // The days that began, and the rest of one that was kept from before, at most three.
                prop_assert!(day <= 100 * (2 + KEPT as u64 - 1), "{day} bytes in 20 hours");
            }
        }
    }
}

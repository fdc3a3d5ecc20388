//! What the whole node does: quality over the last five minutes, throughput of the last minute.
use super::quantiles::Histogram;
use crate::json::{Value, array, object};
use crate::time::Now;
use std::collections::VecDeque;

/// Samples of the throughput history, one per second.
pub const HISTORY_S: usize = 60;

/// Length of a slot; six of them cover the last five to six minutes.
const SLOT_S: u64 = 60;
const SLOTS: usize = 6;

/// Rolling figures of the node, over the monotonic clock. Bytes are TCP payload at the sockets to the targets.
#[derive(Clone, Debug)]
pub struct Qos {
    start_s: u64,
    /// Newest last; each with the number of its minute.
    slots: VecDeque<Slot>,
    /// Ingress and egress of the last seconds, newest (incomplete) last.
    seconds: VecDeque<(u64, u64)>,
    second: u64,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    number: u64,
    latencies: Histogram,
    connections: u64,
    errors: u64,
    bytes: u64,
}

/// Figures as heartbeat and status give them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Median time from SYN to SYN-ACK, ms, nearest rank.
    pub latency_ms_p50: u32,
    /// 95th percentile of the same.
    pub latency_ms_p95: u32,
    /// Connections that failed on the way or were reset before their first byte, percent, one decimal.
    pub error_rate_pct: f64,
    /// Mean of ingress and egress together, 10^6 bit/s.
    pub throughput_mbps: f64,
}

impl Qos {
    /// Nothing has happened yet.
    pub fn new(now: Now) -> Qos {
        let second = seconds_of(now);
        Qos { start_s: second, slots: VecDeque::new(), seconds: VecDeque::from([(0, 0)]), second }
    }

    /// Bytes that have passed.
    pub fn add(&mut self, now: Now, ingress: u64, egress: u64) {
        self.in_slot(now, |slot| slot.bytes += ingress + egress);
        self.turn(now);
        if let Some(newest) = self.seconds.back_mut() {
            *newest = (newest.0 + ingress, newest.1 + egress);
        }
    }

    /// A target answered the SYN.
    pub fn connected(&mut self, now: Now, latency_us: u64) {
        self.in_slot(now, |slot| slot.latencies.record(whole_ms(latency_us)));
    }

    /// A connection passed the hello check.
    pub fn connection(&mut self, now: Now) {
        self.in_slot(now, |slot| slot.connections += 1);
    }

    /// A 502, a 504 or a reset by the target before its first byte.
    pub fn error(&mut self, now: Now) {
        self.in_slot(now, |slot| slot.errors += 1);
    }

    /// Figures of the last five minutes, or since the start.
    pub fn summary(&mut self, now: Now) -> Summary {
        self.forget_old(now);
        let mut all = Slot::default();
        for slot in &self.slots {
            all.latencies.merge(&slot.latencies);
            all.connections += slot.connections;
            all.errors += slot.errors;
            all.bytes += slot.bytes;
        }
        let oldest_s = (seconds_of(now) / SLOT_S).saturating_sub(SLOTS as u64 - 1) * SLOT_S;
        let span_s = (seconds_of(now) + 1).saturating_sub(self.start_s.max(oldest_s)).max(1);
        Summary {
            latency_ms_p50: all.latencies.quantile(50),
            latency_ms_p95: all.latencies.quantile(95),
            error_rate_pct: error_rate_pct(all.errors, all.connections),
            throughput_mbps: mbps(all.bytes, span_s),
        }
    }

    /// Ingress and egress of the last whole second, 10^6 bit/s.
    pub fn throughput(&mut self, now: Now) -> (f64, f64) {
        self.turn(now);
        let last = self.seconds.len().checked_sub(2).and_then(|i| self.seconds.get(i));
        last.map_or((0.0, 0.0), |(ingress, egress)| (mbps(*ingress, 1), mbps(*egress, 1)))
    }

    /// Throughput of the last [`HISTORY_S`] whole seconds, both directions added, 10^6 bit/s, oldest first.
    pub fn history(&mut self, now: Now) -> Vec<f64> {
        self.turn(now);
        let whole = self.seconds.len().saturating_sub(1);
        let missing = HISTORY_S.saturating_sub(whole);
        let samples = self.seconds.iter().take(whole).map(|(ingress, egress)| mbps(ingress + egress, 1));
        std::iter::repeat_n(0.0, missing).chain(samples).collect()
    }

    /// The member `throughput` of the status.
    pub fn throughput_value(&mut self, now: Now) -> Value {
        let (ingress, egress) = self.throughput(now);
        let history = array(self.history(now));
        object([("ingressMbps", ingress.into()), ("egressMbps", egress.into()), ("history", history)])
    }

    fn in_slot(&mut self, now: Now, count: impl FnOnce(&mut Slot)) {
        self.forget_old(now);
        let number = seconds_of(now) / SLOT_S;
        if self.slots.back().is_none_or(|newest| newest.number < number) {
            self.slots.push_back(Slot { number, ..Slot::default() });
        }
        if let Some(newest) = self.slots.back_mut() {
            count(newest);
        }
    }

    fn forget_old(&mut self, now: Now) {
        let oldest = (seconds_of(now) / SLOT_S).saturating_sub(SLOTS as u64 - 1);
        while self.slots.front().is_some_and(|slot| slot.number < oldest) {
            self.slots.pop_front();
        }
    }

    /// Brings the ring of seconds up to now.
    fn turn(&mut self, now: Now) {
        let second = seconds_of(now);
        let passed = second.saturating_sub(self.second).min(HISTORY_S as u64 + 1);
        for _ in 0..passed {
            if self.seconds.len() > HISTORY_S {
                self.seconds.pop_front();
            }
            self.seconds.push_back((0, 0));
        }
        self.second = self.second.max(second);
    }
}

impl Summary {
    /// The member `qos` of heartbeat and status.
    pub fn to_value(&self) -> Value {
        object([
            ("latencyMsP50", self.latency_ms_p50.into()),
            ("latencyMsP95", self.latency_ms_p95.into()),
            ("errorRatePct", self.error_rate_pct.into()),
            ("throughputMbps", self.throughput_mbps.into()),
        ])
    }
}

/// The contract's `errorRatePct`: errors in percent of errors and connections, rounded to one decimal; 0 if there were
/// neither.
pub fn error_rate_pct(errors: u64, connections: u64) -> f64 {
    let all = u128::from(errors) + u128::from(connections);
    if all == 0 {
        return 0.0;
    }
    let tenths = (u128::from(errors) * 2000 + all) / (all * 2);
    tenths as f64 / 10.0
}

/// A latency in whole milliseconds, rounded down.
pub fn whole_ms(latency_us: u64) -> u32 {
    u32::try_from(latency_us / 1000).unwrap_or(u32::MAX)
}

/// 10^6 bit/s with three decimals.
fn mbps(bytes: u64, seconds: u64) -> f64 {
    let bits_per_s = bytes as f64 * 8.0 / seconds as f64;
    (bits_per_s / 1000.0).round() / 1000.0
}

fn seconds_of(now: Now) -> u64 {
    now.mono_us / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now { mono_us: 0, unix_ms: 0 };

    #[test]
    fn the_error_rate_has_one_decimal() {
        assert_eq!(error_rate_pct(0, 0), 0.0);
        assert_eq!(error_rate_pct(1, 2), 33.3);
        assert_eq!(error_rate_pct(2, 1), 66.7);
        assert_eq!(error_rate_pct(1, 1999), 0.1);
        assert_eq!(error_rate_pct(1, 2000), 0.0);
        assert_eq!(error_rate_pct(5, 0), 100.0);
    }

    #[test]
    fn what_is_over_six_minutes_old_is_forgotten() {
        let mut q = Qos::new(START);
        q.connected(START, 80_900);
        q.error(START);
        q.connection(START.after_ms(61_000));
        let s = q.summary(START.after_ms(200_000));
        assert_eq!((s.latency_ms_p50, s.error_rate_pct), (80, 50.0));
        let s = q.summary(START.after_ms(360_000));
        assert_eq!((s.latency_ms_p50, s.error_rate_pct), (0, 0.0));
        assert_eq!(q.slots.len(), 1);
    }

    #[test]
    fn throughput_is_the_mean_since_the_start_or_over_the_window() {
        let start = START.after_ms(90_000);
        let mut q = Qos::new(start);
        q.add(start.after_ms(500), 600_000, 400_000);
        assert_eq!(q.summary(start.after_ms(900)).throughput_mbps, 8.0);
        assert_eq!(q.summary(start.after_ms(9_999)).throughput_mbps, 0.8);
        assert_eq!(q.summary(start.after_ms(319_999)).throughput_mbps, 0.025);
        assert_eq!(q.summary(start.after_ms(330_000)).throughput_mbps, 0.0);
    }

    #[test]
    fn the_history_has_whole_seconds_oldest_first() {
        let mut q = Qos::new(START);
        q.add(START, 125_000, 0);
        q.add(START.after_ms(1_200), 125_000, 125_000);
        let history = q.history(START.after_ms(2_000));
        assert_eq!(history.len(), HISTORY_S);
        assert_eq!(history[HISTORY_S - 2..], [1.0, 2.0]);
        assert_eq!(q.throughput(START.after_ms(2_999)), (1.0, 1.0));
        assert_eq!(q.throughput(START.after_ms(3_000)), (0.0, 0.0));
        assert_eq!(q.history(START.after_ms(62_000)), [0.0; HISTORY_S]);
        assert_eq!(q.seconds.len(), HISTORY_S + 1);
    }

    #[test]
    fn a_history_after_a_long_silence_is_empty() {
        let mut q = Qos::new(START);
        q.add(START, 125_000, 0);
        assert_eq!(q.history(START.after_ms(1 << 40)), [0.0; HISTORY_S]);
    }
}

//! The open window of a session: what has been counted since its start.
use super::access_log::Path;
use super::qos::{error_rate_pct, whole_ms};
use super::quantiles::Histogram;
use crate::session::Direction;
use crate::time::Unix;

/// Length of a metering window, seconds. Windows start at multiples of it in Unix time.
pub const WINDOW_S: i64 = 300;

/// Payload of one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecondBucket {
    /// Seconds since the window's start, below [`WINDOW_S`].
    pub second: u16,
    /// Bytes from the target.
    pub ingress: u64,
    /// Bytes taken by the target.
    pub egress: u64,
}

#[derive(Debug)]
pub(super) struct Window {
    pub start: Unix,
    /// Seconds in which bytes passed, in order.
    buckets: Vec<SecondBucket>,
    latencies: Histogram,
    pub connections: u64,
    pub rejected: u64,
    errors: u64,
    path: Option<Path>,
    lines: Option<Box<blake3::Hasher>>,
}

/// The figures of a window that has been sealed.
pub(super) struct Figures {
    pub ingress: u64,
    pub egress: u64,
    pub latency_ms_p50: u32,
    pub latency_ms_p95: u32,
    pub error_rate_pct: f64,
    pub connections: u64,
    pub rejected: u64,
    pub path: Path,
    pub lines: blake3::Hash,
}

/// Start of the window that an instant lies in.
pub(super) fn window_of(t: Unix) -> Unix {
    Unix(t.0.div_euclid(WINDOW_S) * WINDOW_S)
}

impl Window {
    pub fn new(start: Unix) -> Window {
        Window {
            start,
            buckets: Vec::new(),
            latencies: Histogram::default(),
            connections: 0,
            rejected: 0,
            errors: 0,
            path: None,
            lines: None,
        }
    }

    pub fn end(&self) -> Unix {
        Unix(self.start.0 + WINDOW_S)
    }

    /// An instant as this window sees it: while a clock that was set back stands before its start, it is the start.
    pub fn within(&self, t: Unix) -> Unix {
        t.clamp(self.start, Unix(self.end().0 - 1))
    }

    /// Seconds only go forward, so there are at most [`WINDOW_S`] of them.
    pub fn add(&mut self, t: Unix, path: Path, ingress: u64, egress: u64) {
        let second = u16::try_from(self.within(t).0 - self.start.0).unwrap_or(0);
        if self.buckets.last().is_none_or(|newest| newest.second < second) {
            self.buckets.push(SecondBucket { second, ingress: 0, egress: 0 });
        }
        if let Some(newest) = self.buckets.last_mut() {
            newest.ingress += ingress;
            newest.egress += egress;
        }
        self.path = Some(self.path.map_or(path, |p| p.and(path)));
    }

    /// Takes back bytes from the newest seconds, and returns how many there were to take.
    pub fn uncount(&mut self, direction: Direction, bytes: u64) -> u64 {
        let mut left = bytes;
        for bucket in self.buckets.iter_mut().rev() {
            let counted = match direction {
                Direction::Ingress => &mut bucket.ingress,
                Direction::Egress => &mut bucket.egress,
            };
            let taken = left.min(*counted);
            *counted -= taken;
            left -= taken;
        }
        bytes - left
    }

    pub fn connected(&mut self, latency_us: u64) {
        self.latencies.record(whole_ms(latency_us));
    }

    pub fn error(&mut self) {
        self.errors += 1;
    }

    pub fn log_line(&mut self, line: &[u8]) {
        self.lines.get_or_insert_default().update(line);
    }

    pub fn buckets(&self) -> &[SecondBucket] {
        &self.buckets
    }

    pub fn figures(&self) -> Figures {
        let sum = |of: fn(&SecondBucket) -> u64| self.buckets.iter().map(of).sum();
        Figures {
            ingress: sum(|b| b.ingress),
            egress: sum(|b| b.egress),
            latency_ms_p50: self.latencies.quantile(50),
            latency_ms_p95: self.latencies.quantile(95),
            error_rate_pct: error_rate_pct(self.errors, self.connections),
            connections: self.connections,
            rejected: self.rejected,
            path: self.path.unwrap_or(Path::Relay),
            lines: self.lines.as_ref().map_or_else(|| blake3::hash(b""), |hasher| hasher.finalize()),
        }
    }
}

//! The one file that asks the clock.
use crate::time::Now;
use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks, the wall clock corrected by the coordinator's time: a router has none at boot.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    offset_ms: Cell<i64>,
}

impl Clock {
    /// A clock without correction.
    #[allow(clippy::disallowed_methods, reason = "this is the clock file")]
    pub fn new() -> Clock {
        Clock { start: Instant::now(), offset_ms: Cell::new(0) }
    }

    /// Both clocks, read together.
    #[allow(clippy::disallowed_methods, reason = "this is the clock file")]
    pub fn now(&self) -> Now {
        let mono = Instant::now().saturating_duration_since(self.start);
        Now {
            mono_us: u64::try_from(mono.as_micros()).unwrap_or(u64::MAX),
            unix_ms: system_ms().saturating_add(self.offset_ms.get()),
        }
    }

    /// Corrects the wall clock so that it shows `unix_ms` now.
    pub fn set(&self, unix_ms: i64) {
        self.offset_ms.set(unix_ms.saturating_sub(system_ms()));
    }

    /// Milliseconds added to the system's wall clock.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.get()
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

/// Milliseconds since the Unix epoch by the system's clock; negative before it.
#[allow(clippy::disallowed_methods, reason = "this is the clock file")]
pub fn system_ms() -> i64 {
    let now = SystemTime::now();
    match now.duration_since(UNIX_EPOCH) {
        Ok(d) => i64::try_from(d.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

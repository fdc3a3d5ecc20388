//! The one file that asks the clock.
use crate::time::Now;
use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks, the wall clock corrected by the coordinator's time: a router has none at boot.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    offset_ms: Cell<i64>,
    #[cfg(test)]
    given: Cell<Option<Now>>,
}

impl Clock {
    /// A clock without correction.
    #[allow(clippy::disallowed_methods, reason = "this is the clock file")]
    pub fn new() -> Clock {
        Clock {
            start: Instant::now(),
            offset_ms: Cell::new(0),
            #[cfg(test)]
            given: Cell::new(None),
        }
    }

    /// Both clocks, read together.
    pub fn now(&self) -> Now {
        let read = self.read();
        Now { unix_ms: read.unix_ms.saturating_add(self.offset_ms.get()), ..read }
    }

    /// Corrects the wall clock so that it shows `unix_ms` now.
    pub fn set(&self, unix_ms: i64) {
        self.offset_ms.set(unix_ms.saturating_sub(self.read().unix_ms));
    }

    /// Both clocks without correction.
    #[allow(clippy::disallowed_methods, reason = "this is the clock file")]
    fn read(&self) -> Now {
        #[cfg(test)]
        if let Some(given) = self.given.get() {
            return given;
        }
        let mono = Instant::now().saturating_duration_since(self.start);
        Now { mono_us: u64::try_from(mono.as_micros()).unwrap_or(u64::MAX), unix_ms: system_ms() }
    }

    /// Milliseconds added to the system's wall clock.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.get()
    }
}

#[cfg(test)]
impl Clock {
    /// A clock that stands still until it is given another reading.
    pub fn given(now: Now) -> Clock {
        let clock = Clock::new();
        clock.give(now);
        clock
    }

    /// The reading of both clocks from now on, before the correction.
    pub fn give(&self, now: Now) {
        self.given.set(Some(now));
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

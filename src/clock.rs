//! The one file that asks the clock.
use crate::time::Now;
use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// 2025-01-01T00:00:00Z, milliseconds: a clock that shows less was never set. Routers without a battery begin in 1970, or
/// at the date of their firmware's files, until NTP has an answer.
const UNSET_BEFORE_MS: i64 = 1_735_689_600_000;

/// The machine's clocks, the wall clock corrected by the coordinator's time: a router has none at boot.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    correction: Cell<Correction>,
    #[cfg(test)]
    given: Cell<Option<Now>>,
}

/// What the wall clock shows instead of the system's time. Both kinds run on with the monotonic clock: an offset to the
/// system's clock would be wrong as soon as somebody else (NTP) corrects that one too.
#[derive(Clone, Copy, Debug)]
enum Correction {
    None,
    /// This, and what has passed since; the system's once that is later.
    AtLeast(Now),
    /// This, and what has passed since, whatever becomes of the system's clock.
    Exactly(Now),
}

impl Clock {
    /// A clock without correction.
    #[allow(clippy::disallowed_methods, reason = "this is the clock file")]
    pub fn new() -> Clock {
        Clock {
            start: Instant::now(),
            correction: Cell::new(Correction::None),
            #[cfg(test)]
            given: Cell::new(None),
        }
    }

    /// Both clocks, read together.
    pub fn now(&self) -> Now {
        let read = self.read();
        let since = |then: Now| then.after_ms(read.mono_us.saturating_sub(then.mono_us) / 1000).unix_ms;
        let unix_ms = match self.correction.get() {
            Correction::None => read.unix_ms,
            Correction::AtLeast(then) => read.unix_ms.max(since(then)),
            Correction::Exactly(then) => since(then),
        };
        Now { unix_ms, ..read }
    }

    /// Both clocks as the owner's hours are judged: the wall clock is the router's own, which no coordinator moves. While
    /// that is obviously unset the corrected one stands in; `None` if that is no better.
    pub fn owners(&self) -> Option<Now> {
        let own = self.read();
        Some(own).filter(is_set).or_else(|| Some(self.now()).filter(is_set))
    }

    /// Corrects the wall clock so that it shows `unix_ms` now and goes on from there.
    pub fn set(&self, unix_ms: i64) {
        self.correction.set(Correction::Exactly(Now { unix_ms, ..self.read() }));
    }

    /// The wall clock shows no less than `unix_ms`, and goes on from there until the system's clock is past it.
    pub fn at_least(&self, unix_ms: i64) {
        self.correction.set(Correction::AtLeast(Now { unix_ms, ..self.read() }));
    }

    /// The monotonic clock alone, in milliseconds: what happens often asks for no more.
    pub fn mono_ms(&self) -> u64 {
        self.mono_us() / 1000
    }

    /// Both clocks without correction.
    fn read(&self) -> Now {
        #[cfg(test)]
        if let Some(given) = self.given.get() {
            return given;
        }
        Now { mono_us: self.mono_us(), unix_ms: system_ms() }
    }

    #[allow(clippy::disallowed_methods, reason = "this is the clock file")]
    fn mono_us(&self) -> u64 {
        #[cfg(test)]
        if let Some(given) = self.given.get() {
            return given.mono_us;
        }
        let mono = Instant::now().saturating_duration_since(self.start);
        u64::try_from(mono.as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds by which the wall clock is ahead of the system's.
    pub fn offset_ms(&self) -> i64 {
        self.now().unix_ms.saturating_sub(self.read().unix_ms)
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

fn is_set(now: &Now) -> bool {
    now.unix_ms >= UNSET_BEFORE_MS
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

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Now = Now { mono_us: 1_000_000, unix_ms: 0 };

    #[test]
    fn a_corrected_clock_goes_its_own_way() {
        let clock = Clock::given(BOOT);
        clock.set(1_000_000_000);
        // NTP sets the system's clock, to the same time or to another.
        for unix_ms in [1_000_060_000, 5, 2_000_000_000] {
            clock.give(Now { mono_us: 61_000_000, unix_ms });
            assert_eq!(clock.now().unix_ms, 1_000_060_000);
            assert_eq!(clock.offset_ms(), 1_000_060_000 - unix_ms);
        }
    }

    #[test]
    fn the_owners_clock_is_the_routers_unless_that_is_unset() {
        let set = Now { mono_us: 7, unix_ms: UNSET_BEFORE_MS };
        let clock = Clock::given(set);
        clock.set(UNSET_BEFORE_MS + 8 * 3_600_000);
        assert_eq!(clock.owners(), Some(set), "the coordinator has another time");
        clock.give(Now { unix_ms: UNSET_BEFORE_MS - 1, ..set });
        assert_eq!(clock.owners(), Some(clock.now()), "the router has none");
        clock.set(UNSET_BEFORE_MS - 1);
        assert_eq!(clock.owners(), None, "nobody has");
    }

    #[test]
    fn a_floor_holds_until_the_systems_clock_is_past_it() {
        let clock = Clock::given(BOOT);
        clock.at_least(1_000_000_000);
        clock.give(BOOT.after_ms(60_000));
        assert_eq!(clock.now().unix_ms, 1_000_060_000, "it goes on from where it was");
        clock.give(Now { mono_us: 62_000_000, unix_ms: 1_500_000_000 });
        assert_eq!(clock.now().unix_ms, 1_500_000_000, "NTP has set it");
        clock.give(Now { mono_us: 63_000_000, unix_ms: 7 });
        assert_eq!(clock.now().unix_ms, 1_000_062_000);
    }
}

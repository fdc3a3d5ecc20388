//! How often a passphrase may be tried: after each wrong one the next has to wait, longer each time.

/// Longest wait, milliseconds.
const MAX_WAIT_MS: u64 = 60_000;

/// Tries of a passphrase, on a monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    wrong: u32,
    next_ms: u64,
}

impl Attempts {
    /// Whether one may be tried now; `Err` is the number of seconds to wait.
    pub fn check(&self, now_ms: u64) -> Result<(), u64> {
        let wait = self.next_ms.saturating_sub(now_ms);
        if wait > 0 && !crate::mutant::out("unlock-backoff") { Err(wait.div_ceil(1000)) } else { Ok(()) }
    }

    /// One was wrong: 1, 2, 4 … 60 seconds until the next.
    pub fn wrong(&mut self, now_ms: u64) {
        let wait = 1000_u64.checked_shl(self.wrong).map_or(MAX_WAIT_MS, |ms| ms.min(MAX_WAIT_MS));
        self.wrong = self.wrong.saturating_add(1).min(16);
        self.next_ms = now_ms.saturating_add(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_one_doubles_the_wait_up_to_a_minute() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.check(0), Ok(()));
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            attempts.wrong(now);
            assert_eq!(attempts.check(now), Err(seconds));
            assert_eq!(attempts.check(now + seconds * 1000 - 1), Err(1));
            now += seconds * 1000;
            assert_eq!(attempts.check(now), Ok(()));
        }
        (0..1000).for_each(|_| attempts.wrong(now));
        assert_eq!(attempts.check(now), Err(60));
    }
}

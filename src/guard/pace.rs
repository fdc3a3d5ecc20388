//! How often the table is put in force: a few times at once, then with pauses.
/// Pause between two, milliseconds, when more than [`AT_ONCE`] came in a row.
pub const PAUSE_MS: u64 = 100;
/// So many at once: a line that is dialled again changes addresses, routes and resolvers one after the other, and nothing is
/// carried while a change waits.
pub const AT_ONCE: u64 = 8;

/// Counts them.
#[derive(Debug, Default)]
pub struct Pace {
    /// When all would be made up for, monotonic milliseconds.
    clear_ms: u64,
}

impl Pace {
    /// Takes one.
    ///
    /// # Errors
    /// When to try again, monotonic milliseconds: another program changes the table as fast as we do.
    pub fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        let clear = self.clear_ms.max(now_ms).saturating_add(PAUSE_MS);
        match clear.saturating_sub(PAUSE_MS * AT_ONCE) {
            earliest if earliest > now_ms => Err(earliest),
            _ => {
                self.clear_ms = clear;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_and_then_one_for_each_pause() {
        let (mut pace, start) = (Pace::default(), 5_000);
        for _ in 0..AT_ONCE {
            assert_eq!(pace.take(start), Ok(()));
        }
        assert_eq!(pace.take(start), Err(start + PAUSE_MS));
        assert_eq!(pace.take(start + PAUSE_MS - 1), Err(start + PAUSE_MS));
        assert_eq!(pace.take(start + PAUSE_MS), Ok(()));
        assert!(pace.take(start + PAUSE_MS).is_err());
        // After a rest it is as at the beginning.
        let later = start + PAUSE_MS * (AT_ONCE + 1);
        assert_eq!((0..20).filter(|_| pace.take(later).is_ok()).count(), 8);
    }
}

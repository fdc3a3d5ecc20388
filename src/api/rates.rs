//! How many requests a listener answers: apart for those with the token and for all others, so that whoever has no token
//! cannot keep the owner out. The token itself is beyond guessing; what is bounded here is the work.
use super::Problem;
use crate::mutant;
use crate::session::limits::Bucket;

/// Requests with the token, per second and at once.
const ADMITTED: (u64, u64) = (200, 400);
/// Requests without it, or that are refused for another reason, per second and at once.
const OTHERS: (u64, u64) = (50, 100);

/// What is left for now.
pub struct Rates {
    admitted: Bucket,
    others: Bucket,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates { admitted: Bucket::new(ADMITTED.0, ADMITTED.1), others: Bucket::new(OTHERS.0, OTHERS.1) }
    }
}

impl Rates {
    /// Counts a request at a monotonic time in microseconds; `Err` if there were too many of its kind.
    pub fn count(&mut self, now_us: u64, with_token: bool) -> Result<(), Problem> {
        let (bucket, free) = if with_token {
            (&mut self.admitted, mutant::out("api-rate"))
        } else {
            (&mut self.others, mutant::out("api-refusal-rate"))
        };
        if bucket.available(now_us) == 0 && !free {
            return Err(Problem::rate_limited("Too many requests; ask more slowly.", 1));
        }
        bucket.take(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn most(rates: &mut Rates, now_us: u64, with_token: bool) -> u64 {
        (0..1000).take_while(|_| rates.count(now_us, with_token).is_ok()).count() as u64
    }

    #[test]
    fn each_kind_has_its_own_rate() {
        let mut rates = Rates::default();
        assert_eq!(most(&mut rates, SECOND, false), OTHERS.1);
        assert_eq!(most(&mut rates, SECOND, true), ADMITTED.1, "the owner is not kept out");
        assert_eq!(most(&mut rates, 2 * SECOND, false), OTHERS.0);
        assert_eq!(most(&mut rates, 2 * SECOND, true), ADMITTED.0);
        assert_eq!(most(&mut rates, 1000 * SECOND, true), ADMITTED.1);
        let refused = rates.count(1000 * SECOND, true).unwrap_err();
        assert_eq!((refused.status, refused.slug), (429, "rate-limited"));
        assert_eq!(refused.field, Some(("Retry-After", "1".to_owned())));
    }
}

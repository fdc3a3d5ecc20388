//! Quantiles of latencies in fixed memory.

/// Latencies below this are counted exactly, in milliseconds.
pub const EXACT_BELOW_MS: u32 = 256;
/// Latencies from here on count as the largest one below; a connection has been given up by then.
pub const LATENCY_END_MS: u32 = 16_384;

/// log2 of the steps into which each doubling above [`EXACT_BELOW_MS`] is divided.
const STEP_BITS: u32 = 6;
const EXACT_BITS: u32 = EXACT_BELOW_MS.ilog2();
const OCTAVES: u32 = LATENCY_END_MS.ilog2() - EXACT_BITS;
const COUNTERS: usize = (EXACT_BELOW_MS + (OCTAVES << STEP_BITS)) as usize;

/// A log-linear histogram of whole milliseconds, 2.5 kB once something is in it.
///
/// A quantile is exact below [`EXACT_BELOW_MS`]; from there to [`LATENCY_END_MS`] it is at most 1/128 (0.8 %) off the
/// exact one: 64 steps to each doubling, and the middle of a step is what is given.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counters: Option<Box<[u32; COUNTERS]>>,
    total: u64,
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, ms: u32) {
        let counters = self.counters.get_or_insert_with(|| Box::new([0; COUNTERS]));
        if let Some(counter) = counters.get_mut(index(ms)) {
            *counter = counter.saturating_add(1);
            self.total += 1;
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Histogram) {
        let Some(theirs) = &other.counters else { return };
        let ours = self.counters.get_or_insert_with(|| Box::new([0; COUNTERS]));
        ours.iter_mut().zip(theirs.iter()).for_each(|(a, b)| *a = a.saturating_add(*b));
        self.total += other.total;
    }

    /// The quantile of `percent` by nearest rank: the smallest latency that at least so many percent do not exceed; 0 if
    /// nothing was counted.
    pub fn quantile(&self, percent: u32) -> u32 {
        let Some(counters) = &self.counters else { return 0 };
        let rank = (self.total * u64::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        for (i, counter) in (0u32..).zip(counters.iter()) {
            seen += u64::from(*counter);
            if seen >= rank {
                return middle(i);
            }
        }
        0
    }
}

fn index(ms: u32) -> usize {
    let ms = ms.min(LATENCY_END_MS - 1);
    if ms < EXACT_BELOW_MS {
        return ms as usize;
    }
    let octave = ms.ilog2() - EXACT_BITS;
    let step = (ms >> (octave + EXACT_BITS - STEP_BITS)) - (1 << STEP_BITS);
    (EXACT_BELOW_MS + (octave << STEP_BITS) + step) as usize
}

/// The middle of what a counter stands for.
fn middle(index: u32) -> u32 {
    let Some(above) = index.checked_sub(EXACT_BELOW_MS) else { return index };
    let (octave, step) = (above >> STEP_BITS, above & ((1 << STEP_BITS) - 1));
    let width = 1 << (octave + EXACT_BITS - STEP_BITS);
    ((1 << STEP_BITS) + step) * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(latencies: &[u32]) -> Histogram {
        let mut h = Histogram::default();
        latencies.iter().for_each(|ms| h.record(*ms));
        h
    }

    fn nearest_rank(latencies: &[u32], percent: usize) -> u32 {
        let mut sorted = latencies.to_vec();
        sorted.sort_unstable();
        sorted[((sorted.len() * percent).div_ceil(100)).max(1) - 1]
    }

    #[test]
    fn nothing_counted_is_zero() {
        assert_eq!((of(&[]).quantile(50), of(&[]).quantile(95)), (0, 0));
    }

    #[test]
    fn it_is_the_nearest_rank() {
        assert_eq!(of(&[15, 20, 35, 40, 50]).quantile(50), 35);
        assert_eq!(of(&[15, 20, 35, 40]).quantile(50), 20);
        assert_eq!(of(&[7]).quantile(95), 7);
        let twenty: Vec<u32> = (1..=20).collect();
        assert_eq!(of(&twenty).quantile(95), 19);
    }

    #[test]
    fn every_counter_is_reached_and_holds_its_own_middle() {
        let mut last = None;
        for ms in 0..LATENCY_END_MS {
            let i = index(ms);
            assert!(last.is_none_or(|l| i == l || i == l + 1), "{ms}");
            assert_eq!(index(middle(i as u32)), i, "{ms}");
            last = Some(i);
        }
        assert_eq!(last, Some(COUNTERS - 1));
        assert_eq!(index(u32::MAX), COUNTERS - 1);
    }

    proptest! {
        #[test]
        fn the_error_is_within_the_stated_bound(
            latencies in prop::collection::vec(prop_oneof![0u32..300, 0u32..LATENCY_END_MS], 1..200)
        ) {
            let h = of(&latencies);
            for percent in [50, 95] {
                let (exact, ours) = (nearest_rank(&latencies, percent), h.quantile(percent as u32));
                if exact < EXACT_BELOW_MS {
                    prop_assert_eq!(ours, exact);
                } else {
                    prop_assert!(ours.abs_diff(exact) * 128 <= exact, "{} for {}", ours, exact);
                }
            }
        }

        #[test]
        fn merged_histograms_are_one(a in prop::collection::vec(0u32..20_000, 0..50), b in prop::collection::vec(0u32..20_000, 0..50)) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let whole = of(&[a, b].concat());
            prop_assert_eq!(merged.count(), whole.count());
            prop_assert_eq!((merged.quantile(50), merged.quantile(95)), (whole.quantile(50), whole.quantile(95)));
        }
    }
}

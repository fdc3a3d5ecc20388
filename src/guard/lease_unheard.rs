//! Ends of leases' connections that nobody was there to hear of: an earlier guard had let them begin, or `run`'s connection was
//! gone. Who connects soon is told, so that what they carried is counted.
use super::lease_flows::MAX_FLOWS;
use super::lease_wire::Counted;
use std::collections::VecDeque;

/// How long they are kept, milliseconds: `run` connects within a second, and waits no longer for them itself.
const KEPT_MS: u64 = 60_000;

/// Those ends.
#[derive(Debug, Default)]
pub struct Unheard(VecDeque<(u64, Counted)>);

impl Unheard {
    /// One more. There are no more of them than connections; beyond that the oldest is forgotten.
    pub fn add(&mut self, counted: Counted, now_ms: u64) {
        if self.0.len() >= MAX_FLOWS as usize {
            self.0.pop_front();
        }
        self.0.push_back((now_ms, counted));
    }

    /// Those that may still be waited for.
    pub fn fresh(&mut self, now_ms: u64) -> Vec<Counted> {
        self.0.retain(|(since_ms, _)| now_ms.saturating_sub(*since_ms) <= KEPT_MS);
        self.0.iter().map(|(_, counted)| *counted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_kept_a_while_and_in_a_bounded_number() {
        let mut unheard = Unheard::default();
        let of = |ct| Counted { ct, ..Counted::default() };
        (0..=MAX_FLOWS).for_each(|ct| unheard.add(of(ct), 1_000));
        let fresh = unheard.fresh(1_000);
        assert_eq!((fresh.len(), fresh.first()), (MAX_FLOWS as usize, Some(&of(1))));
        unheard.add(of(7), 2_000);
        assert_eq!(unheard.fresh(1_001 + KEPT_MS), [of(7)]);
        assert_eq!(unheard.fresh(2_000 + KEPT_MS), [of(7)], "a second that connects is told as well");
        assert_eq!(unheard.fresh(2_001 + KEPT_MS), []);
    }
}

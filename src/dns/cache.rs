//! Answers kept for as long as they hold.
use super::{Answer, ResolveError};
use std::collections::HashMap;
use std::rc::Rc;

/// Most names kept.
pub const MAX_NAMES: usize = 512;
/// Longest and shortest time an answer is kept, whatever its records say.
const MAX_MS: u64 = 3_600_000;
const MIN_MS: u64 = 1000;

type Kept = Result<Rc<Answer>, ResolveError>;

/// A bounded cache; the name that ends first makes room.
#[derive(Debug, Default)]
pub struct Cache {
    names: HashMap<String, (u64, Kept)>,
}

impl Cache {
    /// What is known of `host` at `mono_ms`.
    pub fn find(&self, host: &str, mono_ms: u64) -> Option<Kept> {
        let (until, kept) = self.names.get(host)?;
        (mono_ms < *until).then(|| kept.clone())
    }

    /// Keeps an answer for `ttl_ms`, at least a second and at most an hour.
    pub fn keep(&mut self, host: &str, kept: Kept, mono_ms: u64, ttl_ms: u64) {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(host) {
            self.names.retain(|_, (until, _)| mono_ms < *until);
        }
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(host) {
            let first = self.names.iter().min_by_key(|(_, (until, _))| *until).map(|(name, _)| name.clone());
            if let Some(first) = first {
                self.names.remove(&first);
            }
        }
        let until = mono_ms.saturating_add(ttl_ms.clamp(MIN_MS, MAX_MS));
        self.names.insert(host.to_owned(), (until, kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Kept {
        Err(ResolveError::NoAddress)
    }

    #[test]
    fn an_answer_ends_with_its_time() {
        let mut cache = Cache::default();
        cache.keep("a.test", Ok(Rc::default()), 100, 5000);
        assert_eq!(cache.find("a.test", 5099), Some(Ok(Rc::default())));
        assert_eq!(cache.find("a.test", 5100), None);
        assert_eq!(cache.find("b.test", 100), None);
    }

    #[test]
    fn times_have_bounds() {
        let mut cache = Cache::default();
        cache.keep("short.test", none(), 0, 0);
        cache.keep("long.test", none(), 0, u64::MAX);
        assert!(cache.find("short.test", 999).is_some());
        assert!(cache.find("short.test", 1000).is_none());
        assert!(cache.find("long.test", 3_599_999).is_some());
        assert!(cache.find("long.test", 3_600_000).is_none());
    }

    #[test]
    fn it_is_bounded_and_the_first_to_end_makes_room() {
        let mut cache = Cache::default();
        for i in 0..MAX_NAMES as u64 {
            cache.keep(&format!("{i}.test"), none(), 0, 10_000 + i);
        }
        cache.keep("new.test", none(), 1, 10_000);
        assert_eq!(cache.names.len(), MAX_NAMES);
        assert!(cache.find("0.test", 1).is_none());
        assert!(cache.find("1.test", 1).is_some());
        assert!(cache.find("new.test", 1).is_some());
    }
}

//! Sessions that are over: their buyers are told so (`session-closed`), and are not taken for strangers.
use crate::time::Unix;
use std::collections::VecDeque;

/// Most sessions remembered; a buyer of one before them is answered like a stranger.
pub const MAX_CLOSED: usize = 1024;

/// Token hashes of sessions that are over, the oldest first, each until its `expiresAt`.
#[derive(Debug, Default)]
pub struct Closed(VecDeque<Entry>);

#[derive(Debug)]
struct Entry {
    id: String,
    token_hash: String,
    until: Unix,
}

impl Closed {
    /// Remembers a session.
    pub fn remember(&mut self, id: &str, token_hash: &str, until: Unix, now: Unix) {
        self.0.retain(|e| e.until > now && e.id != id);
        if self.0.len() >= MAX_CLOSED {
            self.0.pop_front();
        }
        self.0.push_back(Entry { id: id.to_owned(), token_hash: token_hash.to_owned(), until });
    }

    /// The token hash (`b3:…`) of a session that is over and would not have expired yet.
    pub fn token_hash(&self, id: &str, now: Unix) -> Option<&str> {
        self.0.iter().find(|e| e.id == id && e.until > now).map(|e| e.token_hash.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_remembered_until_it_would_have_expired() {
        let mut closed = Closed::default();
        closed.remember("a", "b3:1", Unix(100), Unix(0));
        assert_eq!(closed.token_hash("a", Unix(99)), Some("b3:1"));
        assert_eq!(closed.token_hash("a", Unix(100)), None);
        assert_eq!(closed.token_hash("b", Unix(0)), None);
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_limit() {
        let mut closed = Closed::default();
        for i in 0..=MAX_CLOSED {
            closed.remember(&i.to_string(), "b3:1", Unix(100), Unix(0));
        }
        assert_eq!(closed.0.len(), MAX_CLOSED);
        assert_eq!(closed.token_hash("0", Unix(0)), None);
        assert!(closed.token_hash("1", Unix(0)).is_some());
        closed.remember("last", "b3:1", Unix(200), Unix(150));
        assert_eq!(closed.0.len(), 1);
    }
}

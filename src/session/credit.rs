//! How far a session's ends are believed when they say that less arrived than has passed.
//!
//! What is sent twice crosses the router twice and counts once, as it does on the relay. How much that was only the ends
//! know: their last sequence numbers say it. A buyer who has both ends in his hand could say so of everything. So what a
//! session is given in all is bounded by what it has carried: a line that loses more carries next to nothing.
//!
//! The bound holds for the session and not for each of its connections: one connection may have had all the bad luck, and many
//! small ones must not add up to a gift.

/// Who says where a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A side that gains by a smaller number, and nobody else.
    Alone,
    /// The target, or a buyer whose last byte the target has acknowledged.
    Confirmed,
}

impl Word {
    /// This part of what was carried, and so many bytes, may have been sent twice.
    const fn bound(self) -> (u64, u64) {
        match self {
            Word::Alone => (16, 64 << 10),
            Word::Confirmed => (8, 256 << 10),
        }
    }
}

/// What a session was believed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    carried: u64,
    given: u64,
}

impl Credit {
    /// Bytes of payload have crossed the router, what was sent twice included.
    pub fn carried(&mut self, bytes: u64) {
        self.carried = self.carried.saturating_add(bytes);
    }

    /// Whether it is believed that so many of them were sent twice.
    pub fn take(&mut self, bytes: u64, word: Word) -> bool {
        let (part, first) = word.bound();
        let given = self.given.saturating_add(bytes);
        let believed = given <= self.carried / part + first;
        if believed {
            self.given = given;
        }
        believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_believed_to_its_bound_and_both_draw_on_one_credit() {
        for (word, carried, bound) in
            [(Word::Alone, 160, 65_536 + 10), (Word::Confirmed, 160, 262_144 + 20), (Word::Alone, 0, 65_536)]
        {
            let mut credit = Credit::default();
            credit.carried(carried);
            assert!(!credit.take(bound + 1, word));
            assert!(credit.take(bound - 1, word) && credit.take(1, word));
            assert!(!credit.take(1, word));
        }
        let mut credit = Credit::default();
        assert!(credit.take(65_537, Word::Confirmed) && !credit.take(1, Word::Alone));
        credit.carried(16 + 15);
        assert!(!credit.take(1, Word::Alone));
        credit.carried(1);
        assert!(credit.take(1, Word::Alone), "what is carried gives new credit");
        assert!(!credit.take(u64::MAX, Word::Confirmed));
        credit.carried(u64::MAX);
        assert!(credit.take(1 << 40, Word::Confirmed));
    }
}

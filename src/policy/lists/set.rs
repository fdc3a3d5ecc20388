//! A set of names in 8.3 bytes for each: sorted keyed hashes, found by their first bits.
//!
//! 62 bits of SipHash-1-3 under a random key stand for a name, and the last two bits for what its entry covers. A name
//! that is in no list is taken for one that is with a probability of (entries / 2^62) for each of its suffixes: for a
//! million entries once in 10^12 look-ups. Nobody can look for such a name beforehand, since the key is the process's own
//! and never leaves it.
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Hashes that are gathered in one piece while a set is built.
const PIECE: usize = 1 << 15;
/// Names of one bucket of the index, about.
const BUCKET: usize = 16;
const KIND: u64 = 3;

/// What an entry covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// The name itself.
    Exact = 1,
    /// What is below it.
    Below = 2,
    /// Both.
    Tree = 3,
}

/// A set of names, each with what it covers.
#[derive(Debug, Default)]
pub struct NameSet {
    key: RandomState,
    /// In order; the kind in the last two bits.
    entries: Vec<u64>,
    /// Where the entries whose first bits are 0, 1, 2, … begin.
    index: Vec<u32>,
    index_bits: u32,
}

impl NameSet {
    /// Whether an entry covers `host`, a name in normal form (lower case, A-labels, no final dot).
    pub fn covers(&self, host: &str) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let mut hasher = self.key.build_hasher();
        // From the last label to the first, so that each suffix's hash is a step on the way to the next.
        let mut end = host.len();
        loop {
            let start = host.get(..end).and_then(|h| h.rfind('.')).map_or(0, |dot| dot + 1);
            hasher.write(host.get(start..end).unwrap_or_default().as_bytes());
            let found = self.kinds(hasher.clone().finish());
            let own = start == 0;
            let wanted = if own { Cover::Exact } else { Cover::Below };
            if found & wanted as u64 != 0 {
                return true;
            }
            if own {
                return false;
            }
            hasher.write_u8(b'.');
            end = start - 1;
        }
    }

    /// The number of different names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Memory of the entries and their index, bytes.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * 8 + self.index.capacity() * 4
    }

    /// What the entry with this hash covers; 0 if there is none.
    fn kinds(&self, hash: u64) -> u64 {
        let bucket = usize::try_from(hash.checked_shr(64 - self.index_bits).unwrap_or(0)).unwrap_or(0);
        let bound = |at: usize| self.index.get(at).map_or(self.entries.len(), |b| *b as usize);
        let within = self.entries.get(bound(bucket)..bound(bucket + 1)).unwrap_or_default();
        let at = within.binary_search_by_key(&(hash & !KIND), |e| e & !KIND);
        at.ok().and_then(|at| within.get(at)).map_or(0, |e| e & KIND)
    }
}

/// Gathers names. Its memory peaks at the set's and one piece more: pieces are freed as they are moved.
#[derive(Debug, Default)]
pub struct Builder {
    key: RandomState,
    pieces: Vec<Vec<u64>>,
    count: usize,
}

impl Builder {
    /// Adds a name in normal form.
    pub fn add(&mut self, name: &str, cover: Cover) {
        let mut hasher = self.key.build_hasher();
        for (at, label) in name.rsplit('.').enumerate() {
            if at > 0 {
                hasher.write_u8(b'.');
            }
            hasher.write(label.as_bytes());
        }
        let entry = (hasher.finish() & !KIND) | cover as u64;
        match self.pieces.last_mut().filter(|p| p.len() < PIECE) {
            Some(piece) => piece.push(entry),
            None => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(entry);
                self.pieces.push(piece);
            }
        }
        self.count += 1;
    }

    /// Names added so far, repeated ones each time.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The set.
    pub fn finish(self) -> NameSet {
        let mut entries: Vec<u64> = Vec::with_capacity(self.count);
        for piece in self.pieces {
            entries.extend(piece);
        }
        entries.sort_unstable();
        entries.dedup_by(|later, kept| {
            let same = *later & !KIND == *kept & !KIND;
            *kept |= if same { *later & KIND } else { 0 };
            same
        });
        if entries.len() < self.count {
            entries.shrink_to_fit();
        }
        let index_bits = (entries.len() / BUCKET).max(1).ilog2();
        NameSet { key: self.key, index: index(&entries, index_bits), index_bits, entries }
    }
}

/// Where the entries begin whose first `bits` bits are 0, 1, 2, …
fn index(entries: &[u64], bits: u32) -> Vec<u32> {
    let buckets = 1u64 << bits;
    (0..buckets)
        .map(|bucket| {
            let first = bucket.checked_shl(64 - bits).unwrap_or(0);
            u32::try_from(entries.partition_point(|e| *e < first)).unwrap_or(u32::MAX)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(names: &[(&str, Cover)]) -> NameSet {
        let mut builder = Builder::default();
        names.iter().for_each(|(name, cover)| builder.add(name, *cover));
        builder.finish()
    }

    #[test]
    fn an_entry_covers_what_it_says() {
        let s =
            set(&[("exact.test", Cover::Exact), ("below.test", Cover::Below), ("tree.test", Cover::Tree)]);
        for yes in ["exact.test", "a.below.test", "b.a.below.test", "tree.test", "a.tree.test"] {
            assert!(s.covers(yes), "{yes}");
        }
        for no in ["a.exact.test", "below.test", "xtree.test", "tree.test.evil", "test", "", ".", "e.tes"] {
            assert!(!s.covers(no), "{no}");
        }
    }

    #[test]
    fn entries_of_one_name_add_up() {
        let s = set(&[("a.test", Cover::Below), ("a.test", Cover::Exact), ("a.test", Cover::Exact)]);
        assert_eq!((s.len(), s.covers("a.test"), s.covers("b.a.test")), (1, true, true));
        assert!(!NameSet::default().covers("a.test"));
    }

    #[test]
    fn labels_are_not_run_together() {
        let s = set(&[("ab.c", Cover::Tree)]);
        assert!(!s.covers("a.bc") && !s.covers("abc") && !s.covers("a.b.c"));
    }

    #[test]
    fn a_hundred_thousand_names_take_less_than_ten_bytes_each() {
        let mut builder = Builder::default();
        for n in 0..100_000 {
            builder.add(&format!("host{n}.example"), Cover::Exact);
        }
        let set = builder.finish();
        assert_eq!(set.len(), 100_000);
        assert!(set.bytes() <= 1_000_000, "{}", set.bytes());
        assert!((0..100_000).all(|n| set.covers(&format!("host{n}.example"))));
        assert!(!(100_000..200_000).any(|n| set.covers(&format!("host{n}.example"))));
    }

    #[test]
    fn each_set_has_a_key_of_its_own() {
        let (one, other) = (set(&[("a.test", Cover::Exact)]), set(&[("a.test", Cover::Exact)]));
        assert_ne!(one.entries, other.entries);
    }

    proptest! {
        #[test]
        fn agrees_with_a_search_through_the_list(
            names in proptest::collection::vec(("[ab]{1,2}(\\.[ab]{1,2}){0,3}", 0..3usize), 0..60),
            host in "[ab]{1,2}(\\.[ab]{1,2}){0,4}",
        ) {
            let kinds = [Cover::Exact, Cover::Below, Cover::Tree];
            let names: Vec<(&str, Cover)> = names.iter().map(|(n, k)| (n.as_str(), kinds[*k])).collect();
            let plain = names.iter().any(|(n, cover)| {
                let below = host.ends_with(&format!(".{n}"));
                match cover {
                    Cover::Exact => host == *n,
                    Cover::Below => below,
                    Cover::Tree => host == *n || below,
                }
            });
            prop_assert_eq!(set(&names).covers(&host), plain);
        }
    }
}

//! The first bytes of what a buyer sends, out of segments that come in any order and shape.
//!
//! Where two segments overlap they must agree. A stack keeps the first bytes or the last ones, and what got lost on the
//! way is not known here: if they differ, the target could see another hello than the one that is judged.
use crate::mutant::out;

/// Bytes of a stream that are kept at once: the longest hello, and some early data behind it.
pub const WINDOW: usize = 20 * 1024;
/// Pieces of a stream that may lie behind gaps.
pub const MAX_PIECES: usize = 32;
/// The buffer grows by so much, not twofold; that of a piece by less.
const STEP: usize = 1024;
const PIECE_STEP: usize = 64;

/// What became of a segment's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Some of them were not known before.
    New,
    /// All of them were.
    Known,
    /// Not all of them are kept: they lie before the stream or behind the window, or there are too many gaps.
    Outside,
    /// They differ from what was sent before for the same place.
    Conflict,
}

/// A stream from its first byte on. Places in it are counted from there.
#[derive(Debug)]
pub struct Stream {
    base: u32,
    /// Place of the first byte that is kept.
    start: usize,
    /// Everything from there without a gap.
    bytes: Vec<u8>,
    /// What lies behind gaps: place and bytes, in order, neither overlapping nor touching.
    pieces: Vec<(usize, Vec<u8>)>,
}

impl Stream {
    /// An empty stream whose first byte has this sequence number.
    pub fn new(base: u32) -> Stream {
        Stream { base, start: 0, bytes: Vec::new(), pieces: Vec::new() }
    }

    /// The place of a sequence number; `None` if it lies before the stream.
    pub fn place(&self, seq: u32) -> Option<usize> {
        let distance = seq.wrapping_sub(self.base);
        usize::try_from(distance).ok().filter(|_| distance < 1 << 31)
    }

    /// The place behind the last byte that has come without a gap.
    pub fn end(&self) -> usize {
        self.start + self.bytes.len()
    }

    /// The bytes from a place on, up to the first gap.
    pub fn from(&self, place: usize) -> &[u8] {
        place.checked_sub(self.start).and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }

    /// Bytes of memory that its content takes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.pieces.iter().map(|(_, b)| b.capacity() + 32).sum::<usize>()
    }

    /// Takes a segment's bytes, as many as fit into the window.
    pub fn take(&mut self, place: usize, bytes: &[u8]) -> Taken {
        // What was forgotten has been acknowledged by the target: nothing there counts any more.
        let forgotten = self.start.saturating_sub(place).min(bytes.len());
        let (place, bytes) = (place + forgotten, bytes.get(forgotten..).unwrap_or_default());
        let room = (self.start + WINDOW).saturating_sub(place);
        let kept = bytes.get(..room).unwrap_or(bytes);
        if self.differs(place, kept) && !out("lease-overlap") {
            return Taken::Conflict;
        }
        let before = self.known();
        let all = self.add(place, kept) && kept.len() == bytes.len();
        match (all, self.known() > before) {
            (false, _) => Taken::Outside,
            (true, true) => Taken::New,
            (true, false) => Taken::Known,
        }
    }

    /// Forgets what lies before a place; later copies of it are taken for known.
    pub fn forget(&mut self, place: usize) {
        let count = place.saturating_sub(self.start).min(self.bytes.len());
        self.bytes.drain(..count);
        self.start += count;
    }

    fn known(&self) -> usize {
        self.bytes.len() + self.pieces.iter().map(|(_, b)| b.len()).sum::<usize>()
    }

    fn differs(&self, place: usize, bytes: &[u8]) -> bool {
        let first = std::iter::once((self.start, &self.bytes));
        let mut all = first.chain(self.pieces.iter().map(|(at, b)| (*at, b)));
        all.any(|(at, known)| {
            let from = at.max(place);
            let to = (at + known.len()).min(place + bytes.len());
            from < to && known.get(from - at..to - at) != bytes.get(from - place..to - place)
        })
    }

    /// Adds what is not known yet of these bytes; false if some of them found no place.
    fn add(&mut self, place: usize, bytes: &[u8]) -> bool {
        let (mut at, end) = (place.max(self.end()), place + bytes.len());
        while at < end {
            let next = self.pieces.iter().position(|(from, b)| from + b.len() > at);
            let piece = next.and_then(|n| self.pieces.get(n)).map(|(from, b)| (*from, from + b.len()));
            match piece {
                Some((from, to)) if from <= at => at = to,
                _ => {
                    let to = piece.map_or(end, |(from, _)| from.min(end));
                    let new = bytes.get(at - place..to - place).unwrap_or_default();
                    if !self.put(at, new, next) {
                        return false;
                    }
                    // It may have reached a piece, which then belongs to the bytes without a gap.
                    at = to.max(self.end());
                }
            }
        }
        true
    }

    /// Puts bytes that nothing overlaps where they belong: before the piece with number `next`.
    fn put(&mut self, at: usize, new: &[u8], next: Option<usize>) -> bool {
        if at == self.end() {
            append(&mut self.bytes, new, STEP);
            while self.pieces.first().is_some_and(|(from, _)| *from == self.end()) {
                let (_, piece) = self.pieces.remove(0);
                append(&mut self.bytes, &piece, STEP);
            }
            return true;
        }
        let next = next.unwrap_or(self.pieces.len());
        let before = next.checked_sub(1).and_then(|n| self.pieces.get_mut(n));
        if let Some((_, piece)) = before.filter(|(from, b)| from + b.len() == at) {
            append(piece, new, PIECE_STEP);
            self.join(next - 1);
            return true;
        }
        if self.pieces.len() >= MAX_PIECES && self.pieces.get(next).is_none_or(|(f, _)| *f != at + new.len())
        {
            return false;
        }
        self.pieces.insert(next, (at, new.to_vec()));
        self.join(next);
        true
    }

    /// Joins a piece with its successor if they touch.
    fn join(&mut self, number: usize) {
        let touches = match self.pieces.get(number..number + 2) {
            Some([(from, bytes), (next, _)]) => from + bytes.len() == *next,
            _ => false,
        };
        if touches {
            let (_, after) = self.pieces.remove(number + 1);
            if let Some((_, bytes)) = self.pieces.get_mut(number) {
                append(bytes, &after, PIECE_STEP);
            }
        }
    }
}

fn append(to: &mut Vec<u8>, new: &[u8], step: usize) {
    if to.capacity() - to.len() < new.len() {
        to.reserve_exact(new.len().max(step));
    }
    to.extend_from_slice(new);
}

#[cfg(test)]
mod tests;

//! What the two ends of an undecided flow say, in order: the buyer's hello, what may follow it before the target has
//! answered, and whether that answer asks for a second hello (RFC 8446 sections 4.1.4, 4.2.10 and appendix D.4).
use super::reassembly::{Stream, Taken};
use crate::mutant::out;
use crate::policy::refusal::Refusal;
use crate::tls::client_hello::{Hello, HelloScan, Progress};

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const RECORD_HEADER: usize = 5;
const SERVER_HELLO: u8 = 2;

/// The verdict on a hello that is complete.
pub type Judge<'a> = &'a mut dyn FnMut(&Hello) -> Result<(), Refusal>;

/// The buyer's side.
#[derive(Debug)]
pub struct Inspector {
    stream: Stream,
    part: Part,
    /// Whether the target has asked for another hello.
    again: bool,
    /// Place up to which the target may have the bytes.
    cleared: usize,
    /// Where the last hello that was accepted ends.
    hello_end: Option<usize>,
    /// How many were accepted.
    hellos: u8,
}

#[derive(Debug)]
enum Part {
    /// A hello that begins at this place.
    Hello(usize, HelloScan),
    /// Records behind a hello: the place that was read up to, and bytes of the current one still to come.
    Tail(usize, usize),
}

impl Inspector {
    /// Nothing has been said. `base` is the sequence number of the first byte.
    pub fn new(base: u32) -> Inspector {
        let part = Part::Hello(0, HelloScan::default());
        Inspector { stream: Stream::new(base), part, again: false, cleared: 0, hello_end: None, hellos: 0 }
    }

    /// The bytes of the stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Place up to which the target may have the bytes.
    pub fn cleared(&self) -> usize {
        self.cleared
    }

    /// Whether all hellos that the target has asked for were accepted, and the place at which the last one ends.
    pub fn settled_at(&self) -> Option<usize> {
        let wanted = if self.again { 2 } else { 1 };
        self.hello_end.filter(|_| self.hellos == wanted)
    }

    /// Takes a segment's bytes and reads on.
    ///
    /// # Errors
    /// What the flow is refused for: bytes that differ from those sent before, or what a hello is refused for.
    pub fn take(&mut self, place: usize, bytes: &[u8], judge: Judge<'_>) -> Result<Taken, Refusal> {
        let taken = self.stream.take(place, bytes);
        if taken == Taken::Conflict {
            return Err(Refusal::NotTls);
        }
        self.read(judge)?;
        Ok(taken)
    }

    /// Whether the target has asked for another hello.
    pub fn is_asked_again(&self) -> bool {
        self.again
    }

    /// The target has asked for another hello, and acknowledged the first one up to a place.
    pub fn ask_again(&mut self, acknowledged: usize) {
        self.again = true;
        let read = match self.part {
            Part::Hello(from, _) => from,
            Part::Tail(at, _) => at,
        };
        self.stream.forget(acknowledged.min(read));
    }

    fn read(&mut self, judge: Judge<'_>) -> Result<(), Refusal> {
        loop {
            match &mut self.part {
                Part::Hello(from, scan) => match scan.advance(self.stream.from(*from)) {
                    Progress::NeedMore => return Ok(()),
                    Progress::Refused(refusal) => return Err(refusal),
                    Progress::Complete => {
                        let hello = scan.hello().ok_or(Refusal::NotTls)?;
                        judge(hello)?;
                        let end = *from + scan.end().unwrap_or(0);
                        (self.cleared, self.hello_end) = (end, Some(end));
                        self.hellos += 1;
                        self.part = Part::Tail(end, 0);
                    }
                },
                Part::Tail(at, left) => {
                    let bytes = self.stream.from(*at);
                    let skipped = bytes.len().min(*left);
                    (*at, *left) = (*at + skipped, *left - skipped);
                    self.cleared = self.cleared.max(*at);
                    let header = bytes.get(skipped..).unwrap_or_default();
                    match header.first() {
                        None => return Ok(()),
                        Some(&HANDSHAKE) if self.again && self.hellos == 1 => {
                            self.part = Part::Hello(*at, HelloScan::default());
                            continue;
                        }
                        Some(&(CHANGE_CIPHER_SPEC | APPLICATION_DATA)) => {}
                        // A second hello that nobody has asked for would be read by a target that then asks for it.
                        Some(_) if out("lease-second-hello") => {}
                        Some(_) => return Err(Refusal::NotTls),
                    }
                    let Some([_, _, _, high, low]) = header.first_chunk::<RECORD_HEADER>() else {
                        self.cleared = *at + header.len();
                        return Ok(());
                    };
                    *left = RECORD_HEADER + usize::from(u16::from_be_bytes([*high, *low]));
                }
            }
        }
    }
}

/// What the target's first record turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not enough of it has come.
    Unknown,
    /// A HelloRetryRequest: another hello will come, in the clear.
    Retry,
    /// Anything else: no other hello in the clear will be listened to.
    Final,
}

/// The target's side: the bytes that tell a HelloRetryRequest.
#[derive(Debug)]
pub struct AnswerReader {
    base: u32,
    first: Vec<u8>,
}

/// Record header, handshake header, version and random.
const ANSWER: usize = RECORD_HEADER + 4 + 2 + 32;
/// SHA-256 of `HelloRetryRequest` (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

impl AnswerReader {
    /// Nothing has been said. `base` is the sequence number of the first byte.
    pub fn new(base: u32) -> AnswerReader {
        AnswerReader { base, first: Vec::new() }
    }

    /// Takes a segment's bytes. What lies behind a gap is left out: the buyer cannot use it before the gap is filled,
    /// and what fills it comes by here.
    pub fn take(&mut self, seq: u32, bytes: &[u8]) {
        let have = u32::try_from(self.first.len()).unwrap_or(0);
        let known = self.base.wrapping_add(have).wrapping_sub(seq);
        let new = usize::try_from(known).ok().and_then(|known| bytes.get(known..)).unwrap_or_default();
        let room = ANSWER - self.first.len();
        self.first.extend(new.iter().take(room));
    }

    /// What it is.
    ///
    /// # Errors
    /// A ServerHello in records so short that it cannot be told from a request.
    pub fn answer(&self) -> Result<Answer, Refusal> {
        let byte = |at: usize| self.first.get(at).copied();
        match (byte(0), byte(RECORD_HEADER)) {
            (None, _) | (Some(HANDSHAKE), None) => return Ok(Answer::Unknown),
            (Some(HANDSHAKE), Some(SERVER_HELLO)) => {}
            _ => return Ok(Answer::Final),
        }
        let length =
            byte(3).zip(byte(4)).map_or(0, |(high, low)| usize::from(u16::from_be_bytes([high, low])));
        if length < ANSWER - RECORD_HEADER {
            return Err(Refusal::NotTls);
        }
        let random = self.first.get(ANSWER - 32..).unwrap_or_default();
        Ok(match RETRY.starts_with(random) {
            false => Answer::Final,
            true if random.len() == 32 => Answer::Retry,
            true => Answer::Unknown,
        })
    }
}

#[cfg(test)]
mod tests;

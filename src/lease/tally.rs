//! The TCP payload of one flow whose packets the kernel alone sees, so that leases and relay count the same.
//!
//! While it lives, from conntrack's counters: bytes with headers, from which the headers go off. How long they are is known
//! from the SYNs but for selective acknowledgements (RFC 2018), which a side sends only while it misses something. What is
//! counted is a lower bound: it never exceeds what has passed. At the end, sequence numbers of FINs and RSTs say it
//! exactly, if the counters agree that they can be true: such a segment may be made up. Never is more believed than has
//! passed; less, as far as the other side does not know of more, and the session's [`Credit`] goes.
use super::event::{Note, Opening};
use crate::guard::lease_wire::Counted;
use crate::mutant::out;
use crate::session::Direction;
use crate::session::credit::{Credit, Word};

const TCP: u64 = 20;
const IPV4: u64 = 20;
const IPV6: u64 = 40;
/// With their padding (RFC 7323 appendix A).
const TIMESTAMPS: u64 = 12;
/// Options of a segment at most.
const OPTIONS: u64 = 40;
/// Payload per packet from which on a direction carries data for the most part, and not acknowledgements.
const DATA: u64 = 512;
/// Of such a direction so much stays uncounted while the flow lives, for selective acknowledgements in its segments and for what
/// is sent twice: less than 1 %. Where the other direction has at most an eighth of it there is little to acknowledge.
const MARGIN: u64 = 128;
const ONE_WAY: u64 = 8;
const ONE_WAY_MARGIN: u64 = 256;

/// The count of one flow.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    opening: Option<Opening>,
    sides: [Side; 2],
}

/// One direction.
#[derive(Clone, Debug, Default)]
struct Side {
    /// The counters when they were last read.
    last: Count,
    /// What was counted and nobody has looked at.
    fresh: Count,
    /// Of those, packets that came by the gate: it knows what they carried.
    seen: Count,
    seen_payload: u64,
    /// Bytes that their headers have less than is usual: resets need no timestamps (RFC 7323 section 3.2).
    short: u64,
    /// Everything but those.
    all: Count,
    /// Somebody has set the counters back: more may have passed than they show.
    set_back: bool,
    /// Payload of what came by the gate, and where the last of it ended.
    passed: u64,
    passed_to: Option<u32>,
    /// Payload that came by it behind that place: sent again, or for the first time together with what was.
    again: u64,
    /// Payload that the flow has for certain.
    sure: u64,
    told: u64,
    fin: Option<u32>,
    /// What the other has got of it, as that said when it ended.
    got: Option<u32>,
    /// Behind the last byte that the side had sent when it gave up, or that the target had got when it did. An end that is gone
    /// resets each late acknowledgement with that one's number (RFC 9293 section 3.5.2), so the furthest holds.
    reset: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    packets: u64,
    bytes: u64,
}

/// What is left to be settled when a flow is over: egress and ingress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Bytes that were not counted yet.
    pub more: [u64; 2],
    /// Bytes that were counted and never were: sent twice, and lost behind us the first time.
    pub less: [u64; 2],
}

impl Tally {
    /// Both SYNs are known.
    pub fn open(&mut self, opening: Opening) {
        self.opening = Some(opening);
    }

    /// The kernel has counted a packet of so many bytes, and so many of payload, that came by the gate.
    pub fn seen(&mut self, direction: Direction, length: u32, payload: u32) {
        let header = u64::from(length.saturating_sub(payload));
        let usual = self.opening.map_or(0, |opening| opening.header(opening.usual_options()));
        let side = self.side(direction);
        side.seen = side.seen.plus(Count { packets: 1, bytes: u64::from(length) });
        side.seen_payload += u64::from(payload);
        side.short += usual.saturating_sub(header);
    }

    /// The gate has let so much payload through, up to this sequence number.
    pub fn passed(&mut self, direction: Direction, payload: u32, end: u32) {
        let side = self.side(direction);
        let ahead = |to: u32| u32::try_from(end.wrapping_sub(to).cast_signed()).unwrap_or(0);
        let new = side.passed_to.map_or(payload, |to| payload.min(ahead(to)));
        if new > 0 {
            side.passed_to = Some(end);
        }
        side.passed += u64::from(new);
        side.again += u64::from(payload - new);
        side.sure += u64::from(new);
    }

    /// Takes the sequence numbers of an end.
    pub fn note(&mut self, note: &Note) {
        match *note {
            Note::Fin { direction, end, ack } => {
                self.side(direction).fin = Some(end);
                self.side(other(direction)).hear(ack);
            }
            Note::Reset { direction, seq, ack } => {
                let side = self.side(direction);
                side.reset = further(side.reset, Some(seq));
                let other = self.side(other(direction));
                // What a buyer who gives up has not got yet has come from the target all the same.
                let taken = ack.filter(|_| direction == Direction::Ingress);
                other.reset = further(other.reset, taken);
                other.hear(ack);
            }
            _ => {}
        }
    }

    /// Whether both sides have said their last.
    pub fn is_over(&self) -> bool {
        self.sides.iter().all(|s| s.fin.is_some())
    }

    /// The counters as they are now. Where they have fallen somebody has set them back to zero.
    pub fn count(&mut self, now: &Counted) {
        let Some(opening) = self.opening else { return };
        let read = now.packets.into_iter().zip(now.bytes);
        for (side, (packets, bytes)) in self.sides.iter_mut().zip(read) {
            side.read(Count { packets, bytes });
        }
        let [egress, ingress] =
            self.sides.each_ref().map(|side| side.fresh.payload(&opening, opening.usual_options()));
        for (side, others) in self.sides.iter_mut().zip([ingress, egress]) {
            side.look(others, &opening);
        }
    }

    /// Payload that has passed since the last call: egress and ingress.
    pub fn fresh(&mut self) -> [u64; 2] {
        self.sides.each_mut().map(Side::tell)
    }

    /// The flow is over, and its last counters, if there are any, are counted. The ends are believed as far as the session's
    /// credit goes.
    pub fn settle(self, credit: &mut Credit) -> Settled {
        let mut settled = Settled::default();
        let isn = self.opening.map_or([0; 2], |o| o.isn);
        let places = settled.more.iter_mut().zip(&mut settled.less);
        // The target gains nothing by its own.
        let sides = self.sides.iter().zip([Word::Alone, Word::Confirmed]);
        for (((side, word), isn), (more, less)) in sides.zip(isn).zip(places) {
            let exact = self.opening.and_then(|opening| side.exact(isn, &opening, word, credit));
            let all = exact.unwrap_or_else(|| side.sure.max(side.told).max(side.heard(isn, self.opening)));
            *more = all.saturating_sub(side.told);
            *less = side.told.saturating_sub(all);
        }
        settled
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        let [egress, ingress] = &mut self.sides;
        match direction {
            Direction::Egress => egress,
            Direction::Ingress => ingress,
        }
    }
}

fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Egress => Direction::Ingress,
        Direction::Ingress => Direction::Egress,
    }
}

impl Side {
    /// The other side has acknowledged so much.
    fn hear(&mut self, ack: Option<u32>) {
        self.got = further(self.got, ack);
    }

    fn read(&mut self, now: Count) {
        let fell = now.packets < self.last.packets || now.bytes < self.last.bytes;
        self.set_back |= fell;
        let new = if fell && !out("counters-set-back") { now } else { now.minus(self.last) };
        self.last = now;
        self.fresh = self.fresh.plus(new);
    }

    /// Looks at what was counted, while the other direction had so much payload.
    fn look(&mut self, others: u64, opening: &Opening) {
        // A packet is counted before it comes by. If the counters lack payload, they were set back before they were read;
        // until other packets have passed in their place nothing is certain.
        let [fresh, seen] = [self.fresh, self.seen].map(|c| Count { bytes: c.bytes + self.short, ..c });
        if let Some((unseen, least)) = fresh.without(seen, self.seen_payload, others, opening) {
            (self.fresh, self.seen) = Default::default();
            (self.seen_payload, self.short) = (0, 0);
            self.all = self.all.plus(unseen);
            self.sure += least;
        }
    }

    fn tell(&mut self) -> u64 {
        let new = self.sure.saturating_sub(self.told);
        self.told += new;
        new
    }

    /// What the sequence numbers say, if it can be true. `word` is whose the side's own FIN is.
    fn exact(&self, isn: u32, opening: &Opening, word: Word, credit: &mut Credit) -> Option<u64> {
        let most = self.passed + self.again + self.all.payload(opening, 0);
        let likely = self.likely(opening);
        credit.carried(likely);
        let place = |end: u32| place(end, isn, likely);
        let stands = |end: &u32| !self.is_refuted(*end) || out("lease-end-acknowledged");
        let (fin, reset) = (self.fin.filter(stands), self.reset.filter(stands));
        let confirmed = fin.is_some() && self.got == fin.map(|fin| fin.wrapping_add(1));
        let fins = if confirmed { Word::Confirmed } else { word };
        // More than has passed was lost before us: a reset counts that, and a FIN of which the other side has not said that it has all.
        let all_passed = |end: &u64| *end <= likely + self.again || self.set_back || out("lease-end-passed");
        let fin = fin.and_then(place).filter(|end| confirmed || all_passed(end));
        // A reset may count the FIN as well, or have the number of an acknowledgement that was late.
        let reset = reset.and_then(place).map(|end| if end == likely + 1 { likely } else { end });
        let ends = [(fin, fins), (reset.filter(all_passed), Word::Alone)];
        let mut believed = ends.into_iter().filter_map(|(end, word)| {
            let n = end.filter(|n| *n <= most || self.set_back || out("lease-end-plausible"))?;
            (credit.take(likely.saturating_sub(n), word) || out("lease-end-plausible")).then_some(n)
        });
        believed.next()
    }

    /// What the other side has got, if a reset says so and it can be true: no less has passed.
    fn heard(&self, isn: u32, opening: Option<Opening>) -> u64 {
        let likely = opening.map_or(0, |opening| self.likely(&opening));
        // It may count a FIN as well.
        let got = self.got.filter(|_| self.fin.is_none()).and_then(|got| place(got, isn, likely));
        got.filter(|got| *got <= likely).unwrap_or(0)
    }

    /// The payload, if every segment has the options that all have; what was sent twice included.
    fn likely(&self, opening: &Opening) -> u64 {
        self.passed + self.all.payload(opening, opening.usual_options())
    }

    /// Whether the other side has got more than the side says it has sent.
    fn is_refuted(&self, fin: u32) -> bool {
        self.got.is_some_and(|got| got.wrapping_sub(fin).cast_signed() > 1)
    }
}

/// The place of a sequence number in a stream that carries about so much. The numbers wrap every 4 GiB; the counters tell how
/// often they have.
fn place(end: u32, isn: u32, likely: u64) -> Option<u64> {
    let low = end.wrapping_sub(isn).wrapping_sub(1);
    let ahead = low.wrapping_sub(low_half(likely)).cast_signed();
    likely.checked_add_signed(i64::from(ahead))
}

/// The later of two sequence numbers.
fn further(known: Option<u32>, new: Option<u32>) -> Option<u32> {
    let later = |new: &u32| known.is_none_or(|known| new.wrapping_sub(known).cast_signed() > 0);
    new.filter(later).or(known)
}

fn low_half(n: u64) -> u32 {
    let [_, _, _, _, a, b, c, d] = n.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl Opening {
    fn usual_options(&self) -> u64 {
        if self.timestamps { TIMESTAMPS } else { 0 }
    }

    /// Bytes of a packet's headers with so many of options.
    fn header(&self, options: u64) -> u64 {
        let ip = if self.v6 { IPV6 } else { IPV4 };
        ip + TCP + options
    }
}

impl Count {
    fn plus(self, other: Count) -> Count {
        Count { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }

    fn minus(self, other: Count) -> Count {
        let packets = self.packets.saturating_sub(other.packets);
        Count { packets, bytes: self.bytes.saturating_sub(other.bytes) }
    }

    /// Without those of which the gate has seen the payload: what is left at most, and the payload that it holds for certain. The
    /// kernel counts what it has put together as one packet, and cuts it for the queue, where each piece has the options of
    /// all. None if so much payload is not there.
    fn without(self, seen: Count, seen_payload: u64, others: u64, opening: &Opening) -> Option<(Count, u64)> {
        let usual = opening.usual_options();
        let all = self.payload(opening, usual);
        let packets = self.packets.checked_sub(seen.packets).unwrap_or(self.packets);
        let left = |payload| Count { packets, bytes: payload + packets * opening.header(usual) };
        let most = left(all.checked_sub(seen_payload)?);
        let least = left(all.saturating_sub(seen.payload(opening, usual)));
        Some((most, least.least(others, opening)))
    }

    /// The payload, if every header has so many bytes of options.
    fn payload(self, opening: &Opening, options: u64) -> u64 {
        self.bytes.saturating_sub(self.packets * opening.header(options))
    }

    /// Payload that it holds for certain, where the other direction had so much.
    fn least(self, others: u64, opening: &Opening) -> u64 {
        let usual = self.payload(opening, opening.usual_options());
        if !opening.sack {
            return usual;
        }
        let least = self.payload(opening, OPTIONS);
        let data = usual >= DATA * self.packets;
        let margin = if others <= usual / ONE_WAY { ONE_WAY_MARGIN } else { MARGIN };
        if data { least.max(usual - usual / margin) } else { least }
    }
}

#[cfg(test)]
mod tests;

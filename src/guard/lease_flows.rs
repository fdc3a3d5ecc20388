//! The connections of leases as the guard sees them, and their packets that wait for `run`'s word. What it does not know is
//! dropped.
use super::conntrack::{Entry, Tuple};
use super::lease_wire::{Counted, CtId, LeaseReport, PASSED, Verdict};
use super::nfqueue::{Connection, Fate, MAX_QUEUED, Queued};
use super::reset;
use crate::lease::segment::Segment;
use crate::sorted::SortedMap;
use std::net::IpAddr;

/// Connections at most, whatever the kernel keeps.
pub const MAX_FLOWS: u32 = 4096;
/// How long a packet waits at most, milliseconds: longer than a hello may take.
pub const PATIENCE_MS: u64 = 15_000;

/// A connection.
#[derive(Clone, Copy, Debug)]
struct Flow {
    original: Tuple,
    /// The other way, as its last packet had it.
    answer: Option<Tuple>,
    counted: Counted,
    /// One of its packets has passed, so that the kernel keeps it.
    passed: bool,
    /// It was refused: its mark says so to the kernel.
    refused: bool,
    /// The sequence number of its SYN, while the target has not answered that one.
    syn: Option<u32>,
    /// The target has answered its SYN.
    answered: bool,
    /// Packets of it that wait.
    waiting: u32,
}

/// A packet.
#[derive(Debug)]
struct Waiting {
    ct: CtId,
    since_ms: u64,
    /// Enough of it to make a reset.
    head: Vec<u8>,
}

/// What becomes of a packet that `run` has not judged, because nothing is left to be judged of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// It goes on.
    Silent,
    /// It goes on once `run` is told of it.
    Told(LeaseReport),
    /// The same, and it ends a direction of an accepted connection.
    End(LeaseReport),
}

/// What is said of a packet to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Which one.
    pub packet: u32,
    /// What becomes of it.
    pub fate: Fate,
    /// Its new mark.
    pub mark: Option<u32>,
    /// What it becomes.
    pub bytes: Option<Vec<u8>>,
}

impl Word {
    /// It goes on.
    pub fn pass(packet: u32) -> Word {
        Word { packet, fate: Fate::Accept, mark: None, bytes: None }
    }

    /// It goes out, past all that others would do with it.
    pub fn stop(packet: u32) -> Word {
        Word { packet, fate: Fate::Stop, mark: None, bytes: None }
    }

    /// It is answered with a reset by its chain, to which it comes again with this mark.
    pub fn refuse(packet: u32, refused: u32) -> Word {
        Word { packet, fate: Fate::Again, mark: Some(refused), bytes: None }
    }

    /// It is lost.
    pub fn drop(packet: u32) -> Word {
        Word { packet, fate: Fate::Drop, mark: None, bytes: None }
    }
}

fn report(packet: u32, queued: &Queued<'_>, connection: &Connection) -> LeaseReport {
    let Connection { ct, original: Tuple { from, to, .. }, reply, .. } = *connection;
    LeaseReport::Packet {
        packet,
        ct,
        port: to.port(),
        buyer: (from.ip(), from.port()),
        reply,
        length: queued.length,
        bytes: queued.bytes.to_vec(),
    }
}

/// A plain segment without payload, or anything that could stand for it.
fn empty<'a>(queued: &Queued<'a>) -> Option<Segment<'a>> {
    let segment = Segment::parse(queued.bytes, queued.length).ok()?;
    let flags = segment.flags;
    let other = flags.fin() || flags.rst() || flags.urg() || segment.options.multipath;
    (segment.length == 0 && !other).then_some(segment)
}

/// All of them.
#[derive(Debug)]
pub struct Flows {
    most: usize,
    flows: SortedMap<CtId, Box<Flow>>,
    waiting: SortedMap<u32, Waiting>,
    /// When there last was none before the first of them, monotonic milliseconds.
    busy_ms: u64,
}

impl Flows {
    /// None; `most` at a time.
    pub fn new(most: u32) -> Flows {
        let mut new = Flows { most: 0, flows: SortedMap::new(), waiting: SortedMap::new(), busy_ms: 0 };
        new.bound(most);
        new
    }

    /// So many at a time from now on. Those that there are go on.
    pub fn bound(&mut self, most: u32) {
        self.most = usize::try_from(most.min(MAX_FLOWS)).unwrap_or(0);
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// How long `run`, last heard then, has said nothing although there are connections, milliseconds: before, it had nothing to say.
    pub fn silence_ms(&self, heard_ms: u64, now_ms: u64) -> u64 {
        if self.is_empty() { 0 } else { now_ms.saturating_sub(heard_ms.max(self.busy_ms)) }
    }

    /// A packet has come: what `run` is asked; none if it is lost, because no lease is its own or there is no room.
    pub fn arrive(
        &mut self,
        queued: &Queued<'_>,
        is_open: impl Fn(IpAddr, u16) -> bool,
        now_ms: u64,
    ) -> Option<LeaseReport> {
        // Nobody could tell its verdict from no verdict.
        let connection = queued.connection.filter(|_| queued.packet != PASSED)?;
        let original = connection.original;
        let (buyer, port) = (original.from, original.to.port());
        let flow = self.flows.get(&connection.ct);
        let (known, refused) = (flow.is_some(), flow.is_some_and(|f| f.refused));
        let has_room = self.waiting.len() < MAX_QUEUED as usize && (known || self.flows.len() < self.most);
        // What was refused comes here no more, as its mark says; if it does all the same, it is lost.
        if !has_room || refused || !is_open(buyer.ip(), port) {
            return None;
        }
        if self.flows.is_empty() {
            self.busy_ms = now_ms;
        }
        let counted = Counted { ct: connection.ct, ..Counted::default() };
        let answer = connection.answer;
        let fresh = Flow {
            original,
            answer,
            counted,
            passed: false,
            refused: false,
            syn: None,
            answered: false,
            waiting: 0,
        };
        let syn = empty(queued).filter(|s| s.flags.syn() && !s.flags.ack() && !connection.reply);
        self.flows.edit(
            connection.ct,
            || Box::new(fresh),
            |flow| {
                flow.answer = answer;
                flow.waiting += 1;
                if let Some(syn) = syn {
                    (flow.syn, flow.answered) = (Some(syn.seq), false);
                }
            },
        );
        let head = queued.bytes.get(..reset::ENOUGH).unwrap_or(queued.bytes).to_vec();
        self.waiting.insert(queued.packet, Waiting { ct: connection.ct, since_ms: now_ms, head });
        Some(report(queued.packet, queued, &connection))
    }

    /// A packet has come of which nothing is left to be judged; none if it is another, or of a connection that is not known as one
    /// that goes on.
    ///
    /// Of an accepted connection the kernel itself lets all pass but the last packets of either side, which `run` wants to see, and
    /// what a flowtable of others must not have. Of one that is not decided yet it is what carries nothing: the target's answer to
    /// the SYN that `run` let through, and after that what the buyer acknowledges.
    pub fn ahead(&mut self, queued: &Queued<'_>, accepted: u32, refused: u32) -> Option<Ahead> {
        let connection = queued.connection?;
        let flow = self.flows.get_mut(&connection.ct).filter(|f| f.passed && !f.refused)?;
        let told = || report(PASSED, queued, &connection);
        if connection.mark & (accepted | refused) != 0 {
            let is_accepted = connection.mark & (accepted | refused) == accepted;
            let ahead = || if reset::is_end(queued.bytes) { Ahead::End(told()) } else { Ahead::Silent };
            return is_accepted.then(ahead);
        }
        let segment = empty(queued).filter(|s| s.flags.ack())?;
        match (connection.reply, segment.flags.syn()) {
            (true, true) if flow.syn == Some(segment.ack.wrapping_sub(1)) => {
                (flow.syn, flow.answered) = (None, true);
                Some(Ahead::Told(told()))
            }
            (false, false) if flow.answered => Some(Ahead::Silent),
            _ => None,
        }
    }

    /// `run` has judged a packet; none if none of that number waits. The marks are those of what is accepted and refused.
    pub fn judge(&mut self, packet: u32, verdict: Verdict, (accepted, refused): (u32, u32)) -> Option<Word> {
        let waiting = self.release(packet)?;
        let is_refused = self.flows.get(&waiting.ct).is_some_and(|f| f.refused);
        let word = |fate, mark, bytes| Word { packet, fate, mark, bytes };
        let word = match verdict {
            // By now its chain answers it with a reset: who sent it need not find out later.
            _ if is_refused => word(Fate::Again, None, None),
            Verdict::Stop => word(Fate::Stop, None, None),
            Verdict::Accept => word(Fate::Accept, Some(accepted), None),
            Verdict::Pass => Word::pass(packet),
            Verdict::Drop => Word::drop(packet),
            // The target has heard nothing. Its chain answers the buyer; a reset of ours would be dropped by who lets nothing new in.
            Verdict::Refuse if reset::is_syn(&waiting.head) => Word::refuse(packet, refused),
            Verdict::Refuse => match reset::of(&waiting.head) {
                Some(rst) => word(Fate::Accept, Some(refused), Some(rst)),
                None => Word::drop(packet),
            },
        };
        match self.flows.get_mut(&waiting.ct) {
            Some(flow) if !matches!(word.fate, Fate::Drop | Fate::Again) => {
                flow.passed = true;
                flow.refused |= word.bytes.is_some();
            }
            _ => self.forget(waiting.ct),
        }
        Some(word)
    }

    /// A packet waits no more.
    fn release(&mut self, packet: u32) -> Option<Waiting> {
        let waiting = self.waiting.remove(&packet)?;
        if let Some(flow) = self.flows.get_mut(&waiting.ct) {
            flow.waiting = flow.waiting.saturating_sub(1);
        }
        Some(waiting)
    }

    /// Drops a connection of which the kernel never kept anything.
    fn forget(&mut self, ct: CtId) {
        if self.flows.get(&ct).is_some_and(|f| !f.passed && f.waiting == 0) {
            self.flows.remove(&ct);
        }
    }

    /// The packets of some connections are lost.
    pub fn drop_where(&mut self, which: impl Fn(CtId, &Tuple) -> bool) -> Vec<Word> {
        self.lose_those(|flows, w| flows.get(&w.ct).is_none_or(|f| which(w.ct, &f.original)))
    }

    /// The packets that have waited too long are lost.
    pub fn drop_late(&mut self, now_ms: u64) -> Vec<Word> {
        self.lose_those(|_, w| now_ms.saturating_sub(w.since_ms) > PATIENCE_MS)
    }

    fn lose_those(&mut self, lost: impl Fn(&SortedMap<CtId, Box<Flow>>, &Waiting) -> bool) -> Vec<Word> {
        let Flows { flows, waiting, .. } = self;
        let packets: Vec<_> =
            waiting.iter().filter(|(_, w)| lost(flows, w)).map(|(packet, _)| *packet).collect();
        packets.into_iter().filter_map(|packet| self.lose(packet)).collect()
    }

    /// `run` was not told of a packet.
    pub fn lose(&mut self, packet: u32) -> Option<Word> {
        let waiting = self.release(packet)?;
        self.forget(waiting.ct);
        Some(Word::drop(packet))
    }

    /// To what a waiting packet belongs: number, and the way of either direction as far as it is known.
    pub fn of(&self, packet: u32) -> Option<(CtId, Tuple, Option<Tuple>)> {
        let ct = self.waiting.get(&packet)?.ct;
        self.flows.get(&ct).map(|f| (ct, f.original, f.answer))
    }

    /// Connections that are meant, as the kernel names them.
    pub fn those(&self, which: impl Fn(CtId, &Tuple) -> bool) -> Vec<(CtId, Tuple)> {
        let meant = self.flows.iter().filter(|(ct, f)| which(**ct, &f.original));
        meant.map(|(ct, f)| (*ct, f.original)).collect()
    }

    /// How the kernel names a connection.
    pub fn tuple(&self, ct: CtId) -> Option<Tuple> {
        self.flows.get(&ct).map(|f| f.original)
    }

    /// The kernel reports an end.
    pub fn closed(&mut self, entry: &Entry) -> Counted {
        self.flows.remove(&entry.counted.ct);
        entry.counted
    }

    /// The kernel has said what it has. Those whose end it could not report are closed with what was counted last.
    pub fn compare(&mut self, list: &[Entry]) -> Vec<Counted> {
        let there: SortedMap<CtId, Counted> = list.iter().map(|e| (e.counted.ct, e.counted)).collect();
        let mut gone = Vec::new();
        self.flows.retain(|ct, flow| {
            match there.get(ct) {
                Some(counted) => flow.counted = *counted,
                None if flow.passed => gone.push(flow.counted),
                None => return true,
            }
            there.contains_key(ct)
        });
        gone
    }
}

#[cfg(test)]
mod tests;

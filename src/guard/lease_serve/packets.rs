//! What the kernel says of leases by itself: packets that wait, connections that have ended.
use super::{Around, Desk};
use crate::guard::conntrack::Tuple;
use crate::guard::lease_flows::{Ahead, Word};
use crate::guard::lease_rules::Marks;
use crate::guard::lease_wire::{Counted, CtId, LeaseReport};
use crate::guard::nfqueue::{Connection, Queued};
use crate::guard::protocol::Report;
use crate::guard::reset;
use crate::lease::segment::Segment;
use crate::sorted::SortedSet;

/// Packets that are taken at most before an end is looked at.
const MAX_BEFORE_END: u32 = 256;

/// Connections that were just deleted. What waits of them is lost.
pub(super) struct Gone<'a> {
    which: &'a dyn Fn(CtId, &Tuple) -> bool,
    /// Of these it is more than ends.
    lost: SortedSet<CtId>,
}

impl<'a> Gone<'a> {
    pub fn new(which: &'a dyn Fn(CtId, &Tuple) -> bool) -> Gone<'a> {
        Gone { which, lost: SortedSet::new() }
    }

    fn has(&self, connection: &Connection) -> bool {
        (self.which)(connection.ct, &connection.original)
    }

    /// Whether all that was sent before a packet has gone on, and the packet carries nothing: its numbers say what has passed.
    fn is_true(&mut self, ct: CtId, queued: &Queued<'_>) -> bool {
        let is_bare = Segment::parse(queued.bytes, queued.length).is_ok_and(|segment| segment.length == 0);
        if !is_bare {
            self.lost.insert(ct);
        }
        !self.lost.contains(&ct)
    }
}

/// What becomes of a packet that needs no verdict: it goes on once `run` is told of it, if that has to know.
fn goes_on(packet: u32, ahead: Ahead, tell: impl FnOnce(LeaseReport) -> bool) -> Word {
    let (word, is_told) = match ahead {
        Ahead::Silent => (Word::stop(packet), true),
        Ahead::Told(report) => (Word::stop(packet), tell(report)),
        Ahead::End(report) => (Word::pass(packet), tell(report)),
    };
    if is_told { word } else { Word::drop(packet) }
}

impl Desk {
    /// Whether there was one.
    pub(super) fn take_packet(&mut self, gone: &mut Gone<'_>, around: &mut Around<'_>) -> bool {
        let Desk { kernel: Ok(kernel), flows, book, holder, doomed, .. } = self else { return false };
        let Marks { accepted, refused, .. } = kernel.marks;
        let mut words = Vec::new();
        let there = kernel.queue.take(|queued| {
            let packet = queued.packet;
            let tell = |report| match *holder {
                Some((client, _)) => around.clients.offer(client, &Report::Lease(report)),
                None => false,
            };
            if let Some(connection) = queued.connection.filter(|c| gone.has(c)) {
                let ahead = flows.ahead(&queued, accepted, refused);
                if let (true, Some(Ahead::End(report))) = (gone.is_true(connection.ct, &queued), ahead) {
                    tell(report);
                }
                return words.push(Word::drop(packet));
            }
            let is_doomed = queued.connection.is_some_and(|c| doomed.contains(&c.ct));
            let ahead = if is_doomed { None } else { flows.ahead(&queued, accepted, refused) };
            if let Some(ahead) = ahead {
                return words.push(goes_on(packet, ahead, tell));
            }
            let is_open = |buyer, port| book.of(buyer, port).is_some();
            match flows.arrive(&queued, is_open, around.now_ms) {
                Some(report) => {
                    if !tell(report) {
                        words.extend(flows.lose(packet));
                    }
                }
                None if reset::is_syn(queued.bytes) => words.push(Word::refuse(packet, refused)),
                None => words.push(Word::drop(packet)),
            }
        });
        kernel.say(words);
        there
    }

    /// Takes the packets that wait. Before a connection's end is looked at, its last packets must have been, which say how much it
    /// carried, and they come by another socket. A flood is not waited for.
    pub(super) fn take_packets(&mut self, around: &mut Around<'_>) {
        self.take_packets_of(Gone::new(&|_, _| false), around);
    }

    /// The same where some connections are gone: `run` is told of their ends.
    pub(super) fn take_packets_of(&mut self, mut gone: Gone<'_>, around: &mut Around<'_>) {
        for _ in 0..MAX_BEFORE_END {
            if !self.take_packet(&mut gone, around) {
                break;
            }
        }
    }

    pub(super) fn take_ends(&mut self, most: usize, around: &mut Around<'_>) {
        self.take_packets(around);
        self.take_closed(most, around);
    }

    /// Takes ends alone.
    pub(super) fn take_closed(&mut self, most: usize, around: &mut Around<'_>) {
        let Desk { kernel: Ok(kernel), flows, .. } = self else { return };
        let closed = kernel.ended(most).iter().map(|entry| flows.closed(entry)).collect();
        self.say_closed(closed, around);
    }

    pub(super) fn say_closed(&mut self, closed: Vec<Counted>, around: &mut Around<'_>) {
        let is_heard = self.holder.is_some_and(|(client, _)| around.clients.find(client).is_some());
        for counted in closed {
            self.caps.end(counted.ct);
            self.audit.closed(&counted);
            if is_heard {
                self.say(LeaseReport::Closed(counted), around);
            } else {
                self.unheard.add(counted, around.now_ms);
            }
        }
    }
}

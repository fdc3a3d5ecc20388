//! What the kernel says of leases by itself: packets that wait, connections that have ended.
use super::{Around, Desk};
use crate::guard::conntrack::Tuple;
use crate::guard::lease_flows::{Ahead, Word};
use crate::guard::lease_rules::Marks;
use crate::guard::lease_wire::{Counted, CtId, LeaseReport};
use crate::guard::protocol::Report;

/// Packets that are taken at most before an end is looked at.
const MAX_BEFORE_END: u32 = 256;

impl Desk {
    /// Whether there was one. Of connections that are gone nothing goes on, but `run` is told of their ends.
    pub(super) fn take_packet(
        &mut self,
        is_gone: &dyn Fn(CtId, &Tuple) -> bool,
        around: &mut Around<'_>,
    ) -> bool {
        let Desk { kernel: Ok(kernel), flows, book, holder, doomed, .. } = self else { return false };
        let Marks { accepted, refused, .. } = kernel.marks;
        let mut words = Vec::new();
        let there = kernel.queue.take(|queued| {
            let packet = queued.packet;
            let tell = |report| match *holder {
                Some((client, _)) => around.clients.offer(client, &Report::Lease(report)),
                None => false,
            };
            let is_doomed = queued.connection.is_some_and(|c| doomed.contains(&c.ct));
            let ahead = if is_doomed { None } else { flows.ahead(&queued, accepted, refused) };
            let goes_on = queued.connection.is_none_or(|c| !is_gone(c.ct, &c.original));
            if let Some(ahead) = ahead {
                let once_told =
                    |report, word| if tell(report) && goes_on { word } else { Word::drop(packet) };
                words.push(match ahead {
                    Ahead::Silent if !goes_on => Word::drop(packet),
                    Ahead::Silent => Word::stop(packet),
                    Ahead::Told(report) => once_told(report, Word::stop(packet)),
                    Ahead::End(report) => once_told(report, Word::pass(packet)),
                });
                return;
            }
            let is_open = |buyer, port| book.of(buyer, port).is_some();
            if !goes_on || !flows.arrive(&queued, is_open, around.now_ms).is_some_and(tell) {
                words.push(flows.lose(packet).unwrap_or(Word::drop(packet)));
            }
        });
        kernel.say(words);
        there
    }

    /// Takes the packets that wait. Before a connection's end is looked at, its last packets must have been, which say how much it
    /// carried, and they come by another socket. A flood is not waited for.
    pub(super) fn take_packets(&mut self, around: &mut Around<'_>) {
        self.take_packets_of(&|_, _| false, around);
    }

    pub(super) fn take_packets_of(
        &mut self,
        is_gone: &dyn Fn(CtId, &Tuple) -> bool,
        around: &mut Around<'_>,
    ) {
        for _ in 0..MAX_BEFORE_END {
            if !self.take_packet(is_gone, around) {
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

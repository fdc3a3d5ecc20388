//! The verdict on every queued packet of a lease: event and `now` in, actions out.
//!
//! A flow begins with a SYN and is undecided until its target has answered an accepted hello; from then on only its FINs
//! and RSTs come by. A packet that belongs to no known flow and begins none is dropped.
use super::event::{Action, Note, Packet, Step};
use super::flow::{Flow, drop_packet, pass};
use super::segment::Segment;
use crate::guard::lease_wire::{CtId, Verdict};
use crate::mutant::out;
use crate::policy::refusal::Refusal;
use crate::relay::admission::Source;
use crate::session::HelloRules;
use crate::sorted::SortedMap;
use crate::tls::client_hello;
use std::net::IpAddr;

/// Flows that are not decided yet.
pub const MAX_UNDECIDED: usize = 256;
/// Flows of all kinds, whatever the guard allows.
pub const MAX_FLOWS: usize = 4096;
/// Bytes that all undecided flows keep of what they have heard.
pub const MAX_MEMORY: usize = 1 << 20;
/// Packets of all flows that wait for a verdict; the kernel's queue takes 1024.
pub const MAX_WAITING: usize = 512;

/// What the gate asks about flows.
pub trait Owner {
    /// Whether a buyer may open another flow through the lease at this port.
    ///
    /// # Errors
    /// Why not; the buyer is reset.
    fn admit(&mut self, ct: CtId, port: u16, buyer: (IpAddr, u16)) -> Result<(), Refusal>;

    /// The rules for a flow's hello as they are now; `None` if the flow is over.
    fn rules(&mut self, ct: CtId) -> Option<HelloRules>;
}

type Identity = (u16, (IpAddr, u16));

/// All flows of all leases.
#[derive(Debug)]
pub struct Gate {
    most: usize,
    undecided: SortedMap<CtId, (Identity, Flow)>,
    open: SortedMap<CtId, Identity>,
}

impl Gate {
    /// No flows, and never more than `most`.
    pub fn new(most: usize) -> Gate {
        Gate { most: most.min(MAX_FLOWS), undecided: SortedMap::new(), open: SortedMap::new() }
    }

    /// Never more than so many from now on. Those that there are go on.
    pub fn bound_to(&mut self, most: usize) {
        self.most = most.min(MAX_FLOWS);
    }

    /// Flows that are not decided, and those that are accepted.
    pub fn count(&self) -> (usize, usize) {
        (self.undecided.len(), self.open.len())
    }

    /// Bytes that undecided flows keep of what they have heard.
    pub fn memory(&self) -> usize {
        self.total(Flow::memory)
    }

    /// Whether a connection is known.
    pub fn knows(&self, ct: CtId) -> bool {
        self.undecided.contains_key(&ct) || self.open.contains_key(&ct)
    }

    /// A packet waits for its verdict.
    pub fn packet(&mut self, packet: &Packet<'_>, now_us: u64, owner: &mut dyn Owner) -> Vec<Action> {
        let mut actions = vec![Action::Of(packet.ct)];
        let identity = (packet.port, packet.buyer);
        let seen = packet.seen();
        if self.open.get(&packet.ct).is_some_and(|known| *known == identity) {
            if self.decided(packet, &mut actions) {
                actions.push(seen);
                return actions;
            }
            // The kernel has begun another connection under the old number.
            self.open.remove(&packet.ct);
        }
        let known = self.undecided.get(&packet.ct).is_some_and(|(known, _)| *known == identity);
        if known {
            actions.push(seen);
            self.undecided_packet(packet, now_us, owner, &mut actions);
        } else {
            self.begin(packet, now_us, owner, &mut actions);
        }
        actions
    }

    /// Ends the flows whose time is over.
    pub fn tick(&mut self, now_us: u64) -> Vec<Action> {
        let late = |flow: &Flow| now_us >= flow.deadline_us && !out("lease-hello-deadline");
        let over: Vec<CtId> =
            self.undecided.iter().filter(|(_, (_, f))| late(f)).map(|(ct, _)| *ct).collect();
        let mut actions = Vec::new();
        for ct in over {
            self.put_out(ct, None, &mut actions);
        }
        actions
    }

    /// When [`Gate::tick`] has something to do next, monotonic microseconds.
    pub fn next_deadline_us(&self) -> Option<u64> {
        self.undecided.values().map(|(_, flow)| flow.deadline_us).min()
    }

    /// The node ends a flow: packets that wait are answered, and the kernel forgets it.
    pub fn end(&mut self, ct: CtId) -> Vec<Action> {
        let mut actions = vec![Action::Of(ct)];
        if let Some((_, mut flow)) = self.undecided.remove(&ct) {
            flow.give_up(None, &mut actions);
        }
        self.open.remove(&ct);
        actions.push(Action::Kill(ct));
        actions
    }

    /// The kernel has forgotten a connection; nothing of it waits any more.
    pub fn closed(&mut self, ct: CtId) {
        self.undecided.remove(&ct);
        self.open.remove(&ct);
    }

    /// The kernel has forgotten all.
    pub fn gone(&mut self) {
        self.undecided.clear();
        self.open.clear();
    }

    /// A packet of an accepted flow; false if it can be none of its.
    fn decided(&mut self, packet: &Packet<'_>, actions: &mut Vec<Action>) -> bool {
        let Ok(segment) = Segment::parse(packet.bytes, packet.length) else {
            drop_packet(packet, actions);
            return true;
        };
        if segment.flags.syn() && !packet.reply && !segment.flags.ack() {
            return false;
        }
        pass(packet, &segment, actions);
        if segment.flags.rst() {
            actions.push(Action::Note(Note::reset(packet, &segment)));
        }
        actions.push(Action::Verdict { packet: packet.number, what: Verdict::Pass });
        true
    }

    fn undecided_packet(
        &mut self,
        packet: &Packet<'_>,
        now_us: u64,
        owner: &mut dyn Owner,
        actions: &mut Vec<Action>,
    ) {
        let Some((identity, flow)) = self.undecided.get_mut(&packet.ct) else { return };
        let mut judge = |hello: &client_hello::Hello| match owner.rules(packet.ct) {
            Some(rules) => client_hello::judge(hello, &rules, client_hello::ech_public_names()),
            None => Err(Refusal::SessionClosed),
        };
        let identity = *identity;
        match flow.packet(packet, now_us, &mut judge, actions) {
            Step::Stay => self.bound(actions),
            Step::Decided => {
                self.undecided.remove(&packet.ct);
                self.open.insert(packet.ct, identity);
            }
            Step::Refused(refusal) => {
                flow.give_up(Some(packet), actions);
                actions.push(Action::Note(Note::Refused(refusal)));
                self.undecided.remove(&packet.ct);
            }
            Step::Over(note) => {
                if !flow.give_up(None, actions) {
                    actions.push(Action::Kill(packet.ct));
                }
                actions.push(Action::Note(note));
                self.undecided.remove(&packet.ct);
            }
            Step::Reset(note) => {
                actions.push(Action::Kill(packet.ct));
                actions.push(Action::Note(note));
                self.undecided.remove(&packet.ct);
            }
        }
    }

    /// A packet of no flow that is known: a SYN begins one, all else is dropped.
    fn begin(&mut self, packet: &Packet<'_>, now_us: u64, owner: &mut dyn Owner, actions: &mut Vec<Action>) {
        if let Some((_, mut old)) = self.undecided.remove(&packet.ct) {
            old.give_up(None, actions);
            actions.push(Action::Note(Note::Gone));
        }
        let Ok(segment) = Segment::parse(packet.bytes, packet.length) else {
            drop_packet(packet, actions);
            return;
        };
        let flags = segment.flags;
        let bare = !flags.ack() && !flags.rst() && !flags.fin() && !flags.urg();
        let opens = (flags.syn() && bare && !packet.reply) || out("lease-midstream");
        let with_data = segment.length > 0 && !out("lease-syn-data");
        if !opens || with_data {
            drop_packet(packet, actions);
            return;
        }
        let full = self.undecided.len() + self.open.len() >= self.most;
        // Its stream would not be what the segments say (RFC 8684 section 3.3).
        let multipath = segment.options.multipath && !out("lease-multipath");
        if full || multipath || owner.admit(packet.ct, packet.port, packet.buyer).is_err() {
            actions.push(Action::Verdict { packet: packet.number, what: Verdict::Refuse });
            return;
        }
        let flow = Flow::new(&segment, now_us);
        self.undecided.insert(packet.ct, ((packet.port, packet.buyer), flow));
        actions.push(Action::Verdict { packet: packet.number, what: Verdict::Stop });
        actions.push(packet.seen());
        self.bound(actions);
    }

    /// Makes room where a bound is passed: the buyer who takes most loses its oldest flow.
    fn bound(&mut self, actions: &mut Vec<Action>) {
        let one = |_: &Flow| 1;
        while self.total(one) > MAX_UNDECIDED && self.relieve(one, actions) {}
        while self.total(Flow::memory) > MAX_MEMORY && self.relieve(Flow::memory, actions) {}
        while self.total(Flow::held) > MAX_WAITING && self.relieve(Flow::held, actions) {}
    }

    fn total(&self, weight: impl Fn(&Flow) -> usize) -> usize {
        self.undecided.values().map(|(_, flow)| weight(flow)).sum()
    }

    fn relieve(&mut self, weight: impl Fn(&Flow) -> usize, actions: &mut Vec<Action>) -> bool {
        let mut buyers: SortedMap<Source, usize> = SortedMap::new();
        for ((_, buyer), flow) in self.undecided.values() {
            buyers.edit(Source::of(buyer.0), || 0, |sum| *sum += weight(flow));
        }
        let heaviest = buyers.into_iter().max_by_key(|(_, sum)| *sum).map(|(source, _)| source);
        let hers = self.undecided.iter().filter(|(_, (identity, flow))| {
            (Some(Source::of(identity.1.0)) == heaviest || out("lease-heaviest-gives-way"))
                && weight(flow) > 0
        });
        let oldest = hers.min_by_key(|(_, (_, flow))| flow.since_us).map(|(ct, _)| *ct);
        oldest.is_some_and(|ct| {
            self.put_out(ct, Some(Refusal::RateLimited), actions);
            true
        })
    }

    /// Ends an undecided flow for a reason, or because its time is over.
    fn put_out(&mut self, ct: CtId, reason: Option<Refusal>, actions: &mut Vec<Action>) {
        let Some((_, mut flow)) = self.undecided.remove(&ct) else { return };
        actions.push(Action::Of(ct));
        let late = flow.late();
        if !flow.give_up(None, actions) {
            actions.push(Action::Kill(ct));
        }
        actions.push(Action::Note(reason.map_or(late, Note::Refused)));
    }
}

#[cfg(test)]
mod tests;

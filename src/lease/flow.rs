//! One undecided flow: its packets, held until it is known what they are.
//!
//! The target gets no byte of a hello before the whole of it is accepted. Even then the flow is not let go: a segment
//! that came by here may be lost on purpose behind us (a short TTL, a wrong checksum, an option that the target's stack
//! refuses), and another one with the same sequence numbers follow. So every later copy must agree with what was judged,
//! until the target acknowledges the hello and answers it; only that packet marks the flow as accepted.
use super::event::{Action, Note, Opening, Packet, Step};
use super::inspect::{Answer, AnswerReader, Inspector, Judge};
use super::reassembly::Taken;
use super::segment::Segment;
use crate::guard::lease_wire::Verdict;
use crate::mutant::out;
use crate::policy::refusal::Refusal;
use crate::session::Direction;

/// Packets of one flow that are held at once. What does not fit is dropped once it is read; the buyer sends it again.
pub const MAX_HELD: usize = 32;
/// How long the target has for its SYN-ACK, the buyer then for its hello, and for the one asked for again, microseconds.
pub const PATIENCE_US: u64 = 10_000_000;
/// How long the target has to answer a hello, microseconds.
pub const ANSWER_US: u64 = 60_000_000;

/// Where a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The SYN is on its way to the target.
    Syn,
    /// The hello is awaited.
    Hello,
    /// The hello is with the target, its answer is awaited.
    Answer,
    /// The target has asked for another hello.
    Again,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    number: u32,
    place: usize,
    /// The place behind it.
    end: usize,
    fin: bool,
}

/// An undecided flow.
#[derive(Debug)]
pub(super) struct Flow {
    /// Microseconds of its first SYN.
    pub since_us: u64,
    /// When its time is over, microseconds.
    pub deadline_us: u64,
    stage: Stage,
    opening: Opening,
    inspector: Inspector,
    answer: AnswerReader,
    held: Vec<Held>,
    /// Place up to which the target was let have the bytes.
    passed: usize,
    /// Place of the buyer's FIN.
    fin: Option<usize>,
}

impl Flow {
    /// A flow whose SYN this is.
    pub fn new(syn: &Segment<'_>, now_us: u64) -> Flow {
        let first = syn.seq.wrapping_add(1);
        Flow {
            since_us: now_us,
            deadline_us: now_us + PATIENCE_US,
            stage: Stage::Syn,
            opening: Opening::of(syn),
            inspector: Inspector::new(first),
            answer: AnswerReader::new(0),
            held: Vec::new(),
            passed: 0,
            fin: None,
        }
    }

    /// Bytes of memory that what it has heard takes.
    pub fn memory(&self) -> usize {
        self.inspector.stream().memory()
    }

    /// Packets that wait for a verdict.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes one of its packets.
    pub fn packet(
        &mut self,
        packet: &Packet<'_>,
        now_us: u64,
        judge: Judge<'_>,
        actions: &mut Vec<Action>,
    ) -> Step {
        let segment = match Segment::parse(packet.bytes, packet.length) {
            Ok(segment) => segment,
            Err(_) => return drop_packet(packet, actions),
        };
        if packet.reply {
            self.of_target(packet, &segment, now_us, actions)
        } else {
            self.of_buyer(packet, &segment, now_us, judge, actions)
        }
    }

    /// What it means for the flow that its time is over.
    pub fn late(&self) -> Note {
        match self.stage {
            Stage::Syn => Note::Refused(Refusal::ConnectTimeout),
            Stage::Hello | Stage::Again => Note::Refused(Refusal::HelloTimeout),
            Stage::Answer => Note::Gone,
        }
    }

    /// Answers all packets that wait and `current`, if that one waits too: one with a reset of both sides, the rest are dropped. True if there was one.
    ///
    /// The reset must begin where the target has got to, or its stack ignores it.
    pub fn give_up(&mut self, current: Option<&Packet<'_>>, actions: &mut Vec<Action>) -> bool {
        let cleared = self.inspector.cleared();
        let held = std::mem::take(&mut self.held);
        let best = held.iter().find(|h| h.place <= cleared).map(|h| h.number);
        let refused = best.or(current.map(|p| p.number)).or(held.first().map(|h| h.number));
        // That one first: by the time of the others the kernel knows, and resets the buyer for them at once.
        let verdict = |packet, what| Action::Verdict { packet, what };
        actions.extend(refused.map(|number| verdict(number, Verdict::Refuse)));
        let rest = held.iter().map(|h| h.number).chain(current.map(|p| p.number));
        actions.extend(rest.filter(|n| Some(*n) != refused).map(|number| verdict(number, Verdict::Drop)));
        refused.is_some()
    }

    fn of_buyer(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        now_us: u64,
        judge: Judge<'_>,
        actions: &mut Vec<Action>,
    ) -> Step {
        let flags = segment.flags;
        if flags.syn() {
            // The same SYN again; another one would make a stream that nobody here follows.
            let again =
                segment.seq == self.opening.isn[0] && segment.length == 0 && !flags.ack() && !flags.rst();
            return if again { stop(packet, actions) } else { drop_packet(packet, actions) };
        }
        if flags.rst() {
            return self.reset(packet, segment, actions);
        }
        if !flags.ack() || self.stage == Stage::Syn {
            return drop_packet(packet, actions);
        }
        // A stack takes urgent bytes out of the stream (RFC 9293 section 3.8.5): it would read another hello.
        if flags.urg() && !out("lease-urgent") {
            return Step::Refused(Refusal::NotTls);
        }
        if segment.length == 0 && !flags.fin() {
            return stop(packet, actions);
        }
        self.data(packet, segment, now_us, judge, actions)
    }

    fn data(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        now_us: u64,
        judge: Judge<'_>,
        actions: &mut Vec<Action>,
    ) -> Step {
        let Some(place) = self.inspector.stream().place(segment.seq) else {
            return drop_packet(packet, actions);
        };
        let end = place + segment.length as usize;
        let before = self.inspector.settled_at();
        let taken = match self.inspector.take(place, segment.payload, judge) {
            Ok(taken) => taken,
            Err(refusal) => return Step::Refused(refusal),
        };
        let fin = segment.flags.fin();
        if self.fin.is_some_and(|at| end > at || (fin && end < at)) {
            return Step::Refused(Refusal::NotTls);
        }
        let first_fin = fin && self.fin.is_none();
        if fin {
            self.fin = Some(end);
        }
        let whole = segment.payload.len() == segment.length as usize && taken != Taken::Outside;
        let is_new = taken == Taken::New || first_fin || end <= self.inspector.cleared();
        if whole && is_new && self.held.len() < MAX_HELD {
            self.held.push(Held { number: packet.number, place, end, fin });
        } else {
            drop_packet(packet, actions);
        }
        let accepted = self.inspector.settled_at().filter(|_| before.is_none());
        if accepted.is_some() {
            if self.stage == Stage::Hello {
                actions.push(Action::Note(Note::Accepted));
            }
            self.stage = Stage::Answer;
            self.deadline_us = now_us + ANSWER_US;
        }
        self.release(false, actions);
        let over = self.fin.is_some_and(|at| at <= self.inspector.stream().end());
        if over && matches!(self.stage, Stage::Hello | Stage::Again) {
            Step::Over(Note::Gone)
        } else {
            Step::Stay
        }
    }

    /// Lets go what the target may have, in order; all of it, once the flow is decided.
    fn release(&mut self, all: bool, actions: &mut Vec<Action>) {
        let settled = self.inspector.settled_at().is_some();
        let cleared = self.inspector.cleared();
        let first = self.opening.isn[0].wrapping_add(1);
        let passed = &mut self.passed;
        self.held.sort_by_key(|h| h.place);
        self.held.retain(|h| {
            let may = all || (h.end <= cleared && (settled || !h.fin)) || out("lease-hold");
            if may {
                actions.push(Action::Verdict { packet: h.number, what: Verdict::Stop });
                let new = h.end.saturating_sub(h.place.max(*passed));
                *passed = h.end.max(*passed);
                let end = first.wrapping_add(u32::try_from(h.end).unwrap_or(0));
                actions.push(passed_on(Direction::Egress, u32::try_from(new).unwrap_or(0), end));
                if h.fin {
                    actions.push(Action::Note(Note::Fin { direction: Direction::Egress, end, ack: None }));
                }
            }
            !may
        });
    }

    fn of_target(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        now_us: u64,
        actions: &mut Vec<Action>,
    ) -> Step {
        let flags = segment.flags;
        if flags.rst() {
            return self.reset(packet, segment, actions);
        }
        if !flags.ack() {
            return drop_packet(packet, actions);
        }
        if flags.syn() {
            return self.syn_ack(packet, segment, now_us, actions);
        }
        match self.stage {
            // It has an earlier connection of these ports left. The buyer resets that when it hears so (RFC 9293 section
            // 3.5.2, figure 10), and comes again; without it, it would call in vain until the target has forgotten.
            Stage::Syn if self.is_of_another(segment) => stop(packet, actions),
            Stage::Syn => drop_packet(packet, actions),
            // It has not heard a byte yet; what it says before that it says again once the hello is there.
            Stage::Hello if segment.length > 0 => drop_packet(packet, actions),
            Stage::Hello => stop_and_pass(packet, segment, actions),
            Stage::Answer | Stage::Again => self.answer(packet, segment, now_us, actions),
        }
    }

    /// Whether the target acknowledges what this flow has not sent, and says nothing beside that.
    fn is_of_another(&self, segment: &Segment<'_>) -> bool {
        let bare = segment.length == 0 && !segment.flags.fin() && !segment.flags.urg();
        bare && segment.ack != self.opening.isn[0].wrapping_add(1)
    }

    fn syn_ack(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        now_us: u64,
        actions: &mut Vec<Action>,
    ) -> Step {
        let fits = segment.length == 0 && !segment.flags.fin() && !segment.options.multipath;
        let mine = segment.ack == self.opening.isn[0].wrapping_add(1);
        if !fits || !mine || (self.stage != Stage::Syn && segment.seq != self.opening.isn[1]) {
            return drop_packet(packet, actions);
        }
        if self.stage == Stage::Syn {
            self.opening.agree(segment);
            self.answer = AnswerReader::new(segment.seq.wrapping_add(1));
            self.stage = Stage::Hello;
            self.deadline_us = now_us + PATIENCE_US;
            let latency_us = now_us.saturating_sub(self.since_us);
            actions.push(Action::Note(Note::Established { latency_us, opening: self.opening }));
        }
        stop(packet, actions)
    }

    /// The target speaks after the hello was let through.
    fn answer(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        now_us: u64,
        actions: &mut Vec<Action>,
    ) -> Step {
        self.answer.take(segment.seq, segment.payload);
        let acknowledged = self.inspector.stream().place(segment.ack).unwrap_or(0);
        let heard = |at: usize| acknowledged >= at || out("lease-acknowledged");
        let settled = self.inspector.settled_at().is_some_and(heard);
        match self.answer.answer() {
            Ok(Answer::Unknown) if !out("lease-second-hello") => stop_and_pass(packet, segment, actions),
            Ok(Answer::Retry) if !self.inspector.is_asked_again() && !out("lease-second-hello") => {
                if !settled {
                    return drop_packet(packet, actions);
                }
                self.inspector.ask_again(acknowledged);
                self.stage = Stage::Again;
                self.deadline_us = now_us + PATIENCE_US;
                stop_and_pass(packet, segment, actions)
            }
            Ok(_) if settled => {
                self.release(true, actions);
                actions.push(Action::Verdict { packet: packet.number, what: Verdict::Accept });
                pass(packet, segment, actions);
                Step::Decided
            }
            Ok(_) => stop_and_pass(packet, segment, actions),
            Err(refusal) => {
                drop_packet(packet, actions);
                Step::Over(Note::Refused(refusal))
            }
        }
    }

    /// Either side gives the connection up: the other is told, and what is held comes to nothing.
    fn reset(&mut self, packet: &Packet<'_>, segment: &Segment<'_>, actions: &mut Vec<Action>) -> Step {
        for held in std::mem::take(&mut self.held) {
            actions.push(Action::Verdict { packet: held.number, what: Verdict::Drop });
        }
        if segment.length > 0 {
            drop_packet(packet, actions);
            return Step::Over(Note::Gone);
        }
        stop(packet, actions);
        match self.stage {
            Stage::Syn if packet.reply => Step::Reset(Note::Refused(Refusal::ConnectFailed)),
            Stage::Syn | Stage::Hello => Step::Reset(Note::Gone),
            Stage::Answer | Stage::Again => Step::Reset(Note::reset(packet, segment)),
        }
    }
}

fn stop(packet: &Packet<'_>, actions: &mut Vec<Action>) -> Step {
    actions.push(Action::Verdict { packet: packet.number, what: Verdict::Stop });
    Step::Stay
}

fn stop_and_pass(packet: &Packet<'_>, segment: &Segment<'_>, actions: &mut Vec<Action>) -> Step {
    pass(packet, segment, actions);
    stop(packet, actions)
}

/// Tells of what a packet carries that is let through: payload, a FIN.
pub(super) fn pass(packet: &Packet<'_>, segment: &Segment<'_>, actions: &mut Vec<Action>) {
    let end = segment.seq.wrapping_add(segment.length);
    actions.push(passed_on(packet.direction(), segment.length, end));
    if segment.flags.fin() {
        let ack = segment.flags.ack().then_some(segment.ack);
        actions.push(Action::Note(Note::Fin { direction: packet.direction(), end, ack }));
    }
}

fn passed_on(direction: Direction, payload: u32, end: u32) -> Action {
    Action::Passed { direction, payload, end }
}

pub(super) fn drop_packet(packet: &Packet<'_>, actions: &mut Vec<Action>) -> Step {
    actions.push(Action::Verdict { packet: packet.number, what: Verdict::Drop });
    Step::Stay
}

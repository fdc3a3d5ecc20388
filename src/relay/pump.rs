//! Carrying bytes both ways between two sockets, by `splice(2)` while there are many.
use super::pools::PIPE;
use super::shared::{CHUNK, RelayShared};
use crate::session::{Direction, Ending, Flow, Outcome, Phase};
use crate::sys::linux::net;
use crate::sys::linux::pipe::Pipe;
use crate::sys::linux::reactor::{Io, READ, WRITE};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Bytes of one direction before other tunnels get their turn.
pub(super) const TURN: usize = 512 * 1024;
/// Reads up to here are copied, which takes two calls where a pipe takes three or more. A full one means that there is
/// more: then a pipe is cheaper, until a burst is shorter than this.
const COPY: usize = 32 * 1024;

/// The side whose socket failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Buyer,
    Target,
}

/// Which ends of a tunnel are closed.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// The sender has sent its last byte.
    pub eof: bool,
    /// The receiver was told.
    pub shut: bool,
}

/// A tunnel without outer TLS. Idle, it has two sockets and no buffer.
pub(super) struct PlainTunnel {
    buyer: Io,
    target: Io,
    flow: Option<Flow>,
    shared: Rc<RelayShared>,
    up: Lane,
    down: Lane,
}

/// One direction.
#[derive(Default)]
struct Lane {
    half: Half,
    bulk: bool,
    /// Bytes read since the sender last had none.
    burst: u32,
    pipe: Option<Pipe>,
    rest: Vec<u8>,
    /// The end of `rest` that was not granted yet: the ClientHello was read before there were grants.
    owed: usize,
}

impl PlainTunnel {
    /// A tunnel whose target still has to get `rest`.
    pub fn new(buyer: Io, target: Io, flow: Flow, shared: Rc<RelayShared>, rest: Vec<u8>) -> PlainTunnel {
        let rest = if rest.is_empty() { Vec::new() } else { rest };
        let up = Lane { owed: rest.len(), rest, ..Lane::default() };
        PlainTunnel { buyer, target, flow: Some(flow), shared, up, down: Lane::default() }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, Fault> {
        let Some(flow) = &self.flow else { return Ok(Turn::Done) };
        let way = Way { flow, shared: &self.shared, budget: TURN, last: self.down.half.shut };
        let more_up = self.up.run(&self.buyer, &self.target, Direction::Egress, way, cx)?;
        let way = Way { flow, shared: &self.shared, budget: TURN, last: self.up.half.shut };
        let more_down = self.down.run(&self.target, &self.buyer, Direction::Ingress, way, cx)?;
        if self.buyer.has_failed() && (self.up.half.eof || self.up.holds()) {
            return Err(Fault::Buyer);
        }
        if self.target.has_failed() && self.down.half.eof {
            return Err(Fault::Target);
        }
        Ok(Turn::after(flow, &self.up.half, &self.down.half, more_up || more_down))
    }
}

impl Future for PlainTunnel {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.buyer.watch(cx);
        this.target.watch(cx);
        let ending = this.flow.as_ref().map_or(Poll::Pending, |flow| flow.poll_ending(cx));
        let end = match ending {
            Poll::Ready(ending) => End::Ordered(ending),
            Poll::Pending => match this.turn(cx) {
                Ok(Turn::Wait) => return Poll::Pending,
                Ok(Turn::Again) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(Turn::Done) => End::Done,
                Err(fault) => End::Fault(fault),
            },
        };
        finish(end, this.flow.take(), &this.up.half, &this.buyer, &this.target);
        Poll::Ready(())
    }
}

impl Drop for PlainTunnel {
    fn drop(&mut self) {
        for lane in [&mut self.up, &mut self.down] {
            if let Some(pipe) = lane.pipe.take() {
                self.shared.pipes.give(pipe);
            }
        }
    }
}

/// What a turn of a tunnel came to.
pub(super) enum Turn {
    Wait,
    Again,
    Done,
}

impl Turn {
    /// Enters the half-closed phase when it begins.
    pub fn after(flow: &Flow, up: &Half, down: &Half, more: bool) -> Turn {
        match (up.shut, down.shut) {
            (true, true) => return Turn::Done,
            (false, false) => {}
            _ if flow.state().phase() != Phase::HalfClosed => flow.enter(Phase::HalfClosed),
            _ => {}
        }
        if more { Turn::Again } else { Turn::Wait }
    }
}

/// How a tunnel ends.
pub(super) enum End {
    Done,
    Ordered(Ending),
    Fault(Fault),
}

/// Closes both sockets as the end demands, and the flow with its outcome. `up` tells whether the target was sent a FIN.
pub(super) fn finish(end: End, flow: Option<Flow>, up: &Half, buyer: &Io, target: &Io) {
    let Some(flow) = flow else { return };
    let no_answer = flow.state().bytes().0 == 0;
    let outcome = match end {
        End::Done | End::Ordered(Ending::Close | Ending::HelloTimeout) => return flow.finish(Outcome::Done),
        End::Ordered(Ending::Reset) => Outcome::Killed,
        End::Fault(Fault::Target) if no_answer => Outcome::TargetReset,
        End::Fault(_) => Outcome::Aborted,
    };
    let lost = net::unacknowledged(target.as_fd(), up.shut);
    net::reset(target.as_fd());
    net::reset(buyer.as_fd());
    if lost > 0 {
        flow.uncount(Direction::Egress, lost);
    }
    flow.finish(outcome);
}

/// What a direction works with in one turn.
struct Way<'a> {
    flow: &'a Flow,
    shared: &'a RelayShared,
    budget: usize,
    /// The other direction is over: the sockets' closing will tell the receiver.
    last: bool,
}

impl Lane {
    fn holds(&self) -> bool {
        !self.rest.is_empty() || self.pipe.as_ref().is_some_and(|p| p.held() > 0)
    }

    /// Carries bytes until one side would block; true if the budget ended first.
    fn run(
        &mut self,
        from: &Io,
        to: &Io,
        direction: Direction,
        mut way: Way<'_>,
        cx: &mut Context<'_>,
    ) -> Result<bool, Fault> {
        let (reading, writing) = match direction {
            Direction::Egress => (Fault::Buyer, Fault::Target),
            Direction::Ingress => (Fault::Target, Fault::Buyer),
        };
        if self.half.shut {
            return Ok(false);
        }
        loop {
            if self.holds() {
                if self.owed > 0 && self.owed == self.rest.len() {
                    let Poll::Ready(granted) = way.flow.poll_grant(cx, self.owed) else { return Ok(false) };
                    way.flow.hold(granted as u64);
                    self.owed -= granted;
                }
                if !self.flush(to, direction, way.flow).map_err(|_| writing)? {
                    return Ok(false);
                }
                continue;
            }
            if self.half.eof {
                self.release(way.shared);
                if !way.last {
                    // A receiver that is gone needs no telling.
                    let _ = rustix::net::shutdown(to, Shutdown::Write);
                }
                self.half.shut = true;
                return Ok(false);
            }
            if way.budget == 0 {
                return Ok(true);
            }
            let granted = if from.is_ready(READ) { way.flow.poll_grant(cx, PIPE) } else { Poll::Pending };
            let Poll::Ready(granted) = granted else {
                self.release(way.shared);
                return Ok(false);
            };
            let got = self.read(from, to, direction, granted, &way).map_err(|_| reading)?;
            way.budget = way.budget.saturating_sub(got);
        }
    }

    /// Writes what is held; false if the socket takes no more.
    fn flush(&mut self, to: &Io, direction: Direction, flow: &Flow) -> rustix::io::Result<bool> {
        if !to.is_ready(WRITE) {
            return Ok(false);
        }
        let sent = match &mut self.pipe {
            Some(pipe) if pipe.held() > 0 => pipe.drain(to.as_fd()),
            _ => {
                let granted = self.rest.len().saturating_sub(self.owed);
                rustix::net::send(to, self.rest.get(..granted).unwrap_or_default(), SendFlags::NOSIGNAL)
            }
        };
        let Some(sent) = unless_blocked(sent, to, WRITE)? else { return Ok(false) };
        if !self.rest.is_empty() {
            self.rest.drain(..sent);
            if self.rest.is_empty() {
                self.rest = Vec::new();
            }
        }
        if direction == Direction::Egress {
            flow.count(direction, sent as u64);
        }
        Ok(true)
    }

    fn read(
        &mut self,
        from: &Io,
        to: &Io,
        direction: Direction,
        granted: usize,
        way: &Way<'_>,
    ) -> rustix::io::Result<usize> {
        if self.bulk && self.pipe.is_none() {
            self.pipe = way.shared.pipes.take();
        }
        let mut scratch = way.shared.scratch.borrow_mut();
        let (most, result) = match &mut self.pipe {
            Some(pipe) => (0, pipe.fill(from.as_fd(), granted)),
            None => {
                let most = granted.min(if self.bulk { CHUNK } else { COPY });
                let window = scratch.get_mut(..most).unwrap_or_default();
                (most, rustix::net::recv(from, window, RecvFlags::empty()).map(|(n, _)| n))
            }
        };
        let Some(got) = unless_blocked(result, from, READ)? else {
            self.bulk = self.burst as usize >= COPY;
            self.burst = 0;
            return Ok(0);
        };
        self.burst = self.burst.saturating_add(u32::try_from(got).unwrap_or(u32::MAX));
        self.half.eof = got == 0;
        if direction == Direction::Egress {
            way.flow.hold(got as u64);
        } else if got > 0 {
            way.flow.count(direction, got as u64);
        }
        if self.pipe.is_none() {
            self.bulk = got >= COPY;
            if got < most {
                from.read_short();
                self.burst = 0;
            }
            self.send_now(scratch.get(..got).unwrap_or_default(), to, direction, way.flow);
        }
        Ok(got)
    }

    /// Hands bytes on without keeping them if the receiver takes them; its errors show at the next flush.
    fn send_now(&mut self, bytes: &[u8], to: &Io, direction: Direction, flow: &Flow) {
        let mut sent = 0;
        if to.is_ready(WRITE) && !bytes.is_empty() {
            let result = rustix::net::send(to, bytes, SendFlags::NOSIGNAL);
            sent = unless_blocked(result, to, WRITE).ok().flatten().unwrap_or(0);
            if direction == Direction::Egress && sent > 0 {
                flow.count(direction, sent as u64);
            }
        }
        self.rest.extend_from_slice(bytes.get(sent..).unwrap_or_default());
    }

    /// Gives the pipe back: the direction is idle.
    fn release(&mut self, shared: &RelayShared) {
        if let Some(pipe) = self.pipe.take() {
            shared.pipes.give(pipe);
        }
    }
}

/// `None` if the call would have blocked, which is remembered.
pub(super) fn unless_blocked(
    result: rustix::io::Result<usize>,
    io: &Io,
    interest: u8,
) -> rustix::io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(Errno::AGAIN) => {
            io.blocked(interest);
            Ok(None)
        }
        Err(Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}

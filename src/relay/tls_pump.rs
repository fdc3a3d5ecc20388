//! Carrying bytes both ways between the outer TLS and the target.
use super::pump::{End, Fault, Half, Turn, finish, unless_blocked};
use super::shared::{CHUNK, RelayShared};
use crate::mutant;
use crate::session::{Direction, Ending, Flow};
use crate::sys::linux::reactor::{Io, READ, WRITE};
use crate::tls::stream::{TlsStream, feed, send_tls};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustls::ServerConnection;
use std::future::Future;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Bytes of one direction before other tunnels get their turn: encrypting them takes a router's processor some 6 ms.
const TURN: usize = 128 * 1024;

/// A tunnel inside the outer TLS. Idle, it has two sockets and rustls' state.
pub(super) struct TlsTunnel {
    buyer: Io,
    conn: ServerConnection,
    target: Io,
    flow: Option<Flow>,
    shared: Rc<RelayShared>,
    up: Half,
    down: Half,
    /// Ciphertext read and not yet given to rustls: the target takes no more.
    inbox: Vec<u8>,
    /// Plaintext of the hello that the target has not taken.
    rest: Vec<u8>,
}

impl TlsTunnel {
    /// A tunnel whose target still has to get `rest`.
    pub fn new(
        stream: TlsStream,
        target: Io,
        flow: Flow,
        shared: Rc<RelayShared>,
        rest: Vec<u8>,
    ) -> TlsTunnel {
        let rest = if rest.is_empty() { Vec::new() } else { rest };
        let (buyer, conn, inbox) = stream.into_parts();
        let (up, down) = (Half::default(), Half::default());
        TlsTunnel { buyer, conn, target, flow: Some(flow), shared, up, down, inbox, rest }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, Fault> {
        let more_up = self.run_up(cx)?;
        let more_down = self.run_down(cx)?;
        if self.buyer.has_failed() && (self.up.eof || !self.inbox.is_empty()) {
            return Err(Fault::Buyer);
        }
        if self.target.has_failed() && self.down.eof {
            return Err(Fault::Target);
        }
        let Some(flow) = &self.flow else { return Ok(Turn::Done) };
        Ok(Turn::after(flow, &self.up, &self.down, more_up || more_down))
    }

    /// From the buyer to the target; true if the budget ended before the bytes.
    fn run_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut budget = TURN;
        while !self.up.shut {
            if !self.drain_up(cx)? {
                return Ok(false);
            }
            if self.up.eof {
                if !self.down.shut {
                    // A target that is gone needs no telling.
                    let _ = rustix::net::shutdown(&self.target, Shutdown::Write);
                }
                self.up.shut = true;
            } else if !self.inbox.is_empty() {
                let inbox = std::mem::take(&mut self.inbox);
                self.decrypt(&inbox, cx)?;
            } else if budget == 0 {
                return Ok(true);
            } else if !self.buyer.is_ready(READ) {
                return Ok(false);
            } else {
                let got = self.receive(cx)?;
                budget = budget.saturating_sub(got);
            }
        }
        Ok(false)
    }

    /// Writes the plaintext that there is to the target; false if it takes no more.
    fn drain_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        loop {
            match self.send_up(cx).map_err(|_| Fault::Target)? {
                Sent::Some => {}
                Sent::Nothing => return Ok(true),
                Sent::Blocked if mutant::out("write-when-taken") => {
                    self.hoard();
                    return Ok(true);
                }
                Sent::Blocked => return Ok(false),
            }
        }
    }

    /// Keeps the plaintext that the target does not take: what a node without the rule would do.
    fn hoard(&mut self) {
        let mut reader = self.conn.reader();
        if let Ok(chunk) = reader.fill_buf() {
            self.rest.extend_from_slice(chunk);
            let taken = chunk.len();
            reader.consume(taken);
        }
    }

    /// Decrypts and writes, record by record; what is not wanted yet goes into the inbox.
    fn decrypt(&mut self, mut bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let taken = feed(&mut self.conn, bytes).map_err(|_| Fault::Buyer)?;
            bytes = bytes.get(taken..).unwrap_or_default();
            if !self.drain_up(cx)? {
                self.inbox.extend_from_slice(bytes);
                return Ok(());
            }
        }
        Ok(())
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Result<usize, Fault> {
        let shared = self.shared.clone();
        let mut scratch = shared.scratch.borrow_mut();
        let result = rustix::net::recv(&self.buyer, &mut scratch[..], RecvFlags::empty()).map(|(n, _)| n);
        let got = unless_blocked(result, &self.buyer, READ).map_err(|_| Fault::Buyer)?;
        let Some(got) = got else { return Ok(0) };
        if got < scratch.len() {
            self.buyer.read_short();
        }
        // A FIN without close_notify ends this half all the same; the TLS inside has its own.
        self.up.eof = got == 0;
        self.decrypt(scratch.get(..got).unwrap_or_default(), cx)?;
        Ok(got)
    }

    /// Writes plaintext to the target.
    fn send_up(&mut self, cx: &mut Context<'_>) -> rustix::io::Result<Sent> {
        let Some(flow) = &self.flow else { return Ok(Sent::Nothing) };
        let mut reader = self.conn.reader();
        let chunk = if !self.rest.is_empty() {
            &self.rest[..]
        } else {
            match reader.fill_buf() {
                Ok([]) => {
                    self.up.eof = true;
                    return Ok(Sent::Nothing);
                }
                Ok(chunk) => chunk,
                Err(_) => return Ok(Sent::Nothing),
            }
        };
        if !self.target.is_ready(WRITE) {
            return Ok(Sent::Blocked);
        }
        let Poll::Ready(granted) = flow.poll_grant(cx, chunk.len()) else { return Ok(Sent::Blocked) };
        let bytes = chunk.get(..granted).unwrap_or(chunk);
        let result = rustix::net::send(&self.target, bytes, SendFlags::NOSIGNAL);
        let Some(sent) = unless_blocked(result, &self.target, WRITE)? else { return Ok(Sent::Blocked) };
        if self.rest.is_empty() {
            reader.consume(sent);
        } else {
            self.rest.drain(..sent);
        }
        flow.count(Direction::Egress, sent as u64);
        Ok(Sent::Some)
    }

    /// From the target to the buyer; true if the budget ended before the bytes.
    fn run_down(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut budget = TURN;
        loop {
            let taken = self.flush().map_err(|_| Fault::Buyer)? || mutant::out("read-when-taken");
            if !taken || self.down.shut {
                return Ok(false);
            }
            if self.down.eof {
                if !self.up.shut {
                    let _ = rustix::net::shutdown(&self.buyer, Shutdown::Write);
                }
                self.down.shut = true;
                return Ok(false);
            }
            if budget == 0 {
                return Ok(true);
            }
            let Some(flow) = &self.flow else { return Ok(false) };
            if !self.target.is_ready(READ) {
                return Ok(false);
            }
            let Poll::Ready(granted) = flow.poll_grant(cx, CHUNK) else { return Ok(false) };
            let mut scratch = self.shared.scratch.borrow_mut();
            let window = scratch.get_mut(..granted).unwrap_or_default();
            let asked = window.len();
            let result = rustix::net::recv(&self.target, window, RecvFlags::empty()).map(|(n, _)| n);
            let got = unless_blocked(result, &self.target, READ).map_err(|_| Fault::Target)?;
            let Some(got) = got else { continue };
            if got < asked {
                self.target.read_short();
            }
            if got == 0 {
                self.down.eof = true;
                self.conn.send_close_notify();
                continue;
            }
            flow.count(Direction::Ingress, got as u64);
            budget = budget.saturating_sub(got);
            let plain = scratch.get(..got).unwrap_or_default();
            self.conn.writer().write_all(plain).map_err(|_| Fault::Buyer)?;
        }
    }

    /// Sends the ciphertext that is ready; false if the socket takes no more.
    fn flush(&mut self) -> rustix::io::Result<bool> {
        while self.conn.wants_write() {
            if !self.buyer.is_ready(WRITE) {
                return Ok(false);
            }
            let result = send_tls(&mut self.conn, self.buyer.as_fd());
            if unless_blocked(result, &self.buyer, WRITE)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

enum Sent {
    Some,
    Nothing,
    Blocked,
}

impl Future for TlsTunnel {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.buyer.watch(cx);
        this.target.watch(cx);
        let ending = this.flow.as_ref().map_or(Poll::Pending, |flow| flow.poll_ending(cx));
        let end = match ending {
            Poll::Ready(ending) => {
                if ending == Ending::Close {
                    this.conn.send_close_notify();
                    let _ = this.flush();
                }
                End::Ordered(ending)
            }
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
        finish(end, this.flow.take(), &this.up, &this.buyer, &this.target);
        Poll::Ready(())
    }
}

//! The way out of a connection between guard and `run`: what the other end has not made room for waits, in order and bounded.
use crate::sys::linux::seqpacket::Seqpacket;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};

/// Messages that wait at most: the end of every connection that there can be, and some more. Who reads none of so many is gone.
pub const MAX_WAITING: usize = 4096 + 512;

/// A connection.
#[derive(Debug)]
pub struct Outbox {
    socket: Seqpacket,
    waiting: RefCell<VecDeque<Vec<u8>>>,
    full: Cell<bool>,
}

impl Outbox {
    /// Of a connection.
    pub fn new(socket: Seqpacket) -> Outbox {
        Outbox { socket, waiting: RefCell::default(), full: Cell::new(false) }
    }

    /// The connection.
    pub fn socket(&self) -> &Seqpacket {
        &self.socket
    }

    /// Sends now, or as soon as there is room.
    ///
    /// # Errors
    /// The connection is of no use any more: it has ended, or [`MAX_WAITING`] messages wait. Who reads from it then gets its end.
    pub fn send(&self, message: Vec<u8>) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() && !self.full.get() {
            match self.socket.send(&message) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
        if waiting.len() >= MAX_WAITING {
            self.full.set(true);
            self.socket.shutdown();
        }
        if self.full.get() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if waiting.is_empty() {
            self.socket.want_room(true);
        }
        waiting.push_back(message);
        Ok(())
    }

    /// Sends now or not at all, and only if nothing waits; whether it was sent.
    pub fn offer(&self, message: &[u8]) -> bool {
        self.is_clear() && self.socket.send(message).is_ok()
    }

    /// Whether nothing waits.
    pub fn is_clear(&self) -> bool {
        self.waiting.borrow().is_empty() && !self.full.get()
    }

    /// Sends what waits, as far as there is room. Ready if the connection is of no use.
    pub fn poll_pour(&self, cx: &Context<'_>) -> Poll<io::Error> {
        if self.socket.poll_room(cx).is_pending() {
            return Poll::Pending;
        }
        if let Err(e) = self.send_waiting() {
            return Poll::Ready(e);
        }
        if self.waiting.borrow().is_empty() {
            self.socket.want_room(false);
        }
        Poll::Pending
    }

    fn send_waiting(&self) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(message) = waiting.front() {
            match self.socket.send(message) {
                Ok(()) => waiting.pop_front(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::reactor::block_on;
    use futures_lite::future;
    use std::future::poll_fn;

    fn pair(name: &str) -> (Outbox, Seqpacket) {
        let path = std::env::temp_dir().join(format!("echomesh-{name}-{}", std::process::id()));
        let listener = Seqpacket::listen(&path).unwrap();
        let one = Seqpacket::connect(&path).unwrap();
        let other = block_on(poll_fn(|cx| listener.poll_accept(cx))).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        (Outbox::new(one), other)
    }

    /// Fills the connection until something waits.
    fn fill(outbox: &Outbox) -> u32 {
        let mut sent = 0;
        while outbox.is_clear() {
            outbox.send([&u32::to_be_bytes(sent)[..], &[0; 2000]].concat()).unwrap();
            sent += 1;
        }
        sent
    }

    #[test]
    fn what_waits_goes_out_in_order_and_what_is_offered_does_not_wait() {
        let (outbox, other) = pair("pour");
        assert!(outbox.offer(&[0xff; 4]));
        let mut sent = fill(&outbox);
        assert!(!outbox.offer(b"late"), "not past what waits");
        for _ in 0..20 {
            outbox.send(sent.to_be_bytes().to_vec()).unwrap();
            sent += 1;
        }
        let read = async {
            let mut buffer = [0; 4000];
            for number in std::iter::once(u32::MAX).chain(0..sent) {
                other.receive(&mut buffer).await.unwrap();
                assert_eq!(buffer[..4], number.to_be_bytes());
            }
        };
        let poured = async { panic!("ended: {}", poll_fn(|cx| outbox.poll_pour(cx)).await) };
        block_on(future::or(read, poured)).unwrap();
        assert!(outbox.is_clear());
    }

    #[test]
    fn who_reads_nothing_is_given_up_at_the_bound() {
        let (outbox, other) = pair("full");
        fill(&outbox);
        for _ in 1..MAX_WAITING {
            outbox.send(vec![1]).unwrap();
        }
        assert!(outbox.send(vec![1]).is_err(), "one more than the bound");
        let mut buffer = [0; 4000];
        assert_eq!(block_on(outbox.socket().receive(&mut buffer)).unwrap().unwrap(), 0, "who reads is told");
        block_on(other.receive(&mut buffer)).unwrap().unwrap();
        assert!(outbox.send(vec![1]).is_err(), "it stays so");
        assert!(!outbox.offer(b"x"));
    }
}

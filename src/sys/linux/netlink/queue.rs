//! The packet queue's socket. While nobody has it the kernel drops what is meant for it.
use super::{NETFILTER, Netlink, failure};
use crate::guard::lease_wire::MAX_PACKET;
use crate::guard::netlink::{self as nl, ERROR};
use crate::guard::nfqueue::{Fate, Queued, take_queue, verdict};
use crate::sys::linux::reactor::Io;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::task::{Context, Poll};

/// Bytes of a packet's message: its attributes beside the packet are some hundred.
const PIECE: usize = MAX_PACKET + 4096;
/// Bytes of messages that the kernel holds for us; what is beyond is dropped.
const BUFFER: usize = 1 << 20;

/// The queue.
#[derive(Debug)]
pub struct Queue {
    socket: Netlink,
    wait: Io,
}

impl Queue {
    /// Takes the queue.
    ///
    /// # Errors
    /// The kernel's: it has no `nfnetlink_queue`, or another program has this queue.
    pub fn open() -> io::Result<Queue> {
        let mut socket = Netlink::open(NETFILTER, 0, PIECE, Some(BUFFER))?;
        let first = socket.seq;
        for (message, seq) in take_queue(first).iter().zip(first..) {
            rustix::net::send(&socket.fd, message, SendFlags::empty())?;
            acknowledged(&mut socket, seq)?;
        }
        let wait = Io::of_messages_of(&socket)?;
        Ok(Queue { socket, wait })
    }

    /// Whether a packet waits. Then [`Queue::take`] has to be asked.
    pub fn poll_packet(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait.poll_message(cx)
    }

    /// Takes one message of the kernel's, if there is one; whether there was.
    pub fn take(&mut self, take: impl FnMut(Queued<'_>)) -> bool {
        // What did not fit was dropped, and nothing else happens.
        let received = rustix::net::recv(&self.socket.fd, &mut self.socket.piece[..], RecvFlags::DONTWAIT);
        let there = !matches!(received, Err(Errno::AGAIN));
        let read = received.map_or(0, |(read, _)| read);
        let data = self.socket.piece.get(..read).unwrap_or_default();
        // An error is the answer to a verdict on a packet that is not there any more.
        nl::messages(data).filter_map(|m| Queued::read(&m)).for_each(take);
        there
    }

    /// Says what becomes of a packet.
    ///
    /// # Errors
    /// The kernel's; the packet still waits.
    pub fn judge(&self, packet: u32, fate: Fate, mark: Option<u32>, bytes: Option<&[u8]>) -> io::Result<()> {
        send_verdict(&self.socket, &verdict(packet, fate, mark, bytes))
    }
}

fn send_verdict(socket: &Netlink, message: &[u8]) -> io::Result<()> {
    let sent = rustix::io::retry_on_intr(|| rustix::net::send(&socket.fd, message, SendFlags::empty()));
    Ok(sent.map(drop)?)
}

/// Waits for the answer to a request. A packet that comes before it is one of a table that stands from before; nobody has
/// granted it anything.
fn acknowledged(socket: &mut Netlink, seq: u32) -> io::Result<()> {
    loop {
        let (read, _) = rustix::net::recv(&socket.fd, &mut socket.piece[..], RecvFlags::empty())?;
        let mut answer = None;
        let mut early = Vec::new();
        for message in nl::messages(socket.piece.get(..read).unwrap_or_default()) {
            if message.kind == ERROR && message.seq == seq {
                answer = Some(failure(&message));
            }
            early.extend(Queued::read(&message).map(|q| q.packet));
        }
        for packet in early {
            send_verdict(socket, &verdict(packet, Fate::Drop, None, None))?;
        }
        if let Some(failed) = answer {
            return failed.map_or(Ok(()), Err);
        }
    }
}

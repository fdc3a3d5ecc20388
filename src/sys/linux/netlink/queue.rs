//! The packet queue's socket. While nobody has it the kernel drops what is meant for it.
use super::{NETFILTER, Netlink, failure};
use crate::guard::lease_wire::MAX_PACKET;
use crate::guard::netlink::{self as nl, ERROR};
use crate::guard::nfqueue::{Fate, Queued, take_queue, verdict};
use async_io::Async;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

/// Bytes of a packet's message: its attributes beside the packet are some hundred.
const PIECE: usize = MAX_PACKET + 4096;
/// Bytes of messages that the kernel holds for us; what is beyond is dropped.
const BUFFER: usize = 1 << 20;

/// The queue.
#[derive(Debug)]
pub struct Queue {
    socket: Netlink,
    wait: Async<OwnedFd>,
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
        let wait = Async::new(socket.as_fd().try_clone_to_owned()?)?;
        Ok(Queue { socket, wait })
    }

    /// Waits for packets.
    pub async fn readable(&self) {
        let _ = self.wait.readable().await;
    }

    /// Takes what the kernel has to say at once; whether there may be more.
    pub fn take(&mut self, mut take: impl FnMut(&Queued<'_>)) -> bool {
        match rustix::net::recv(&self.socket.fd, &mut self.socket.piece[..], RecvFlags::DONTWAIT) {
            Ok((read, _)) => {
                let data = self.socket.piece.get(..read).unwrap_or_default();
                // An error is the answer to a verdict on a packet that is not there any more.
                nl::messages(data).filter_map(|m| Queued::read(&m)).for_each(|q| take(&q));
                true
            }
            // What did not fit was dropped, and nothing else happens.
            Err(Errno::INTR | Errno::NOBUFS) => true,
            Err(_) => false,
        }
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

//! A netlink socket: requests and their answers, dumps, reports.
use crate::guard::netlink::{self as nl, DONE, ERROR, INTERRUPTED};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub mod conntrack;
mod network;
pub mod queue;
mod tables;

pub use network::Routes;
pub(super) use network::addresses;
pub use tables::Tables;

/// `NETLINK_ROUTE` is 0, which is no protocol for rustix.
pub(super) const ROUTE: Option<Protocol> = None;
const NETFILTER: Option<Protocol> = Some(rustix::net::netlink::NETFILTER);
/// Bytes read at a time; the kernel's dumps come in pieces of at most 32 KiB.
pub(super) const PIECE: usize = 64 * 1024;
/// The same where it does not matter what is read.
const GLANCE: usize = 256;
/// Bytes of a batch and its answers that the kernel holds for us.
const BUFFER: usize = 4 << 20;
/// How long the kernel has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a dump is asked for again that was changed under way.
const DUMPS: u32 = 5;

/// A netlink socket.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    seq: u32,
    piece: Vec<u8>,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Netlink {
    /// `buffer`: bytes of ours that the kernel holds, of one that takes whole tables.
    pub(super) fn open(
        protocol: Option<Protocol>,
        groups: u32,
        piece: usize,
        buffer: Option<usize>,
    ) -> io::Result<Netlink> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        if let Some(buffer) = buffer {
            sockopt::set_socket_send_buffer_size_force(&fd, buffer)?;
            sockopt::set_socket_recv_buffer_size_force(&fd, buffer)?;
        }
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Netlink { fd, seq: 1, piece: vec![0; piece] })
    }

    /// The number of the next request.
    pub(super) fn next(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// The socket's number, which reports of what it asked for bear.
    pub(super) fn port(&self) -> io::Result<u32> {
        let address = SocketAddrNetlink::try_from(rustix::net::getsockname(&self.fd)?)?;
        Ok(address.pid())
    }

    /// Sends requests and waits until each is acknowledged.
    pub(super) fn request(&mut self, batch: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.fd, batch, SendFlags::empty())?;
        let mut asked: Vec<u32> = nl::messages(batch).map(|m| m.seq).collect();
        let mut failed = None;
        while !asked.is_empty() {
            let (read, _) = rustix::net::recv(&self.fd, &mut self.piece[..], RecvFlags::empty())?;
            for message in nl::messages(self.piece.get(..read).unwrap_or_default()) {
                if message.kind == ERROR && asked.contains(&message.seq) {
                    asked.retain(|seq| *seq != message.seq);
                    failed = failed.or_else(|| failure(&message));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What was reported and has not been read: each message to `take`; `false` if some was lost.
    pub(super) fn reported(&mut self, mut take: impl FnMut(&nl::Message<'_>)) -> bool {
        loop {
            match rustix::net::recv(&self.fd, &mut self.piece[..], RecvFlags::DONTWAIT) {
                Ok((read, _)) => {
                    nl::messages(self.piece.get(..read).unwrap_or_default()).for_each(|m| take(&m))
                }
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Throws away what was reported; whether there was anything.
    pub fn drain(&mut self) -> bool {
        self.drain_of(|_| true)
    }

    /// The same; whether any of it was not asked for by the socket of this number.
    pub fn drain_of_others(&mut self, own: u32) -> bool {
        self.drain_of(|datagram| nl::port_of(datagram) != Some(own))
    }

    fn drain_of(&mut self, counts: impl Fn(&[u8]) -> bool) -> bool {
        let mut any = false;
        loop {
            match rustix::net::recv(&self.fd, &mut self.piece[..], RecvFlags::DONTWAIT) {
                Ok((read, _)) => any |= counts(self.piece.get(..read).unwrap_or_default()),
                Err(Errno::INTR) => {}
                // What did not fit is lost, which is a report as well.
                Err(Errno::NOBUFS) => any = true,
                Err(_) => return any,
            }
        }
    }

    /// Sends a question and takes the pieces of its answer; `Ok(false)` if it was changed under way.
    pub(super) fn dump(
        &mut self,
        question: &[u8],
        mut take: impl FnMut(&nl::Message<'_>),
    ) -> io::Result<bool> {
        rustix::net::send(&self.fd, question, SendFlags::empty())?;
        let mut whole = true;
        loop {
            let (read, _) = rustix::net::recv(&self.fd, &mut self.piece[..], RecvFlags::empty())?;
            for message in nl::messages(self.piece.get(..read).unwrap_or_default()) {
                if message.seq != self.seq {
                    continue;
                }
                whole &= message.flags & INTERRUPTED == 0;
                match message.kind {
                    DONE => return Ok(whole),
                    ERROR => return failure(&message).map_or(Ok(whole), Err),
                    _ => take(&message),
                }
            }
        }
    }
}

/// What `read` makes of one dump or several; again, some times, while it has none because one was changed under way.
///
/// # Errors
/// That of `read`, or all of them were changed.
pub(super) fn until_whole<T>(mut read: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    for _ in 0..DUMPS {
        if let Some(found) = read()? {
            return Ok(found);
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// The error of an `NLMSG_ERROR`; 0 is an acknowledgement.
pub(super) fn failure(message: &nl::Message<'_>) -> Option<io::Error> {
    let number = nl::u32_at(message.body, 0)?.cast_signed();
    (number != 0).then(|| io::Error::from_raw_os_error(number.saturating_neg()))
}

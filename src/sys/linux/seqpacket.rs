//! Unix sockets that keep messages apart, with the user at the other end.
use super::reactor::Io;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Connections that wait for `accept`.
const BACKLOG: i32 = 4;

/// A connection or a listener, of the thread that made it.
#[derive(Debug)]
pub struct Seqpacket(Io);

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// The length of a message, for which there is so much room.
fn whole(room: usize, length: usize) -> io::Result<usize> {
    if length > room { Err(io::ErrorKind::InvalidData.into()) } else { Ok(length) }
}

impl Seqpacket {
    /// Listens; whatever socket lies there is replaced.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listen(path: &Path) -> io::Result<Seqpacket> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let fd = socket()?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&fd, BACKLOG)?;
        Io::of_messages(fd).map(Seqpacket)
    }

    /// Connects.
    ///
    /// # Errors
    /// The kernel's: nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Seqpacket> {
        let fd = socket()?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Io::of_messages(fd).map(Seqpacket)
    }

    /// The user at the other end: who connected, or who called `listen` (SO_PEERCRED of unix(7)).
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer(&self) -> io::Result<u32> {
        Ok(sockopt::socket_peercred(&self.0)?.uid.as_raw())
    }

    /// The next connection, if there is one already.
    ///
    /// # Errors
    /// The kernel's.
    pub fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<Seqpacket>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accepted = ready!(self.0.poll_call(cx, |fd| rustix::net::accept_with(fd, flags)));
        Poll::Ready(accepted.and_then(Io::of_messages).map(Seqpacket))
    }

    /// The next message: its length, 0 at the end. One that does not fit is an error.
    ///
    /// # Errors
    /// The kernel's, or [`io::ErrorKind::InvalidData`].
    pub async fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_receive(cx, into)).await
    }

    /// The next message at once; none if it is not there yet.
    ///
    /// # Errors
    /// As [`Seqpacket::receive`].
    pub fn try_receive(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::net::recv(&self.0, &mut *into, RecvFlags::TRUNC) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            received => whole(into.len(), received?.1).map(Some),
        }
    }

    /// The same, if it is there already.
    ///
    /// # Errors
    /// As [`Seqpacket::receive`].
    pub fn poll_receive(&self, cx: &Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let received = ready!(self.0.poll_call(cx, |fd| rustix::net::recv(fd, &mut *into, RecvFlags::TRUNC)));
        Poll::Ready(received.and_then(|(_, length)| whole(into.len(), length)))
    }

    /// Ends the connection both ways; who waits for a message gets the end.
    pub fn shutdown(&self) {
        // It can only be over already.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }

    /// From now on [`Seqpacket::poll_room`] is told of room, or no more.
    pub fn want_room(&self, wanted: bool) {
        self.0.want_room(wanted);
    }

    /// Whether the other end has made room for a message.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.poll_room(cx)
    }

    /// Sends a message now or not at all.
    ///
    /// # Errors
    /// The kernel's; [`io::ErrorKind::WouldBlock`] if the other end does not read.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        loop {
            match rustix::net::send(&self.0, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent.map(drop)?),
            }
        }
    }
}

/// A connection for a thread that waits.
#[derive(Debug)]
pub struct Waiting(OwnedFd);

impl Waiting {
    /// Connects; no answer may take longer than this.
    ///
    /// # Errors
    /// The kernel's: nobody listens there.
    pub fn connect(path: &Path, patience: Duration) -> io::Result<Waiting> {
        let fd =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(patience))?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(patience))?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Waiting(fd))
    }

    /// The user who listens.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer(&self) -> io::Result<u32> {
        Ok(sockopt::socket_peercred(&self.0)?.uid.as_raw())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| rustix::net::send(&self.0, message, SendFlags::NOSIGNAL))
            .map(drop)?)
    }

    /// The next message: its length, 0 at the end. One that does not fit is an error.
    ///
    /// # Errors
    /// The kernel's; [`io::ErrorKind::WouldBlock`] if none comes in time.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let (_, length) =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut *into, RecvFlags::TRUNC))?;
        if length > into.len() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(length) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reactor::block_on;
    use super::*;

    #[test]
    fn messages_stay_apart_and_ends_know_each_other() {
        let path = std::env::temp_dir().join(format!("echomesh-seq-{}", std::process::id()));
        block_on(async {
            let listener = Seqpacket::listen(&path).unwrap();
            let one = Seqpacket::connect(&path).unwrap();
            let other = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
            let me = rustix::process::geteuid().as_raw();
            assert_eq!((one.peer().unwrap(), other.peer().unwrap()), (me, me));
            one.send(b"ab").unwrap();
            one.send(b"cdef").unwrap();
            one.send(b"gh").unwrap();
            let mut buffer = [0; 3];
            assert_eq!(other.receive(&mut buffer).await.unwrap(), 2);
            assert_eq!(other.receive(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert_eq!(other.receive(&mut buffer).await.unwrap(), 2);
            drop(one);
            assert_eq!(other.receive(&mut buffer).await.unwrap(), 0);
        })
        .unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

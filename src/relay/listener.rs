//! Accepting buyers. Nothing a peer does or leaves undone holds up the next one.
use super::buyer::Buyer;
use super::door::Seat;
use super::shared::RelayShared;
use super::tunnel;
use crate::mutant;
use crate::sys::linux::net;
use crate::sys::linux::reactor::{Io, READ, WRITE};
use crate::tls::server::Acceptor;
use crate::tls::stream::TlsStream;
use async_io::Timer;
use futures_lite::future;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// Connections taken before others get their turn.
const ACCEPT_BATCH: usize = 32;
/// Pause when the kernel has no descriptors left: time for closed ones to come back.
const EXHAUSTED_MS: u64 = 10;
/// A record's header, and the longest first one that is waited for (RFC 8446 section 5.1).
const RECORD_HEADER: usize = 5;
const MAX_RECORD: usize = RECORD_HEADER + (1 << 14);

/// Serves buyers over TLS. Ends only with an error of the listener's.
///
/// # Errors
/// The kernel's, if it will not watch the listener.
pub async fn serve_tls(
    listener: std::net::TcpListener,
    acceptor: Rc<Acceptor>,
    shared: Rc<RelayShared>,
) -> io::Result<()> {
    accept_all(listener.into(), shared, move |io, shared, seat| {
        let (acceptor, task) = (acceptor.clone(), shared.clone());
        let work = async move {
            if future::or(greeted(&io, &task, &seat), late(&seat, mutant::out("greeting-deadline")))
                .await
                .is_ok()
            {
                // What comes next takes kilobytes, and most of a flood does not come this far.
                Box::pin(secure(io, acceptor, task, seat)).await;
            }
        };
        shared.executor.spawn(work).detach();
    })
    .await
}

async fn late(seat: &Seat, is_out: bool) -> io::Result<()> {
    if is_out {
        std::future::pending::<()>().await;
    }
    seat.over().await;
    Err(io::ErrorKind::TimedOut.into())
}

/// Waits for a whole first record, which stays in the kernel, and for this connection's turn. Silence, half a
/// ClientHello and waiting so cost no memory here.
async fn greeted(io: &Io, shared: &RelayShared, seat: &Seat) -> io::Result<()> {
    loop {
        io.ready(READ).await;
        let whole = {
            let mut scratch = shared.scratch.borrow_mut();
            let window = scratch.get_mut(..MAX_RECORD).unwrap_or_default();
            match rustix::net::recv(io, &mut *window, RecvFlags::PEEK) {
                Ok((got, _)) => is_whole(window.get(..got).unwrap_or_default()),
                Err(Errno::AGAIN) => false,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
        };
        if whole {
            seat.turn().await;
            return Ok(());
        }
        if io.is_closed() && !mutant::out("half-hello-closed") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        io.blocked(READ);
    }
}

/// Whether a record (RFC 8446 section 5.1) has arrived whole, or something that is no TLS and gets its alert.
fn is_whole(bytes: &[u8]) -> bool {
    match bytes {
        [22, 3, _, high, low, ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            bytes.len() >= (RECORD_HEADER + length).min(MAX_RECORD)
        }
        [] | [22] | [22, 3] | [22, 3, _] | [22, 3, _, _] => false,
        _ => true,
    }
}

async fn secure(io: Io, acceptor: Rc<Acceptor>, shared: Rc<RelayShared>, seat: Seat) {
    let Ok(stream) = TlsStream::new(io, acceptor.config()) else { return };
    let mut stream = Box::new(stream);
    if future::or(stream.handshake(&shared.scratch), late(&seat, mutant::out("handshake-deadline")))
        .await
        .is_ok()
    {
        tunnel::serve(Buyer::Tls(stream), shared, seat).await;
    }
}

/// Serves local buyers without TLS: over TCP of the loopback interface, or a Unix socket.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if others can reach the listener; the kernel's, if it will not watch it.
pub async fn serve_plain(listener: impl Into<OwnedFd>, shared: Rc<RelayShared>) -> io::Result<()> {
    let listener = listener.into();
    if !net::is_local(&listener) {
        let why = "without TLS the relay listens on loopback addresses and Unix sockets only";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    accept_all(listener, shared, |io, shared, seat| {
        let task = shared.clone();
        shared.executor.spawn(tunnel::serve(Buyer::Plain(io), task, seat)).detach();
    })
    .await
}

async fn accept_all(
    listener: OwnedFd,
    shared: Rc<RelayShared>,
    start: impl Fn(Io, &Rc<RelayShared>, Seat),
) -> io::Result<()> {
    net::prepare_listener(listener.as_fd())?;
    let listener = Io::new(&shared.reactor, listener, READ)?;
    loop {
        listener.ready(READ).await;
        for _ in 0..ACCEPT_BATCH {
            match net::accept(listener.as_fd()) {
                Ok(Some((fd, peer))) => {
                    // Without a seat the socket is closed here, before anything is made for it.
                    if let Some(seat) = shared.door.enter(peer)
                        && let Ok(io) = Io::new(&shared.reactor, fd, READ | WRITE)
                    {
                        start(io, &shared, seat);
                    }
                }
                Ok(None) => {
                    listener.blocked(READ);
                    break;
                }
                Err(_) => {
                    // Descriptors or memory have run out. Strangers give theirs back; buyers keep what they have.
                    shared.door.shed(ACCEPT_BATCH);
                    Timer::after(Duration::from_millis(EXHAUSTED_MS)).await;
                    break;
                }
            }
        }
        future::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_whole_when_its_last_byte_is_there() {
        let record = [&[22, 3, 1, 0, 3][..], b"abc"].concat();
        assert!((0..record.len()).all(|n| !is_whole(&record[..n])));
        assert!(is_whole(&record) && is_whole(&[&record[..], b"more"].concat()));
        // What is longer than any record is TLS's to refuse.
        assert!(!is_whole(&[&[22, 3, 3, 0xff, 0xff][..], &[0; 100]].concat()));
        assert!(is_whole(&[&[22, 3, 3, 0xff, 0xff][..], &[0; MAX_RECORD]].concat()));
        assert!([&b"G"[..], b"CONNECT", &[22, 4], &[0x80, 0x2e]].iter().all(|other| is_whole(other)));
    }
}

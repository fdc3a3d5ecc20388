//! Accepting buyers. Nothing a peer does or leaves undone holds up the next one.
use super::buyer::Buyer;
use super::shared::RelayShared;
use super::tunnel;
use super::watch::Deadline;
use crate::sys::linux::net;
use crate::sys::linux::reactor::{Io, READ, WRITE};
use crate::tls::server::Acceptor;
use crate::tls::stream::TlsStream;
use async_io::Timer;
use futures_lite::future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// Connections taken before others get their turn.
const ACCEPT_BATCH: usize = 32;
/// Pause when the kernel has no descriptors left.
const EXHAUSTED_MS: u64 = 100;

/// Serves buyers over TLS. Ends only with an error of the listener's.
///
/// # Errors
/// The kernel's, if it will not watch the listener.
pub async fn serve_tls(
    listener: std::net::TcpListener,
    acceptor: Rc<Acceptor>,
    shared: Rc<RelayShared>,
) -> io::Result<()> {
    accept_all(listener.into(), shared, move |io, shared, deadline| {
        let config = acceptor.config();
        let task = shared.clone();
        let work = async move {
            let Ok(stream) = TlsStream::new(io, config) else { return };
            let mut stream = Box::new(stream);
            let late = async {
                deadline.over().await;
                Err(io::ErrorKind::TimedOut.into())
            };
            if future::or(stream.handshake(&task.scratch), late).await.is_ok() {
                tunnel::serve(Buyer::Tls(stream), task, deadline).await;
            }
        };
        shared.executor.spawn(work).detach();
    })
    .await
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
    accept_all(listener, shared, |io, shared, deadline| {
        let task = shared.clone();
        shared.executor.spawn(tunnel::serve(Buyer::Plain(io), task, deadline)).detach();
    })
    .await
}

async fn accept_all(
    listener: OwnedFd,
    shared: Rc<RelayShared>,
    start: impl Fn(Io, &Rc<RelayShared>, Deadline),
) -> io::Result<()> {
    net::prepare_listener(listener.as_fd())?;
    let listener = Io::new(&shared.reactor, listener, READ)?;
    loop {
        listener.ready(READ).await;
        for _ in 0..ACCEPT_BATCH {
            match net::accept(listener.as_fd()) {
                Ok(Some(fd)) => {
                    if let Ok(io) = Io::new(&shared.reactor, fd, READ | WRITE) {
                        let deadline = shared.stranger();
                        start(io, &shared, deadline);
                    }
                }
                Ok(None) => {
                    listener.blocked(READ);
                    break;
                }
                Err(_) => {
                    Timer::after(Duration::from_millis(EXHAUSTED_MS)).await;
                    break;
                }
            }
        }
        future::yield_now().await;
    }
}

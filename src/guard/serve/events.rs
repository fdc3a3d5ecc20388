//! What the guard waits for.
use super::super::lease_kernel::Woken;
use super::super::protocol::Request;
use super::super::uci::UciError;
use super::super::work::For;
use super::Guard;
use crate::sys::linux::netlink::Netlink;
use crate::sys::linux::seqpacket::Seqpacket;
use crate::sys::linux::signals::{Signal, Signals};
use async_io::Async;
use futures_lite::future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// A socket of reports, and the same one to wait for.
pub(super) struct Events {
    pub(super) socket: Netlink,
    pub(super) wait: Async<OwnedFd>,
}

impl Events {
    pub(super) fn new(socket: Netlink) -> io::Result<Events> {
        let wait = Async::new(socket.as_fd().try_clone_to_owned()?)?;
        Ok(Events { socket, wait })
    }
}

/// What has happened.
pub(super) enum Event {
    Signal(Signal),
    Tables,
    Routes,
    Leases(Woken),
    Client(io::Result<Seqpacket>),
    Heard(u64, io::Result<Request>),
    Worked(For, Result<String, UciError>),
    Time,
}

impl Guard {
    /// Waits for what is next.
    pub(super) async fn next(&mut self, signals: &Signals) -> Event {
        let dues = [
            self.keeper.due_ms(),
            self.leases.due_ms(),
            self.network_due,
            self.config_due,
            Some(self.review_due),
            Some(self.report_due),
        ];
        let next = dues.into_iter().flatten().min().unwrap_or(0).saturating_sub(self.now());
        let time = async {
            async_io::Timer::after(Duration::from_millis(next)).await;
            Event::Time
        };
        // If signals cannot be read, the guard ends: it could not be ended otherwise.
        let signal = async { Event::Signal(signals.next().await.unwrap_or(Signal::Stop)) };
        let tables = async {
            let _ = self.table_events.wait.readable().await;
            Event::Tables
        };
        let routes = async {
            let _ = self.route_events.wait.readable().await;
            Event::Routes
        };
        let client = async { Event::Client(self.listener.accept().await) };
        let heard = async {
            let (client, said) = self.clients.heard().await;
            Event::Heard(client, said)
        };
        let worked = async {
            let (whom, result) = self.work.next().await;
            Event::Worked(whom, result)
        };
        let leases = async { Event::Leases(self.leases.next().await) };
        let kernel = future::or(future::or(tables, routes), leases);
        let asked = future::or(client, future::or(heard, worked));
        future::or(signal, future::or(kernel, future::or(asked, time))).await
    }
}

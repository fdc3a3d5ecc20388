//! What the guard waits for. Nothing is asked for anew in each turn: the reactor remembers what is ready, and each of it is served
//! once before it is asked again, so that neither a flood of packets nor a node that talks without end keeps the other waiting.
use super::Guard;
use crate::guard::lease_kernel::Woken;
use crate::guard::protocol::Request;
use crate::guard::uci::UciError;
use crate::guard::work::For;
use crate::sys::linux::netlink::Netlink;
use crate::sys::linux::reactor::{Io, poll_again_within};
use crate::sys::linux::seqpacket::Seqpacket;
use crate::sys::linux::signals::{Signal, Signals};
use std::io;
use std::task::{Context, Poll};

/// A socket of reports, and the same one to wait for.
pub(super) struct Events {
    pub socket: Netlink,
    wait: Io,
}

impl Events {
    /// Of a socket.
    pub fn new(socket: Netlink) -> io::Result<Events> {
        let wait = Io::of_messages_of(&socket)?;
        Ok(Events { socket, wait })
    }
}

/// What has come.
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
    /// The next event, if there is one.
    pub(super) fn poll_next(&mut self, signals: &Signals, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(signal) = signals.poll_next(cx) {
            // If signals cannot be read, the guard ends: it could not be ended otherwise.
            return Poll::Ready(Event::Signal(signal.unwrap_or(Signal::Stop)));
        }
        if let Poll::Ready((client, said)) = self.clients.poll_heard(cx) {
            return Poll::Ready(Event::Heard(client, said));
        }
        if let Poll::Ready(woken) = self.leases.poll_next(cx) {
            return Poll::Ready(Event::Leases(woken));
        }
        if self.table_events.wait.poll_message(cx).is_ready() {
            return Poll::Ready(Event::Tables);
        }
        if self.route_events.wait.poll_message(cx).is_ready() {
            return Poll::Ready(Event::Routes);
        }
        if let Poll::Ready(client) = self.listener.poll_accept(cx) {
            return Poll::Ready(Event::Client(client));
        }
        if let Poll::Ready((whom, result)) = self.work.poll_next(cx) {
            return Poll::Ready(Event::Worked(whom, result));
        }
        self.poll_time().map(|()| Event::Time)
    }

    /// Whether anything is due.
    fn poll_time(&self) -> Poll<()> {
        let dues = [
            self.keeper.due_ms(),
            self.leases.due_ms(),
            self.network_due,
            self.config_due,
            Some(self.review_due),
            Some(self.report_due),
        ];
        let next = dues.into_iter().flatten().min().unwrap_or(0);
        let now = self.now();
        // Without a reactor nothing would wait at all.
        if next <= now || poll_again_within(next - now).is_err() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

//! The connections of `run`.
use super::outbox::Outbox;
use super::protocol::{MAX_REQUEST, Report, Request};
use super::uci::Exchange;
use crate::sys::linux::seqpacket::Seqpacket;
use std::io;
use std::task::{Context, Poll};

/// At a time: one, its successor while the old one ends, and those that read or write the configuration.
const MAX_CLIENTS: usize = 4;

/// One of them.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: u64,
    way: Outbox,
    /// What it asks of the configuration.
    pub exchange: Exchange,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Clients {
    list: Vec<Client>,
    last: u64,
    /// Room for a request.
    buffer: Vec<u8>,
}

impl Clients {
    /// Takes one in, and numbers it; the oldest goes if there are too many, but not the one to be kept.
    pub fn add(&mut self, socket: Seqpacket, kept: Option<u64>) -> u64 {
        if self.list.len() >= MAX_CLIENTS
            && let Some(oldest) = self.list.iter().position(|c| Some(c.id) != kept)
        {
            self.list.remove(oldest);
        }
        self.last += 1;
        self.list.push(Client { id: self.last, way: Outbox::new(socket), exchange: Exchange::default() });
        self.last
    }

    /// One that is still there.
    pub fn find(&mut self, id: u64) -> Option<&mut Client> {
        self.list.iter_mut().find(|c| c.id == id)
    }

    /// Ends a connection.
    pub fn remove(&mut self, id: u64) {
        self.list.retain(|c| c.id != id);
    }

    /// Sends to all. Who does not read loses the connection, and carries nothing then.
    pub fn tell(&mut self, message: &[u8]) {
        let gone: Vec<u64> =
            self.list.iter().filter(|c| c.way.send(message.to_vec()).is_err()).map(|c| c.id).collect();
        gone.into_iter().for_each(|id| self.remove(id));
    }

    /// Sends to one now or not at all; whether it was sent.
    pub fn offer(&self, id: u64, report: &Report) -> bool {
        self.list.iter().any(|c| c.id == id && c.way.offer(&report.encode()))
    }

    /// Whether one has read all that it was sent.
    pub fn is_clear(&self, id: u64) -> bool {
        self.list.iter().any(|c| c.id == id && c.way.is_clear())
    }

    /// Answers one.
    pub fn answer(&mut self, id: u64, report: &Report) {
        if self.find(id).is_some_and(|c| c.way.send(report.encode()).is_err()) {
            self.remove(id);
        }
    }

    /// The next request of any of them, while they are sent what waits for them; an error ends its connection.
    pub fn poll_heard(&mut self, cx: &Context<'_>) -> Poll<(u64, io::Result<Request>)> {
        self.buffer.resize(MAX_REQUEST, 0);
        for client in &self.list {
            if let Poll::Ready(e) = client.way.poll_pour(cx) {
                return Poll::Ready((client.id, Err(e)));
            }
            if let Poll::Ready(length) = client.way.socket().poll_receive(cx, &mut self.buffer) {
                let read = |length| self.buffer.get(..length).unwrap_or_default();
                let bad = |_| io::ErrorKind::InvalidData.into();
                let said = length.and_then(|length| Request::decode(read(length)).map_err(bad));
                return Poll::Ready((client.id, said));
            }
        }
        Poll::Pending
    }
}

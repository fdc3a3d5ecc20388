//! The buyer's side of a connection while it is set up: plain, or inside the outer TLS.
use super::shared::CHUNK;
use crate::sys::linux::net;
use crate::sys::linux::reactor::{Io, READ, WRITE};
use crate::tls::stream::TlsStream;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;

/// Bytes read and thrown away after a refusal, so that it is not lost to a reset.
const LINGER_BYTES: usize = 64 * 1024;

/// Where requests come from.
pub(super) enum Buyer {
    Plain(Io),
    Tls(Box<TlsStream>),
}

impl Buyer {
    /// Appends up to `most` bytes; 0 at the end of the stream.
    pub async fn read(
        &mut self,
        into: &mut Vec<u8>,
        most: usize,
        scratch: &RefCell<Box<[u8]>>,
    ) -> io::Result<usize> {
        match self {
            Buyer::Plain(io) => {
                let got = io
                    .retry(READ, |fd| {
                        let mut scratch = scratch.borrow_mut();
                        let window = scratch.get_mut(..most.min(CHUNK)).unwrap_or_default();
                        let asked = window.len();
                        let (got, _) = rustix::net::recv(fd, window, RecvFlags::empty())?;
                        into.extend_from_slice(scratch.get(..got).unwrap_or_default());
                        Ok((got, got < asked))
                    })
                    .await?;
                if got.1 {
                    io.read_short();
                }
                Ok(got.0)
            }
            Buyer::Tls(stream) => stream.read(into, most, scratch).await,
        }
    }

    /// Sends all of it.
    pub async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Buyer::Plain(io) => {
                while !bytes.is_empty() {
                    let sent =
                        io.retry(WRITE, |fd| rustix::net::send(fd, bytes, SendFlags::NOSIGNAL)).await?;
                    bytes = bytes.get(sent..).unwrap_or_default();
                }
                Ok(())
            }
            Buyer::Tls(stream) => stream.write(bytes).await,
        }
    }

    /// Ends our half, and reads on for a while: bytes that nobody reads would turn the close into a reset, and the
    /// buyer might never see why it was refused. The caller bounds the time.
    pub async fn close(mut self, scratch: &RefCell<Box<[u8]>>) -> io::Result<()> {
        if let Buyer::Tls(stream) = &mut self {
            stream.finish().await?;
        }
        let io = self.io();
        rustix::net::shutdown(io, Shutdown::Write)?;
        let mut left = LINGER_BYTES;
        while left > 0 {
            let read = |fd: std::os::fd::BorrowedFd<'_>| {
                let mut scratch = scratch.borrow_mut();
                Ok(rustix::net::recv(fd, &mut scratch[..], RecvFlags::empty())?.0)
            };
            match io.retry(READ, read).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    }

    /// Cuts the connection.
    pub fn reset(self) {
        net::reset(self.io().as_fd());
    }

    /// The socket.
    pub fn io(&self) -> &Io {
        match self {
            Buyer::Plain(io) => io,
            Buyer::Tls(stream) => stream.io(),
        }
    }
}

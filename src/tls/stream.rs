//! The outer TLS of a buyer's connection, driven directly on a non-blocking socket.
use crate::sys::linux::reactor::{Io, READ, WRITE};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::{ServerConfig, ServerConnection};
use std::cell::RefCell;
use std::io::{self, BufRead, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A socket and the TLS on it.
pub struct TlsStream {
    io: Io,
    conn: ServerConnection,
}

impl TlsStream {
    /// Waits for nothing yet; see [`TlsStream::handshake`].
    ///
    /// # Errors
    /// rustls', if the configuration is none.
    pub fn new(io: Io, config: Arc<ServerConfig>) -> io::Result<TlsStream> {
        let mut conn = ServerConnection::new(config).map_err(io::Error::other)?;
        conn.set_buffer_limit(None);
        Ok(TlsStream { io, conn })
    }

    /// Completes the handshake.
    ///
    /// # Errors
    /// The peer's alert, or what is wrong with its messages; ours was sent if the socket took it.
    pub async fn handshake(&mut self, scratch: &RefCell<Box<[u8]>>) -> io::Result<()> {
        while self.conn.is_handshaking() {
            if self.conn.wants_write() {
                self.flush().await?;
            } else if self.receive(scratch).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.flush().await
    }

    /// Appends up to `most` bytes of plaintext; 0 at the end of the stream.
    ///
    /// # Errors
    /// The socket's, or what is wrong with a record.
    pub async fn read(
        &mut self,
        into: &mut Vec<u8>,
        most: usize,
        scratch: &RefCell<Box<[u8]>>,
    ) -> io::Result<usize> {
        loop {
            match take(&mut self.conn, into, most) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.receive(scratch).await? == 0 {
                return Ok(0);
            }
        }
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// The socket's.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.conn.writer().write_all(bytes)?;
        self.flush().await
    }

    /// Sends the close_notify.
    ///
    /// # Errors
    /// The socket's.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush().await
    }

    /// The socket.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// The parts, for the pump.
    pub fn into_parts(self) -> (Io, ServerConnection) {
        (self.io, self.conn)
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.conn.wants_write() {
            let conn = &mut self.conn;
            self.io.retry(WRITE, |fd| send_tls(conn, fd)).await?;
        }
        Ok(())
    }

    /// Reads records of at most 4 KiB at a time, as rustls takes them: what follows stays in the kernel.
    async fn receive(&mut self, scratch: &RefCell<Box<[u8]>>) -> io::Result<usize> {
        let (got, asked) = self
            .io
            .retry(READ, |fd| {
                let mut scratch = scratch.borrow_mut();
                let window = scratch.get_mut(..SETUP_READ).unwrap_or_default();
                let asked = window.len();
                let got = rustix::net::recv(fd, window, RecvFlags::empty())?.0;
                Ok((got, asked))
            })
            .await?;
        if got < asked {
            self.io.read_short();
        }
        let fed = {
            let scratch = scratch.borrow();
            feed(&mut self.conn, scratch.get(..got).unwrap_or_default())
        };
        if let Err(e) = fed {
            // The alert goes out if it can; the connection is over anyway.
            let _ = send_tls(&mut self.conn, self.io.as_fd());
            return Err(e);
        }
        Ok(got)
    }
}

/// Bytes of one read while a connection is set up: their plaintext fits into what rustls buffers.
const SETUP_READ: usize = 8 * 1024;

/// Gives received bytes to rustls. They must be few enough for its plaintext buffer (16 KiB).
///
/// # Errors
/// What is wrong with a record, as [`io::ErrorKind::InvalidData`].
pub fn feed(conn: &mut ServerConnection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        conn.read_tls(&mut bytes)?;
        conn.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    }
    Ok(())
}

/// Sends what rustls has to send, as much as the socket takes in one call.
///
/// # Errors
/// The socket's.
pub fn send_tls(conn: &mut ServerConnection, fd: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    conn.write_tls(&mut Socket(fd)).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

fn take(conn: &mut ServerConnection, into: &mut Vec<u8>, most: usize) -> io::Result<usize> {
    let mut reader = conn.reader();
    let chunk = match reader.fill_buf() {
        // A FIN without close_notify ends the stream all the same; what is inside has its own.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
        other => other?,
    };
    let taken = chunk.get(..most.min(chunk.len())).unwrap_or_default();
    into.extend_from_slice(taken);
    let count = taken.len();
    reader.consume(count);
    Ok(count)
}

struct Socket<'a>(BorrowedFd<'a>);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.0, bytes, rustix::net::SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [one] => self.write(one),
            many => Ok(rustix::io::writev(self.0, many)?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

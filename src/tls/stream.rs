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
            feed_all(&mut self.conn, scratch.get(..got).unwrap_or_default())
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

/// Gives received bytes to rustls until there is plaintext to take: with more than 16 KiB of it waiting rustls reads
/// nothing. Gives how many bytes it took; what follows a close_notify is taken and ignored.
///
/// # Errors
/// What is wrong with a record, as [`io::ErrorKind::InvalidData`].
pub fn feed(conn: &mut ServerConnection, bytes: &[u8]) -> io::Result<usize> {
    let mut left = bytes;
    while !left.is_empty() {
        if conn.read_tls(&mut left)? == 0 {
            return Ok(bytes.len());
        }
        let state = conn.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        if state.plaintext_bytes_to_read() > 0 {
            break;
        }
    }
    Ok(bytes.len() - left.len())
}

fn feed_all(conn: &mut ServerConnection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let taken = feed(conn, bytes)?;
        bytes = bytes.get(taken..).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::io::Read;

    fn pair() -> (ClientConnection, ServerConnection) {
        let made = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone());
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let server = server.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let name = ServerName::try_from("relay.test").unwrap();
        let mut client = ClientConnection::new(Arc::new(client.with_no_client_auth()), name).unwrap();
        client.set_buffer_limit(None);
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            feed_all(&mut server, &sent(&mut client)).unwrap();
            let mut back = Vec::new();
            server.write_tls(&mut back).unwrap();
            client.read_tls(&mut back.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        (client, server)
    }

    fn sent(client: &mut ClientConnection) -> Vec<u8> {
        let mut out = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut out).unwrap();
        }
        out
    }

    #[test]
    fn records_of_any_size_arrive_whole_however_they_are_cut() {
        let (mut client, mut server) = pair();
        let plain: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let mut at = 0;
        for size in [97, 16_384, 16_384, 11, 16_384, 1, 5000].into_iter().cycle() {
            let end = plain.len().min(at + size);
            client.writer().write_all(&plain[at..end]).unwrap();
            at = end;
            if at == plain.len() {
                break;
            }
        }
        let mut received = Vec::new();
        for mut piece in sent(&mut client).chunks(4096) {
            while !piece.is_empty() {
                let taken = feed(&mut server, piece).unwrap();
                piece = &piece[taken..];
                let mut buffer = [0; 4096];
                while let Ok(got @ 1..) = server.reader().read(&mut buffer) {
                    received.extend_from_slice(&buffer[..got]);
                }
            }
        }
        assert!(received == plain);
    }

    #[test]
    fn what_follows_a_close_notify_is_ignored() {
        let (mut client, mut server) = pair();
        client.send_close_notify();
        let mut bytes = sent(&mut client);
        bytes.extend_from_slice(b"and on it goes");
        assert_eq!(feed(&mut server, &bytes).unwrap(), bytes.len());
        assert_eq!(feed(&mut server, b"and on").unwrap(), 6);
    }
}

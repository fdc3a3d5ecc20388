//! One client connection: dialled, secured, and used for one exchange after the other.
use super::client::{Error, Phase};
use super::head::{BodyReader, MAX_HEAD, Malformed, Piece, ResponseHead, response_framing, response_head};
use super::url::Origin;
use crate::egress::Egress;
use crate::mutant;
use crate::sys::linux::net;
use crate::tls::client::ClientTls;
use async_io::{Async, Timer};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future};
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use futures_rustls::pki_types::ServerName;
use futures_rustls::rustls;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes asked of the socket at a time while a head is awaited, and within a body.
const HEAD_STEP: usize = 4 * 1024;
const BODY_STEP: usize = 16 * 1024;
/// Most interim (1xx) responses before the final one.
const MAX_INTERIM: u32 = 4;

/// Runs a step of an exchange under its deadline.
pub async fn within<T>(
    limit: Duration,
    phase: Phase,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    future::or(step, async {
        Timer::after(limit).await;
        Err(Error::Timeout(phase))
    })
    .await
}

/// Connects to the first address that answers; `limit` holds for all of them together.
pub async fn dial(
    egress: &Egress,
    addresses: &[IpAddr],
    port: u16,
    limit: Duration,
) -> Result<Async<TcpStream>, Error> {
    let attempts = async {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
        for (i, address) in addresses.iter().enumerate() {
            // One silent address must not use up the time of the others.
            let share = if i + 1 < addresses.len() { limit / 3 } else { limit };
            let connecting = connect(egress, SocketAddr::new(*address, port));
            match within(share, Phase::Connect, async { connecting.await.map_err(Error::Connect) }).await {
                Ok(stream) => return Ok(stream),
                Err(Error::Connect(e)) => last = e,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(Error::Connect(last))
    };
    within(limit, Phase::Connect, attempts).await
}

async fn connect(egress: &Egress, to: SocketAddr) -> io::Result<Async<TcpStream>> {
    let stream = Async::new_nonblocking(TcpStream::from(egress.connect(to)?.0))?;
    stream.writable().await?;
    net::connected(stream.as_fd())?;
    Ok(stream)
}

/// A TCP stream, with or without TLS on it.
enum Stream {
    Plain(Async<TcpStream>),
    Tls(Box<TlsStream<Async<TcpStream>>>),
}

/// A connection to an origin and the bytes read ahead of their use.
pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that a body has used up. They are taken off once for each read: a body may come
    /// in chunks of one byte.
    used: usize,
    torn: bool,
}

impl Connection {
    /// Without TLS.
    pub fn plain(stream: Async<TcpStream>) -> Connection {
        Connection { stream: Stream::Plain(stream), buffer: Vec::new(), used: 0, torn: false }
    }

    /// After a TLS handshake in which the peer has proved to be `origin`.
    pub async fn secure(
        stream: Async<TcpStream>,
        origin: &Origin,
        tls: &ClientTls,
        limit: Duration,
    ) -> Result<Connection, Error> {
        let config = tls.config().await.map_err(|e| Error::Trust(e.to_string()))?;
        let name = ServerName::try_from(origin.host.clone()).map_err(|e| Error::Tls(e.to_string()))?;
        let handshake = async { TlsConnector::from(config).connect(name, stream).await.map_err(tls_error) };
        let stream = within(limit, Phase::Tls, handshake).await?;
        Ok(Connection { stream: Stream::Tls(Box::new(stream)), buffer: Vec::new(), used: 0, torn: false })
    }

    /// Whether an idle connection may be used again: nothing has come in on it, not even its end.
    pub fn is_quiet(&self) -> bool {
        let socket = match &self.stream {
            Stream::Plain(s) => s.get_ref(),
            Stream::Tls(s) => s.get_ref().0.get_ref(),
        };
        let mut byte = [0];
        let peeked = socket.peek(&mut byte);
        self.buffer.is_empty() && peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a whole request.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream.write_all(bytes).await.map_err(Error::Io)?;
        self.stream.flush().await.map_err(Error::Io)
    }

    /// Reads the final response's head and prepares its body.
    pub async fn head(&mut self, method: &str) -> Result<(ResponseHead, BodyReader), Error> {
        let mut interim = 0;
        loop {
            if let Some((head, length)) = response_head(&self.buffer)? {
                self.buffer.drain(..length);
                if (100..200).contains(&head.status) && head.status != 101 {
                    interim += 1;
                    if interim > MAX_INTERIM && !mutant::out("answer-interim") {
                        return Err(Malformed::Head.into());
                    }
                    continue;
                }
                let reader = BodyReader::new(response_framing(method, &head)?);
                return Ok((head, reader));
            }
            if self.fill(HEAD_STEP.min(MAX_HEAD)).await? == 0 {
                return Err(if self.buffer.is_empty() { Error::Closed } else { Malformed::Truncated.into() });
            }
        }
    }

    /// Reads the next content of a body into `out` (which is cleared); false at its end.
    pub async fn content(&mut self, reader: &mut BodyReader, out: &mut Vec<u8>) -> Result<bool, Error> {
        out.clear();
        loop {
            let rest = self.buffer.get(self.used..).unwrap_or_default();
            match reader.next(rest)? {
                Piece::Data(range) => {
                    out.extend_from_slice(rest.get(range.clone()).unwrap_or_default());
                    self.used += range.end;
                    return Ok(true);
                }
                Piece::End(used) => {
                    self.drop_used(used);
                    return Ok(false);
                }
                Piece::More(used) => self.drop_used(used),
            }
            if self.fill(BODY_STEP).await? == 0 {
                if !mutant::out("answer-whole") {
                    reader.end_of_stream()?;
                }
                return if self.torn && !mutant::out("answer-close-notify") {
                    Err(Malformed::Truncated.into())
                } else {
                    Ok(false)
                };
            }
        }
    }

    fn drop_used(&mut self, more: usize) {
        let used = std::mem::take(&mut self.used) + more;
        self.buffer.drain(..used.min(self.buffer.len()));
    }

    /// Gives the read buffer's memory back; for an idle connection.
    pub fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    async fn fill(&mut self, step: usize) -> Result<usize, Error> {
        let have = self.buffer.len();
        self.buffer.resize(have + step, 0);
        let result = self.stream.read(self.buffer.get_mut(have..).unwrap_or_default()).await;
        let read = match result {
            Ok(n) => n,
            // The end of a TLS stream without close_notify: anybody on the way can cause that.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.torn = true;
                0
            }
            Err(e) => {
                self.buffer.truncate(have);
                return Err(Error::Io(e));
            }
        };
        self.buffer.truncate(have + read);
        Ok(read)
    }
}

/// Tells a certificate that is outside its time apart from every other failure of a handshake.
fn tls_error(error: io::Error) -> Error {
    use rustls::CertificateError as C;
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        )) => Error::CertificateTime(error.to_string()),
        _ => Error::Tls(error.to_string()),
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_close(cx),
            Stream::Tls(s) => Pin::new(s.as_mut()).poll_close(cx),
        }
    }
}

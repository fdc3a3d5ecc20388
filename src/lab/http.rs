//! Serving HTTP/1.1 with hyper on the lab's single thread, with or without TLS.
use super::json::{self, Json, object, text};
use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::TlsAcceptor;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::{Request, Response};
use smol_hyper::rt::FuturesIo;
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The executor every task of the lab runs on.
pub type Executor = Rc<LocalExecutor<'static>>;
/// A request as hyper gives it.
pub type Incomings = Request<Incoming>;
/// What a handler answers; an error cuts the connection without an answer.
pub type Answer = io::Result<Response<Payload>>;
type Handler = Rc<dyn Fn(Incomings, Rc<Wire>) -> Pin<Box<dyn Future<Output = Answer>>>>;

/// Connections one listener carries at a time.
const MAX_CONNECTIONS: usize = 4096;

/// Block that content without meaning is made of.
pub static FILLER: [u8; 262_144] = filler();

const fn filler() -> [u8; 262_144] {
    let mut block = [0; 262_144];
    let mut i = 0;
    let mut word: u32 = 0x9e37_79b9;
    while i < block.len() {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        #[allow(clippy::indexing_slicing, reason = "i is below the length; const code has no iterators")]
        {
            block[i] = (word >> 24) as u8;
        }
        i += 1;
    }
    block
}

/// TCP payload of one connection, as its socket sees it.
#[derive(Default)]
pub struct Wire {
    /// Bytes that arrived.
    pub received: Cell<u64>,
    /// Bytes the kernel took.
    pub sent: Cell<u64>,
    /// The other side's address.
    pub peer: Cell<Option<SocketAddr>>,
}

/// A response's content.
pub enum Payload {
    /// Pieces, one after the other.
    Pieces(VecDeque<Bytes>),
    /// That many bytes of [`FILLER`], then the tail.
    Filler(u64, Bytes),
    /// That many bytes announced, so many of [`FILLER`] sent, then the connection is cut.
    Short(u64, u64),
}

impl Payload {
    /// Content from bytes.
    pub fn from(bytes: impl Into<Bytes>) -> Payload {
        Payload::Pieces([bytes.into()].into())
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match self.get_mut() {
            Payload::Pieces(pieces) => pieces.pop_front().filter(|piece| !piece.is_empty()).map(Ok),
            Payload::Filler(left, _) if *left > 0 => Some(Ok(fill(left))),
            Payload::Filler(_, tail) => Some(std::mem::take(tail)).filter(|tail| !tail.is_empty()).map(Ok),
            Payload::Short(_, left) if *left > 0 => Some(Ok(fill(left))),
            Payload::Short(..) => Some(Err(io::ErrorKind::ConnectionAborted.into())),
        };
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Payload::Pieces(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Payload::Filler(left, tail) => left + tail.len() as u64,
            Payload::Short(announced, _) => *announced,
        })
    }
}

fn fill(left: &mut u64) -> Bytes {
    let take = usize::try_from(*left).unwrap_or(FILLER.len()).min(FILLER.len());
    *left -= take as u64;
    Bytes::from_static(FILLER.get(..take).unwrap_or_default())
}

/// A JSON response.
pub fn answer(status: u16, body: &Json) -> Response<Payload> {
    typed(status, "application/json", json::canonical(body))
}

/// An RFC 9457 problem.
pub fn problem(status: u16, slug: &str, detail: &str) -> Response<Payload> {
    let body = object([("type", text(slug)), ("status", json::number(status)), ("detail", text(detail))]);
    typed(status, "application/problem+json", json::canonical(&body))
}

/// A response of a media type.
pub fn typed(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Response<Payload> {
    let mut response = Response::new(Payload::from(body));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    response
}

/// Reads a request's content up to a limit; `Err` says whether it was too long or broken off.
pub async fn read_body(body: Incoming, limit: usize) -> Result<Vec<u8>, String> {
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes().to_vec()),
        Err(error) => Err(error.to_string()),
    }
}

/// Binds a listener and says where.
pub fn bind(address: SocketAddr) -> io::Result<(Async<TcpListener>, SocketAddr)> {
    let listener = Async::<TcpListener>::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    let address = listener.get_ref().local_addr()?;
    Ok((listener, address))
}

/// Serves connections for as long as the executor runs.
pub fn serve<F, R>(executor: &Executor, listener: Async<TcpListener>, tls: Option<TlsAcceptor>, handler: F)
where
    F: Fn(Incomings, Rc<Wire>) -> R + 'static,
    R: Future<Output = Answer> + 'static,
{
    serve_with(executor, listener, tls, |_| {}, handler);
}

/// Like [`serve`], telling of each connection before its first byte.
pub fn serve_with<C, F, R>(
    executor: &Executor,
    listener: Async<TcpListener>,
    tls: Option<TlsAcceptor>,
    connected: C,
    handler: F,
) where
    C: Fn(&Rc<Wire>) + 'static,
    F: Fn(Incomings, Rc<Wire>) -> R + 'static,
    R: Future<Output = Answer> + 'static,
{
    let handler: Handler = Rc::new(move |request, wire| Box::pin(handler(request, wire)));
    let spawner = Rc::clone(executor);
    let open = Rc::new(Cell::new(0usize));
    let accepting = async move {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                Timer::after(Duration::from_millis(50)).await;
                continue;
            };
            if open.get() >= MAX_CONNECTIONS {
                continue;
            }
            let seat = Seat::take(&open);
            let wire = Rc::new(Wire::default());
            wire.peer.set(Some(peer));
            connected(&wire);
            let (tls, handler) = (tls.clone(), Rc::clone(&handler));
            spawner
                .spawn(async move {
                    let _ = connection(stream, tls, handler, wire).await;
                    drop(seat);
                })
                .detach();
        }
    };
    executor.spawn(accepting).detach();
}

struct Seat(Rc<Cell<usize>>);

impl Seat {
    fn take(open: &Rc<Cell<usize>>) -> Seat {
        open.set(open.get() + 1);
        Seat(Rc::clone(open))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

async fn connection(
    stream: Async<TcpStream>,
    tls: Option<TlsAcceptor>,
    handler: Handler,
    wire: Rc<Wire>,
) -> io::Result<()> {
    stream.get_ref().set_nodelay(true)?;
    let counted = Counted { stream, wire: Rc::clone(&wire) };
    match tls {
        None => talk(counted, handler, wire).await,
        Some(acceptor) => {
            let handshake = async { acceptor.accept(counted).await };
            let late = async {
                Timer::after(Duration::from_secs(30)).await;
                Err(io::ErrorKind::TimedOut.into())
            };
            talk(futures_lite::future::or(handshake, late).await?, handler, wire).await
        }
    }
}

async fn talk<S>(stream: S, handler: Handler, wire: Rc<Wire>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request| handler(request, Rc::clone(&wire)));
    hyper::server::conn::http1::Builder::new()
        .serve_connection(FuturesIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

/// A socket that counts.
pub struct Counted {
    stream: Async<TcpStream>,
    wire: Rc<Wire>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(n)) = &result {
            self.wire.received.set(self.wire.received.get() + *n as u64);
        }
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = &result {
            self.wire.sent.set(self.wire.sent.get() + *n as u64);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

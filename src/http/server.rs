//! A thin HTTP/1.1 server for a few local clients, on TCP and Unix sockets.
//!
//! One task per connection. A connection has a deadline for its head, its body and each write, so that none can be held
//! by silence; beyond [`MAX_CONNECTIONS`] the next one waits in the listener's backlog while the idle ones are closed.
//! Without a connection there is no timer.
use super::head::Framing;
use super::places::{Place, Places};
use super::request::{Fault, Head, RequestBody};
use crate::mutant;
use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Connections of one listener at a time.
pub const MAX_CONNECTIONS: usize = 32;
const READ_SIZE: usize = 4096;
/// How long a connection that has not yet asked anything is kept although another one waits for its place.
const GRACE: Duration = Duration::from_secs(1);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the opening of the connection, or the last response, to the end of the head.
    pub head: Duration,
    /// For the body, and for each piece of the response to be taken.
    pub body: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines { head: Duration::from_secs(10), body: Duration::from_secs(30) }
    }
}

/// A response.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Fields, without those of the framing and the connection.
    pub fields: Vec<(&'static str, String)>,
    /// The content.
    pub body: Body,
}

/// A response's content.
pub enum Body {
    /// All of it.
    Bytes(Cow<'static, [u8]>),
    /// Pieces that are made when the client is ready for them.
    Stream(Box<dyn Iterator<Item = Vec<u8>>>),
    /// It is not known yet: this is another response, once it is. It has no such body itself.
    Later(Pin<Box<dyn Future<Output = Response>>>),
}

/// What answers requests. It must not block.
pub trait Handler {
    /// A look at the head before the body is read; a response here ends the connection.
    fn admit(&self, head: &Head) -> Result<(), Response>;
    /// The answer to a whole request.
    fn answer(&self, head: &Head, body: Vec<u8>) -> Response;
    /// What a client is told whose request cannot be read.
    fn refuse(&self, fault: Fault) -> Response;
}

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(Async<TcpListener>),
    /// A Unix stream socket.
    Unix(Async<UnixListener>),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Serves a listener for ever. Connections are tasks of `executor` and end with it.
pub async fn serve(
    executor: Rc<LocalExecutor<'static>>,
    listener: Listener,
    handler: Rc<dyn Handler>,
    deadlines: Deadlines,
) {
    let places = Rc::new(Places::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().enter().await;
        match listener.accept().await {
            Ok(stream) => {
                let connection = Connection {
                    stream,
                    handler: handler.clone(),
                    buffer: Zeroizing::default(),
                    fresh: true,
                    deadlines,
                };
                executor.spawn(connection.run(place)).detach();
            }
            // Out of descriptors, most likely: they come back when connections end.
            Err(_) => drop(Timer::after(Duration::from_millis(100)).await),
        }
    }
}

/// A stream socket of either family.
trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Says that nothing more will be sent.
    fn finish(&self);
}

impl Stream for Async<TcpStream> {
    fn finish(&self) {
        let _ = self.get_ref().shutdown(Shutdown::Write);
    }
}

impl Stream for Async<UnixStream> {
    fn finish(&self) {
        let _ = self.get_ref().shutdown(Shutdown::Write);
    }
}

struct Connection {
    stream: Box<dyn Stream>,
    handler: Rc<dyn Handler>,
    /// What came and is not used yet; zeroed at the end, since tokens and passphrases pass here.
    buffer: Zeroizing<Vec<u8>>,
    fresh: bool,
    deadlines: Deadlines,
}

/// What ended a connection early.
enum Stop {
    /// The peer is gone or silent; there is nobody to tell.
    Gone,
    /// The client is to be told, and is then left.
    Tell(Response),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Stop {
        Stop::Gone
    }
}

impl Connection {
    async fn run(mut self, place: Place) {
        loop {
            match self.exchange(place.all()).await {
                Ok(true) => {}
                Ok(false) | Err(Stop::Gone) => return,
                Err(Stop::Tell(response)) => {
                    let told =
                        self.send(response, Wire { with_body: true, chunked: false, close: true }).await;
                    if told.is_ok() {
                        self.linger().await;
                    }
                    return;
                }
            }
        }
    }

    /// One request and its response; whether the connection may serve another one.
    async fn exchange(&mut self, places: &Places) -> Result<bool, Stop> {
        let head = self.head(places).await?;
        self.handler.admit(&head).map_err(Stop::Tell)?;
        if head.expects_continue && head.framing != Framing::Length(0) && self.buffer.is_empty() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body = self.body(head.framing).await?;
        let mut response = self.handler.answer(&head, body);
        if let Body::Later(later) = response.body {
            response = later.await;
        }
        let close = !head.keep_alive() || places.wanted();
        let wire = Wire { with_body: head.method != "HEAD", chunked: head.knows_chunked(), close };
        self.send(response, wire).await?;
        Ok(!close)
    }

    async fn head(&mut self, places: &Places) -> Result<Head, Stop> {
        let mut deadline = within(mutant::out("api-head-deadline"), self.deadlines.head);
        loop {
            match Head::parse(&self.buffer) {
                Ok(Some((head, length))) => {
                    let used = length.min(self.buffer.len());
                    self.buffer.drain(..used);
                    self.fresh = false;
                    return Ok(head);
                }
                Ok(None) => {}
                Err(fault) => return Err(self.tell(fault)),
            }
            let (idle, fresh) = (self.buffer.is_empty(), self.fresh);
            let unwanted = async {
                if !idle || mutant::out("api-idle-makes-room") {
                    std::future::pending::<()>().await;
                }
                places.until_wanted().await;
                if fresh {
                    Timer::after(GRACE).await;
                }
                Ok(0)
            };
            match or(self.stream_read(), or(unwanted, expire(&mut deadline))).await {
                Ok(bytes) if bytes > 0 => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut && !idle => {
                    return Err(self.tell(Fault::Timeout));
                }
                _ => return Err(Stop::Gone),
            }
        }
    }

    async fn body(&mut self, framing: Framing) -> Result<Vec<u8>, Stop> {
        let mut reader = RequestBody::new(framing);
        let mut deadline = within(mutant::out("api-body-deadline"), self.deadlines.body);
        loop {
            match reader.feed(&mut self.buffer) {
                Ok(true) => return Ok(reader.into_content()),
                Ok(false) => {}
                Err(fault) => return Err(self.tell(fault)),
            }
            match or(self.stream_read(), expire(&mut deadline)).await {
                Ok(bytes) if bytes > 0 => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(self.tell(Fault::Timeout)),
                _ => return Err(Stop::Gone),
            }
        }
    }

    fn tell(&self, fault: Fault) -> Stop {
        Stop::Tell(self.handler.refuse(fault))
    }

    async fn send(&mut self, response: Response, wire: Wire) -> io::Result<()> {
        let mut bytes = head_bytes(&response, wire);
        match response.body {
            Body::Bytes(content) => {
                if wire.with_body {
                    bytes.extend_from_slice(&content);
                }
                self.write(&bytes).await
            }
            Body::Later(_) => Ok(()),
            Body::Stream(pieces) => {
                self.write(&bytes).await?;
                if wire.with_body { self.send_pieces(pieces, wire.chunked).await } else { Ok(()) }
            }
        }
    }

    async fn send_pieces(&mut self, pieces: impl Iterator<Item = Vec<u8>>, chunked: bool) -> io::Result<()> {
        for mut piece in pieces.filter(|p| !p.is_empty()) {
            if chunked {
                piece.splice(0..0, format!("{:x}\r\n", piece.len()).into_bytes());
                piece.extend_from_slice(b"\r\n");
            }
            self.write(&piece).await?;
        }
        if chunked { self.write(b"0\r\n\r\n").await } else { Ok(()) }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut deadline = Timer::after(self.deadlines.body);
        let written = async { self.stream.write_all(bytes).await.map(|()| 0) };
        or(written, expire(&mut deadline)).await.map(drop)
    }

    /// Reads on for a moment without listening. Closing with unread bytes would reset the connection, and the client
    /// would lose the response that explains why.
    async fn linger(&mut self) {
        self.stream.finish();
        let mut deadline = Timer::after(Duration::from_secs(1));
        for _ in 0..super::request::MAX_BODY / READ_SIZE {
            self.buffer.clear();
            if !matches!(or(self.stream_read(), expire(&mut deadline)).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Appends what the peer has sent to the buffer; the number of bytes, 0 at its end.
    async fn stream_read(&mut self) -> io::Result<usize> {
        let mut part = Zeroizing::new([0; READ_SIZE]);
        let bytes = self.stream.read(&mut *part).await?;
        self.buffer.extend_from_slice(part.get(..bytes).unwrap_or_default());
        Ok(bytes)
    }
}

/// A deadline, unless its rule is taken out.
fn within(is_out: bool, time: Duration) -> Timer {
    if is_out { Timer::never() } else { Timer::after(time) }
}

async fn expire(deadline: &mut Timer) -> io::Result<usize> {
    deadline.await;
    Err(io::ErrorKind::TimedOut.into())
}

/// How a response goes out.
#[derive(Clone, Copy)]
struct Wire {
    with_body: bool,
    chunked: bool,
    close: bool,
}

fn head_bytes(response: &Response, wire: Wire) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
    for (name, value) in &response.fields {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    match &response.body {
        Body::Bytes(_) if response.status == 204 => {}
        Body::Bytes(content) => drop(write!(head, "Content-Length: {}\r\n", content.len())),
        Body::Stream(_) if wire.chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Body::Stream(_) | Body::Later(_) => {}
    }
    if wire.close {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        428 => "Precondition Required",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "",
    }
}

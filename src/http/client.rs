//! A small HTTP/1.1 client: kept connections, bounded bodies, a deadline for each phase. It follows no redirect and
//! takes no content coding.
use super::connection::{Connection, dial, within};
use super::head::{Headers, Malformed};
use super::url::{Origin, Url};
use crate::clock::Clock;
use crate::egress::Egress;
use crate::mutant;
use crate::tls::client::ClientTls;
use futures_lite::future;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// Largest body that is taken unless a request says otherwise, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Most idle connections that are kept, and for how long, in microseconds.
pub const MAX_IDLE: usize = 8;
const IDLE_US: u64 = 50_000_000;

/// A step of an exchange that has a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named by what is awaited")]
pub enum Phase {
    Resolve,
    Connect,
    Tls,
    Write,
    Head,
    Body,
}

/// Why an exchange failed.
#[derive(Debug)]
pub enum Error {
    /// The host's name has no address, or the resolver failed.
    Resolve(String),
    /// No address of the host answered.
    Connect(io::Error),
    /// The CA file is of no use.
    Trust(String),
    /// The handshake failed, or the peer is not who it should be.
    Tls(String),
    /// The peer's certificate is expired or not yet valid: perhaps this machine's clock is wrong.
    CertificateTime(String),
    /// A kept connection was closed by the peer before it answered, or the line has changed under the exchange: try again.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// The peer's message breaks the rules of HTTP/1.1.
    Malformed(Malformed),
    /// The response has a content coding, which was not asked for.
    ContentCoding,
    /// The body is larger than this many bytes.
    TooLarge(usize),
    /// The deadline of a phase passed.
    Timeout(Phase),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Resolve(why) => write!(f, "the name could not be resolved: {why}"),
            Error::Connect(e) => write!(f, "no connection: {e}"),
            Error::Trust(why) => write!(f, "nobody to trust: {why}"),
            Error::Tls(why) => write!(f, "TLS failed: {why}"),
            Error::CertificateTime(why) => {
                write!(f, "the certificate is not valid at this time ({why}); is the clock right?")
            }
            Error::Closed => f.write_str("the peer closed the connection without an answer"),
            Error::Io(e) => write!(f, "the connection broke: {e}"),
            Error::Malformed(m) => write!(f, "the answer is malformed: {m}"),
            Error::ContentCoding => f.write_str("the answer has a content coding, which is not allowed"),
            Error::TooLarge(limit) => write!(f, "the answer's body is larger than {limit} bytes"),
            Error::Timeout(phase) => write!(f, "no progress in time (phase {phase:?})"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Malformed> for Error {
    fn from(m: Malformed) -> Error {
        Error::Malformed(m)
    }
}

/// What a [`Resolve`] gives back: the addresses to try in their order, or why there are none.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + 'a>>;

/// Finds the addresses of a name.
pub trait Resolve {
    /// The addresses of a lower-case name without final dot; never asked for a literal.
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a>;
}

/// A resolver that gives every name the same addresses.
pub struct Fixed(pub Vec<IpAddr>);

impl Resolve for Fixed {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// The addresses of an origin; a literal stands for itself.
pub async fn addresses(
    resolver: &dyn Resolve,
    origin: &Origin,
    limit: Duration,
) -> Result<Vec<IpAddr>, Error> {
    if let Some(address) = origin.literal() {
        return Ok(vec![address]);
    }
    let asking = async { resolver.resolve(&origin.host).await.map_err(Error::Resolve) };
    let found = within(limit, Phase::Resolve, asking).await?;
    if found.is_empty() { Err(Error::Resolve("no addresses".into())) } else { Ok(found) }
}

/// Deadlines of the phases.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "named as the phases")]
pub struct Limits {
    pub resolve: Duration,
    pub connect: Duration,
    pub tls: Duration,
    pub write: Duration,
    pub head: Duration,
    pub body: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        let s = Duration::from_secs;
        Limits { resolve: s(10), connect: s(10), tls: s(10), write: s(10), head: s(15), body: s(30) }
    }
}

/// A request with its whole body.
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// Where to.
    pub url: &'a Url,
    /// Fields beside `Host`, `User-Agent`, `Content-Length`.
    pub headers: &'a [(&'a str, String)],
    /// The body; `None` sends no `Content-Length`.
    pub body: Option<&'a [u8]>,
    /// How much longer than usual the answer may take: the server's part of a long poll.
    pub patience: Duration,
    /// Largest body to take, in bytes.
    pub max_body: usize,
}

impl<'a> Request<'a> {
    /// A request without fields, body or patience.
    pub fn new(method: &'a str, url: &'a Url) -> Request<'a> {
        Request { method, url, headers: &[], body: None, patience: Duration::ZERO, max_body: MAX_BODY }
    }

    /// The bytes that go over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: echomesh/{}\r\nAccept-Encoding: identity\r\n",
            self.method,
            self.url.target(),
            self.url.origin.authority(),
            env!("CARGO_PKG_VERSION")
        );
        for (name, value) in self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = self.body {
            out.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(self.body.unwrap_or_default());
        out
    }
}

/// A response with its whole body.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Its fields.
    pub headers: Headers,
    /// Its content.
    pub body: Vec<u8>,
}

struct Idle {
    origin: Origin,
    connection: Connection,
    since_us: u64,
    /// What the bell of the line had rung when it was kept.
    line: u64,
}

/// The client: the way out, a resolver, whom to trust, and the connections kept.
pub struct Client {
    egress: Rc<Egress>,
    resolver: Rc<dyn Resolve>,
    tls: Rc<ClientTls>,
    clock: Rc<Clock>,
    limits: Limits,
    idle: RefCell<Vec<Idle>>,
}

impl Client {
    /// A client with the usual limits.
    pub fn new(
        egress: Rc<Egress>,
        resolver: Rc<dyn Resolve>,
        tls: Rc<ClientTls>,
        clock: Rc<Clock>,
    ) -> Client {
        Client { egress, resolver, tls, clock, limits: Limits::default(), idle: RefCell::default() }
    }

    /// The same client with other deadlines.
    pub fn with_limits(self, limits: Limits) -> Client {
        Client { limits, ..self }
    }

    /// One exchange. [`Error::Closed`] means that a kept connection had gone stale: the request may be sent again.
    pub async fn send(&self, request: &Request<'_>) -> Result<Response, Error> {
        let line = self.egress.changed();
        let seen = line.count();
        // What came by the old line comes no more, and nobody says so.
        let changed = async {
            line.after(seen).await;
            Err(Error::Closed)
        };
        // Boxed: the state of an exchange would otherwise be part of every caller's future.
        Box::pin(future::or(self.exchange(request), changed)).await
    }

    async fn exchange(&self, request: &Request<'_>) -> Result<Response, Error> {
        let origin = &request.url.origin;
        let (mut connection, kept) = match self.take_idle(origin) {
            Some(connection) => (connection, true),
            None => (self.connect(origin).await?, false),
        };
        let stale = |e: Error| match e {
            Error::Io(_) if kept => Error::Closed,
            Error::Closed if !kept => Error::Io(io::ErrorKind::UnexpectedEof.into()),
            e => e,
        };
        let bytes = request.bytes();
        within(self.limits.write, Phase::Write, connection.write(&bytes)).await.map_err(stale)?;
        drop(bytes);
        let wait = unless(mutant::out("answer-head-deadline"), self.limits.head + request.patience);
        let (head, mut reader) =
            within(wait, Phase::Head, connection.head(request.method)).await.map_err(stale)?;
        let coding = head.headers.get("content-encoding");
        if coding.is_some_and(|c| !c.eq_ignore_ascii_case("identity"))
            && !mutant::out("answer-content-coding")
        {
            return Err(Error::ContentCoding);
        }
        let mut body = Vec::new();
        let reading = async {
            let mut piece = Vec::new();
            while connection.content(&mut reader, &mut piece).await? {
                if body.len() + piece.len() > request.max_body && !mutant::out("answer-body-limit") {
                    return Err(Error::TooLarge(request.max_body));
                }
                body.extend_from_slice(&piece);
            }
            Ok(())
        };
        let wait = unless(mutant::out("answer-body-deadline"), self.limits.body);
        within(wait, Phase::Body, reading).await?;
        if head.keep_alive && reader.end_of_stream().is_err() {
            self.keep(origin.clone(), connection);
        }
        Ok(Response { status: head.status, headers: head.headers, body })
    }

    /// A new connection to an origin.
    async fn connect(&self, origin: &Origin) -> Result<Connection, Error> {
        let found = addresses(&*self.resolver, origin, self.limits.resolve).await?;
        let stream = dial(&self.egress, &found, origin.port, self.limits.connect).await?;
        if origin.secure {
            Connection::secure(stream, origin, &self.tls, self.limits.tls).await
        } else {
            Ok(Connection::plain(stream))
        }
    }

    fn take_idle(&self, origin: &Origin) -> Option<Connection> {
        let now = self.clock.now().mono_us;
        let mut idle = self.idle.borrow_mut();
        let line = self.egress.changed().count();
        let fresh = |i: &Idle| i.line == line && now.saturating_sub(i.since_us) < IDLE_US;
        idle.retain(|i| fresh(i) && i.connection.is_quiet());
        let at = idle.iter().rposition(|i| i.origin == *origin)?;
        Some(idle.remove(at).connection)
    }

    fn keep(&self, origin: Origin, mut connection: Connection) {
        connection.shrink();
        let line = self.egress.changed().count();
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(Idle { origin, connection, since_us: self.clock.now().mono_us, line });
    }

    /// How many connections are kept.
    pub fn kept(&self) -> usize {
        self.idle.borrow().len()
    }
}

/// A deadline, unless its rule is taken out.
fn unless(is_out: bool, time: Duration) -> Duration {
    if is_out { Duration::from_secs(3600) } else { time }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

//! Thousands of clients that hold up a node's listener: silent, half said, slow, or busy with handshakes alone.
use super::args::Flood;
use super::client;
use super::http::Executor;
use super::json::{canonical, number, object};
use async_io::{Async, Timer};
use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connects and says nothing.
    Silent,
    /// Sends half a ClientHello.
    Half,
    /// Shakes hands and says nothing.
    Tls,
    /// Shakes hands, then sends the CONNECT's head, a byte a second.
    Head,
    /// Shakes hands, leaves, and comes again at once.
    Spam,
    /// Shakes hands, then sends half of the largest record, and nothing more.
    Record,
}

impl Kind {
    /// All of them, by name.
    pub const ALL: [(&'static str, Kind); 6] = [
        ("silent", Kind::Silent),
        ("half", Kind::Half),
        ("tls", Kind::Tls),
        ("head", Kind::Head),
        ("spam", Kind::Spam),
        ("record", Kind::Record),
    ];
}

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Half of a ClientHello: a record of 512 bytes that never comes to its end.
const HALF: &[u8] =
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half of a hello, and no more of it ever comes";
const HEAD: &[u8] = b"CONNECT slow.lab.test:443 HTTP/1.1\r\nHost: slow.lab.test:443\r\nX-Slow: ";

#[derive(Default)]
struct Seen {
    tries: Cell<u64>,
    connected: Cell<u64>,
    handshakes: Cell<u64>,
    closed: Cell<u64>,
    now: Cell<u64>,
    most: Cell<u64>,
}

fn more(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// Runs the clients for their time, and prints a line of JSON.
pub async fn run(executor: &Executor, flood: Flood) -> io::Result<bool> {
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
    let seen: Rc<Seen> = Rc::default();
    let config = client::tls(None, None, false)?;
    let tls = client::connector(config);
    let pace = Duration::from_millis(flood.ramp_ms) / u32::try_from(flood.clients.max(1)).unwrap_or(u32::MAX);
    let mut tasks = Vec::new();
    for index in 0..flood.clients {
        let from = source(flood.from, index % flood.sources.max(1), flood.stride);
        let kind = flood.mix.get(index as usize % flood.mix.len().max(1)).copied().unwrap_or(Kind::Silent);
        let client = Client {
            to: flood.to,
            from,
            kind,
            tls: tls.clone(),
            seen: seen.clone(),
            again: Duration::from_millis(flood.again_ms),
        };
        tasks
            .push(executor.spawn(async move { client.live(pace * u32::try_from(index).unwrap_or(0)).await }));
    }
    Timer::after(Duration::from_secs(flood.seconds)).await;
    drop(tasks);
    let line = object([
        ("tries", number(seen.tries.get())),
        ("connected", number(seen.connected.get())),
        ("handshakes", number(seen.handshakes.get())),
        ("closedByNode", number(seen.closed.get())),
        ("mostAtOnce", number(seen.most.get())),
    ]);
    println!("{}", canonical(&line));
    Ok(true)
}

/// The `n`th address from the first one on.
fn source(first: IpAddr, n: u64, stride: u64) -> IpAddr {
    let step = n.wrapping_mul(stride);
    match first {
        IpAddr::V4(a) => IpAddr::V4(a.to_bits().wrapping_add(u32::try_from(step).unwrap_or(0)).into()),
        IpAddr::V6(a) => IpAddr::V6(a.to_bits().wrapping_add(step.into()).into()),
    }
}

struct Client {
    to: SocketAddr,
    from: IpAddr,
    kind: Kind,
    tls: futures_rustls::TlsConnector,
    seen: Rc<Seen>,
    again: Duration,
}

impl Client {
    async fn live(&self, start: Duration) {
        Timer::after(start).await;
        loop {
            more(&self.seen.tries);
            if let Ok(stream) = or(self.connect(), late()).await {
                more(&self.seen.connected);
                more(&self.seen.now);
                self.seen.most.set(self.seen.most.get().max(self.seen.now.get()));
                let _ = self.attack(stream).await;
                self.seen.now.set(self.seen.now.get() - 1);
            }
            if self.kind != Kind::Spam {
                Timer::after(self.again).await;
            }
        }
    }

    async fn connect(&self) -> io::Result<Async<TcpStream>> {
        let family = if self.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd: OwnedFd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        // A reset at the end leaves no port waiting.
        sockopt::set_socket_linger(&fd, Some(Duration::ZERO))?;
        rustix::net::bind(&fd, &SocketAddr::new(self.from, 0))?;
        match rustix::net::connect(&fd, &self.to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(e) => return Err(e.into()),
        }
        let stream = Async::new_nonblocking(TcpStream::from(fd))?;
        stream.writable().await?;
        stream.get_ref().take_error()?.map_or(Ok(stream), Err)
    }

    async fn attack(&self, mut stream: Async<TcpStream>) -> io::Result<()> {
        match self.kind {
            Kind::Silent => {}
            Kind::Half => stream.write_all(HALF).await?,
            _ => return self.attack_in_tls(stream).await,
        }
        self.wait(&mut stream).await;
        Ok(())
    }

    async fn attack_in_tls(&self, stream: Async<TcpStream>) -> io::Result<()> {
        let name = ServerName::try_from("node.lab.test").map_err(io::Error::other)?;
        let raw = stream.get_ref().try_clone()?;
        let mut tls = self.tls.connect(name, stream).await?;
        more(&self.seen.handshakes);
        match self.kind {
            Kind::Head => {
                for byte in HEAD.iter().chain(std::iter::repeat(&b'x')) {
                    tls.write_all(&[*byte]).await?;
                    tls.flush().await?;
                    Timer::after(Duration::from_secs(1)).await;
                }
            }
            Kind::Spam => return Ok(()),
            Kind::Record => {
                let mut record = vec![0u8; 8192];
                record.splice(0..5, [23, 3, 3, 0x41, 0x00]);
                let mut raw = Async::new(raw)?;
                raw.write_all(&record).await?;
            }
            _ => {}
        }
        self.wait(&mut tls).await;
        Ok(())
    }

    /// Until the node closes.
    async fn wait(&self, stream: &mut (impl AsyncReadExt + Unpin)) {
        let mut some = [0; 512];
        while matches!(stream.read(&mut some).await, Ok(1..)) {}
        more(&self.seen.closed);
    }
}

async fn late<T>() -> io::Result<T> {
    Timer::after(CONNECT).await;
    Err(io::ErrorKind::TimedOut.into())
}

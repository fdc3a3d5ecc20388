//! The connection to ubusd: made anew whenever it ends, asleep while nobody calls.
use crate::json::Value;
use crate::ubus::client::{Backoff, Call, Event, Invocation, Signature};
use crate::ubus::{Client, Status};
use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, future};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Where ubusd listens: its own place, and that of versions before 2021.
pub const SOCKETS: [&str; 2] = ["/var/run/ubus/ubus.sock", "/var/run/ubus.sock"];
/// Calls that may wait for their answers at a time.
const MAX_WAITING: usize = 8;
/// How long ubusd may take to read what it is sent.
const WRITE: Duration = Duration::from_secs(10);
/// ubusd keeps no object of this path, or no such rights (`UBUS_STATUS_INVALID_ARGUMENT`, `UBUS_STATUS_PERMISSION_DENIED`).
const REFUSALS: [u32; 2] = [2, 6];

/// An answer on its way.
pub type Answering = Pin<Box<dyn Future<Output = (Status, Option<Value>)>>>;

/// What is offered on the bus.
pub trait Service {
    /// The object's path, which is the name of its events too.
    fn path(&self) -> &'static str;
    /// Its methods.
    fn methods(&self) -> Vec<Signature>;
    /// Answers a call.
    fn call(&self, invocation: Invocation) -> Answering;
    /// The answer in place of one that is larger than the bus carries.
    fn too_large(&self) -> (Status, Option<Value>);
    /// The answer to a call beside too many that wait.
    fn too_many(&self) -> (Status, Option<Value>);
    /// The next event, as soon as there is one.
    fn event(&self) -> Pin<Box<dyn Future<Output = Value> + '_>>;
}

/// The first place where a ubusd is.
pub fn find() -> Option<PathBuf> {
    SOCKETS.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Why a connection ended.
#[derive(Debug)]
enum Ended {
    Io(io::Error),
    Malformed(crate::ubus::Malformed),
    Refused(u32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Io(e) => write!(f, "the connection to ubusd ended: {e}"),
            Ended::Malformed(e) => write!(f, "ubusd sends what this version does not know: {e}"),
            Ended::Refused(status) if REFUSALS.contains(status) => write!(
                f,
                "ubusd does not take the object (status {status}): another process has it, or this user may not publish it; \
                 see /usr/share/acl.d/echomesh.json"
            ),
            Ended::Refused(status) => write!(f, "ubusd does not take the object (status {status})"),
        }
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Io(error)
    }
}

impl From<crate::ubus::Malformed> for Ended {
    fn from(malformed: crate::ubus::Malformed) -> Ended {
        Ended::Malformed(malformed)
    }
}

/// Offers the service on the bus, for ever.
pub async fn attend(path: &Path, service: &dyn Service) {
    let mut backoff = Backoff::new();
    let mut last = String::new();
    loop {
        let ended = match Async::<UnixStream>::connect(path).await {
            Ok(stream) => {
                let mut link = Link::new(stream, service);
                let ended = link.serve().await;
                if link.client.is_registered() {
                    backoff.reset();
                    last.clear();
                }
                ended
            }
            Err(e) => Ended::Io(e),
        };
        let ended = ended.to_string();
        // One line for each thing that happens, not for each try.
        if ended != last {
            crate::warn!("{ended}");
            last = ended;
        }
        Timer::after(backoff.pause()).await;
    }
}

struct Link<'a> {
    stream: Async<UnixStream>,
    client: Client,
    service: &'a dyn Service,
    waiting: Vec<(Call, Answering)>,
}

enum Woken {
    Received(io::Result<usize>),
    Answered(Call, (Status, Option<Value>)),
    Event(Value),
}

impl<'a> Link<'a> {
    fn new(stream: Async<UnixStream>, service: &'a dyn Service) -> Link<'a> {
        let client = Client::new(service.path(), service.methods());
        Link { stream, client, service, waiting: Vec::new() }
    }

    async fn serve(&mut self) -> Ended {
        let mut buffer = [0; 4096];
        loop {
            let done = match self.woken(&mut buffer).await {
                Woken::Received(Ok(0)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Woken::Received(Ok(length)) => {
                    self.client.receive(buffer.get(..length).unwrap_or_default());
                    self.handle().await
                }
                Woken::Received(Err(e)) => Err(e.into()),
                Woken::Answered(call, answer) => self.answer(call, answer).await,
                Woken::Event(event) => self.send(&event).await,
            };
            if let Err(ended) = done {
                return ended;
            }
        }
    }

    async fn woken(&mut self, buffer: &mut [u8]) -> Woken {
        let waiting = &mut self.waiting;
        let answered = poll_fn(|cx| {
            let polled =
                waiting.iter_mut().enumerate().find_map(|(at, (_, answer))| match answer.as_mut().poll(cx) {
                    Poll::Ready(answer) => Some((at, answer)),
                    Poll::Pending => None,
                });
            match polled {
                Some((at, answer)) => Poll::Ready(Woken::Answered(waiting.swap_remove(at).0, answer)),
                None => Poll::Pending,
            }
        });
        let received = async { Woken::Received(self.stream.read(buffer).await) };
        // What happens before the object is there is told once it is.
        let event = async {
            if !self.client.is_registered() {
                return future::pending().await;
            }
            Woken::Event(self.service.event().await)
        };
        future::or(answered, future::or(received, event)).await
    }

    async fn handle(&mut self) -> Result<(), Ended> {
        while let Some(event) = self.client.poll()? {
            match event {
                Event::Registered => crate::info!("ubus: object {}", self.service.path()),
                Event::Refused(status) => return Err(Ended::Refused(status)),
                Event::EventRefused(status) => crate::warn!("ubusd does not take an event (status {status})"),
                Event::Invoked(invocation) if self.waiting.len() == MAX_WAITING => {
                    self.answer(invocation.call, self.service.too_many()).await?;
                }
                Event::Invoked(invocation) => {
                    let call = invocation.call;
                    let mut answering = self.service.call(invocation);
                    match future::poll_once(&mut answering).await {
                        Some(answer) => self.answer(call, answer).await?,
                        None => self.waiting.push((call, answering)),
                    }
                }
            }
            self.write().await?;
        }
        self.write().await
    }

    async fn answer(&mut self, call: Call, (status, body): (Status, Option<Value>)) -> Result<(), Ended> {
        if self.client.answer(call, status, body.as_ref()).is_err() {
            let (status, body) = self.service.too_large();
            // A sentence is never too large.
            let _ = self.client.answer(call, status, body.as_ref());
        }
        self.write().await
    }

    async fn send(&mut self, event: &Value) -> Result<(), Ended> {
        if self.client.send(self.service.path(), event).is_err() {
            crate::warn!("an event is larger than ubus carries, and is not sent");
        }
        self.write().await
    }

    /// Nothing else is read meanwhile, so that no more than one answer is in memory.
    async fn write(&mut self) -> Result<(), Ended> {
        let bytes = self.client.outgoing();
        if bytes.is_empty() {
            return Ok(());
        }
        let written = async { self.stream.write_all(&bytes).await };
        let late = async {
            Timer::after(WRITE).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        Ok(future::or(written, late).await?)
    }
}

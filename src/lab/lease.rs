//! A buyer's leases: asked for on one TLS connection that is kept, renewed at half their time, used for every connection to
//! their host.
use super::bell::Bell;
use super::buyer::Plan;
use super::clock::{parse_instant, unix_ms};
use super::http::{Executor, Payload};
use super::json::{Json, Members, canonical, number, object, parse, text};
use super::text::base64;
use async_io::{Async, Timer};
use futures_lite::future;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use smol_hyper::rt::FuturesIo;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// How long the node has to answer, and its port.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shortest time between two renewals, ms.
const MIN_RENEWAL: i64 = 200;

/// A node's answer: status and content, null without.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The content.
    pub body: Json,
}

/// All leases of one buyer.
pub struct Leases {
    executor: Executor,
    plan: Rc<Plan>,
    control: RefCell<Option<SendRequest<Payload>>>,
    /// One request at a time is under way.
    busy: Cell<bool>,
    free: Bell,
    /// Connections for requests so far, the last of them that has ended, and rings when one does: what was made by its leases is over.
    made: Cell<u64>,
    ended: Cell<u64>,
    end: Bell,
    held: RefCell<HashMap<String, Lease>>,
}

#[derive(Clone)]
struct Lease {
    id: String,
    endpoint: SocketAddr,
    expires_ms: i64,
}

impl Leases {
    /// None yet.
    pub fn new(executor: &Executor, plan: Rc<Plan>) -> Rc<Leases> {
        Rc::new(Leases {
            executor: Rc::clone(executor),
            plan,
            control: RefCell::default(),
            busy: Cell::new(false),
            free: Bell::default(),
            made: Cell::new(0),
            ended: Cell::new(0),
            end: Bell::default(),
            held: RefCell::default(),
        })
    }

    /// Where to connect to for `host:port`; the node's refusal otherwise.
    pub async fn endpoint(self: &Rc<Leases>, authority: &str) -> io::Result<Result<SocketAddr, Answer>> {
        let known = self.held.borrow().get(authority).cloned();
        if let Some(lease) = known.filter(|l| l.expires_ms > unix_ms()) {
            return Ok(Ok(lease.endpoint));
        }
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
        let port = port.parse::<u16>().map_or_else(|_| text(port), number);
        let wanted = object([("host", text(host)), ("port", port)]);
        let answer = self.ask("POST", "/leases", canonical(&wanted)).await?;
        if answer.status != 201 {
            return Ok(Err(answer));
        }
        let lease = read(&answer.body).ok_or_else(|| io::Error::other("the answer describes no lease"))?;
        let endpoint = lease.endpoint;
        self.held.borrow_mut().insert(authority.to_owned(), lease.clone());
        let (leases, authority) = (Rc::clone(self), authority.to_owned());
        self.executor.spawn(async move { leases.keep(&authority, lease).await }).detach();
        Ok(Ok(endpoint))
    }

    /// A connection to `host:port` through a lease; the node's refusal otherwise. A lease that has ended without a word is
    /// asked for once more.
    ///
    /// # Errors
    /// The node is not reached, or its port not; says which.
    pub async fn dial(self: &Rc<Leases>, authority: &str) -> io::Result<Result<Async<TcpStream>, Answer>> {
        let mut again = self.held.borrow().contains_key(authority);
        loop {
            let endpoint = match self.endpoint(authority).await {
                Ok(Ok(endpoint)) => endpoint,
                Ok(Err(refused)) => return Ok(Err(refused)),
                Err(e) => return Err(io::Error::new(e.kind(), format!("the node is not reached: {e}"))),
            };
            match timely(Async::<TcpStream>::connect(endpoint)).await {
                Ok(stream) => return Ok(Ok(stream)),
                Err(_) if std::mem::take(&mut again) => {
                    self.held.borrow_mut().remove(authority);
                }
                Err(e) => {
                    let what = format!("the lease's port {endpoint} is not reached: {e}");
                    return Err(io::Error::new(e.kind(), what));
                }
            }
        }
    }

    /// Ends a lease; the node's status.
    pub async fn end(self: &Rc<Leases>, authority: &str) -> io::Result<u16> {
        let lease = self.held.borrow_mut().remove(authority);
        let Some(lease) = lease else { return Ok(404) };
        Ok(self.ask("DELETE", &format!("/leases/{}", lease.id), String::new()).await?.status)
    }

    /// Renews a lease for as long as the node does.
    async fn keep(self: &Rc<Leases>, authority: &str, mut lease: Lease) {
        loop {
            let left = (lease.expires_ms - unix_ms()).max(0);
            Timer::after(Duration::from_millis((left / 2).max(MIN_RENEWAL).unsigned_abs())).await;
            if self.held.borrow().get(authority).is_none_or(|now| now.id != lease.id) {
                return;
            }
            let path = format!("/leases/{}/renew", lease.id);
            let renewed = self.ask("POST", &path, String::new()).await.ok().filter(|a| a.status == 200);
            let Some(renewed) = renewed.and_then(|answer| read(&answer.body)) else {
                self.held.borrow_mut().remove(authority);
                return;
            };
            lease = renewed;
            self.held.borrow_mut().insert(authority.to_owned(), lease.clone());
        }
    }

    /// One request on the control connection, which is made anew if it has ended.
    async fn ask(self: &Rc<Leases>, method: &str, path: &str, content: String) -> io::Result<Answer> {
        while self.busy.replace(true) {
            self.free.wait(Duration::from_millis(100)).await;
        }
        // A connection that was kept may have been closed by the node meanwhile, which is no answer.
        let kept = self.control.borrow().is_some();
        let mut answer = timely(self.exchange(method, path, content.clone())).await;
        if kept && answer.is_err() && method == "POST" {
            *self.control.borrow_mut() = None;
            answer = timely(self.exchange(method, path, content)).await;
        }
        if answer.is_err() {
            // Its leases have ended with it.
            *self.control.borrow_mut() = None;
            self.held.borrow_mut().clear();
        }
        self.busy.set(false);
        self.free.ring();
        answer
    }

    async fn exchange(self: &Rc<Leases>, method: &str, path: &str, content: String) -> io::Result<Answer> {
        let kept = self.control.borrow_mut().take().filter(|c| !c.is_closed());
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                self.held.borrow_mut().clear();
                self.connect().await?
            }
        };
        let mut request = Request::builder().method(method).uri(path).header("host", self.plan.host());
        if let Some((session, token)) = self.plan.credentials() {
            let basic = base64(format!("{session}:{token}").as_bytes());
            request = request.header("authorization", format!("Basic {basic}"));
        }
        if !content.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Payload::from(content)).map_err(io::Error::other)?;
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        *self.control.borrow_mut() = Some(sender);
        Ok(Answer { status, body: parse(&body).unwrap_or(Json::Null) })
    }

    /// The number of the newest connection for requests.
    pub fn connection(&self) -> u64 {
        self.made.get()
    }

    /// Waits until the connection for requests of this number has ended.
    pub async fn over(&self, number: u64) {
        while self.ended.get() < number {
            self.end.wait(PATIENCE).await;
        }
    }

    async fn connect(self: &Rc<Leases>) -> io::Result<SendRequest<Payload>> {
        let stream = self.plan.dial().await?;
        let made = hyper::client::conn::http1::handshake(FuturesIo::new(stream)).await;
        let (sender, connection) = made.map_err(io::Error::other)?;
        let number = self.connection() + 1;
        self.made.set(number);
        let leases = Rc::clone(self);
        let running = async move {
            let _ = connection.await;
            leases.ended.set(leases.ended.get().max(number));
            leases.end.ring();
        };
        self.executor.spawn(running).detach();
        Ok(sender)
    }
}

/// A node that is gone does not answer for minutes.
pub async fn timely<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        Timer::after(PATIENCE).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs())))
    };
    future::or(work, late).await
}

fn read(body: &Json) -> Option<Lease> {
    Some(Lease {
        id: body.str("leaseId")?.to_owned(),
        endpoint: body.str("endpoint")?.parse().ok()?,
        expires_ms: parse_instant(body.str("expiresAt")?)?,
    })
}

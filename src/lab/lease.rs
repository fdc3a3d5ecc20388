//! A buyer's leases: asked for on one TLS connection that is kept, renewed at half their time, used for every connection to
//! their host; and a local CONNECT proxy on top, so that any client uses leases unchanged.
use super::bell::Bell;
use super::buyer::Plan;
use super::clock::{parse_instant, unix_ms};
use super::http::{Executor, Payload};
use super::json::{Json, Members, canonical, number, object, parse, text};
use super::text::base64;
use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use http_body_util::BodyExt;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use smol_hyper::rt::FuturesIo;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// Longest head of a request to the local proxy.
const MAX_HEAD: usize = 16_384;
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

    /// Waits until this connection for requests has ended.
    async fn over(&self, number: u64) {
        while self.ended.get() < number {
            self.end.wait(PATIENCE).await;
        }
    }

    async fn connect(self: &Rc<Leases>) -> io::Result<SendRequest<Payload>> {
        let stream = self.plan.dial().await?;
        let made = hyper::client::conn::http1::handshake(FuturesIo::new(stream)).await;
        let (sender, connection) = made.map_err(io::Error::other)?;
        let number = self.made.get() + 1;
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
async fn timely<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
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

/// Serves CONNECT by leases, for ever.
pub async fn serve(executor: &Executor, listener: Async<TcpListener>, leases: Rc<Leases>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let leases = Rc::clone(&leases);
        executor
            .spawn(async move {
                if let Err(error) = carry(stream, &leases).await {
                    eprintln!("echomesh-lab: a client's connection: {error}");
                }
            })
            .detach();
    }
}

async fn carry(mut client: Async<TcpStream>, leases: &Rc<Leases>) -> io::Result<()> {
    client.get_ref().set_nodelay(true)?;
    let (head, early) = read_head(&mut client).await?;
    let mut words = head.split(' ');
    let (Some("CONNECT"), Some(authority)) = (words.next(), words.next()) else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").await;
    };
    let mut target = match leases.dial(authority).await {
        Ok(Ok(target)) => target,
        Ok(Err(refused)) => return refuse(&mut client, &refused).await,
        Err(error) => {
            let detail = object([("type", text("lease-connection")), ("detail", text(error.to_string()))]);
            return refuse(&mut client, &Answer { status: 502, body: detail }).await;
        }
    };
    target.get_ref().set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    target.write_all(&early).await?;
    let number = leases.made.get();
    let passed = async {
        let (up, down) = future::zip(pass(&client, &target), pass(&target, &client)).await;
        up.and(down)
    };
    let cut = async {
        leases.over(number).await;
        // Nobody else tells a side that only waits.
        for stream in [&client, &target] {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
        }
        Err(io::Error::new(io::ErrorKind::ConnectionReset, "its lease has ended"))
    };
    future::or(passed, cut).await
}

/// One direction, its end included. After an error both are cut.
async fn pass(from: &Async<TcpStream>, to: &Async<TcpStream>) -> io::Result<()> {
    let copied = futures_lite::io::copy(from, to).await;
    let how = if copied.is_ok() { std::net::Shutdown::Write } else { std::net::Shutdown::Both };
    // It can only be over already.
    let _ = to.get_ref().shutdown(how);
    if copied.is_err() {
        let _ = from.get_ref().shutdown(how);
    }
    copied.map(drop)
}

async fn refuse(client: &mut Async<TcpStream>, answer: &Answer) -> io::Result<()> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let (body, slug) = (canonical(&answer.body), answer.body.str("type").unwrap_or_default());
    let head = format!(
        "HTTP/1.1 {status}\r\nProxy-Status: echomesh; details=\"{slug}\"\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).await
}

async fn read_head(client: &mut Async<TcpStream>) -> io::Result<(String, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let early = seen.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&seen).into_owned(), early));
        }
        let n = client.read(&mut piece).await?;
        if n == 0 || seen.len() > MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no request"));
        }
        seen.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::args::Buyer;
    use crate::lab::clock::instant;
    use crate::lab::http;
    use std::io::{Read, Write};

    /// A node that gives leases of an echo for two seconds, for `good.test`, and for `brief.test`, for which it closes the connection
    /// at once; what it was asked.
    fn node(executor: &Executor, echo: SocketAddr, asked: &Rc<RefCell<Vec<String>>>) -> SocketAddr {
        let (listener, address) = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let asked = Rc::clone(asked);
        http::serve(executor, listener, None, move |request, _| {
            let asked = Rc::clone(&asked);
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let credentials = request.headers().get("authorization").is_some_and(|v| v == "Basic czp0");
                assert!(credentials, "{line}");
                let body = http::read_body(request.into_body(), 4096).await.unwrap();
                asked.borrow_mut().push(line.clone());
                let is_for = |host: &str| body.ends_with(format!("\"{host}\",\"port\":443}}").as_bytes());
                if line == "POST /leases" && !is_for("good.test") && !is_for("brief.test") {
                    return Ok(http::problem(403, "domain-blocked", "no"));
                }
                let lease = object([
                    ("leaseId", text("ab")),
                    ("endpoint", text(echo.to_string())),
                    ("host", text("good.test")),
                    ("expiresAt", text(instant(unix_ms() + 2000))),
                ]);
                let mut answer = http::answer(if line.ends_with("renew") { 200 } else { 201 }, &lease);
                if is_for("brief.test") {
                    answer.headers_mut().insert("connection", "close".parse().unwrap());
                }
                Ok(answer)
            }
        });
        address
    }

    fn shim(executor: &Executor, node: SocketAddr) -> (Rc<Leases>, SocketAddr) {
        let proxy = format!("http://{node}");
        let credentials = Some(("s".to_owned(), "t".to_owned()));
        let plan = Plan::new(Buyer { proxy, credentials, ..Buyer::default() }).unwrap();
        let leases = Leases::new(executor, Rc::new(plan));
        let (listener, address) = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (spawner, serving) = (Rc::clone(executor), Rc::clone(&leases));
        executor.spawn(async move { serve(&spawner, listener, serving).await.unwrap() }).detach();
        (leases, address)
    }

    /// What a client reads until the end, which it has announced.
    async fn client(to: SocketAddr, request: String) -> String {
        let mut stream = Async::<TcpStream>::connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn a_local_proxy_asks_once_renews_and_passes_refusals_on() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let echo_address = echo.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in echo.incoming() {
                let mut stream = stream.unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                stream.write_all(&all).unwrap();
            }
        });
        let executor: Executor = Rc::default();
        let asked = Rc::default();
        let node = node(&executor, echo_address, &asked);
        let (leases, local) = shim(&executor, node);
        let ask = move |host: &str| client(local, format!("CONNECT {host}:443 HTTP/1.1\r\n\r\nearly"));
        async_io::block_on(executor.run(async {
            for _ in 0..2 {
                let answer = ask("good.test").await;
                assert!(answer.ends_with("established\r\n\r\nearly"), "{answer}");
            }
            let refused = ask("bad.test").await;
            assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
            assert!(refused.contains("domain-blocked"), "{refused}");
            Timer::after(Duration::from_millis(1300)).await;
            let lines = asked.borrow().clone();
            assert_eq!(lines[..2], ["POST /leases", "POST /leases"]);
            assert_eq!(lines[2], "POST /leases/ab/renew");
            assert!(matches!(leases.end("good.test:443").await, Ok(201)), "as this node answers");
            assert!(matches!(leases.end("good.test:443").await, Ok(404)));
            assert_eq!(asked.borrow().last().unwrap(), "DELETE /leases/ab");
            // What only waits is reset when the connection has ended on which its lease was asked for.
            let mut waiting = Async::<TcpStream>::connect(local).await.unwrap();
            waiting.write_all(b"CONNECT brief.test:443 HTTP/1.1\r\n\r\n").await.unwrap();
            let ended = timely(waiting.read_to_end(&mut Vec::new())).await;
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }));
    }
}

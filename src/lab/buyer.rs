//! A buyer: CONNECT through a node, then HTTPS to the target, with a result that names every refusal.
use super::args::Buyer;
use super::client::{self, Duplex};
use super::clock::mono_ms;
use super::farewell;
use super::http::{Executor, Payload};
use super::json::{Json, Members, canonical, number, object, parse, text};
use super::lease::Leases;
use super::lease_proxy;
use super::pki;
use super::text::{base64, hex};
use async_io::{Async, Timer};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::TlsConnector;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Bytes;
use rustls::pki_types::ServerName;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Longest head of an answer to CONNECT.
const MAX_HEAD: usize = 32_768;
/// Most bytes printed of what follows a raw hello.
const MAX_RAW: usize = 65_536;

/// Makes the requests; true if every one ended with 200 from the target.
pub async fn run(executor: &Executor, buyer: Buyer) -> io::Result<bool> {
    let plan = Rc::new(Plan::new(buyer)?);
    let leases = plan.buyer.lease.then(|| Leases::new(executor, Rc::clone(&plan)));
    if let (Some(listen), Some(leases)) = (plan.buyer.listen, &leases) {
        let (listener, address) = super::http::bind(listen)?;
        println!("{}", canonical(&object([("listening", text(address.to_string()))])));
        return lease_proxy::serve(executor, listener, Rc::clone(leases)).await.map(|()| true);
    }
    let started = mono_ms();
    let mut tasks = Vec::new();
    for _ in 0..plan.buyer.parallel.max(1) {
        let (plan, spawner, leases) = (Rc::clone(&plan), Rc::clone(executor), leases.clone());
        tasks.push(executor.spawn(async move {
            let (mut good, mut bytes) = (0u64, 0u64);
            for _ in 0..plan.buyer.repeat {
                let result = plan.request(&spawner, leases.as_ref()).await;
                println!("{}", canonical(&result));
                good += u64::from(result.int("status") == Some(200));
                bytes += result.int("bytes").map_or(0, i64::unsigned_abs);
            }
            (good, bytes)
        }));
    }
    let (mut good, mut bytes) = (0, 0);
    for task in tasks {
        let (more, moved) = task.await;
        good += more;
        bytes += moved;
    }
    if let Some(leases) = leases {
        let status = leases.end(&plan.authority).await?;
        if status != 204 && good > 0 {
            eprintln!("echomesh-lab: the lease's end was answered {status}");
        }
    }
    let requests = plan.buyer.parallel.max(1) * plan.buyer.repeat;
    if requests > 1 {
        let sum = [("requests", requests), ("ok", good), ("bytes", bytes), ("ms", mono_ms() - started)];
        println!("{}", canonical(&object(sum.map(|(name, value)| (name, number(value))))));
    }
    Ok(good == requests)
}

/// What every request needs.
pub struct Plan {
    buyer: Buyer,
    proxy: SocketAddr,
    outer: Option<(TlsConnector, ServerName<'static>)>,
    inner: TlsConnector,
    host: String,
    authority: String,
    path: String,
}

impl Plan {
    /// From the command line.
    pub fn new(buyer: Buyer) -> io::Result<Plan> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let proxy = buyer.proxy.trim_end_matches('/');
        let parts = proxy.split_once("://").filter(|(scheme, _)| matches!(*scheme, "https" | "http"));
        let (scheme, place) =
            parts.ok_or_else(|| wrong(format!("--proxy {proxy} is no https:// or http:// URL")))?;
        let (proxy_host, port) = split_port(place, 443);
        let address = match buyer.connect_to {
            Some(ip) => SocketAddr::new(ip, port),
            None => {
                let found = (proxy_host.as_str(), port).to_socket_addrs()?.next();
                found.ok_or_else(|| wrong(format!("{proxy_host} does not resolve")))?
            }
        };
        let roots = buyer.lab.as_ref().map(|dir| pki::roots(&dir.join("ca.pem"))).transpose()?;
        let outer = if scheme == "https" {
            let trust = roots.clone().filter(|_| !buyer.insecure);
            let mut config = client::tls(trust, buyer.pin.as_deref(), false)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = ServerName::try_from(proxy_host).map_err(io::Error::other)?;
            Some((client::connector(config), name))
        } else {
            None
        };
        let mut config = client::tls(roots, None, buyer.tls12)?;
        config.alpn_protocols = buyer.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        config.enable_sni = buyer.sni != Some(None);
        let rest = buyer.url.split_once("://").map_or(buyer.url.as_str(), |(_, rest)| rest);
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(place, 443);
        let authority = buyer.authority.clone().unwrap_or_else(|| format!("{host}:{port}"));
        let (path, inner) = (format!("/{path}"), client::connector(config));
        Ok(Plan { proxy: address, outer, inner, host, authority, path, buyer })
    }

    async fn request(&self, executor: &Executor, leases: Option<&Rc<Leases>>) -> Json {
        let started = mono_ms();
        let mut result = object([]);
        let attempt = match leases {
            Some(leases) => self.attempt_by_lease(executor, leases, &mut result).await,
            None => self.attempt(executor, &mut result).await,
        };
        if let Err(error) = attempt {
            result.set("error", text(error.to_string()));
            if let Some(number) = client::alert(&error) {
                result.set("alert", super::json::number(number));
            }
            result.set("errorKind", text(format!("{:?}", error.kind())));
        }
        result.set("ms", number(mono_ms() - started));
        result
    }

    async fn attempt(&self, executor: &Executor, result: &mut Json) -> io::Result<()> {
        result.set("stage", text("proxy"));
        let started = mono_ms();
        let mut stream = self.dial().await?;
        result.set("proxyMs", number(mono_ms() - started));
        result.set("stage", text("connect"));
        let line = match self.buyer.plain_get {
            true => format!("GET {} HTTP/1.1\r\nHost: {}\r\n", self.buyer.url, self.host),
            false => format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n", self.authority),
        };
        stream.write_all(format!("{line}{}\r\n", self.credentials_field()).as_bytes()).await?;
        stream.flush().await?;
        let (head, rest) = read_head(&mut stream).await?;
        result.set("connectMs", number(mono_ms() - started));
        let status = describe(&head, result);
        if status != 200 || self.buyer.plain_get {
            result.set("status", number(status));
            return read_problem(&head, rest, &mut stream, result).await;
        }
        self.through(executor, Tunnel { stream, early: rest, split: self.buyer.split }, result).await
    }

    async fn attempt_by_lease(
        &self,
        executor: &Executor,
        leases: &Rc<Leases>,
        result: &mut Json,
    ) -> io::Result<()> {
        result.set("stage", text("lease"));
        let started = mono_ms();
        let endpoint = match leases.endpoint(&self.authority).await? {
            Ok(endpoint) => endpoint,
            Err(refused) => {
                result.set("status", number(refused.status));
                if let Some(slug) = refused.body.str("type") {
                    result.set("slug", text(slug));
                }
                result.set("problem", refused.body);
                return Ok(());
            }
        };
        result.set("leaseMs", number(mono_ms() - started));
        result.set("endpoint", text(endpoint.to_string()));
        result.set("stage", text("connect"));
        let started = mono_ms();
        let stream = Async::<TcpStream>::connect(endpoint).await?;
        stream.get_ref().set_nodelay(true)?;
        result.set("connectMs", number(mono_ms() - started));
        let own = stream.get_ref().try_clone()?;
        let tunnel = Tunnel { stream: Box::new(stream), early: Vec::new(), split: self.buyer.split };
        self.through(executor, tunnel, result).await?;
        farewell::both_ended(own).await
    }

    /// What is done once the way to the target is there.
    async fn through(&self, executor: &Executor, mut tunnel: Tunnel, result: &mut Json) -> io::Result<()> {
        if self.buyer.silent_ms > 0 {
            Timer::after(Duration::from_millis(self.buyer.silent_ms)).await;
        }
        result.set("stage", text("tunnel"));
        match &self.buyer.hello {
            Some(hello) => raw(&mut tunnel, hello, result).await,
            None => self.fetch(executor, tunnel, result).await,
        }
    }

    /// The node's name, for the Host field.
    pub fn host(&self) -> String {
        let place = self.buyer.proxy.trim_end_matches('/');
        place.split_once("://").map_or(place, |(_, rest)| rest).to_owned()
    }

    /// Session and token.
    pub fn credentials(&self) -> Option<&(String, String)> {
        self.buyer.credentials.as_ref()
    }

    /// A connection to the node, its TLS done.
    pub async fn dial(&self) -> io::Result<Box<dyn Duplex>> {
        let stream = Async::<TcpStream>::connect(self.proxy).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(match &self.outer {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await?),
            None => Box::new(stream),
        })
    }

    fn credentials_field(&self) -> String {
        let header = |(session, token): &(String, String)| {
            format!("Proxy-Authorization: Basic {}\r\n", base64(format!("{session}:{token}").as_bytes()))
        };
        self.buyer.credentials.as_ref().map(header).unwrap_or_default()
    }

    async fn fetch(&self, executor: &Executor, tunnel: Tunnel, result: &mut Json) -> io::Result<()> {
        let name = match &self.buyer.sni {
            Some(Some(name)) => name.clone(),
            _ => self.host.clone(),
        };
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let started = mono_ms();
        let tls = self.inner.connect(name, tunnel).await?;
        result.set("tlsMs", number(mono_ms() - started));
        result.set("stage", text("request"));
        let builder = Request::builder().uri(self.path.as_str()).header("host", self.authority.as_str());
        let builder = builder.method(if self.buyer.upload.is_some() { "POST" } else { "GET" });
        let body = self.buyer.upload.map_or(Payload::from(""), |n| Payload::Filler(n, Bytes::new()));
        let request = builder.body(body).map_err(io::Error::other)?;
        let mut response = client::exchange(executor, Box::new(tls), request).await?;
        result.set("status", number(response.status().as_u16()));
        let mut out = self.buyer.out.as_ref().map(std::fs::File::create).transpose()?;
        let mut bytes = 0;
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(io::Error::other)?;
            if let Some(piece) = frame.data_ref() {
                bytes += piece.len();
                result.set("bytes", number(bytes));
                out.as_mut().map_or(Ok(()), |file| file.write_all(piece))?;
            }
        }
        result.set("stage", text("done"));
        Ok(())
    }
}

fn split_port(place: &str, default: u16) -> (String, u16) {
    let place = place.trim_end_matches('/');
    match place.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (host.trim_matches(['[', ']']).to_owned(), port),
        None => (place.trim_matches(['[', ']']).to_owned(), default),
    }
}

async fn read_head(stream: &mut Box<dyn Duplex>) -> io::Result<(Vec<String>, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = seen.split_off(end + 4);
            let head = String::from_utf8_lossy(&seen).into_owned();
            return Ok((head.split("\r\n").map(str::to_owned).collect(), rest));
        }
        let n = stream.read(&mut piece).await?;
        if n == 0 || seen.len() > MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no complete answer to CONNECT"));
        }
        seen.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
}

/// Notes status and fields of the node's answer.
fn describe(head: &[String], result: &mut Json) -> u16 {
    let status = head.first().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    result.set("connectStatus", number(status));
    for (field, member) in [
        ("proxy-status", "proxyStatus"),
        ("proxy-authenticate", "proxyAuthenticate"),
        ("retry-after", "retryAfter"),
    ] {
        if let Some(value) = header(head, field) {
            result.set(member, text(value));
        }
    }
    status
}

fn header(head: &[String], name: &str) -> Option<String> {
    let fields = head.iter().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).next()
}

async fn read_problem(
    head: &[String],
    mut body: Vec<u8>,
    stream: &mut Box<dyn Duplex>,
    result: &mut Json,
) -> io::Result<()> {
    let length = header(head, "content-length").and_then(|digits| digits.parse::<usize>().ok());
    let length = length.unwrap_or(0).min(MAX_RAW);
    let mut piece = [0; 4096];
    while body.len() < length {
        let n = stream.read(&mut piece).await?;
        if n == 0 {
            break;
        }
        body.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
    let shown = parse(&body).unwrap_or_else(|_| text(String::from_utf8_lossy(&body)));
    if let Some(slug) = shown.str("type") {
        result.set("slug", text(slug));
    }
    result.set("problem", shown);
    Ok(())
}

/// Sends bytes of the test's choice and tells what came back before the end.
async fn raw(tunnel: &mut Tunnel, hello: &[u8], result: &mut Json) -> io::Result<()> {
    tunnel.write_all(hello).await?;
    tunnel.flush().await?;
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        match tunnel.read(&mut piece).await {
            Ok(0) => break "closed",
            Ok(n) => seen.extend_from_slice(piece.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break "reset",
            Err(_) => break "cut",
        }
        if seen.len() > MAX_RAW {
            break "open";
        }
    };
    result.set("end", text(end));
    result.set("received", text(hex(&seen)));
    if let [21, 3, _, 0, 2, 2, description] = seen.as_slice() {
        result.set("alert", number(*description));
    }
    Ok(())
}

/// The tunnel after the 200: bytes that came with it first, writes in pieces if asked for.
struct Tunnel {
    stream: Box<dyn Duplex>,
    early: Vec<u8>,
    split: Option<usize>,
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let take = self.early.len().min(buf.len());
        for (slot, byte) in buf.iter_mut().zip(self.early.drain(..take)) {
            *slot = byte;
        }
        Poll::Ready(Ok(take))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.split.unwrap_or(buf.len()).clamp(1, buf.len().max(1));
        Pin::new(&mut self.stream).poll_write(cx, buf.get(..most).unwrap_or(buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

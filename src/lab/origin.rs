//! The HTTPS origin buyers fetch from, and a plain listener that shows what should not have arrived.
use super::http::{self, Answer, Executor, Incomings, Payload, Wire, answer, problem, typed};
use super::json::{Json, number, object, text};
use async_io::Async;
use futures_rustls::TlsAcceptor;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::{Method, Response};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::TcpListener;
use std::rc::Rc;

/// Connections kept one by one; all are in the totals.
const MAX_KEPT: usize = 1000;

const PAGE: &str = "<!doctype html>\n<meta charset=utf-8>\n<title>EchoMesh lab</title>\n<h1>It works</h1>\n\
<p>This page came from the lab's origin.</p>\n";

/// Counters of the origin: TCP payload at its own socket.
#[derive(Default)]
pub struct Origin {
    kept: RefCell<VecDeque<Rc<Wire>>>,
    earlier: Cell<(u64, u64)>,
    connections: Cell<u64>,
    requests: Cell<u64>,
    uploaded: Cell<u64>,
    plain: Cell<u64>,
}

impl Origin {
    fn know(&self, wire: &Rc<Wire>) {
        let mut kept = self.kept.borrow_mut();
        if kept.iter().rev().any(|known| Rc::ptr_eq(known, wire)) {
            return;
        }
        self.connections.set(self.connections.get() + 1);
        kept.push_back(Rc::clone(wire));
        // A counter somebody still writes to must stay; the oldest are long closed.
        let closed = kept.iter().position(|old| Rc::strong_count(old) == 1);
        if let (true, Some(index)) = (kept.len() > MAX_KEPT, closed)
            && let Some(old) = kept.remove(index)
        {
            let (received, sent) = self.earlier.get();
            self.earlier.set((received + old.received.get(), sent + old.sent.get()));
        }
    }

    /// Forgets all figures, so that a script can measure one step.
    pub fn reset(&self) {
        self.kept.borrow_mut().clear();
        self.earlier.set((0, 0));
        for counter in [&self.connections, &self.requests, &self.uploaded, &self.plain] {
            counter.set(0);
        }
    }

    /// Totals and connections for the control API; bytes as the origin sees them (`received` is the node's egress).
    pub fn to_json(&self) -> Json {
        let kept = self.kept.borrow();
        let (mut received, mut sent) = self.earlier.get();
        let mut each = Vec::new();
        for wire in kept.iter() {
            received += wire.received.get();
            sent += wire.sent.get();
            each.push(object([
                ("peer", text(wire.peer.get().map(|peer| peer.to_string()).unwrap_or_default())),
                ("received", number(wire.received.get())),
                ("sent", number(wire.sent.get())),
                ("open", (Rc::strong_count(wire) > 1).into()),
            ]));
        }
        object([
            ("connections", number(self.connections.get())),
            ("requests", number(self.requests.get())),
            ("received", number(received)),
            ("sent", number(sent)),
            ("uploaded", number(self.uploaded.get())),
            ("plainConnections", number(self.plain.get())),
            ("each", Json::Array(each)),
        ])
    }

    async fn handle(&self, request: Incomings, wire: &Rc<Wire>) -> Answer {
        self.know(wire);
        self.requests.set(self.requests.get() + 1);
        let path = request.uri().path().to_owned();
        if request.method() == Method::POST && path == "/upload" {
            let mut body = request.into_body();
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame.map_err(std::io::Error::other)?.data_ref().map_or(0, Bytes::len) as u64;
            }
            self.uploaded.set(self.uploaded.get() + bytes);
            return Ok(answer(200, &object([("bytes", number(bytes))])));
        }
        if let Some(size) = path.strip_prefix("/bytes/") {
            return Ok(match size.parse::<u64>() {
                Ok(size) => filler(size),
                Err(_) => problem(400, "malformed", "/bytes/N with N in bytes"),
            });
        }
        Ok(match path.as_str() {
            "/" => typed(200, "text/html; charset=utf-8", PAGE),
            "/status" => answer(200, &self.to_json()),
            _ => problem(404, "not-found", "the origin has /, /bytes/N, /upload and /status"),
        })
    }
}

fn filler(size: u64) -> Response<Payload> {
    let mut response = Response::new(Payload::Filler(size, Bytes::new()));
    let kind = hyper::header::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert("content-type", kind);
    response
}

/// Serves the HTTPS origin.
pub fn run(executor: &Executor, listener: Async<TcpListener>, tls: TlsAcceptor, origin: &Rc<Origin>) {
    let origin = Rc::clone(origin);
    let connected = Rc::clone(&origin);
    http::serve_with(
        executor,
        listener,
        Some(tls),
        move |wire| connected.know(wire),
        move |request, wire| {
            let origin = Rc::clone(&origin);
            async move { origin.handle(request, &wire).await }
        },
    );
}

/// Serves a plain HTTP listener: every connection is counted, request or not.
pub fn run_plain(executor: &Executor, listener: Async<TcpListener>, origin: &Rc<Origin>) {
    let origin = Rc::clone(origin);
    let greet = |_, _| async { Ok(typed(200, "text/plain", "plain HTTP\n")) };
    http::serve_with(executor, listener, None, move |_| origin.plain.set(origin.plain.get() + 1), greet);
}

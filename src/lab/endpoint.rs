//! The trusted endpoint of probes: `size` bytes of content, then the signed trailer.
use super::blake3::Hasher;
use super::clock::{instant, unix_ms};
use super::http::{self, Answer, Executor, FILLER, Payload, problem};
use super::json::{Json, Members, canonical, number, object, text};
use super::keys::Key;
use super::text::{hex, query};
use async_io::Async;
use futures_rustls::TlsAcceptor;
use hyper::Response;
use hyper::body::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::TcpListener;
use std::rc::Rc;

/// Largest content, in bytes; a little over the contract's 64 MiB so that the node's own limit shows.
const MAX_SIZE: u64 = 80 << 20;
/// Faults waiting at a time.
const MAX_FAULTS: usize = 64;

/// The endpoint's key, counters and faults.
pub struct Endpoint {
    key: Key,
    hashes: RefCell<HashMap<u64, String>>,
    faults: RefCell<VecDeque<String>>,
    /// Requests answered.
    pub served: Cell<u64>,
    /// Added to the real time in `serverTime`, ms.
    pub clock_offset_ms: Cell<i64>,
}

impl Endpoint {
    /// An endpoint with this key.
    pub fn new(key: Key) -> Rc<Endpoint> {
        let (hashes, faults) = Default::default();
        Rc::new(Endpoint { key, hashes, faults, served: Cell::new(0), clock_offset_ms: Cell::new(0) })
    }

    /// Base64 of the key that signs trailers.
    pub fn public(&self) -> String {
        self.key.public()
    }

    /// Orders faults for the next requests: `probe-signature`, `probe-hash`, `probe-short`, `probe-trailer`
    /// (longer than 1024 bytes), `probe-nonce`, `probe-status`.
    pub fn order(&self, kind: &str, times: i64) {
        let mut faults = self.faults.borrow_mut();
        for _ in 0..times {
            if faults.len() < MAX_FAULTS {
                faults.push_back(kind.to_owned());
            }
        }
    }

    /// Forgets ordered faults.
    pub fn clear(&self) {
        self.faults.borrow_mut().clear();
    }

    async fn answer(&self, target: &str) -> Answer {
        let nonce = query(target, "nonce");
        let size =
            query(target, "size").and_then(|digits| digits.parse::<u64>().ok()).filter(|n| *n <= MAX_SIZE);
        let (Some(nonce), Some(size)) = (nonce, size) else {
            return Ok(problem(400, "malformed", "ask with ?nonce=…&size=…"));
        };
        self.served.set(self.served.get() + 1);
        let fault = self.faults.borrow_mut().pop_front().unwrap_or_default();
        let known = self.hashes.borrow().get(&size).cloned();
        let hash = match known {
            Some(hash) => hash,
            // Tens of megabytes take a while without SIMD, and other roles share this thread.
            None => blocking::unblock(move || content_hash(size)).await,
        };
        self.hashes.borrow_mut().insert(size, hash.clone());
        let trailer = self.trailer(&fault, &nonce, size, &hash);
        Ok(match fault.as_str() {
            "probe-status" => problem(503, "unavailable", "ordered by a test"),
            "probe-short" => content(Payload::Short(size + trailer.len() as u64, size / 2)),
            _ => content(Payload::Filler(size, Bytes::from(trailer))),
        })
    }

    fn trailer(&self, fault: &str, nonce: &str, size: u64, hash: &str) -> String {
        let wrong_hash = format!("b3:{}", "0".repeat(64));
        let mut trailer = object([
            ("nonce", text(if fault == "probe-nonce" { "another" } else { nonce })),
            ("size", number(size)),
            ("contentHash", text(if fault == "probe-hash" { &wrong_hash } else { hash })),
            ("serverTime", text(instant(unix_ms() + self.clock_offset_ms.get()))),
        ]);
        self.key.sign_object("probe-content", &mut trailer, "endpointSig");
        if fault == "probe-signature" {
            trailer.set("endpointSig", text(self.key.sign(b"something else")));
        }
        let mut line = canonical(&trailer);
        if fault == "probe-trailer" {
            line.insert_str(1, &" ".repeat(1024));
        }
        line
    }

    /// Counters for the control API.
    pub fn to_json(&self) -> Json {
        object([("served", number(self.served.get())), ("publicKey", text(self.public()))])
    }
}

fn content(payload: Payload) -> Response<Payload> {
    let mut response = Response::new(payload);
    let kind = hyper::header::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert("content-type", kind);
    response
}

fn content_hash(size: u64) -> String {
    let mut hasher = Hasher::new();
    let mut left = usize::try_from(size).unwrap_or(0);
    while left > 0 {
        let take = left.min(FILLER.len());
        hasher.update(FILLER.get(..take).unwrap_or_default());
        left -= take;
    }
    format!("b3:{}", hex(&hasher.finish()))
}

/// Serves probes.
pub fn run(
    executor: &Executor,
    listener: Async<TcpListener>,
    tls: Option<TlsAcceptor>,
    endpoint: &Rc<Endpoint>,
) {
    let endpoint = Rc::clone(endpoint);
    http::serve(executor, listener, tls, move |request, _| {
        let endpoint = Rc::clone(&endpoint);
        async move { endpoint.answer(request.uri().query().unwrap_or_default()).await }
    });
}

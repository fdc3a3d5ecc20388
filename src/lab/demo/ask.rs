//! Requests to the two control APIs: the lab's on loopback, the node's on its Unix socket.
use super::Outcome;
use crate::lab::json::{Json, Members, canonical, parse};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Longest answer that is read.
const MAX_ANSWER: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// The lab's control API.
pub struct Lab(pub SocketAddr);

/// The node's local API.
pub struct Node {
    /// The directory with `api.sock` and `api.token`.
    pub run_dir: PathBuf,
}

impl Lab {
    /// A request that must succeed.
    pub fn call(&self, method: &str, path: &str, body: Option<&Json>) -> Outcome<Json> {
        json(
            "lab",
            &exchange(self.dial()?, "lab", "", (method, path), &body.map(canonical).unwrap_or_default())?,
        )
    }

    /// Posts text as it is, and gives the answer's.
    pub fn post_text(&self, path: &str, body: &str) -> Outcome<String> {
        exchange(self.dial()?, "lab", "", ("POST", path), body)
    }

    fn dial(&self) -> Outcome<TcpStream> {
        #[allow(clippy::disallowed_methods, reason = "the lab's own control API, on loopback")]
        let stream = TcpStream::connect(self.0).map_err(|e| format!("lab: {e}"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        Ok(stream)
    }
}

impl Node {
    /// A request that must succeed.
    pub fn call(&self, method: &str, path: &str, body: Option<&Json>) -> Outcome<Json> {
        json("node", &self.exchange((method, path), &body.map(canonical).unwrap_or_default())?)
    }

    /// What a path gives, as it is.
    pub fn text(&self, path: &str) -> Outcome<String> {
        self.exchange(("GET", path), "")
    }

    fn exchange(&self, request: (&str, &str), body: &str) -> Outcome<String> {
        let token =
            std::fs::read_to_string(self.run_dir.join("api.token")).map_err(|e| format!("api.token: {e}"))?;
        let stream =
            UnixStream::connect(self.run_dir.join("api.sock")).map_err(|e| format!("api.sock: {e}"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        let authorization = format!("Authorization: Bearer {}\r\n", token.trim());
        exchange(stream, "node", &authorization, request, body)
    }

    /// `POST /control`.
    pub fn control(&self, action: &str) -> Outcome<Json> {
        let body = crate::lab::json::object([("action", crate::lab::json::text(action))]);
        self.call("POST", "/control", Some(&body))
    }
}

fn exchange(
    mut stream: impl Read + Write,
    who: &str,
    header: &str,
    (method, path): (&str, &str),
    body: &str,
) -> Outcome<String> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).map_err(|e| format!("{who}: {e}"))?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(|e| format!("{who}: {e}"))?;
    let (status, content) =
        split(&answer).ok_or_else(|| format!("{who}: {method} {path}: no HTTP answer"))?;
    if !(200..300).contains(&status) {
        return Err(format!("{who}: {method} {path}: {status} {content}"));
    }
    Ok(content)
}

fn json(who: &str, content: &str) -> Outcome<Json> {
    if content.is_empty() {
        Ok(Json::Null)
    } else {
        parse(content.as_bytes()).map_err(|e| format!("{who}: {e}"))
    }
}

/// Status and content of an answer that ends with its connection; chunks are put together.
fn split(answer: &[u8]) -> Option<(u16, String)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer).ok()? else { return None };
    let status = response.code?;
    let chunked = response.headers.iter().any(|h| h.name.eq_ignore_ascii_case("transfer-encoding"));
    let mut rest = answer.get(head..)?;
    if !chunked {
        return Some((status, String::from_utf8_lossy(rest).into_owned()));
    }
    let mut content = Vec::new();
    while let Ok(httparse::Status::Complete((at, size))) = httparse::parse_chunk_size(rest) {
        let size = usize::try_from(size).ok()?;
        content.extend_from_slice(rest.get(at..at.checked_add(size)?)?);
        rest = rest.get(at.checked_add(size)?.checked_add(2)?..)?;
        if size == 0 {
            break;
        }
    }
    Some((status, String::from_utf8_lossy(&content).into_owned()))
}

/// A string member that must be there.
pub fn need<'a>(value: &'a Json, name: &str) -> Outcome<&'a str> {
    value.str(name).ok_or_else(|| format!("{name} is missing in {}", canonical(value)))
}

/// An unsigned integer member, 0 if missing.
pub fn count(value: Option<&Json>, name: &str) -> u64 {
    value.and_then(|v| v.int(name)).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

/// Polls until there is something, at most so many milliseconds.
pub fn wait<T>(what: &str, ms: u64, mut test: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let end = crate::lab::clock::mono_ms() + ms;
    loop {
        if let Some(found) = test()? {
            return Ok(found);
        }
        if crate::lab::clock::mono_ms() > end {
            return Err(format!("{what}: not within {} s", ms / 1000));
        }
        super::children::sleep(5);
    }
}

//! A request's head and the framing of its body (RFC 9112), without a socket.
//!
//! `httparse` reads the syntax. What decides where a message ends is judged here, and in doubt refused: two readers of
//! one connection that disagree about that are how requests get smuggled.
use std::fmt;

/// Longest head (request line and fields) that is read, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// Most fields of a head.
pub const MAX_FIELDS: usize = 64;
/// Longest body that is read, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Longest line of a chunk's size with its extensions, and longest trailer section, in bytes.
const MAX_CHUNK_LINE: usize = 1024;
const MAX_TRAILERS: usize = 4096;

/// Why a request cannot be read. All of them are the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No HTTP/1 request, or one whose end is in doubt.
    Malformed(&'static str),
    /// More than [`MAX_HEAD`] bytes or [`MAX_FIELDS`] fields.
    HeadTooLarge,
    /// More than [`MAX_BODY`] bytes.
    BodyTooLarge,
    /// A transfer coding other than `chunked`.
    Coding,
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// It did not come in time.
    Timeout,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(why) => write!(f, "The request is malformed: {why}."),
            Fault::HeadTooLarge => write!(f, "The head is over {MAX_HEAD} bytes or {MAX_FIELDS} fields."),
            Fault::BodyTooLarge => write!(f, "The body is over {MAX_BODY} bytes."),
            Fault::Coding => f.write_str("The only transfer coding that is read is chunked."),
            Fault::Expectation => f.write_str("The only expectation that is met is 100-continue."),
            Fault::Timeout => f.write_str("The request did not come in time."),
        }
    }
}

impl std::error::Error for Fault {}

/// How the end of a request's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; 0 without a body.
    Length(usize),
    /// RFC 9112 section 7.1.
    Chunked,
}

/// A request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The method, as sent.
    pub method: String,
    /// The path, not decoded; `*` for the server as a whole.
    pub path: String,
    /// What stands after the `?`, not decoded; empty without one.
    pub query: String,
    /// Host and port: of the target if it is an absolute URL, else the Host field; `None` in HTTP/1.0 without it.
    pub authority: Option<String>,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the client waits for a `100 Continue`.
    pub expects_continue: bool,
    /// Whether the connection may serve another request.
    pub keep_alive: bool,
    /// Whether the client knows chunked coding (HTTP/1.1).
    pub knows_chunked: bool,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Reads a head from the start of `bytes`. `None` while it is incomplete, else the head and its length.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Fault> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => {
                Ok(Some((Head::judge(&request)?, length)))
            }
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Fault::HeadTooLarge),
            Err(httparse::Error::Version) => Err(Fault::Malformed("it is not HTTP/1.1")),
            Err(_) => Err(Fault::Malformed("its head is not HTTP")),
        }
    }

    /// The value of a field that may stand once; an error if it stands more often.
    pub fn field(&self, name: &str) -> Result<Option<&str>, Fault> {
        single(&self.fields, name)
    }

    /// The decoded value of the first query parameter `name`; `None` also where the decoded bytes are no UTF-8.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
        pairs.find(|(n, _)| *n == name).and_then(|(_, v)| percent_decode(v))
    }

    fn judge(request: &httparse::Request<'_, '_>) -> Result<Head, Fault> {
        let mut fields = Vec::with_capacity(request.headers.len());
        for field in request.headers.iter() {
            let value = std::str::from_utf8(field.value).map_err(|_| Fault::Malformed("a field is not UTF-8"))?;
            fields.push((field.name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        let current = request.version == Some(1);
        let host = single(&fields, "host")?;
        if current && host.is_none() {
            return Err(Fault::Malformed("it has no Host field"));
        }
        let method = request.method.unwrap_or_default();
        let (authority, target) = split_target(method, request.path.unwrap_or_default())?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let connection = fields.iter().filter(|(n, _)| n == "connection").flat_map(|(_, v)| v.split(','));
        let close = connection.into_iter().any(|option| option.trim().eq_ignore_ascii_case("close"));
        let expects_continue = match single(&fields, "expect")? {
            None => false,
            Some(e) if e.eq_ignore_ascii_case("100-continue") => current,
            Some(_) => return Err(Fault::Expectation),
        };
        Ok(Head {
            method: method.to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            query: query.to_owned(),
            authority: authority.or(host).map(str::to_owned),
            framing: framing(&fields, current)?,
            expects_continue,
            keep_alive: current && !close,
            knows_chunked: current,
            fields,
        })
    }
}

/// Authority and path of a request target in origin, absolute or asterisk form (RFC 9112 section 3.2).
fn split_target<'a>(method: &str, target: &'a str) -> Result<(Option<&'a str>, &'a str), Fault> {
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((None, target));
    }
    let scheme = target.get(..7).filter(|s| s.eq_ignore_ascii_case("http://"));
    let rest = scheme.and_then(|_| target.get(7..)).ok_or(Fault::Malformed("its target is no path"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    Ok((Some(authority), path))
}

fn framing(fields: &[(String, String)], current: bool) -> Result<Framing, Fault> {
    let length = single(fields, "content-length")?;
    match (single(fields, "transfer-encoding")?, length) {
        (None, None) => Ok(Framing::Length(0)),
        (None, Some(text)) => content_length(text),
        (Some(_), Some(_)) => Err(Fault::Malformed("it has both Content-Length and Transfer-Encoding")),
        (Some(_), None) if !current => Err(Fault::Malformed("HTTP/1.0 has no transfer codings")),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (Some(_), None) => Err(Fault::Coding),
    }
}

fn content_length(text: &str) -> Result<Framing, Fault> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::Malformed("its Content-Length is no number"));
    }
    match text.parse() {
        Ok(n) if n <= MAX_BODY => Ok(Framing::Length(n)),
        _ => Err(Fault::BodyTooLarge),
    }
}

fn single<'a>(fields: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, Fault> {
    let mut found = fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(Fault::Malformed("a field that may stand once is repeated")),
        (value, None) => Ok(value),
    }
}

/// The text of percent-encoded UTF-8 (RFC 3986 section 2.1). A `+` is a plus sign.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(b) = bytes.next() {
        decoded.push(if b == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
        } else {
            b
        });
    }
    String::from_utf8(decoded).ok()
}

/// A body that is being read.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    body: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Rest(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
    Done,
}

impl BodyReader {
    /// A reader for a body with this framing.
    pub fn new(framing: Framing) -> BodyReader {
        let state = match framing {
            Framing::Length(n) => State::Rest(n),
            Framing::Chunked => State::ChunkSize,
        };
        BodyReader { state, body: Vec::new() }
    }

    /// Takes what belongs to the body from the front of `bytes`; whether the body is complete.
    pub fn feed(&mut self, bytes: &mut Vec<u8>) -> Result<bool, Fault> {
        let mut at = 0;
        while let Some(taken) = self.step(bytes.get(at..).unwrap_or_default())? {
            at += taken;
        }
        bytes.drain(..at.min(bytes.len()));
        Ok(matches!(self.state, State::Done))
    }

    /// The body.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// One element of the framing; the bytes it took, or `None` when more are needed or all is read.
    fn step(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let (next, taken) = match self.state {
            State::Rest(0) => (State::Done, 0),
            State::Rest(n) => match self.take(bytes, n) {
                0 => return Ok(None),
                taken => (State::Rest(n - taken), taken),
            },
            State::ChunkSize => match httparse::parse_chunk_size(bytes) {
                Ok(httparse::Status::Complete((taken, 0))) => (State::Trailers, taken),
                Ok(httparse::Status::Complete((taken, n))) => (State::Chunk(self.within_limit(n)?), taken),
                Ok(httparse::Status::Partial) if bytes.len() < MAX_CHUNK_LINE => return Ok(None),
                _ => return Err(Fault::Malformed("a chunk's size is no number")),
            },
            State::Chunk(n) => match self.take(bytes, n) {
                0 => return Ok(None),
                taken if taken == n => (State::ChunkEnd, taken),
                taken => (State::Chunk(n - taken), taken),
            },
            State::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => (State::ChunkSize, 2),
                [] | [b'\r'] => return Ok(None),
                _ => return Err(Fault::Malformed("a chunk is longer than its size")),
            },
            State::Trailers => {
                let mut fields = [httparse::EMPTY_HEADER; 16];
                match httparse::parse_headers(bytes, &mut fields) {
                    Ok(httparse::Status::Complete((taken, _))) => (State::Done, taken),
                    Ok(httparse::Status::Partial) if bytes.len() < MAX_TRAILERS => return Ok(None),
                    _ => return Err(Fault::Malformed("its trailers are not HTTP")),
                }
            }
            State::Done => return Ok(None),
        };
        self.state = next;
        Ok(Some(taken))
    }

    fn take(&mut self, bytes: &[u8], at_most: usize) -> usize {
        let part = bytes.get(..at_most).unwrap_or(bytes);
        self.body.extend_from_slice(part);
        part.len()
    }

    fn within_limit(&self, chunk: u64) -> Result<usize, Fault> {
        let room = MAX_BODY - self.body.len();
        usize::try_from(chunk).ok().filter(|n| *n <= room).ok_or(Fault::BodyTooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Option<(Head, usize)>, Fault> {
        Head::parse(text.as_bytes())
    }

    fn head(text: &str) -> Head {
        parse(text).unwrap().unwrap().0
    }

    #[test]
    fn a_request_is_read() {
        let text = "GET /logs/export?since=2025-12-19T14%3A00%3A00Z&x HTTP/1.1\r\nHost: localhost\r\nA:  b \r\n\r\nrest";
        let (head, length) = parse(text).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("GET", "/logs/export"));
        assert_eq!(head.parameter("since").as_deref(), Some("2025-12-19T14:00:00Z"));
        assert_eq!(head.parameter("x").as_deref(), Some(""));
        assert_eq!(head.parameter("y"), None);
        assert_eq!(head.field("a"), Ok(Some("b")));
        assert_eq!(head.authority.as_deref(), Some("localhost"));
        assert!(head.keep_alive && head.framing == Framing::Length(0));
        assert_eq!(length, text.len() - 4);
    }

    #[test]
    fn the_authority_of_an_absolute_target_replaces_host() {
        let head = head("GET http://evil.example:80?q HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(head.authority.as_deref(), Some("evil.example:80"));
        assert_eq!((head.path.as_str(), head.query.as_str()), ("/", "q"));
    }

    #[test]
    fn requests_whose_end_is_in_doubt_are_refused() {
        let with = |fields: &str| parse(&format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n")).unwrap_err();
        let both = "it has both Content-Length and Transfer-Encoding";
        let twice = "a field that may stand once is repeated";
        assert_eq!(with("Content-Length: 3\r\nTransfer-Encoding: chunked"), Fault::Malformed(both));
        assert_eq!(with("Content-Length: 3\r\nContent-Length: 3"), Fault::Malformed(twice));
        assert_eq!(with("Host: y"), Fault::Malformed(twice));
        for bad in ["+3", "3, 3", "-1", "0x3", "", "3 3"] {
            let why = Fault::Malformed("its Content-Length is no number");
            assert_eq!(with(&format!("Content-Length: {bad}")), why, "{bad}");
        }
        assert_eq!(with("Content-Length: 99999999999999999999999"), Fault::BodyTooLarge);
        assert_eq!(with("Transfer-Encoding: gzip, chunked"), Fault::Coding);
        assert_eq!(with("Expect: tea"), Fault::Expectation);
        let folded = "A: b\r\n c";
        assert_eq!(with(folded), Fault::Malformed("its head is not HTTP"));
        let old = parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err();
        assert_eq!(old, Fault::Malformed("HTTP/1.0 has no transfer codings"));
        assert_eq!(parse("GET / HTTP/1.1\r\n\r\n").unwrap_err(), Fault::Malformed("it has no Host field"));
        assert_eq!(parse("GET / HTTP/2.0\r\n\r\n").unwrap_err(), Fault::Malformed("it is not HTTP/1.1"));
        let target = parse("GET status HTTP/1.1\r\nHost: x\r\n\r\n").unwrap_err();
        assert_eq!(target, Fault::Malformed("its target is no path"));
    }

    #[test]
    fn the_head_has_a_limit() {
        let filled = |n: usize| format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "b".repeat(n));
        let spare = MAX_HEAD - filled(0).len();
        assert!(parse(&filled(spare)).unwrap().is_some());
        assert_eq!(parse(&filled(spare + 1)).unwrap_err(), Fault::HeadTooLarge);
        assert_eq!(parse(&"A".repeat(MAX_HEAD)).unwrap_err(), Fault::HeadTooLarge);
        assert_eq!(parse(&"A".repeat(MAX_HEAD - 1)), Ok(None));
        let fields = |n: usize| format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(n));
        assert!(parse(&fields(MAX_FIELDS - 1)).unwrap().is_some());
        assert_eq!(parse(&fields(MAX_FIELDS)).unwrap_err(), Fault::HeadTooLarge);
    }

    #[test]
    fn the_body_has_a_limit() {
        let with = |n: usize| parse(&format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {n}\r\n\r\n"));
        assert!(with(MAX_BODY).is_ok());
        assert_eq!(with(MAX_BODY + 1).unwrap_err(), Fault::BodyTooLarge);
        let chunks = |n: usize| {
            let mut bytes = format!("{n:x}\r\n").into_bytes();
            bytes.extend(vec![b'x'; n]);
            bytes.extend(b"\r\n0\r\n\r\n");
            BodyReader::new(Framing::Chunked).feed(&mut bytes)
        };
        assert_eq!(chunks(MAX_BODY), Ok(true));
        assert_eq!(chunks(MAX_BODY + 1), Err(Fault::BodyTooLarge));
    }

    #[test]
    fn a_chunk_that_does_not_end_is_refused() {
        let feed = |text: &str| BodyReader::new(Framing::Chunked).feed(&mut text.as_bytes().to_vec());
        let size = Err(Fault::Malformed("a chunk's size is no number"));
        assert_eq!(feed("3\r\nabcd\r\n"), Err(Fault::Malformed("a chunk is longer than its size")));
        assert_eq!(feed("z\r\n"), size);
        assert_eq!(feed(&format!("1;{}", "x".repeat(MAX_CHUNK_LINE))), size);
        let trailers = format!("0\r\nA: {}", "x".repeat(MAX_TRAILERS));
        assert_eq!(feed(&trailers), Err(Fault::Malformed("its trailers are not HTTP")));
        assert_eq!(feed("ffffffffffffffff\r\n"), Err(Fault::BodyTooLarge));
    }

    #[test]
    fn broken_percent_encoding_is_no_text() {
        assert_eq!(percent_decode("a%20+b"), Some("a +b".into()));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn chunks_come_out_as_they_went_in_however_they_are_split(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            step in 1usize..30,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:X};ext=1\r\n", chunk.len()).into_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\nTrailer: x\r\n\r\n");
            let end = wire.len();
            wire.extend(b"GET /next");
            let mut reader = BodyReader::new(Framing::Chunked);
            let (mut buffer, mut fed, mut done) = (Vec::new(), 0, false);
            while !done {
                let part = &wire[fed..(fed + step).min(wire.len())];
                fed += part.len();
                buffer.extend(part);
                done = reader.feed(&mut buffer).unwrap();
                prop_assert!(done || fed < end);
            }
            prop_assert_eq!(reader.into_body(), chunks.concat());
            buffer.extend(&wire[fed..]);
            prop_assert_eq!(buffer, b"GET /next");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Head::parse(&bytes);
            let _ = BodyReader::new(Framing::Chunked).feed(&mut bytes.clone());
        }
    }
}

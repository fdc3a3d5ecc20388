//! A request as a server judges it, without a socket.
//!
//! [`super::head`] reads the syntax. What decides where a message ends, and whom it is for, must be beyond doubt here: two
//! readers of one connection that disagree about that are how requests get smuggled.
use super::head::{self, BodyReader, Framing, Malformed, Piece, RequestHead};
use crate::mutant;
use std::fmt;

/// Longest body that is read, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Why a request cannot be read. All of them are the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No HTTP/1 request, or one whose end is in doubt.
    Malformed(&'static str),
    /// More than [`head::MAX_HEAD`] bytes or [`head::MAX_HEADERS`] fields.
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

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Fault {
        match malformed {
            Malformed::Head => Fault::Malformed("its head is not HTTP/1.1"),
            Malformed::HeadTooLarge => Fault::HeadTooLarge,
            Malformed::Length => Fault::Malformed("its Content-Length is no single number"),
            Malformed::LengthAndCoding => {
                Fault::Malformed("it has both Content-Length and Transfer-Encoding")
            }
            Malformed::Coding => Fault::Coding,
            Malformed::Chunk => Fault::Malformed("a chunk is not as HTTP wants it"),
            Malformed::Truncated => Fault::Malformed("it ends too early"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(why) => write!(f, "The request is malformed: {why}."),
            Fault::HeadTooLarge => {
                write!(f, "The head is over {} bytes or {} fields.", head::MAX_HEAD, head::MAX_HEADERS)
            }
            Fault::BodyTooLarge => write!(f, "The body is over {MAX_BODY} bytes."),
            Fault::Coding => f.write_str("The only transfer coding that is read is chunked."),
            Fault::Expectation => f.write_str("The only expectation that is met is 100-continue."),
            Fault::Timeout => f.write_str("The request did not come in time."),
        }
    }
}

impl std::error::Error for Fault {}

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
    raw: RequestHead,
}

impl Head {
    /// Reads a head from the start of `bytes`. `None` while it is incomplete, else the head and its length.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Fault> {
        match head::request_head(bytes)? {
            Some((raw, length)) => Ok(Some((Head::judge(raw)?, length))),
            None => Ok(None),
        }
    }

    /// Whether the connection may serve another request.
    pub fn keep_alive(&self) -> bool {
        self.raw.keep_alive
    }

    /// Whether the client knows chunked coding.
    pub fn knows_chunked(&self) -> bool {
        self.raw.current
    }

    /// The value of a field (by its lower-case name) that may stand once; an error if it stands more often.
    pub fn field(&self, name: &'static str) -> Result<Option<&str>, Fault> {
        single(&self.raw, name)
    }

    /// The decoded value of the first query parameter `name`; `None` also where the decoded bytes are no UTF-8.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
        pairs.find(|(n, _)| *n == name).and_then(|(_, v)| percent_decode(v))
    }

    fn judge(raw: RequestHead) -> Result<Head, Fault> {
        let host = single(&raw, "host")?;
        if raw.current && host.is_none() {
            return Err(Fault::Malformed("it has no Host field"));
        }
        let (authority, target) = split_target(&raw.method, &raw.target)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let framing = head::request_framing(&raw.headers)?;
        match framing {
            Framing::Length(n) if n > MAX_BODY as u64 && !mutant::out("api-body-limit") => {
                return Err(Fault::BodyTooLarge);
            }
            Framing::Chunked if !raw.current => {
                return Err(Fault::Malformed("HTTP/1.0 has no transfer codings"));
            }
            _ => {}
        }
        let expects_continue = match single(&raw, "expect")? {
            None => false,
            Some(e) if e.eq_ignore_ascii_case("100-continue") => raw.current,
            Some(_) => return Err(Fault::Expectation),
        };
        Ok(Head {
            method: raw.method.clone(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            query: query.to_owned(),
            authority: authority.or(host).map(str::to_owned),
            framing,
            expects_continue,
            raw,
        })
    }
}

fn single<'a>(raw: &'a RequestHead, name: &'static str) -> Result<Option<&'a str>, Fault> {
    let mut found = raw.headers.all(name);
    match (found.next(), found.next()) {
        (_, Some(_)) if !mutant::out("api-field-once") => {
            Err(Fault::Malformed("a field that may stand once is repeated"))
        }
        (value, _) => Ok(value),
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
    Ok(((!mutant::out("api-target-authority")).then_some(authority), path))
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
pub struct RequestBody {
    reader: BodyReader,
    content: Vec<u8>,
}

impl RequestBody {
    /// A body with this framing, of which nothing is read yet.
    pub fn new(framing: Framing) -> RequestBody {
        RequestBody { reader: BodyReader::new(framing), content: Vec::new() }
    }

    /// Takes what belongs to the body from the front of `bytes`; whether the body is complete.
    pub fn feed(&mut self, bytes: &mut Vec<u8>) -> Result<bool, Fault> {
        let mut at = 0;
        let done = loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match self.reader.next(rest)? {
                Piece::Data(range) => {
                    at += range.end;
                    let data = rest.get(range).unwrap_or_default();
                    let room = MAX_BODY.saturating_sub(self.content.len());
                    if data.len() > room && !mutant::out("api-body-limit") {
                        return Err(Fault::BodyTooLarge);
                    }
                    self.content.extend_from_slice(data);
                }
                Piece::More(used) => {
                    at += used;
                    break false;
                }
                Piece::End(used) => {
                    at += used;
                    break true;
                }
            }
        };
        bytes.drain(..at.min(bytes.len()));
        Ok(done)
    }

    /// The content.
    pub fn into_content(self) -> Vec<u8> {
        self.content
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
        assert!(head.keep_alive() && head.framing == Framing::Length(0));
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
        let with =
            |fields: &str| parse(&format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n")).unwrap_err();
        let both = "it has both Content-Length and Transfer-Encoding";
        let twice = "a field that may stand once is repeated";
        assert_eq!(with("Content-Length: 3\r\nTransfer-Encoding: chunked"), Fault::Malformed(both));
        assert_eq!(with("Host: y"), Fault::Malformed(twice));
        for bad in ["+3", "3, 4", "-1", "0x3", "", "3 3", "99999999999999999999999"] {
            let why = Fault::Malformed("its Content-Length is no single number");
            assert_eq!(with(&format!("Content-Length: {bad}")), why, "{bad}");
        }
        assert_eq!(with("Content-Length: 99999999999999"), Fault::BodyTooLarge);
        assert_eq!(with("Transfer-Encoding: gzip, chunked"), Fault::Coding);
        assert_eq!(with("Expect: tea"), Fault::Expectation);
        let folded = "A: b\r\n c";
        assert_eq!(with(folded), Fault::Malformed("its head is not HTTP/1.1"));
        let old = parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err();
        assert_eq!(old, Fault::Malformed("HTTP/1.0 has no transfer codings"));
        assert_eq!(parse("GET / HTTP/1.1\r\n\r\n").unwrap_err(), Fault::Malformed("it has no Host field"));
        assert_eq!(
            parse("GET / HTTP/2.0\r\n\r\n").unwrap_err(),
            Fault::Malformed("its head is not HTTP/1.1")
        );
        let target = parse("GET status HTTP/1.1\r\nHost: x\r\n\r\n").unwrap_err();
        assert_eq!(target, Fault::Malformed("its target is no path"));
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
            RequestBody::new(Framing::Chunked).feed(&mut bytes)
        };
        assert_eq!(chunks(MAX_BODY), Ok(true));
        assert_eq!(chunks(MAX_BODY + 1), Err(Fault::BodyTooLarge));
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
            let mut reader = RequestBody::new(Framing::Chunked);
            let (mut buffer, mut fed, mut done) = (Vec::new(), 0, false);
            while !done {
                let part = &wire[fed..(fed + step).min(wire.len())];
                fed += part.len();
                buffer.extend(part);
                done = reader.feed(&mut buffer).unwrap();
                prop_assert!(done || fed < end);
            }
            prop_assert_eq!(reader.into_content(), chunks.concat());
            buffer.extend(&wire[fed..]);
            prop_assert_eq!(buffer, b"GET /next");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Head::parse(&bytes);
            let _ = RequestBody::new(Framing::Chunked).feed(&mut bytes.clone());
        }
    }
}

//! HTTP/1.1 message heads and body framing (RFC 9112), for client and server alike. Pure: bytes in, values out.
use crate::mutant;
use crate::time::{Unix, days_from_civil};
use std::fmt;
use std::ops::Range;

/// Longest head that is read, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// Most fields in a head.
pub const MAX_HEADERS: usize = 64;
/// Longest chunk-size line and longest trailer section, in bytes.
const MAX_CHUNK_LINE: usize = 256;
const MAX_TRAILERS: usize = 4096;

/// What is wrong with a message of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The head does not follow the grammar.
    Head,
    /// The head is longer than [`MAX_HEAD`] or has more than [`MAX_HEADERS`] fields.
    HeadTooLarge,
    /// A Content-Length that is no number, or several that differ.
    Length,
    /// Both Content-Length and Transfer-Encoding (RFC 9112 section 6.3: possible request smuggling).
    LengthAndCoding,
    /// A transfer coding other than `chunked` alone.
    Coding,
    /// A chunk that does not follow the grammar, or too long a trailer section.
    Chunk,
    /// The connection ended within the message.
    Truncated,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Head => "the head is no HTTP/1.1",
            Malformed::HeadTooLarge => "the head is too large",
            Malformed::Length => "the Content-Length is no single number",
            Malformed::LengthAndCoding => "Content-Length and Transfer-Encoding stand together",
            Malformed::Coding => "the transfer coding is not chunked",
            Malformed::Chunk => "a chunk is malformed",
            Malformed::Truncated => "the connection ended within the message",
        })
    }
}

impl std::error::Error for Malformed {}

/// Header fields in their order; names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first field of that (lower-case) name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Every field of that (lower-case) name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether one of the comma-separated tokens of the field is `token`, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
    }

    fn of(fields: &[httparse::Header<'_>]) -> Headers {
        let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
        Headers(fields.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect())
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// Its fields.
    pub headers: Headers,
    /// Whether the peer keeps the connection for another request.
    pub keep_alive: bool,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, case-sensitive.
    pub method: String,
    /// The request target as it stands.
    pub target: String,
    /// Its fields.
    pub headers: Headers,
    /// Whether the peer speaks HTTP/1.1, and so knows chunked coding and sends Host.
    pub current: bool,
    /// Whether the peer wants to send another request.
    pub keep_alive: bool,
}

/// Reads a response's head; `None` while it is incomplete, else the head and its length.
pub fn response_head(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let Some(length) = complete(response.parse(bytes), bytes.len())? else { return Ok(None) };
    let headers = Headers::of(response.headers);
    let keep_alive = keep_alive(response.version, &headers);
    let status = response.code.ok_or(Malformed::Head)?;
    Ok(Some((ResponseHead { status, headers, keep_alive }, length)))
}

/// Reads a request's head; `None` while it is incomplete, else the head and its length.
pub fn request_head(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    let Some(length) = complete(request.parse(bytes), bytes.len())? else { return Ok(None) };
    let headers = Headers::of(request.headers);
    let keep_alive = keep_alive(request.version, &headers);
    let method = request.method.ok_or(Malformed::Head)?.to_owned();
    let target = request.path.ok_or(Malformed::Head)?.to_owned();
    let current = request.version == Some(1);
    Ok(Some((RequestHead { method, target, headers, current, keep_alive }, length)))
}

fn complete(
    parsed: Result<httparse::Status<usize>, httparse::Error>,
    have: usize,
) -> Result<Option<usize>, Malformed> {
    match parsed {
        Ok(httparse::Status::Complete(n)) if n <= MAX_HEAD || mutant::out("http-head-limit") => Ok(Some(n)),
        Ok(httparse::Status::Partial) if have < MAX_HEAD || mutant::out("http-head-limit") => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Malformed::HeadTooLarge),
        Err(_) => Err(Malformed::Head),
    }
}

fn keep_alive(version: Option<u8>, headers: &Headers) -> bool {
    version == Some(1) && !headers.has_token("connection", "close")
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes; 0 if there is no body.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    ToEnd,
}

/// How the body of a request ends (RFC 9112 section 6.3).
pub fn request_framing(headers: &Headers) -> Result<Framing, Malformed> {
    Ok(declared(headers)?.unwrap_or(Framing::Length(0)))
}

/// How the body of a response to `method` ends (RFC 9112 section 6.3).
pub fn response_framing(method: &str, head: &ResponseHead) -> Result<Framing, Malformed> {
    if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    Ok(declared(&head.headers)?.unwrap_or(Framing::ToEnd))
}

fn declared(headers: &Headers) -> Result<Option<Framing>, Malformed> {
    let mut codings = headers.all("transfer-encoding");
    let coding = codings.next();
    let length = content_length(headers)?;
    match (coding, length) {
        (Some(_), Some(_)) if !mutant::out("http-length-and-coding") => Err(Malformed::LengthAndCoding),
        (Some(c), _) if c.trim().eq_ignore_ascii_case("chunked") && codings.next().is_none() => {
            Ok(Some(Framing::Chunked))
        }
        (Some(_), _) if !mutant::out("http-coding") => Err(Malformed::Coding),
        (_, length) => Ok(length.map(Framing::Length)),
    }
}

fn content_length(headers: &Headers) -> Result<Option<u64>, Malformed> {
    let mut found = None;
    for value in headers.all("content-length").flat_map(|v| v.split(',')) {
        let digits = value.trim();
        let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
        match (number, found) {
            (None, _) => return Err(Malformed::Length),
            (Some(n), Some(before)) if n != before && !mutant::out("http-length-once") => {
                return Err(Malformed::Length);
            }
            (number, _) => found = number,
        }
    }
    Ok(found)
}

/// What the next bytes of a body are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This range of the input is content; everything up to its end is used up.
    Data(Range<usize>),
    /// So many bytes are used up, and more input is needed.
    More(usize),
    /// So many bytes are used up, and the body is over.
    End(usize),
}

/// Takes the framing off a body, piece by piece.
#[derive(Clone, Debug)]
pub struct BodyReader(State);

#[derive(Clone, Copy, Debug)]
enum State {
    Length(u64),
    ToEnd,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers(usize),
}

impl BodyReader {
    /// A reader at the start of a body.
    pub fn new(framing: Framing) -> BodyReader {
        BodyReader(match framing {
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::ChunkSize,
            Framing::ToEnd => State::ToEnd,
        })
    }

    /// Whether the stream may end here: `Ok` only for a body that ends with the connection.
    pub fn end_of_stream(&self) -> Result<(), Malformed> {
        if matches!(self.0, State::ToEnd) { Ok(()) } else { Err(Malformed::Truncated) }
    }

    /// The next piece of `input`. Call again with what is left after it.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            match self.0 {
                State::Length(0) => return Ok(Piece::End(at)),
                State::Length(n) | State::Chunk(n) => {
                    let take = rest.len().min(usize::try_from(n).unwrap_or(usize::MAX));
                    if take == 0 {
                        return Ok(Piece::More(at));
                    }
                    self.0 = match (self.0, n - take as u64) {
                        (State::Length(_), left) => State::Length(left),
                        (_, 0) => State::ChunkEnd,
                        (_, left) => State::Chunk(left),
                    };
                    return Ok(Piece::Data(at..at + take));
                }
                State::ToEnd if rest.is_empty() => return Ok(Piece::More(at)),
                State::ToEnd => return Ok(Piece::Data(at..input.len())),
                State::ChunkSize => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((used, size))) if used <= MAX_CHUNK_LINE => {
                        at += used;
                        self.0 = if size == 0 { State::Trailers(0) } else { State::Chunk(size) };
                    }
                    Ok(httparse::Status::Partial) if rest.len() < MAX_CHUNK_LINE => {
                        return Ok(Piece::More(at));
                    }
                    _ => return Err(Malformed::Chunk),
                },
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        self.0 = State::ChunkSize;
                        at += 2;
                    }
                    [] | [b'\r'] => return Ok(Piece::More(at)),
                    _ => return Err(Malformed::Chunk),
                },
                State::Trailers(seen) => match rest.iter().position(|b| *b == b'\n') {
                    Some(1) if rest.first() == Some(&b'\r') => return Ok(Piece::End(at + 2)),
                    Some(line) if seen + line < MAX_TRAILERS => {
                        at += line + 1;
                        self.0 = State::Trailers(seen + line + 1);
                    }
                    None if seen + rest.len() < MAX_TRAILERS => return Ok(Piece::More(at)),
                    _ => return Err(Malformed::Chunk),
                },
            }
        }
    }
}

/// Seconds to wait by a `Retry-After` field (RFC 9110 section 10.2.3), given as seconds or as a date.
pub fn retry_after_s(value: &str, now: Unix) -> Option<u64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse().unwrap_or(u64::MAX));
    }
    Some(u64::try_from(http_date(value)?.0.saturating_sub(now.0)).unwrap_or(0))
}

/// Reads an IMF-fixdate (RFC 9110 section 5.6.7), `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(text: &str) -> Option<Unix> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|m| *m == name)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock =
        words.next()?.splitn(3, ':').map(|n| n.parse::<i64>().ok().filter(|n| (0..61).contains(n)));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next() != Some("GMT") || words.next().is_some() || !(1..=31).contains(&day) || hour > 23 {
        return None;
    }
    let in_range = (1970..=9999).contains(&year);
    in_range.then(|| Unix(days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;

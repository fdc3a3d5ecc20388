//! The head of a buyer's request (RFC 9112, RFC 9110 section 9.3.6) and every answer to it.
use super::authority::target;
use super::lease_ask::{self, LeaseAsk};
use crate::mutant;
use crate::policy::refusal::Refusal;
use crate::session::{Credentials, Denied, Target};
use crate::{encoding, json};

/// Longest head, the empty line included.
pub const MAX_HEAD: usize = 8 * 1024;
/// Most header fields.
pub const MAX_HEADERS: usize = 64;
/// Room for fields; a mutation run needs more than are allowed.
const ROOM: usize = if cfg!(feature = "mutants") { 4 * MAX_HEADERS } else { MAX_HEADERS };
/// The answer to a CONNECT that is carried. No header field: it would be sent for every connection.
pub const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// The field of an answer that is the connection's last.
pub(super) const CLOSE: &str = "Connection: close\r\n";

/// What the request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A connection, or why the request line alone refuses it.
    Connect(Result<Target, Refusal>),
    /// Something at `/leases`, and so many bytes of content that follow the head.
    Lease(LeaseAsk, usize),
}

/// A whole head.
pub struct Request {
    /// What it asks for.
    pub ask: Ask,
    /// Who asks; `None` without exactly one well-formed Basic field.
    pub credentials: Option<Credentials>,
    /// Bytes of the head. Those that follow it belong to the tunnel, or are content.
    pub head: usize,
    /// Whether the buyer sends nothing more after it.
    pub last: bool,
}

/// A head that is none: the connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// Not HTTP/1 (400).
    Malformed,
    /// Over [`MAX_HEAD`] or [`MAX_HEADERS`] (431).
    TooLarge,
    /// Content of a request for a lease that is over [`lease_ask::MAX_CONTENT`] (413).
    Content,
}

/// When to look for a head in bytes that keep arriving. A stranger may send them one at a time, and to look through all
/// of them each time would cost the square of their number.
#[derive(Debug, Default)]
pub struct Lookout {
    seen: usize,
    parsed: usize,
}

impl Lookout {
    /// Whether [`parse`] may have something new to say of the bytes so far: an empty line has come, the limit is reached,
    /// or there are twice as many as last time (what is no HTTP at all is told early).
    pub fn is_due(&mut self, bytes: &[u8]) -> bool {
        let fresh = bytes.get(self.seen.saturating_sub(2)..).unwrap_or_default();
        self.seen = bytes.len();
        let empty_line = fresh.windows(2).any(|w| w == b"\n\n") || fresh.windows(3).any(|w| w == b"\n\r\n");
        let due = empty_line || bytes.len() >= MAX_HEAD || bytes.len() >= 2 * self.parsed;
        if due {
            self.parsed = bytes.len();
        }
        due
    }
}

/// Reads a head from what has arrived; `None` while it is incomplete. One empty line before it is passed over (RFC 9112
/// section 2.2).
///
/// # Errors
/// The head is none, or too large.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>, BadHead> {
    let mut fields = [httparse::EMPTY_HEADER; ROOM];
    let mut request = httparse::Request::new(&mut fields);
    let limit = if mutant::out("head-size") { bytes.len() + 1 } else { MAX_HEAD };
    let window = bytes.get(..limit).unwrap_or(bytes);
    let empty_lines: [&[u8]; 3] = [b"\n\n", b"\r\n\r\n", b"\n\r\n"];
    if !mutant::out("head-empty-lines") && empty_lines.iter().any(|lines| window.starts_with(lines)) {
        return Err(BadHead::Malformed);
    }
    let window = mutant::mended(window);
    let mut grammar = httparse::ParserConfig::default();
    grammar.allow_multiple_spaces_in_request_line_delimiters(mutant::out("head-spaces-in-request-line"));
    let head = match grammar.parse_request(&mut request, &window) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() < limit => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(BadHead::TooLarge);
        }
        Err(_) if mutant::out("head-is-http") => {
            let ask = Ask::Connect(Err(Refusal::NotHttps));
            return Ok(Some(Request { ask, credentials: None, head: bytes.len(), last: true }));
        }
        Err(_) => return Err(BadHead::Malformed),
    };
    if request.headers.len() > MAX_HEADERS && !mutant::out("head-fields") {
        return Err(BadHead::TooLarge);
    }
    let (Some(method), Some(path)) = (request.method, request.path) else { return Err(BadHead::Malformed) };
    if declares_content(request.headers) && method == "CONNECT" {
        return Err(BadHead::Malformed);
    }
    let lease = LeaseAsk::of(method, path).filter(|_| !mutant::out("lease-unavailable"));
    let (ask, field) = match method {
        "CONNECT" => (Ask::Connect(target(path)), "proxy-authorization"),
        _ if mutant::out("method-connect") => (Ask::Connect(target(path)), "proxy-authorization"),
        _ => match lease {
            Some(lease) => (Ask::Lease(lease, lease_ask::content_length(request.headers)?), "authorization"),
            None => (Ask::Connect(Err(Refusal::NotHttps)), "proxy-authorization"),
        },
    };
    let field = if mutant::out("auth-field") { "authorization" } else { field };
    let credentials = credentials(request.headers, field);
    let last = lease_ask::is_last(request.headers, request.version);
    Ok(Some(Request { ask, credentials, head, last }))
}

/// A CONNECT has no content (RFC 9110 section 9.3.6): what follows its head belongs to the tunnel. A peer that thinks
/// otherwise reads the connection's bytes otherwise, and that is how requests get smuggled.
fn declares_content(fields: &[httparse::Header<'_>]) -> bool {
    let named = |field: &httparse::Header<'_>, name: &str| field.name.eq_ignore_ascii_case(name);
    let length = fields.iter().any(|f| named(f, "content-length") && f.value != b"0");
    let coding = fields.iter().any(|f| named(f, "transfer-encoding"));
    (length && !mutant::out("connect-no-length")) || (coding && !mutant::out("connect-no-coding"))
}

fn credentials(fields: &[httparse::Header<'_>], name: &str) -> Option<Credentials> {
    let mut values = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value);
    let value = values.next().filter(|_| values.next().is_none() || mutant::out("auth-once"))?;
    let (scheme, rest) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") && !mutant::out("auth-basic") {
        return None;
    }
    let decoded = encoding::from_base64(rest.trim_matches(' '))?;
    let colon = decoded.iter().position(|b| *b == b':');
    let colon = colon.or_else(|| mutant::out("auth-colon").then_some(decoded.len()))?;
    let (session, token) = decoded.split_at_checked(colon)?;
    let session_id = String::from_utf8(session.to_vec()).ok()?;
    Some(Credentials {
        session_id,
        token: token.get(1..).or_else(|| mutant::out("auth-colon").then_some(token))?.to_vec(),
    })
}

/// The whole answer to a refused request, which ends the connection; `error` is the `Proxy-Status` error type if it is
/// not the refusal's usual one.
pub fn refusal(denied: Denied, error: Option<&str>) -> Vec<u8> {
    let mut fields = challenge(denied, "Proxy-Authenticate");
    fields.push_str(CLOSE);
    refusal_with(denied, error, &fields)
}

/// The fields that a refusal has beside those of every answer; `scheme` names the field of the challenge.
pub(super) fn challenge(denied: Denied, scheme: &str) -> String {
    let mut fields = String::new();
    if denied.refusal == Refusal::AuthRequired {
        fields.push_str(&format!("{scheme}: Basic realm=\"echomesh\"\r\n"));
    }
    if let Some(seconds) = denied.retry_after_s {
        fields.push_str(&format!("Retry-After: {seconds}\r\n"));
    }
    fields
}

/// A refusal with just these fields.
pub(super) fn refusal_with(denied: Denied, error: Option<&str>, fields: &str) -> Vec<u8> {
    let refusal = denied.refusal;
    let status = refusal.status().unwrap_or(403);
    answer(status, refusal.slug(), error.unwrap_or(refusal.proxy_error()), refusal.detail(), fields)
}

/// The answer to a head that is none.
pub fn bad_head(bad: BadHead) -> Vec<u8> {
    let (status, detail) = match bad {
        BadHead::Malformed => (400, "The request is not HTTP/1.1."),
        BadHead::TooLarge => (431, "The request's head is over 8 KiB or 64 fields."),
        BadHead::Content => (413, "The request's content is over 4 KiB."),
    };
    answer(status, "bad-request", "http_request_error", detail, CLOSE)
}

pub(super) fn answer(status: u16, slug: &str, error: &str, detail: &str, fields: &str) -> Vec<u8> {
    let body = json::object([
        ("type", slug.into()),
        ("title", reason(status).into()),
        ("status", i64::from(status).into()),
        ("detail", detail.into()),
    ]);
    let body = body.canonical();
    format!(
        "HTTP/1.1 {status} {}\r\nProxy-Status: echomesh; error={error}; details=\"{slug}\"\r\n{fields}\
         Content-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{body}",
        reason(status),
        body.len()
    )
    .into_bytes()
}

pub(super) fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        407 => "Proxy Authentication Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Forbidden",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(text: &str) -> Request {
        parse(text.as_bytes()).unwrap().unwrap()
    }

    fn ask(line: &str) -> Ask {
        request(&format!("{line} HTTP/1.1\r\n\r\n")).ask
    }

    /// The length at which a head that comes byte by byte is read, and how often it was looked for.
    fn byte_by_byte(all: &[u8]) -> (Result<usize, BadHead>, usize) {
        let (mut lookout, mut looks) = (Lookout::default(), 0);
        for end in 1..=all.len() {
            if lookout.is_due(&all[..end]) {
                looks += 1;
                match parse(&all[..end]) {
                    Ok(None) => {}
                    Ok(Some(request)) => return (Ok(request.head), looks),
                    Err(bad) => return (Err(bad), looks),
                }
            }
        }
        panic!("no end was found")
    }

    #[test]
    fn a_head_in_single_bytes_is_found_at_its_end_with_few_looks() {
        for end in ["\r\n\r\n", "\n\n", "\n\r\n", "\r\n\n"] {
            let head = format!("CONNECT a.test:443 HTTP/1.1\r\nA: {}{end}", "x".repeat(7000));
            let (found, looks) = byte_by_byte(head.as_bytes());
            assert_eq!(found, Ok(head.len()), "{end:?}");
            assert!(looks < 20, "{looks}");
        }
        assert_eq!(byte_by_byte(&[b'\n'; 2 * MAX_HEAD]).0, Err(BadHead::Malformed));
        assert_eq!(byte_by_byte(&b"\r\n".repeat(MAX_HEAD)).0, Err(BadHead::Malformed));
        let (found, looks) = byte_by_byte(&[b'A'; 2 * MAX_HEAD]);
        assert_eq!(found, Err(BadHead::TooLarge));
        assert!(looks < 20, "{looks}");
        assert!(byte_by_byte(b"\r\nCONNECT a.test:443 HTTP/1.1\r\n\r\n").0.is_ok());
        assert_eq!(byte_by_byte(b"\x16\x03\x01"), (Err(BadHead::Malformed), 1));
    }

    #[test]
    fn a_connect_declares_no_content() {
        let with = |fields: &str| {
            parse(format!("CONNECT a.test:443 HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).map(|r| r.is_some())
        };
        assert_eq!(with("Content-Length: 0"), Ok(true));
        for bad in [
            "Content-Length: 5",
            "content-length: 00",
            "Content-Length: 0\r\nContent-Length: 1",
            "Transfer-Encoding: chunked",
        ] {
            assert_eq!(with(bad), Err(BadHead::Malformed), "{bad}");
        }
        let get = parse(b"GET http://a.test/ HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
        assert!(matches!(get, Ok(Some(_))), "what is no CONNECT is refused as that");
    }

    #[test]
    fn other_methods_and_forms_are_not_https() {
        for line in ["GET http://example.com/", "POST /x", "OPTIONS *", "CONNECT /", "GET /leases"] {
            assert_eq!(ask(line), Ask::Connect(Err(Refusal::NotHttps)), "{line}");
        }
    }

    #[test]
    fn leases_have_their_own_field() {
        let r = request(
            "POST /leases HTTP/1.1\r\nAuthorization: Basic YTpi\r\nProxy-Authorization: Basic eDp5\r\n\r\n",
        );
        assert_eq!(r.ask, Ask::Lease(LeaseAsk::Open, 0));
        assert_eq!(r.credentials.unwrap().session_id, "a");
        assert_eq!(ask("DELETE /leases/7"), Ask::Lease(LeaseAsk::End("7".into()), 0));
        assert_eq!(ask("POST /leasesx"), Ask::Connect(Err(Refusal::NotHttps)));
    }

    fn auth(fields: &str) -> Option<(String, Vec<u8>)> {
        let r = request(&format!("CONNECT a.test:443 HTTP/1.1\r\n{fields}\r\n"));
        r.credentials.map(|c| (c.session_id, c.token))
    }

    #[test]
    fn credentials_end_at_the_first_colon() {
        let token = encoding::base64(b"id:to:ken");
        let want = Some(("id".to_owned(), b"to:ken".to_vec()));
        assert_eq!(auth(&format!("Proxy-Authorization: Basic {token}\r\n")), want);
        assert_eq!(auth(&format!("proxy-authorization: bAsIc  {token} \r\n")), want);
    }

    #[test]
    fn anything_else_is_no_credentials() {
        let token = encoding::base64(b"id:token");
        for bad in [
            String::new(),
            format!("Authorization: Basic {token}\r\n"),
            format!("Proxy-Authorization: Bearer {token}\r\n"),
            format!("Proxy-Authorization: Basic {token}\r\nProxy-Authorization: Basic {token}\r\n"),
            "Proxy-Authorization: Basic\r\n".into(),
            "Proxy-Authorization: Basic !!!!\r\n".into(),
            format!("Proxy-Authorization: Basic {}\r\n", encoding::base64(b"no colon")),
            format!("Proxy-Authorization: Basic {}\r\n", encoding::base64(b"\xff:x")),
        ] {
            assert_eq!(auth(&bad), None, "{bad}");
        }
    }

    #[test]
    fn bytes_after_the_head_are_left() {
        let r = request("CONNECT a.test:443 HTTP/1.1\r\nHost: b.test\r\n\r\n\x16\x03\x01");
        assert_eq!(r.head, "CONNECT a.test:443 HTTP/1.1\r\nHost: b.test\r\n\r\n".len());
    }

    #[test]
    fn a_head_has_limits() {
        let of = |length: usize| {
            let start = "CONNECT a.test:443 HTTP/1.1\r\nX: ";
            format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
        };
        assert!(parse(of(MAX_HEAD).as_bytes()).is_ok_and(|r| r.is_some()));
        assert_eq!(parse(of(MAX_HEAD + 1).as_bytes()).err(), Some(BadHead::TooLarge));
        let fields = |n: usize| format!("CONNECT a.test:443 HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(n));
        assert!(parse(fields(MAX_HEADERS).as_bytes()).is_ok_and(|r| r.is_some()));
        assert_eq!(parse(fields(MAX_HEADERS + 1).as_bytes()).err(), Some(BadHead::TooLarge));
        assert_eq!(parse(b"\x16\x03\x01\x02\x00").err(), Some(BadHead::Malformed));
        assert!(parse(b"CONNECT a.test:443 HT").is_ok_and(|r| r.is_none()));
    }

    #[test]
    fn a_refusal_is_byte_exact() {
        let body = "{\"detail\":\"Only port 443 is carried.\",\"status\":403,\"title\":\"Forbidden\",\"type\":\"port-denied\"}";
        let want = format!(
            "HTTP/1.1 403 Forbidden\r\nProxy-Status: echomesh; error=http_request_denied; details=\"port-denied\"\r\n\
             Connection: close\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(String::from_utf8(refusal(Refusal::PortDenied.into(), None)).unwrap(), want);
    }

    #[test]
    fn every_refusal_before_the_200_has_its_status_and_fields() {
        for r in Refusal::ALL.into_iter().filter(|r| r.status().is_some()) {
            let text = String::from_utf8(refusal(Denied { refusal: r, retry_after_s: None }, None)).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {} ", r.status().unwrap())), "{text}");
            let field =
                format!("Proxy-Status: echomesh; error={}; details=\"{}\"\r\n", r.proxy_error(), r.slug());
            assert!(text.contains(&field), "{text}");
            assert_eq!(
                text.contains("Proxy-Authenticate: Basic realm=\"echomesh\"\r\n"),
                r == Refusal::AuthRequired
            );
            assert!(!text.contains("Retry-After"));
        }
        let limited = refusal(Denied { refusal: Refusal::RateLimited, retry_after_s: Some(7) }, None);
        assert!(String::from_utf8(limited).unwrap().contains("\r\nRetry-After: 7\r\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}

//! Requests for leases on a buyer's connection, and the answers to them (`docs/protocol.md`, "Lease"; RFC 9112).
use super::authority::target;
use super::connect::{self, BadHead, CLOSE};
use crate::json::{self, Fields, Value};
use crate::mutant::out;
use crate::policy::refusal::Refusal;
use crate::session::{Denied, Target};
use crate::time::Unix;
use std::net::{Ipv6Addr, SocketAddr};

/// Longest content of a request, bytes: a host name has at most 253.
pub const MAX_CONTENT: usize = 4096;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAsk {
    /// `POST /leases`: a new one.
    Open,
    /// `POST /leases/{id}/renew`.
    Renew(String),
    /// `DELETE /leases/{id}`.
    End(String),
    /// A path below `/leases` that is nothing.
    Unknown,
}

/// What is told of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub id: String,
    /// Where the buyer connects to.
    pub endpoint: SocketAddr,
    /// The host that it is for.
    pub host: String,
    /// Until when.
    pub expires_at: Unix,
}

impl LeaseAsk {
    /// From the request line; `None` if it is about something else.
    pub fn of(method: &str, path: &str) -> Option<LeaseAsk> {
        let below = path.strip_prefix("/leases")?;
        let id = |text: &str| (!text.is_empty() && !text.contains('/')).then(|| text.to_owned());
        match (method, below.strip_prefix('/')) {
            ("POST", None) if below.is_empty() => Some(LeaseAsk::Open),
            ("POST", Some(rest)) => {
                Some(rest.strip_suffix("/renew").and_then(id).map_or(LeaseAsk::Unknown, LeaseAsk::Renew))
            }
            ("DELETE", Some(rest)) => Some(id(rest).map_or(LeaseAsk::Unknown, LeaseAsk::End)),
            ("DELETE", None) if below.is_empty() => Some(LeaseAsk::Unknown),
            _ => None,
        }
    }
}

/// How much content follows the head: one Content-Length, and no transfer coding. Where a message ends must be beyond
/// doubt on a connection that carries several.
pub(super) fn content_length(fields: &[httparse::Header<'_>]) -> Result<usize, BadHead> {
    let named = |name: &'static str| fields.iter().filter(move |f| f.name.eq_ignore_ascii_case(name));
    if named("transfer-encoding").next().is_some() && !out("lease-no-coding") {
        return Err(BadHead::Malformed);
    }
    let mut lengths = named("content-length").map(|f| f.value);
    let Some(length) = lengths.next() else { return Ok(0) };
    if lengths.next().is_some() && !out("lease-length-once") {
        return Err(BadHead::Malformed);
    }
    let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(length).ok().filter(|_| digits).ok_or(BadHead::Malformed)?;
    match number.parse() {
        Ok(length) if length <= MAX_CONTENT || out("lease-content-size") => Ok(length),
        _ => Err(BadHead::Content),
    }
}

/// Whom a new lease shall lead to: the content's `host` and `port`, judged like the authority of a CONNECT.
///
/// # Errors
/// [`Refusal::NotHttps`] if it is no such object, or what [`target`] says.
pub fn wanted(content: &[u8]) -> Result<Target, Refusal> {
    let value = json::parse(content).map_err(|_| Refusal::NotHttps)?;
    let read = |value: &Value| {
        let fields = Fields::of(value).ok()?;
        let host = fields.str("host").ok()?;
        let port = fields.int("port", 1..=i64::from(u16::MAX)).ok()?;
        Some((host.to_owned(), port))
    };
    let (host, port) = read(&value).ok_or(Refusal::NotHttps)?;
    match host.parse::<Ipv6Addr>() {
        Ok(address) => target(&format!("[{address}]:{port}")),
        Err(_) => target(&format!("{host}:{port}")),
    }
}

/// Whether a head says that its connection ends with the answer.
pub(super) fn is_last(fields: &[httparse::Header<'_>], version: Option<u8>) -> bool {
    let close = |f: &httparse::Header<'_>| {
        let value = std::str::from_utf8(f.value).unwrap_or("close");
        f.name.eq_ignore_ascii_case("connection")
            && value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close"))
    };
    version != Some(1) || fields.iter().any(close)
}

/// The answer to a refused request. The status is that of a CONNECT; the challenge is also given in the field that goes with
/// `Authorization` (RFC 9110 section 11.6.1), which is what clients of this kind read.
pub fn refusal(denied: Denied, error: Option<&str>, last: bool) -> Vec<u8> {
    let mut fields = connect::challenge(denied, "Proxy-Authenticate");
    if denied.refusal == Refusal::AuthRequired {
        fields.push_str("WWW-Authenticate: Basic realm=\"echomesh\"\r\n");
    }
    fields.push_str(ending(last));
    connect::refusal_with(denied, error, &fields)
}

/// The answer to a name that stands for no lease of the session.
pub fn unknown(last: bool) -> Vec<u8> {
    let detail = "The session has no such lease: it has ended, or never was.";
    connect::answer(404, "lease-unknown", "http_request_denied", detail, ending(last))
}

/// 201 to a new lease, or 200 to one that holds longer.
pub fn told(lease: &Told, is_new: bool, last: bool) -> Vec<u8> {
    let body = json::object([
        ("leaseId", lease.id.as_str().into()),
        ("endpoint", lease.endpoint.to_string().into()),
        ("host", lease.host.as_str().into()),
        ("expiresAt", lease.expires_at.to_string().into()),
    ])
    .canonical();
    let status = if is_new { "201 Created" } else { "200 OK" };
    let place = if is_new { format!("Location: /leases/{}\r\n", lease.id) } else { String::new() };
    format!(
        "HTTP/1.1 {status}\r\n{place}{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        ending(last),
        body.len()
    )
    .into_bytes()
}

/// 204: it has ended, and its flows are cut.
pub fn gone(last: bool) -> Vec<u8> {
    format!("HTTP/1.1 204 No Content\r\n{}\r\n", ending(last)).into_bytes()
}

fn ending(last: bool) -> &'static str {
    if last { CLOSE } else { "" }
}

#[cfg(test)]
mod tests {
    use super::super::connect::{Ask, parse};
    use super::*;

    fn head(line: &str, fields: &str) -> Result<Ask, BadHead> {
        parse(format!("{line} HTTP/1.1\r\n{fields}\r\n").as_bytes()).map(|r| r.unwrap().ask)
    }

    #[test]
    fn what_is_asked_for_stands_in_the_request_line() {
        let ask = |line: &str| head(line, "").unwrap();
        assert_eq!(ask("POST /leases"), Ask::Lease(LeaseAsk::Open, 0));
        assert_eq!(ask("POST /leases/ab/renew"), Ask::Lease(LeaseAsk::Renew("ab".into()), 0));
        assert_eq!(ask("DELETE /leases/ab"), Ask::Lease(LeaseAsk::End("ab".into()), 0));
        for unknown in ["POST /leases/", "POST /leases//renew", "POST /leases/a/b/renew", "DELETE /leases"] {
            assert_eq!(ask(unknown), Ask::Lease(LeaseAsk::Unknown, 0), "{unknown}");
        }
        for other in ["GET /leases", "PUT /leases/a", "POST /leasesx", "DELETE /lease"] {
            assert_eq!(ask(other), Ask::Connect(Err(Refusal::NotHttps)), "{other}");
        }
    }

    #[test]
    fn where_the_content_ends_is_beyond_doubt() {
        let length = |fields: &str| head("POST /leases", fields);
        let lease = |n| Ok(Ask::Lease(LeaseAsk::Open, n));
        assert_eq!(length("content-length: 40\r\n"), lease(40));
        assert_eq!(length(&format!("Content-Length: {MAX_CONTENT}\r\n")), lease(MAX_CONTENT));
        for large in [(MAX_CONTENT + 1).to_string(), "99999999999999999999999".into()] {
            assert_eq!(length(&format!("Content-Length: {large}\r\n")), Err(BadHead::Content));
        }
        for bad in [
            "Content-Length: 4\r\nContent-Length: 4\r\n",
            "Content-Length: 4, 4\r\n",
            "Content-Length: +4\r\n",
            "Content-Length: \r\n",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(length(bad), Err(BadHead::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_host_and_a_port_are_read_like_an_authority() {
        let of = |text: &str| wanted(text.as_bytes());
        let good = of(r#"{"host":"WWW.Example.com.","port":443}"#).unwrap();
        assert_eq!((good.host.as_str(), good.port, good.literal), ("www.example.com", 443, None));
        for literal in ["1.1.1.1", "0x7f.1", "2606:4700::1111", "[2606:4700::1111]", "router"] {
            let target = of(&format!(r#"{{"host":"{literal}","port":443}}"#)).unwrap();
            assert!(target.literal.is_some(), "{literal}");
        }
        assert_eq!(of(r#"{"host":"a.test","port":80}"#).unwrap().port, 80, "judged later");
        for bad in [
            "",
            "[]",
            r#"{"host":"a.test"}"#,
            r#"{"host":"a.test","port":0}"#,
            r#"{"host":"a.test","port":65536}"#,
            r#"{"host":"a.test","port":"443"}"#,
            r#"{"host":"a.test","port":443,"port":443}"#,
            r#"{"host":"a.test:443","port":443}"#,
            r#"{"host":"u@a.test","port":443}"#,
            r#"{"host":"a.test/","port":443}"#,
            r#"{"host":"","port":443}"#,
        ] {
            assert_eq!(of(bad), Err(Refusal::NotHttps), "{bad}");
        }
    }

    #[test]
    fn answers_are_byte_exact() {
        let lease = Told {
            id: "ab".into(),
            endpoint: "[2001:db8::1]:40007".parse().unwrap(),
            host: "a.test".into(),
            expires_at: Unix(0),
        };
        let body = r#"{"endpoint":"[2001:db8::1]:40007","expiresAt":"1970-01-01T00:00:00Z","host":"a.test","leaseId":"ab"}"#;
        let want = format!(
            "HTTP/1.1 201 Created\r\nLocation: /leases/ab\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(String::from_utf8(told(&lease, true, false)).unwrap(), want);
        let renewed = String::from_utf8(told(&lease, false, true)).unwrap();
        assert!(renewed.starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type"), "{renewed}");
        assert_eq!(gone(false), b"HTTP/1.1 204 No Content\r\n\r\n");
    }

    #[test]
    fn a_refusal_is_that_of_a_connect_with_a_challenge_in_both_fields() {
        let text = |r: Refusal, last| String::from_utf8(refusal(r.into(), None, last)).unwrap();
        let denied = text(Refusal::AuthRequired, true);
        assert!(denied.starts_with("HTTP/1.1 407 "));
        assert!(denied.contains("\r\nProxy-Authenticate: Basic realm=\"echomesh\"\r\n"));
        assert!(denied.contains("\r\nWWW-Authenticate: Basic realm=\"echomesh\"\r\n"));
        let body = |text: &str| text.split_once("\r\n\r\n").unwrap().1.to_owned();
        let connect = connect::refusal(Refusal::AuthRequired.into(), None);
        assert_eq!(body(&denied), body(&String::from_utf8(connect).unwrap()));
        assert!(!text(Refusal::DomainBlocked, false).contains("Connection"), "the next request may come");
    }
}

//! `http` and `https` URLs as the contracts allow them: no user, no fragment (RFC 3986, RFC 9110 section 4.2).
use crate::policy::hosts::normal;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Longest URL that is read, in bytes.
pub const MAX_URL: usize = 4096;

/// Scheme, host and port: whom to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether the scheme is `https`.
    pub secure: bool,
    /// Lower-case name without final dot, or the text of an address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Origin {
    /// The host's address, if it is a literal.
    pub fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// `host`, or `host:port` if the port is not the scheme's own: the `Host` field and RFC 9421's `@authority`.
    pub fn authority(&self) -> String {
        let bracket = self.host.contains(':');
        let host = if bracket { format!("[{}]", self.host) } else { self.host.clone() };
        let own = if self.secure { 443 } else { 80 };
        if self.port == own { host } else { format!("{host}:{}", self.port) }
    }
}

/// An origin and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whom to connect to.
    pub origin: Origin,
    /// Absolute path, never empty.
    pub path: String,
    /// The query after `?`, if there is one.
    pub query: Option<String>,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Longer than [`MAX_URL`].
    TooLong,
    /// A character that must be percent-encoded.
    Character,
    /// Neither `https://` nor `http://`.
    Scheme,
    /// A user or password.
    User,
    /// A fragment.
    Fragment,
    /// No host, or one that is no name and no address.
    Host,
    /// A port that is not 1 to 65535 in plain decimal.
    Port,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::TooLong => "the URL is too long",
            UrlError::Character => "the URL has a character that must be percent-encoded",
            UrlError::Scheme => "the URL must begin with https:// or http://",
            UrlError::User => "the URL must not carry a user",
            UrlError::Fragment => "the URL must not carry a fragment",
            UrlError::Host => "the URL's host is no name and no address",
            UrlError::Port => "the URL's port must be 1 to 65535",
        })
    }
}

impl std::error::Error for UrlError {}

impl Url {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        if text.len() > MAX_URL {
            return Err(UrlError::TooLong);
        }
        if text
            .bytes()
            .any(|b| !b.is_ascii_graphic() || matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`'))
        {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at_checked(end).ok_or(UrlError::Host)?;
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        let (host, port) = split_port(authority)?;
        let origin = Origin { secure, host: host_of(host)?, port: port_of(port, secure)? };
        let (path, query) = match tail.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (tail, None),
        };
        let path = if path.is_empty() { "/" } else { path }.to_owned();
        Ok(Url { origin, path, query })
    }

    /// The URL of `path` (which begins with `/`) below this one.
    pub fn below(&self, path: &str, query: Option<String>) -> Url {
        let path = format!("{}{path}", self.path.trim_end_matches('/'));
        Url { origin: self.origin.clone(), path, query }
    }

    /// The request target in origin form.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.origin.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.origin.authority(), self.target())
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push_str(&crate::encoding::hex(&[b]).to_ascii_uppercase());
        }
    }
    out
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UrlError::Host)?;
        let port = after.strip_prefix(':');
        if host.parse::<Ipv6Addr>().is_err() || (port.is_none() && !after.is_empty()) {
            return Err(UrlError::Host);
        }
        return Ok((host, port));
    }
    match authority.split_once(':') {
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn host_of(host: &str) -> Result<String, UrlError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let name = normal(host).ok_or(UrlError::Host)?;
    // What ends in a number is an address to inet_aton, in one of its odd notations.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric { Err(UrlError::Host) } else { Ok(name) }
}

fn port_of(port: Option<&str>, secure: bool) -> Result<u16, UrlError> {
    match port {
        None => Ok(if secure { 443 } else { 80 }),
        Some(p) if p.starts_with('0') || !p.bytes().all(|b| b.is_ascii_digit()) => Err(UrlError::Port),
        Some(p) => p.parse().map_err(|_| UrlError::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_is_taken_apart() {
        let u = Url::parse("HTTPS://Coordinator.Example.:8443/api/?a=b").unwrap();
        assert_eq!(u.origin, Origin { secure: true, host: "coordinator.example".into(), port: 8443 });
        assert_eq!((u.path.as_str(), u.query.as_deref()), ("/api/", Some("a=b")));
        assert_eq!(u.below("/nodes/x", None).to_string(), "https://coordinator.example:8443/api/nodes/x");
        assert_eq!(Url::parse("https://a.example:443").unwrap().to_string(), "https://a.example/");
        assert_eq!(Url::parse("http://[::1]:81?q").unwrap().to_string(), "http://[::1]:81/?q");
    }

    #[test]
    fn each_fault_has_its_name() {
        for (text, error) in [
            ("ftp://a.example/", UrlError::Scheme),
            ("a.example/", UrlError::Scheme),
            ("https://u:p@a.example/", UrlError::User),
            ("https://a.example/#f", UrlError::Fragment),
            ("https:///x", UrlError::Host),
            ("https://a..b/", UrlError::Host),
            ("https://127.1/", UrlError::Host),
            ("https://0x7f000001/", UrlError::Host),
            ("https://[::1/", UrlError::Host),
            ("https://[::1]x/", UrlError::Host),
            ("https://a.example:/", UrlError::Port),
            ("https://a.example:0443/", UrlError::Port),
            ("https://a.example:65536/", UrlError::Port),
            ("https://a.example/ b", UrlError::Character),
            ("https://a.example/\r\nX: y", UrlError::Character),
            ("https://bücher.example/", UrlError::Character),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
        assert_eq!(Url::parse(&format!("https://a.example/{}", "x".repeat(MAX_URL))), Err(UrlError::TooLong));
    }

    #[test]
    fn percent_encoding_leaves_the_unreserved_alone() {
        assert_eq!(percent_encode("aZ09-._~"), "aZ09-._~");
        assert_eq!(percent_encode("a+b/c=é"), "a%2Bb%2Fc%3D%C3%A9");
    }

    proptest! {
        #[test]
        fn what_is_read_prints_and_reads_the_same(text in "(https?://)?[a-z0-9.:@\\[\\]/?#%-]{0,40}") {
            if let Ok(url) = Url::parse(&text) {
                prop_assert_eq!(Url::parse(&url.to_string()), Ok(url));
            }
        }
    }
}

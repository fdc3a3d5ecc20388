//! Who may use the API: the holder of the token, and no web page.
//!
//! A page in the owner's browser can reach loopback. It is stopped by the Origin field, by the token that it cannot
//! read, and, if its host name was made to resolve to loopback (DNS rebinding), by the Host field.
use super::Problem;
use crate::encoding::hex;
use crate::http::request::Head;
use crate::mutant;
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// The bearer token (RFC 6750). `Debug` shows nothing of it.
#[derive(Clone, Copy)]
pub struct Token {
    hash: blake3::Hash,
}

impl Token {
    /// A token from 256 random bits, and its text for the token file.
    pub fn new(random: &[u8; 32]) -> (Token, Zeroizing<String>) {
        let text = Zeroizing::new(hex(random));
        (Token { hash: blake3::hash(text.as_bytes()) }, text)
    }

    /// Whether a request carries it. Hashes are compared, in constant time, so that no timing tells how much of a guess
    /// was right.
    pub fn check(&self, head: &Head) -> Result<(), Problem> {
        let field = head.field("authorization")?.and_then(|value| value.split_once(' '));
        match field {
            Some((scheme, token))
                if scheme.eq_ignore_ascii_case("bearer")
                    && blake3::hash(token.trim_start_matches(' ').as_bytes()) == self.hash =>
            {
                Ok(())
            }
            _ if mutant::out("api-token") => Ok(()),
            _ => Err(Problem::unauthorized()),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The host names that are this API's, beside loopback's.
#[derive(Clone, Debug)]
pub struct Names(Vec<String>);

impl Names {
    /// These names; case and a final dot do not matter.
    pub fn new(names: Vec<String>) -> Names {
        Names(names.iter().map(|n| plain(n)).collect())
    }

    /// Whether the request is addressed to this API, and asked by no page of another origin.
    pub fn check(&self, head: &Head) -> Result<(), Problem> {
        let authority = head.authority.as_deref().unwrap_or_default();
        // The authority of an absolute target wins; a Host field that says something else is not passed over.
        let field = head.field("host")?.unwrap_or(authority);
        let ours = |name| host_of(name).is_some_and(|host| self.contains(host));
        if [authority, field].into_iter().any(|name| !ours(name)) && !mutant::out("api-host") {
            return Err(Problem::host_denied());
        }
        match head.field("origin")? {
            None => Ok(()),
            Some(origin) if is_origin_of(origin, authority) => Ok(()),
            Some(_) if mutant::out("api-origin") => Ok(()),
            Some(_) => Err(Problem::origin_denied()),
        }
    }

    fn contains(&self, host: &str) -> bool {
        let unbracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        match unbracketed.unwrap_or(host).parse::<IpAddr>() {
            Ok(address) if address.is_ipv6() != unbracketed.is_some() => false,
            Ok(address) if address.is_loopback() => true,
            _ => {
                let host = plain(host);
                host == "localhost" || self.0.contains(&host)
            }
        }
    }
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The host of `host[:port]`; `None` if the port is none.
fn host_of(authority: &str) -> Option<&str> {
    let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority.get(end..)?.find(':') {
        None => Some(authority),
        Some(colon) => {
            let port = authority.get(end + colon + 1..)?;
            port.bytes().all(|b| b.is_ascii_digit()).then(|| authority.get(..end + colon))?
        }
    }
}

/// Whether an Origin field (RFC 6454 section 7) names the server that the request went to.
fn is_origin_of(origin: &str, authority: &str) -> bool {
    let strip = |text: &str| text.strip_suffix(":80").unwrap_or(text).to_ascii_lowercase();
    origin.strip_prefix("http://").is_some_and(|o| strip(o) == strip(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, fields: &str) -> Result<(), &'static str> {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        let head = Head::parse(text.as_bytes()).unwrap().unwrap().0;
        Names::new(vec!["Router.LAN".into()]).check(&head).map_err(|p| p.slug)
    }

    #[test]
    fn loopback_and_configured_names_are_served() {
        for host in [
            "localhost",
            "LOCALHOST:7878",
            "localhost.:1",
            "127.0.0.1",
            "127.0.0.1:7878",
            "127.8.9.1:80",
            "[::1]",
            "[::1]:7878",
            "router.lan:7878",
            "ROUTER.lan.",
        ] {
            assert_eq!(check(host, ""), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_name_that_was_rebound_to_loopback_is_refused() {
        for host in [
            "evil.example",
            "evil.example:7878",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.1",
            "0.0.0.0:7878",
            "[::]",
            "::1",
            "[127.0.0.1]",
            "[::ffff:127.0.0.1]",
            "2130706433",
            "localhost:7878:x",
            "localhost:x",
            "user@localhost",
            "",
        ] {
            assert_eq!(check(host, ""), Err("host-denied"), "{host}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        assert_eq!(check("localhost:7878", "Origin: http://localhost:7878\r\n"), Ok(()));
        assert_eq!(check("localhost", "Origin: http://LOCALHOST:80\r\n"), Ok(()));
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost",
            "https://localhost:7878",
            "localhost:7878",
            "",
        ] {
            let field = format!("Origin: {origin}\r\n");
            assert_eq!(check("localhost:7878", &field), Err("origin-denied"), "{origin}");
        }
    }

    #[test]
    fn only_the_token_is_taken() {
        let (token, text) = Token::new(&[7; 32]);
        let with = |fields: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
            token.check(&Head::parse(text.as_bytes()).unwrap().unwrap().0).map_err(|p| p.slug)
        };
        assert_eq!(with(&format!("Authorization: Bearer {}\r\n", &*text)), Ok(()));
        assert_eq!(with(&format!("Authorization: bearer  {}\r\n", &*text)), Ok(()));
        for bad in [
            String::new(),
            format!("Authorization: {}\r\n", &*text),
            format!("Authorization: Basic {}\r\n", &*text),
            format!("Authorization: Bearer {}0\r\n", &*text),
            format!("Authorization: Bearer {}\r\n", &text[1..]),
            "Authorization: Bearer \r\n".into(),
        ] {
            assert_eq!(with(&bad), Err("token-required"), "{bad}");
        }
        let twice = format!("Authorization: Bearer {0}\r\nAuthorization: Bearer {0}\r\n", &*text);
        assert_eq!(with(&twice), Err("malformed"));
        assert_eq!(format!("{token:?}"), "Token");
    }
}

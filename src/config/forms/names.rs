//! Why a text is no name, URL or listener: a sentence, or an empty one where saying what is allowed is enough.
use super::{number, path};
use std::net::{IpAddr, SocketAddr};

/// Names of hosts, RFC 1123 section 2.1; an underscore stands in some that are only looked up.
pub fn name_problem(text: &str, underscore: bool) -> Option<&'static str> {
    if text.starts_with("*.") {
        return Some("a name covers everything below it: write it without *.");
    }
    if !text.is_ascii() {
        return Some("write the A-labels (xn--…) of an international name");
    }
    if text.contains('/') {
        return Some("the name alone is wanted, without scheme or path");
    }
    if text.parse::<IpAddr>().is_ok() {
        return Some("an address is no name");
    }
    if text.contains(':') {
        return Some("the name alone is wanted, without port");
    }
    let of_label = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || (underscore && b == b'_');
    let is_label = |l: &str| {
        (1..=63).contains(&l.len()) && l.bytes().all(of_label) && !l.starts_with('-') && !l.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last_is_number = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    let fits = name.len() <= 253 && name.split('.').all(is_label) && !last_is_number;
    if fits { None } else { Some("") }
}

pub fn https_url_problem(text: &str) -> Option<&'static str> {
    let Some(rest) = text.strip_prefix("https://") else {
        return Some("it must begin with https://");
    };
    if text.len() > 2048 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Some("it must be ASCII without spaces, at most 2048 bytes");
    }
    if rest.contains(['?', '#', '{', '}', '\\']) {
        return Some("query, fragment and template are not allowed");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Some("a user is not allowed");
    }
    authority_problem(authority)
}

fn authority_problem(authority: &str) -> Option<&'static str> {
    let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (None, port),
        Some(_) => return Some("no IPv6 address stands in the brackets"),
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            authority.split_at_checked(end).map_or((Some(authority), ""), |(h, p)| (Some(h), p))
        }
    };
    let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(|p| number(p, 1, 65535).is_some());
    if !port_fits {
        return Some("the port must be 1 to 65535");
    }
    let host = host.filter(|h| h.parse::<IpAddr>().is_err())?;
    name_problem(host, false).map(|why| if why.is_empty() { "the host is no DNS name" } else { why })
}

/// Whoever reaches this listener needs no TLS, so only this machine may.
pub fn plain_listen_problem(text: &str) -> Option<&'static str> {
    if text.starts_with('/') {
        // `sun_path` has 108 bytes, the last of them zero.
        return if path(text).is_some() && text.len() <= 107 { None } else { Some("") };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => None,
        Ok(_) => Some("credentials would cross the network unprotected"),
        Err(_) => Some(""),
    }
}

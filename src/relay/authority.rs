//! The authority of a request's first line: whom the buyer wants to reach (RFC 9112 section 3.2.3).
use crate::mutant;
use crate::policy::hosts::normal;
use crate::policy::refusal::Refusal;
use crate::session::Target;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Reads `host:port`. A host that is an address in any notation inet_aton takes, or a name without a dot, has a
/// `literal`: such hosts are denied whatever they mean, and the port is judged first.
///
/// # Errors
/// [`Refusal::NotHttps`] if it is no authority, [`Refusal::PortDenied`] if the port is no decimal number of 1 to 65535
/// without leading zero.
pub fn target(authority: &str) -> Result<Target, Refusal> {
    let authority = if mutant::out("authority-form") {
        let rest = authority.split_once("://").map_or(authority, |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    } else {
        authority
    };
    let authority = if mutant::out("authority-no-userinfo") {
        authority.rsplit_once('@').map_or(authority, |(_, rest)| rest)
    } else {
        authority
    };
    let whole = format!("{authority}:443");
    let authority =
        if mutant::out("authority-names-port") && !authority.contains(':') { &whole } else { authority };
    let (host, port) =
        authority.rsplit_once(':').filter(|(_, p)| !p.contains('/')).ok_or(Refusal::NotHttps)?;
    let (host, literal) = host_of(host).ok_or(Refusal::NotHttps)?;
    Ok(Target { host, port: port_of(port).ok_or(Refusal::PortDenied)?, literal })
}

fn port_of(port: &str) -> Option<u16> {
    let leading = !mutant::out("port-without-zero") && port.starts_with('0');
    let digits = mutant::out("port-digits") || port.bytes().all(|b| b.is_ascii_digit());
    let careless = || match port.parse::<u128>() {
        Ok(wraps) if mutant::out("port-in-range") => Some(wraps as u16),
        Err(_) if mutant::out("port-is-number") => Some(443),
        _ => None,
    };
    if let Some(port) = careless().filter(|_| cfg!(feature = "mutants")) {
        return Some(port);
    }
    port.parse().ok().filter(|_| digits && !leading)
}

fn host_of(host: &str) -> Option<(String, Option<IpAddr>)> {
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'))
        && !mutant::out("host-in-brackets")
    {
        let address = inner.split('%').next().unwrap_or(inner).parse::<Ipv6Addr>();
        let known = address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6);
        return Some((host.to_ascii_lowercase(), Some(known)));
    }
    let name = normal(host)?;
    let literal = match name.rsplit('.').next() {
        // What ends in a number is an address or nothing (WHATWG URL, section 3.5).
        Some(last) if is_number(last) => Some(inet_aton(&name).unwrap_or(Ipv4Addr::UNSPECIFIED)),
        _ if !name.contains('.') && !mutant::out("host-has-dot") => Some(Ipv4Addr::UNSPECIFIED),
        _ if is_local_name(&name) && !mutant::out("special-use-name") => Some(Ipv4Addr::UNSPECIFIED),
        _ => None,
    };
    Some((name, literal.map(IpAddr::V4)))
}

/// Names that mean something inside a house alone: special-use (RFC 6761, 6762, 7686, 8375), reserved by ICANN, or the
/// usual zone of a router. Whatever a resolver says of them, no public site has one.
fn is_local_name(name: &str) -> bool {
    const ZONES: [&str; 8] =
        ["localhost", "local", "home.arpa", "internal", "lan", "localdomain", "home", "onion"];
    ZONES.iter().any(|zone| name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.')))
}

fn is_number(label: &str) -> bool {
    let decimal = label.bytes().all(|b| b.is_ascii_digit());
    let hex = label.strip_prefix("0x").is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
    (decimal && !mutant::out("host-decimal")) || (hex && !mutant::out("host-hexadecimal"))
}

/// One to four parts, each decimal, octal or hexadecimal; the last one fills the rest of the address.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let part = |p: &str| match p.strip_prefix("0x") {
        Some("") => Some(0),
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if p.starts_with('0') && p.len() > 1 => u32::from_str_radix(p, 8).ok(),
        None => p.parse().ok(),
    };
    let parts: Vec<u32> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    let room = u32::MAX.checked_shr(8 * u32::try_from(first.len()).ok()?)?;
    if first.len() > 3 || *last > room || first.iter().any(|p| *p > 255) {
        return None;
    }
    let high = first.iter().zip([24, 16, 8]).fold(0, |bits, (p, shift)| bits | (p << shift));
    Some(Ipv4Addr::from_bits(high | last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(host: &str, port: u16) -> Result<Target, Refusal> {
        Ok(Target { host: host.into(), port, literal: None })
    }

    #[test]
    fn authority_form_gives_a_normal_name() {
        assert_eq!(target("Example.COM.:443"), name("example.com", 443));
        assert_eq!(target("xn--bcher-kva.example:65535"), name("xn--bcher-kva.example", 65535));
    }

    #[test]
    fn what_is_no_authority_is_not_https() {
        for bad in [
            "example.com",
            "/",
            "*",
            "http://example.com/",
            "https://example.com:443",
            "user@example.com:443",
            "user:pass@example.com:443",
            ":443",
            "::1:443",
            "exa mple.com:443",
            "bücher.example:443",
            "a%2eb.example:443",
            "example.com/:443",
            "example..com:443",
        ] {
            assert_eq!(target(bad), Err(Refusal::NotHttps), "{bad}");
        }
    }

    #[test]
    fn ports_are_plain_decimal() {
        for bad in ["", "0", "022", "0443", "65536", "99999999999", "+443", "-1", "4 43", "https", "44३"] {
            assert_eq!(target(&format!("example.com:{bad}")), Err(Refusal::PortDenied), "{bad}");
        }
    }

    #[test]
    fn addresses_in_any_notation_are_literals() {
        for (text, meant) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("127.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("0x7F.1", "127.0.0.1"),
            ("0177.0.0.01", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("0", "0.0.0.0"),
            ("0x", "0.0.0.0"),
            ("8.8.8.8", "8.8.8.8"),
            ("1.2.3.4.5", "0.0.0.0"),
            ("256.1.1.1", "0.0.0.0"),
            ("1.2.3.08", "0.0.0.0"),
            ("example.1", "0.0.0.0"),
            ("localhost", "0.0.0.0"),
            ("router", "0.0.0.0"),
            ("[::1]", "::1"),
            ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
            ("[fe80::1%eth0]", "fe80::1"),
            ("[nonsense]", "::"),
        ] {
            let target = target(&format!("{text}:443")).unwrap();
            assert_eq!(target.literal, Some(meant.parse().unwrap()), "{text}");
        }
        assert_eq!(target("0x7f.example:443").unwrap().literal, None);
        assert_eq!(target("127.0.0.1.example:443").unwrap().literal, None);
    }

    #[test]
    fn names_of_the_house_are_literals() {
        for name in
            ["printer.local", "a.b.localhost", "nas.home.arpa", "db.internal", "OpenWrt.LAN.", "x.onion"]
        {
            assert!(target(&format!("{name}:443")).unwrap().literal.is_some(), "{name}");
        }
        for name in ["notlocal.test", "local.test", "xlan.test", "home.arpa.test", "vlan.example"] {
            assert_eq!(target(&format!("{name}:443")).unwrap().literal, None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_may_be_dialled_is_no_address(host in "[0-9a-fx.]{1,12}") {
            if let Ok(Target { host, literal: None, .. }) = target(&format!("{host}:443")) {
                prop_assert!(host.parse::<IpAddr>().is_err());
                prop_assert!(inet_aton(&host).is_none());
            }
        }
    }
}

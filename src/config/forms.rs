//! The forms that texts in the configuration may have: one function per form, from text to value.
use crate::policy::wan::is_device_name;
use names::{https_url_problem, name_problem, plain_listen_problem};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

mod names;

/// What a text must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Absolute path, or one that begins with `~/`.
    Path,
    /// `https` URL without user, query and fragment.
    HttpsUrl,
    /// Base64 of an Ed25519 public key, with or without `ed25519:` before it.
    PublicKey,
    /// Domain: the name itself and everything below it.
    Domain,
    /// Host name.
    Host,
    /// Host name or address.
    HostOrAddress,
    /// IP address.
    Address,
    /// IP address or prefix.
    Prefix,
    /// Address and port.
    Listen,
    /// Loopback address and port, or absolute path of a Unix socket.
    PlainListen,
    /// Range of ports.
    Ports,
    /// Adjoining bits of a packet mark.
    MarkMask,
    /// Region.
    Region,
    /// Release channel.
    Channel,
    /// Name of a network device, or `auto`.
    WanDevice,
    /// Time of day at which a window opens.
    Start,
    /// Time of day at which a window closes.
    End,
}

impl Form {
    /// What the text is, in an error message: `is not {}`.
    pub fn name(self) -> &'static str {
        match self {
            Form::Path => "a path",
            Form::HttpsUrl => "an https URL",
            Form::PublicKey => "an Ed25519 public key",
            Form::Domain => "a domain",
            Form::Host => "a host name",
            Form::HostOrAddress => "a host name or address",
            Form::Address => "an address",
            Form::Prefix => "an address or prefix",
            Form::Listen => "an address with port",
            Form::PlainListen => "a loopback address with port or a socket path",
            Form::Ports => "a range of ports",
            Form::MarkMask => "a packet mark mask",
            Form::Region => "a region",
            Form::Channel => "a channel",
            Form::WanDevice => "a network device",
            Form::Start | Form::End => "a time of day",
        }
    }

    /// What is allowed, in a few words.
    pub fn allowed(self) -> &'static str {
        match self {
            Form::Path => "an absolute path, or one that begins with ~/",
            Form::HttpsUrl => "https://HOST[:PORT][/PATH] without user, query and fragment",
            Form::PublicKey => "standard base64 of the 32 bytes, with or without ed25519: before it",
            Form::Domain | Form::Host => "a DNS name of A-labels, without port",
            Form::HostOrAddress => "a DNS name of A-labels or an IP address, without port",
            Form::Address => "an IPv4 or IPv6 address",
            Form::Prefix => "ADDRESS or ADDRESS/LENGTH",
            Form::Listen => "ADDRESS:PORT, IPv6 in brackets",
            Form::PlainListen => "127.0.0.1:PORT, [::1]:PORT or an absolute path of at most 107 bytes",
            Form::Ports => "FIRST-LAST within 1024 to 65535",
            Form::MarkMask => "0x and up to 8 hexadecimal digits, adjoining bits",
            Form::Region => "1 to 64 characters",
            Form::Channel => "1 to 32 of a-z, 0-9 and -",
            Form::WanDevice => {
                "auto, or a name of 1 to 15 printable ASCII characters without /, : and quotes, such as pppoe-wan"
            }
            Form::Start => "HH:MM from 00:00 to 23:59, in quotes",
            Form::End => "HH:MM from 00:00 to 24:00, in quotes",
        }
    }

    /// A regular expression (ECMA-262) that every allowed text matches.
    pub fn pattern(self) -> &'static str {
        match self {
            Form::Path => r"^(/|~/)[^\u0000-\u001f]*$",
            Form::HttpsUrl => r"^https://[!-~]+$",
            Form::PublicKey => r"^(ed25519:)?[A-Za-z0-9+/]{43}=$",
            Form::Domain => r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$",
            Form::Host => r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.?$",
            Form::HostOrAddress => r"^[A-Za-z0-9.:-]+$",
            Form::Address => r"^[0-9A-Fa-f.:]+$",
            Form::Prefix => r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$",
            Form::Listen => r"^(\[[0-9A-Fa-f.:%]+\]|[0-9.]+):[0-9]{1,5}$",
            Form::PlainListen => {
                r"^(/[^\u0000-\u001f]+|\[[0-9A-Fa-f.:%]+\]:[0-9]{1,5}|127\.[0-9.]+:[0-9]{1,5})$"
            }
            Form::Ports => r"^[0-9]{4,5}-[0-9]{4,5}$",
            Form::MarkMask => r"^0x[0-9A-Fa-f]{1,8}$",
            Form::Region => r"^[^\u0000-\u001f]{1,64}$",
            Form::Channel => r"^[a-z0-9-]{1,32}$",
            Form::WanDevice => r#"^[!#-.0-9;-~]{1,15}$"#,
            Form::Start => r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
            Form::End => r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$",
        }
    }

    /// Why the text has not this form; `None` if it has.
    pub fn problem(self, text: &str) -> Option<Cow<'static, str>> {
        let plain = |fits: bool| if fits { None } else { Some(Cow::Borrowed("")) };
        match self {
            Form::Path => plain(path(text).is_some()),
            Form::HttpsUrl => https_url_problem(text).map(Cow::Borrowed),
            Form::PublicKey => plain(crate::signed::PublicKey::parse(text).is_some()),
            Form::Domain => name_problem(text, true).map(Cow::Borrowed),
            Form::Host => name_problem(text, false).map(Cow::Borrowed),
            Form::HostOrAddress if text.parse::<IpAddr>().is_ok() => None,
            Form::HostOrAddress => name_problem(text, false).map(Cow::Borrowed),
            Form::Address => plain(text.parse::<IpAddr>().is_ok()),
            Form::Prefix => plain(prefix(text).is_some()),
            Form::Listen => plain(text.parse::<SocketAddr>().is_ok()),
            Form::PlainListen => plain_listen_problem(text).map(Cow::Borrowed),
            Form::Ports => plain(ports(text).is_some()),
            Form::MarkMask => plain(mark_mask(text).is_some()),
            Form::Region => plain(is_region(text)),
            Form::Channel => plain(is_channel(text)),
            Form::WanDevice => plain(is_device_name(text)),
            Form::Start => plain(start_minute(text).is_some()),
            Form::End => plain(end_minute(text).is_some()),
        }
    }
}

/// A path of the configuration; `None` unless absolute or below `~/`.
pub fn path(text: &str) -> Option<PathBuf> {
    let rooted = text.starts_with('/') || text.starts_with("~/");
    (rooted && text.len() <= 4096 && !text.chars().any(char::is_control)).then(|| PathBuf::from(text))
}

/// A path with `~/` replaced by the home directory; `None` if that is needed and not known.
pub fn expand_home(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => home.map(|home| home.join(rest)),
        Err(_) => Some(path.to_owned()),
    }
}

/// A name as all comparisons want it: lower case, without the final dot.
pub fn host(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

/// An address with the length of its prefix.
pub fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(most), |l| number(l, 0, u32::from(most))?.try_into().ok())?;
    Some((address, length))
}

/// First and last port of a range.
pub fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (number(first, 1024, 65535)?, number(last, 1024, 65535)?);
    (first <= last).then_some((first.try_into().ok()?, last.try_into().ok()?))
}

/// The bits of a packet mark; `None` unless there are some and they adjoin.
pub fn mark_mask(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").filter(|d| (1..=8).contains(&d.len()))?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mask = u32::from_str_radix(digits, 16).ok().filter(|m| *m != 0)?;
    let low = mask >> mask.trailing_zeros();
    (low & low.wrapping_add(1) == 0).then_some(mask)
}

/// Minute of the day, 0 to 1439.
pub fn start_minute(text: &str) -> Option<u16> {
    end_minute(text).filter(|m| *m < 1440)
}

/// Minute of the day, 0 to 1440.
pub fn end_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= 1440).then_some(total)
}

/// A decimal number without sign and without leading zeros.
fn number(text: &str, min: u32, max: u32) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|n| plain && (min..=max).contains(n))
}

fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && text.trim() == text && !text.chars().any(char::is_control)
}

fn is_channel(text: &str) -> bool {
    let of_channel = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(of_channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: Form, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(form.problem(text), None, "{form:?} {text}");
        }
        for text in bad {
            assert!(form.problem(text).is_some(), "{form:?} {text}");
        }
    }

    #[test]
    fn domains_are_a_labels_without_port_wildcard_or_address() {
        let long = format!("{}.example", "a".repeat(63));
        check(
            Form::Domain,
            &["example.com", "EXAMPLE.com.", "xn--bcher-kva.example", "com", "a_b.c", &long],
            &[
                "",
                ".",
                "a..b",
                "-a.b",
                "a-.b",
                "1.2.3.4",
                "::1",
                "a.1",
                "a b",
                "a/b",
                "https://a.b",
                "a.b:443",
            ],
        );
        assert_eq!(
            Form::Domain.problem("bücher.example").unwrap(),
            "write the A-labels (xn--…) of an international name"
        );
        assert_eq!(
            Form::Domain.problem("*.a.b").unwrap(),
            "a name covers everything below it: write it without *."
        );
        assert!(Form::Domain.problem(&format!("{}.example", "a".repeat(64))).is_some());
        assert!(Form::Domain.problem(&"a.".repeat(127)).is_none());
        assert!(Form::Domain.problem(&"a.".repeat(128)).is_some());
        assert!(Form::Host.problem("a_b.c").is_some());
    }

    #[test]
    fn urls_are_https_with_a_host() {
        check(
            Form::HttpsUrl,
            &["https://a.example", "https://a.example:8443/x/", "https://[::1]:1", "https://127.0.0.1:9"],
            &[
                "http://a.example",
                "https://",
                "https:///x",
                "https://u@a.example",
                "https://a.example?x",
                "https://a.example/#x",
                "https://a.example:0",
                "https://a.example:65536",
                "https://a.example:",
                "https://[zz]",
                "https://[::1]x",
                "https://a b",
                "https://a/{?dns}",
                "HTTPS://a.example",
            ],
        );
    }

    #[test]
    fn the_plain_listener_stays_on_this_machine() {
        let longest = format!("/{}", "a".repeat(106));
        check(
            Form::PlainListen,
            &["127.0.0.1:80", "[::1]:80", "127.9.9.9:0", "/run/x.sock", &longest],
            &[
                "0.0.0.0:80",
                "192.168.1.1:80",
                "[::]:80",
                "localhost:80",
                "x.sock",
                "127.0.0.1",
                &format!("{longest}a"),
            ],
        );
    }

    #[test]
    fn times_ports_masks_and_prefixes() {
        assert_eq!(
            (start_minute("23:59"), start_minute("24:00"), end_minute("24:00")),
            (Some(1439), None, Some(1440))
        );
        check(
            Form::End,
            &["00:00", "06:30"],
            &["24:01", "6:00", "06:60", "0600", "+6:00", "06:00 ", "25:00"],
        );
        assert_eq!(ports("40000-40999"), Some((40000, 40999)));
        check(
            Form::Ports,
            &["1024-65535", "5000-5000"],
            &["1023-2000", "2000-1999", "2000-65536", "02000-3000", "2000"],
        );
        assert_eq!(mark_mask("0x0f000000"), Some(0x0f00_0000));
        check(Form::MarkMask, &["0xffffffff", "0x1"], &["0x0", "0x5", "f0", "0x", "0x1ffffffff", "0x+1"]);
        assert_eq!(prefix("10.0.0.0/8"), Some(("10.0.0.0".parse().unwrap(), 8)));
        assert_eq!(prefix("::1"), Some(("::1".parse().unwrap(), 128)));
        check(Form::Prefix, &["0.0.0.0/0"], &["10.0.0.0/33", "::/129", "10.0.0.0/", "10/8", "10.0.0.0/08"]);
    }

    #[test]
    fn a_tilde_is_the_home_directory_only_at_the_start() {
        let expanded = |path: &str| expand_home(Path::new(path), Some(Path::new("/root"))).unwrap();
        assert_eq!(expanded("~/.echomesh/node.key"), Path::new("/root/.echomesh/node.key"));
        assert_eq!(expanded("/a/~/b"), Path::new("/a/~/b"));
        assert_eq!(expand_home(Path::new("~/a"), None), None);
        check(Form::Path, &["/a", "~/a"], &["a", "~a", "~", "", "/a\0b"]);
    }
}

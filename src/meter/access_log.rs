//! What a flow leaves in the access log: one line of canonical JSON, without the host's name.
use crate::encoding::b3;
use crate::json::{Value, object};
use crate::time::Unix;
use std::net::IpAddr;

/// Which way a session's bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Through this process.
    Relay,
    /// Through the kernel alone.
    Kernel,
    /// Some this way, some that way.
    Mixed,
}

impl Path {
    /// The contract's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Relay => "relay",
            Path::Kernel => "kernel",
            Path::Mixed => "mixed",
        }
    }

    /// Both paths together.
    pub fn and(self, other: Path) -> Path {
        if self == other { self } else { Path::Mixed }
    }
}

/// A flow that has ended, as `/logs/export` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLine {
    /// Who pays.
    pub session_id: String,
    /// The session's `buyer`.
    pub buyer: String,
    /// Where the buyer's connection came from, if the owner has that logged.
    pub buyer_address: Option<IpAddr>,
    /// By [`HostHasher::hash`].
    pub host_hash: String,
    /// TCP port of the target.
    pub port: u16,
    /// Status of the CONNECT answer; 200 also if the tunnel was refused after it.
    pub status: u16,
    /// Why it was refused, if it was.
    pub slug: Option<&'static str>,
    /// Payload bytes from the target.
    pub ingress: u64,
    /// Payload bytes taken by the target.
    pub egress: u64,
    /// From its admission to its end.
    pub duration_ms: u64,
    /// The way it went.
    pub path: Path,
}

impl AccessLine {
    /// The line, line feed included, of a flow that ended at `t`. These bytes go into the digest and the export.
    pub fn text(&self, t: Unix) -> String {
        let mut members: Vec<(&str, Value)> = vec![
            ("t", t.to_string().into()),
            ("sessionId", self.session_id.as_str().into()),
            ("buyer", self.buyer.as_str().into()),
            ("hostHash", self.host_hash.as_str().into()),
            ("port", self.port.into()),
            ("status", self.status.into()),
            ("ingress", self.ingress.into()),
            ("egress", self.egress.into()),
            ("durationMs", self.duration_ms.into()),
            ("path", self.path.as_str().into()),
        ];
        members.extend(self.buyer_address.map(|a| ("buyerAddress", a.to_string().into())));
        members.extend(self.slug.map(|slug| ("slug", slug.into())));
        let mut line = object(members).canonical();
        line.push('\n');
        line
    }
}

/// The instant of a line: `t` sorts last of its members, so it ends the text. `None` if the text is no such line.
pub fn line_instant(line: &[u8]) -> Option<Unix> {
    const INSTANT: usize = "YYYY-MM-DDTHH:MM:SSZ".len();
    let line = line.strip_suffix(b"\n").unwrap_or(line).strip_suffix(b"\"}")?;
    let (head, t) = line.split_at_checked(line.len().checked_sub(INSTANT)?)?;
    head.ends_with(b",\"t\":\"").then_some(())?;
    Unix::parse(std::str::from_utf8(t).ok()?)
}

/// The instant of a line of what was billed: the last second of a bundle's window, or when a session was settled. `None` if the
/// text is no such line.
pub fn billed_instant(line: &[u8]) -> Option<Unix> {
    let body = crate::json::parse(line).ok()?;
    let at = |name: &str| body.member(name).and_then(Value::as_str).and_then(Unix::parse);
    at("windowEnd").map(|end| Unix(end.0 - 1)).or_else(|| at("at"))
}

/// Keyed hashes of host names. The key is random, lives for a day in memory and is shown to nobody: who has the log can
/// tell that two flows of a day went to one host, but not to which.
pub struct HostHasher {
    day: i64,
    key: [u8; 32],
}

impl HostHasher {
    /// A key for the day with this number.
    pub fn new(day: i64, key: [u8; 32]) -> HostHasher {
        HostHasher { day, key }
    }

    /// Whether `day` needs another key.
    pub fn is_stale(&self, day: i64) -> bool {
        self.day != day
    }

    /// `b3:` and the BLAKE3 keyed hash of the host's name.
    pub fn hash(&self, host: &str) -> String {
        b3(&blake3::keyed_hash(&self.key, host.as_bytes()))
    }
}

impl Drop for HostHasher {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

impl std::fmt::Debug for HostHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostHasher(day {})", self.day)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn line() -> AccessLine {
        AccessLine {
            session_id: "5f0c4a1e-8f4f-4a58-9d5e-0f7a3f6b2c11".into(),
            buyer: "acme".into(),
            buyer_address: None,
            host_hash: HostHasher::new(1, [1; 32]).hash("example.com"),
            port: 443,
            status: 200,
            slug: None,
            ingress: 1000,
            egress: 200,
            duration_ms: 1234,
            path: Path::Relay,
        }
    }

    #[test]
    fn a_line_has_the_members_of_the_contract_and_no_more() {
        let text =
            AccessLine { slug: Some("sni-mismatch"), host_hash: "b3:00".into(), ..line() }.text(Unix(0));
        assert_eq!(
            text,
            "{\"buyer\":\"acme\",\"durationMs\":1234,\"egress\":200,\"hostHash\":\"b3:00\",\"ingress\":1000,\
             \"path\":\"relay\",\"port\":443,\"sessionId\":\"5f0c4a1e-8f4f-4a58-9d5e-0f7a3f6b2c11\",\
             \"slug\":\"sni-mismatch\",\"status\":200,\"t\":\"1970-01-01T00:00:00Z\"}\n"
        );
        assert!(!line().text(Unix(0)).contains("slug"));
    }

    #[test]
    fn a_buyers_address_is_in_the_line_only_if_the_owner_wants_it() {
        let logged = AccessLine { buyer_address: Some([192, 0, 2, 7].into()), ..line() }.text(Unix(0));
        assert!(logged.starts_with("{\"buyer\":\"acme\",\"buyerAddress\":\"192.0.2.7\",\"durationMs\""));
        assert_eq!(line_instant(logged.as_bytes()), Some(Unix(0)));
        assert!(!line().text(Unix(0)).contains("buyerAddress"));
    }

    #[test]
    fn what_was_billed_is_as_old_as_its_window_or_its_settlement() {
        let bundle = br#"{"windowEnd":"1970-01-01T00:10:00Z","windowStart":"1970-01-01T00:05:00Z"}"#;
        assert_eq!(billed_instant(bundle), Some(Unix(599)));
        assert_eq!(billed_instant(br#"{"at":"1970-01-01T00:00:09Z"}"#), Some(Unix(9)));
        assert_eq!(billed_instant(b"{\"at\":9}"), None);
        assert_eq!(billed_instant(b"no line"), None);
    }

    #[test]
    fn the_instant_of_a_line_is_read_from_its_end() {
        let t = Unix::parse("2025-12-19T14:00:00Z").unwrap();
        assert_eq!(line_instant(line().text(t).as_bytes()), Some(t));
        for bad in ["", "\n", "{}\n", "\"2025-12-19T14:00:00Z\"}", "{\"at\":\"2025-12-19T14:00:00Z\"}"] {
            assert_eq!(line_instant(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_host_has_one_hash_per_key() {
        let (today, tomorrow) = (HostHasher::new(1, [1; 32]), HostHasher::new(2, [2; 32]));
        assert_eq!(today.hash("a"), today.hash("a"));
        assert_ne!(today.hash("a"), today.hash("b"));
        assert_ne!(today.hash("a"), tomorrow.hash("a"));
        assert!(today.is_stale(2) && !today.is_stale(1));
        assert_eq!(format!("{today:?}"), "HostHasher(day 1)");
    }
}

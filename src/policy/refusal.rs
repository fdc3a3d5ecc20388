//! Every refusal a buyer can meet, with its status, its `Proxy-Status` error type (RFC 9209) and its slug.
//! The one place that maps them.

/// Why a buyer's request was refused, or failed. The order of the variants is the contract's order of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is its slug, explained in docs/protocol.md")]
pub enum Refusal {
    AuthRequired,
    GuardDown,
    Locked,
    Quarantined,
    Paused,
    OutsideSchedule,
    SessionClosed,
    LeaseUnavailable,
    NotHttps,
    PortDenied,
    AddressDenied,
    DomainBlocked,
    DomainNotAllowed,
    CategoryDenied,
    RateLimited,
    QuotaReached,
    ResolveFailed,
    ConnectFailed,
    ConnectTimeout,
    SniMissing,
    SniMismatch,
    AlpnDenied,
    EchDenied,
    HelloTimeout,
    TlsVersion,
    NotTls,
}

impl Refusal {
    /// All of them, in the contract's order.
    pub const ALL: [Refusal; 26] = [
        Refusal::AuthRequired,
        Refusal::GuardDown,
        Refusal::Locked,
        Refusal::Quarantined,
        Refusal::Paused,
        Refusal::OutsideSchedule,
        Refusal::SessionClosed,
        Refusal::LeaseUnavailable,
        Refusal::NotHttps,
        Refusal::PortDenied,
        Refusal::AddressDenied,
        Refusal::DomainBlocked,
        Refusal::DomainNotAllowed,
        Refusal::CategoryDenied,
        Refusal::RateLimited,
        Refusal::QuotaReached,
        Refusal::ResolveFailed,
        Refusal::ConnectFailed,
        Refusal::ConnectTimeout,
        Refusal::SniMissing,
        Refusal::SniMismatch,
        Refusal::AlpnDenied,
        Refusal::EchDenied,
        Refusal::HelloTimeout,
        Refusal::TlsVersion,
        Refusal::NotTls,
    ];

    /// The bare slug of the problem type.
    pub fn slug(self) -> &'static str {
        match self {
            Refusal::AuthRequired => "auth-required",
            Refusal::GuardDown => "guard-down",
            Refusal::Locked => "locked",
            Refusal::Quarantined => "quarantined",
            Refusal::Paused => "paused",
            Refusal::OutsideSchedule => "outside-schedule",
            Refusal::SessionClosed => "session-closed",
            Refusal::LeaseUnavailable => "lease-unavailable",
            Refusal::NotHttps => "not-https",
            Refusal::PortDenied => "port-denied",
            Refusal::AddressDenied => "address-denied",
            Refusal::DomainBlocked => "domain-blocked",
            Refusal::DomainNotAllowed => "domain-not-allowed",
            Refusal::CategoryDenied => "category-denied",
            Refusal::RateLimited => "rate-limited",
            Refusal::QuotaReached => "quota-reached",
            Refusal::ResolveFailed => "resolve-failed",
            Refusal::ConnectFailed => "connect-failed",
            Refusal::ConnectTimeout => "connect-timeout",
            Refusal::SniMissing => "sni-missing",
            Refusal::SniMismatch => "sni-mismatch",
            Refusal::AlpnDenied => "alpn-denied",
            Refusal::EchDenied => "ech-denied",
            Refusal::HelloTimeout => "hello-timeout",
            Refusal::TlsVersion => "tls-version",
            Refusal::NotTls => "not-tls",
        }
    }

    /// The HTTP status of a refusal before the 200; `None` for those that come after it, in the tunnel.
    pub fn status(self) -> Option<u16> {
        match self {
            Refusal::AuthRequired => Some(407),
            Refusal::GuardDown
            | Refusal::Locked
            | Refusal::Quarantined
            | Refusal::Paused
            | Refusal::OutsideSchedule
            | Refusal::LeaseUnavailable => Some(503),
            Refusal::SessionClosed
            | Refusal::NotHttps
            | Refusal::PortDenied
            | Refusal::AddressDenied
            | Refusal::DomainBlocked
            | Refusal::DomainNotAllowed
            | Refusal::CategoryDenied => Some(403),
            Refusal::RateLimited | Refusal::QuotaReached => Some(429),
            Refusal::ResolveFailed | Refusal::ConnectFailed => Some(502),
            Refusal::ConnectTimeout => Some(504),
            _ => None,
        }
    }

    /// The error type of the `Proxy-Status` field (RFC 9209 section 2.3).
    pub fn proxy_error(self) -> &'static str {
        match self {
            Refusal::AddressDenied => "destination_ip_prohibited",
            Refusal::ResolveFailed => "dns_error",
            Refusal::ConnectFailed => "connection_refused",
            Refusal::ConnectTimeout => "connection_timeout",
            _ => "http_request_denied",
        }
    }

    /// The description of the fatal TLS alert (RFC 8446 section 6) for a refusal after the 200; `None` where the tunnel
    /// is closed without one.
    pub fn tls_alert(self) -> Option<u8> {
        match self {
            Refusal::SniMissing | Refusal::SniMismatch => Some(112),
            Refusal::AlpnDenied => Some(120),
            Refusal::EchDenied | Refusal::HelloTimeout | Refusal::TlsVersion => Some(49),
            _ => None,
        }
    }

    /// 502 and 504 are errors on the way, not refusals of the node.
    pub fn is_error(self) -> bool {
        matches!(self.status(), Some(502 | 504))
    }

    /// A sentence for a person: what happened and what to do.
    pub fn detail(self) -> &'static str {
        match self {
            Refusal::AuthRequired => {
                "Send the session's credentials: Proxy-Authorization: Basic base64(sessionId:token)."
            }
            Refusal::GuardDown => {
                "The node's firewall table is not in force, so nothing is carried; try again later."
            }
            Refusal::Locked => "The node's key is locked; its owner has to unlock it.",
            Refusal::Quarantined => {
                "The node is in quarantine and carries nothing until its owner clears it."
            }
            Refusal::Paused => "The owner has paused the node; try again later.",
            Refusal::OutsideSchedule => "The owner's schedule is closed now; try again when it opens.",
            Refusal::SessionClosed => {
                "The session is not open: not yet begun, expired, closed, or its budget is used up."
            }
            Refusal::LeaseUnavailable => {
                "The kernel path cannot carry this now, or not from where this connection comes; use CONNECT."
            }
            Refusal::NotHttps => {
                "Only CONNECT to an HTTPS origin is carried; plain HTTP and other methods are not."
            }
            Refusal::PortDenied => "Only port 443 is carried.",
            Refusal::AddressDenied => {
                "The host is, or resolves to, an address that is not public; such hosts are never reached."
            }
            Refusal::DomainBlocked => "The host, or a name it stands for, is on a block list.",
            Refusal::DomainNotAllowed => "The host is not on the allow list of the owner or of the session.",
            Refusal::CategoryDenied => "The owner has opted out of this category.",
            Refusal::RateLimited => "Too many connections, or too many new ones per second; slow down.",
            Refusal::QuotaReached => "The day's or the month's quota is used up.",
            Refusal::ResolveFailed => "The host's name could not be resolved.",
            Refusal::ConnectFailed => "The origin refused the connection or could not be reached.",
            Refusal::ConnectTimeout => "The origin did not answer within 10 seconds.",
            Refusal::SniMissing => "The ClientHello names no server.",
            Refusal::SniMismatch => "The ClientHello names another server than the CONNECT request.",
            Refusal::AlpnDenied => {
                "The ClientHello offers an application protocol that the session does not allow."
            }
            Refusal::EchDenied => "Encrypted ClientHello is not allowed here.",
            Refusal::HelloTimeout => "No complete ClientHello came within 10 seconds and 16 KiB.",
            Refusal::TlsVersion => "TLS 1.2 or later is required.",
            Refusal::NotTls => "What came through the tunnel is not TLS.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn slugs_are_unique_and_in_order() {
        assert!(Refusal::ALL.windows(2).all(|w| w[0] < w[1] && w[0].slug() != w[1].slug()));
    }

    #[test]
    fn a_refusal_comes_before_or_after_the_200() {
        for r in Refusal::ALL {
            assert!(r.status().is_none() || r.tls_alert().is_none(), "{r:?}");
            assert_eq!(r.status().is_none(), r >= Refusal::SniMissing, "{r:?}");
        }
    }
}

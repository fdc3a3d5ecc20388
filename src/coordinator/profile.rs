//! What a session is bought under: policy profile, limits, category. Pure.
use crate::config::SessionLimits;
use crate::json::{FieldError, Fields, MAX_INTEGER};
use crate::policy::hosts::normal;

/// The one profile of categories, and what is in it.
pub const COMPLIANT_DEFAULT: [&str; 2] = ["ad-verification", "qa"];
/// Most entries in each list of a policy profile.
pub const MAX_ENTRIES: usize = 20_000;

/// The rules a session is bought under.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyProfile {
    /// For people.
    pub name: String,
    /// Hosts that may be reached; empty means all. Normal form.
    pub allow_domains: Vec<String>,
    /// Hosts that may not. Normal form.
    pub block_domains: Vec<String>,
    /// Ports; empty means 443.
    pub allowed_ports: Vec<u16>,
    /// Application protocols that a ClientHello may offer; empty means none.
    pub alpn: Vec<String>,
    /// Ways to the node: `relay`, `tunnel`, `lease`; empty means none.
    pub transports: Vec<String>,
    /// Whether any ECH extension is refused (`ech:"deny"`).
    pub ech_deny: bool,
}

/// Whether a category is served: of [`COMPLIANT_DEFAULT`], and not opted out of.
pub fn category_allowed(category: &str, opt_out: &[String]) -> bool {
    COMPLIANT_DEFAULT.contains(&category) && !opt_out.iter().any(|o| o == category)
}

/// Whether a profile asks for 443 (or what a lab adds) alone.
pub fn ports_allowed(profile: &PolicyProfile, extra: &[u16]) -> bool {
    profile.allowed_ports.iter().all(|p| *p == 443 || extra.contains(p))
}

/// Reads a profile. An entry that is no host name is an error: it would block nothing.
pub fn profile(f: &Fields<'_>) -> Result<PolicyProfile, FieldError> {
    let names = |member: &str| -> Result<Vec<String>, FieldError> {
        let entries = list(f, member)?;
        let normal = entries.iter().map(|e| {
            normal(e).ok_or_else(|| f.error(member, format!("{e:?} is no host name (A-label form)")))
        });
        normal.collect()
    };
    let ports = f.array("allowedPorts")?.iter().map(|p| {
        let port = p.as_int().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0);
        port.ok_or_else(|| f.error("allowedPorts", "must hold ports, 1 to 65535"))
    });
    let ech_deny = match f.str("ech")? {
        "outer" => false,
        "deny" => true,
        other => return Err(f.error("ech", format!("{other:?} is not outer or deny"))),
    };
    Ok(PolicyProfile {
        name: short(f, "name")?,
        allow_domains: names("allowDomains")?,
        block_domains: names("blockDomains")?,
        allowed_ports: ports.collect::<Result<_, _>>()?,
        alpn: list(f, "alpn")?,
        transports: list(f, "transports")?,
        ech_deny,
    })
}

/// Reads limits; an absent one is none of the coordinator's.
pub fn limits(f: &Fields<'_>) -> Result<SessionLimits, FieldError> {
    let amount = |name: &str| match f.opt_number(name)? {
        Some(n) if !(0.0..=MAX_INTEGER as f64).contains(&n) => {
            Err(f.error(name, format!("{n} is out of range")))
        }
        n => Ok(n),
    };
    let count = |name: &str| {
        let n = f.opt_int(name, 0..=i64::from(u32::MAX))?;
        Ok::<_, FieldError>(n.and_then(|n| u32::try_from(n).ok()))
    };
    Ok(SessionLimits {
        max_mbps: amount("maxMbps")?,
        burst_kb: f.opt_int("burstKB", 0..=MAX_INTEGER)?.map(i64::unsigned_abs),
        max_gb: amount("maxGB")?,
        max_gb_per_day: amount("maxGBPerDay")?,
        max_connections: count("maxConnections")?,
        max_new_per_second: count("maxNewPerSecond")?,
        max_new_per_host_per_second: count("maxNewPerHostPerSecond")?,
    })
}

fn list(f: &Fields<'_>, name: &str) -> Result<Vec<String>, FieldError> {
    let items = f.strings(name)?;
    if items.len() > MAX_ENTRIES {
        Err(f.error(name, format!("has more than {MAX_ENTRIES}")))
    } else {
        Ok(items)
    }
}

/// A text for people and logs: at most 256 bytes.
pub(super) fn short(f: &Fields<'_>, name: &str) -> Result<String, FieldError> {
    let text = f.str(name)?;
    let fits = text.len() <= 256 && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(f.error(name, "must be at most 256 bytes without controls")) }
}

//! What a probe request asks, whether it is answered, and with what. Pure.
use crate::coordinator::orders::{AHEAD_S, OLD_S};
use crate::coordinator::wire::{ProbeHost, instant};
use crate::encoding::{b3, base64};
use crate::http::url::{Url, percent_encode};
use crate::json::{self, Fields, Value, object};
use crate::mutant;
use crate::signed::{Kind, NodeKey, PublicKey, sign, verify};
use crate::time::Unix;
use std::fmt;

/// Least and greatest content, in bytes.
pub const SIZES: std::ops::RangeInclusive<i64> = (1 << 20)..=(64 << 20);
/// Least and greatest time to live, in seconds.
pub const TTLS: std::ops::RangeInclusive<i64> = 1..=300;
/// Longest trailer, in bytes.
pub const MAX_TRAILER: usize = 1024;
/// Longest nonce, in bytes.
pub const MAX_NONCE: usize = 256;
/// Most follow-ups in a row.
pub const MAX_FOLLOW_UPS: usize = 3;
/// Seconds for which a nonce has to be kept: after that its request is stale.
pub const NONCE_KEPT_S: i64 = OLD_S + AHEAD_S;

/// Why a probe is refused; the order of the variants is the contract's order of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is its slug, explained in docs/protocol.md")]
pub enum ProbeRefusal {
    WrongNode,
    Stale,
    EndpointDenied,
    Expired,
    NonceReused,
    SessionUnknown,
    SizeDenied,
    FetchFailed,
    EndpointUntrusted,
}

impl ProbeRefusal {
    /// The value of `refused` in the report.
    pub fn slug(self) -> &'static str {
        match self {
            ProbeRefusal::WrongNode => "wrong-node",
            ProbeRefusal::Stale => "stale",
            ProbeRefusal::EndpointDenied => "endpoint-denied",
            ProbeRefusal::Expired => "expired",
            ProbeRefusal::NonceReused => "nonce-reused",
            ProbeRefusal::SessionUnknown => "session-unknown",
            ProbeRefusal::SizeDenied => "size-denied",
            ProbeRefusal::FetchFailed => "fetch-failed",
            ProbeRefusal::EndpointUntrusted => "endpoint-untrusted",
        }
    }
}

/// What the node knows when a request comes in.
pub struct ProbeContext<'a> {
    /// Its NodeID.
    pub node_id: &'a str,
    /// Who signs requests.
    pub coordinator: &'a PublicKey,
    /// The corrected clock.
    pub now: Unix,
    /// Endpoints that owner and coordinator both approve.
    pub approved: &'a [ProbeHost],
    /// Whether plain HTTP on port 80 may be used.
    pub allow_plain: bool,
    /// Ports that stand beside 443 (`lab.ports`); empty in a release.
    pub extra_ports: &'a [u16],
    /// Whether a nonce was answered before.
    pub answered: &'a dyn Fn(&str) -> bool,
    /// Whether a session is active.
    pub active: &'a dyn Fn(&str) -> bool,
}

/// Why a request gets no answer but an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The coordinator did not sign it.
    Forged,
    /// It names no session that an answer could name.
    Session,
    /// Nor a nonce.
    Nonce,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoAnswer::Forged => "the coordinator's signature on a probe request is not valid",
            NoAnswer::Session => "a probe request names no session",
            NoAnswer::Nonce => "a probe request has no usable nonce",
        })
    }
}

/// A request that is to be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Challenge {
    /// Whose session.
    pub session_id: String,
    /// To be used once.
    pub nonce: String,
    /// What to do.
    pub plan: Result<Plan, ProbeRefusal>,
}

/// A fetch that is allowed as far as its request goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whose session.
    pub session_id: String,
    /// To be sent and to be found in the trailer.
    pub nonce: String,
    /// Content bytes.
    pub size: u64,
    /// Until when the last byte must be here.
    pub deadline: Unix,
    /// What to get, query included.
    pub url: Url,
    /// Who signs the content.
    pub key: PublicKey,
}

/// What a fetch has measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Request sent to last content byte, ms.
    pub duration_ms: u64,
    /// TCP connect, ms.
    pub rtt_ms: u64,
    /// TCP connected to handshake done, ms; 0 over plain HTTP.
    pub tls_ms: u64,
    /// The hash of the content as received.
    pub hash: blake3::Hash,
    /// What came after the content.
    pub trailer: Vec<u8>,
}

/// The endpoint's word for its content, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    content_hash: String,
    server_time: String,
    endpoint_sig: String,
}

/// Judges a request. `Err` is one that gets no answer but an alert: not the coordinator's, or nothing that an answer
/// could name.
pub fn judge(request: &Value, context: &ProbeContext<'_>) -> Result<Challenge, NoAnswer> {
    if !verify(Kind::ProbeRequest, request, context.coordinator) && !mutant::out("probe-signature") {
        return Err(NoAnswer::Forged);
    }
    let text = |name: &str| request.member(name).and_then(Value::as_str);
    let session_id = text("sessionId").filter(|s| s.len() <= 64).ok_or(NoAnswer::Session)?;
    let printable = |n: &&str| (1..=MAX_NONCE).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_graphic());
    let nonce = text("nonce").filter(printable).ok_or(NoAnswer::Nonce)?;
    Ok(Challenge {
        session_id: session_id.to_owned(),
        nonce: nonce.to_owned(),
        plan: plan(request, session_id, nonce, context),
    })
}

fn plan(
    request: &Value,
    session_id: &str,
    nonce: &str,
    context: &ProbeContext<'_>,
) -> Result<Plan, ProbeRefusal> {
    let now = context.now.0;
    let own = request.member("nodeId").and_then(Value::as_str) == Some(context.node_id);
    if !own && !mutant::out("probe-audience") {
        return Err(ProbeRefusal::WrongNode);
    }
    let f = Fields::of(request).map_err(|_| ProbeRefusal::Stale)?;
    let issued = instant(&f, "issuedAt").map_err(|_| ProbeRefusal::Stale)?.0;
    if (issued > now + AHEAD_S || issued < now - OLD_S) && !mutant::out("probe-age") {
        return Err(ProbeRefusal::Stale);
    }
    let (endpoint, key) = endpoint(request, context).ok_or(ProbeRefusal::EndpointDenied)?;
    let ttl = f.int("ttl", TTLS).map_err(|_| ProbeRefusal::Expired)?;
    let deadline = Unix(issued + ttl);
    if deadline.0 <= now {
        return Err(ProbeRefusal::Expired);
    }
    if (context.answered)(nonce) && !mutant::out("probe-once") {
        return Err(ProbeRefusal::NonceReused);
    }
    if !(context.active)(session_id) {
        return Err(ProbeRefusal::SessionUnknown);
    }
    let sizes = if mutant::out("probe-size") { 0..=crate::json::MAX_INTEGER } else { SIZES };
    let size = f.int("size", sizes).map_err(|_| ProbeRefusal::SizeDenied)?.unsigned_abs();
    let query = format!("nonce={}&size={size}", percent_encode(nonce));
    let url = Url { query: Some(query), ..endpoint };
    Ok(Plan { session_id: session_id.to_owned(), nonce: nonce.to_owned(), size, deadline, url, key })
}

/// The endpoint's URL and key, if it is of the contract's form and approved.
fn endpoint(request: &Value, context: &ProbeContext<'_>) -> Option<(Url, PublicKey)> {
    let url = Url::parse(request.member("endpoint")?.as_str()?).ok().filter(|u| u.query.is_none())?;
    let port = url.origin.port;
    let allowed = if url.origin.secure {
        port == 443 || context.extra_ports.contains(&port)
    } else {
        context.allow_plain && (port == 80 || context.extra_ports.contains(&port))
    };
    let host =
        context.approved.iter().find(|h| h.host == url.origin.host || mutant::out("probe-approved"))?;
    allowed.then_some((url, host.public_key))
}

/// Verifies what came after the content against the node's own hash and the endpoint's key.
pub fn trailer(plan: &Plan, measured: &Measured) -> Result<Trailer, ProbeRefusal> {
    read_trailer(plan, measured).ok_or(ProbeRefusal::EndpointUntrusted)
}

fn read_trailer(plan: &Plan, measured: &Measured) -> Option<Trailer> {
    let bytes = &measured.trailer;
    if bytes.len() > MAX_TRAILER {
        return None;
    }
    let value = json::parse(bytes).ok()?;
    let text = |name: &str| value.member(name).and_then(Value::as_str);
    let same_nonce = text("nonce")? == plan.nonce;
    let same_size = value.member("size")?.as_int() == i64::try_from(plan.size).ok();
    let content_hash = text("contentHash")?.to_owned();
    let server_time = text("serverTime").filter(|t| Unix::parse(t).is_some())?.to_owned();
    let ours = content_hash == b3(&measured.hash) && same_nonce && same_size;
    let endpoint_sig = text("endpointSig")?.to_owned();
    (ours && verify(Kind::ProbeContent, &value, &plan.key)).then_some(Trailer {
        content_hash,
        server_time,
        endpoint_sig,
    })
}

/// The signed report of a probe that passed.
pub fn report(plan: &Plan, measured: &Measured, trailer: &Trailer, key: &NodeKey) -> Value {
    let mut out = object([
        ("sessionId", plan.session_id.as_str().into()),
        ("nodeId", key.node_id().into()),
        ("nonce", plan.nonce.as_str().into()),
        ("bytes", plan.size.into()),
        ("durationMs", measured.duration_ms.into()),
        ("rttMs", measured.rtt_ms.into()),
        ("tlsMs", measured.tls_ms.into()),
        ("contentHash", trailer.content_hash.as_str().into()),
        ("serverTime", trailer.server_time.as_str().into()),
        ("endpointSig", trailer.endpoint_sig.as_str().into()),
    ]);
    sign(Kind::ProbeReport, &mut out, key);
    out
}

/// The signed report of a probe that was refused.
pub fn refusal(session_id: &str, nonce: &str, reason: ProbeRefusal, key: &NodeKey) -> Value {
    let mut out = object([
        ("sessionId", session_id.into()),
        ("nodeId", key.node_id().into()),
        ("nonce", nonce.into()),
        ("refused", reason.slug().into()),
    ]);
    sign(Kind::ProbeReport, &mut out, key);
    out
}

/// What an endpoint appends to its content, signed; for tests and golden files.
pub fn endpoint_trailer(nonce: &str, size: u64, content: &blake3::Hash, at: Unix, key: &NodeKey) -> Value {
    let mut out = object([
        ("nonce", nonce.into()),
        ("size", size.into()),
        ("contentHash", b3(content).into()),
        ("serverTime", at.to_string().into()),
    ]);
    let bytes = crate::signed::signed_bytes(Kind::ProbeContent, &out);
    out.set(Kind::ProbeContent.member(), base64(&key.sign(&bytes)));
    out
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

//! What the coordinator signs: `open`, `close` and `policy`, verified and judged. Pure.
use super::profile::short;
pub use super::profile::{
    COMPLIANT_DEFAULT, MAX_ENTRIES, PolicyProfile, category_allowed, limits, ports_allowed, profile,
};
use super::wire::instant;
use crate::config::SessionLimits;
use crate::encoding::is_b3;
use crate::json::{FieldError, Fields, Value};
use crate::mutant;
use crate::signed::{Kind, PublicKey, verify};
use crate::time::Unix;

/// Seconds by which an order may be ahead of the corrected clock.
pub const AHEAD_S: i64 = 60;
/// Seconds after which an `open` or a probe request is too old.
pub const OLD_S: i64 = 600;
/// A session that may be opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// Lower-case UUID.
    pub session_id: String,
    /// When the coordinator made the order.
    pub issued_at: Unix,
    /// From when it carries.
    pub not_before: Unix,
    /// Until when it carries.
    pub expires_at: Unix,
    /// `b3:` hash of the token.
    pub token_hash: String,
    /// Who buys, as named by the coordinator.
    pub buyer: String,
    /// What for.
    pub category: String,
    /// Where from.
    pub regions: Vec<String>,
    /// The rules.
    pub profile: PolicyProfile,
    /// The coordinator's limits; the owner's hold as well.
    pub limits: SessionLimits,
    /// The object as received.
    pub raw: Value,
}

/// Why an `open` is refused; the order of the variants is the contract's order of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is its slug, explained in docs/protocol.md")]
pub enum OpenRefusal {
    BadSignature,
    WrongNode,
    Stale,
    Malformed,
    NotYetValid,
    Expired,
    DuplicateSession,
    RegionDenied,
    CategoryDenied,
    PortDenied,
    TransportUnsupported,
    Paused,
    OutsideSchedule,
    Quarantined,
    GuardDown,
    Capacity,
}

impl OpenRefusal {
    /// The `reason` of the `refused` transition.
    pub fn slug(self) -> &'static str {
        match self {
            OpenRefusal::BadSignature => "bad-signature",
            OpenRefusal::WrongNode => "wrong-node",
            OpenRefusal::Stale => "stale",
            OpenRefusal::Malformed => "malformed",
            OpenRefusal::NotYetValid => "not-yet-valid",
            OpenRefusal::Expired => "expired",
            OpenRefusal::DuplicateSession => "duplicate-session",
            OpenRefusal::RegionDenied => "region-denied",
            OpenRefusal::CategoryDenied => "category-denied",
            OpenRefusal::PortDenied => "port-denied",
            OpenRefusal::TransportUnsupported => "transport-unsupported",
            OpenRefusal::Paused => "paused",
            OpenRefusal::OutsideSchedule => "outside-schedule",
            OpenRefusal::Quarantined => "quarantined",
            OpenRefusal::GuardDown => "guard-down",
            OpenRefusal::Capacity => "capacity",
        }
    }
}

/// What the node is when an `open` comes in.
pub struct OpenContext<'a> {
    /// Its NodeID.
    pub node_id: &'a str,
    /// Who signs.
    pub coordinator: &'a PublicKey,
    /// The corrected clock.
    pub now: Unix,
    /// The fingerprint (see [`fingerprint`]) of the `open` under which a session was first known, kept to
    /// `expiresAt` + 24 h.
    pub known: &'a dyn Fn(&str) -> Option<String>,
    /// The owner's regions.
    pub region_allow: &'a [String],
    /// The region last observed with confidence ≥ 0.8; `None` until then.
    pub observed_region: Option<&'a str>,
    /// Categories the owner does not serve.
    pub category_opt_out: &'a [String],
    /// Ports that stand beside 443 (`lab.ports`); empty in a release.
    pub extra_ports: &'a [u16],
    /// The ways to this node: of `relay`, `tunnel`, `lease`.
    pub transports: &'a [&'a str],
    /// Owner has paused.
    pub paused: bool,
    /// The schedule is closed.
    pub outside_schedule: bool,
    /// In quarantine.
    pub quarantined: bool,
    /// No firewall table in force.
    pub guard_down: bool,
    /// Whether one more session fits.
    pub has_capacity: bool,
}

/// What is to be done about an `open`.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// The same object was answered before.
    Ignore,
    /// Open it.
    Accept(Box<Open>),
    /// Answer `refused`.
    Refuse {
        /// Of the object, if it has a well-formed one; nothing can be answered without.
        session_id: Option<String>,
        /// The first reason that applies.
        reason: OpenRefusal,
        /// Until when the id and the fingerprint are to be kept; `None` if the object was not the coordinator's to this
        /// node or its id stands for another object already.
        remember_until: Option<Unix>,
    },
}

/// What tells one signed object from another: `b3:` hash of the canonical form, the signature included.
pub fn fingerprint(object: &Value) -> String {
    crate::encoding::b3(&blake3::hash(object.canonical().as_bytes()))
}

/// Judges an `open` by the contract's list, first reason first.
pub fn judge_open(object: &Value, context: &OpenContext<'_>) -> Judgement {
    let id = object.member("sessionId").and_then(Value::as_str).filter(|id| is_session_id(id));
    let known = id.and_then(|id| (context.known)(id));
    if known.as_ref().is_some_and(|k| *k == fingerprint(object)) {
        return Judgement::Ignore;
    }
    match open(object, context, known.is_some()) {
        Ok(open) => Judgement::Accept(Box::new(open)),
        Err(reason) => {
            let genuine = reason > OpenRefusal::WrongNode && known.is_none() && id.is_some();
            let expires = object.member("expiresAt").and_then(Value::as_str).and_then(Unix::parse);
            // Beyond ten minutes the object is stale anyway; a day covers clocks that are corrected meanwhile.
            let until =
                Unix(expires.map_or(context.now.0, |e| e.0.clamp(context.now.0, context.now.0 + WEEK)) + DAY);
            let remember_until = genuine.then_some(until);
            Judgement::Refuse { session_id: id.map(str::to_owned), reason, remember_until }
        }
    }
}

const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;

fn open(object: &Value, context: &OpenContext<'_>, known: bool) -> Result<Open, OpenRefusal> {
    if !verify(Kind::SessionOpen, object, context.coordinator) && !mutant::out("order-signature") {
        return Err(OpenRefusal::BadSignature);
    }
    if !is_for(object, context.node_id) {
        return Err(OpenRefusal::WrongNode);
    }
    let issued = object.member("issuedAt").and_then(Value::as_str).and_then(Unix::parse);
    let now = context.now;
    let stale = issued.is_some_and(|i| i.0 > now.0 + AHEAD_S || i.0 < now.0 - OLD_S);
    if stale && !mutant::out("order-age") {
        return Err(OpenRefusal::Stale);
    }
    let open = read_open(object).map_err(|_| OpenRefusal::Malformed)?;
    if open.not_before.0 > now.0 + AHEAD_S && !mutant::out("order-not-before") {
        return Err(OpenRefusal::NotYetValid);
    }
    if open.expires_at <= now && !mutant::out("order-expired") {
        return Err(OpenRefusal::Expired);
    }
    if known && !mutant::out("order-once") {
        return Err(OpenRefusal::DuplicateSession);
    }
    terms(&open, context)?;
    Ok(open)
}

/// What the owner and the node's state have to say to a well-formed order.
fn terms(open: &Open, context: &OpenContext<'_>) -> Result<(), OpenRefusal> {
    let current = context.observed_region.or(context.region_allow.first().map(String::as_str));
    let here = |r: &String| Some(r.as_str()) == current && context.region_allow.contains(r);
    let offered = |t: &String| context.transports.contains(&t.as_str());
    let category = category_allowed(&open.category, context.category_opt_out);
    let ports = ports_allowed(&open.profile, context.extra_ports);
    let checks = [
        (open.regions.iter().any(here) || mutant::out("order-region"), OpenRefusal::RegionDenied),
        (category || mutant::out("order-category"), OpenRefusal::CategoryDenied),
        (ports || mutant::out("order-ports"), OpenRefusal::PortDenied),
        (open.profile.transports.iter().any(offered), OpenRefusal::TransportUnsupported),
        (!context.paused, OpenRefusal::Paused),
        (!context.outside_schedule, OpenRefusal::OutsideSchedule),
        (!context.quarantined, OpenRefusal::Quarantined),
        (!context.guard_down, OpenRefusal::GuardDown),
        (context.has_capacity, OpenRefusal::Capacity),
    ];
    checks.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, refusal)| Err(*refusal))
}

/// A lower-case UUID.
pub fn is_session_id(text: &str) -> bool {
    let hyphen = |i| matches!(i, 8 | 13 | 18 | 23);
    let fits = |(i, b): (usize, u8)| {
        if hyphen(i) { b == b'-' } else { b.is_ascii_digit() || (b'a'..=b'f').contains(&b) }
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

fn read_open(object: &Value) -> Result<Open, FieldError> {
    let f = Fields::of(object)?;
    let session_id = f.str("sessionId")?;
    if !is_session_id(session_id) {
        return Err(f.error("sessionId", "must be a lower-case UUID"));
    }
    let token_hash = f.str("tokenHash")?;
    if !is_b3(token_hash) {
        return Err(f.error("tokenHash", "must be b3: and 64 hexadecimal digits"));
    }
    let (not_before, expires_at) = (instant(&f, "notBefore")?, instant(&f, "expiresAt")?);
    if expires_at <= not_before && !mutant::out("order-life") {
        return Err(f.error("expiresAt", "must be after notBefore"));
    }
    Ok(Open {
        session_id: session_id.to_owned(),
        issued_at: instant(&f, "issuedAt")?,
        not_before,
        expires_at,
        token_hash: token_hash.to_owned(),
        buyer: short(&f, "buyer")?,
        category: short(&f, "category")?,
        regions: f.strings("regions")?,
        profile: profile(&f.object("policyProfile")?)?,
        limits: limits(&f.object("limits")?)?,
        raw: object.clone(),
    })
}

/// Why a `close` or `policy` is not applied. None of them is answered; the first four are worth an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderFault {
    /// Not the coordinator's.
    BadSignature,
    /// Another node's.
    WrongNode,
    /// Over a minute ahead of the corrected clock.
    Stale,
    /// A member that is missing or wrong.
    Malformed(FieldError),
    /// Older than the last one applied.
    Superseded,
}

impl OrderFault {
    /// A short name for alert and log.
    pub fn slug(&self) -> &'static str {
        match self {
            OrderFault::BadSignature => "bad-signature",
            OrderFault::WrongNode => "wrong-node",
            OrderFault::Stale => "stale",
            OrderFault::Malformed(_) => "malformed",
            OrderFault::Superseded => "superseded",
        }
    }
}

impl From<FieldError> for OrderFault {
    fn from(e: FieldError) -> OrderFault {
        OrderFault::Malformed(e)
    }
}

/// Who the node is, for `close` and `policy`.
pub struct OrderContext<'a> {
    /// Its NodeID.
    pub node_id: &'a str,
    /// Who signs.
    pub coordinator: &'a PublicKey,
    /// The corrected clock.
    pub now: Unix,
}

/// A session is to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Close {
    /// Which.
    pub session_id: String,
    /// When the coordinator made the order.
    pub issued_at: Unix,
    /// `buyer-ended`, `budget`, `policy` or `coordinator`.
    pub reason: &'static str,
}

/// New rules for one session, or for every one that is open now.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyOrder {
    /// Which; `None` is every session open now.
    pub session_id: Option<String>,
    /// When the coordinator made the order.
    pub issued_at: Unix,
    /// Replaces the old one whole.
    pub profile: PolicyProfile,
    /// Replace the old ones whole.
    pub limits: SessionLimits,
    /// The object as received.
    pub raw: Value,
}

/// Verifies a `close`. `last_applied` gives the `issuedAt` of the last one applied to a session.
pub fn judge_close(
    object: &Value,
    context: &OrderContext<'_>,
    last_applied: &dyn Fn(&str) -> Option<Unix>,
) -> Result<Close, OrderFault> {
    let issued_at = authentic(Kind::SessionClose, object, context)?;
    let f = Fields::of(object)?;
    let session_id = f.str("sessionId")?.to_owned();
    let reason = ["buyer-ended", "budget", "policy", "coordinator"].into_iter();
    let named = f.str("reason")?;
    let reason = reason.into_iter().find(|r| *r == named);
    let reason = reason.ok_or_else(|| f.error("reason", format!("{named:?} is none of the contract's")))?;
    if last_applied(&session_id).is_some_and(|last| issued_at < last) {
        return Err(OrderFault::Superseded);
    }
    Ok(Close { session_id, issued_at, reason })
}

/// Verifies a `policy`. `last_applied` gives the `issuedAt` of the last one applied to a session, or to all (`None`).
pub fn judge_policy(
    object: &Value,
    context: &OrderContext<'_>,
    last_applied: &dyn Fn(Option<&str>) -> Option<Unix>,
) -> Result<PolicyOrder, OrderFault> {
    let issued_at = authentic(Kind::Policy, object, context)?;
    let f = Fields::of(object)?;
    let session_id = f.opt_str("sessionId")?.map(str::to_owned);
    if session_id.is_none() && object.member("sessionId").is_none() {
        return Err(f.error("sessionId", "is missing; null means every session").into());
    }
    let (profile, limits) = (profile(&f.object("policyProfile")?)?, limits(&f.object("limits")?)?);
    if last_applied(session_id.as_deref()).is_some_and(|last| issued_at < last) {
        return Err(OrderFault::Superseded);
    }
    Ok(PolicyOrder { session_id, issued_at, profile, limits, raw: object.clone() })
}

/// Whether an order names this node.
fn is_for(object: &Value, node_id: &str) -> bool {
    object.member("nodeId").and_then(Value::as_str) == Some(node_id) || mutant::out("order-audience")
}

/// Signature, audience, and age as far as it matters for orders that may have been queued.
fn authentic(kind: Kind, object: &Value, context: &OrderContext<'_>) -> Result<Unix, OrderFault> {
    if !verify(kind, object, context.coordinator) && !mutant::out("order-signature") {
        return Err(OrderFault::BadSignature);
    }
    if !is_for(object, context.node_id) {
        return Err(OrderFault::WrongNode);
    }
    let issued_at = instant(&Fields::of(object)?, "issuedAt")?;
    let ahead = issued_at.0 > context.now.0 + AHEAD_S && !mutant::out("order-age");
    if ahead { Err(OrderFault::Stale) } else { Ok(issued_at) }
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;

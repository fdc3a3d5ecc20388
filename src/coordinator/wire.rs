//! The coordinator's answers and the node's messages as values. Pure; whatever comes off the wire is read strictly,
//! members that this version does not know are ignored.
use crate::json::{self, FieldError, Fields, MAX_INTEGER, Value, object};
use crate::mutant;
use crate::policy::hosts::normal;
use crate::signed::PublicKey;
use crate::time::Unix;
use std::fmt;

/// Most signals in one answer, most bundles in one post, longest cursor in bytes.
pub const MAX_SIGNALS: usize = 20;
/// Most bundles in one `POST /attest/metering`.
pub const MAX_BUNDLES: usize = 64;
/// Longest cursor, in bytes.
pub const MAX_CURSOR: usize = 64;
/// Most probe hosts and lists in a registration's answer.
pub const MAX_HOSTS: usize = 256;

/// Why a message of the coordinator cannot be read. It is the coordinator's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// No JSON, or JSON that the contract refuses.
    Json(json::Error),
    /// A member that is missing, of the wrong type or out of range.
    Field(FieldError),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Json(e) => write!(f, "no valid JSON: {e}"),
            WireError::Field(e) => write!(f, "member {e}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<json::Error> for WireError {
    fn from(e: json::Error) -> WireError {
        WireError::Json(e)
    }
}

impl From<FieldError> for WireError {
    fn from(e: FieldError) -> WireError {
        WireError::Field(e)
    }
}

/// A trusted endpoint that may be probed.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeHost {
    /// Its name, normal form, without port.
    pub host: String,
    /// The key that signs its content.
    pub public_key: PublicKey,
    /// Degrees, if known.
    pub position: Option<(f64, f64)>,
}

/// A category or block list, to be verified by `hash` before use.
#[derive(Clone, Debug, PartialEq)]
pub struct ListRef {
    /// Its name.
    pub name: String,
    /// Its version, as text.
    pub version: String,
    /// Where it is.
    pub url: String,
    /// `b3:` hash of its bytes.
    pub hash: String,
    /// The signed object (type `list`) as received.
    pub raw: Value,
}

/// The answer to `POST /nodes/register`.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// As text, whatever its type.
    pub policy_version: String,
    /// Between two heartbeats.
    pub heartbeat_interval_ms: u64,
    /// The coordinator's clock.
    pub server_time: Unix,
    /// Endpoints that may be probed.
    pub probe_hosts: Vec<ProbeHost>,
    /// Lists to fetch.
    pub lists: Vec<ListRef>,
    /// PEM chain for the listener's key.
    pub certificate: Option<String>,
}

/// Where the coordinator sees the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Public address, as text.
    pub address: String,
    /// Region.
    pub region: String,
    /// 0 to 1.
    pub confidence: f64,
}

/// The answer to `POST /nodes/heartbeat`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeartbeatAnswer {
    /// `{creditsToday, emshBonusForecast, reputation{score,tier}}`, for the status.
    pub account: Value,
    /// Where the node is seen, if the coordinator knows.
    pub observed: Option<Observed>,
    /// The coordinator's clock.
    pub server_time: Unix,
}

/// One signal of the control poll. Its body is signed and judged by [`super::orders`].
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Where it stands.
    pub cursor: String,
    /// `open`, `close`, `policy`, or one that this version does not know.
    pub kind: String,
    /// The signed object as received.
    pub body: Value,
}

/// The answer to `GET /sessions/control`.
#[derive(Clone, Debug, PartialEq)]
pub struct Signals {
    /// Oldest first, at most [`MAX_SIGNALS`].
    pub signals: Vec<Signal>,
    /// What the next poll acknowledges.
    pub cursor: String,
}

/// What became of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleStatus {
    /// Taken.
    Accepted,
    /// Taken before.
    Duplicate,
    /// Refused for good, with the coordinator's reason.
    Refused(String),
}

/// The coordinator's word on one bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleResult {
    /// Whose bundle.
    pub session_id: String,
    /// Which window.
    pub window_start: Unix,
    /// Which number.
    pub seq: u64,
    /// What became of it.
    pub status: BundleStatus,
}

/// The answer to `POST /attest/metering`.
#[derive(Clone, Debug, PartialEq)]
pub struct MeteringAnswer {
    /// One result per bundle.
    pub results: Vec<BundleResult>,
    /// Whatever the coordinator counts, for the status.
    pub credits_today: Value,
}

/// The answer to `POST /probes/report`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportAnswer {
    /// A follow-up, as received.
    pub probe: Option<Value>,
}

/// An error of RFC 9457.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// `type`: the bare slug; empty if the body is no problem document.
    pub slug: String,
    /// A sentence for a person.
    pub detail: String,
    /// The coordinator's clock, with 401.
    pub server_time: Option<Unix>,
}

/// Reads the answer to a registration.
pub fn registered(body: &[u8]) -> Result<Registered, WireError> {
    let value = json::parse(body)?;
    let f = Fields::of(&value)?;
    let policy_version = text_of(&f, "policyVersion")?;
    // A tenth of a second is for the lab; a coordinator that asks for less would keep the router busy.
    let interval = f.int("heartbeatIntervalMs", 100..=86_400_000)?;
    let hosts = bounded(&f, "probeHosts")?.iter().map(probe_host).collect::<Result<_, _>>()?;
    let lists = bounded(&f, "lists")?;
    let raws = f.array("lists")?;
    let lists = lists.iter().zip(raws).map(|(l, raw)| list(l, raw)).collect::<Result<_, _>>()?;
    Ok(Registered {
        policy_version,
        heartbeat_interval_ms: interval.unsigned_abs(),
        server_time: instant(&f, "serverTime")?,
        probe_hosts: hosts,
        lists,
        certificate: f.opt_str("certificate")?.map(str::to_owned),
    })
}

/// Reads the answer to a heartbeat.
pub fn heartbeat_answer(body: &[u8]) -> Result<HeartbeatAnswer, WireError> {
    let value = json::parse(body)?;
    let f = Fields::of(&value)?;
    let observed = f.opt_object("observed")?.map(|o| observed(&o)).transpose()?;
    let account = f.get("account").cloned().unwrap_or(Value::Null);
    Ok(HeartbeatAnswer { account, observed, server_time: instant(&f, "serverTime")? })
}

/// Reads the answer to a control poll.
pub fn signals(body: &[u8]) -> Result<Signals, WireError> {
    let value = json::parse(body)?;
    let f = Fields::of(&value)?;
    let items = f.objects("signals")?;
    if items.len() > MAX_SIGNALS && !mutant::out("answer-signals") {
        return Err(f.error("signals", format!("has more than {MAX_SIGNALS}")).into());
    }
    let signals = items.iter().map(|s| {
        let body = s.required("body")?.clone();
        Ok(Signal { cursor: cursor(s)?, kind: s.str("type")?.to_owned(), body })
    });
    Ok(Signals { signals: signals.collect::<Result<_, FieldError>>()?, cursor: cursor(&f)? })
}

/// Reads the answer to a transition: an object, whatever it holds.
pub fn transition_answer(body: &[u8]) -> Result<(), WireError> {
    let value = json::parse(body)?;
    Fields::of(&value)?;
    Ok(())
}

/// Reads the answer to a post of bundles.
pub fn metering_answer(body: &[u8]) -> Result<MeteringAnswer, WireError> {
    let value = json::parse(body)?;
    let f = Fields::of(&value)?;
    let results = f.objects("results")?;
    if results.len() > MAX_BUNDLES {
        return Err(f.error("results", format!("has more than {MAX_BUNDLES}")).into());
    }
    let results = results.iter().map(bundle_result).collect::<Result<_, _>>()?;
    let credits_today = f.get("creditsToday").cloned().unwrap_or(Value::Null);
    Ok(MeteringAnswer { results, credits_today })
}

/// Reads a probe request (200 of `GET /probes/request`); it is judged by [`crate::probe::plan`].
pub fn probe_request(body: &[u8]) -> Result<Value, WireError> {
    let value = json::parse(body)?;
    Fields::of(&value)?;
    Ok(value)
}

/// Reads the answer to a probe report.
pub fn report_answer(body: &[u8]) -> Result<ReportAnswer, WireError> {
    let value = json::parse(body)?;
    let f = Fields::of(&value)?;
    let probe = f.opt_object("probe")?.and(f.get("probe")).cloned();
    Ok(ReportAnswer { probe })
}

/// Reads an error body; what is no problem document gives an empty one.
pub fn problem(body: &[u8]) -> Problem {
    let Ok(value) = json::parse(body) else { return Problem::default() };
    let text = |name| value.member(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let server_time = value.member("serverTime").and_then(Value::as_str).and_then(Unix::parse);
    Problem { slug: text("type"), detail: clip(&text("detail")), server_time }
}

/// The body of a transition; `reason`, `limits` and `totals` where they belong.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Whose.
    pub session_id: String,
    /// `accepted`, `refused`, `active`, `closing` or `settled`.
    pub transition: &'static str,
    /// When, corrected clock.
    pub at: Unix,
    /// Of `refused` and `closing`.
    pub reason: Option<String>,
    /// Of `accepted`.
    pub limits: Option<Value>,
    /// Of `settled`.
    pub totals: Option<Value>,
}

impl Transition {
    /// The body to post.
    pub fn to_value(&self) -> Value {
        let mut out = object([
            ("sessionId", self.session_id.as_str().into()),
            ("transition", self.transition.into()),
            ("at", self.at.to_string().into()),
        ]);
        if let Some(reason) = &self.reason {
            out.set("reason", reason.as_str());
        }
        for (name, part) in [("limits", &self.limits), ("totals", &self.totals)] {
            if let Some(part) = part {
                out.set(name, part.clone());
            }
        }
        out
    }
}

/// A member that must be an instant.
pub fn instant(f: &Fields<'_>, name: &str) -> Result<Unix, FieldError> {
    let text = f.str(name)?;
    Unix::parse(text).ok_or_else(|| f.error(name, format!("{text:?} is not YYYY-MM-DDTHH:MM:SSZ")))
}

fn probe_host(f: &Fields<'_>) -> Result<ProbeHost, FieldError> {
    let host = normal(f.str("host")?).ok_or_else(|| f.error("host", "must be a host name"))?;
    let key = PublicKey::parse(f.str("publicKey")?);
    let public_key = key.ok_or_else(|| f.error("publicKey", "must be base64 of 32 bytes"))?;
    let position = f.opt_number("latitude")?.zip(f.opt_number("longitude")?);
    Ok(ProbeHost { host, public_key, position })
}

fn list(f: &Fields<'_>, raw: &Value) -> Result<ListRef, FieldError> {
    let hash = f.str("hash")?;
    if !crate::encoding::is_b3(hash) {
        return Err(f.error("hash", "must be b3: and 64 hexadecimal digits"));
    }
    Ok(ListRef {
        name: f.str("name")?.to_owned(),
        version: text_of(f, "version")?,
        url: f.str("url")?.to_owned(),
        hash: hash.to_owned(),
        raw: raw.clone(),
    })
}

fn observed(f: &Fields<'_>) -> Result<Observed, FieldError> {
    let confidence = f.number("confidence")?;
    if !(0.0..=1.0).contains(&confidence) {
        return Err(f.error("confidence", format!("{confidence} is not within 0 to 1")));
    }
    let address = f.opt_str("address")?.unwrap_or_default().to_owned();
    Ok(Observed { address, region: f.str("region")?.to_owned(), confidence })
}

fn bundle_result(f: &Fields<'_>) -> Result<BundleResult, FieldError> {
    let reason = f.opt_str("reason")?.unwrap_or("without a reason");
    let status = match f.str("status")? {
        "accepted" => BundleStatus::Accepted,
        "duplicate" => BundleStatus::Duplicate,
        "refused" => BundleStatus::Refused(clip(reason)),
        other => return Err(f.error("status", format!("{other:?} is not accepted, duplicate or refused"))),
    };
    Ok(BundleResult {
        session_id: f.str("sessionId")?.to_owned(),
        window_start: instant(f, "windowStart")?,
        seq: f.int("seq", 0..=MAX_INTEGER)?.unsigned_abs(),
        status,
    })
}

fn cursor(f: &Fields<'_>) -> Result<String, FieldError> {
    let text = f.str("cursor")?;
    let long = text.len() > MAX_CURSOR && !mutant::out("cursor-length");
    if long || (!text.is_ascii() && !mutant::out("cursor-ascii")) {
        return Err(f.error("cursor", format!("must be ASCII of at most {MAX_CURSOR} bytes")));
    }
    Ok(text.to_owned())
}

fn bounded<'a>(f: &Fields<'a>, name: &str) -> Result<Vec<Fields<'a>>, FieldError> {
    if f.get(name).is_none() {
        return Ok(Vec::new());
    }
    let items = f.objects(name)?;
    if items.len() > MAX_HOSTS && !mutant::out("answer-lists") {
        Err(f.error(name, format!("has more than {MAX_HOSTS}")))
    } else {
        Ok(items)
    }
}

/// A version: text or a number.
fn text_of(f: &Fields<'_>, name: &str) -> Result<String, FieldError> {
    match f.required(name)? {
        Value::String(s) => Ok(s.clone()),
        number @ (Value::Int(_) | Value::Float(_)) => Ok(number.canonical()),
        other => Err(f.error(name, format!("must be a string or a number, not {}", other.type_name()))),
    }
}

/// At most 200 characters of a text that goes into a log or a status.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;

//! What the coordinator's client asks of the node and tells it.
use super::link::LinkStatus;
use super::wire::{BundleResult, HeartbeatAnswer, ProbeHost, Problem, Registered, Signal};
use crate::json::Value;
use crate::probe::plan::ProbeRefusal;
use std::net::IpAddr;

/// Something that waits to be posted, in the order in which the node wants it posted.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// The body of a transition (see [`super::wire::Transition`]).
    Transition(Value),
    /// At most [`super::wire::MAX_BUNDLES`] signed bundles.
    Bundles(Vec<Value>),
}

/// What became of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The coordinator has it.
    Taken,
    /// Refused for good.
    Refused(Problem),
}

/// The node, as the client sees it. All methods return at once; what they are told to keep is durable when they return.
pub trait Node {
    /// The body of `POST /nodes/register`.
    fn registration(&self) -> Value;
    /// It was answered.
    fn registered(&self, answer: Registered);
    /// The body of `POST /nodes/heartbeat`.
    fn heartbeat(&self) -> Value;
    /// It was answered.
    fn heartbeat_answered(&self, answer: HeartbeatAnswer);

    /// The cursor up to which signals are durable; empty at first.
    fn cursor(&self) -> String;
    /// Applies signals, oldest first, and makes their effect and the new cursor durable in one write. An error means that
    /// nothing was kept: the same signals will come again.
    fn apply_signals(&self, signals: Vec<Signal>, cursor: String) -> Result<(), String>;

    /// The first of what waits to be posted; it is asked for again until it was answered.
    fn next_outgoing(&self) -> Option<Outgoing>;
    /// What became of a transition; `body` is the one that was posted.
    fn transition_posted(&self, body: &Value, posted: Posted);
    /// What became of bundles; only of such as were posted. `credits_today` is for the status.
    fn bundles_posted(&self, results: Vec<BundleResult>, credits_today: Value);

    /// Endpoints that the owner's config and the registration both approve.
    fn probe_hosts(&self) -> Vec<ProbeHost>;
    /// Whether a session is active.
    fn is_active(&self, session_id: &str) -> bool;
    /// Whether a probe's nonce was answered before, also before a restart.
    fn nonce_answered(&self, nonce: &str) -> bool;
    /// Remembers a nonce for [`crate::probe::plan::NONCE_KEPT_S`] seconds.
    fn keep_nonce(&self, nonce: &str) -> Result<(), String>;
    /// Whether an address is public (or allowed in the lab).
    fn is_allowed(&self, address: IpAddr) -> bool;
    /// A probe's fetch begins in a session.
    fn probe_started(&self, session_id: &str);
    /// It is over. Also called, without [`Node::probe_started`], for a probe that was refused at once.
    fn probe_ended(&self, session_id: &str, outcome: Result<(), ProbeRefusal>);

    /// A probe request came that the coordinator did not sign, or that it signed for another node.
    fn order_forged(&self);

    /// An endpoint proved itself, and its connect took so long.
    fn probe_measured(&self, host: &str, rtt_ms: u64);

    /// Sets the clock: milliseconds since 1970.
    fn correct_clock(&self, unix_ms: i64);
    /// An alert begins (or goes on) with a sentence, or is over (`None`).
    fn alert(&self, code: &'static str, detail: Option<String>);
    /// The link has changed.
    fn link_changed(&self, status: LinkStatus);
}

/// The certificate is outside its time and the coordinator has never answered: the clock is probably not set.
pub const CLOCK_UNSET: &str = "clock-unset";
/// Whoever answers at the coordinator's address cannot prove to be the coordinator.
pub const COORDINATOR_UNTRUSTED: &str = "coordinator-untrusted";
/// The coordinator's answers break the contract.
pub const COORDINATOR_MALFORMED: &str = "coordinator-malformed";
/// The coordinator refuses for good what the node asks or says.
pub const COORDINATOR_REFUSES: &str = "coordinator-refuses";
/// The coordinator does not take the node's signature.
pub const SIGNATURE_REFUSED: &str = "signature-refused";
/// The coordinator does not want the node.
pub const REGISTER_REFUSED: &str = "register-refused";
/// A probe request that was not the coordinator's, or not for this node.
pub const PROBE_FORGED: &str = "probe-forged";
/// The node's state could not be written.
pub const STATE_NOT_KEPT: &str = "state-not-kept";

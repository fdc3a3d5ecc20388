//! What the API asks of the node.
use super::Problem;
use crate::json::Value;
use crate::time::Unix;
use crate::vault::Passphrase;
use std::future::{Future, ready};
use std::pin::Pin;

/// An answer that takes its time.
pub type Later<T> = Pin<Box<dyn Future<Output = T>>>;

/// What `POST /control` can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Carry traffic again, after a pause or a stop.
    Start,
    /// Refuse and reset flows; the sessions stay.
    Pause,
    /// Close all sessions.
    Stop,
    /// End a quarantine.
    ClearQuarantine,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 4] = [Action::Start, Action::Pause, Action::Stop, Action::ClearQuarantine];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Action::Start => "start",
            Action::Pause => "pause",
            Action::Stop => "stop",
            Action::ClearQuarantine => "clearQuarantine",
        }
    }
}

/// What `GET /logs/export` can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// The access log: a line for each flow.
    Access,
    /// What was billed: bundles as they were signed, and the `settled` body of each session.
    Bundles,
}

impl Archive {
    /// All of them.
    pub const ALL: [Archive; 2] = [Archive::Access, Archive::Bundles];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Archive::Access => "access",
            Archive::Bundles => "bundles",
        }
    }
}

/// Part of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Lines without their line feeds, oldest first.
    pub lines: Vec<String>,
    /// The place of the next line. It is the same line's as long as the process lives, whatever is dropped before it.
    pub next: u64,
    /// Whether there is a next line yet.
    pub more: bool,
}

/// The answer to `GET /healthz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Each thing that was checked, and whether it is well. The node is well if all are.
    pub checks: Vec<(&'static str, bool)>,
}

/// The configuration and its entity tag, without quotes.
pub type Tagged = (Value, String);

/// The node, as the API sees it. What answers [`Later`] may take seconds, all else answers at once.
pub trait Backend {
    /// The body of `GET /status`.
    fn status(&self) -> Value;
    /// Does what the owner asks; `Err` says why it cannot be.
    fn control(&self, action: Action) -> Result<(), Problem>;
    /// The whole configuration.
    fn config(&self) -> Tagged;
    /// Validates, persists and applies a whole configuration, and gives it as it is then. The API has compared the entity
    /// tags.
    fn put_config(&self, document: Value) -> Later<Result<Tagged, Problem>>;
    /// Reads the configuration again, as SIGHUP does, and gives the one that is in force then.
    fn reload(&self) -> Later<Result<Tagged, Problem>>;
    /// The open sessions: an array.
    fn sessions(&self) -> Value;
    /// Closes a session; [`Problem::session_unknown`] if there is none.
    fn close_session(&self, id: &str) -> Result<(), Problem>;
    /// Pieces of an archive from an instant on, of any size: lines with their line feeds.
    fn export(
        &self,
        archive: Archive,
        since: Option<Unix>,
    ) -> Result<Box<dyn Iterator<Item = Vec<u8>>>, Problem>;
    /// So many lines of an archive from an instant on, beginning at a place that [`Page::next`] told, and fewer where they
    /// have many bytes; `Err` if the place was told by another process.
    fn page(
        &self,
        archive: Archive,
        since: Option<Unix>,
        place: Option<u64>,
        lines: usize,
    ) -> Result<Page, Problem>;
    /// The body of `GET /diagnostics`.
    fn diagnostics(&self) -> Value;
    /// The last lines of the node's own log, for an issue report.
    fn recent_log(&self) -> Vec<String> {
        Vec::new()
    }
    /// Opens the sealed key; the NodeID, once it is open.
    fn unlock(&self, _: Passphrase) -> Later<Result<String, Problem>> {
        Box::pin(ready(Err(Problem::not_locked())))
    }
    /// Whether the node's parts are well.
    fn health(&self) -> Health;
}

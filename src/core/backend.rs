//! The node as the local API sees it.
use super::ledger::random_key;
use super::lifecycle::{CloseReason, NodeEvent, State};
use super::node::Node;
use super::pages::page;
use super::session::Session;
use super::source::Source;
use crate::api::{Action, Archive, Backend, Health, Later, Page, Problem, Tagged, object};
use crate::config::{self, Platform};
use crate::json::Value;
use crate::meter::{Instant, billed_instant, line_instant};
use crate::sys::linux::local_time::reload_time_zone;
use crate::time::Unix;
use std::rc::Rc;

/// The node and where its configuration lives.
pub struct Control {
    /// The node.
    pub node: Rc<Node>,
    /// Where its configuration lives.
    pub source: Source,
    /// Decides defaults.
    pub platform: Platform,
    /// What this process adds to the places of lines: others' are not taken for its own.
    pub epoch: u64,
}

impl Backend for Control {
    fn status(&self) -> Value {
        self.node.status_value()
    }

    fn control(&self, action: Action) -> Result<(), Problem> {
        match action {
            Action::Start => self.node.on(NodeEvent::Start),
            Action::Pause => self.node.on(NodeEvent::Pause),
            Action::Stop => self.node.on(NodeEvent::Stop),
            Action::ClearQuarantine => self.node.clear_quarantine(),
        }
        // The answer shows what came of it, not what is about to come.
        self.node.tick();
        self.node.ledger.ring();
        Ok(())
    }

    fn config(&self) -> Tagged {
        tagged(&self.node)
    }

    fn put_config(&self, document: Value) -> Later<Result<Tagged, Problem>> {
        let (node, source, platform) = (self.node.clone(), self.source.clone(), self.platform);
        Box::pin(async move {
            let config = config::from_value(&document, platform)
                .map_err(|e| Problem::config_invalid(e.problems.iter().map(ToString::to_string).collect()))?;
            source.save(&config).await.map_err(|e| e.problem())?;
            node.config_errors.borrow_mut().clear();
            node.apply_config(config).map_err(|e| Problem::internal(e.to_string()))?;
            Ok(tagged(&node))
        })
    }

    fn reload(&self) -> Later<Result<Tagged, Problem>> {
        let (node, source) = (self.node.clone(), self.source.clone());
        Box::pin(async move {
            match reload(&node, &source).await {
                Ok(()) => Ok(tagged(&node)),
                Err(errors) => Err(Problem::config_invalid(errors)),
            }
        })
    }

    fn sessions(&self) -> Value {
        self.node.sessions_value()
    }

    fn close_session(&self, id: &str) -> Result<(), Problem> {
        let settled = |s: &Rc<Session>| s.machine.borrow().state() == State::Settled;
        let session = self.node.sessions.borrow().get(id).cloned().filter(|s| !settled(s));
        let session = session.ok_or_else(Problem::session_unknown)?;
        let mut records = Vec::new();
        self.node.close(&session, CloseReason::Stopped, &mut records);
        self.node.note(records);
        self.node.ledger.ring();
        Ok(())
    }

    fn export(
        &self,
        archive: Archive,
        since: Option<Unix>,
    ) -> Result<Box<dyn Iterator<Item = Vec<u8>>>, Problem> {
        let lines = match archive {
            Archive::Access => self.node.ledger.log.borrow().export(since),
            Archive::Bundles => {
                let all = self.node.ledger.bundles.borrow().export(None);
                all.map(|lines| billed_since(&lines, since))
            }
        };
        let lines = lines.map_err(|e| Problem::internal(e.to_string()))?;
        Ok(Box::new(std::iter::once(lines)))
    }

    fn page(
        &self,
        archive: Archive,
        since: Option<Unix>,
        place: Option<u64>,
        lines: usize,
    ) -> Result<Page, Problem> {
        let (store, instant): (_, Instant) = match archive {
            Archive::Access => (&self.node.ledger.log, line_instant),
            Archive::Bundles => (&self.node.ledger.bundles, billed_instant),
        };
        let store = store.borrow();
        let all = store.export(None).map_err(|e| Problem::internal(e.to_string()))?;
        let span = (self.epoch, self.epoch.saturating_add(store.taken()));
        let keeps = |line: &[u8]| since.is_none_or(|since| instant(line).is_some_and(|at| at >= since));
        page(&all, span, place, lines, keeps).ok_or_else(object::cursor_unknown)
    }

    fn recent_log(&self) -> Vec<String> {
        crate::log::recent()
    }

    fn diagnostics(&self) -> Value {
        self.node.diagnostics_value()
    }

    fn health(&self) -> Health {
        let writable = !self.node.alerts.borrow().has("state-unwritable");
        Health {
            checks: vec![("journal", writable), ("accessLog", self.node.ledger.log.borrow().dropped() == 0)],
        }
    }
}

/// What a process adds to the places of its lines, by chance: another's are not taken for its own.
pub(super) fn epoch() -> Option<u64> {
    let [a, b, c, d, ..] = random_key()?;
    Some(u64::from(u32::from_be_bytes([a, b, c, d])) << 24)
}

fn tagged(node: &Node) -> Tagged {
    let config = node.config();
    (config.to_value(), config.etag())
}

/// Reads the configuration again, and the time zone with it.
///
/// # Errors
/// A sentence for each fault. One that is not valid changes nothing and is shown in the status.
pub async fn reload(node: &Node, source: &Source) -> Result<(), Vec<String>> {
    reload_time_zone();
    node.ledger.forget_local_time();
    let errors = match source.load().await {
        Ok(config) => {
            crate::info!("configuration read again from {source}");
            match node.apply_config(config) {
                Ok(()) => Vec::new(),
                Err(e) => vec![e.to_string()],
            }
        }
        Err(e) => e.sentences(),
    };
    for error in &errors {
        crate::error!("the configuration stays as it was: {error}");
    }
    node.config_errors.borrow_mut().clone_from(&errors);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The lines of the archive whose window had not ended at `since`, or that were written then or later.
fn billed_since(lines: &[u8], since: Option<Unix>) -> Vec<u8> {
    let Some(since) = since else { return lines.to_vec() };
    let kept = lines
        .split_inclusive(|b| *b == b'\n')
        .filter(|line| billed_instant(line).is_some_and(|at| at >= since));
    kept.flatten().copied().collect()
}

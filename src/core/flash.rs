//! The journal on flash. Day by day the journal in memory (tmpfs on a router) is enough: it outlives the process. What
//! power loss would take is written here when it changes class: a session begins or ends, the owner wants something else,
//! the quota's use reaches the next of a few marks; and while the coordinator is away, what it has not taken, once a window.
use super::durable::{Durable, record};
use super::kept::Kept;
use super::ledger::Ledger;
use super::node::Node;
use crate::json::Value;
use crate::meter::Journal;
use crate::time::{Now, Unix};
use std::time::Duration;

/// Least time between two appends for the coordinator's absence, microseconds: a window.
const WINDOW_US: u64 = 300_000_000;
/// A bundle is posted within 30 s of its window's end; one that waits for so long waits for a coordinator that is away.
const AWAY_S: i64 = 60;
/// Marks of a quota.
const MARKS: u64 = 8;
/// Pause after a write that failed, microseconds.
const RETRY_US: u64 = 10_000_000;

/// The journal on flash, and what is in it.
#[derive(Debug)]
pub struct Flash {
    journal: Journal,
    kept: Kept,
    mark: Option<Mark>,
    written_us: Option<u64>,
    failed_us: Option<u64>,
    writes: u64,
}

/// How far the quota's count is written ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    day: i64,
    unit: u64,
    bytes: u64,
}

/// The records of the later of two journals, and whether that is the one on flash for want of the other: power loss takes
/// the one in memory. That one is older where another run directory was used in between. A journal that was never written as
/// that on flash is one of an earlier version, in which all is.
pub fn later(memory: Vec<Value>, flash: Vec<Value>) -> (Vec<Value>, bool) {
    let (in_memory, on_flash) = (Durable::replay(&memory).kept, Durable::replay(&flash).kept);
    if memory.is_empty() || in_memory < on_flash { (flash, on_flash > 0) } else { (memory, false) }
}

impl Flash {
    /// An open journal with what its records give.
    pub fn new(journal: Journal, records: &[Value]) -> Flash {
        let kept = Kept::of(&Durable::replay(records));
        Flash { journal, kept, mark: None, written_us: None, failed_us: None, writes: 0 }
    }

    /// One whose next write has to be a rewrite.
    #[cfg(test)]
    pub fn torn(self) -> Flash {
        Flash { journal: self.journal.torn(), ..self }
    }

    /// When a bundle that waits is to be written, if there is one.
    fn due(&self, state: &Durable, now: Now) -> Option<u64> {
        let waiting = self.kept.unwritten(state).filter_map(window_end).min()?;
        let away_s = waiting.0.saturating_add(AWAY_S).saturating_sub(now.unix().0).max(0).unsigned_abs();
        let away = now.mono_us.saturating_add(away_s.saturating_mul(1_000_000));
        Some(away.max(self.written_us.map_or(0, |at| at.saturating_add(WINDOW_US))))
    }

    fn write(&mut self, state: &Durable, quota: Value) -> Result<(), String> {
        let number = record("kept", [("n", state.kept.into())]);
        let quota = record("quota", [("quota", quota)]);
        let mut records = self.kept.since(state);
        records.extend([quota.clone(), number.clone()]);
        let written = if self.journal.needs_rewrite() {
            let all: Vec<Value> = state.snapshot().into_iter().chain([quota, number]).collect();
            self.journal.rewrite(&all)
        } else {
            self.journal.append(&records)
        };
        written.map_err(|e| e.to_string())?;
        self.kept = Kept::of(state);
        self.writes += 1;
        Ok(())
    }
}

fn window_end(bundle: &Value) -> Option<Unix> {
    Unix::parse(bundle.member("windowEnd")?.as_str()?)
}

impl Ledger {
    /// How far the quota's count is to be written ahead on flash: to the next mark, and so far that the next window fits, if
    /// that is not more than one mark beyond.
    fn mark(&self, written: u64) -> Mark {
        let allowance = self.allowance.borrow();
        let limit = allowance.day.limit_bytes.into_iter().chain(allowance.month.limit_bytes).min();
        let unit = (limit.unwrap_or(u64::MAX) / MARKS).max(1);
        let used = allowance.day.current().used().saturating_add(written);
        let window = allowance.bytes_in(WINDOW_US).min(unit);
        let bytes = used.saturating_add(window).div_ceil(unit).saturating_mul(unit);
        Mark { day: allowance.day.current().number, unit, bytes }
    }
}

impl Node {
    /// Writes to flash what must not wait for anything, or what has waited long enough. For after each write to the journal
    /// in memory, and for each turn.
    pub(super) fn keep(&self) {
        let now = self.ledger.now();
        let due = {
            let (flash, state) = (self.flash.borrow(), self.durable.borrow());
            let Some(flash) = &*flash else { return };
            let waits = flash.failed_us.is_some_and(|at| now.mono_us.saturating_sub(at) < RETRY_US);
            let away = || flash.due(&state, now).is_some_and(|at| at <= now.mono_us);
            !waits && (flash.kept.is_overdue(&state) || self.mark_is_passed(flash) || away())
        };
        if due && !self.behind.get() {
            self.keep_all();
        }
    }

    /// Writes all that is not on flash.
    pub(super) fn keep_all(&self) {
        let Some(flash) = &mut *self.flash.borrow_mut() else { return };
        let now = self.ledger.now();
        // The journal in memory first: if the process dies in between, that one is the later.
        let number = record("kept", [("n", (self.durable.borrow().kept + 1).into())]);
        self.durable.borrow_mut().apply(&number);
        let noted = self.journal.borrow_mut().append(std::slice::from_ref(&number));
        let live = self.ledger.live_flows() > 0;
        let mark = live.then(|| self.ledger.mark(self.written_ahead()));
        let used = self.ledger.allowance.borrow().day.current().used();
        let quota = self.ledger.quota(mark.map_or(0, |m| m.bytes.saturating_sub(used)));
        let written =
            noted.map_err(|e| e.to_string()).and_then(|()| flash.write(&self.durable.borrow(), quota));
        flash.written_us = Some(now.mono_us);
        match written {
            Ok(()) => {
                (flash.mark, flash.failed_us) = (mark, None);
                self.clear_alert("flash-unwritable");
            }
            Err(e) => {
                flash.failed_us = Some(now.mono_us);
                self.alert(
                    "flash-unwritable",
                    &format!("What power loss would take could not be written: {e}."),
                );
            }
        }
    }

    /// When [`Node::keep`] is to be called at the latest.
    pub(super) fn keep_in(&self, now: Now) -> Option<Duration> {
        let (flash, state) = (self.flash.borrow(), self.durable.borrow());
        let flash = flash.as_ref()?;
        let retry = flash.failed_us.map(|at| at.saturating_add(RETRY_US));
        let due = flash.due(&state, now).max(retry)?;
        Some(Duration::from_micros(due.saturating_sub(now.mono_us).max(1000)))
    }

    /// Writes to flash since the start.
    pub(super) fn flash_writes(&self) -> u64 {
        self.flash.borrow().as_ref().map_or(0, |f| f.writes)
    }

    fn written_ahead(&self) -> u64 {
        self.ledger.allowance.borrow().ahead()
    }

    fn mark_is_passed(&self, flash: &Flash) -> bool {
        if self.ledger.live_flows() == 0 {
            return false;
        }
        let allowance = self.ledger.allowance.borrow();
        let day = allowance.day.current();
        let covered = day.used().saturating_add(allowance.ahead());
        flash.mark.is_none_or(|m| m.day != day.number || covered > m.bytes)
    }
}

//! The table that holds the service user: put in force, read back, and put in force again when it is not what it should be.
use super::found::Amount;
use super::pace::Pace;
use super::ruleset::{COUNTERS, Rendered};
use super::table::NAME;
use crate::sys::linux::netlink::{Netlink, Tables};
use std::io;

/// Pause before another try when the kernel did not take the table, milliseconds.
const RETRY_MS: u64 = 1_000;

/// The table's keeper.
#[derive(Debug)]
pub struct Keeper {
    /// The kernel's tables.
    pub tables: Tables,
    rendered: Rendered,
    in_force: bool,
    /// Refused packets since the start, and of the table that stands.
    refused: [u64; COUNTERS.len()],
    seen: [u64; COUNTERS.len()],
    pace: Pace,
    due: Option<u64>,
}

impl Keeper {
    /// Puts the first table in force.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start(mut tables: Tables, rendered: Rendered) -> io::Result<Keeper> {
        tables.replace(&rendered.table)?;
        let mut keeper = Keeper {
            tables,
            rendered,
            in_force: false,
            refused: [0; COUNTERS.len()],
            seen: [0; COUNTERS.len()],
            pace: Pace::default(),
            due: None,
        };
        keeper.verify();
        Ok(keeper)
    }

    /// Whether the table stood when it was last read back.
    pub fn is_in_force(&self) -> bool {
        self.in_force
    }

    /// Refused packets since the start, in the order of [`COUNTERS`].
    pub fn refused(&self) -> [u64; COUNTERS.len()] {
        self.refused
    }

    /// When [`Keeper::put`] is due, if it is.
    pub fn due_ms(&self) -> Option<u64> {
        self.due
    }

    /// Another table is to stand from now on; whether it is another one.
    pub fn take(&mut self, rendered: Rendered) -> bool {
        let differs = rendered != self.rendered;
        self.rendered = rendered;
        differs
    }

    /// Reads the table back.
    pub fn verify(&mut self) {
        let found = self.tables.read(NAME);
        if let Ok(found) = &found {
            self.note(found.counts().iter());
        }
        self.in_force = found.is_ok_and(|f| f.table() == Some(&self.rendered.table));
    }

    /// Puts the table in force, unless that was done too often just now: then a little later.
    pub fn put(&mut self, now_ms: u64, events: &mut Netlink) {
        self.due = None;
        if let Err(earliest) = self.pace.take(now_ms) {
            self.in_force = false;
            self.due = Some(earliest);
            return;
        }
        self.count();
        match self.tables.replace(&self.rendered.table) {
            Ok(()) => {
                self.seen = [0; COUNTERS.len()];
                // Our own change is reported as well; one behind it would be reported once more.
                events.drain();
                self.verify();
                if !self.in_force {
                    crate::error!("the kernel's table is not the one that was rendered");
                }
            }
            Err(e) => {
                crate::error!("the table cannot be put in force: {e}");
                self.in_force = false;
            }
        }
        if !self.in_force {
            self.due = Some(now_ms.saturating_add(RETRY_MS));
        }
    }

    /// Reads the counters.
    pub fn count(&mut self) {
        if let Ok(found) = self.tables.counters(NAME) {
            self.note(found.counts().iter());
        }
    }

    fn note<'a>(&mut self, counts: impl Iterator<Item = (&'a String, &'a Amount)>) {
        for (name, Amount { packets, .. }) in counts {
            let Some(at) = COUNTERS.iter().position(|c| c == name) else { continue };
            let (Some(total), Some(seen)) = (self.refused.get_mut(at), self.seen.get_mut(at)) else {
                continue;
            };
            // One that has fallen was made anew or reset by somebody.
            let before = if *packets < *seen { 0 } else { *seen };
            *total = total.saturating_add(packets - before);
            *seen = *packets;
        }
    }
}

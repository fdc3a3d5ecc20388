//! The table of leases and the connections in the kernel: put there, looked after and ended as the book says.
use super::packets::Gone;
use super::{Around, Desk, MAX_FLOWS};
use crate::guard::conntrack::Entry;
use crate::guard::lease_kernel::Kernel;
use crate::guard::lease_rules::render;
use crate::guard::lease_set;
use crate::guard::lease_wire::Counted;
use crate::guard::leases::Action;
use crate::guard::table::LEASES;
use std::collections::VecDeque;
use std::io;

/// Pause before what failed is tried again, milliseconds.
const RETRY_MS: u64 = 1_000;

impl Desk {
    /// Ends connections, and says so of each.
    pub(super) fn kill(&mut self, which: impl Fn(&Entry) -> bool, around: &mut Around<'_>) -> io::Result<()> {
        let Ok(kernel) = &mut self.kernel else { return Ok(()) };
        // Of what waits nothing is let out behind our back.
        let meant = |ct, original: &_| {
            let counted = Counted { ct, ..Counted::default() };
            which(&Entry { original: *original, mark: 0, counted, is_counted: true })
        };
        kernel.say(self.flows.drop_where(meant));
        let known = self.flows.those(meant);
        let left = kernel.kill(&known, &which);
        // Until they were deleted, their last packets were counted and came to wait.
        self.take_packets_of(Gone::new(&meant), around);
        self.take_closed(MAX_FLOWS as usize, around);
        let closed = self.flows.compare(&left?);
        self.say_closed(closed, around);
        Ok(())
    }

    /// Deletes the connections that are known at once, before anything is read or proved.
    fn cut(&mut self, around: &mut Around<'_>) {
        let Ok(kernel) = &mut self.kernel else { return };
        if let Err(e) = kernel.conntrack.delete(&self.flows.those(|_, _| true)) {
            // They are looked for again once nothing new can begin, and then it counts.
            crate::warn!("connections of leases cannot be ended at once: {e}");
        }
        self.take_packets_of(Gone::new(&|_, _| true), around);
    }

    /// Ends the connections that `run` wants ended, if it is time.
    pub(super) fn kill_doomed(&mut self, around: &mut Around<'_>) {
        if self.doom_ms.take_if(|due| *due <= around.now_ms).is_none() {
            return;
        }
        self.take_packets(around);
        let doomed = std::mem::take(&mut self.doomed);
        if let Err(e) = self.kill(|e| doomed.contains(&e.counted.ct), around) {
            crate::error!("connections of leases cannot be ended: {e}");
            self.end_all(around);
        }
    }

    /// All leases end.
    pub fn end_all(&mut self, around: &mut Around<'_>) {
        let actions = self.book.end_all();
        self.carry_out(actions, around);
    }

    /// The guard ends: all leases do, and the line is as it was.
    pub fn stop(&mut self, around: &mut Around<'_>) {
        self.end_all(around);
        if self.owed_ms.is_none() {
            self.caps.stop();
        }
    }

    /// Does what is to be done. What cannot be done now is owed, and until then no lease is possible.
    pub(super) fn carry_out(&mut self, actions: Vec<Action>, around: &mut Around<'_>) {
        let mut todo = VecDeque::from(actions);
        let mut failed = 0;
        while let Some(action) = todo.pop_front() {
            match self.act(&action, around) {
                Ok(()) if action == Action::Clear => {
                    self.owed_ms = None;
                    self.caps.start_if_new(around.network);
                }
                Ok(()) => {}
                Err(e) => {
                    if self.owed_ms.is_none() {
                        crate::error!("a lease cannot be had as it should be: {e}");
                    }
                    if self.rendered.is_none() {
                        // The kernel may have lost what it had when it was asked.
                        self.answers.forget();
                    }
                    failed += 1;
                    todo = self.book.failed(&action, around.now_ms).into();
                    if failed > 1 {
                        self.owed_ms = Some(around.now_ms.saturating_add(RETRY_MS));
                        break;
                    }
                }
            }
        }
        // Those of sessions without leases go, but not while their connections may live.
        let total_kbps = around.scope.max_kbps;
        if self.owed_ms.is_none()
            && let Err(e) = self.caps.set(self.book.grants(), total_kbps, around.now_ms)
            && !self.caps.went_with_the_line()
        {
            crate::error!("{e}");
        }
        self.mind_caps(around);
    }

    fn act(&mut self, action: &Action, around: &mut Around<'_>) -> io::Result<()> {
        match action {
            Action::Build(_) => self.build(around),
            Action::Add(grant) => {
                self.caps.set(self.book.grants(), around.scope.max_kbps, around.now_ms)?;
                around.tables.carry_out(&lease_set::add(grant))?;
                self.audit.add(around.tables, grant);
                Ok(())
            }
            Action::Renew(grant) => around.tables.carry_out(&lease_set::renew(grant)),
            Action::Remove(grant) => {
                match around.tables.carry_out(&lease_set::remove(grant)) {
                    // Its time was over.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
                let (buyer, port) = (grant.buyer, grant.port);
                self.take_packets(around);
                self.kill(|e| (e.original.from.ip(), e.original.to.port()) == (buyer, port), around)?;
                self.audit.remove(around.tables, grant);
                Ok(())
            }
            Action::Clear => self.clear(around),
            Action::Say(report) => {
                self.say(report.clone(), around);
                Ok(())
            }
        }
    }

    fn build(&mut self, around: &mut Around<'_>) -> io::Result<()> {
        let rendered = self.wanted(around).ok_or(io::ErrorKind::Unsupported)?;
        self.kernel.as_mut().map_err(|why| io::Error::other(why.clone()))?.watch()?;
        around.tables.replace(&rendered.table)?;
        if around.tables.read(LEASES)?.table() != Some(&rendered.table) {
            return Err(io::Error::other("the kernel's table of leases is not the one that was rendered"));
        }
        self.rendered = Some(rendered);
        if let Some(leases) = &around.scope.leases {
            self.audit.begin(around.tables, leases, around.network);
        }
        Ok(())
    }

    fn clear(&mut self, around: &mut Around<'_>) -> io::Result<()> {
        // The queue is emptied with the table's hooks.
        self.take_packets(around);
        self.cut(around);
        self.rendered = None;
        let found = around.tables.read(LEASES)?;
        let is_there = found.table().is_some() || !found.sets().is_empty();
        if is_there {
            self.reopen(around);
            self.hear_of_ends();
            if let Err(why) = &self.kernel {
                // While it stands, what is undecided finds a queue that nobody reads. Without it all would pass.
                return Err(io::Error::other(format!("what was there of leases cannot be ended: {why}")));
            }
        }
        if let (true, Some(leases)) = (is_there, &around.scope.leases) {
            // Whatever comes while connections are ended finds no lease, and what is undecided a queue.
            if let Err(e) = around.tables.replace(&render(leases, around.network, None, false).table) {
                crate::error!("the table of leases cannot be emptied first: {e}");
            }
        }
        self.kill(|_| true, around)?;
        around.tables.remove(LEASES)?;
        self.kill(|_| true, around)?;
        self.audit.end(around.tables);
        self.say(self.audit.report(), around);
        if let Ok(kernel) = &mut self.kernel {
            kernel.ends = None;
        }
        Ok(())
    }

    /// With other marks. Whatever was there by the old ones ends.
    pub fn begin_anew(&mut self, around: &mut Around<'_>) {
        self.end_all(around);
        self.kernel = Err("the queue of leases is being opened anew".to_owned());
        self.reopen(around);
    }

    /// What the kernel lacked when the guard started it may have by now.
    pub(super) fn reopen(&mut self, around: &Around<'_>) {
        if self.kernel.is_err() {
            self.kernel = Kernel::open(around.scope);
        }
    }

    /// Somebody may have changed the table.
    pub fn check(&mut self, around: &mut Around<'_>) {
        let Some(stands) = &self.rendered else { return };
        let why = match around.tables.read(LEASES) {
            Err(e) => format!("their table cannot be read back: {e}"),
            Ok(found) if found.table() != Some(&stands.table) => {
                "their table was changed by another program".to_owned()
            }
            Ok(found) if !self.book.is_whole(&found, around.now_ms) => {
                "the elements of their table are not those that were put there".to_owned()
            }
            Ok(_) => return self.audit.verify(around.tables, self.book.grants()),
        };
        crate::warn!("leases end: {why}");
        self.end_all(around);
    }
}

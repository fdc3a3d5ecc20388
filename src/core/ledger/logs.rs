//! The node's lines: the access log and what was billed.
use super::{Ledger, random_key};
use crate::json::Value;
use crate::meter::{HostHasher, expire};
use crate::time::{DAY, Now};

impl Ledger {
    /// The keyed hash of a host's name, with the key of the day (UTC).
    pub fn host_hash(&self, host: &str) -> String {
        let day = self.now().unix().0.div_euclid(DAY);
        let mut hasher = self.hasher.borrow_mut();
        if hasher.is_stale(day)
            && let Some(key) = random_key()
        {
            *hasher = HostHasher::new(day, key);
        }
        hasher.hash(host)
    }

    /// Appends a line to the access log.
    pub fn log_line(&self, line: &str) {
        if let Err(e) = self.log.borrow_mut().append(line.as_bytes()) {
            crate::warn!("the access log cannot be written: {e}");
        }
    }

    /// Archives the bundles and the `settled` bodies among records of the journal.
    pub fn archive(&self, records: &[Value]) {
        let billed = records.iter().filter_map(|r| {
            let settled = |b: &&Value| b.member("transition").and_then(Value::as_str) == Some("settled");
            r.member("bundle")
                .filter(|b| b.member("windowStart").is_some())
                .or(r.member("body").filter(settled))
        });
        let mut archive = self.bundles.borrow_mut();
        let mut kept = Ok(());
        for line in billed.map(|b| b.canonical() + "\n") {
            kept = kept.and(archive.append(line.as_bytes())).and_then(|()| archive.flush());
        }
        if let Err(e) = kept {
            crate::warn!("{e}");
        }
    }

    /// Takes the lines that the owner no longer wants kept out of both logs: once a day (UTC), and when the owner has
    /// changed how long that is.
    pub fn expire_logs(&self, now: Now) {
        let day = now.unix().0.div_euclid(DAY);
        if self.expired_day.replace(Some(day)) == Some(day) {
            return;
        }
        let (mut access, mut billed) = (self.log.borrow_mut(), self.bundles.borrow_mut());
        if let Err(e) = expire(&mut access, &mut billed, self.retention_days.get(), now.unix()) {
            crate::warn!("{e}");
        }
    }

    /// Whether there are lines that will be too old one day.
    pub fn keeps_lines(&self) -> bool {
        !self.log.borrow().is_empty() || !self.bundles.borrow().is_empty()
    }

    /// Writes out the lines that are still in memory.
    pub fn flush_log(&self) {
        if let Err(e) = self.log.borrow_mut().flush() {
            crate::warn!("{e}");
        }
    }
}

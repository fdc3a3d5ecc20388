//! Faults a test may order: they are injected before or after a call is judged.
use super::{Outcome, Reply};
use crate::lab::json::{Json, Members};

/// Faults waiting at a time.
const MAX_FAULTS: usize = 256;

const KINDS: [&str; 9] = [
    "drop",
    "lose-answer",
    "delay",
    "status",
    "garbage",
    "oversize",
    "forget-cursor",
    "refuse-bundles",
    "duplicate",
];

/// Faults that are still to come, and the skew of the clock.
#[derive(Default)]
pub struct Faults {
    /// Added to the real time.
    pub clock_offset_ms: i64,
    /// When a fault last struck, in Unix milliseconds: deadlines are not judged soon after.
    pub last_ms: Option<i64>,
    pending: Vec<Pending>,
}

/// One ordered fault.
#[derive(Clone)]
pub struct Fault(Json);

struct Pending {
    fault: Fault,
    left: i64,
}

impl Fault {
    /// An integer member, 0 if missing.
    pub fn int(&self, name: &str) -> u64 {
        self.0.int(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
    }

    /// A string member, empty if missing.
    pub fn str(&self, name: &str) -> &str {
        self.0.str(name).unwrap_or_default()
    }
}

impl Faults {
    /// Orders `{kind, times?, path?, …}`; `times` −1 means until cleared. `outage` does nothing but excuse lateness: the test itself cuts the line.
    pub fn order(&mut self, fault: &Json, now: i64) -> Result<(), String> {
        let kind = fault.str("kind").ok_or("a fault needs a kind")?;
        let real = now - self.clock_offset_ms;
        match kind {
            "clear" => {
                self.pending.clear();
                self.clock_offset_ms = 0;
            }
            "clock" => self.clock_offset_ms = fault.int("offsetMs").ok_or("clock needs offsetMs")?,
            "outage" => {}
            _ if !KINDS.contains(&kind) => {
                return Err(format!("there is no fault {kind:?}; GET / lists them"));
            }
            _ if self.pending.len() >= MAX_FAULTS => return Err("too many faults are waiting".to_owned()),
            _ => self
                .pending
                .push(Pending { fault: Fault(fault.clone()), left: fault.int("times").unwrap_or(1) }),
        }
        self.last_ms = Some(real + self.clock_offset_ms);
        Ok(())
    }

    /// Takes one fault of this kind that is meant for this path or for any.
    pub fn take(&mut self, kind: &str, path: &str, now: i64) -> Option<Fault> {
        let fits = |wait: &&mut Pending| {
            let only = wait.fault.str("path");
            wait.fault.str("kind") == kind && (only.is_empty() || only == path)
        };
        let found = self.pending.iter_mut().find(fits)?;
        found.left -= 1;
        let fault = found.fault.clone();
        self.pending.retain(|wait| wait.left != 0);
        self.last_ms = Some(now);
        Some(fault)
    }

    /// Whether a fault struck within so many milliseconds: then lateness is no breach.
    pub fn recent(&self, now: i64, within_ms: i64) -> bool {
        self.last_ms.is_some_and(|last| (now - last).abs() < within_ms)
    }

    /// What happens instead of judging a call.
    pub fn before(&mut self, path: &str, now: i64) -> Option<Outcome> {
        if self.take("drop", path, now).is_some() {
            return Some(Outcome::Drop);
        }
        if let Some(fault) = self.take("status", path, now) {
            let status = u16::try_from(fault.int("status")).unwrap_or(503);
            let slug = if fault.str("type").is_empty() { "unavailable" } else { fault.str("type") };
            let mut reply = Reply::problem(status, slug, "this answer was ordered by a test");
            if fault.int("retryAfter") > 0 {
                reply.headers.push(("retry-after", fault.int("retryAfter").to_string()));
            }
            if !fault.str("location").is_empty() {
                reply.headers.push(("location", fault.str("location").to_owned()));
            }
            return Some(Outcome::Reply(reply));
        }
        if self.take("garbage", path, now).is_some() {
            let reply = Reply { raw: Some("{\"signals\":[{]".to_owned()), ..Reply::nothing() };
            return Some(Outcome::Reply(Reply { status: 200, ..reply }));
        }
        if self.take("oversize", path, now).is_some() {
            let raw = Some(format!("{{\"x\":\"{}\"}}", "x".repeat(super::MAX_BODY)));
            return Some(Outcome::Reply(Reply { status: 200, raw, ..Reply::nothing() }));
        }
        None
    }
}

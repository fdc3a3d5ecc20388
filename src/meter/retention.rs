//! How long what the node writes down is kept.
use super::{LogError, LogStore, billed_instant, line_instant};
use crate::time::{DAY, Unix};

/// Takes what is older than `days` out of the access log and out of what was billed.
///
/// # Errors
/// A segment that cannot be read or written; the others are done all the same.
pub fn expire(access: &mut LogStore, billed: &mut LogStore, days: u16, now: Unix) -> Result<(), LogError> {
    let before = Unix(now.0 - i64::from(days) * DAY);
    let access = access.expire(before, line_instant);
    let billed = billed.expire(before, billed_instant);
    access.and(billed)
}

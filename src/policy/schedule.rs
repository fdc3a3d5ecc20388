//! The owner's hours: windows of the week in the router's local time.
use crate::config::Schedule;
use crate::time::{DAY, Unix};

/// An instant as the router's clock on the wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Seconds to add to UTC for local time at that instant.
    pub offset_s: i32,
}

/// Whether the schedule is open, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Whether the node may work now.
    pub open: bool,
    /// When that changes next, to the minute; `None` if it never does.
    pub next_change: Option<Unix>,
}

/// Longest way ahead in which a change is looked for: a window of one weekday that a time change swallows comes again a
/// fortnight later.
const HORIZON_MINUTES: i64 = 15 * 24 * 60;
/// Minutes in which the offset is asked once, if it is the same at both ends.
const STRIDE_MINUTES: i64 = 15;
/// Further from UTC no zone has ever been, seconds.
const MAX_OFFSET_S: i64 = 26 * 3600;

/// The hours at `now`. `local` tells the offset from UTC of any instant, daylight saving included. No schedule at all
/// means always open; a window that ends at or before its start belongs to the day it starts on.
pub fn hours(schedules: &[Schedule], now: Unix, local: &dyn Fn(Unix) -> LocalTime) -> Hours {
    if schedules.is_empty() {
        return Hours { open: true, next_change: None };
    }
    let open = is_open(schedules, now, local);
    let first = now.0.div_euclid(60) + 1;
    let mut strides = (0..HORIZON_MINUTES / STRIDE_MINUTES).map(|n| first + n * STRIDE_MINUTES);
    let next_change = strides.find_map(|from| change_within(schedules, from, open, local));
    Hours { open, next_change }
}

/// The first minute of a stride in which the schedule is no longer what it was.
fn change_within(
    schedules: &[Schedule],
    from: i64,
    open: bool,
    local: &dyn Fn(Unix) -> LocalTime,
) -> Option<Unix> {
    let at = |minute: i64| Unix(minute * 60);
    let (offset, end) = (local(at(from)), local(at(from + STRIDE_MINUTES)));
    let offset_at = |t: Unix| if offset == end { offset } else { local(t) };
    (from..from + STRIDE_MINUTES).map(at).find(|t| covers(schedules, *t, offset_at(*t)) != open)
}

/// Whether any window covers the instant.
pub fn is_open(schedules: &[Schedule], at: Unix, local: &dyn Fn(Unix) -> LocalTime) -> bool {
    schedules.is_empty() || covers(schedules, at, local(at))
}

fn covers(schedules: &[Schedule], at: Unix, offset: LocalTime) -> bool {
    let (day, second) = wall(at, offset);
    let (today, yesterday) = (weekday(day), weekday(day - 1));
    let minute = second / 60;
    schedules.iter().any(|s| {
        let (start, end) = (i64::from(s.start_minute), i64::from(s.end_minute));
        let on = |weekday: usize| s.days.get(weekday).copied().unwrap_or(false);
        if start < end {
            on(today) && (start..end).contains(&minute)
        } else {
            (on(today) && minute >= start) || (on(yesterday) && minute < end)
        }
    })
}

/// Local day since 1970-01-01 and second of that day.
pub fn local_day(at: Unix, local: &dyn Fn(Unix) -> LocalTime) -> (i64, i64) {
    wall(at, local(at))
}

fn wall(at: Unix, offset: LocalTime) -> (i64, i64) {
    let shown = at.0.saturating_add(i64::from(offset.offset_s));
    (shown.div_euclid(DAY), shown.rem_euclid(DAY))
}

/// When the next local day begins: the day after, or the one after that where the calendar leaves one out. It need not
/// be midnight: a change of offset may leave that out.
pub fn next_midnight(at: Unix, local: &dyn Fn(Unix) -> LocalTime) -> Unix {
    day_start(at, local_day(at, local).0 + 1, local)
}

/// The first second after `at` of a local day later than that of `at`, or of the next one that there is.
pub fn day_start(at: Unix, day: i64, local: &dyn Fn(Unix) -> LocalTime) -> Unix {
    let end = day.saturating_mul(DAY).saturating_add(MAX_OFFSET_S);
    // At the first of these it is an earlier day, at the second that day or a later one.
    let (mut before, mut after) = (at.0, end.max(at.0.saturating_add(1)));
    while before + 1 < after {
        let half = before + (after - before) / 2;
        if local_day(Unix(half), local).0 < day { before = half } else { after = half }
    }
    Unix(after)
}

/// Monday is 0; 1970-01-01 was a Thursday.
fn weekday(day: i64) -> usize {
    usize::try_from((day + 3).rem_euclid(7)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub mod zones;

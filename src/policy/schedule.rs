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

/// Longest way ahead in which a change is looked for: a week and a day, for a time change in between.
const HORIZON_MINUTES: i64 = 8 * 24 * 60;

/// The hours at `now`. `local` tells the offset from UTC of any instant, daylight saving included. No schedule at all
/// means always open; a window that ends at or before its start belongs to the day it starts on.
pub fn hours(schedules: &[Schedule], now: Unix, local: &dyn Fn(Unix) -> LocalTime) -> Hours {
    let open = is_open(schedules, now, local);
    if schedules.is_empty() {
        return Hours { open: true, next_change: None };
    }
    let minute = now.0.div_euclid(60);
    let change = (1..=HORIZON_MINUTES).map(|m| Unix((minute + m) * 60));
    let next_change = change.into_iter().find(|t| is_open(schedules, *t, local) != open);
    Hours { open, next_change }
}

/// Whether any window covers the instant.
pub fn is_open(schedules: &[Schedule], at: Unix, local: &dyn Fn(Unix) -> LocalTime) -> bool {
    if schedules.is_empty() {
        return true;
    }
    let (day, second) = local_day(at, local);
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
    let wall = at.0 + i64::from(local(at).offset_s);
    (wall.div_euclid(DAY), wall.rem_euclid(DAY))
}

/// When the next local day begins, to the minute.
pub fn next_midnight(at: Unix, local: &dyn Fn(Unix) -> LocalTime) -> Unix {
    let (today, second) = local_day(at, local);
    let guess = Unix(at.0 + DAY - second);
    // A change of offset in between moves midnight; the guess is then off by that change.
    let wall = guess.0 + i64::from(local(guess).offset_s);
    let corrected = Unix(guess.0 - (wall - (today + 1) * DAY));
    if corrected > at { corrected } else { guess }
}

/// Monday is 0; 1970-01-01 was a Thursday.
fn weekday(day: i64) -> usize {
    usize::try_from((day + 3).rem_euclid(7)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANILA: fn(Unix) -> LocalTime = |_| LocalTime { offset_s: 8 * 3600 };
    /// Central Europe: summer time from 2026-03-29 01:00 UTC to 2026-10-25 01:00 UTC.
    const BERLIN: fn(Unix) -> LocalTime =
        |t| LocalTime { offset_s: if (1_774_746_000..1_792_890_000).contains(&t.0) { 7200 } else { 3600 } };

    fn at(text: &str) -> Unix {
        Unix::parse(text).unwrap()
    }

    fn window(days: [u8; 7], start_minute: u16, end_minute: u16) -> Vec<Schedule> {
        vec![Schedule { days: days.map(|d| d == 1), start_minute, end_minute }]
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_it_starts() {
        // Monday to Friday 22:00-06:00, as in the spec.
        let s = window([1, 1, 1, 1, 1, 0, 0], 22 * 60, 6 * 60);
        let open = |t| is_open(&s, at(t), &MANILA);
        assert!(open("2026-11-20T14:00:00Z"), "Friday 22:00 local");
        assert!(open("2026-11-20T21:59:59Z"), "Saturday 05:59 local, begun on Friday");
        assert!(!open("2026-11-20T22:00:00Z"), "Saturday 06:00 local");
        assert!(!open("2026-11-21T14:00:00Z"), "Saturday 22:00 local");
        assert!(!open("2026-11-22T21:00:00Z"), "Monday 05:00 local: Sunday does not start one");
        let h = hours(&s, at("2026-11-20T22:00:00Z"), &MANILA);
        assert_eq!(h, Hours { open: false, next_change: Some(at("2026-11-23T14:00:00Z")) });
    }

    #[test]
    fn the_end_is_exclusive_and_24_00_reaches_midnight() {
        let s = window([1; 7], 20 * 60, 1440);
        let utc: fn(Unix) -> LocalTime = |_| LocalTime { offset_s: 0 };
        assert!(is_open(&s, at("2026-11-20T23:59:59Z"), &utc));
        assert!(!is_open(&s, at("2026-11-21T00:00:00Z"), &utc));
    }

    #[test]
    fn a_time_change_moves_the_window_with_the_wall_clock() {
        let s = window([1; 7], 60, 4 * 60);
        let opened = |t| hours(&s, at(t), &BERLIN);
        // The night of 29 March lacks 02:00-03:00: open for two hours of real time.
        assert_eq!(opened("2026-03-29T00:00:00Z").next_change, Some(at("2026-03-29T02:00:00Z")));
        // The night of 25 October has it twice: open for four.
        assert_eq!(opened("2026-10-24T23:00:00Z").next_change, Some(at("2026-10-25T03:00:00Z")));
    }

    #[test]
    fn midnight_comes_after_23_or_25_hours_when_the_clock_changes() {
        assert_eq!(next_midnight(at("2026-03-28T23:00:00Z"), &BERLIN), at("2026-03-29T22:00:00Z"));
        assert_eq!(next_midnight(at("2026-10-24T22:00:00Z"), &BERLIN), at("2026-10-25T23:00:00Z"));
        assert_eq!(next_midnight(at("2026-11-20T22:59:59Z"), &BERLIN), at("2026-11-20T23:00:00Z"));
    }

    #[test]
    fn no_schedule_is_always_open() {
        assert_eq!(hours(&[], Unix(0), &MANILA), Hours { open: true, next_change: None });
    }
}

//! The hours, in several zones.
use super::zones::{APIA, BERLIN, LORD_HOWE, MANILA, SAO_PAULO, ST_JOHNS, ZONES};
use super::*;
use crate::time::civil_from_days;
use proptest::prelude::*;

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

#[test]
fn a_window_that_a_time_change_swallows_comes_again_a_fortnight_later() {
    // Sunday 02:10-02:50 is left out on 29 March: after the 22nd it opens on 5 April.
    let s = window([0, 0, 0, 0, 0, 0, 1], 130, 170);
    let h = hours(&s, at("2026-03-22T01:50:00Z"), &BERLIN);
    assert_eq!(h, Hours { open: false, next_change: Some(at("2026-04-05T00:10:00Z")) });
    // The same for a pause: open all week but for that window.
    let mut open = window([1, 1, 1, 1, 1, 1, 0], 0, 1440);
    open.extend(window([0, 0, 0, 0, 0, 0, 1], 0, 130));
    open.extend(window([0, 0, 0, 0, 0, 0, 1], 170, 1440));
    let h = hours(&open, at("2026-03-22T01:50:00Z"), &BERLIN);
    assert_eq!(h, Hours { open: true, next_change: Some(at("2026-04-05T00:10:00Z")) });
}

#[test]
fn a_friday_that_the_date_line_swallowed_opened_nothing() {
    let s = window([0, 0, 0, 0, 1, 0, 0], 0, 1440);
    assert!(!is_open(&s, at("2011-12-30T09:59:59Z"), &APIA), "Thursday 23:59:59");
    assert!(!is_open(&s, at("2011-12-30T10:00:00Z"), &APIA), "Saturday 00:00");
    let h = hours(&s, at("2011-12-24T09:59:59Z"), &APIA);
    assert_eq!(h, Hours { open: true, next_change: Some(at("2011-12-24T10:00:00Z")) });
    let h = hours(&s, at("2011-12-24T10:00:00Z"), &APIA);
    assert_eq!(h.next_change, Some(at("2012-01-05T10:00:00Z")), "a fortnight later");
    // What began on Thursday evening ends in the morning of the day that came after it by the calendar's names.
    let s = window([0, 0, 0, 1, 0, 0, 0], 22 * 60, 6 * 60);
    assert!(!is_open(&s, at("2011-12-30T10:00:00Z"), &APIA), "Saturday is not the morning after Thursday");
}

#[test]
fn a_half_hours_change_moves_the_edges_by_half_an_hour() {
    let s = window([1; 7], 90, 120);
    // 5 April 2026, 02:00 becomes 01:30: the window is there twice, in one stretch of an hour.
    let h = hours(&s, at("2026-04-04T14:30:00Z"), &LORD_HOWE);
    assert_eq!(h, Hours { open: true, next_change: Some(at("2026-04-04T15:30:00Z")) });
    // 4 October 2026, 02:00 becomes 02:30.
    let s = window([1; 7], 120, 150);
    let h = hours(&s, at("2026-10-03T15:00:00Z"), &LORD_HOWE);
    assert_eq!(h.next_change, Some(at("2026-10-04T15:00:00Z")), "not on that day");
}

#[test]
fn days_begin_when_their_date_is_first_shown() {
    for (zone, now, next) in [
        // Midnight is left out: 4 November 2018 began at 01:00.
        (SAO_PAULO, "2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z"),
        // 23:00 comes twice.
        (SAO_PAULO, "2019-02-17T01:30:00Z", "2019-02-17T03:00:00Z"),
        (SAO_PAULO, "2019-02-17T02:30:00Z", "2019-02-17T03:00:00Z"),
        (APIA, "2011-12-30T09:00:00Z", "2011-12-30T10:00:00Z"),
        (LORD_HOWE, "2026-04-04T13:30:00Z", "2026-04-05T13:30:00Z"),
        // 00:00 comes twice, a minute of the new day between the two.
        (ST_JOHNS, "2010-11-07T02:40:00Z", "2010-11-07T03:30:00Z"),
        (MANILA, "2026-03-31T16:00:00Z", "2026-04-01T16:00:00Z"),
    ] {
        assert_eq!(next_midnight(at(now), &zone), at(next), "after {now}");
    }
    let first = crate::time::days_from_civil(2026, 4, 1);
    assert_eq!(day_start(at("2026-03-05T12:00:00Z"), first, &BERLIN), at("2026-03-31T22:00:00Z"));
}

/// The rule in the words of the documentation, by names of days and times of day.
fn by_the_book(schedules: &[Schedule], at: Unix, offset_s: i32) -> bool {
    let wall = Unix(at.0 + i64::from(offset_s)).to_string();
    let minute: u16 = wall[11..13].parse::<u16>().unwrap() * 60 + wall[14..16].parse::<u16>().unwrap();
    let name = |date: &str| {
        // Sakamoto's method; Sunday is 0.
        let (y, m, d): (i64, usize, i64) =
            (date[..4].parse().unwrap(), date[5..7].parse().unwrap(), date[8..10].parse().unwrap());
        let y = if m < 3 { y - 1 } else { y };
        let t = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        usize::try_from((y + y / 4 - y / 100 + y / 400 + t[m - 1] + d) % 7 + 6).unwrap() % 7
    };
    let today = name(&wall[..10]);
    let yesterday = (today + 6) % 7;
    let mut open = schedules.is_empty();
    for s in schedules {
        let past_midnight = s.end_minute <= s.start_minute;
        open |= s.days[today] && minute >= s.start_minute && (past_midnight || minute < s.end_minute);
        open |= s.days[yesterday] && past_midnight && minute < s.end_minute;
    }
    open
}

fn any_schedules() -> impl Strategy<Value = Vec<Schedule>> {
    let edge = prop_oneof![0..=1439u16, (0..24u16).prop_map(|h| h * 60), 0..190u16];
    let end = prop_oneof![1..=1440u16, (1..=24u16).prop_map(|h| h * 60), 1..190u16];
    let one = (prop::array::uniform7(any::<bool>()), edge, end)
        .prop_map(|(days, start_minute, end_minute)| Schedule { days, start_minute, end_minute });
    prop::collection::vec(one, 0..3)
}

proptest! {
    #[test]
    fn the_hours_are_those_of_the_book_until_the_change_they_name(
        schedules in any_schedules(), zone in 0..ZONES.len(), from in -200_000i64..200_000, which in 0usize..4
    ) {
        let (local, changes) = ZONES[zone];
        let now = Unix(changes[which % changes.len()] + from);
        let found = hours(&schedules, now, &local);
        let book = |t: Unix| by_the_book(&schedules, t, local(t).offset_s);
        prop_assert_eq!(found.open, book(now));
        let until = found.next_change.map_or(now.0 + 15 * DAY - 60, |t| t.0);
        for t in (now.0..until).step_by(300).chain([until - 1]).filter(|t| *t >= now.0) {
            prop_assert_eq!(book(Unix(t)), found.open, "{} within the stretch from {}", Unix(t), now);
        }
        if let Some(change) = found.next_change {
            prop_assert_eq!(book(change), !found.open, "at {}", change);
        }
    }

    #[test]
    fn a_day_ends_in_the_second_in_which_another_begins(
        zone in 0..ZONES.len(), from in -200_000i64..200_000, which in 0usize..4
    ) {
        let (local, changes) = ZONES[zone];
        let now = Unix(changes[which % changes.len()] + from);
        let day = |t: i64| civil_from_days((t + i64::from(local(Unix(t)).offset_s)).div_euclid(DAY));
        let next = next_midnight(now, &local);
        prop_assert!(next > now && next.0 - now.0 <= 25 * 3600);
        prop_assert!(day(next.0) > day(now.0));
        prop_assert!(day(next.0 - 1) <= day(now.0));
    }
}

//! Instants as values. Nothing here asks a clock; see [`crate::clock`].
use std::fmt;

/// Whole seconds since 1970-01-01T00:00:00Z, printed and parsed as `YYYY-MM-DDTHH:MM:SSZ` (RFC 3339, UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unix(pub i64);

/// One reading of the clocks: what every pure function gets instead of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Microseconds of the monotonic clock, from an arbitrary start.
    pub mono_us: u64,
    /// Milliseconds since the Unix epoch, corrected by the coordinator's time.
    pub unix_ms: i64,
}

impl Now {
    /// The corrected wall clock in whole seconds.
    pub fn unix(self) -> Unix {
        Unix(self.unix_ms.div_euclid(1000))
    }

    /// The monotonic clock in milliseconds.
    pub fn mono_ms(self) -> u64 {
        self.mono_us / 1000
    }

    /// This reading, both clocks moved on by `ms` milliseconds.
    pub fn after_ms(self, ms: u64) -> Now {
        Now { mono_us: self.mono_us + ms * 1000, unix_ms: self.unix_ms.saturating_add_unsigned(ms) }
    }
}

/// Seconds of a day.
pub const DAY: i64 = 86_400;

impl Unix {
    /// Reads `YYYY-MM-DDTHH:MM:SSZ` and nothing else: no fraction, no offset, no leap second, years 1970 to 9999.
    pub fn parse(text: &str) -> Option<Unix> {
        let b = text.as_bytes();
        let number = |at: std::ops::Range<usize>| -> Option<i64> {
            let digits = b.get(at)?;
            digits.iter().all(u8::is_ascii_digit).then_some(())?;
            Some(digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
        };
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
        if b.len() != 20 || separators.iter().any(|(i, c)| b.get(*i) != Some(c)) {
            return None;
        }
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let in_range = year >= 1970 && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
        if !in_range || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        Some(Unix(days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second))
    }

    /// Year, month (1–12) and day of the month (1–31) in UTC.
    pub fn date(self) -> (i64, i64, i64) {
        civil_from_days(self.0.div_euclid(DAY))
    }

    /// Midnight (UTC) at or before this instant.
    pub fn day_start(self) -> Unix {
        Unix(self.0.div_euclid(DAY) * DAY)
    }
}

impl fmt::Display for Unix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let s = self.0.rem_euclid(DAY);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
    }
}

/// Days in a month of the Gregorian calendar.
pub fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a civil date, by Howard Hinnant's `days_from_civil`.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The civil date of a number of days since 1970-01-01, by Howard Hinnant's `civil_from_days`.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let year_of_era = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let day_of_year = doe - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        for (text, s) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2025-12-19T14:00:00Z", 1_766_152_800),
            ("2038-01-19T03:14:08Z", 1 << 31),
        ] {
            assert_eq!(Unix::parse(text), Some(Unix(s)));
            assert_eq!(Unix(s).to_string(), text);
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "2025-12-19T14:00:00.0Z",
            "2025-12-19T14:00:00+00:00",
            "2025-12-19 14:00:00Z",
            "2025-02-29T00:00:00Z",
            "2025-12-19T24:00:00Z",
            "2025-12-19T23:59:60Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "+025-12-19T14:00:00Z",
            "",
        ] {
            assert_eq!(Unix::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn print_and_parse_agree(s in 0i64..253_402_300_800) {
            prop_assert_eq!(Unix::parse(&Unix(s).to_string()), Some(Unix(s)));
        }
    }
}

//! The lab's clock and instants, apart from the daemon's so that a mistake there shows here.
use std::sync::OnceLock;

const DAY: i64 = 86_400;

/// Milliseconds of Unix time by the system clock.
#[allow(clippy::disallowed_methods, reason = "the lab is another party: it has a clock of its own")]
pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since the first call, never going back.
#[allow(clippy::disallowed_methods, reason = "the lab is another party: it has a clock of its own")]
pub fn mono_ms() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let start = START.get_or_init(std::time::Instant::now);
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Writes Unix milliseconds as `YYYY-MM-DDTHH:MM:SSZ`, rounding down to the second.
pub fn instant(unix_ms: i64) -> String {
    let seconds = unix_ms.div_euclid(1000);
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let rest = seconds.rem_euclid(DAY);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// Reads an instant of the contract as Unix milliseconds; `None` for anything but the exact form.
pub fn parse_instant(text: &str) -> Option<i64> {
    let ok = text.len() == 20
        && text.bytes().zip("dddd-dd-ddTdd:dd:ddZ".bytes()).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            _ => byte == form,
        });
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (h, m, s) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    if !ok || !(1..=12).contains(&month) || h > 23 || m > 59 || s > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    (civil(days) == (year, month, day)).then_some((days * DAY + h * 3600 + m * 60 + s) * 1000)
}

/// Days to a Gregorian date (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let yoe = year.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_go_both_ways() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:01Z", 951_825_601),
            ("2038-01-19T03:14:08Z", 2_147_483_648),
            ("2025-12-19T14:00:00Z", 1_766_152_800),
        ] {
            assert_eq!(parse_instant(text), Some(seconds * 1000), "{text}");
            assert_eq!(instant(seconds * 1000 + 999), text);
        }
    }

    #[test]
    fn other_forms_of_an_instant_are_refused() {
        for text in [
            "2025-12-19T14:00:00.0Z",
            "2025-12-19 14:00:00Z",
            "2025-02-29T14:00:00Z",
            "2025-12-19T24:00:00Z",
            "2025-12-19T14:00:00+00:00",
            "",
        ] {
            assert_eq!(parse_instant(text), None, "{text}");
        }
    }
}

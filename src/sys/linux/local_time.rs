//! The router's time zone, from the C library.
use crate::policy::schedule::LocalTime;
use crate::time::Unix;
use std::io::Read as _;

/// Where OpenWrt has the zone as a POSIX text. Its own C library looks there, the one that is linked in does not.
const ZONE_FILE: &str = "/etc/TZ";
/// Longest text of a zone: the longest in the time zone database has 45 bytes.
const MAX_ZONE: usize = 128;

unsafe extern "C" {
    /// POSIX: takes the zone from `TZ` or the system's file anew.
    fn tzset();
}

/// Local time's offset from UTC at an instant. UTC where the C library cannot tell (years beyond its range).
pub fn local_time(at: Unix) -> LocalTime {
    #[allow(irrefutable_let_patterns, reason = "`time_t` has 32 bits on some targets")]
    #[allow(deprecated, reason = "musl's will have 64 bits everywhere; this takes what it has")]
    let Ok(time) = libc::time_t::try_from(at.0) else { return LocalTime { offset_s: 0 } };
    // SAFETY: `tm` is plain integers and a pointer, for which all zeros are valid.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals; `localtime_r` writes `tm` only.
    let found = unsafe { libc::localtime_r(&raw const time, &raw mut tm) };
    let offset = if found.is_null() { 0 } else { tm.tm_gmtoff };
    LocalTime { offset_s: i32::try_from(offset).unwrap_or(0) }
}

/// Takes the zone of [`ZONE_FILE`] where `TZ` names none. Another text there is taken by the next start: the environment
/// cannot be changed once there are threads.
fn take_zone_file() {
    if std::env::var_os("TZ").is_some() || !alone() {
        return;
    }
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(ZONE_FILE).and_then(|f| f.take(MAX_ZONE as u64 + 1).read_to_end(&mut bytes));
    let Ok(_) = read else { return };
    match zone_text(&bytes) {
        // SAFETY: this is the only thread, so that no other reads the environment, and only this one could start another.
        Some(zone) => unsafe { std::env::set_var("TZ", zone) },
        None => {
            crate::warn!("{ZONE_FILE} is no POSIX time zone; local time is that of /etc/localtime, or UTC")
        }
    }
}

/// Whether this is the only thread of the process.
fn alone() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// The zone in the bytes of a file: one line of the form `CET-1CEST,M3.5.0,M10.5.0/3` (POSIX.1-2017, 8.3), or `UTC`. A text
/// that would name a file is none.
fn zone_text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?.trim_ascii();
    let plain = |c: char| c.is_ascii_alphanumeric() || "<>+-,.:/".contains(c);
    let name_end = match text.strip_prefix('<') {
        Some(quoted) => quoted.find('>')? + 2,
        None => text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len()),
    };
    let (name, rest) = text.split_at_checked(name_end)?;
    let offset = rest.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit());
    let whole = offset || (rest.is_empty() && matches!(name, "UTC" | "GMT"));
    (bytes.len() <= MAX_ZONE && name.len() >= 3 && text.chars().all(plain) && whole).then_some(text)
}

/// The zone of this process, to be called before anything starts a thread.
pub fn begin_local_time() {
    take_zone_file();
    reload_time_zone();
}

/// Reads the zone anew, after the owner may have changed it.
pub fn reload_time_zone() {
    // SAFETY: `tzset` has no arguments; it reads the environment, which this program changes before its second thread only.
    unsafe { tzset() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_posix_text_and_no_file() {
        let longest = format!("UTC0{}", ",".repeat(MAX_ZONE - 4));
        for good in
            ["CET-1CEST,M3.5.0,M10.5.0/3\n", "UTC", "<+08>-8", "UTC0", "EST5EDT,M3.2.0,M11.1.0", &longest]
        {
            assert_eq!(zone_text(good.as_bytes()), Some(good.trim()), "{good}");
        }
        let long = longest.clone() + ",";
        let bad = [
            "",
            "CET",
            "Europe/Berlin",
            "/etc/shadow",
            ":CET-1",
            "A1",
            "<+08",
            "<+08>",
            "CET-1\nX1",
            "CET-1 ;",
            &long,
        ];
        for bad in bad {
            assert_eq!(zone_text(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(zone_text(b"CET-1\xff"), None);
    }

    #[test]
    fn an_offset_is_within_a_day() {
        reload_time_zone();
        assert!(local_time(Unix(1_766_152_800)).offset_s.abs() < 86_400);
    }
}

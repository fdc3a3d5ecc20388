//! The router's time zone, from the C library.
use crate::policy::schedule::LocalTime;
use crate::time::Unix;

unsafe extern "C" {
    /// POSIX: takes the zone from `TZ` or the system's file anew.
    fn tzset();
}

/// Local time's offset from UTC at an instant. UTC where the C library cannot tell (years beyond its range).
pub fn local_time(at: Unix) -> LocalTime {
    #[allow(irrefutable_let_patterns, reason = "`time_t` has 32 bits on some targets")]
    let Ok(time) = libc::time_t::try_from(at.0) else { return LocalTime { offset_s: 0 } };
    // SAFETY: `tm` is plain integers and a pointer, for which all zeros are valid.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals; `localtime_r` writes `tm` only.
    let found = unsafe { libc::localtime_r(&raw const time, &raw mut tm) };
    let offset = if found.is_null() { 0 } else { tm.tm_gmtoff };
    LocalTime { offset_s: i32::try_from(offset).unwrap_or(0) }
}

/// Reads the zone anew, after the owner may have changed it.
pub fn reload_time_zone() {
    // SAFETY: `tzset` has no arguments; it reads the environment, which this program never changes.
    unsafe { tzset() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_within_a_day() {
        reload_time_zone();
        assert!(local_time(Unix(1_766_152_800)).offset_s.abs() < 86_400);
    }
}

//! Time zones for tests, as the tz database has them around the instants that tests ask for.
use super::LocalTime;
use crate::time::Unix;

/// A zone, and the instants at which its offset changes.
pub type Zone = (fn(Unix) -> LocalTime, &'static [i64]);

/// Asia/Manila: no change; the second is a midnight.
pub const MANILA: fn(Unix) -> LocalTime = |_| LocalTime { offset_s: 8 * 3600 };
/// Europe/Berlin, 2026: an hour left out, an hour twice.
pub const BERLIN: fn(Unix) -> LocalTime = |t| before(t, &[(1_774_746_000, 60), (1_792_890_000, 120)], 60);
/// America/Sao_Paulo, 2018: midnight left out, the hour before midnight twice.
pub const SAO_PAULO: fn(Unix) -> LocalTime =
    |t| before(t, &[(1_541_300_400, -180), (1_550_368_800, -120)], -180);
/// Australia/Lord_Howe, 2026: half an hour twice, half an hour left out.
pub const LORD_HOWE: fn(Unix) -> LocalTime =
    |t| before(t, &[(1_775_314_800, 660), (1_791_041_400, 630)], 660);
/// Pacific/Apia, 2011: 30 December left out.
pub const APIA: fn(Unix) -> LocalTime = |t| before(t, &[(1_325_239_200, -600)], 840);
/// America/St_Johns, 2010: back from one minute after midnight to the day before.
pub const ST_JOHNS: fn(Unix) -> LocalTime = |t| before(t, &[(1_289_097_060, -150)], -210);

/// All of them.
pub const ZONES: [Zone; 6] = [
    (MANILA, &[1_775_318_400]),
    (BERLIN, &[1_774_746_000, 1_792_890_000]),
    (SAO_PAULO, &[1_541_300_400, 1_550_368_800]),
    (LORD_HOWE, &[1_775_314_800, 1_791_041_400]),
    (APIA, &[1_325_239_200]),
    (ST_JOHNS, &[1_289_097_060]),
];

/// The minutes that hold before the first change after `t`, or `last`.
fn before(t: Unix, changes: &[(i64, i32)], last: i32) -> LocalTime {
    let minutes = changes.iter().find(|(until, _)| t.0 < *until).map_or(last, |(_, minutes)| *minutes);
    LocalTime { offset_s: minutes * 60 }
}

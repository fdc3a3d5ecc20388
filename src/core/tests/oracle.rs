//! What is allowed at an instant, written apart from the node: from the words of the contract, in plain data.
use crate::time::Unix;
use std::collections::BTreeMap;

/// A configuration: as text for the node, and in the few words that matter here.
pub struct Plan {
    pub yaml: &'static str,
    pub blocked: &'static [&'static str],
    pub opted_out: bool,
    pub guard: bool,
    /// Days (Monday first), first minute, first minute after.
    pub hours: Option<([bool; 7], i64, i64)>,
    pub day: u64,
    pub month: Option<u64>,
    pub reset_day: i64,
    pub session: Option<u64>,
    pub connections: usize,
}

const ANY: Plan = Plan {
    yaml: "",
    blocked: &[],
    opted_out: false,
    guard: false,
    hours: None,
    day: 1_000_000_000_000,
    month: None,
    reset_day: 1,
    session: None,
    connections: 1000,
};

/// The owner's configurations.
pub const PLANS: [Plan; 8] = [
    ANY,
    Plan {
        yaml: "network: { maxMbps: 1000, maxGBPerDay: 0.001, perSession: { maxGB: 0.001 } }",
        day: 1_000_000,
        session: Some(1_000_000),
        ..ANY
    },
    Plan {
        yaml: "network: { maxMbps: 1000, maxGBPerDay: 1, blocklistDomains: [a.test], perSession: { maxConnections: 2 } }",
        day: 1_000_000_000,
        blocked: &["a.test"],
        connections: 2,
        ..ANY
    },
    Plan { yaml: "policy: { categoryOptOut: [qa] }", opted_out: true, ..ANY },
    Plan {
        yaml: "node: { regionAllow: [PH-NCR], schedules: [{ days: [Mon, Tue, Sat], start: \"11:30\", end: \"12:30\" }] }",
        hours: Some(([true, true, false, false, false, true, false], 690, 750)),
        ..ANY
    },
    Plan {
        yaml: "node: { regionAllow: [PH-NCR], schedules: [{ days: [Sun, Thu], start: \"22:00\", end: \"02:30\" }] }",
        hours: Some(([false, false, false, true, false, false, true], 1320, 150)),
        ..ANY
    },
    Plan {
        yaml: "network: { maxMbps: 1000, maxGBPerDay: 1, maxGBPerMonth: 0.0012, monthResetDay: 3 }",
        day: 1_000_000_000,
        month: Some(1_200_000),
        reset_day: 3,
        ..ANY
    },
    Plan { yaml: "security: { guard: required }", guard: true, ..ANY },
];

/// A profile of the coordinator's.
pub struct Profile {
    pub json: &'static str,
    pub blocked: &'static [&'static str],
    pub allowed: &'static [&'static str],
    pub relay: bool,
}

/// The coordinator's profiles.
pub const PROFILES: [Profile; 5] = [
    Profile { json: "{}", blocked: &[], allowed: &[], relay: true },
    Profile { json: r#"{"blockDomains":["b.test"]}"#, blocked: &["b.test"], allowed: &[], relay: true },
    Profile { json: r#"{"allowDomains":["a.test"]}"#, blocked: &[], allowed: &["a.test"], relay: true },
    Profile { json: r#"{"alpn":[],"ech":"deny"}"#, blocked: &[], allowed: &[], relay: true },
    Profile { json: r#"{"transports":[]}"#, blocked: &[], allowed: &[], relay: false },
];

/// The coordinator's limits: text, whole, of a UTC day, connections.
pub const LIMITS: [(&str, Option<u64>, Option<u64>, usize); 4] = [
    ("{}", None, None, 1000),
    (r#"{"maxGB":0.00005}"#, Some(50_000), None, 1000),
    (r#"{"maxGBPerDay":0.00003,"maxConnections":1,"maxMbps":1}"#, None, Some(30_000), 1),
    (r#"{"maxGB":5,"maxConnections":60000}"#, Some(5_000_000_000), None, 60_000),
];

/// A session that the coordinator has ordered.
pub struct Ordered {
    pub from: i64,
    pub until: i64,
    pub since: i64,
    pub profile: usize,
    pub limits: usize,
    pub over: bool,
    pub carried: u64,
    pub by_day: BTreeMap<i64, u64>,
}

/// What has happened, as an onlooker has it.
#[derive(Default)]
pub struct Oracle {
    pub plan: usize,
    pub running: bool,
    pub quarantined: bool,
    /// Observations outside the owner's regions, in a row.
    pub strikes: u32,
    pub sessions: BTreeMap<String, Ordered>,
    /// By the date.
    pub by_days: BTreeMap<String, u64>,
    pub by_month: BTreeMap<i64, u64>,
}

impl Oracle {
    fn plan(&self) -> &'static Plan {
        &PLANS[self.plan]
    }

    /// `own` is what a clock on the owner's wall shows, if it was ever set. Why a flow of the session to the host may not be, if so.
    pub fn objection(&self, id: &str, host: &str, now: i64, own: Option<i64>) -> Option<&'static str> {
        let plan = self.plan();
        let Some(session) = self.sessions.get(id) else { return Some("nobody ordered the session") };
        let profile = &PROFILES[session.profile];
        let in_list = |list: &[&str]| list.iter().any(|d| host == *d || host.ends_with(&format!(".{d}")));
        let rules = [
            (plan.guard, "the guard is required and there is none"),
            (!self.running, "the owner does not want it"),
            (self.quarantined, "quarantine"),
            (plan.hours.is_some() && !own.is_some_and(|wall| open(plan, wall)), "the hours are closed"),
            (session.over, "the session is over"),
            (now < session.from || now >= session.until, "not the session's time"),
            (!profile.relay, "not by relay"),
            (in_list(plan.blocked) || in_list(profile.blocked), "a blocked host"),
            (!profile.allowed.is_empty() && !in_list(profile.allowed), "not an allowed host"),
            (plan.opted_out, "the owner has opted out"),
        ];
        rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
    }

    /// Most connections of a session.
    pub fn connections(&self, id: &str) -> usize {
        self.sessions.get(id).map_or(0, |s| LIMITS[s.limits].3.min(self.plan().connections))
    }

    /// Counts bytes that were granted; says which quota they overrun, if any.
    pub fn carry(&mut self, id: &str, bytes: u64, now: i64, offset_s: i32) -> Option<&'static str> {
        let plan = self.plan();
        let (date, month) = (date(now + i64::from(offset_s)), self.month(now + i64::from(offset_s)));
        let session = self.sessions.get_mut(id)?;
        let (_, whole, of_day, _) = LIMITS[session.limits];
        let today = session.by_day.entry(now.div_euclid(86_400)).or_default();
        let day = self.by_days.entry(date).or_default();
        let of_month = self.by_month.entry(month).or_default();
        session.carried += bytes;
        for count in [&mut *today, &mut *day, &mut *of_month] {
            *count += bytes;
        }
        let quotas = [
            (session.carried, whole, "the session's whole quota"),
            (session.carried, plan.session, "the owner's quota of a session"),
            (*today, of_day, "the session's day"),
            (*day, Some(plan.day), "the owner's day"),
            (*of_month, plan.month, "the owner's month"),
        ];
        quotas.into_iter().find(|(used, limit, _)| limit.is_some_and(|l| *used > l)).map(|(_, _, why)| why)
    }

    /// The owner changes his configuration.
    pub fn configure(&mut self, plan: usize, wall: i64) {
        let before = self.month(wall);
        let changed = PLANS[plan].reset_day != self.plan().reset_day;
        self.plan = plan;
        if changed {
            // The count goes on until the month's new first day.
            let used = self.by_month.get(&before).copied().unwrap_or(0);
            self.by_month = BTreeMap::from([(self.month(wall), used)]);
        }
    }

    /// The coordinator has seen the node; by default the third time outside is one too many.
    pub fn seen(&mut self, inside: bool) {
        self.strikes = if inside { 0 } else { self.strikes + 1 };
        if self.strikes >= 3 {
            self.quarantined = true;
            self.close_all();
        }
    }

    /// All sessions end.
    pub fn close_all(&mut self) {
        self.sessions.values_mut().for_each(|s| s.over = true);
    }

    fn month(&self, wall: i64) -> i64 {
        let date = date(wall);
        let number = |at: std::ops::Range<usize>| date[at].parse::<i64>().unwrap();
        number(0..4) * 12 + number(5..7) - i64::from(number(8..10) < self.plan().reset_day)
    }
}

fn date(wall: i64) -> String {
    Unix(wall).to_string()[..10].to_owned()
}

/// The hours by walking back from the minute to each start of the window in the last two days.
fn open(plan: &Plan, wall: i64) -> bool {
    let Some((days, start, end)) = plan.hours else { return true };
    let length = if end > start { end - start } else { end - start + 1440 };
    let minute = wall.div_euclid(60);
    (0..2).any(|back| {
        let day = minute.div_euclid(1440) - back;
        let begin = day * 1440 + start;
        // 1970-01-05 was a Monday.
        days[usize::try_from((day - 4).rem_euclid(7)).unwrap()] && (begin..begin + length).contains(&minute)
    })
}

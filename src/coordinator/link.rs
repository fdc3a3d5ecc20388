//! When to speak to the coordinator: registration first, then heartbeats, polls and the outbox, each with its own
//! backoff. Pure: event and `now` in, what to do next out.
use super::wire::Problem;
use crate::time::{Now, Unix};

/// First and greatest ceiling of the backoff, in milliseconds. The delay is drawn from 0 to the ceiling ("full jitter").
pub const FIRST_CEILING_MS: u64 = 1_000;
/// See [`FIRST_CEILING_MS`].
pub const LAST_CEILING_MS: u64 = 60_000;
/// Longest `Retry-After` that is obeyed, in seconds.
pub const MAX_RETRY_AFTER_S: u64 = 3_600;
/// A poll that comes back empty sooner than this is not repeated before, in milliseconds.
pub const SHORTEST_POLL_MS: u64 = 1_000;
/// Rest after a failure of the node itself, such as a full disk, in milliseconds.
pub const STALLED_MS: u64 = 10_000;
/// A server's clock that differs by less is taken for the same, in milliseconds.
pub const TOLERANCE_MS: i64 = 5_000;

/// One of the conversations with the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// `POST /nodes/register`
    Register,
    /// `POST /nodes/heartbeat`
    Heartbeat,
    /// `GET /sessions/control`
    Control,
    /// `GET /probes/request`, `POST /probes/report`
    Probe,
    /// `POST /sessions/control`, `POST /attest/metering`
    Outbox,
}

impl Lane {
    /// All of them.
    pub const ALL: [Lane; 5] = [Lane::Register, Lane::Heartbeat, Lane::Control, Lane::Probe, Lane::Outbox];
}

/// When a lane may speak next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Now.
    Speak,
    /// At this monotonic time, in microseconds.
    At(u64),
    /// Not until something changes.
    Wait,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// 2xx with a readable body.
    Success,
    /// Another status.
    Refused {
        /// The status code.
        status: u16,
        /// The body.
        problem: &'a Problem,
        /// `Retry-After` in seconds.
        retry_after_s: Option<u64>,
    },
    /// None, or one that cannot be read.
    None,
}

/// What a lane does after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// The clock is to be set to this (milliseconds since 1970); then the same again at once, with a new nonce.
    CorrectAndRepeat(i64),
    /// The same again when [`Link::step`] says so.
    Later,
    /// The cursor is unknown: from the beginning, when [`Link::step`] says so.
    StartOver,
    /// It stays refused.
    Final,
}

/// How the link is, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// `registering`, `online`, `backoff` or `refused`.
    pub state: &'static str,
    /// When the coordinator last answered.
    pub last_contact: Option<Unix>,
    /// Milliseconds until the next try of the lane that waits longest; 0 if none backs off.
    pub backoff_ms: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct LaneState {
    failures: u32,
    not_before_us: u64,
    corrected: bool,
    asked_to_wait: bool,
}

/// The state of all lanes.
#[derive(Debug)]
pub struct Link {
    lanes: [LaneState; 5],
    registered: bool,
    register_due: bool,
    register_final: bool,
    heartbeat_ms: u64,
    last_contact: Option<Unix>,
    random: u64,
}

impl Link {
    /// Before the first registration. `seed` makes the jitter differ between nodes.
    pub fn new(seed: u64) -> Link {
        Link {
            lanes: [LaneState::default(); 5],
            registered: false,
            register_due: true,
            register_final: false,
            heartbeat_ms: 30_000,
            last_contact: None,
            random: seed | 1,
        }
    }

    /// When `lane` may speak next.
    pub fn step(&self, lane: Lane, now: Now) -> Step {
        let allowed = match lane {
            Lane::Register => self.register_due && !self.register_final,
            _ => self.registered,
        };
        match self.state(lane).not_before_us {
            _ if !allowed => Step::Wait,
            t if t <= now.mono_us => Step::Speak,
            t => Step::At(t),
        }
    }

    /// Whether the coordinator knows the node.
    pub fn is_registered(&self) -> bool {
        self.registered
    }

    /// Whether the coordinator has ever answered.
    pub fn had_contact(&self) -> bool {
        self.last_contact.is_some()
    }

    /// The registration was answered: the other lanes may speak, the first heartbeat at once.
    pub fn registered(&mut self, heartbeat_ms: u64) {
        self.registered = true;
        self.register_due = false;
        self.heartbeat_ms = heartbeat_ms;
        self.lane(Lane::Heartbeat).not_before_us = 0;
    }

    /// The registration has to be repeated (another certificate); the other lanes go on.
    pub fn register_again(&mut self) {
        self.register_due = true;
        self.register_final = false;
    }

    /// The next heartbeat is due now, unless the lane backs off.
    pub fn heartbeat_soon(&mut self) {
        let lane = self.lane(Lane::Heartbeat);
        if lane.failures == 0 {
            lane.not_before_us = 0;
        }
    }

    /// A poll came back empty: it is not repeated within [`SHORTEST_POLL_MS`] of its start.
    pub fn polled(&mut self, lane: Lane, started_us: u64) {
        let state = self.lane(lane);
        state.not_before_us = state.not_before_us.max(started_us + SHORTEST_POLL_MS * 1000);
    }

    /// A lane's backoff is cut short, unless the coordinator has asked for the wait; for the last posts of a shutdown.
    pub fn hurry(&mut self, lane: Lane) {
        let state = self.lane(lane);
        if !state.asked_to_wait {
            state.not_before_us = 0;
        }
    }

    /// The line is another one: what failed by the old one says nothing of it, so that no lane backs off, unless the
    /// coordinator has asked for the wait. The next heartbeat is due.
    pub fn line_changed(&mut self) {
        for lane in self.lanes.iter_mut().filter(|l| l.failures > 0 && !l.asked_to_wait) {
            lane.failures = 0;
            lane.not_before_us = 0;
        }
        self.heartbeat_soon();
    }

    /// An answer could not be put to use for want of something here: the lane rests for [`STALLED_MS`].
    pub fn stalled(&mut self, lane: Lane, now: Now) {
        self.lane(lane).not_before_us = now.mono_us + STALLED_MS * 1000;
    }

    /// Takes what came of a request.
    pub fn answered(&mut self, lane: Lane, answer: &Answer<'_>, now: Now) -> Verdict {
        if !matches!(answer, Answer::None) {
            self.last_contact = Some(now.unix());
        }
        match answer {
            Answer::Success => self.succeeded(lane, now),
            Answer::None => self.later(lane, None, now),
            Answer::Refused { status, problem, retry_after_s } => {
                self.refused(lane, *status, problem, *retry_after_s, now)
            }
        }
    }

    /// How the link is.
    pub fn status(&self, now: Now) -> LinkStatus {
        let waits = self.lanes.iter().filter(|l| l.failures > 0).map(|l| l.not_before_us);
        let longest = waits.max().map_or(0, |t| t.saturating_sub(now.mono_us));
        let failing = self.lanes.iter().any(|l| l.failures > 0);
        let state = match (self.register_final, failing, self.registered) {
            (true, ..) => "refused",
            (_, true, _) => "backoff",
            (.., true) => "online",
            _ => "registering",
        };
        LinkStatus { state, last_contact: self.last_contact, backoff_ms: longest.div_ceil(1000) }
    }

    fn succeeded(&mut self, lane: Lane, now: Now) -> Verdict {
        let next = if lane == Lane::Heartbeat { now.mono_us + self.heartbeat_ms * 1000 } else { 0 };
        *self.lane(lane) = LaneState { not_before_us: next, ..LaneState::default() };
        Verdict::Done
    }

    fn refused(
        &mut self,
        lane: Lane,
        status: u16,
        problem: &Problem,
        retry_after_s: Option<u64>,
        now: Now,
    ) -> Verdict {
        match (status, problem.slug.as_str()) {
            (401, "signature-stale") if !self.state(lane).corrected => {
                // Half a second is the mean of what whole seconds cut off.
                let Some(server) = problem.server_time else { return self.later(lane, retry_after_s, now) };
                self.lane(lane).corrected = true;
                Verdict::CorrectAndRepeat(server.0.saturating_mul(1000).saturating_add(500))
            }
            (403, "node-unknown") => {
                self.registered = false;
                self.register_again();
                self.later(lane, retry_after_s, now)
            }
            (410, _) if lane == Lane::Control => {
                self.later(lane, retry_after_s, now);
                Verdict::StartOver
            }
            (401 | 408 | 410 | 429, _) => self.later(lane, retry_after_s, now),
            (400..=499, _) => self.give_up(lane, now),
            _ => self.later(lane, retry_after_s, now),
        }
    }

    /// A refusal for good is one of this request; the lane's next request is another.
    fn give_up(&mut self, lane: Lane, now: Now) -> Verdict {
        let pause_ms = match lane {
            Lane::Register => {
                self.register_final = true;
                0
            }
            Lane::Heartbeat => self.heartbeat_ms,
            Lane::Control | Lane::Probe => LAST_CEILING_MS,
            Lane::Outbox => 0,
        };
        *self.lane(lane) = LaneState { not_before_us: now.mono_us + pause_ms * 1000, ..LaneState::default() };
        Verdict::Final
    }

    fn later(&mut self, lane: Lane, retry_after_s: Option<u64>, now: Now) -> Verdict {
        let failures = self.state(lane).failures;
        let ceiling = (FIRST_CEILING_MS << failures.min(16)).min(LAST_CEILING_MS);
        let jittered_us = self.next_random() % (ceiling * 1000 + 1);
        let asked_us = retry_after_s.unwrap_or(0).min(MAX_RETRY_AFTER_S) * 1_000_000;
        let not_before_us = now.mono_us + jittered_us.max(asked_us);
        *self.lane(lane) = LaneState {
            failures: failures.saturating_add(1),
            not_before_us,
            corrected: false,
            asked_to_wait: asked_us > 0,
        };
        Verdict::Later
    }

    /// xorshift64*, by Sebastiano Vigna; jitter needs no more.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn state(&self, lane: Lane) -> LaneState {
        self.lanes.get(lane as usize).copied().unwrap_or_default()
    }

    #[allow(clippy::indexing_slicing, reason = "there are as many places as lanes")]
    fn lane(&mut self, lane: Lane) -> &mut LaneState {
        &mut self.lanes[lane as usize]
    }
}

/// To what the clock is to be set (milliseconds since 1970), if the time in an answer that took `took_ms` is more than
/// [`TOLERANCE_MS`] away from it. The answer was made at some time in between, so a slow line is no wrong clock.
pub fn correction(server: Unix, took_ms: u64, now: Now) -> Option<i64> {
    let took = i64::try_from(took_ms).unwrap_or(i64::MAX);
    let earliest = server.0.saturating_mul(1000);
    let latest = earliest.saturating_add(1000).saturating_add(took);
    let allowed = earliest.saturating_sub(TOLERANCE_MS)..=latest.saturating_add(TOLERANCE_MS);
    (!allowed.contains(&now.unix_ms)).then(|| earliest.midpoint(latest))
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;

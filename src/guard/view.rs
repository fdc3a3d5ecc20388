//! What `run` makes of the guard's reports: whether anything may be carried, and whether the node has sent what it should
//! not have. Everything is down until a report says otherwise.
use super::protocol::{Report, State};
use super::ruleset::{COUNTERS, OUTSIDE, reason};
use crate::config::GuardMode;
use crate::policy::addresses::Prefix;
use crate::policy::wan::Wan;

/// Age in milliseconds at which the last report says nothing any more: a guard that hangs does not watch the table.
pub const SILENCE_MS: u64 = 5_000;
/// How long after a change of the network refused packets may be late ones of what was allowed before, milliseconds: TCP sends a
/// SYN again after 1, 3, 7 and 15 s.
pub const SETTLING_MS: u64 = 30_000;
/// How long the end of what was allowed before is no news: a socket that was closed with data left sends it again for a hundred
/// seconds and more (Linux: `tcp_orphan_retries` is 8).
pub const LATE_MS: u64 = 180_000;
/// The counter of that, the last one.
const LATE: usize = COUNTERS.len() - 1;

/// How the guard is, for the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its table holds this process.
    InForce,
    /// It is required and not there, or there and its table does not stand.
    Down,
    /// There is none, and none is required.
    Absent,
}

impl Status {
    /// The word in `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::InForce => "up",
            Status::Down => "down",
            Status::Absent => "absent",
        }
    }
}

/// What a report means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Packets were refused that only a broken node sends; the sentence names them.
    Outside(String),
    /// Packets were refused for a reason that passes by itself.
    Refused(String),
}

/// The guard as `run` sees it.
#[derive(Clone, Debug, Default)]
pub struct View {
    uid: u32,
    heard_ms: Option<u64>,
    state: Option<State>,
    networks: Option<Vec<Prefix>>,
    wan: Option<Wan>,
    changed_ms: Option<u64>,
    baseline: Option<[u64; COUNTERS.len()]>,
}

impl View {
    /// Of a process that runs as this user.
    pub fn new(uid: u32) -> View {
        View { uid, ..View::default() }
    }

    /// A report has come.
    pub fn hear(&mut self, report: Report, now_ms: u64) -> Option<Finding> {
        self.heard_ms = Some(now_ms);
        match report {
            Report::Networks(list) => {
                // The first list is no change: nothing of this node was under way before it.
                if self.networks.replace(list).is_some() {
                    self.changed_ms = Some(now_ms);
                }
                None
            }
            Report::Wan(wan) => {
                // Packets of the old line may be under way still, and by it they must not go.
                if self.wan.replace(wan).is_some() {
                    self.changed_ms = Some(now_ms);
                }
                None
            }
            // Evidence of the node's place; nothing that the guard holds.
            Report::Outward(_) => None,
            Report::State(state) => {
                self.state = Some(state);
                // The first one says what others did before this process began.
                let before = self.baseline.replace(state.refused)?;
                self.judge(&before, &state, now_ms)
            }
            // What the leases' own side hears.
            Report::Lease(_) => None,
            // Answers to questions that are asked on connections of their own.
            Report::Piece { .. } | Report::Taken(_) | Report::Written(_) | Report::Refused(..) => None,
        }
    }

    /// The connection is gone.
    pub fn lose(&mut self) {
        *self = View { uid: self.uid, ..View::default() };
    }

    /// How the guard is.
    pub fn status(&self, mode: GuardMode, now_ms: u64) -> Status {
        let fresh = self.is_fresh(now_ms);
        match (self.heard_ms, mode) {
            (None, GuardMode::Optional) => Status::Absent,
            _ if fresh && self.holds() => Status::InForce,
            _ => Status::Down,
        }
    }

    /// The owner's networks as the guard knows them, while it is to be believed.
    pub fn networks(&self, now_ms: u64) -> Option<&[Prefix]> {
        self.networks.as_deref().filter(|_| self.is_fresh(now_ms))
    }

    /// The devices that lead outward as the guard knows them, while it is to be believed.
    pub fn wan(&self, now_ms: u64) -> Option<&Wan> {
        self.wan.as_ref().filter(|_| self.is_fresh(now_ms))
    }

    /// Whether the configuration has addresses that the guard has not taken.
    pub fn literals_differ(&self) -> bool {
        self.state.is_some_and(|s| s.literals_differ)
    }

    /// Whether the guard holds another user's traffic, and so not this process's.
    pub fn holds_another(&self) -> Option<u32> {
        self.state.map(|s| s.uid).filter(|uid| *uid != self.uid)
    }

    /// Refused packets by counter.
    pub fn refused(&self) -> Option<[u64; COUNTERS.len()]> {
        self.state.map(|s| s.refused)
    }

    fn holds(&self) -> bool {
        let told = self.networks.is_some() && self.wan.is_some();
        self.state.is_some_and(|s| s.in_force && s.uid == self.uid) && told
    }

    fn is_fresh(&self, now_ms: u64) -> bool {
        self.heard_ms.is_some_and(|at| now_ms.saturating_sub(at) < SILENCE_MS)
    }

    fn judge(&self, before: &[u64], state: &State, now_ms: u64) -> Option<Finding> {
        let changed_within = |ms| self.changed_ms.is_some_and(|at| now_ms.saturating_sub(at) < ms);
        let grown: Vec<(usize, String)> = COUNTERS
            .iter()
            .enumerate()
            .zip(state.refused.iter().zip(before))
            .filter(|((at, _), (now, before))| now > before && (*at != LATE || !changed_within(LATE_MS)))
            .map(|((at, name), (now, before))| (at, format!("{} ({})", now - before, reason(name))))
            .collect();
        let outside = grown.iter().any(|(at, _)| *at < OUTSIDE);
        let settling = changed_within(SETTLING_MS) || state.literals_differ;
        let counts: Vec<String> =
            grown.into_iter().filter(|(at, _)| *at < OUTSIDE || !outside).map(|g| g.1).collect();
        let text =
            format!("The firewall table has refused packets of the node's user: {}.", counts.join(", "));
        match (counts.is_empty(), outside && !settling) {
            (true, _) => None,
            (false, true) => Some(Finding::Outside(text)),
            (false, false) => Some(Finding::Refused(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GuardMode::{Optional, Required};

    fn state(refused: [u64; 6]) -> Report {
        Report::State(State { in_force: true, literals_differ: false, uid: 7, refused })
    }

    fn standing() -> View {
        let mut view = View::new(7);
        assert_eq!(view.hear(Report::Networks(Vec::new()), 0), None);
        assert_eq!(view.hear(Report::Wan(Wan::default()), 0), None);
        assert_eq!(view.hear(state([5; 6]), 0), None, "what was before is nobody's fault");
        view
    }

    #[test]
    fn without_a_guard_it_is_down_where_one_is_required_and_absent_elsewhere() {
        assert_eq!(View::new(7).status(Required, 0), Status::Down);
        assert_eq!(View::new(7).status(Optional, 0), Status::Absent);
        let mut view = standing();
        view.lose();
        assert_eq!((view.status(Required, 1), view.status(Optional, 1)), (Status::Down, Status::Absent));
        assert_eq!(view.networks(1), None);
    }

    #[test]
    fn a_table_that_stands_counts_for_its_own_user_and_for_five_seconds() {
        let view = standing();
        assert_eq!(view.status(Required, SILENCE_MS - 1), Status::InForce);
        assert_eq!(
            (view.status(Required, SILENCE_MS), view.status(Optional, SILENCE_MS)),
            (Status::Down, Status::Down)
        );
        assert!(view.networks(SILENCE_MS - 1).is_some() && view.networks(SILENCE_MS).is_none());
        let mut other = View { uid: 8, ..standing() };
        other.hear(state([5; 6]), 0);
        assert_eq!((other.status(Optional, 0), other.holds_another()), (Status::Down, Some(7)));
    }

    #[test]
    fn a_table_counts_only_once_networks_and_lines_are_known() {
        let mut view = View::new(7);
        view.hear(state([0; 6]), 0);
        assert_eq!(view.status(Required, 0), Status::Down);
        view.hear(Report::Networks(Vec::new()), 0);
        assert_eq!(view.status(Required, 0), Status::Down);
        view.hear(Report::Wan(Wan::default()), 0);
        assert_eq!((view.status(Required, 0), view.wan(0)), (Status::InForce, Some(&Wan::default())));
        assert_eq!(view.wan(SILENCE_MS), None);
    }

    #[test]
    fn what_is_late_after_a_line_has_changed_is_no_violation_either() {
        let mut view = standing();
        view.hear(Report::Wan(Wan::default()), 100_000);
        let finding = view.hear(state([5, 5, 5, 6, 5, 5]), 100_001);
        assert!(matches!(finding, Some(Finding::Refused(_))), "{finding:?}");
    }

    #[test]
    fn the_end_of_what_was_allowed_is_news_only_if_nothing_has_changed() {
        let mut view = standing();
        let late = |n| state([5, 5, 5, 5, 5, n]);
        assert!(matches!(view.hear(late(6), 1), Some(Finding::Refused(_))), "the line is the same");
        view.hear(Report::Wan(Wan::default()), 100_000);
        assert_eq!(view.hear(late(9), 100_000 + LATE_MS - 1), None);
        assert!(matches!(view.hear(late(10), 100_000 + LATE_MS), Some(Finding::Refused(_))));
        view.hear(Report::Wan(Wan::default()), 400_000);
        let Some(Finding::Refused(text)) = view.hear(state([5, 5, 5, 5, 6, 11]), 400_001) else {
            panic!("a refusal of another kind is told")
        };
        assert!(text.contains("1 (dns)") && !text.contains("late"), "{text}");
    }

    #[test]
    fn a_table_that_does_not_stand_is_down_even_where_it_is_optional() {
        let mut view = standing();
        view.hear(
            Report::State(State { in_force: false, literals_differ: false, uid: 7, refused: [5; 6] }),
            1,
        );
        assert_eq!(view.status(Optional, 1), Status::Down);
    }

    #[test]
    fn what_only_a_broken_node_sends_is_outside_policy() {
        for at in 0..6 {
            let mut view = standing();
            let mut refused = [5; 6];
            refused[at] += 2;
            let finding = view.hear(state(refused), 1).unwrap();
            let text = format!(
                "The firewall table has refused packets of the node's user: 2 ({}).",
                reason(COUNTERS[at])
            );
            let wanted = if at < OUTSIDE { Finding::Outside(text) } else { Finding::Refused(text) };
            assert_eq!(finding, wanted);
            assert_eq!(view.hear(state(refused), 2), None, "it is told once");
        }
    }

    #[test]
    fn what_is_late_after_a_change_is_no_violation() {
        let mut view = standing();
        view.hear(Report::Networks(Vec::new()), 100_000);
        let finding = view.hear(state([5, 6, 5, 5, 5, 5]), 100_000 + SETTLING_MS - 1);
        assert!(matches!(finding, Some(Finding::Refused(_))));
        let finding = view.hear(state([5, 7, 5, 5, 5, 5]), 100_000 + SETTLING_MS);
        assert!(matches!(finding, Some(Finding::Outside(_))));
        let differ = State { in_force: true, literals_differ: true, uid: 7, refused: [5, 8, 5, 5, 5, 5] };
        let finding = view.hear(Report::State(differ), 200_000);
        assert!(matches!(finding, Some(Finding::Refused(_))), "the owner's own new address");
    }
}

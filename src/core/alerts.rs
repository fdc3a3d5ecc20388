//! What the owner should know: one entry per code, since when, and a sentence.
use crate::json::{Value, array, object};
use crate::time::Unix;

/// Most alerts at a time; further codes replace the oldest.
pub const MAX_ALERTS: usize = 32;

/// Those that tell of something that has happened, and not of something that lasts: nothing takes them back.
const EVENTS: [&str; 4] = ["chain-lost", "guard-refused", "probe-forged", "session-lost"];
/// How long after the last time such an event is still told, seconds: a day.
pub const EVENT_S: i64 = 24 * 3600;

/// The alerts in force, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts(Vec<Alert>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Alert {
    code: String,
    since: Unix,
    last: Unix,
    detail: String,
}

impl Alerts {
    /// Raises an alert; true if it was not there before. One that stands keeps its `since` and takes the new sentence.
    pub fn raise(&mut self, code: &str, now: Unix, detail: &str) -> bool {
        if let Some(old) = self.0.iter_mut().find(|a| a.code == code) {
            old.detail = detail.to_owned();
            old.last = now;
            return false;
        }
        if self.0.len() == MAX_ALERTS {
            self.0.remove(0);
        }
        self.0.push(Alert { code: code.to_owned(), since: now, last: now, detail: detail.to_owned() });
        true
    }

    /// Takes an alert back; true if it stood.
    pub fn clear(&mut self, code: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|a| a.code != code);
        self.0.len() != before
    }

    /// An event's alert whose last time is more than [`EVENT_S`] away, by a clock that may have been set back too.
    pub fn bygone(&self, now: Unix) -> Option<String> {
        let is_over = |a: &&Alert| {
            EVENTS.contains(&a.code.as_str()) && now.0.abs_diff(a.last.0) > EVENT_S.unsigned_abs()
        };
        self.0.iter().find(is_over).map(|a| a.code.clone())
    }

    /// Whether an alert stands.
    pub fn has(&self, code: &str) -> bool {
        self.0.iter().any(|a| a.code == code)
    }

    /// As heartbeats and `/status` show them.
    pub fn to_value(&self) -> Value {
        array(self.0.iter().map(|a| {
            object([
                ("code", a.code.as_str().into()),
                ("since", a.since.to_string().into()),
                ("detail", a.detail.as_str().into()),
            ])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_keeps_when_it_began() {
        let mut alerts = Alerts::default();
        assert!(alerts.raise("a", Unix(1), "x"));
        assert!(!alerts.raise("a", Unix(5), "y"));
        assert_eq!(alerts.0, [Alert { code: "a".into(), since: Unix(1), last: Unix(5), detail: "y".into() }]);
        assert!(alerts.clear("a"));
        assert!(!alerts.clear("a"));
    }

    #[test]
    fn what_has_happened_is_told_for_a_day_and_what_lasts_until_it_ends() {
        let mut alerts = Alerts::default();
        alerts.raise("wan-down", Unix(0), "");
        alerts.raise("probe-forged", Unix(0), "");
        alerts.raise("probe-forged", Unix(1000), "");
        assert_eq!(alerts.bygone(Unix(1000 + EVENT_S)), None);
        assert_eq!(alerts.bygone(Unix(1001 + EVENT_S)).as_deref(), Some("probe-forged"));
        assert_eq!(alerts.bygone(Unix(999 - EVENT_S)).as_deref(), Some("probe-forged"));
        alerts.clear("probe-forged");
        assert_eq!(alerts.bygone(Unix(1001 + EVENT_S)), None);
    }

    #[test]
    fn the_oldest_gives_way_at_the_limit() {
        let mut alerts = Alerts::default();
        (0..=MAX_ALERTS as i64).for_each(|i| assert!(alerts.raise(&i.to_string(), Unix(i), "")));
        assert_eq!((alerts.0.len(), alerts.0[0].code.as_str()), (MAX_ALERTS, "1"));
    }
}

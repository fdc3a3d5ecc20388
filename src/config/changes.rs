//! What differs between two configurations, and what it takes to bring that into force.
use super::model::Config;
use super::schema::{self, Apply, OPTIONS};

/// The options in which two configurations differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Their paths and what each needs, in the schema's order.
    pub options: Vec<(&'static str, Apply)>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// Whether some change needs this to come into force.
    pub fn needs(&self, apply: Apply) -> bool {
        self.options.iter().any(|(_, a)| *a == apply)
    }

    /// Whether an option at the path or in the section changed: `network`, `security.dohUrl`.
    pub fn touches(&self, path: &str) -> bool {
        let inside = |p: &str| {
            p.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.options.iter().any(|(p, _)| inside(p))
    }
}

/// What changes from `old` to `new`. Windows of the schedule are compared as a whole.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let (old, new) = (old.to_value(), new.to_value());
    let mut changes = Changes::default();
    for option in OPTIONS {
        let path = option.path.split_once("[]").map_or(option.path, |(list, _)| list);
        let noted = changes.options.last().is_some_and(|(p, _)| *p == path);
        if !noted && schema::find(&old, path) != schema::find(&new, path) {
            changes.options.push((path, option.apply));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::super::{Face, Platform, parse};
    use super::*;

    fn config(text: &str) -> Config {
        parse(format!("version: 1\n{text}").as_bytes(), Face::Yaml, Platform::Other).unwrap()
    }

    #[test]
    fn a_limit_is_live_a_listener_is_rebound_a_key_needs_a_restart() {
        let old = config("");
        let limit = diff(&old, &config("network: { perSession: { maxMbps: 3 } }"));
        assert_eq!(limit.options, [("network.perSession.maxMbps", Apply::Live)]);
        assert!(
            limit.touches("network") && limit.touches("network.perSession") && !limit.touches("network.max")
        );
        let listener = diff(&old, &config("relay: { listen: \"127.0.0.1:1\" }"));
        assert!(listener.needs(Apply::Rebind) && !listener.needs(Apply::Restart));
        assert!(diff(&old, &config("node: { idPath: /k }")).needs(Apply::Restart));
        assert!(diff(&old, &old).is_empty());
    }

    #[test]
    fn a_schedule_is_one_change() {
        let new = config("node: { schedules: [{ days: [Mon], start: \"01:00\", end: \"02:00\" }] }");
        let changes = diff(&config(""), &new);
        assert_eq!(changes.options, [("node.schedules", Apply::Live)]);
        assert!(changes.touches("node.schedules"));
    }
}

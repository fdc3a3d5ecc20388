//! The versions of the coordinator's lists that were seen: a lower one is an old list played again. Pure.
use super::wire::ListRef;

/// Most lists whose version is remembered, withdrawn ones included.
pub const MAX_NAMES: usize = 64;
/// Longest version, bytes.
const MAX_TEXT: usize = 64;

/// A version, to be compared: numbers from left to right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u64>);

impl Version {
    /// Of a whole number, or of numbers with `.`, `-`, `:` or `T` between them (`1.10`, `2026-11-26T03:00:00Z`), with a `v`
    /// in front or a `Z` behind. `None` of any other text: nobody could tell which of two is the later one.
    pub fn parse(text: &str) -> Option<Version> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.strip_suffix('Z').unwrap_or(text);
        let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?;
        text.split(['.', '-', ':', 'T']).map(number).collect::<Option<_>>().map(Version)
    }
}

/// The highest version of each list that one coordinator has signed and named, the one that changed last at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    by: String,
    names: Vec<(String, String)>,
}

impl Versions {
    /// The version of a list of the coordinator's with this key.
    pub fn of(&self, by: &str, name: &str) -> Option<&str> {
        let known = self.names.iter().find(|(n, _)| self.by == by && n == name);
        known.map(|(_, version)| version.as_str())
    }

    /// What is to be noted, in this order, now that these lists are named: nothing if all is known. With anything new those
    /// that are known are noted anew, so that the ones that make room are withdrawn ones.
    pub fn news<'a>(&self, by: &str, named: &'a [ListRef]) -> Vec<&'a ListRef> {
        let known = |list: &&ListRef| self.of(by, &list.name) == Some(&list.version);
        if named.iter().all(|list| known(&list)) { Vec::new() } else { named.iter().collect() }
    }

    /// A version was seen. Those of another coordinator are forgotten, and the one that changed first beyond [`MAX_NAMES`].
    pub fn note(&mut self, by: &str, name: &str, version: &str) {
        if self.by != by {
            by.clone_into(&mut self.by);
            self.names.clear();
        }
        self.names.retain(|(n, _)| n != name);
        if self.names.len() >= MAX_NAMES {
            self.names.remove(0);
        }
        self.names.push((name.to_owned(), version.to_owned()));
    }

    /// All of them: coordinator, list and version.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.names.iter().map(|(name, version)| (self.by.as_str(), name.as_str(), version.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Value;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn list(name: usize, version: &str) -> ListRef {
        let (name, text) = (name.to_string(), String::new);
        ListRef { name, version: version.to_owned(), url: text(), hash: text(), raw: Value::Null }
    }

    #[test]
    fn versions_are_ordered_number_by_number() {
        let rising =
            ["0", "9", "v10", "10.1", "10.9", "10.10", "2026-01", "2026-01-31", "2026-01-31T09:00:00Z"];
        for pair in rising.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("7"), version("v07"));
    }

    #[test]
    fn a_text_without_an_order_is_no_version() {
        let long = "1".repeat(MAX_TEXT + 1);
        for text in
            ["", "a", "1a", "deadbeef", "1..2", "-1", "+1", "1 2", "1e21", "99999999999999999999", &long]
        {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert!(Version::parse(&format!("{}1", "1.".repeat(31))).is_some());
    }

    #[test]
    fn the_ones_that_make_room_are_withdrawn() {
        let mut versions = Versions::default();
        let note = |versions: &mut Versions, named: &[ListRef]| {
            let news: Vec<ListRef> = versions.news("k", named).into_iter().cloned().collect();
            news.iter().for_each(|l| versions.note("k", &l.name, &l.version));
            news.len()
        };
        assert_eq!(note(&mut versions, &[list(0, "5")]), 1);
        assert_eq!(note(&mut versions, &[list(0, "5")]), 0, "nothing to write");
        for n in 1..=MAX_NAMES {
            assert_eq!(note(&mut versions, &[list(0, "5"), list(n, "1")]), 2);
        }
        assert_eq!(versions.iter().count(), MAX_NAMES);
        assert_eq!((versions.of("k", "0"), versions.of("k", "1")), (Some("5"), None));
        assert_eq!(versions.of("k", &MAX_NAMES.to_string()), Some("1"));
    }

    #[test]
    fn another_coordinator_counts_anew() {
        let mut versions = Versions::default();
        versions.note("k", "ads", "9");
        assert_eq!(versions.of("other", "ads"), None);
        versions.note("other", "mail", "1");
        assert_eq!((versions.of("k", "ads"), versions.of("other", "mail")), (None, Some("1")));
    }
}

//! Host names and sets of domains (RFC 1123 section 2.1, RFC 5890 A-labels).
use crate::mutant::out;
use std::fmt;

/// The longest name in text form, without final dot (RFC 1035 section 3.1).
pub const MAX_NAME: usize = 253;

/// Lower case, without final dot; `None` unless it is a name of A-labels: letters, digits, hyphens and underscores,
/// labels of 1 to 63 octets, 253 in all.
pub fn normal(name: &str) -> Option<String> {
    let given = name;
    let name = given.strip_suffix('.').unwrap_or(given);
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let hyphen = |l: &str| l.starts_with('-') || l.ends_with('-');
    let label = |l: &str| {
        (!l.is_empty() || out("host-empty-label"))
            && (l.len() <= 63 || out("host-label-length"))
            && (!hyphen(l) || out("host-hyphens"))
            && (l.bytes().all(alphabet) || out("host-alphabet"))
    };
    let fits = name.len() <= MAX_NAME || out("host-length");
    let kept = if out("host-final-dot") { given } else { name };
    let lower = || if out("host-case") { kept.to_owned() } else { kept.to_ascii_lowercase() };
    (fits && name.split('.').all(label)).then(lower)
}

/// A name that is none. A list with one is refused whole: to skip an entry of an allow list could empty it, and an
/// empty one allows all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadName(pub String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a domain name; write internationalised names as A-labels (xn--…)", self.0)
    }
}

impl std::error::Error for BadName {}

/// A set of domains. An entry covers itself and its subdomains. Takes the names' bytes and 4 more for each; for more than
/// some ten thousand names there is [`super::lists::NameSet`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainSet {
    text: String,
    /// Where each name starts in `text`, and in the last 8 bits its length; in the order of the names.
    places: Vec<u32>,
}

impl DomainSet {
    /// The set of these names.
    ///
    /// # Errors
    /// The first that is no name, or that no longer fits into 16 MiB.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<DomainSet, BadName> {
        let mut set = DomainSet::default();
        for name in names {
            let bad = || BadName(name.as_ref().to_owned());
            let normal = normal(name.as_ref()).ok_or_else(bad)?;
            let start = u32::try_from(set.text.len()).ok().filter(|at| *at < 1 << 24).ok_or_else(bad)?;
            // A name has at most 253 octets.
            set.places.push(start << 8 | u32::try_from(normal.len()).map_err(|_| bad())?);
            set.text.push_str(&normal);
        }
        let text = &set.text;
        set.places.sort_unstable_by_key(|place| name_at(text, *place));
        set.places.dedup_by_key(|place| name_at(text, *place));
        set.places.shrink_to_fit();
        set.text.shrink_to_fit();
        Ok(set)
    }

    /// The set in a text with one name per line; empty lines and what follows a `#` are skipped.
    ///
    /// # Errors
    /// As [`DomainSet::new`].
    pub fn from_lines(text: &str) -> Result<DomainSet, BadName> {
        let content = |line: &'_ str| line.split('#').next().unwrap_or_default().trim().to_owned();
        DomainSet::new(text.lines().map(content).filter(|line| !line.is_empty()))
    }

    /// Whether an entry covers `host`, a name in [`normal`] form.
    pub fn covers(&self, host: &str) -> bool {
        let mut rest = Some(host);
        while let Some(name) = rest {
            if self.places.binary_search_by(|place| name_at(&self.text, *place).cmp(name)).is_ok() {
                return true;
            }
            rest = name.split_once('.').map(|(_, parent)| parent);
        }
        false
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The number of different entries.
    pub fn len(&self) -> usize {
        self.places.len()
    }
}

fn name_at(text: &str, place: u32) -> &str {
    let (start, length) = ((place >> 8) as usize, (place & 0xff) as usize);
    text.get(start..start + length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(names: &[&str]) -> DomainSet {
        DomainSet::new(names).unwrap()
    }

    #[test]
    fn an_entry_covers_itself_and_its_subdomains() {
        let s = set(&["Example.com.", "b.test"]);
        for yes in ["example.com", "www.example.com", "a.b.c.example.com", "b.test"] {
            assert!(s.covers(yes), "{yes}");
        }
        for no in ["com", "notexample.com", "example.com.evil.test", "test", "xb.test", "example.co", ""] {
            assert!(!s.covers(no), "{no}");
        }
    }

    #[test]
    fn the_empty_set_covers_nothing() {
        assert!(DomainSet::default().is_empty());
        assert!(!DomainSet::default().covers("example.com"));
    }

    #[test]
    fn names_are_lower_case_without_final_dot() {
        assert_eq!(normal("WWW.Example.COM.").as_deref(), Some("www.example.com"));
        assert_eq!(normal("xn--bcher-kva.example").as_deref(), Some("xn--bcher-kva.example"));
        assert_eq!(normal("_dmarc.example").as_deref(), Some("_dmarc.example"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(63).as_str(); 4].join(".");
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "a..",
            "-a.b",
            "a-.b",
            "bücher.example",
            "a b",
            "a\0b",
            "*.a",
            "a/b",
            "a:1",
        ]
        .into_iter()
        .chain([long_label.as_str(), long_name.as_str()])
        {
            assert_eq!(normal(bad), None, "{bad:?}");
        }
        assert!(normal(&"a".repeat(63)).is_some());
    }

    #[test]
    fn one_bad_name_refuses_the_list() {
        assert_eq!(DomainSet::new(["a.test", "*"]), Err(BadName("*".into())));
    }

    #[test]
    fn lines_may_hold_comments() {
        let s = DomainSet::from_lines("# known\na.test # one\n\n b.test\r\na.test\n").unwrap();
        assert_eq!((s.len(), s.covers("x.a.test"), s.covers("b.test")), (2, true, true));
    }

    proptest! {
        #[test]
        fn agrees_with_a_search_through_the_list(
            names in proptest::collection::vec("[ab]{1,2}(\\.[ab]{1,2}){0,3}", 0..12),
            host in "[ab]{1,2}(\\.[ab]{1,2}){0,4}",
        ) {
            let plain = names.iter().any(|n| host == *n || host.ends_with(&format!(".{n}")));
            prop_assert_eq!(DomainSet::new(&names).unwrap().covers(&host), plain);
        }
    }
}

//! The schema: every option with its type, default, unit and meaning, in one table.
//!
//! Validation of every face, the JSON Schema, the reference table and the names in UCI all come from it.
use super::forms::Form;
pub use super::table::OPTIONS;
use crate::json::{self, Value};

/// Where the node runs, as far as defaults depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// A router with OpenWrt: the guard is required, the key stands in `/etc`.
    OpenWrt,
    /// Any other machine.
    Other,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// `true`; `false` is refused with the reason given.
    True(&'static str),
    /// An integer from the first to the second.
    Int(i64, i64),
    /// A number from the first to the second.
    Number(f64, f64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A text of some form.
    Text(Form),
    /// A list of at most so many texts of a form.
    Texts(Form, usize),
    /// A list of these words, each at most once, with at least so many.
    Choices(&'static [&'static str], usize),
    /// A list of at most so many integers from the first to the second.
    Ints(i64, i64, usize),
}

/// What holds when an option is absent. Texts are JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Nothing: the option is unset.
    Unset,
    /// The option must be there.
    Required,
    /// This value.
    Is(&'static str),
    /// The first on OpenWrt, the second elsewhere.
    By(&'static str, &'static str),
    /// The second if the option named first is absent too, else an empty list.
    With(&'static str, &'static str),
}

/// How a change of an option comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Apply {
    /// At once, on live sessions too.
    Live,
    /// With a new registration at the coordinator.
    Register,
    /// With a new connection to the coordinator.
    Reconnect,
    /// With a new listener; live tunnels go on.
    Rebind,
    /// With a restart of the daemon.
    Restart,
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Path in YAML and JSON: `network.maxMbps`, `node.schedules[].start`.
    pub path: &'static str,
    /// Section type and option in UCI: `network.max_mbps`.
    pub uci: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What holds without it.
    pub default: Default,
    /// Unit, or empty.
    pub unit: &'static str,
    /// When a change comes into force.
    pub apply: Apply,
    /// What it is for, one sentence or two.
    pub doc: &'static str,
}

impl Opt {
    /// The value that holds without the option in a document that has `given`.
    pub fn default_value(&self, given: &Value, platform: Platform) -> Option<Value> {
        let text = match self.default {
            Default::Unset | Default::Required => return None,
            Default::Is(text) => text,
            Default::By(text, _) if platform == Platform::OpenWrt => text,
            Default::By(_, text) => text,
            Default::With(other, text) if find(given, other).is_none() => text,
            Default::With(..) => "[]",
        };
        json::parse(text.as_bytes()).ok()
    }

    /// What is allowed, in words, with the unit.
    pub fn allowed(&self) -> String {
        let what = match self.kind {
            Kind::Bool => "true or false".to_owned(),
            Kind::True(_) => "true".to_owned(),
            Kind::Int(min, max) if min == max => min.to_string(),
            Kind::Int(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Number(min, max) => format!("{min} to {max}"),
            Kind::Choice(words) => words.join(", "),
            Kind::Text(form) => form.allowed().to_owned(),
            Kind::Texts(form, most) => format!("a list of at most {most}, each {}", form.allowed()),
            Kind::Choices(words, 0) => format!("a list of different ones of {}", words.join(", ")),
            Kind::Choices(words, least) => {
                format!("a list of at least {least}, different ones of {}", words.join(", "))
            }
            Kind::Ints(min, max, most) => {
                format!("a list of at most {most} whole numbers from {min} to {max}")
            }
        };
        if self.unit.is_empty() { what } else { format!("{what} ({})", self.unit) }
    }

    /// Names on the path, from the outside; a list of sections is named `schedules[]`.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('.')
    }
}

/// The option at a path.
pub fn option(path: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|o| o.path == path)
}

/// The names of options and sections directly below a section, without `[]`; the document itself is `""`.
pub fn names_below(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for option in OPTIONS {
        let rest = match section {
            "" => Some(option.path),
            _ => option.path.strip_prefix(section).and_then(|r| r.strip_prefix('.')),
        };
        let name = rest.and_then(|r| r.split('.').next()).map(|n| n.trim_end_matches("[]"));
        if let Some(name) = name.filter(|n| !names.contains(n)) {
            names.push(name);
        }
    }
    names
}

/// Whether a path is that of a section, a list of sections (`[]` at its end) included.
pub fn is_section(path: &str) -> bool {
    OPTIONS.iter().any(|o| o.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The value at a path (without `[]`) of a document.
pub fn find<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, Value::member)
}

/// Sets the value at a path (without `[]`), making the sections on the way.
pub fn put(document: &mut Value, path: &str, value: Value) {
    match path.split_once('.') {
        None => document.set(path, value),
        Some((section, rest)) => {
            let mut inner = document.member(section).cloned().unwrap_or(Value::Object(Vec::new()));
            put(&mut inner, rest, value);
            document.set(section, inner);
        }
    }
}

/// The document with every default that it leaves out.
pub fn complete(given: &Value, platform: Platform) -> Value {
    let mut document = Value::Object(Vec::new());
    let listed = OPTIONS.iter().map(|o| o.path.split_once("[]").map_or(o.path, |(list, _)| list));
    let mut last = "";
    for (option, path) in OPTIONS.iter().zip(listed) {
        // The members of a list of sections share its path, and the list is taken over once.
        if path == last {
            continue;
        }
        last = path;
        let value = match find(given, path) {
            Some(value) => Some(value.clone()),
            None if option.path != path => Some(Value::Array(Vec::new())),
            None => option.default_value(given, platform),
        };
        if let Some(value) = value {
            put(&mut document, path, value);
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// `maxGBPerDay` to `max_gb_per_day`: the rule behind the table's names.
    fn snake(name: &str) -> String {
        let name = name.replace("GB", "Gb").replace("KB", "Kb");
        name.chars()
            .flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
            .collect()
    }

    #[test]
    fn every_path_and_every_uci_name_stands_once() {
        let paths: HashSet<_> = OPTIONS.iter().map(|o| o.path).collect();
        let uci: HashSet<_> = OPTIONS.iter().map(|o| o.uci).collect();
        assert_eq!((paths.len(), uci.len()), (OPTIONS.len(), OPTIONS.len()));
    }

    #[test]
    fn a_uci_name_is_the_snake_case_of_the_yaml_name() {
        for option in OPTIONS {
            let name = option.path.rsplit('.').next().unwrap();
            assert_eq!(option.uci.split_once('.').unwrap().1, snake(name), "{}", option.path);
        }
    }

    #[test]
    fn defaults_are_allowed_values() {
        for platform in [Platform::OpenWrt, Platform::Other] {
            let given = json::parse(br#"{"version":1}"#).unwrap();
            let document = complete(&given, platform);
            assert_eq!(super::super::validate::check(&document), [], "{platform:?}");
        }
    }

    #[test]
    fn options_have_a_sentence_and_sections_are_together() {
        let mut seen = Vec::new();
        for option in OPTIONS {
            assert!(option.doc.ends_with('.') && option.doc.len() > 20, "{}", option.path);
            let section = option.path.rsplit_once('.').map_or("", |(s, _)| s);
            if seen.last() != Some(&section) {
                assert!(!seen.contains(&section), "{section} is torn apart");
                seen.push(section);
            }
        }
    }

    #[test]
    fn the_bootstrap_addresses_belong_to_the_default_resolver_only() {
        let own = json::parse(br#"{"version":1,"security":{"dohUrl":"https://dns.example/q"}}"#).unwrap();
        let bootstrap =
            |given| find(&complete(given, Platform::Other), "security.dohBootstrap").unwrap().clone();
        assert_eq!(bootstrap(&own), Value::Array(vec![]));
        assert_eq!(bootstrap(&json::parse(b"{}").unwrap()).as_array().unwrap().len(), 4);
    }
}

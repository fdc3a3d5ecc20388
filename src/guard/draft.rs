//! A table in words: the form from which both its data and its text are made.
use super::rules::Word;
use super::table::{Chain, Flowtable, Hook, Key, Set, Table, family};
use std::fmt::Write as _;

/// A rendered table: as data for the kernel, and as text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// For the kernel.
    pub table: Table,
    /// As `nft` would list it.
    pub text: String,
}

/// Name, type, elements for the kernel, elements as text.
pub type NamedSet = (&'static str, Key, Vec<(Vec<u8>, bool)>, Vec<String>);
/// Name, place, and the words of each rule.
pub type NamedChain = (&'static str, Option<Hook>, Vec<Vec<Word>>);

/// What a table is made of.
#[derive(Debug)]
pub struct Draft {
    /// Its name.
    pub name: &'static str,
    /// Named counters.
    pub counters: &'static [&'static str],
    /// Sets and maps.
    pub sets: Vec<NamedSet>,
    /// Flowtables.
    pub flowtables: Vec<(&'static str, Flowtable)>,
    /// Chains.
    pub chains: Vec<NamedChain>,
}

impl Draft {
    /// Both forms.
    pub fn rendered(self) -> Rendered {
        let text = self.text();
        let set = |(name, key, elements, _): NamedSet| {
            (name.to_owned(), Set { key, elements: elements.into_iter().collect() })
        };
        let chain = |(name, hook, rules): NamedChain| {
            let rules = rules.iter().map(|r| r.iter().flat_map(Word::expressions).collect()).collect();
            (name.to_owned(), Chain { hook, rules })
        };
        let table = Table {
            name: self.name.to_owned(),
            counters: self.counters.iter().map(|c| (*c).to_owned()).collect(),
            sets: self.sets.into_iter().map(set).collect(),
            flowtables: self.flowtables.into_iter().map(|(name, f)| (name.to_owned(), f)).collect(),
            chains: self.chains.into_iter().map(chain).collect(),
        };
        Rendered { table, text }
    }

    fn text(&self) -> String {
        let mut out = format!("table {} {} {{\n", family(self.name).1, self.name);
        for counter in self.counters {
            let _ = write!(out, "\tcounter {counter} {{\n\t\tpackets 0 bytes 0\n\t}}\n\n");
        }
        for (name, key, _, elements) in &self.sets {
            let kind = if key.data().is_some() { "map" } else { "set" };
            let _ = writeln!(out, "\t{kind} {name} {{\n\t\ttype {}", key.text());
            if let Some(size) = key.size() {
                let _ = writeln!(out, "\t\tsize {size}");
            }
            if let Some(flags) = key.flags() {
                let _ = writeln!(out, "\t\tflags {flags}");
            }
            if !elements.is_empty() {
                let _ = writeln!(out, "\t\telements = {{ {} }}", elements.join(",\n\t\t\t     "));
            }
            out.push_str("\t}\n\n");
        }
        for (name, flowtable) in &self.flowtables {
            let devices: Vec<&str> = flowtable.devices.iter().map(String::as_str).collect();
            let devices = devices.join(", ");
            let _ = writeln!(out, "\tflowtable {name} {{\n\t\thook ingress priority filter");
            let _ = writeln!(out, "\t\tdevices = {{ {devices} }}");
            out.push_str("\t\tcounter\n\t}\n\n");
        }
        for (name, hook, rules) in &self.chains {
            let _ = writeln!(out, "\tchain {name} {{");
            if let Some(hook) = hook {
                let _ = writeln!(out, "\t\t{}", hook.text());
            }
            for rule in rules {
                let words: Vec<String> = rule.iter().map(Word::text).collect();
                let _ = writeln!(out, "\t\t{}", words.join(" "));
            }
            out.push_str("\t}\n\n");
        }
        out.truncate(out.len() - 1);
        out.push_str("}\n");
        out
    }
}

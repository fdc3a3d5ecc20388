//! UCI, the router's own store, as the third face of the configuration: `/etc/config/echomesh` and what `uci show` prints of it.
//!
//! A text becomes [`Section`]s, and these a document of the same schema as the other faces'. Names come from the schema's table
//! (`network.max_mbps`: option `max_mbps` of the section of type `network`). Sections are known by their type; those that
//! stand in a list (`schedule`) may be there many times, with a name or without, in their order.
mod document;
mod example;
mod text;
mod write;

pub use document::document;
pub use example::example;
pub use text::parse;
pub use write::write;

use super::errors::Problem;
use super::schema::OPTIONS;

/// The package: the file's name in `/etc/config`.
pub const PACKAGE: &str = "echomesh";

/// Sections of a text at most.
pub const MAX_SECTIONS: usize = 128;
/// Options of a section at most.
pub const MAX_OPTIONS: usize = 64;
/// Values of a list at most, which is more than the schema allows of any.
pub const MAX_VALUES: usize = 20_000;

/// The name of the one section whose type is the package's own.
const MAIN: &str = "main";
/// What the service script reads in the main section, and the node does not: whether to start at all.
const ENABLED: &str = "enabled";

/// A section as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Its type.
    pub kind: String,
    /// Its name; none if it is anonymous.
    pub name: Option<String>,
    /// Its options, each once.
    pub options: Vec<Entry>,
    /// The line that opens it, from 1.
    pub line: usize,
}

/// An option, or a list, which is the same with more values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its values in their order; at least one.
    pub values: Vec<String>,
    /// Its first line, from 1.
    pub line: usize,
    /// Whether it is written as a list; `uci show` does not tell.
    pub list: bool,
}

impl Section {
    fn option(&self, name: &str) -> Option<&Entry> {
        self.options.iter().find(|o| o.name == name)
    }
}

/// Types of sections in the schema's order, each once.
fn kinds() -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for (kind, _) in OPTIONS.iter().filter_map(|o| o.uci.split_once('.')) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// Where sections of a type stand in the document: the path of the section, or of the list with `[]`; the document
/// itself is `""`.
fn path_of(kind: &str) -> Option<&'static str> {
    let mut ours = OPTIONS.iter().filter(|o| o.uci.split_once('.').is_some_and(|(k, _)| k == kind));
    ours.next().map(|o| o.path.rsplit_once('.').map_or("", |(section, _)| section))
}

/// A problem at a place of UCI: `network.max_mbps`.
fn problem(place: String, line: usize, text: impl Into<String>) -> Problem {
    Problem { line: Some(line), place: Some(place), ..Problem::new("", text) }
}

#[cfg(test)]
mod tests;

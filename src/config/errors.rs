//! What is wrong with a configuration, for a person who has the file open.
use crate::json::{Value, array, object};
use std::fmt;

/// Problems reported at once; the rest is only counted.
pub const MAX_PROBLEMS: usize = 20;

/// Characters of a value or a name that an error repeats.
const MAX_SHOWN: usize = 60;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer (RFC 6901) of the member; empty for the whole document.
    pub pointer: String,
    /// Line of the member, from 1, if the face has lines.
    pub line: Option<usize>,
    /// Where it stands in UCI, if that is the face: `echomesh.network.max_mbps`.
    pub place: Option<String>,
    /// What is wrong, with the value and what is allowed.
    pub text: String,
}

impl Problem {
    /// A problem of the member at `pointer`.
    pub fn new(pointer: impl Into<String>, text: impl Into<String>) -> Problem {
        Problem { pointer: pointer.into(), line: None, place: None, text: text.into() }
    }

    /// The member as the documentation writes it, or as UCI does: `node.schedules[0].start`, `echomesh.@schedule[0].start`.
    pub fn path(&self) -> String {
        if let Some(place) = &self.place {
            return place.chars().flat_map(char::escape_debug).collect();
        }
        let mut path = String::new();
        for part in self.pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
                path.push_str(&format!("[{part}]"));
            } else {
                path.push_str(if path.is_empty() { "" } else { "." });
                path.extend(part.chars().flat_map(char::escape_debug));
            }
        }
        path
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        write!(f, "{path}{}{}", if path.is_empty() { "" } else { ": " }, self.text)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// The first [`MAX_PROBLEMS`], in the order of the text.
    pub problems: Vec<Problem>,
    /// How many more were found before the search ended.
    pub more: usize,
}

impl Errors {
    pub(super) fn new(mut problems: Vec<Problem>) -> Errors {
        problems.sort_by_key(|p| p.line);
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        Errors { problems, more }
    }

    /// One line per problem, each with file and line: `FILE:LINE: network.maxMbps: …`.
    pub fn render(&self, file: &str) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            let line = problem.line.map(|l| format!("{l}:")).unwrap_or_default();
            out.push_str(&format!("{file}:{line} {problem}\n"));
        }
        if self.more > 0 {
            out.push_str(&format!("{file}: and at least {} more\n", self.more));
        }
        out
    }

    /// For an interface: an array of `{pointer, line?, detail}`.
    pub fn to_value(&self) -> Value {
        array(self.problems.iter().map(|p| {
            let mut o = object([("pointer", p.pointer.as_str().into()), ("detail", p.text.as_str().into())]);
            if let Some(line) = p.line {
                o.set("line", line);
            }
            o
        }))
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for problem in &self.problems {
            write!(f, "{between}{problem}")?;
            between = "; ";
        }
        if self.more > 0 { write!(f, "; and at least {} more", self.more) } else { Ok(()) }
    }
}

impl std::error::Error for Errors {}

/// A value as an error repeats it: JSON, cut when long.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a section".to_owned(),
        _ => cut(&value.canonical()),
    }
}

/// A text, cut when long.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The pointer of a member of what `pointer` points at.
pub(super) fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", cut(name).replace('~', "~0").replace('/', "~1"))
}

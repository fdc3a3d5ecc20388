//! Configuration: one schema, read from YAML, JSON or UCI.
//!
//! A text becomes a document ([`crate::json::Value`], YAML and UCI with their lines), the document is checked against the
//! [`schema`] as a whole, completed with defaults and turned into a typed [`Config`].
mod build;
mod changes;
pub mod commands;
mod describe;
mod document;
mod emit;
mod errors;
pub mod forms;
mod model;
pub mod schema;
mod store;
mod table;
pub mod uci;
mod validate;
#[cfg(feature = "yaml")]
mod yaml;
#[cfg(not(feature = "yaml"))]
#[path = "no_yaml.rs"]
mod yaml;

pub use changes::{Changes, diff};
pub use describe::{example, json_schema, reference};
pub use errors::{Errors, MAX_PROBLEMS, Problem};
pub use model::*;
pub use schema::{Apply, Platform};
pub use store::{Saved, Store, StoreError, read_bounded, real_path, usual_path};

use crate::json::{self, Value};

/// Largest text that is read, in bytes.
pub const MAX_TEXT: usize = 256 * 1024;

/// Name of the configuration's file where nobody has chosen another.
pub const FILE: &str = if cfg!(feature = "yaml") { "config.yaml" } else { "config.json" };

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// YAML 1.2, core schema; a build without the feature `yaml` writes it and does not read it.
    Yaml,
    /// JSON, RFC 8259.
    Json,
    /// UCI: the file of `/etc/config`, or what `uci show` prints of it; written as the file.
    Uci,
}

/// Reads a configuration. The errors are all that is wrong with it, not only the first.
pub fn parse(text: &[u8], face: Face, platform: Platform) -> Result<Config, Errors> {
    read(text, face).and_then(|document| complete(&document, platform))
}

/// The configuration that a document stands for, such as the body of `PUT /config`.
pub fn from_value(document: &Value, platform: Platform) -> Result<Config, Errors> {
    let problems = validate::check(document);
    if problems.is_empty() { complete(document, platform) } else { Err(Errors::new(problems)) }
}

/// Reads a text into a valid document with exactly the members that the text has.
pub fn read(text: &[u8], face: Face) -> Result<Value, Errors> {
    let whole = |text: String| Errors::new(vec![Problem::new("", text)]);
    if text.len() > MAX_TEXT {
        return Err(whole(format!("the text has {} bytes; allowed: {MAX_TEXT}", text.len())));
    }
    let utf8 =
        || std::str::from_utf8(text).map_err(|e| whole(format!("byte {} is not UTF-8", e.valid_up_to())));
    let (document, lines) = match face {
        Face::Uci => {
            let sections = uci::parse(utf8()?).map_err(|e| Errors::new(vec![e]))?;
            return uci::document(&sections).map_err(Errors::new);
        }
        Face::Yaml => {
            yaml::read(utf8()?).map(|(document, lines)| (document, Some(lines))).map_err(Errors::new)?
        }
        Face::Json => match json::parse(text) {
            Ok(document) => (document, None),
            Err(e) => {
                let text = format!("not JSON: {} (column {})", e.problem, e.column);
                return Err(Errors::new(vec![Problem { line: Some(e.line), ..Problem::new("", text) }]));
            }
        },
    };
    let mut problems = validate::check(&document);
    if problems.is_empty() {
        return Ok(document);
    }
    for problem in &mut problems {
        problem.line = lines.as_ref().map(|l| l.of(&document, &problem.pointer));
    }
    Err(Errors::new(problems))
}

/// A valid document as text.
pub fn write(document: &Value, face: Face) -> String {
    match face {
        Face::Yaml => emit::yaml(document),
        Face::Json => emit::json(document),
        Face::Uci => uci::write(document, &[]),
    }
}

fn complete(document: &Value, platform: Platform) -> Result<Config, Errors> {
    build::build(&schema::complete(document, platform)).map_err(|fault| Errors::new(vec![fault]))
}

#[cfg(feature = "yaml")]
#[cfg(test)]
mod tests;

//! From a document to the text of `/etc/config/echomesh`.
use super::{ENABLED, MAIN, PACKAGE, Section, kinds, path_of};
use crate::config::schema::{self, OPTIONS};
use crate::json::Value;
use std::fmt::Write as _;

/// A valid document as the file's text. Of what stood `before`, the names of sections stay, and what is not the node's to say:
/// whether the service is enabled.
///
/// UCI knows no empty list; the schema's lists are empty by default, so that leaving one out says the same.
pub fn write(document: &Value, before: &[Section]) -> String {
    let mut out = String::new();
    for kind in kinds() {
        let mut old = before.iter().filter(|s| s.kind == kind);
        let Some(path) = path_of(kind) else { continue };
        if let Some(list) = path.strip_suffix("[]") {
            let items = schema::find(document, list).and_then(Value::as_array).unwrap_or_default();
            for item in items {
                open(kind, old.next().and_then(|s| s.name.as_deref()), &mut out);
                options(kind, item, &mut out);
            }
            continue;
        }
        let members = if path.is_empty() { Some(document) } else { schema::find(document, path) };
        let Some(members) = members else { continue };
        let mut inner = String::new();
        let old = old.next();
        if kind == PACKAGE
            && let Some(enabled) = old.and_then(|s| s.option(ENABLED))
        {
            enabled.values.iter().for_each(|v| line("option", ENABLED, v, &mut inner));
        }
        options(kind, members, &mut inner);
        if !inner.is_empty() || members.as_object().is_some_and(<[_]>::is_empty) {
            let name = if kind == PACKAGE { MAIN } else { kind };
            open(kind, Some(old.and_then(|s| s.name.as_deref()).unwrap_or(name)), &mut out);
            out.push_str(&inner);
        }
    }
    out
}

fn open(kind: &str, name: Option<&str>, out: &mut String) {
    let before = if out.is_empty() { "" } else { "\n" };
    let name = name.map(|n| format!(" {}", quoted(n))).unwrap_or_default();
    let _ = writeln!(out, "{before}config {kind}{name}");
}

fn options(kind: &str, members: &Value, out: &mut String) {
    for option in OPTIONS {
        let Some((_, name)) = option.uci.split_once('.').filter(|(k, _)| *k == kind) else { continue };
        let member = option.path.rsplit('.').next().unwrap_or_default();
        match members.member(member) {
            Some(Value::Array(items)) => items.iter().for_each(|v| line("list", name, &text(v), out)),
            Some(value) => line("option", name, &text(value), out),
            None => {}
        }
    }
}

/// The line of an option.
pub(super) fn line(command: &str, name: &str, value: &str, out: &mut String) {
    let _ = writeln!(out, "\t{command} {name} {}", quoted(value));
}

/// A value as UCI's text.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => u8::from(*on).to_string(),
        other => other.canonical(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

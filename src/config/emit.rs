//! Documents to text for people: YAML in block style, and JSON with indentation.
use crate::json::Value;

/// Longest list that stands on one line, in characters.
const MAX_INLINE: usize = 80;

/// A document as YAML 1.2. What it writes, `yaml::read` reads back as the same value.
pub fn yaml(document: &Value) -> String {
    let mut out = String::new();
    match document {
        Value::Object(members) if !members.is_empty() => yaml_members(members, 0, &mut out),
        _ => {
            yaml_value(document, 0, &mut out);
            out = out.trim_start().to_owned();
        }
    }
    out
}

/// A document as JSON, two spaces per level, with a line feed at the end.
pub fn json(document: &Value) -> String {
    let mut out = String::new();
    json_value(document, 0, &mut out);
    out.push('\n');
    out
}

fn yaml_members(members: &[(String, Value)], indent: usize, out: &mut String) {
    for (i, (name, value)) in members.iter().enumerate() {
        if i > 0 {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&yaml_text(name));
        out.push(':');
        yaml_value(value, indent + 2, out);
    }
}

/// What stands after `name:` or `-`, with the line feed.
fn yaml_value(value: &Value, indent: usize, out: &mut String) {
    if let Some(inline) = yaml_inline(value) {
        out.push(' ');
        out.push_str(&inline);
        out.push('\n');
        return;
    }
    out.push('\n');
    match value {
        Value::Object(members) => {
            out.push_str(&" ".repeat(indent));
            yaml_members(members, indent, out);
        }
        Value::Array(items) => {
            for item in items {
                yaml_item(item, indent, out);
            }
        }
        _ => {}
    }
}

fn yaml_item(item: &Value, indent: usize, out: &mut String) {
    out.push_str(&" ".repeat(indent));
    out.push('-');
    match item {
        Value::Object(members) if !members.is_empty() => {
            out.push(' ');
            yaml_members(members, indent + 2, out);
        }
        _ => yaml_value(item, indent + 2, out),
    }
}

/// The value on one line, if it fits there.
fn yaml_inline(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(yaml_text(text)),
        Value::Object(members) => members.is_empty().then(|| "{}".to_owned()),
        Value::Array(items) => {
            let scalar = |v: &Value| match v {
                Value::Array(_) | Value::Object(_) => None,
                // In a list every text is quoted: no comma or bracket can be taken for another.
                Value::String(text) => Some(quoted(text)),
                _ => yaml_inline(v),
            };
            let texts = items.iter().map(scalar).collect::<Option<Vec<_>>>()?;
            let line = format!("[{}]", texts.join(", "));
            (items.is_empty() || line.chars().count() <= MAX_INLINE).then_some(line)
        }
        _ => Some(value.canonical()),
    }
}

/// Words that one reader or another takes for something else than text.
const NOT_TEXT: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

fn yaml_text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '+');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_word = NOT_TEXT.iter().any(|w| w.eq_ignore_ascii_case(text));
    if begins && !is_word && text.chars().all(plain) { text.to_owned() } else { quoted(text) }
}

/// Double-quoted as in YAML 1.2.2 section 5.7. JSON's escapes are a subset of YAML's, but YAML wants more characters
/// escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => out.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

fn json_value(value: &Value, indent: usize, out: &mut String) {
    let inner = indent + 2;
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('{');
            for (i, (name, value)) in members.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                out.push_str(&format!(
                    "{comma}\n{}{}: ",
                    " ".repeat(inner),
                    Value::from(name.as_str()).canonical()
                ));
                json_value(value, inner, out);
            }
            out.push_str(&format!("\n{}}}", " ".repeat(indent)));
        }
        Value::Array(items) if items.iter().any(|v| matches!(v, Value::Object(_) | Value::Array(_))) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                out.push_str(&format!("{comma}\n{}", " ".repeat(inner)));
                json_value(item, inner, out);
            }
            out.push_str(&format!("\n{}]", " ".repeat(indent)));
        }
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(Value::canonical).collect();
            out.push_str(&format!("[{}]", texts.join(", ")));
        }
        _ => out.push_str(&value.canonical()),
    }
}

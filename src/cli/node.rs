//! Commands that ask a running node.
use super::args::Arguments;
use super::client::Client;
use super::view::{self, Style};
use super::{Done, Exit, Failure, out, watch};
use crate::clock::Clock;
use crate::json::{self, Value, object};
use crate::time::Unix;
use std::ffi::OsString;
use std::io::IsTerminal as _;

/// `status`
pub fn status(arguments: &Arguments) -> Done {
    let json = arguments.has("json");
    let style = style();
    let draw = || {
        let status = client(arguments)?.json("GET", "/status")?;
        Ok(if json {
            status.canonical() + "\n"
        } else {
            view::status(&status, Clock::new().now().unix(), style)
        })
    };
    if arguments.has("watch") { watch::watch(&draw) } else { out::print(&draw()?) }
}

/// `sessions`
pub fn sessions(arguments: &Arguments) -> Done {
    let document = client(arguments)?.json("GET", "/sessions")?;
    if arguments.has("json") {
        return out::print(&(document.canonical() + "\n"));
    }
    out::print(&view::sessions(&document, Clock::new().now().unix(), style()))
}

/// `sessions close ID`
pub fn close(arguments: &Arguments) -> Done {
    let id = arguments.operand(0)?;
    if id.is_empty() || !id.bytes().all(|b| b == b'-' || b.is_ascii_alphanumeric()) {
        return Err(Failure::new(
            Exit::Usage,
            format!("\"{id}\" is no session id; `echomesh sessions` lists them"),
        ));
    }
    client(arguments)?.request("DELETE", &format!("/sessions/{id}"), "", None)?;
    out::print(&format!("closed {id}\n"))
}

/// `start`
pub fn start(arguments: &Arguments) -> Done {
    if arguments.has("clear-quarantine") {
        control(arguments, "clearQuarantine")?;
    }
    control(arguments, "start")
}

/// `start`, `pause`, `stop`: the state that came of it.
pub fn control(arguments: &Arguments, action: &str) -> Done {
    let body = object([("action", action.into())]);
    let answer = client(arguments)?.request("POST", "/control", "", Some(&body))?;
    let state = json::parse(&answer.content).unwrap_or(Value::Null);
    let member = |name: &str| state.member(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (state, reason) = (member("state"), member("reason"));
    out::print(&if reason.is_empty() { format!("{state}\n") } else { format!("{state}: {reason}\n") })
}

/// `logs export`
pub fn export(arguments: &Arguments) -> Done {
    let kind = if arguments.has("bundles") { "bundles" } else { "access" };
    let path = match arguments.text("since")? {
        Some(text) if Unix::parse(text).is_some() => format!("/logs/export?kind={kind}&since={text}"),
        Some(text) => {
            let message = format!("--since {text}: write an instant such as 2025-12-19T14:00:00Z");
            return Err(Failure::new(Exit::Usage, message));
        }
        None => format!("/logs/export?kind={kind}"),
    };
    let client = client(arguments)?;
    client.copy(&path, &mut *out::open(arguments.value("out"))?.0)
}

/// `diagnostics`, `report`: a document as it is.
pub fn document(arguments: &Arguments, method: &str, path: &str) -> Done {
    let document = client(arguments)?.json(method, path)?;
    out::save(arguments.value("out"), &pretty(&document))
}

/// `config get [NAME]`
pub fn config_get(arguments: &Arguments) -> Done {
    let name = arguments.operand(0)?;
    let document = client(arguments)?.json("GET", "/config")?;
    let mut names = name.split('.').filter(|n| !n.is_empty());
    let found = names.try_fold(&document, |value, name| value.member(name));
    match found {
        Some(Value::String(text)) => out::print(&format!("{text}\n")),
        Some(value) => out::print(&pretty(value)),
        None => Err(Failure::new(
            Exit::Failed,
            format!("the configuration has no {name}; `echomesh config get` prints it"),
        )),
    }
}

/// `config set NAME=VALUE...`
pub fn config_set(arguments: &Arguments) -> Done {
    let client = client(arguments)?;
    let answer = client.request("GET", "/config", "", None)?;
    let no_json = |e| Failure::new(Exit::Failed, format!("the node's configuration is no JSON: {e}"));
    let mut document = json::parse(&answer.content).map_err(no_json)?;
    for index in 0..arguments.operands.len() {
        let change = arguments.operand(index)?;
        let wrong = || {
            Failure::new(Exit::Usage, format!("\"{change}\" is not NAME=VALUE, such as network.maxMbps=20"))
        };
        let (name, text) = change.split_once('=').filter(|(n, _)| !n.is_empty()).ok_or_else(wrong)?;
        let value = json::parse(text.as_bytes()).unwrap_or_else(|_| text.into());
        let path: Vec<&str> = name.split('.').collect();
        set(&mut document, &path, value).ok_or_else(|| {
            Failure::new(Exit::Refused, format!("{name}: something on the way to it is no section"))
        })?;
    }
    let tag = answer.headers.get("etag").map(|tag| format!("If-Match: {tag}\r\n")).unwrap_or_default();
    client.request("PUT", "/config", &tag, Some(&document))?;
    out::print("changed\n")
}

/// Sets, or with `null` removes, a value deep in a document; `None` if a step on the way is no object.
fn set(document: &mut Value, path: &[&str], value: Value) -> Option<()> {
    let (name, rest) = path.split_first()?;
    document.as_object()?;
    if rest.is_empty() {
        match value {
            Value::Null => drop(document.remove(name)),
            value => document.set(name, value),
        }
        return Some(());
    }
    let mut section = document.remove(name).unwrap_or_else(|| object::<&str>([]));
    let done = set(&mut section, rest, value);
    document.set(name, section);
    done
}

/// JSON for people: one member or item on each line.
fn pretty(value: &Value) -> String {
    let mut text = String::new();
    write_pretty(value, 0, &mut text);
    text.push('\n');
    text
}

fn write_pretty(value: &Value, depth: usize, text: &mut String) {
    let lines: Vec<(String, &Value)> = match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().map(|(n, v)| (format!("{}: ", Value::from(n.as_str()).canonical()), v)).collect()
        }
        Value::Array(items) if items.iter().any(|i| matches!(i, Value::Object(_) | Value::Array(_))) => {
            items.iter().map(|v| (String::new(), v)).collect()
        }
        other => return text.push_str(&other.canonical()),
    };
    let (open, close) = if matches!(value, Value::Object(_)) { ('{', '}') } else { ('[', ']') };
    text.push(open);
    for (index, (name, value)) in lines.into_iter().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth + 1));
        text.push_str(&name);
        write_pretty(value, depth + 1, text);
    }
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
    text.push(close);
}

fn client(arguments: &Arguments) -> Result<Client, Failure> {
    Client::find(arguments.value("run-dir"))
}

/// How to draw for whoever reads standard output.
fn style() -> Style {
    let width = watch::screen_size().map_or(80, |(columns, _)| columns.clamp(40, 80));
    style_by(&|name| std::env::var_os(name), std::io::stdout().is_terminal(), width)
}

/// The same by an environment. What `NO_COLOR` says does not matter, only that it says something (no-color.org).
fn style_by(variable: &dyn Fn(&str) -> Option<OsString>, terminal: bool, width: usize) -> Style {
    let set = |name: &str| variable(name).filter(|v| !v.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    let dumb = set("TERM").is_some_and(|t| t == "dumb");
    Style {
        colour: terminal && !dumb && set("NO_COLOR").is_none(),
        unicode: locale.contains("utf-8") || locale.contains("utf8"),
        width,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(changes: &[(&str, &str)]) -> Option<String> {
        let mut document = json::parse(br#"{"a":{"b":1,"c":[2]},"d":"x"}"#).unwrap();
        for (name, value) in changes {
            let path: Vec<&str> = name.split('.').collect();
            set(&mut document, &path, json::parse(value.as_bytes()).unwrap())?;
        }
        Some(document.canonical())
    }

    #[test]
    fn colours_and_letters_are_those_of_the_terminal() {
        let drawn = |variables: &[(&str, &str)], terminal| {
            let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into());
            let style = style_by(&find, terminal, 80);
            (style.colour, style.unicode)
        };
        assert_eq!(drawn(&[("LANG", "C.UTF-8")], true), (true, true));
        assert_eq!(drawn(&[("LANG", "C.UTF-8"), ("LC_ALL", "C")], false), (false, false));
        assert_eq!(drawn(&[("NO_COLOR", "1"), ("LC_CTYPE", "de_DE.utf8")], true), (false, true));
        assert_eq!(drawn(&[("NO_COLOR", "")], true), (true, false));
        assert_eq!(drawn(&[("TERM", "dumb")], true), (false, false));
    }

    #[test]
    fn values_are_set_made_and_removed() {
        let changes = [("a.b", "7"), ("a.c", "null"), ("e.f.g", "true"), ("d", "\"y\"")];
        assert_eq!(after(&changes).unwrap(), r#"{"a":{"b":7},"d":"y","e":{"f":{"g":true}}}"#);
        assert_eq!(after(&[("d.x", "1")]), None);
    }

    #[test]
    fn json_for_people_is_the_same_json() {
        let value =
            json::parse(br#"{"a":{},"b":[],"c":[1,"x"],"d":[{"e":null},[2]],"f":{"g\n":1.5}}"#).unwrap();
        let text = pretty(&value);
        assert_eq!(json::parse(text.as_bytes()).unwrap(), value);
        assert!(
            text.contains("  \"c\": [1,\"x\"],\n  \"d\": [\n    {\n      \"e\": null\n    },\n"),
            "{text}"
        );
    }
}

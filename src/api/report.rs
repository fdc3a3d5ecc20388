//! `POST /report`: one document with what helps to find a fault, made so that the owner can put it into a public issue.
//!
//! Left out or masked are addresses, the owner's host lists and file paths, whom the node works for and most of each
//! session id. What is not known to be harmless by its name is still searched for addresses and ids.
use super::Backend;
use crate::json::{Value, array, object};
use std::net::IpAddr;

/// Most lines of the node's log in a report, the last ones.
pub const MAX_LOG_LINES: usize = 200;

/// Members whose text says something of the owner or of others; texts become `[hidden]`, arrays their length.
const HIDDEN: &[&str] = &[
    "allowlistDomains",
    "blocklistDomains",
    "allowDomains",
    "blockDomains",
    "approvedHosts",
    "names",
    "buyer",
    "url",
    "dohUrl",
    "idPath",
    "caFile",
    "dohCaFile",
    "passphraseFile",
    "listen",
    "listenPlain",
    "address",
    "publicKey",
    "account",
];

/// The redacted bundle: version, status, configuration, diagnostics, sessions and the end of the log.
pub fn assemble(node: &dyn Backend) -> Value {
    let status = node.status();
    let log = node.recent_log();
    let tail = log.iter().skip(log.len().saturating_sub(MAX_LOG_LINES)).map(|line| masked(line));
    let log = array(tail.collect::<Vec<_>>());
    object([
        ("kind", "echomesh-report".into()),
        ("version", status.member("version").cloned().unwrap_or(Value::Null)),
        ("status", redacted(&status)),
        ("config", redacted(&node.config().0)),
        ("diagnostics", redacted(&node.diagnostics())),
        ("sessions", redacted(&node.sessions())),
        ("log", log),
    ])
}

fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let each = |(name, value): &(String, Value)| {
                let hide = HIDDEN.contains(&name.as_str());
                (name.clone(), if hide { hidden(value) } else { redacted(value) })
            };
            Value::Object(members.iter().map(each).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(redacted).collect()),
        Value::String(text) => Value::String(masked(text)),
        other => other.clone(),
    }
}

fn hidden(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Array(items) => Value::String(format!("[{} hidden]", items.len())),
        _ => "[hidden]".into(),
    }
}

/// A text with addresses and session ids masked, and paths below a home directory shortened.
fn masked(text: &str) -> String {
    let boundary = |c: char| !(c.is_ascii_alphanumeric() || ".:-[]%".contains(c));
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(boundary).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        out.push_str(&masked_word(word));
        let next = tail.chars().next().map_or(0, char::len_utf8);
        out.push_str(tail.get(..next).unwrap_or_default());
        rest = tail.get(next..).unwrap_or_default();
    }
    out
}

fn masked_word(word: &str) -> String {
    let bare = word.trim_matches(['[', ']', '.', ':']);
    let host = bare.rsplit_once(':').map_or(bare, |(host, _)| host).trim_matches(['[', ']']);
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    if is_address(bare) || is_address(host) {
        return "[address]".into();
    }
    match word.get(..8) {
        Some(start) if is_uuid(bare) => format!("{start}-…"),
        _ => word.to_owned(),
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_session_ids_are_masked() {
        for (text, safe) in [
            ("dialled 203.0.113.7:443 twice", "dialled [address] twice"),
            ("from [2001:db8::1]:40001.", "from [address]"),
            ("peer 2001:db8::1, port 443", "peer [address], port 443"),
            ("(10.0.0.1)", "([address])"),
            ("session c2b9f8c8-0000-4000-8000-0123456789ab closed", "session c2b9f8c8-… closed"),
            ("since 2025-12-19T14:00:00Z, 12:30", "since 2025-12-19T14:00:00Z, 12:30"),
            ("version 0.1.0", "version 0.1.0"),
            ("äöü 1.2.3.4 ü", "äöü [address] ü"),
        ] {
            assert_eq!(masked(text), safe);
        }
    }

    #[test]
    fn members_about_people_are_hidden() {
        let value = crate::json::parse(
            br#"{"network":{"blocklistDomains":["a.example","b.example"],"maxMbps":10},
                 "coordinator":{"url":"https://c.example","caFile":null},"list":["1.2.3.4"]}"#,
        );
        assert_eq!(
            redacted(&value.unwrap()).canonical(),
            r#"{"coordinator":{"caFile":null,"url":"[hidden]"},"list":["[address]"],"network":{"blocklistDomains":"[2 hidden]","maxMbps":10}}"#
        );
    }
}

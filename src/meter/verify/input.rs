//! What the files of an export contain: bundles, access-log lines, totals, in any mixture.
use crate::json::{Value, parse};

/// One line of the access log: what it says, and the bytes that were hashed.
#[derive(Debug)]
pub(super) struct Line {
    pub value: Value,
    pub text: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Input {
    pub bundles: Vec<Value>,
    pub lines: Vec<Line>,
    /// Session and its totals.
    pub totals: Vec<(String, Value)>,
    pub faults: Vec<String>,
}

impl Input {
    /// Reads JSON lines, or one JSON text of any layout.
    pub fn read(&mut self, name: &str, text: &[u8]) {
        let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
        let by_line: Vec<_> = lines.iter().map(|line| parse(line)).collect();
        let blank = |i: &usize| lines.get(*i).is_some_and(|line| line.trim_ascii().is_empty());
        let first_bad = by_line.iter().enumerate().find(|(i, v)| v.is_err() && !blank(i)).map(|(i, _)| i);
        match (first_bad, parse(text)) {
            (Some(_), Ok(whole)) => self.sort_in(name, whole, None),
            (Some(0), Err(e)) => self.faults.push(format!("{name}: not JSON: {e}")),
            (_, _) => {
                for ((i, line), value) in lines.iter().enumerate().zip(by_line) {
                    let place = format!("{name}:{}", i + 1);
                    match value {
                        Ok(value) => self.sort_in(&place, value, Some(line)),
                        Err(_) if blank(&i) => {}
                        Err(e) => self.faults.push(format!("{place}: not JSON: {}", e.problem)),
                    }
                }
            }
        }
    }

    fn sort_in(&mut self, place: &str, value: Value, text: Option<&[u8]>) {
        let has = |name| value.member(name).is_some();
        let list = value.as_array().or_else(|| value.member("bundles").and_then(Value::as_array));
        if let Some(items) = list {
            items.iter().for_each(|item| self.sort_in(place, item.clone(), None));
        } else if has("windowStart") {
            self.bundles.push(value);
        } else if has("hostHash") {
            let text = text.map_or_else(|| (value.canonical() + "\n").into_bytes(), <[u8]>::to_vec);
            self.lines.push(Line { value, text });
        } else if let (Some(session), Some(totals)) =
            (value.member("sessionId").and_then(Value::as_str), value.member("totals"))
        {
            self.totals.push((session.to_owned(), totals.clone()));
        } else if !has("transition") {
            self.faults.push(format!("{place}: neither a bundle, nor a line of the access log, nor totals"));
        }
    }
}

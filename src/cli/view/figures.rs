//! Figures and words of a document, made fit for a terminal.
use super::Style;
use crate::json::Value;
use crate::time::Unix;

pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').try_fold(value, |value, name| value.member(name))
}

pub(super) fn word(value: &Value, path: &str) -> String {
    at(value, path).and_then(Value::as_str).map(clean).unwrap_or_default()
}

pub(super) fn number(value: &Value, path: &str) -> f64 {
    at(value, path).and_then(Value::as_f64).unwrap_or_default()
}

pub(super) fn instant(value: &Value, path: &str) -> Option<Unix> {
    at(value, path).and_then(Value::as_str).and_then(Unix::parse)
}

/// The text without what moves a cursor or turns the direction of writing.
pub(super) fn clean(text: &str) -> String {
    let unsafe_char = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if unsafe_char(c) { '?' } else { c }).collect()
}

/// Columns that a terminal gives a text, colours aside. Never too few: what combines with the letter before is counted too.
pub(in crate::cli) fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// Two for the wide and full-width blocks of UAX 11, emoji included; one for all else.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f000..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The first characters of a text, as many as have room.
fn head(text: &str, room: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += width(*c);
        used > room
    });
    end.and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

pub(super) fn clip(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    format!("{}...", head(text, room.saturating_sub(3)))
}

/// A text in lines of at most `width` columns, which is more than `column` by two at least. It is broken between words, or
/// within one that is longer than a line; all lines but the first begin in `column`.
pub(in crate::cli) fn wrap(text: &str, column: usize, width: usize) -> String {
    let room = width.saturating_sub(column).max(2);
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut current: String = line.chars().take_while(|c| *c == ' ').collect();
        let mut begun = false;
        for mut word in line.split_whitespace() {
            if begun && columns(&current) + 1 + columns(word) > room {
                lines.push(std::mem::take(&mut current));
            } else if begun {
                current.push(' ');
            }
            while columns(&current) + columns(word) > room {
                let part = head(word, room.saturating_sub(columns(&current)));
                current.push_str(part);
                word = word.get(part.len()..).unwrap_or_default();
                lines.push(std::mem::take(&mut current));
            }
            current.push_str(word);
            begun = true;
        }
        lines.push(current);
    }
    lines.join(&format!("\n{}", " ".repeat(column)))
}

/// Larger figures are shown as this one: no figure of a node is, and a row has its width.
const MAX_FIGURE: f64 = 1e12;

/// A number with at most so many decimals, and no zeros at its end.
pub(super) fn figure(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.clamp(-MAX_FIGURE, MAX_FIGURE));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

pub(super) fn bytes(value: f64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")];
    match units.into_iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{} {unit}", figure(value / size, 2)),
        None => format!("{} B", figure(value, 0)),
    }
}

/// A span of time in its two largest units.
pub(super) fn span(seconds: i64) -> String {
    let s = seconds.max(0);
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

/// The last seconds as bars, as many as fit into `room`.
pub(super) fn sparkline(history: &[f64], peak: f64, room: usize, style: Style) -> String {
    let steps: Vec<char> = if style.unicode { "▁▂▃▄▅▆▇█" } else { "_.-~=+*#" }.chars().collect();
    let recent = history.iter().skip(history.len().saturating_sub(room));
    let highest = steps.len().saturating_sub(1);
    let step = |value: &f64| (((value / peak).clamp(0.0, 1.0)) * highest as f64).ceil() as usize;
    recent.filter_map(|v| steps.get(step(v).min(highest))).collect()
}

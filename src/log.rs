//! Log lines on standard error, where procd, systemd and a terminal all take them.
//!
//! A line is at most [`MAX_LINE`] bytes and has no control characters: what a buyer or a coordinator sends cannot forge
//! a second line. No host names, addresses of buyers, tokens or keys are ever logged.
use crate::config::Level;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

/// Longest line, in bytes, the line feed not counted.
pub const MAX_LINE: usize = 512;

/// So many lines are kept for an issue report: at most some 50 kB.
pub const KEPT: usize = 100;

static RECENT: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Sets what is logged from now on.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Whether lines of this level are logged.
pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes one line. A closed standard error is no reason to stop: there is nobody left to tell.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if enabled(level) {
        let text = line(level, message);
        keep(text.trim_end());
        std::io::stderr().write_all(text.as_bytes()).unwrap_or_default();
    }
}

/// The last lines that were logged, oldest first.
pub fn recent() -> Vec<String> {
    RECENT.lock().map(|lines| lines.iter().cloned().collect()).unwrap_or_default()
}

fn keep(line: &str) {
    if let Ok(mut lines) = RECENT.lock() {
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }
}

/// The line as it is written.
fn line(level: Level, message: fmt::Arguments<'_>) -> String {
    let name = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let mut raw = String::new();
    write!(raw, "{name}: {message}").unwrap_or_default();
    let mut text: String = String::with_capacity(raw.len() + 1);
    for c in raw.chars() {
        let printed = if c.is_control() { '?' } else { c };
        if text.len() + printed.len_utf8() > MAX_LINE {
            break;
        }
        text.push(printed);
    }
    text.push('\n');
    text
}

/// Logs what stops the node or loses something.
#[macro_export]
macro_rules! error { ($($arg:tt)*) => { $crate::log::write($crate::config::Level::Error, format_args!($($arg)*)) } }
/// Logs what the owner should look at.
#[macro_export]
macro_rules! warn { ($($arg:tt)*) => { $crate::log::write($crate::config::Level::Warn, format_args!($($arg)*)) } }
/// Logs changes of state.
#[macro_export]
macro_rules! info { ($($arg:tt)*) => { $crate::log::write($crate::config::Level::Info, format_args!($($arg)*)) } }
/// Logs what helps to find a fault.
#[macro_export]
macro_rules! debug { ($($arg:tt)*) => { $crate::log::write($crate::config::Level::Debug, format_args!($($arg)*)) } }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        (0..=KEPT).for_each(|n| keep(&format!("kept {n}")));
        let lines = recent();
        assert_eq!(lines.len(), KEPT);
        assert!(!lines.iter().any(|l| l == "kept 0"));
    }

    #[test]
    fn a_line_is_bounded_and_stays_one_line() {
        let text = line(Level::Warn, format_args!("a\r\nerror: forged\u{1b}[2J"));
        assert_eq!(text, "warn: a??error: forged?[2J\n");
        assert_eq!(line(Level::Info, format_args!("{}", "ä".repeat(MAX_LINE))).len(), MAX_LINE + 1);
        assert_eq!(line(Level::Info, format_args!("{}", "x".repeat(9 * MAX_LINE))).len(), MAX_LINE + 1);
    }
}

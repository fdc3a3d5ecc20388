//! What people see: steps, a progress bar, a table. Colour only on a terminal, and not with `NO_COLOR`.
use std::io::{IsTerminal, Write};

/// The screen.
pub struct View {
    terminal: bool,
    colour: bool,
}

impl View {
    /// Standard output, as it is.
    pub fn new() -> View {
        let terminal = std::io::stdout().is_terminal();
        View { terminal, colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) }
    }

    /// A line as it stands. A closed output does not stop the demo.
    pub fn line(&self, text: &str) {
        writeln!(std::io::stdout(), "{text}").ok();
    }

    /// A step that went well.
    pub fn step(&self, name: &str, text: &str) {
        self.line(&format!("{} {} {text}", self.paint("32", "✓"), self.paint("1", &format!("{name:<10}"))));
    }

    /// A step that did not.
    pub fn fail(&self, name: &str, text: &str) {
        self.line(&format!("{} {} {text}", self.paint("31", "✗"), self.paint("1", &format!("{name:<10}"))));
    }

    /// One of the two, by the flag; gives the flag back.
    pub fn verdict(&self, ok: bool, name: &str, text: &str) -> bool {
        if ok {
            self.step(name, text)
        } else {
            self.fail(name, text)
        }
        ok
    }

    /// Redraws the bar in place; on no terminal nothing is drawn.
    pub fn progress(&self, name: &str, done: u64, whole: u64, ms: u64) {
        if self.terminal {
            let text = format!("\r  {} {}", self.paint("1", &format!("{name:<10}")), bar(done, whole, ms));
            write!(std::io::stdout(), "{text}").ok();
            std::io::stdout().flush().ok();
        }
    }

    /// Takes the bar away.
    pub fn progress_end(&self) {
        if self.terminal {
            write!(std::io::stdout(), "\r\x1b[K").ok();
        }
    }

    /// Text in a colour.
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Bar, bytes and rate.
pub fn bar(done: u64, whole: u64, ms: u64) -> String {
    const CELLS: u64 = 30;
    let full = (done.min(whole) * CELLS).checked_div(whole).unwrap_or(CELLS);
    let cells = format!("{}{}", "█".repeat(size(full)), "░".repeat(size(CELLS - full)));
    format!("{cells} {:>9} {:>10}", megabytes(done), rate(done, ms))
}

/// `104.9 MB`.
pub fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// `412 MB/s`.
pub fn rate(bytes: u64, ms: u64) -> String {
    format!("{} MB/s", bytes / 1000 / ms.max(1))
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn size(cells: u64) -> usize {
    usize::try_from(cells).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_from_nothing_to_all() {
        assert!(bar(0, 100, 10).starts_with(&"░".repeat(30)));
        assert_eq!(
            bar(50_000_000, 100_000_000, 100),
            format!("{}{}   50.0 MB   500 MB/s", "█".repeat(15), "░".repeat(15))
        );
        assert!(bar(200, 100, 0).starts_with(&"█".repeat(30)));
        assert!(bar(0, 0, 0).starts_with(&"█".repeat(30)));
    }

    #[test]
    fn digits_stand_in_groups_of_three() {
        let shown = [0, 12, 123, 1234, 104_857_600].map(grouped);
        assert_eq!(shown, ["0", "12", "123", "1 234", "104 857 600"]);
    }
}

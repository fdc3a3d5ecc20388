//! The help texts, made from the table of commands and options.
use super::args::Arguments;
use super::commands::{COMMANDS, Command, OPTIONS};
use super::view::figures::wrap;
use super::{Done, Exit, Failure, out};
use std::fmt::Write as _;

/// Columns of every help text.
const WIDTH: usize = 80;
/// Column of the explanations of options.
const HELP: usize = 21;

/// The help of the program.
pub fn overview() -> String {
    let mut text = "Usage: echomesh COMMAND [OPTION]...\n\nSells idle bandwidth to vetted buyers: policed, metered, attested.\n\nCommands:\n".to_owned();
    for command in COMMANDS {
        let _ = writeln!(text, "  {:<16} {}", command.name, command.summary);
    }
    text.push_str("\nExit codes: 0 done, 1 failed, 2 wrong command line, 3 no node is running,\n4 refused, 78 the configuration is not valid. `echomesh help COMMAND` says more.\n");
    text
}

/// The help of one command.
pub fn of(command: &Command) -> String {
    let operands = if command.operands.is_empty() { String::new() } else { format!(" {}", command.operands) };
    let mut text = format!("Usage: echomesh {} [OPTION]...{operands}\n\n", command.name);
    let mut first = command.summary.chars();
    let capital = first.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
    let _ = writeln!(text, "{capital}{}.", first.as_str());
    if !command.text.is_empty() {
        let whole = command.text.replace('\n', " ");
        let _ = writeln!(text, "{}", wrap(&whole, 0, WIDTH));
    }
    text.push_str("\nOptions:\n");
    for (name, value, help) in OPTIONS.iter().filter(|o| command.options.contains(&o.0)) {
        option_line(&value.map_or(format!("--{name}"), |v| format!("--{name} {v}")), help, &mut text);
    }
    option_line("--help", "show this text", &mut text);
    text
}

/// An option and what it does, in two columns.
fn option_line(shown: &str, help: &str, text: &mut String) {
    let help = wrap(help, HELP, WIDTH);
    if shown.len() + 3 > HELP {
        let _ = writeln!(text, "  {shown}\n{}{help}", " ".repeat(HELP));
    } else {
        let _ = writeln!(text, "  {shown:<width$}{help}", width = HELP - 2);
    }
}

/// `echomesh help [COMMAND]`.
pub fn command(arguments: &Arguments) -> Done {
    let words: Vec<_> = arguments.operands.iter().map(|w| w.to_string_lossy()).collect();
    let name = words.join(" ");
    if name.is_empty() {
        return out::print(&overview());
    }
    let below: Vec<&Command> =
        COMMANDS.iter().filter(|c| c.name == name || c.name.split(' ').next() == Some(&name)).collect();
    if below.is_empty() {
        return Err(unknown_command(&name));
    }
    let texts: Vec<String> = below.into_iter().map(of).collect();
    out::print(&texts.join("\n"))
}

/// The failure for a command that does not exist.
pub fn unknown_command(name: &str) -> Failure {
    let word = name.split(' ').next().unwrap_or_default();
    let below: Vec<&str> =
        COMMANDS.iter().map(|c| c.name).filter(|n| n.split(' ').next() == Some(word)).collect();
    let names = if below.is_empty() { COMMANDS.iter().map(|c| c.name).collect() } else { below };
    let message = format!("there is no command \"{name}\"; there are: {}", names.join(", "));
    Failure::new(Exit::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_fits_a_terminal_and_names_every_command() {
        let text = overview();
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        assert!(COMMANDS.iter().all(|c| text.contains(&format!("  {} ", c.name))));
        for text in COMMANDS.iter().map(of) {
            assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
        }
    }
}

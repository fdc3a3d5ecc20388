//! A command line, read by the table of [`super::commands`].
use super::commands::{COMMANDS, Command, OPTIONS};
use super::{Exit, Failure, help};
use std::ffi::{OsStr, OsString};

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A help text, to be printed.
    Help(String),
    /// A command.
    Command(Arguments),
}

/// A command with its options and operands, all of which it takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The command.
    pub command: &'static Command,
    /// The operands.
    pub operands: Vec<OsString>,
    options: Vec<(&'static str, OsString)>,
}

impl Arguments {
    /// Whether an option without a value was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(n, _)| *n == name)
    }

    /// The value of an option; the last one if it was given several times.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.options.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_os_str())
    }

    /// The value of an option that must be text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        let not_text = || usage(format!("the value of --{name} is not UTF-8"));
        self.value(name).map(|v| v.to_str().ok_or_else(not_text)).transpose()
    }

    /// An operand that must be text; empty if it is absent.
    pub fn operand(&self, index: usize) -> Result<&str, Failure> {
        let operand = self.operands.get(index).map_or(OsStr::new(""), OsString::as_os_str);
        operand.to_str().ok_or_else(|| usage(format!("\"{}\" is not UTF-8", operand.to_string_lossy())))
    }
}

/// Reads a command line, without the program's name.
pub fn parse(line: impl Iterator<Item = OsString>) -> Result<Parsed, Failure> {
    let mut parser = lexopt::Parser::from_args(line);
    let (mut options, mut operands, mut help) = (Vec::new(), Vec::new(), false);
    while let Some(argument) = parser.next().map_err(|e| usage(e.to_string()))? {
        match argument {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => help = true,
            lexopt::Arg::Short('V') | lexopt::Arg::Long("version") => operands.insert(0, "version".into()),
            lexopt::Arg::Short(c) => options.push((Err(format!("-{c}")), OsString::new())),
            lexopt::Arg::Long(name) => match OPTIONS.iter().find(|o| o.0 == name) {
                Some((name, Some(_), _)) => {
                    let value = parser.value().map_err(|_| usage(format!("--{name} needs a value")))?;
                    options.push((Ok(*name), value));
                }
                Some((name, None, _)) => options.push((Ok(*name), OsString::new())),
                None => {
                    options.push((Err(format!("--{name}")), OsString::new()));
                    let _ = parser.optional_value();
                }
            },
            lexopt::Arg::Value(word) => operands.push(word),
        }
    }
    if operands.is_empty() {
        return if help { Ok(Parsed::Help(help::overview())) } else { Err(usage(help::overview())) };
    }
    let (command, words) = find(&operands)?;
    if help {
        return Ok(Parsed::Help(help::of(command)));
    }
    let options = options.into_iter().map(|(name, value)| Ok((allowed(command, name)?, value)));
    let options = options.collect::<Result<Vec<_>, Failure>>()?;
    let operands = operands.split_off(words);
    count(command, operands.len())?;
    Ok(Parsed::Command(Arguments { command, operands, options }))
}

/// The command that the first one or two words name, and how many they are.
fn find(words: &[OsString]) -> Result<(&'static Command, usize), Failure> {
    let text: Vec<_> = words.iter().take(2).map(|w| w.to_string_lossy()).collect();
    let named = |name: &str| COMMANDS.iter().find(|c| c.name == name);
    let two = named(&text.join(" ")).map(|c| (c, text.len()));
    let first = text.first().map_or("", |w| w);
    let one = || named(first).map(|c| (c, 1));
    let group = COMMANDS.iter().any(|c| c.name.split_once(' ').is_some_and(|(word, _)| word == first));
    let asked = if group { text.join(" ") } else { first.to_owned() };
    two.or_else(one).ok_or_else(|| help::unknown_command(&asked))
}

fn allowed(command: &Command, name: Result<&'static str, String>) -> Result<&'static str, Failure> {
    let name = match name {
        Ok(name) if command.options.contains(&name) => return Ok(name),
        Ok(name) => format!("--{name}"),
        Err(name) => name,
    };
    let known = command.options.iter().copied().chain(["help"]).map(|o| format!("--{o}"));
    let known = known.collect::<Vec<_>>().join(", ");
    Err(usage(format!("{} has no option {name}; there are: {known}", command.name)))
}

fn count(command: &Command, given: usize) -> Result<(), Failure> {
    let (least, most) = command.count;
    let wanted = match command.operands {
        "" => "nothing more".to_owned(),
        operands => operands.to_owned(),
    };
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(usage(format!("{} takes {wanted}; {given} given", command.name)))
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Parsed, String> {
        super::parse(line.split_whitespace().map(Into::into)).map_err(|f| {
            assert_eq!(f.exit, Exit::Usage);
            f.message
        })
    }

    fn command(line: &str) -> Arguments {
        match parse(line).unwrap() {
            Parsed::Command(arguments) => arguments,
            Parsed::Help(text) => panic!("{text}"),
        }
    }

    #[test]
    fn commands_have_one_word_or_two() {
        assert_eq!(command("status").command.name, "status");
        assert_eq!(command("sessions").command.name, "sessions");
        let close = command("sessions close abc");
        assert_eq!((close.command.name, close.operand(0)), ("sessions close", Ok("abc")));
        assert_eq!(command("-V").command.name, "version");
        assert_eq!(command("config set a=1 b=2").operands.len(), 2);
    }

    #[test]
    fn options_stand_anywhere() {
        for line in ["--run-dir=/x status --json", "status --json --run-dir /x"] {
            let arguments = command(line);
            assert!(arguments.has("json") && !arguments.has("watch"));
            assert_eq!(arguments.text("run-dir"), Ok(Some("/x")));
        }
    }

    #[test]
    fn help_is_never_an_error() {
        assert!(matches!(parse("--help"), Ok(Parsed::Help(t)) if t.contains("Commands:")));
        assert!(matches!(parse("status -h"), Ok(Parsed::Help(t)) if t.contains("--watch")));
        assert!(matches!(parse("verify --help"), Ok(Parsed::Help(t)) if t.contains("FILE...")));
    }

    #[test]
    fn what_does_not_exist_is_named_with_what_does() {
        for (line, message) in [
            ("status --jsn", "status has no option --jsn; there are: --watch, --json, --run-dir, --help"),
            ("status --to yaml", "status has no option --to; there are: --watch, --json, --run-dir, --help"),
            ("stop -x", "stop has no option -x; there are: --run-dir, --help"),
            ("stop --x=y", "stop has no option --x; there are: --run-dir, --help"),
            ("status --run-dir", "--run-dir needs a value"),
            (
                "config",
                "there is no command \"config\"; there are: config check, config show, config init, config convert, config get, config set",
            ),
            ("logs import", "there is no command \"logs import\"; there are: logs export"),
            ("verify", "verify takes FILE...; 0 given"),
            ("pause now", "pause takes nothing more; 1 given"),
        ] {
            assert_eq!(parse(line), Err(message.to_owned()), "{line}");
        }
        assert!(
            parse("stat")
                .unwrap_err()
                .starts_with("there is no command \"stat\"; there are: run, guard, setup, status,")
        );
        assert!(parse("").unwrap_err().starts_with("Usage: "));
    }
}

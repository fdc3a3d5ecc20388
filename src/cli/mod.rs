//! The command line: the node itself (`run`), tools that speak to a running node through its API, and tools that work
//! on files.
pub mod args;
mod client;
mod commands;
mod files;
mod guard;
mod help;
mod keys;
mod node;
mod out;
mod passphrase;
pub mod run;
mod setup;
pub mod view;
mod watch;
mod wipe;

use args::{Arguments, Parsed};
use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

/// How a command ends; the numbers are its exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something outside the command's reach failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No node is running.
    NotRunning = 3,
    /// The node refused, or what was verified is wrong.
    Refused = 4,
    /// The configuration is not valid (`EX_CONFIG` of sysexits.h).
    Config = 78,
}

/// Why a command did not do its work: whose fault it is and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The message; empty where nobody is left to read it.
    pub message: String,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

type Done = Result<(), Failure>;

/// Runs the command of a command line, without the program's name.
pub fn main(line: impl Iterator<Item = OsString>) -> ExitCode {
    let done = match args::parse(line) {
        Ok(Parsed::Help(text)) => out::print(&text),
        Ok(Parsed::Command(arguments)) if arguments.command.name == "run" => {
            return match run::options(&arguments) {
                Ok(options) => run::run(options),
                Err(failure) => report(&failure),
            };
        }
        Ok(Parsed::Command(arguments)) => dispatch(&arguments),
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    match failure.message.as_str() {
        "" => {}
        help if help.starts_with("Usage: ") => out::complain(help),
        message => out::complain(&format!("echomesh: {message}\n")),
    }
    ExitCode::from(failure.exit as u8)
}

fn dispatch(arguments: &Arguments) -> Done {
    match arguments.command.name {
        "guard" => guard::guard(arguments),
        "setup" => setup::command(arguments),
        "status" => node::status(arguments),
        "sessions" => node::sessions(arguments),
        "sessions close" => node::close(arguments),
        "start" => node::start(arguments),
        "pause" => node::control(arguments, "pause"),
        "stop" => node::control(arguments, "stop"),
        "logs export" => node::export(arguments),
        "diagnostics" => node::document(arguments, "GET", "/diagnostics"),
        "report" => node::document(arguments, "POST", "/report"),
        "config get" => node::config_get(arguments),
        "config set" => node::config_set(arguments),
        "help" => help::command(arguments),
        "version" => out::print(concat!("echomesh ", env!("CARGO_PKG_VERSION"), "\n")),
        "config check" => files::check(arguments),
        "config show" => files::show(arguments),
        "config init" => files::init(arguments),
        "config convert" => files::convert(arguments),
        "keys unlock" => keys::unlock(arguments),
        "verify" => files::verify(arguments),
        "wipe" => wipe::command(arguments),
        _ => keys::command(arguments),
    }
}

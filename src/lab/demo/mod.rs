//! `echomesh-lab demo`: the whole story on one machine, for people. A lab, a node, and curl as the buyer, on loopback.
//!
//! It ends with status 0 only if every refusal was the right one and all counts of bytes agree.
mod ask;
mod children;
mod curl;
mod setup;
mod story;
mod summary;
mod view;

use crate::sys::linux::signals::Signals;
use std::path::PathBuf;
use std::process::ExitCode;

/// Any step's outcome; the text says what failed.
type Outcome<T> = Result<T, String>;

const USAGE: &str = "\
usage: echomesh-lab demo [--keep] [--size MB] [--node FILE]
  --keep       leave everything running at the end, and print how to play with it
  --size MB    size of the big file (default 100)
  --node FILE  the node's binary (default: `echomesh` beside this one; it needs the feature `lab`)
";

/// What the command line asks for.
struct Options {
    keep: bool,
    megabytes: u64,
    node: Option<PathBuf>,
}

/// Runs the demo with the arguments after `demo`.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let options = match parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // Before the first thread, so that no thread dies of a signal and leaves the children behind.
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let children = children::Children::default();
    children.end_on(signals);
    let told = story::tell(&options, &children);
    children.end();
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("\nThe demo stopped: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Outcome<Option<Options>> {
    let mut options = Options { keep: false, megabytes: 100, node: None };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        match argument {
            lexopt::Arg::Long("keep") => options.keep = true,
            lexopt::Arg::Long("size") => {
                let text = parser.value().map_err(|e| e.to_string())?;
                let number = text.to_str().and_then(|t| t.parse().ok()).filter(|n| (1..=100_000).contains(n));
                options.megabytes = number.ok_or("--size takes 1 to 100000 (MB)")?;
            }
            lexopt::Arg::Long("node") => {
                options.node = Some(parser.value().map_err(|e| e.to_string())?.into())
            }
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(Some(options))
}

//! Tries what the node's sandbox forbids, from inside it.
use crate::sys::linux::sandbox::{find_user, trespass};
use lexopt::{Arg, Parser, ValueExt as _};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs one attempt.
pub fn run(raw: impl Iterator<Item = OsString>) -> ExitCode {
    match attempt(raw) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("echomesh-lab: {error}");
            ExitCode::from(2)
        }
    }
}

fn attempt(raw: impl Iterator<Item = OsString>) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let (mut what, mut own, mut user, mut bare) = (String::new(), PathBuf::new(), None, false);
    let mut parser = Parser::from_args(raw);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("own") => own = parser.value()?.into(),
            Arg::Long("user") => user = Some(find_user(&parser.value()?.string()?)?),
            Arg::Long("bare") => bare = true,
            Arg::Value(word) => what = word.string()?,
            other => return Err(other.unexpected().into()),
        }
    }
    if what == "list" {
        println!("{}", trespass::names().collect::<Vec<_>>().join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let (layers, tried) = trespass::run(&what, own, user.as_ref(), bare)?;
    let layers: Vec<&str> = layers.on.iter().map(|l| l.name()).collect();
    println!("layers: {}", layers.join(" "));
    match tried {
        Ok(()) => println!("done"),
        Err(ref e) => println!("refused: {}", e.raw_os_error().unwrap_or(0)),
    }
    Ok(if tried.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

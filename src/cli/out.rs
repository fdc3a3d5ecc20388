//! Writing for people and pipes.
use super::{Done, Exit, Failure};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;

/// Prints to standard output. A reader that went away (`| head`) ends the command without a word.
pub fn print(text: &str) -> Done {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| lost("standard output", &e))
}

/// Prints to standard error, if anybody reads it.
pub fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Where a command's result goes: a new file that only its owner reads, or standard output.
pub fn open(file: Option<&OsStr>) -> Result<(Box<dyn Write>, String), Failure> {
    let Some(path) = file else { return Ok((Box::new(io::stdout().lock()), "standard output".into())) };
    let name = path.to_string_lossy().into_owned();
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => Ok((Box::new(file), name)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::new(Exit::Failed, format!("{name} exists; choose another name or remove it")))
        }
        Err(e) => Err(lost(&name, &e)),
    }
}

/// Writes a whole text where [`open`] says.
pub fn save(file: Option<&OsStr>, text: &str) -> Done {
    let (mut sink, name) = open(file)?;
    sink.write_all(text.as_bytes()).and_then(|()| sink.flush()).map_err(|e| lost(&name, &e))
}

/// The failure for output that could not be written.
pub fn lost(name: &str, error: &io::Error) -> Failure {
    let quiet = error.kind() == io::ErrorKind::BrokenPipe;
    let message = if quiet { String::new() } else { format!("{name}: {error}") };
    Failure::new(Exit::Failed, message)
}

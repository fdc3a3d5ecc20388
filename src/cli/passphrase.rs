//! Where a command takes a passphrase from: a file, the terminal without echo, or a line of standard input.
use super::args::Arguments;
use super::{Exit, Failure, out};
use crate::vault::{MAX_PASSPHRASE, Passphrase, files};
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use zeroize::{Zeroize as _, Zeroizing};

/// A passphrase that exists. `option` names the option whose file holds it; without it `file` (of the configuration), if
/// there is one, else whoever runs the command is asked.
pub fn existing(
    arguments: &Arguments,
    option: &str,
    file: Option<&Path>,
    prompt: &str,
) -> Result<Passphrase, Failure> {
    match (arguments.value(option), file) {
        (Some(name), _) => from(name),
        (None, Some(file)) => from_file(file),
        (None, None) => ask(prompt),
    }
}

/// A passphrase to seal a key with, asked for twice on a terminal.
pub fn new(arguments: &Arguments, option: &str) -> Result<Passphrase, Failure> {
    if let Some(name) = arguments.value(option) {
        return from(name);
    }
    let passphrase = ask("New passphrase: ")?;
    passphrase.check_length().map_err(bad)?;
    if termios::isatty(io::stdin()) && ask("The same again: ")? != passphrase {
        return Err(Failure::new(Exit::Refused, "the two passphrases are not the same; nothing was done"));
    }
    Ok(passphrase)
}

/// The passphrase in a private file.
pub fn from_file(path: &Path) -> Result<Passphrase, Failure> {
    let text = files::read(path).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
    let named = |e| Failure::new(Exit::Failed, format!("{}: {e}", path.display()));
    Passphrase::from_file(&text).map_err(named)
}

fn from(name: &OsStr) -> Result<Passphrase, Failure> {
    if name == "-" { Passphrase::new(line()?).map_err(bad) } else { from_file(Path::new(name)) }
}

fn ask(prompt: &str) -> Result<Passphrase, Failure> {
    if !termios::isatty(io::stdin()) {
        return Passphrase::new(line()?).map_err(bad);
    }
    let _quiet = Quiet::start()?;
    out::complain(prompt);
    let typed = typed();
    out::complain("\n");
    Passphrase::new(typed?).map_err(bad)
}

fn bad(error: crate::vault::BadPassphrase) -> Failure {
    Failure::new(Exit::Refused, error.to_string())
}

fn failed(error: impl Into<io::Error>) -> Failure {
    Failure::new(Exit::Failed, format!("the passphrase cannot be read: {}", error.into()))
}

/// The terminal without echo, lines and signals, as it was again when this is dropped. Without signals, because one
/// that ends the program would leave the terminal so.
struct Quiet(Termios);

impl Quiet {
    fn start() -> Result<Quiet, Failure> {
        let before = termios::tcgetattr(io::stdin()).map_err(failed)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &quiet).map_err(failed)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What is typed up to the end of the line.
fn typed() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut typed = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE + 1));
    while let Some(byte) = byte()? {
        match byte {
            b'\n' | b'\r' | 4 => return Ok(typed),
            3 => break,
            8 | 0x7f => {
                // The whole of a character of UTF-8.
                while typed.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
            }
            0x15 => typed.zeroize(),
            byte if typed.len() <= MAX_PASSPHRASE => typed.push(byte),
            _ => {}
        }
    }
    Err(Failure::new(Exit::Refused, "given up; nothing was done"))
}

/// A line of at most so many bytes, or one more, that is no secret; `None` at the end of the input. What is not UTF-8 is replaced.
pub fn answer(most: usize) -> Result<Option<String>, Failure> {
    let mut line = Vec::new();
    loop {
        match byte()? {
            None if line.is_empty() => return Ok(None),
            None | Some(b'\n') => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
            Some(byte) if line.len() <= most => line.push(byte),
            Some(_) => {}
        }
    }
}

/// A line of standard input, without its end; the next line stays there.
fn line() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE + 1));
    while let Some(byte) = byte()? {
        match byte {
            b'\n' => break,
            byte if line.len() <= MAX_PASSPHRASE => line.push(byte),
            _ => {}
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// One byte, past the standard library's buffer, which would keep a copy.
fn byte() -> Result<Option<u8>, Failure> {
    let mut byte = Zeroizing::new([0]);
    loop {
        match rustix::io::read(io::stdin(), &mut byte[..]) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(byte.first().copied()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

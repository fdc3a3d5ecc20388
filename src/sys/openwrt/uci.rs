//! `uci`, the one program that is ever executed, in a process that does nothing else.
//!
//! The guard may change the firewall and therefore executes nothing. Before it drops the rights that it does not need, it starts
//! this process, which drops all capabilities, cannot open a socket, and writes below `/etc/config` and `/tmp/.uci` alone
//! where the kernel has Landlock. What it executes has constant arguments; the configuration goes by standard input.
use crate::config::MAX_TEXT;
use crate::sys::linux::process::{Bounds, End, execute, fork};
use crate::sys::linux::sandbox::{Files, Layers, Profile, confine_files, filter_calls, leave_privileges};
use async_io::Async;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where OpenWrt has it.
pub const PATH: &str = "/sbin/uci";
/// Seconds that one run of `uci` may take; writing includes a flush to flash.
pub const LIMIT: u32 = 10;
/// The directories in which it keeps configurations and uncommitted changes.
const WRITTEN: [&str; 2] = ["/etc/config", "/tmp/.uci"];
/// Most of what it says about a failure, bytes.
const MAX_COMPLAINT: u64 = 500;

/// What `uci` can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Everything that counts, uncommitted changes included.
    Show,
    /// Replace the package by the text, committed.
    Import,
    /// Forget the uncommitted changes.
    Revert,
    /// Keep the uncommitted changes; without any nothing is written.
    Commit,
}

impl Ask {
    const ALL: [Ask; 4] = [Ask::Show, Ask::Import, Ask::Revert, Ask::Commit];

    /// The arguments. `batch` would take all changes at once, too, but it ends with 0 when one of them fails.
    fn arguments(self) -> &'static [&'static CStr] {
        match self {
            Ask::Show => &[c"-X", c"show", c"echomesh"],
            Ask::Import => &[c"import", c"echomesh"],
            Ask::Revert => &[c"revert", c"echomesh"],
            Ask::Commit => &[c"commit", c"echomesh"],
        }
    }

    fn code(self) -> u8 {
        Ask::ALL.iter().position(|a| *a == self).and_then(|i| u8::try_from(i).ok()).unwrap_or(u8::MAX)
    }
}

/// The process, before anybody waits for it.
#[derive(Debug)]
pub struct Started(UnixStream);

/// The process.
#[derive(Debug)]
pub struct Uci(Async<UnixStream>);

/// Starts it. To be called before the first thread.
///
/// # Errors
/// The kernel's.
pub fn start(program: &Path) -> io::Result<Started> {
    let program = program.to_owned();
    fork(move |socket| {
        if let Err(e) = confine(&program).and_then(|()| serve(socket, &program)) {
            crate::error!("the process for uci ends: {e}");
        }
    })
    .map(Started)
}

impl Started {
    /// Waits for it from now on, which starts the reactor's thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn watch(self) -> io::Result<Uci> {
        Async::new(self.0).map(Uci)
    }
}

impl Uci {
    /// One run of `uci`: what it printed, or a sentence that says why it failed. One at a time.
    ///
    /// # Errors
    /// The process is gone.
    pub async fn ask(&self, ask: Ask, text: &str) -> io::Result<Result<Vec<u8>, String>> {
        let mut socket = &self.0;
        socket.write_all(&head(ask.code(), text.len())?).await?;
        socket.write_all(text.as_bytes()).await?;
        let mut answer = [0; HEAD];
        socket.read_exact(&mut answer).await?;
        let (status, length) = body_length(&answer)?;
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await?;
        Ok(if status == 0 { Ok(body) } else { Err(String::from_utf8_lossy(&body).into_owned()) })
    }
}

/// A byte that says what it is, and the length of what follows.
const HEAD: usize = 5;

fn head(code: u8, length: usize) -> io::Result<[u8; HEAD]> {
    let [a, b, c, d] = u32::try_from(length).map_err(io::Error::other)?.to_be_bytes();
    Ok([code, a, b, c, d])
}

fn body_length(head: &[u8; HEAD]) -> io::Result<(u8, usize)> {
    let [code, a, b, c, d] = *head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(io::Error::other)?;
    if length > MAX_TEXT { Err(io::ErrorKind::InvalidData.into()) } else { Ok((code, length)) }
}

/// Gives up everything but executing `uci` and its files.
fn confine(program: &Path) -> io::Result<()> {
    let mut own: Vec<PathBuf> = WRITTEN.iter().map(PathBuf::from).collect();
    if program != Path::new(PATH) {
        own.extend(program.parent().map(Path::to_owned));
    }
    // As `uci` would make it with its first uncommitted change.
    match std::fs::DirBuilder::new().mode(0o755).create("/tmp/.uci") {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    own.retain(|path| path.exists());
    let mut layers = Layers::default();
    leave_privileges(Profile::Uci, None, &mut layers)?;
    confine_files(&Files { own, run: vec!["/".into()], ..Files::default() }, &mut layers);
    filter_calls(Profile::Uci, &mut layers);
    Ok(())
}

/// Answers until the guard is gone.
fn serve(mut socket: UnixStream, program: &Path) -> io::Result<()> {
    loop {
        let mut question = [0; HEAD];
        match socket.read_exact(&mut question) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let (code, length) = body_length(&question)?;
        let mut text = vec![0; length];
        socket.read_exact(&mut text)?;
        let ask = Ask::ALL.into_iter().find(|a| a.code() == code).ok_or(io::ErrorKind::InvalidData)?;
        let (status, answer) = match run(program, ask, &text, LIMIT) {
            Ok(output) => (0, output),
            Err(complaint) => (1, complaint.into_bytes()),
        };
        socket.write_all(&head(status, answer.len())?)?;
        socket.write_all(&answer)?;
    }
}

/// One run.
fn run(program: &Path, ask: Ask, text: &[u8], seconds: u32) -> Result<Vec<u8>, String> {
    let arguments = ask.arguments();
    let named = |what: String| {
        let words: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
        format!("`{} {}`: {what}", program.display(), words.join(" "))
    };
    let bounds = Bounds { seconds, output: (MAX_TEXT as u64 + 1, MAX_COMPLAINT) };
    let outcome = execute(program, arguments, text, bounds).map_err(|e| named(e.to_string()))?;
    if outcome.output.len() > MAX_TEXT {
        return Err(named(format!("more than {MAX_TEXT} bytes")));
    }
    if outcome.end != End::Status(0) {
        let complaint = String::from_utf8_lossy(&outcome.error).trim().replace('\n', "; ");
        return Err(named(format!("{complaint} ({})", outcome.end)));
    }
    Ok(outcome.output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A program of the test's own in the place of `uci`.
    struct Script(PathBuf);

    impl Script {
        fn new(name: &str, text: &str) -> Script {
            let path = std::env::temp_dir().join(format!("echomesh-uci-{name}-{}", std::process::id()));
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Script(path)
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn what_it_prints_is_given_and_what_it_is_given_it_reads() {
        let script = Script::new("echo", "echo \"$# $1 $2 $3\"; echo \"env: $(env | grep -c SECRET)\"; cat");
        let output = run(&script.0, Ask::Show, b"text 'with' $(quotes)\n", LIMIT).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), "3 -X show echomesh\nenv: 0\ntext 'with' $(quotes)\n");
        let output = run(&script.0, Ask::Import, b"", LIMIT).unwrap();
        assert!(String::from_utf8(output).unwrap().starts_with("2 import echomesh \n"));
    }

    #[test]
    fn a_failure_is_told_in_its_own_words() {
        let script = Script::new("fail", "echo 'uci: Entry not found' >&2; exit 1");
        let error = run(&script.0, Ask::Show, b"x", LIMIT).unwrap_err();
        assert!(error.ends_with("-X show echomesh`: uci: Entry not found (exit status 1)"), "{error}");
        let missing = run(Path::new("/nonexistent/uci"), Ask::Show, b"", LIMIT).unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn output_is_bounded() {
        let exact = |n: usize| {
            let script = Script::new("much", &format!("head -c {n} /dev/zero"));
            run(&script.0, Ask::Show, b"", LIMIT)
        };
        assert_eq!(exact(MAX_TEXT).unwrap().len(), MAX_TEXT);
        assert!(exact(MAX_TEXT + 1).unwrap_err().contains("more than 262144 bytes"));
        let endless = Script::new("endless", "exec yes");
        assert!(run(&endless.0, Ask::Show, b"", LIMIT).unwrap_err().contains("more than"));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let script = Script::new("hang", "exec sleep 60");
        assert!(run(&script.0, Ask::Show, b"", 1).unwrap_err().ends_with("(it took too long)"));
    }

    #[test]
    fn a_program_that_does_not_read_is_no_obstacle() {
        let script = Script::new("deaf", "exit 0");
        assert_eq!(run(&script.0, Ask::Import, &[b'x'; MAX_TEXT], LIMIT), Ok(Vec::new()));
        let no_program = Script::new("none", "");
        std::fs::write(&no_program.0, "no program").unwrap();
        assert!(run(&no_program.0, Ask::Show, b"", LIMIT).unwrap_err().ends_with("(exit status 127)"));
    }
}

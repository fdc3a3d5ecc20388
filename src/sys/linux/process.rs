//! Processes that the guard starts: fork(2), and a program that is executed once, by hand: `std::process::Command` costs 38 kB of
//! the binary.
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Starts a copy of this process that runs `work` with one end of a pair of sockets and ends when that returns; the
/// other end.
///
/// # Errors
/// The kernel's, or more than one thread: a copy would have the locks of the others, and nobody to open them.
pub fn fork(work: impl FnOnce(UnixStream)) -> io::Result<UnixStream> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads > 1 {
        return Err(io::Error::other(format!("{threads} threads run already")));
    }
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: this process has one thread, so that the copy is as whole as this one is.
    match unsafe { libc::fork() } {
        0 => {
            drop(ours);
            // What is sent to all processes of this name is not for this one; it ends with its socket.
            // SAFETY: SIG_IGN runs nothing.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
            work(theirs);
            std::process::exit(0)
        }
        pid if pid > 0 => Ok(ours),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What bounds a program.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Seconds until the kernel ends it.
    pub seconds: u32,
    /// Bytes of its standard output and of its standard error that are read.
    pub output: (u64, u64),
}

/// What came of a program.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Its standard output.
    pub output: Vec<u8>,
    /// Its standard error.
    pub error: Vec<u8>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Status(status) => write!(f, "exit status {status}"),
            End::Signal(libc::SIGALRM) => f.write_str("it took too long"),
            End::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Executes a program with an empty environment and waits for its end. It is given `input` whole before its output is read, so that it must
/// not print more than a pipe holds before it has read that.
///
/// # Errors
/// The kernel's: the program is not there, or nothing can be started.
pub fn execute(program: &Path, arguments: &[&CStr], input: &[u8], bounds: Bounds) -> io::Result<Outcome> {
    // Told here, where it has words: the copy has only a number to end with.
    std::fs::metadata(program)?;
    let path = CString::new(program.as_os_str().as_bytes())?;
    let words: Vec<*const libc::c_char> =
        [path.as_c_str()].iter().chain(arguments).map(|w| w.as_ptr()).chain([std::ptr::null()]).collect();
    let (stdin, stdout, stderr) = (pipe()?, pipe()?, pipe()?);
    let standard = [stdin.0.as_raw_fd(), stdout.1.as_raw_fd(), stderr.1.as_raw_fd()];
    // SAFETY: what the copy does, until it executes the program or ends, are system calls on numbers and on memory that was made
    // before it.
    let pid = match unsafe { libc::fork() } {
        0 => become_program(&path, &words, standard, bounds.seconds),
        pid if pid > 0 => pid,
        _ => return Err(io::Error::last_os_error()),
    };
    drop((stdin.0, stdout.1, stderr.1));
    // One that does not read to the end has an exit status that says so.
    let _ = File::from(stdin.1).write_all(input);
    let (mut output, mut error) = (Vec::new(), Vec::new());
    // Closed before the end is waited for: one that prints on after that ends by SIGPIPE.
    let read = File::from(stdout.0).take(bounds.output.0).read_to_end(&mut output);
    let _ = File::from(stderr.0).take(bounds.output.1).read_to_end(&mut error);
    let end = wait(pid)?;
    read.map(|_| Outcome { end, output, error })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// Executes a program in the place of this process, which is a copy. `words` are pointers to live strings, with a null pointer at the end:
/// they are made before the copy, which may not allocate.
fn become_program(path: &CStr, words: &[*const libc::c_char], standard: [libc::c_int; 3], seconds: u32) -> ! {
    let nothing: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: plain numbers, and pointers to strings that live, in lists that end with null. alarm(2) outlives execve(2), and so does what is ignored:
    // Rust's own programs ignore SIGPIPE.
    unsafe {
        for (to, from) in [0, 1, 2].into_iter().zip(standard) {
            libc::dup2(from, to);
        }
        libc::chdir(c"/".as_ptr());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::alarm(seconds);
        libc::execve(path.as_ptr(), words.as_ptr(), nothing.as_ptr());
        libc::_exit(127)
    }
}

fn wait(pid: libc::pid_t) -> io::Result<End> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes the status to a number of its type.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            let signal = libc::WIFSIGNALED(status).then(|| End::Signal(libc::WTERMSIG(status)));
            return Ok(signal.unwrap_or(End::Status(libc::WEXITSTATUS(status))));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

//! Processes that the guard starts: fork(2), and the time that an executed program has.
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

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

/// Lets the kernel end the program this many seconds after its start (alarm(2) outlives execve(2)).
pub fn limit_time(command: &mut Command, seconds: u32) {
    let alarm = move || {
        // SAFETY: a plain number is passed, and alarm(2) may be called between fork and exec.
        unsafe { libc::alarm(seconds) };
        Ok(())
    };
    // SAFETY: the closure makes one system call and touches no memory that threads share.
    unsafe { command.pre_exec(alarm) };
}

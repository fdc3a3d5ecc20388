//! Signals as readable events, by `signalfd(2)`.
use async_io::Async;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: end.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP of this process.
#[derive(Debug)]
pub struct Signals(Async<OwnedFd>);

/// The signals, held back until somebody listens: listening starts the reactor's thread.
#[derive(Debug)]
pub struct Blocked(OwnedFd);

impl Blocked {
    /// Listens.
    pub fn watch(self) -> io::Result<Signals> {
        Async::new_nonblocking(self.0).map(Signals)
    }
}

impl Signals {
    /// Takes the signals and listens.
    pub fn take() -> io::Result<Signals> {
        Signals::block()?.watch()
    }

    /// Holds the signals back. Must be called before the first thread starts: threads inherit what is blocked.
    pub fn block() -> io::Result<Blocked> {
        // SAFETY: a `sigset_t` is plain data, and `sigemptyset` initialises it before it is used.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` lives through the calls, the signal numbers are valid, and the null pointer asks for no old mask.
        let fd = unsafe {
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(&raw mut set, signal);
            }
            let blocked = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            if blocked != 0 {
                return Err(io::Error::from_raw_os_error(blocked));
            }
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `signalfd` has just returned this descriptor, and nobody else has it.
        Ok(Blocked(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next one.
    pub async fn next(&self) -> io::Result<Signal> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut info = [0u8; SIZE];
        self.0.read_with(|fd| Ok(rustix::io::read(fd, &mut info)?)).await?;
        // `ssi_signo` is the first member, a native `u32` (signalfd(2)).
        let number = info.first_chunk::<4>().map_or(0, |b| u32::from_ne_bytes(*b));
        Ok(if i32::try_from(number) == Ok(libc::SIGHUP) { Signal::Reload } else { Signal::Stop })
    }
}

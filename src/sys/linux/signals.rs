//! Signals as readable events, by `signalfd(2)`.
use super::reactor::{Io, block_on};
use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::task::{Context, Poll, ready};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: end.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP of this process, for the thread that listens.
#[derive(Debug)]
pub struct Signals(Io);

/// The signals, held back until somebody listens.
#[derive(Debug)]
pub struct Blocked(OwnedFd);

impl Blocked {
    /// Listens.
    pub fn watch(self) -> io::Result<Signals> {
        Io::of_messages(self.0).map(Signals)
    }

    /// Waits for one, and does nothing else.
    pub fn wait(self) -> io::Result<Signal> {
        let signals = self.watch()?;
        block_on(signals.next())?
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
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next one, if there is one already.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<io::Result<Signal>> {
        // `struct signalfd_siginfo` of signalfd(2), of which `ssi_signo` is the first member.
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        let read = ready!(self.0.poll_call(cx, |fd| rustix::io::read(fd, &mut info)));
        let number = info.first_chunk::<4>().map_or(0, |b| u32::from_ne_bytes(*b));
        let is_hup = i32::try_from(number) == Ok(libc::SIGHUP);
        Poll::Ready(read.map(|_| if is_hup { Signal::Reload } else { Signal::Stop }))
    }
}

//! The guard as `run` finds it: a connection that is made anew whenever it ends.
use super::outbox::Outbox;
use super::protocol::{MAX_MESSAGE, Report, Request};
use super::view::SILENCE_MS;
use crate::clock::Clock;
use crate::sys::linux::seqpacket::Seqpacket;
use futures_lite::future;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The guard's socket in the run directory.
pub const SOCKET: &str = "guard.sock";
/// Pause before another try; it grows fourfold with each that finds nobody.
const RETRY: Duration = Duration::from_millis(250);
/// The longest pause of a node that carries nothing without a guard, and of one that can do without.
pub const LONGEST: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(64));
/// How long a guard that has said nothing is listened to once more, milliseconds.
const GRACE_MS: u64 = 500;
/// Messages that are heard before anybody else gets a turn.
const AT_ONCE: usize = 16;
/// Root: only who may change the firewall may say how it is.
const ROOT: u32 = 0;

/// Whom the reports are for.
pub trait Listener {
    /// A report.
    fn hear(&self, report: Report);
    /// No guard is there any more; why, if it is not just gone.
    fn lose(&self, why: Option<&Lost>);
}

/// Why a connection was given up.
#[derive(Debug)]
pub enum Lost {
    /// Whoever listens there is not root.
    Impostor(u32),
    /// It says what no guard of this version says.
    Malformed,
    /// It says nothing.
    Silent,
    /// It is gone.
    Gone(io::Error),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Impostor(uid) => write!(
                f,
                "Whoever listens on the guard's socket is user {uid} and not root, and is not believed."
            ),
            Lost::Malformed => f.write_str(
                "The guard sends what this version does not know; run both processes from one binary.",
            ),
            Lost::Silent => f.write_str("The guard says nothing."),
            Lost::Gone(e) => write!(f, "The guard is gone: {e}."),
        }
    }
}

/// The connection to the guard.
#[derive(Debug)]
pub struct Link {
    path: PathBuf,
    connection: RefCell<Option<Rc<Outbox>>>,
}

impl Link {
    /// To the guard of a run directory.
    pub fn new(run_dir: &Path) -> Link {
        Link { path: run_dir.join(SOCKET), connection: RefCell::default() }
    }

    /// Tells the guard that the configuration's file has changed.
    pub fn config_changed(&self) {
        if self.is_connected() && !self.send(&Request::ConfigChanged) {
            crate::warn!("the guard cannot be told of the new configuration: it reads nothing");
        }
    }

    /// Whether a guard is there.
    pub fn is_connected(&self) -> bool {
        self.connection.borrow().is_some()
    }

    /// Tells the guard, now or as soon as it has room; false if there is none, or if it has read nothing for so long that the
    /// connection ends: [`Listener::lose`] follows.
    pub fn send(&self, request: &Request) -> bool {
        let connection = self.connection.borrow().clone();
        connection.is_some_and(|c| c.send(request.encode()).is_ok())
    }

    /// Ends the connection, as if the guard had gone; it is made anew. False if there is none.
    pub fn give_up(&self) -> bool {
        let connection = self.connection.borrow_mut().take();
        if let Some(connection) = &connection {
            connection.socket().shutdown();
        }
        connection.is_some()
    }

    /// Listens to the guard, for ever, with pauses up to `longest` while there is none: a node that nobody guards must
    /// not wake its router for it.
    pub async fn attend(&self, listener: &dyn Listener, longest: Duration) {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut pause = RETRY;
        loop {
            let ended = match Seqpacket::connect(&self.path) {
                Ok(socket) => {
                    let connection = Rc::new(Outbox::new(socket));
                    *self.connection.borrow_mut() = Some(connection.clone());
                    let heard = hear(connection.socket(), listener, &mut buffer);
                    let poured = async { Lost::Gone(poll_fn(|cx| connection.poll_pour(cx)).await) };
                    Some(future::or(heard, poured).await)
                }
                Err(_) => None,
            };
            *self.connection.borrow_mut() = None;
            if let Some(why) = &ended {
                listener.lose(Some(why));
                pause = RETRY;
            }
            async_io::Timer::after(pause).await;
            pause = (pause * 4).min(longest);
        }
    }
}

async fn hear(connection: &Seqpacket, listener: &dyn Listener, buffer: &mut [u8]) -> Lost {
    match connection.peer() {
        Ok(ROOT) => {}
        Ok(uid) => return Lost::Impostor(uid),
        Err(e) => return Lost::Gone(e),
    }
    let clock = Clock::new();
    let heard_ms = Cell::new(clock.mono_ms());
    let messages = async {
        loop {
            // Other tasks come between two waits, and some take long where the processor is slow.
            for turn in 0..AT_ONCE {
                let received = match turn {
                    0 => connection.receive(buffer).await.map(Some),
                    _ => connection.try_receive(buffer),
                };
                match received {
                    Ok(None) => break,
                    Ok(Some(0)) => return Lost::Gone(io::ErrorKind::UnexpectedEof.into()),
                    Ok(Some(length)) => match Report::decode(buffer.get(..length).unwrap_or_default()) {
                        Ok(report) => listener.hear(report),
                        Err(_) => return Lost::Malformed,
                    },
                    Err(e) => return Lost::Gone(e),
                }
                heard_ms.set(clock.mono_ms());
            }
        }
    };
    // One timer for all messages: to set it anew for each would cost more than to hear it.
    let silence = async {
        let mut silence = Silence::default();
        while let Some(pause) = silence.look(clock.mono_ms().saturating_sub(heard_ms.get())) {
            async_io::Timer::after(Duration::from_millis(pause)).await;
        }
        Lost::Silent
    };
    future::or(messages, silence).await
}

/// When a guard that has said nothing is given up. Until then nothing is allowed by what it said last ([`SILENCE_MS`]).
#[derive(Debug, Default)]
struct Silence {
    /// It was too long at the last look. A processor that was not there comes back to this timer before what was said meanwhile,
    /// or could be, is heard.
    long: bool,
}

impl Silence {
    /// Looks how long it is, milliseconds; how long until the next look, or none if it was too long at two.
    fn look(&mut self, since_ms: u64) -> Option<u64> {
        let left = SILENCE_MS.saturating_sub(since_ms);
        let was_long = std::mem::replace(&mut self.long, left == 0);
        match left {
            0 if was_long => None,
            0 => Some(GRACE_MS),
            left => Some(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_silent_at_two_looks_one_after_the_other() {
        let mut silence = Silence::default();
        assert_eq!(silence.look(0), Some(SILENCE_MS));
        assert_eq!(silence.look(SILENCE_MS + 9_000), Some(GRACE_MS));
        assert_eq!(silence.look(SILENCE_MS - 1), Some(1), "what was said is heard only now");
        assert_eq!(silence.look(SILENCE_MS), Some(GRACE_MS));
        assert_eq!(silence.look(SILENCE_MS + GRACE_MS), None);
    }
}

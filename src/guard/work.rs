//! What the guard does with UCI, one thing after the other, while it goes on watching the kernel.
use super::config::Digest;
use super::scope::Scope;
use super::uci::{UciError, config, replace, show};
use crate::config::Store;
use crate::sys::openwrt::uci::{Started, Uci};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Jobs that wait at most; connections are fewer.
const MAX_JOBS: usize = 8;

/// Where the guard's configuration comes from.
#[derive(Debug)]
pub enum Source {
    /// A file.
    File(Store),
    /// UCI, by the process that was started for it.
    Uci(Started),
}

/// The same, in use.
#[derive(Debug)]
pub enum Kept {
    /// A file.
    File(Store),
    /// UCI.
    Uci(Rc<Uci>),
}

impl Source {
    /// Reads the first configuration. One in UCI that is not valid stops nobody: it is repaired through this guard.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(self) -> Result<(Scope, Kept, bool), String> {
        match self {
            Source::File(store) => Ok((scope(&store)?, Kept::File(store), false)),
            Source::Uci(started) => {
                let uci = started.watch().map_err(|e| e.to_string())?;
                let found = match async_io::block_on(show(&uci)) {
                    Ok(text) => config(&text),
                    Err(gone @ UciError::Gone(_)) => return Err(gone.to_string()),
                    Err(e) => Err(e),
                };
                let is_made_up = found.is_err();
                let scope = found.map(|c| Scope::of(&c)).unwrap_or_else(|e| {
                    crate::error!(
                        "the configuration in UCI is not valid, and the guard allows what none would: {e}"
                    );
                    crate::config::parse(
                        b"{\"version\":1}",
                        crate::config::Face::Json,
                        crate::config::Platform::OpenWrt,
                    )
                    .map(|c| Scope::of(&c))
                    .unwrap_or_default()
                });
                Ok((scope, Kept::Uci(Rc::new(uci)), is_made_up))
            }
        }
    }
}

/// What a file's configuration lets the service user reach.
///
/// # Errors
/// A sentence.
pub fn scope(store: &Store) -> Result<Scope, String> {
    store.load().map(|config| Scope::of(&config)).map_err(|e| e.to_string())
}

/// Something to be done with UCI.
#[derive(Debug)]
pub enum Job {
    /// Read it for the guard itself; whether root asks.
    Reload(bool),
    /// Read it for a client.
    Show(u64),
    /// Write it for a client.
    Replace(u64, Digest, String),
}

/// For whom something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// The guard itself; whether root asked.
    Guard(bool),
    /// A client that reads.
    Reader(u64),
    /// A client that writes.
    Writer(u64),
}

type Running = Pin<Box<dyn Future<Output = Result<String, UciError>>>>;

/// The jobs that wait, and the one that is under way.
#[derive(Default)]
pub struct Work {
    waiting: VecDeque<(For, Running)>,
}

impl Work {
    /// Adds a job; whether there was room.
    pub fn add(&mut self, uci: &Rc<Uci>, job: Job) -> bool {
        if self.waiting.len() >= MAX_JOBS {
            return false;
        }
        let uci = uci.clone();
        let (whom, running): (For, Running) = match job {
            Job::Reload(by_root) => (For::Guard(by_root), Box::pin(async move { show(&uci).await })),
            Job::Show(client) => (For::Reader(client), Box::pin(async move { show(&uci).await })),
            Job::Replace(client, read, text) => {
                (For::Writer(client), Box::pin(async move { replace(&uci, &read, &text).await }))
            }
        };
        self.waiting.push_back((whom, running));
        true
    }

    /// What comes of the first job, if it is done.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(For, Result<String, UciError>)> {
        let Some((whom, running)) = self.waiting.front_mut() else { return Poll::Pending };
        let done = (*whom, ready!(running.as_mut().poll(cx)));
        self.waiting.pop_front();
        Poll::Ready(done)
    }
}

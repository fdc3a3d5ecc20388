//! Where the configuration comes from and goes to: a file of this process's own, or the router's store behind the guard.
use crate::api::Problem;
use crate::config::{Config, Errors, Face, Platform, Store, StoreError, parse, uci};
use crate::guard::config::{self as guard, ConfigLink, Digest};
use std::cell::Cell;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

/// The source of the configuration.
#[derive(Clone)]
pub enum Source {
    /// A file.
    File(Store),
    /// UCI.
    Uci(Rc<UciStore>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(store) => store.path().display().fmt(f),
            Source::Uci(_) => f.write_str("UCI"),
        }
    }
}

/// UCI, as this process reaches it: through the guard, since it may neither read root's files nor execute anything.
pub struct UciStore {
    link: ConfigLink,
    platform: Platform,
    /// What was read last, valid or not: only over that may something be written.
    read: Cell<Option<Digest>>,
    /// How often it was written.
    writes: Cell<u64>,
}

/// Why there is no configuration, or why it was not written.
#[derive(Debug)]
pub enum SourceError {
    /// The file's.
    File(StoreError),
    /// What stands in UCI is not valid.
    Invalid(Errors),
    /// UCI could not be asked, or did not take it.
    Guard(guard::ConfigError),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::File(e) => e.fmt(f),
            SourceError::Invalid(e) => e.fmt(f),
            SourceError::Guard(e) => e.fmt(f),
        }
    }
}

impl SourceError {
    /// A sentence for each fault, for `config.errors` of the status.
    pub fn sentences(&self) -> Vec<String> {
        match self {
            SourceError::Invalid(e) => {
                let more = (e.more > 0).then(|| format!("and at least {} more", e.more));
                e.problems.iter().map(ToString::to_string).chain(more).collect()
            }
            other => other.to_string().lines().map(str::to_owned).collect(),
        }
    }

    /// As the API answers who wanted to write.
    pub fn problem(&self) -> Problem {
        match self {
            SourceError::Guard(guard::ConfigError::Changed) => {
                Problem { detail: self.to_string(), ..Problem::etag_mismatch() }
            }
            _ => Problem::internal(self.to_string()),
        }
    }
}

impl Source {
    /// UCI behind the guard of a run directory.
    pub fn uci(run_dir: &Path, platform: Platform) -> Source {
        let link = ConfigLink::new(run_dir);
        Source::Uci(Rc::new(UciStore { link, platform, read: Cell::new(None), writes: Cell::new(0) }))
    }

    /// The configuration as it stands.
    ///
    /// # Errors
    /// [`SourceError`]; the one in force should stay.
    pub async fn load(&self) -> Result<Config, SourceError> {
        match self {
            Source::File(store) => store.load().map_err(SourceError::File),
            Source::Uci(uci) => {
                loop {
                    let (link, writes) = (uci.link.clone(), uci.writes.get());
                    let read = blocking::unblock(move || link.read()).await;
                    // What was read before it was written is what stood there before.
                    if uci.writes.get() == writes {
                        return uci.take(read);
                    }
                }
            }
        }
    }

    /// The same at the start, while there is one thread.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn load_first(&self) -> Result<Config, SourceError> {
        match self {
            Source::File(store) => store.load().map_err(SourceError::File),
            Source::Uci(uci) => uci.take(uci.link.wait().and_then(|()| uci.link.read())),
        }
    }

    /// Keeps a configuration, so that a restart finds it.
    ///
    /// # Errors
    /// [`SourceError`]; what stood there stands.
    pub async fn save(&self, config: &Config) -> Result<(), SourceError> {
        match self {
            Source::File(store) => store.save(config).map(drop).map_err(SourceError::File),
            Source::Uci(uci) => {
                let read = uci.read.get().ok_or(SourceError::Guard(guard::ConfigError::Changed))?;
                let text = uci::write(&config.to_value(), &[]);
                let link = uci.link.clone();
                let written = blocking::unblock(move || link.write(&read, &text)).await;
                uci.read.set(Some(written.map_err(SourceError::Guard)?));
                uci.writes.set(uci.writes.get().saturating_add(1));
                Ok(())
            }
        }
    }

    /// Whether it could be read at all, whatever it said.
    pub fn is_reached(&self) -> bool {
        match self {
            Source::File(_) => true,
            Source::Uci(uci) => uci.read.get().is_some(),
        }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::File(store) => Some(store.path()),
            Source::Uci(_) => None,
        }
    }
}

impl UciStore {
    fn take(&self, text: Result<String, guard::ConfigError>) -> Result<Config, SourceError> {
        let text = text.map_err(SourceError::Guard)?;
        self.read.set(Some(guard::digest(&text)));
        parse(text.as_bytes(), Face::Uci, self.platform).map_err(SourceError::Invalid)
    }
}

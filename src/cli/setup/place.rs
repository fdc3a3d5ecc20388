//! Where a configuration stands: a file, or a router's UCI.
use super::super::args::Arguments;
use super::super::files::config_failure;
use super::super::{Exit, Failure, keys};
use super::wizard::Start;
use super::write;
use crate::config::{self, Face, Platform, Saved, Store, StoreError, read, read_bounded, schema, usual_path};
use crate::guard::config::digest;
use crate::guard::uci::{UciError, replace, show};
use crate::json::{Value, object};
use crate::sys::openwrt::uci::{self, Uci};
use crate::vault::Vault;
use async_io::block_on;
use std::path::{Path, PathBuf};

/// The configuration of a service that root sets up.
pub const SYSTEM: &str =
    if cfg!(feature = "yaml") { "/etc/echomesh/config.yaml" } else { "/etc/echomesh/config.json" };
/// Its key, which no home directory of root's may hold.
const SYSTEM_KEY: &str = "/var/lib/echomesh/node.key";
/// UCI's own file, which `uci` alone writes.
const UCI: &str = "/etc/config/echomesh";

/// Where the configuration stands.
pub struct Place {
    kind: Kind,
    /// The machine that it is for.
    pub platform: Platform,
    /// Where the answers are until the setup is complete: beside the file; beside the key with UCI, to which every file
    /// in `/etc/config` is a package.
    pub progress: PathBuf,
}

enum Kind {
    File(Store),
    /// The process that executes `uci`, and what it showed.
    Uci(Uci, String),
}

impl Place {
    /// By the command line and the machine. With UCI this starts a process and must come before any thread.
    pub fn find(arguments: &Arguments) -> Result<Place, Failure> {
        let chosen = arguments.value("config").map(Path::new);
        let usual = usual_path(chosen);
        if arguments.has("uci") || usual == Path::new(UCI) {
            return Place::uci(arguments);
        }
        let for_service = chosen.is_none() && rustix::process::geteuid().is_root() && !usual.exists();
        let path = if for_service { PathBuf::from(SYSTEM) } else { usual };
        let mut progress = path.as_os_str().to_owned();
        progress.push(".setup");
        let platform = Platform::detect();
        Ok(Place { kind: Kind::File(Store::open(path, platform)), platform, progress: progress.into() })
    }

    fn uci(arguments: &Arguments) -> Result<Place, Failure> {
        let program = arguments.value("uci-path").map_or(Path::new(uci::PATH), Path::new);
        let started = uci::start(program).and_then(uci::Started::watch);
        let uci = started.map_err(|e| Failure::new(Exit::Failed, format!("{}: {e}", program.display())))?;
        let text = block_on(show(&uci)).map_err(|e| failed(&e))?;
        Ok(Place { kind: Kind::Uci(uci, text), platform: Platform::OpenWrt, progress: PathBuf::new() })
    }

    /// What there is: the configuration, which must be valid, and the key.
    pub fn start(&mut self) -> Result<(Start, Vault), Failure> {
        let (document, exists) = match &self.kind {
            Kind::File(store) => self.read(store)?,
            Kind::Uci(_, text) => {
                let bad = |e: config::Errors| Failure::new(Exit::Config, e.render("UCI"));
                (read(text.as_bytes(), Face::Uci).map_err(bad)?, true)
            }
        };
        let config = config::from_value(&document, self.platform)
            .map_err(|e| Failure::new(Exit::Config, e.render(&self.name())))?;
        let vault = keys::vault(&config)?;
        let key = write::found(&vault)?;
        if let (Kind::Uci(..), Some(around)) = (&self.kind, vault.path().parent()) {
            self.progress = around.join("setup");
        }
        Ok((
            Start {
                document,
                exists,
                key,
                place: self.name(),
                backup: self.backup(),
                platform: self.platform,
            },
            vault,
        ))
    }

    fn read(&self, store: &Store) -> Result<(Value, bool), Failure> {
        let path = store.path();
        let (mut document, exists) = match read_bounded(path) {
            Ok(text) => {
                let invalid = |e| config_failure(StoreError::Invalid(path.to_owned(), e).into());
                (read(&text, Face::of(path)).map_err(invalid)?, true)
            }
            Err(StoreError::Missing(_)) => (object([("version", 1.into())]), false),
            Err(e) => return Err(config_failure(e.into())),
        };
        let of_service = self.platform == Platform::Other && path.starts_with("/etc");
        if of_service && schema::find(&document, "node.idPath").is_none() {
            schema::put(&mut document, "node.idPath", SYSTEM_KEY.into());
        }
        Ok((document, exists))
    }

    /// What it is called in a message.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::File(store) => store.path().display().to_string(),
            Kind::Uci(..) => UCI.to_owned(),
        }
    }

    /// Where the configuration stays that is replaced; UCI keeps none.
    fn backup(&self) -> Option<String> {
        matches!(self.kind, Kind::File(_)).then(|| format!("{}.bak", self.name()))
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.kind {
            Kind::File(store) => Some(store.path()),
            Kind::Uci(..) => None,
        }
    }

    /// Writes a valid document. Nothing is, if it says the same already.
    pub fn save(&self, document: &Value) -> Result<Saved, Failure> {
        match &self.kind {
            Kind::File(store) => {
                write::directory(store.path())?;
                store.save_document(document).map_err(|e| config_failure(e.into()))
            }
            Kind::Uci(uci, text) => {
                let new = config::write(document, Face::Uci);
                let after = block_on(replace(uci, &digest(text), &new)).map_err(|e| failed(&e))?;
                Ok(if after == *text { Saved::Unchanged } else { Saved::Replaced })
            }
        }
    }
}

fn failed(error: &UciError) -> Failure {
    let message = match error {
        UciError::Changed => format!("{error} when setup began; nothing was written: run it again"),
        _ => error.to_string(),
    };
    Failure::new(Exit::Failed, message)
}

//! `echomesh setup`: asks an owner what a node cannot run without, or takes it from the command line, and writes it down.
//!
//! What is asked and what an answer does is the [`wizard`]'s; here are the terminal, the files and the key.
mod check;
pub mod questions;
pub mod regions;
pub mod schedule;
pub mod wizard;
mod write;

use super::args::Arguments;
use super::files::config_failure;
use super::{Done, Exit, Failure, out, passphrase};
use crate::config::{self, Face, Platform, Store, StoreError, read, read_bounded, schema, usual_path};
use crate::json::object;
use crate::vault::files::{self, FileError};
use questions::{Fault, KeyChoice, MAX_ANSWER, QUESTIONS};
use std::path::{Path, PathBuf};
use wizard::{Reply, Start, Wizard};

/// The configuration of a service that root sets up.
const SYSTEM: &str =
    if cfg!(feature = "yaml") { "/etc/echomesh/config.yaml" } else { "/etc/echomesh/config.json" };
/// Its key, which no home directory of root's may hold.
const SYSTEM_KEY: &str = "/var/lib/echomesh/node.key";

/// `setup`
pub fn command(arguments: &Arguments) -> Done {
    let place = Place::find(arguments);
    let (start, vault) = place.start()?;
    let has_key = start.key.is_some();
    let mut wizard = Wizard::new(start);
    for question in QUESTIONS {
        let Some(text) = arguments.text(question.name)? else { continue };
        let named = |f: Fault| (format!("--{} {text}: {}", question.name, f.text()), f);
        wizard.give(question.name, text).map_err(named).map_err(|(message, fault)| match fault {
            Fault::Shape(_) => Failure::new(Exit::Usage, message),
            Fault::Invalid(_) => Failure::new(Exit::Config, message),
        })?;
    }
    let wants_key = arguments.text("key")?.is_some_and(|key| KeyChoice::parse(key) != Some(KeyChoice::Keep));
    if has_key && wants_key {
        let message = format!(
            "{}: there is a key already, and setup never touches one; leave --key out, or see `echomesh help keys`",
            vault.path().display()
        );
        return Err(Failure::new(Exit::Refused, message));
    }
    if arguments.has("yes") {
        if arguments.text("key")?.is_none() {
            wizard.give("key", "keep").map_err(|f| Failure::new(Exit::Failed, f.text()))?;
        }
        if let Some(problems) = wizard.problems() {
            return Err(Failure::new(Exit::Config, problems));
        }
        if arguments.has("check") {
            out::print(&check::coordinator(&wizard.document(), place.platform)?)?;
        }
    } else {
        place.resume(&mut wizard)?;
        place.converse(&mut wizard)?;
    }
    write::all(arguments, &place, &wizard, &vault)
}

/// The file that is set up, and for what machine.
struct Place {
    store: Store,
    platform: Platform,
    /// Where the answers are until the setup is complete.
    progress: PathBuf,
}

impl Place {
    fn find(arguments: &Arguments) -> Place {
        let chosen = arguments.value("config").map(Path::new);
        let usual = usual_path(chosen);
        let for_service = chosen.is_none() && rustix::process::geteuid().is_root() && !usual.exists();
        let path = if for_service { PathBuf::from(SYSTEM) } else { usual };
        let platform = Platform::detect();
        let mut progress = path.as_os_str().to_owned();
        progress.push(".setup");
        Place { store: Store::open(path, platform), platform, progress: progress.into() }
    }

    /// What there is: the configuration, which must be valid, and the key.
    fn start(&self) -> Result<(Start, crate::vault::Vault), Failure> {
        let path = self.store.path();
        let (mut document, exists) = match read_bounded(path) {
            Ok(text) => {
                (read(&text, Face::of(path)).map_err(|e| StoreError::Invalid(path.to_owned(), e)), true)
            }
            Err(StoreError::Missing(_)) => (Ok(object([("version", 1.into())])), false),
            Err(e) => (Err(e), true),
        };
        if let (Ok(document), Platform::Other, true) =
            (&mut document, self.platform, path.starts_with("/etc"))
        {
            let key = schema::find(document, "node.idPath");
            if key.is_none() {
                schema::put(document, "node.idPath", SYSTEM_KEY.into());
            }
        }
        let document = document.map_err(|e| config_failure(e.into()))?;
        let config = config::from_value(&document, self.platform)
            .map_err(|e| Failure::new(Exit::Config, e.render(&path.to_string_lossy())))?;
        let vault = super::keys::vault(&config)?;
        let key = write::found(&vault)?;
        let place = path.display().to_string();
        Ok((Start { document, exists, key, place, platform: self.platform }, vault))
    }

    /// Offers what an interrupted setup has kept.
    fn resume(&self, wizard: &mut Wizard) -> Done {
        let saved = match files::read(&self.progress) {
            Ok(saved) => saved,
            Err(FileError::Missing(_)) => return Ok(()),
            Err(e) => return Err(Failure::new(Exit::Failed, format!("{e}; remove it to begin anew"))),
        };
        out::print("A setup was interrupted here. Go on with its answers? yes or no [yes]: ")?;
        loop {
            match self.typed()?.trim() {
                "" | "y" | "yes" => break,
                "n" | "no" => return Ok(()),
                _ => out::print("yes or no [yes]: ")?,
            }
        }
        let taken = wizard.resume(&saved);
        out::print(&format!("{taken} answers taken over.\n"))
    }

    /// Asks until everything is answered and agreed to.
    fn converse(&self, wizard: &mut Wizard) -> Done {
        out::print("An empty line takes what stands in brackets. ?: help; back; quit.\n")?;
        loop {
            out::print(&wizard.page())?;
            let line = self.typed()?;
            match wizard.line(&line) {
                Reply::Next => self.keep(wizard)?,
                Reply::Same(text) => out::print(&format!("{text}\n"))?,
                Reply::Check => match check::coordinator(&wizard.document(), self.platform) {
                    Ok(text) => out::print(&text)?,
                    Err(failure) => out::print(&format!("{failure}\n"))?,
                },
                Reply::Write => return Ok(()),
                Reply::Quit => return Err(self.interrupted("nothing was written")),
            }
        }
    }

    fn typed(&self) -> Result<String, Failure> {
        match passphrase::answer(MAX_ANSWER)? {
            Some(line) => Ok(line),
            None => Err(self.interrupted("the answers have ended, and nothing was written")),
        }
    }

    fn interrupted(&self, what: &str) -> Failure {
        let kept = match self.progress.exists() {
            true => format!("; what was answered is kept in {}", self.progress.display()),
            false => String::new(),
        };
        Failure::new(Exit::Failed, format!("{what}{kept}; `echomesh setup` goes on"))
    }

    fn keep(&self, wizard: &Wizard) -> Done {
        write::directory(&self.progress)?;
        files::replace(&self.progress, wizard.progress().as_bytes())
            .map_err(|e| Failure::new(Exit::Failed, format!("the answers cannot be kept: {e}")))
    }
}

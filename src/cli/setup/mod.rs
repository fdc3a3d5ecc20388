//! `echomesh setup`: asks an owner what a node cannot run without, or takes it from the command line, and writes it down.
//!
//! What is asked and what an answer does is the [`wizard`]'s; here are the terminal, the files and the key.
mod check;
mod place;
pub mod questions;
pub mod regions;
pub mod schedule;
pub mod wizard;
mod write;

use super::args::Arguments;
use super::{Done, Exit, Failure, out, passphrase};
use crate::vault::files::{self, FileError};
use place::Place;
use questions::{Fault, KeyChoice, MAX_ANSWER, QUESTIONS};
use wizard::{Reply, Wizard};

/// `setup`
pub fn command(arguments: &Arguments) -> Done {
    let mut place = Place::find(arguments)?;
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

impl Place {
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

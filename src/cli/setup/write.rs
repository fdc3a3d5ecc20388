//! The end of a setup: configuration, key, and what to do next.
use super::super::args::Arguments;
use super::super::files::read;
use super::super::{Done, Exit, Failure, keys, out, passphrase};
use super::place::{Place, SYSTEM};
use super::questions::KeyChoice;
use super::wizard::Wizard;
use crate::clock::Clock;
use crate::config::{Saved, schema};
use crate::json::Value;
use crate::sys::linux::sandbox::find_user;
use crate::vault::files::{self, FileError};
use crate::vault::pem::{self, Content};
use crate::vault::{KeyState, Passphrase, Vault, commands};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// The option whose file holds the passphrase.
const PASSPHRASE: &str = "passphrase-file";
/// The service's user.
const USER: &str = "echomesh";

/// What is told of a key that there is; `None` without one.
pub fn found(vault: &Vault) -> Result<Option<String>, Failure> {
    Ok(match vault.state().map_err(keys::failure)? {
        KeyState::Absent => None,
        KeyState::Locked => Some(format!("sealed, {}", vault.path().display())),
        KeyState::Ready(key) => Some(key.node_id()),
    })
}

/// Writes configuration and key. What the key needs of its owner is asked for first, so that nothing is written if it is
/// not there.
pub fn all(arguments: &Arguments, place: &Place, wizard: &Wizard, vault: &Vault) -> Done {
    let key = Key::prepare(arguments, wizard.key())?;
    let document = wizard.document();
    let saved = place.save(&document)?;
    let said = match saved {
        Saved::Replaced => "written",
        Saved::Unchanged => "as it was",
    };
    out::print(&format!("\nconfiguration {said}: {}\n", place.name()))?;
    let made = key.make(vault)?;
    match files::destroy(&place.progress) {
        Ok(()) | Err(FileError::Missing(_)) => {}
        Err(e) => return Err(Failure::new(Exit::Failed, e.to_string())),
    }
    let locked = match vault.state() {
        Ok(KeyState::Locked) => "at each start: echomesh keys unlock\n",
        _ => "",
    };
    out::print(&format!("{made}{}{locked}", next(place, &document)))
}

/// The key, as far as it can be had before anything is written.
enum Key {
    Keep,
    New(Option<Passphrase>),
    Import(Zeroizing<Vec<u8>>, Option<Passphrase>),
}

impl Key {
    fn prepare(arguments: &Arguments, choice: KeyChoice) -> Result<Key, Failure> {
        Ok(match choice {
            KeyChoice::Keep => Key::Keep,
            KeyChoice::New => Key::New(None),
            KeyChoice::Sealed => Key::New(Some(passphrase::new(arguments, PASSPHRASE)?)),
            KeyChoice::Import(path) => {
                let path = crate::config::real_path(Path::new(&path))
                    .ok_or_else(|| Failure::new(Exit::Failed, "HOME is not set; give the key without ~/"))?;
                let text = Zeroizing::new(read(&path)?);
                let sealed = matches!(pem::read(&text), Some(Content::Sealed(_)));
                let prompt = "Passphrase of the key: ";
                let asked =
                    sealed.then(|| passphrase::existing(arguments, PASSPHRASE, None, prompt)).transpose()?;
                Key::Import(text, asked)
            }
        })
    }

    fn make(&self, vault: &Vault) -> Result<String, Failure> {
        if !matches!(self, Key::Keep) {
            directory(vault.path())?;
            // Somebody may have made one meanwhile, and setup never touches a key.
            if found(vault)?.is_some() {
                return Err(keys::failure(FileError::Exists(vault.path().to_owned()).into()));
            }
        }
        match self {
            Key::Keep => Ok(String::new()),
            Key::New(passphrase) => commands::generate(vault, passphrase.as_ref()),
            Key::Import(text, passphrase) => {
                commands::import(vault, text, passphrase.as_ref(), Clock::new().now().unix())
            }
        }
        .map_err(keys::failure)
    }
}

/// Makes the directory of a file. One that root makes is the service's, if there is its user.
pub fn directory(path: &Path) -> Done {
    let Some(around) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) else {
        return Ok(());
    };
    let failed = |e: std::io::Error| Failure::new(Exit::Failed, format!("{}: {e}", around.display()));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(around).map_err(failed)?;
    match find_user(USER) {
        Ok(user) if rustix::process::geteuid().is_root() => {
            std::os::unix::fs::lchown(around, Some(user.uid), Some(user.gid)).map_err(failed)
        }
        _ => Ok(()),
    }
}

/// The commands that come next. A router's port stays shut until its owner opens it; the rule is the package's.
fn next(place: &Place, document: &Value) -> String {
    let start = match place.file() {
        None => {
            let listen = schema::find(document, "relay.listen").and_then(Value::as_str).unwrap_or_default();
            let port = listen.rsplit(':').next().unwrap_or_default();
            format!(
                "uci set echomesh.main.enabled=1; uci commit echomesh; reload_config\n\
                 open: uci set firewall.echomesh.dest_port={port}; uci set firewall.echomesh.enabled=1\n      \
                 uci commit firewall; service firewall reload"
            )
        }
        Some(path) if path == Path::new(SYSTEM) => {
            "systemctl enable --now echomesh-guard echomesh".to_owned()
        }
        Some(path) => format!("echomesh run --config {}", path.display()),
    };
    format!("next: {start}\nthen: echomesh status --watch\n")
}

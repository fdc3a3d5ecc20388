//! `keys …`: the node's key, in the file that the configuration names.
use super::args::Arguments;
use super::client::Client;
use super::files::{config_failure, read};
use super::{Done, Exit, Failure, out, passphrase};
use crate::clock::Clock;
use crate::config::{self, Config, Platform, Store};
use crate::json::object;
use crate::vault::pem::{self, Content};
use crate::vault::{KeyState, Passphrase, Vault, VaultError, commands};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const FILE: &str = "passphrase-file";
const OLD_FILE: &str = "old-passphrase-file";

/// Any of them but `keys unlock`.
pub fn command(arguments: &Arguments) -> Done {
    let keys = Keys::open(arguments)?;
    let (vault, yes, now) = (&keys.vault, arguments.has("yes"), Clock::new().now().unix());
    let text = match arguments.command.name {
        "keys show" => commands::show(vault),
        "keys generate" => {
            let asked = arguments.value(FILE).map(|_| passphrase::new(arguments, FILE)).transpose()?;
            commands::generate(vault, asked.as_ref())
        }
        "keys export" => return keys.export(yes),
        "keys import" => {
            let path = arguments.operands.first().map(PathBuf::from).unwrap_or_default();
            let text = Zeroizing::new(read(&path)?);
            let sealed = matches!(pem::read(&text), Some(Content::Sealed(_)));
            let prompt = "Passphrase of the imported key: ";
            let asked = sealed.then(|| passphrase::existing(arguments, FILE, None, prompt)).transpose()?;
            commands::import(vault, &text, asked.as_ref(), now)
        }
        "keys seal" => {
            let old = keys.current(OLD_FILE)?;
            commands::seal(vault, old.as_ref(), &passphrase::new(arguments, FILE)?)
        }
        "keys unseal" => match keys.current(FILE)? {
            Some(asked) => commands::unseal(vault, &asked, yes),
            None => Err(VaultError::NotSealed(vault.path().to_owned())),
        },
        "keys rotate" => commands::rotate(vault, keys.current(FILE)?.as_ref(), now),
        "keys wipe" => commands::wipe(vault, yes),
        name => return Err(Failure::new(Exit::Usage, format!("there is no command {name}"))),
    };
    out::print(&text.map_err(failure)?)
}

/// `keys unlock`: gives a node that waits for it the passphrase.
pub fn unlock(arguments: &Arguments) -> Done {
    let client = Client::find(arguments.value("run-dir"))?;
    let asked = passphrase::existing(arguments, FILE, None, "Passphrase: ")?;
    let text = asked.text().ok_or_else(|| {
        let message =
            "the passphrase is no UTF-8, which the API takes alone; name its file in security.passphraseFile";
        Failure::new(Exit::Refused, message)
    })?;
    let body = object([("passphrase", text.into())]);
    client.request("POST", "/keys/unlock", "", Some(&body))?;
    out::print("unlocked: the node goes on\n")
}

struct Keys<'a> {
    arguments: &'a Arguments,
    config: Config,
    vault: Vault,
}

impl Keys<'_> {
    fn open(arguments: &Arguments) -> Result<Keys<'_>, Failure> {
        let path = config::usual_path(arguments.value("config").map(Path::new));
        let config = Store::open(path, Platform::detect()).load().map_err(|e| config_failure(e.into()))?;
        let vault = vault(&config)?;
        Ok(Keys { arguments, config, vault })
    }

    /// The passphrase of the key as it is; `None` if it is not sealed.
    fn current(&self, option: &str) -> Result<Option<Passphrase>, Failure> {
        if !matches!(self.vault.state().map_err(failure)?, KeyState::Locked) {
            return Ok(None);
        }
        let configured = self.config.security.passphrase_file.as_deref().and_then(config::real_path);
        let prompt = "Passphrase of the key: ";
        passphrase::existing(self.arguments, option, configured.as_deref(), prompt).map(Some)
    }

    fn export(&self, yes: bool) -> Done {
        let plain = self.arguments.has("plain");
        let asked = match self.current(FILE)? {
            // Whoever wants a plain key sealed has to say with what.
            None if !plain => Some(passphrase::new(self.arguments, FILE)?),
            current => current,
        };
        let key = commands::export(&self.vault, asked.as_ref(), plain, yes).map_err(failure)?;
        out::save(self.arguments.value("out"), &key)
    }
}

/// The vault of a configuration.
pub fn vault(config: &Config) -> Result<Vault, Failure> {
    let homeless =
        || Failure::new(Exit::Failed, "HOME is not set; give node.idPath without ~/ in the configuration");
    config::real_path(&config.node.id_path).map(Vault::at).ok_or_else(homeless)
}

/// A failure of the vault as one of this program.
pub fn failure(error: VaultError) -> Failure {
    let exit = match error {
        VaultError::Unconfirmed(_) | VaultError::Passphrase(_) | VaultError::Seal(..) => Exit::Refused,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

//! `keys …`: the node's key, in the file that the configuration names.
use super::args::Arguments;
use super::files::{config_failure, read};
use super::{Done, Exit, Failure, out};
use crate::clock::Clock;
use crate::config::{self, Platform, Store};
use crate::vault::{Vault, VaultError, commands};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Any of them.
pub fn command(arguments: &Arguments) -> Done {
    let vault = vault(arguments)?;
    let (yes, now) = (arguments.has("yes"), Clock::new().now().unix());
    let text = match arguments.command.name {
        "keys show" => commands::show(&vault),
        "keys generate" => commands::generate(&vault),
        "keys export" => {
            let key = commands::export(&vault, yes).map_err(failure)?;
            return out::save(arguments.value("out"), &key);
        }
        "keys import" => {
            let path = arguments.operands.first().map(PathBuf::from).unwrap_or_default();
            commands::import(&vault, &Zeroizing::new(read(&path)?), now)
        }
        "keys rotate" => commands::rotate(&vault, now),
        "keys wipe" => commands::wipe(&vault, yes),
        name => return Err(Failure::new(Exit::Usage, format!("there is no command {name}"))),
    };
    out::print(&text.map_err(failure)?)
}

fn vault(arguments: &Arguments) -> Result<Vault, Failure> {
    let store = Store::open(config::usual_path(arguments.value("config").map(Path::new)), Platform::detect());
    let config = store.load().map_err(|e| config_failure(e.into()))?;
    let homeless =
        || Failure::new(Exit::Failed, "HOME is not set; give node.idPath without ~/ in the configuration");
    config::real_path(&config.node.id_path).map(Vault::at).ok_or_else(homeless)
}

fn failure(error: VaultError) -> Failure {
    let exit = if matches!(error, VaultError::Unconfirmed(_)) { Exit::Refused } else { Exit::Failed };
    Failure::new(exit, error.to_string())
}

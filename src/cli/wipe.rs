//! `wipe`: the owner's way out. Everything that the node ever wrote down goes, line by line.
use super::args::Arguments;
use super::client::Client;
use super::files::config_failure;
use super::{Done, Exit, Failure, out};
use crate::api::run_dir::RunDir;
use crate::config::{self, Config, Platform, Store};
use crate::core::places::Places;
use crate::json::object;
use std::path::{Path, PathBuf};

/// What no program can promise of flash storage.
const FLASH: &str = "Flash storage may keep what was overwritten until its blocks are used again. The coordinator keeps \
what it was told;\nask it to forget this node.\n";

/// `wipe`
pub fn command(arguments: &Arguments) -> Done {
    let store = Store::open(config::usual_path(arguments.value("config").map(Path::new)), Platform::detect());
    let config = config(&store)?;
    let kept = arguments.has("keep-config");
    let also = if kept { Vec::new() } else { configuration(&store) };
    let everything: Vec<Places> = RunDir::candidates(arguments.value("run-dir").map(Path::new))
        .iter()
        .map(|run| Places::new(&config, arguments.value("state-dir").map(Path::new), run.path()))
        .collect();
    match Client::find(arguments.value("run-dir")) {
        Err(failure) if failure.exit == Exit::NotRunning => {}
        Err(failure) => return Err(failure),
        Ok(_) => {
            let why = "a node is running on these files; stop it first (systemctl stop echomesh, or Ctrl-C where it runs)";
            return Err(Failure::new(Exit::Refused, why));
        }
    }
    if !arguments.has("yes") {
        return Err(Failure::new(Exit::Refused, warning(&everything, &also)));
    }
    let mut failed = 0;
    for (at, places) in everything.iter().enumerate() {
        let wiped = places.wipe(if at == 0 { &also } else { &[] });
        failed += wiped.failed.len();
        if at == 0 || !wiped.removed.is_empty() || !wiped.failed.is_empty() {
            out::print(&wiped.to_string())?;
        }
    }
    out::print(FLASH)?;
    match failed {
        0 => Ok(()),
        n => Err(Failure::new(Exit::Failed, format!("{n} could not be removed; see above"))),
    }
}

/// The configuration, which tells where the key is; the defaults where there is none any more.
fn config(store: &Store) -> Result<Config, Failure> {
    if store.path().exists() {
        return store.load().map_err(|e| config_failure(e.into()));
    }
    let version = object([("version", 1.into())]);
    config::from_value(&version, Platform::detect()).map_err(|e| {
        Failure::new(Exit::Config, e.problems.iter().map(ToString::to_string).collect::<String>())
    })
}

/// The configuration's file and what the node kept beside it.
fn configuration(store: &Store) -> Vec<PathBuf> {
    let beside = |ending: &str| {
        let mut name = store.path().as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    vec![store.path().to_owned(), beside(".bak"), beside(".new")]
}

fn warning(everything: &[Places], also: &[PathBuf]) -> String {
    let mut text = String::from("this destroys the node's identity, and what it could prove with it:\n");
    if let Some(first) = everything.first() {
        text.push_str(&format!("  keys      {}, {}\n", first.key.display(), first.tls_key.display()));
        text.push_str(&format!("  journal   {}\n", first.journal.display()));
    }
    for places in everything {
        text.push_str(&format!("  logs      {}\n", places.log.display()));
    }
    if let Some(config) = also.first() {
        text.push_str(&format!("  config    {}\n", config.display()));
    }
    text + "Do it with --yes; with --keep-config the configuration stays. `echomesh keys export` makes a copy of the key."
}

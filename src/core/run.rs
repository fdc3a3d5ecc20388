//! The start-up story: configuration, sandbox, identity, state, until there is a node. What it does then is [`super::running`].
use super::bus::Bus;
use super::flash::{self, Flash};
use super::ledger::{AccessLog, MAX_FLOWS, random_key};
use super::list_files::OwnLists;
use super::locked::{self, Locked, Opened};
use super::node::{Node, Parts};
use super::places::Places;
use super::running::{Early, Running, serve, wait};
use super::sandbox::Sandbox;
use super::services::Identity;
use super::source::Source;
use crate::api::listen;
use crate::api::run_dir::RunDir;
use crate::cli::run::RunOptions;
use crate::clock::Clock;
use crate::config::{Config, Face, Platform, Store, parse, usual_path};
use crate::json::Value;
use crate::meter::{Journal, LOG_CAPACITY, LogStore};
use crate::session::descriptors::wanted;
use crate::signed::NodeKey;
use crate::sys::linux::local_time::{begin_local_time, local_time, reload_time_zone};
use crate::sys::linux::signals::{Signal, Signals};
use crate::sys::linux::{net, reactor};
use crate::tls::client::CertificateTime;
use crate::tls::server::{Acceptor, ServerKey};
use crate::turns;
use crate::vault::Vault;
use async_executor::LocalExecutor;
use futures_lite::future;
use std::fmt;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

/// Exit code of a configuration that is not valid (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;
/// Bytes of the archive of bundles: some 1,400 of them, five days of one busy session.
const BUNDLE_CAPACITY: u64 = 1 << 20;

/// Runs the node until it is told to end. The exit code is 78 if the configuration is at fault.
pub fn run(options: RunOptions) -> ExitCode {
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            crate::error!("{e}");
            ExitCode::from(if e.config { EXIT_CONFIG } else { 1 })
        }
    }
}

/// Why the node does not run.
#[derive(Debug)]
pub struct Failed {
    config: bool,
    text: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Something else than the configuration is at fault.
pub fn failed(e: impl fmt::Display) -> Failed {
    Failed { config: false, text: e.to_string() }
}

/// The configuration is at fault.
pub fn invalid(e: impl fmt::Display) -> Failed {
    Failed { config: true, text: e.to_string() }
}

fn start(options: &RunOptions) -> Result<(), Failed> {
    // Before anything starts a thread: threads inherit which signals are blocked.
    let signals = Signals::block().map_err(failed)?;
    begin_local_time();
    // Before anything is asked for or made: procd starts us as root, whether or not the user is there.
    Sandbox::know_user(options).map_err(invalid)?;
    // Where there is UCI, there is a router.
    let platform = if options.uci { Platform::OpenWrt } else { Platform::detect() };
    let source = source(options, platform)?;
    let (config, errors) = first_config(&source, platform)?;
    crate::log::set_level(config.log.level);
    // Root may raise the hard limit too, and is left behind next.
    if let Err(e) = net::raise_descriptor_limit(wanted(MAX_FLOWS, config.relay.max_pending as usize)) {
        crate::warn!("the limit of open files stays low: {e}");
    }
    let mut sandbox = Sandbox::begin(&config, options, source.path()).map_err(invalid)?;
    let run_dir = RunDir::prepare(options.run_dir.as_deref()).map_err(failed)?;
    let places = Places::new(&config, options.state_dir.as_deref(), run_dir.path());
    make_private_directory(&places.state).map_err(failed)?;
    sandbox.fence(&config, &places.own(source.path())).map_err(invalid)?;
    let signals = signals.watch().map_err(failed)?;
    let vault = Vault::at(&places.key);
    let executor = Rc::new(LocalExecutor::new());
    let log = AccessLog {
        store: LogStore::open(&places.log, "access", LOG_CAPACITY).map_err(failed)?,
        bundles: LogStore::open(&places.log, "bundles", BUNDLE_CAPACITY).map_err(failed)?,
        key: random_key().ok_or_else(|| failed("the system gives no random numbers"))?,
    };
    let (key, (config, errors), log, early) = match locked::open(&vault, &config).map_err(failed)? {
        Opened::Key(key, made) => {
            if made {
                crate::info!("made a new node key in {}", places.key.display());
            }
            (key, (config, errors), log, None)
        }
        Opened::Locked(why) => {
            sandbox = sandbox.seal().map_err(invalid)?;
            let place = (source.clone(), platform, sandbox.to_value());
            let locked = Locked::new(vault.clone(), place, (config, errors), why, log);
            match unlocked(&locked, (&signals, &executor), run_dir.clone(), options)? {
                Some((key, early)) => {
                    let log = locked.take_log().ok_or_else(|| failed("the logs are in use already"))?;
                    (key, locked.current_config(), log, Some(early))
                }
                None => return Ok(()),
            }
        }
    };
    let tls_key = ServerKey::load_or_create(&places.tls_key).map_err(failed)?;
    let journals = Journals::open(&places)?;
    let names = config.relay.names.clone();
    let identity = Identity {
        spki: tls_key.spki(),
        csr: (!names.is_empty()).then(|| tls_key.csr(&names)).transpose().map_err(failed)?,
        previous: vault.previous(&key).map_err(failed)?,
    };
    let acceptor = Rc::new(Acceptor::new(tls_key, &names).map_err(failed)?);
    let clock = Rc::new(Clock::new());
    let parts = Parts {
        clock,
        local: local_time,
        lists: OwnLists::load(&config).map_err(invalid)?,
        config,
        key: Rc::new(key),
        identity,
        journal: (journals.memory, journals.records),
        flash: Some(journals.flash),
        power_lost: journals.power_lost,
        log,
    };
    let node = Node::new(parts).map_err(invalid)?;
    node.config_errors.replace(errors);
    let time = CertificateTime::new(u64::try_from(node.stored_time()).unwrap_or(0));
    serve(Running {
        options,
        signals,
        executor,
        early,
        platform,
        source,
        run_dir,
        vault,
        acceptor,
        node,
        time,
        sandbox,
    })
}

/// Where the configuration is.
fn source(options: &RunOptions, platform: Platform) -> Result<Source, Failed> {
    if !options.uci {
        return Ok(Source::File(Store::open(usual_path(options.config.as_deref()), platform)));
    }
    let candidates = RunDir::candidates(options.run_dir.as_deref());
    let run_dir = candidates.first().ok_or_else(|| failed("there is no run directory"))?;
    Ok(Source::uci(run_dir.path(), platform))
}

/// The configuration to begin with, and what is wrong with the one that should have been. A file that is not valid ends the
/// start. A router's node must be there to say so, and to be repaired: it runs without any, which carries nothing.
fn first_config(source: &Source, platform: Platform) -> Result<(Config, Vec<String>), Failed> {
    match (source.load_first(), source) {
        (Ok(config), _) => Ok((config, Vec::new())),
        (Err(e), Source::File(_)) => Err(invalid(e)),
        (Err(e), Source::Uci(_)) => {
            let errors = e.sentences();
            errors.iter().for_each(|e| crate::error!("no configuration: {e}"));
            Ok((parse(b"{\"version\":1}", Face::Json, platform).map_err(invalid)?, errors))
        }
    }
}

/// Both journals, and the records of the later one.
struct Journals {
    memory: Journal,
    flash: Flash,
    records: Vec<Value>,
    power_lost: bool,
}

impl Journals {
    fn open(places: &Places) -> Result<Journals, Failed> {
        let open = |path: &Path| -> Result<(Journal, Vec<Value>), Failed> {
            let (journal, records, damage) = Journal::open(path).map_err(failed)?;
            if let Some(damage) = damage {
                crate::warn!("the end of the journal was damaged: {damage:?}");
            }
            Ok((journal, records))
        };
        let (memory, in_memory) = open(&places.memory)?;
        let (flash, on_flash) = open(&places.journal)?;
        let flash = Flash::new(flash, &on_flash);
        let (records, power_lost) = flash::later(in_memory, on_flash);
        Ok(Journals { memory, flash, records, power_lost })
    }
}

/// Serves the API alone until the key is open; `None` if the node is told to end before that.
fn unlocked(
    locked: &Locked,
    (signals, executor): (&Signals, &Rc<LocalExecutor<'static>>),
    run_dir: RunDir,
    options: &RunOptions,
) -> Result<Option<(NodeKey, Early)>, Failed> {
    let backend = Rc::new(locked.clone());
    let api = listen::start(executor, run_dir, options.api, backend.clone(), Vec::new());
    let api = api.map_err(failed)?;
    let bus = Bus::start(executor, &options.ubus, backend);
    crate::warn!("the key is sealed: nothing is carried until `echomesh keys unlock`; API {}", api.place());
    let told = async {
        while wait(signals).await == Signal::Reload {
            reload_time_zone();
            locked.read_again().await;
        }
        None
    };
    let opened = async { Some(locked.opened().await) };
    let keeping = async {
        locked.keep_retention().await;
        None
    };
    let until = future::or(future::or(opened, told), keeping);
    let key = reactor::block_on(turns::run(executor, until)).map_err(failed)?;
    match key {
        Some(_) => crate::info!("the key is open"),
        None => crate::info!("stopped"),
    }
    Ok(key.map(|key| (key, (api, bus))))
}

fn make_private_directory(path: &Path) -> Result<(), String> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| format!("{}: the state directory cannot be made: {e}", path.display()))
}

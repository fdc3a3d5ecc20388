//! The time before the key is open: the node answers its owner, calls nobody and carries nothing.
//!
//! There is no [`Node`](super::node::Node) yet: without its key nothing of it exists that could be reached by mistake.
use super::ledger::AccessLog;
use super::lifecycle::NodeState;
use super::region::Region;
use super::source::Source;
use super::status;
use crate::api::{Action, Archive, Backend, Health, Later, Page, Problem, Tagged};
use crate::clock::Clock;
use crate::config::{self, Config, GuardMode, Platform, real_path};
use crate::json::{Value, array, object};
use crate::meter::{Qos, expire};
use crate::policy::schedule::{hours, next_midnight};
use crate::session::limits::gigabytes;
use crate::signed::NodeKey;
use crate::sys::linux::local_time::local_time;
use crate::time::{DAY, Unix};
use crate::vault::attempts::Attempts;
use crate::vault::seal::SealError;
use crate::vault::{KeyState, Passphrase, Vault, VaultError, files};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// What comes of the key file at the start.
pub enum Opened {
    /// The key, and whether it was made just now.
    Key(NodeKey, bool),
    /// It is sealed, and this is why it could not be opened.
    Locked(String),
}

/// Opens the key, or makes one if there is none: with the passphrase of `security.passphraseFile` if that is set. A
/// passphrase that cannot be read or does not open the key leaves it locked: the owner can still give another.
pub fn open(vault: &Vault, config: &Config) -> Result<Opened, String> {
    let (passphrase, why) = match configured(config) {
        Some(Ok(passphrase)) => (Some(passphrase), String::new()),
        Some(Err(why)) => (None, format!("security.passphraseFile: {why}")),
        None => (None, "no passphrase was given".to_owned()),
    };
    match vault.state().map_err(|e| e.to_string())? {
        // Who names a file with a passphrase wants a sealed key, not one that lies there plain.
        KeyState::Absent if passphrase.is_none() && config.security.passphrase_file.is_some() => {
            return Err(format!("no key is made: {why}"));
        }
        KeyState::Ready(key) => {
            if passphrase.is_some() {
                crate::warn!(
                    "the key is not sealed, though security.passphraseFile is set: `echomesh keys seal`"
                );
            }
            return Ok(Opened::Key(key, false));
        }
        KeyState::Absent | KeyState::Locked => {}
    }
    match vault.load_or_generate(passphrase.as_ref()) {
        Ok((key, made)) => Ok(Opened::Key(key, made)),
        Err(VaultError::Locked(_)) => Ok(Opened::Locked(why)),
        Err(VaultError::Seal(_, SealError::WrongPassphrase)) => {
            Ok(Opened::Locked("the passphrase in security.passphraseFile is wrong".to_owned()))
        }
        Err(e) => Err(e.to_string()),
    }
}

/// The passphrase of `security.passphraseFile`, if that is set.
fn configured(config: &Config) -> Option<Result<Passphrase, String>> {
    let path = config.security.passphrase_file.as_deref()?;
    let path = real_path(path).unwrap_or_else(|| path.to_owned());
    let read = files::read(&path).map_err(|e| e.to_string());
    Some(read.and_then(|text| Passphrase::from_file(&text).map_err(|e| format!("{}: {e}", path.display()))))
}

/// A locked node, as its owner sees it.
#[derive(Clone)]
pub struct Locked(Rc<Inner>);

struct Inner {
    vault: Vault,
    source: Source,
    platform: Platform,
    sandbox: Value,
    clock: Clock,
    since: Unix,
    config: RefCell<Config>,
    errors: RefCell<Vec<String>>,
    why: RefCell<String>,
    attempts: Cell<Attempts>,
    busy: Cell<bool>,
    /// What earlier runs wrote down; the node takes it over.
    log: RefCell<Option<AccessLog>>,
    key: RefCell<Option<NodeKey>>,
    waiting: RefCell<Option<Waker>>,
}

impl Locked {
    /// A node whose key did not open for the reason `why`, with its configuration's place and its sandbox for the status,
    /// and the logs of earlier runs.
    pub fn new(
        vault: Vault,
        (source, platform, sandbox): (Source, Platform, Value),
        (config, errors): (Config, Vec<String>),
        why: String,
        log: AccessLog,
    ) -> Locked {
        let clock = Clock::new();
        Locked(Rc::new(Inner {
            vault,
            source,
            platform,
            sandbox,
            since: clock.now().unix(),
            clock,
            config: RefCell::new(config),
            errors: RefCell::new(errors),
            why: RefCell::new(why),
            attempts: Cell::default(),
            busy: Cell::new(false),
            log: RefCell::new(Some(log)),
            key: RefCell::default(),
            waiting: RefCell::default(),
        }))
    }

    /// The key, once it is open.
    pub fn opened(&self) -> impl Future<Output = NodeKey> + use<> {
        let inner = self.0.clone();
        poll_fn(move |cx| match inner.key.borrow_mut().take() {
            Some(key) => Poll::Ready(key),
            None => {
                *inner.waiting.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }

    /// The configuration as it is now, and what is wrong with the one that would be.
    pub fn current_config(&self) -> (Config, Vec<String>) {
        (self.0.config.borrow().clone(), self.0.errors.borrow().clone())
    }

    /// The logs, for the node that the key has opened.
    pub fn take_log(&self) -> Option<AccessLog> {
        self.0.log.borrow_mut().take()
    }

    /// Takes out of the logs what the owner no longer wants kept: now, and at the turn of each UTC day as long as there are
    /// lines. Never ends: a key may stay locked for longer than lines are to be kept.
    pub async fn keep_retention(&self) {
        while self.0.expire_log() {
            let left = DAY - self.0.clock.now().unix().0.rem_euclid(DAY);
            async_io::Timer::after(Duration::from_secs(left.unsigned_abs())).await;
        }
        std::future::pending().await
    }

    /// Reads the configuration again, and tries the passphrase that it may name now.
    pub async fn read_again(&self) {
        match self.0.source.load().await {
            Ok(config) => {
                self.0.errors.borrow_mut().clear();
                self.0.config.replace(config);
                self.0.expire_log();
            }
            Err(e) => {
                crate::error!("the configuration stays as it was: {e}");
                *self.0.errors.borrow_mut() = e.sentences();
            }
        }
        let given = configured(&self.0.config.borrow());
        match given {
            None => {}
            Some(Err(why)) => crate::error!("security.passphraseFile: {why}"),
            Some(Ok(passphrase)) => {
                if let Err(e) = attempt(&self.0, passphrase).await {
                    crate::error!("the passphrase in security.passphraseFile: {}", e.detail);
                }
            }
        }
    }
}

/// Tries a passphrase, on a thread of its own: it takes seconds on a small processor. One at a time, and wrong ones ever
/// more slowly.
async fn attempt(inner: &Rc<Inner>, passphrase: Passphrase) -> Result<String, Problem> {
    if inner.busy.get() {
        return Err(Problem::rate_limited("Another passphrase is being tried; wait for its answer.", 5));
    }
    let mut attempts = inner.attempts.get();
    attempts.check(inner.clock.now().mono_ms()).map_err(|seconds| {
        let detail = format!("The last passphrase was wrong; the next may come in {seconds} s.");
        Problem::rate_limited(detail, seconds)
    })?;
    inner.busy.set(true);
    let vault = inner.vault.clone();
    let opened = blocking::unblock(move || vault.load(Some(&passphrase))).await;
    inner.busy.set(false);
    match opened {
        Ok(key) => {
            let node_id = key.node_id();
            *inner.key.borrow_mut() = Some(key);
            if let Some(waker) = inner.waiting.borrow_mut().take() {
                waker.wake();
            }
            Ok(node_id)
        }
        Err(VaultError::Seal(_, SealError::WrongPassphrase)) => {
            attempts.wrong(inner.clock.now().mono_ms());
            inner.attempts.set(attempts);
            *inner.why.borrow_mut() = "the last passphrase was wrong".to_owned();
            crate::warn!("a wrong passphrase was given");
            Err(Problem::wrong_passphrase())
        }
        Err(e) => Err(Problem::internal(format!("{e}."))),
    }
}

impl Backend for Locked {
    fn status(&self) -> Value {
        self.0.status()
    }

    fn control(&self, _: Action) -> Result<(), Problem> {
        Err(Problem::locked())
    }

    fn config(&self) -> Tagged {
        let config = self.0.config.borrow();
        (config.to_value(), config.etag())
    }

    fn put_config(&self, document: Value) -> Later<Result<Tagged, Problem>> {
        let locked = self.clone();
        Box::pin(async move {
            let inner = &locked.0;
            let config = config::from_value(&document, inner.platform)
                .map_err(|e| Problem::config_invalid(e.problems.iter().map(ToString::to_string).collect()))?;
            inner.source.save(&config).await.map_err(|e| e.problem())?;
            inner.errors.borrow_mut().clear();
            inner.config.replace(config);
            locked.0.expire_log();
            Ok(locked.config())
        })
    }

    fn reload(&self) -> Later<Result<Tagged, Problem>> {
        let locked = self.clone();
        Box::pin(async move {
            locked.read_again().await;
            let errors = locked.0.errors.borrow().clone();
            if errors.is_empty() { Ok(locked.config()) } else { Err(Problem::config_invalid(errors)) }
        })
    }

    fn sessions(&self) -> Value {
        Value::Array(Vec::new())
    }

    fn close_session(&self, _: &str) -> Result<(), Problem> {
        Err(Problem::session_unknown())
    }

    fn export(&self, _: Archive, _: Option<Unix>) -> Result<Box<dyn Iterator<Item = Vec<u8>>>, Problem> {
        Err(Problem::locked())
    }

    fn page(&self, _: Archive, _: Option<Unix>, _: Option<u64>, _: usize) -> Result<Page, Problem> {
        Err(Problem::locked())
    }

    fn recent_log(&self) -> Vec<String> {
        crate::log::recent()
    }

    fn diagnostics(&self) -> Value {
        object([("status", self.status())])
    }

    fn unlock(&self, passphrase: Passphrase) -> Later<Result<String, Problem>> {
        let inner = self.0.clone();
        Box::pin(async move { attempt(&inner, passphrase).await })
    }

    fn health(&self) -> Health {
        Health { checks: vec![("key", false)] }
    }
}

impl Inner {
    /// Takes lines that are too old out of the logs; whether there are any left.
    fn expire_log(&self) -> bool {
        let mut log = self.log.borrow_mut();
        let Some(log) = log.as_mut() else { return false };
        let days = self.config.borrow().privacy.retention_days;
        if let Err(e) = expire(&mut log.store, &mut log.bundles, days, self.clock.now().unix()) {
            crate::warn!("{e}");
        }
        !log.store.is_empty() || !log.bundles.is_empty()
    }

    fn status(&self) -> Value {
        let (now, config) = (self.clock.now(), self.config.borrow());
        let mut qos = Qos::new(now);
        let open = hours(&config.node.schedules, now.unix(), &local_time);
        let today = object([
            ("ingressBytes", 0.into()),
            ("egressBytes", 0.into()),
            ("quotaBytes", gigabytes(config.network.max_gb_per_day).into()),
            ("resetsAt", next_midnight(now.unix(), &local_time).to_string().into()),
        ]);
        let next_change = open.next_change.map(|t| t.to_string());
        let schedule = object([("open", open.open.into()), ("nextChange", next_change.into())]);
        let coordinator =
            object([("state", "none".into()), ("lastContact", Value::Null), ("backoffMs", 0.into())]);
        let probes = object([("passed", 0.into()), ("failed", 0.into()), ("last", Value::Null)]);
        let errors = array(self.errors.borrow().iter().map(String::as_str));
        let reason = format!(
            "The key is sealed ({}); give its passphrase with `echomesh keys unlock`.",
            self.why.borrow()
        );
        object([
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("nodeId", Value::Null),
            ("state", NodeState::Locked.as_str().into()),
            ("reason", reason.into()),
            ("since", self.since.to_string().into()),
            ("uptimeMs", now.mono_ms().into()),
            ("guard", guard(config.security.guard).into()),
            (
                "offload",
                status::no_offload(
                    config.network.offload.name(),
                    "The key is locked, and nothing is carried.",
                ),
            ),
            ("sandbox", self.sandbox.clone()),
            ("coordinator", coordinator),
            ("sessions", 0.into()),
            ("throughput", qos.throughput_value(now)),
            ("qos", qos.summary(now).to_value()),
            ("today", today),
            ("schedule", schedule),
            ("geo", Region::default().to_value(&config.node.region_allow)),
            ("account", Value::Null),
            ("probes", probes),
            ("refusals", Value::Object(Vec::new())),
            ("alerts", Value::Array(Vec::new())),
            ("config", object([("etag", config.etag().into()), ("errors", errors)])),
        ])
    }
}

/// Nobody has asked the guard yet.
fn guard(mode: GuardMode) -> &'static str {
    match mode {
        GuardMode::Required => "down",
        GuardMode::Optional => "absent",
    }
}

#[cfg(test)]
mod tests;

//! The node: its sessions, its state, and what it remembers. All parts meet here; the only I/O is the journal's.
use super::alerts::Alerts;
use super::closed::Closed;
use super::durable::{Durable, record};
use super::flash::Flash;
use super::ledger::{AccessLog, Ledger, LocalClock};
use super::lifecycle::{NodeEvent, NodeMachine};
use super::list_files::{OwnLists, Stamps};
use super::region::Region;
use super::rules::{HostLists, OwnerRules, Rules};
use super::sandbox::Sandbox;
use super::services::{Identity, Services};
use super::session::{At, Session, Shared};
use super::wan::Line;
use crate::api::notices::Notices;
use crate::clock::Clock;
use crate::config::{Config, SessionLimits};
use crate::coordinator::link::LinkStatus;
use crate::coordinator::lists::Lists;
use crate::guard::view::View;
use crate::json::Value;
use crate::lease::service::Leases;
use crate::meter::Journal;
use crate::policy::hosts::BadName;
use crate::session::FlowState;
use crate::session::breakers::Hourly;
use crate::session::limits::effective;
use crate::signed::{NodeKey, PublicKey};
use crate::sorted::SortedMap;
use crate::time::Unix;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Most sessions at a time.
pub const MAX_SESSIONS: usize = 64;
/// Longest sentence of an alert, characters.
const MAX_DETAIL: usize = 1000;

/// The whole node.
pub struct Node {
    /// What the sessions share.
    pub ledger: Rc<Ledger>,
    /// The node's key.
    pub key: Rc<NodeKey>,
    /// The guard, as its reports show it.
    pub(super) guard: RefCell<View>,
    /// Leases of the kernel path.
    pub leases: Rc<Leases>,
    /// The line to the Internet.
    pub(super) line: RefCell<Line>,
    /// Alerts in force.
    pub alerts: RefCell<Alerts>,
    pub(super) sessions: RefCell<SortedMap<String, Rc<Session>>>,
    pub(super) closed: RefCell<Closed>,
    pub(super) machine: RefCell<NodeMachine>,
    pub(super) durable: RefCell<Durable>,
    pub(super) region: RefCell<Region>,
    pub(super) forged: RefCell<Hourly>,
    pub(super) remote: RefCell<Remote>,
    pub(super) swept_us: Cell<u64>,
    pub(super) shared: Shared,
    /// The journal lacks something that holds in memory: nothing leaves the node until it has been written.
    pub(super) behind: Cell<bool>,
    /// Monotonic microseconds of the last try to write it.
    pub(super) tried_us: Cell<u64>,
    /// Processor time and monotonic time at the last heartbeat, microseconds.
    pub(super) worked: Cell<(u64, u64)>,
    pub(super) identity: RefCell<Identity>,
    pub(super) services: RefCell<Option<Rc<dyn Services>>>,
    pub(super) config_errors: RefCell<Vec<String>>,
    /// What listeners on ubus are told; nothing where there is no bus.
    pub(super) notices: RefCell<Option<Rc<Notices>>>,
    /// What of the sandbox is in force; none where nobody has asked for it.
    pub(super) sandbox: RefCell<Option<Sandbox>>,
    config: RefCell<Rc<Config>>,
    owner: RefCell<Rc<OwnerRules>>,
    /// The owner's files of hosts, and which they were.
    pub(super) own_lists: RefCell<(HostLists, Stamps)>,
    /// The coordinator's lists of hosts.
    pub(super) lists: RefCell<Lists>,
    /// In memory where that is not flash: what outlives the process.
    pub(super) journal: RefCell<Journal>,
    /// What outlives power loss, where that is another journal.
    pub(super) flash: RefCell<Option<Flash>>,
}

/// What the coordinator last said of the node.
#[derive(Debug, Default)]
pub struct Remote {
    /// `account` of the last heartbeat.
    pub account: Option<Value>,
    /// Probe hosts of the last registration.
    pub probe_hosts: Vec<crate::coordinator::wire::ProbeHost>,
    /// Probes passed and failed since the start.
    pub probes: (u64, u64),
    /// When the last probe ended.
    pub last_probe: Option<Unix>,
    /// How the link is.
    pub link: Option<LinkStatus>,
}

/// What a node is made of.
pub struct Parts {
    /// The clocks.
    pub clock: Rc<Clock>,
    /// Local time.
    pub local: LocalClock,
    /// A valid configuration.
    pub config: Config,
    /// What the owner's files of hosts hold.
    pub lists: OwnLists,
    /// The node's key.
    pub key: Rc<NodeKey>,
    /// What the coordinator is told of the listener.
    pub identity: Identity,
    /// The open journal, and the records to begin with.
    pub journal: (Journal, Vec<Value>),
    /// The journal on flash.
    pub flash: Option<Flash>,
    /// The records are those of the flash, of before power was lost.
    pub power_lost: bool,
    /// The access log.
    pub log: AccessLog,
}

impl Node {
    /// The node as its journal left it. Sessions that were open when the process died are closed, with the bundles that
    /// were sealed.
    pub fn new(parts: Parts) -> Result<Rc<Node>, BadName> {
        let Parts {
            clock,
            local,
            config,
            lists,
            key,
            identity,
            journal: (journal, records),
            flash,
            power_lost,
            log,
        } = parts;
        let own_lists = lists.into_rules();
        let mut durable = Durable::replay(&records);
        // A router has no clock at boot: time goes on from where it was, until the coordinator or the system's own clock
        // knows better.
        clock.at_least(durable.time.saturating_mul(1000));
        durable.expire(clock.now().unix().0);
        let ledger = Rc::new(Ledger::new(clock, local, log, &config));
        ledger.restore(durable.quota.as_ref());
        // What the last process may have carried unwritten is charged now, and not once more by the next one.
        durable.quota = Some(ledger.quota(0));
        let node = Node {
            key,
            guard: RefCell::new(View::new(rustix::process::geteuid().as_raw())),
            leases: Leases::new(ledger.clock.clone(), config.lease.ports),
            line: RefCell::default(),
            alerts: RefCell::default(),
            sessions: RefCell::default(),
            closed: RefCell::default(),
            machine: RefCell::new(restored(durable.node.as_ref(), ledger.now().unix())),
            durable: RefCell::new(durable),
            region: RefCell::default(),
            forged: RefCell::default(),
            remote: RefCell::default(),
            swept_us: Cell::new(0),
            behind: Cell::new(false),
            tried_us: Cell::new(0),
            worked: Cell::default(),
            shared: Shared { ledger: ledger.clone(), refusal: Rc::default(), kernel: Rc::default() },
            identity: RefCell::new(identity),
            services: RefCell::default(),
            config_errors: RefCell::default(),
            notices: RefCell::default(),
            sandbox: RefCell::default(),
            owner: RefCell::new(Rc::new(OwnerRules::new(&config, own_lists.0.clone())?)),
            own_lists: RefCell::new(own_lists),
            lists: RefCell::default(),
            config: RefCell::new(Rc::new(config)),
            journal: RefCell::new(journal),
            flash: RefCell::new(flash),
            ledger,
        };
        node.close_lost_sessions(power_lost);
        node.rewrite_journal();
        node.keep();
        node.show_what_stands();
        node.review();
        Ok(Rc::new(node))
    }

    /// Joins the node to the parts that do I/O.
    pub fn serve(&self, services: Rc<dyn Services>) {
        *self.services.borrow_mut() = Some(services);
    }

    /// Tells the services something, once there are any.
    pub(super) fn tell(&self, what: impl FnOnce(&dyn Services)) {
        let services = self.services.borrow().clone();
        if let Some(services) = services {
            what(&*services);
        }
    }

    /// The last time that was stored, Unix seconds.
    pub fn stored_time(&self) -> i64 {
        self.durable.borrow().time
    }

    /// The configuration in force.
    pub fn config(&self) -> Rc<Config> {
        self.config.borrow().clone()
    }

    /// The coordinator's key, if one is configured.
    pub fn coordinator_key(&self) -> Option<PublicKey> {
        self.config().coordinator.public_key.as_deref().and_then(PublicKey::parse)
    }

    /// Puts a new configuration in force: live sessions that stay legal go on, under the new rules.
    pub fn apply_config(&self, config: Config) -> Result<(), BadName> {
        self.set_owner_rules(self.rules_of(&config)?);
        crate::log::set_level(config.log.level);
        self.ledger.apply(&config);
        let new = Rc::new(config);
        let old = self.config.replace(new.clone());
        let sessions: Vec<Rc<Session>> = self.sessions.borrow().values().cloned().collect();
        sessions.iter().for_each(|s| self.apply_rules(s));
        self.close_sessions_out_of_region();
        if old.geo.prefix_file != new.geo.prefix_file {
            self.look_up_prefix();
        }
        self.review();
        self.ledger.ring();
        self.tell(|s| s.config_changed(&old, &new));
        Ok(())
    }

    /// Puts the owner's and the coordinator's rules, as they are now, in force for a session, live flows included.
    pub(super) fn apply_rules(&self, session: &Rc<Session>) {
        let terms = session.terms.borrow().clone();
        let rules = match Rules::new(self.owner_rules(), &terms.profile) {
            Ok(rules) => Rc::new(rules),
            Err(e) => {
                return crate::error!("rules of session {} are not valid: {e}", session.order.session_id);
            }
        };
        // What a hello offered is not kept, so flows that passed theirs under looser rules have to come again.
        let stricter = rules.stricter_on_hellos(&session.rules.replace(rules.clone()));
        let now = self.ledger.now();
        let limits = self.effective(&terms.limits);
        let most = limits.max_connections;
        session.allowance.borrow_mut().apply(limits, now.mono_us);
        session.apply_breakers(&self.config().breakers);
        let at = At::relay(session, now);
        let name = session.order.session_id.as_str();
        let refused = |flow: &FlowState| stricter && flow.passed_hello() || !at.still_allowed(flow);
        self.ledger.reset_flows(|flow, id| id == name && refused(flow));
        if let Some(most) = most {
            self.ledger.reset_newest(name, usize::try_from(most).unwrap_or(usize::MAX));
        }
        self.leases.review();
    }

    pub(super) fn set_owner_rules(&self, rules: OwnerRules) {
        *self.owner.borrow_mut() = Rc::new(rules);
    }

    /// The owner's rules.
    pub(super) fn owner_rules(&self) -> Rc<OwnerRules> {
        self.owner.borrow().clone()
    }

    /// The lower of the owner's and the coordinator's limits. No session is faster than all together may be.
    pub(super) fn effective(&self, coordinator: &SessionLimits) -> SessionLimits {
        let config = self.config();
        let most = config.network.max_mbps;
        let mut owner = config.network.per_session.clone();
        owner.max_mbps = Some(owner.max_mbps.map_or(most, |own| own.min(most)));
        effective(&owner, coordinator)
    }

    /// What sessions share.
    pub(super) fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// Raises an alert. A sentence too long for a heartbeat is cut.
    pub fn alert(&self, code: &str, detail: &str) {
        let detail: String = detail.chars().take(MAX_DETAIL).collect();
        let now = self.ledger.now().unix();
        if self.alerts.borrow_mut().raise(code, now, &detail) {
            crate::warn!("alert {code}: {detail}");
            self.notice(|n| n.alert(code, &detail, &now.to_string()));
        }
    }

    fn notice(&self, what: impl FnOnce(&Notices)) {
        if let Some(notices) = &*self.notices.borrow() {
            what(notices);
        }
    }

    /// Tells who listens the state as it is now.
    pub(super) fn notice_state(&self) {
        let machine = self.machine.borrow();
        let since = machine.since().to_string();
        self.notice(|n| n.state(machine.state().as_str(), machine.reason(), &since));
    }

    /// Takes an alert back.
    pub fn clear_alert(&self, code: &str) {
        if self.alerts.borrow_mut().clear(code) {
            crate::info!("alert {code} is over");
            self.notice(|n| n.over(code));
        }
    }

    /// Makes records durable in one write, and what must outlive power loss too. After an error they hold in memory, but
    /// for a cursor: until the journal has caught up the node is [`Node::behind`].
    pub(super) fn commit(&self, records: Vec<Value>) -> Result<(), String> {
        let written = self.write_down(records);
        self.keep();
        written
    }

    fn write_down(&self, mut records: Vec<Value>) -> Result<(), String> {
        records.push(record("time", [("at", self.ledger.now().unix().0.into())]));
        // Nothing is written ahead for flows that there are not.
        let ahead = if self.ledger.live_flows() > 0 { self.ledger.allowance.borrow().stride() } else { 0 };
        records.push(record("quota", [("quota", self.ledger.quota(ahead))]));
        let acknowledged = self.durable.borrow().cursor.clone();
        records.iter().for_each(|r| self.durable.borrow_mut().apply(r));
        self.ledger.archive(&records);
        let appended = !self.behind.get() && self.journal.borrow_mut().append(&records).is_ok();
        if !appended {
            self.rewrite_journal();
        } else if self.journal.borrow().needs_rewrite() {
            // If that fails the records are in the journal all the same; what comes next is written whole.
            self.rewrite_journal();
            self.ledger.allowance.borrow_mut().written_ahead(ahead);
            self.tell(|s| s.outbox_changed());
            return Ok(());
        }
        self.tell(|s| s.outbox_changed());
        if self.behind.get() {
            self.durable.borrow_mut().cursor = acknowledged;
            return Err("the state could not be written".into());
        }
        self.ledger.allowance.borrow_mut().written_ahead(ahead);
        Ok(())
    }

    /// [`Node::commit`] where nobody waits for it: the alert says if it failed.
    pub(super) fn note(&self, records: Vec<Value>) {
        if !records.is_empty() && self.commit(records).is_err() {
            crate::error!("state could not be made durable; it is kept in memory");
        }
    }

    /// Writes the whole state anew.
    pub(super) fn rewrite_journal(&self) {
        let snapshot = {
            let mut durable = self.durable.borrow_mut();
            durable.expire(self.ledger.now().unix().0);
            durable.snapshot()
        };
        self.tried_us.set(self.ledger.now().mono_us);
        let written = self.journal.borrow_mut().rewrite(&snapshot);
        self.behind.set(written.is_err());
        match written {
            Ok(()) => self.clear_alert("state-unwritable"),
            Err(e) => self.alert("state-unwritable", &e.to_string()),
        }
    }

    /// Alerts about what the journal keeps are raised again after a restart.
    fn show_what_stands(&self) {
        self.show_quarantine();
        if !self.durable.borrow().refused.is_empty() {
            self.alert(
                "bundle-refused",
                "The coordinator refused bundles; /diagnostics shows them for 7 days.",
            );
        }
    }
}

/// The machine as it was. One that cannot be read is paused: what the owner wanted is not known.
fn restored(state: Option<&Value>, now: Unix) -> NodeMachine {
    let machine = state.map(|s| NodeMachine::restore(s, now));
    match machine {
        Some(Ok(machine)) => machine,
        Some(Err(e)) => {
            crate::error!("the stored state of the node is not readable ({e}); it is paused");
            let mut machine = NodeMachine::new(now);
            machine.on(NodeEvent::Pause, now);
            machine
        }
        None => NodeMachine::new(now),
    }
}

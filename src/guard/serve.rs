//! `echomesh guard`: start, give up privileges, keep the table in force, report.
mod policy;
mod wait;

use self::wait::{Event, Events};
use super::client::SOCKET;
use super::clients::Clients;
use super::keeper::Keeper;
use super::lease_rules;
use super::lease_serve::{Around, Desk};
use super::network::{MAX_NETWORKS, Network, Wanted};
use super::protocol::{KEEP_ALIVE_MS, MAX_MESSAGE, Report, Request, State};
use super::ruleset::render;
use super::scope::Scope;
use super::uci::UciError;
use super::work::{Kept, Source, Work};
use crate::api::run_dir::RunDir;
use crate::clock::Clock;
use crate::policy::wan::{Wan, can_bind};
use crate::sys::linux::iptables::Iptables;
use crate::sys::linux::machine;
use crate::sys::linux::netlink::{Routes, Tables};
use crate::sys::linux::reactor::block_on;
use crate::sys::linux::sandbox::keep_net_admin;
use crate::sys::linux::sandbox::{Layers, Profile, User, filter_calls};
use crate::sys::linux::seqpacket::Seqpacket;
use crate::sys::linux::signals::{Signal, Signals};
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// How long reports of links and routes are gathered, milliseconds: a redialled line comes in a dozen of them.
const GATHER_MS: u64 = 20;
/// How often the table is read back although nobody reported a change, and the name servers' files are read.
const REVIEW_MS: u64 = 5_000;

/// The text of the tables as they would be put in force now; that of leases stands only while there are some.
///
/// # Errors
/// A sentence: the configuration, or the kernel's.
pub fn print(source: Source, uid: u32) -> Result<String, String> {
    let (scope, ..) = source.open()?;
    let read = Routes::open().and_then(|mut r| r.read(&wanted(&scope)));
    let network = read.map_err(|e| format!("routes cannot be read: {e}"))?;
    let mut text = render(uid, &scope, &network).text;
    if let Some(leases) = &scope.leases {
        text.push('\n');
        text.push_str(&lease_rules::render(leases, &network, None, false).text);
    }
    Ok(text)
}

/// Runs the guard until a signal ends it. The table stays, so that nothing is let out that should not.
///
/// # Errors
/// A sentence that says what is missing.
pub fn run(source: Source, run_dir: Option<&Path>, user: User) -> Result<(), String> {
    let dir = RunDir::candidates(run_dir).into_iter().next().ok_or("there is no run directory")?;
    prepare(dir.path(), &user).map_err(|e| format!("{}: {e}", dir.path().display()))?;
    let iptables = Iptables::open();
    keep_net_admin(user.uid, user.gid).map_err(|e| format!("privileges cannot be given up: {e}"))?;
    let signals = Signals::take().map_err(|e| e.to_string())?;
    let mut guard = Guard::start(source, iptables, user.uid, &dir.path().join(SOCKET))?;
    let mut layers = Layers::default();
    filter_calls(Profile::Guard, &mut layers);
    for (layer, why) in layers.missing {
        crate::warn!("the guard runs without {}: {why}", layer.name());
    }
    block_on(guard.serve(&signals)).map_err(|e| e.to_string())?
}

/// Makes the run directory, if it is not there: the service user's alone, as `run` makes it.
fn prepare(dir: &Path, user: &User) -> io::Result<()> {
    if dir.exists() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::os::unix::fs::lchown(dir, Some(user.uid), Some(user.gid))
}

/// What is to be known of the network.
fn wanted(scope: &Scope) -> Wanted {
    Wanted { choice: scope.wan_device.clone(), binds: can_bind(&machine::kernel()) }
}

struct Guard {
    source: Kept,
    uid: u32,
    clock: Clock,
    scope: Scope,
    /// The scope is one of no configuration: there was no valid one.
    is_made_up: bool,
    literals_differ: bool,
    network: Network,
    /// It is what the kernel said when it was asked last.
    is_known: bool,
    /// The devices that lead outward as `run` has been told.
    told: Wan,
    keeper: Keeper,
    iptables: Iptables,
    leases: Desk,
    routes: Routes,
    table_events: Events,
    /// What reports of the guard's own changes bear.
    own: u32,
    route_events: Events,
    listener: Seqpacket,
    clients: Clients,
    work: Work,
    /// When each of these is due.
    network_due: Option<u64>,
    config_due: Option<u64>,
    review_due: u64,
    report_due: u64,
}

impl Guard {
    fn start(source: Source, iptables: Iptables, uid: u32, socket: &Path) -> Result<Guard, String> {
        let named = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
        let (scope, source, is_made_up) = source.open()?;
        let missing = "the kernel has no nf_tables (OpenWrt: kmod-nft-core), or this is not root's network";
        let tables = Tables::open().map_err(named(missing))?;
        let own = tables.number().map_err(named(missing))?;
        let table_events = Tables::monitor().and_then(Events::new).map_err(named(missing))?;
        let mut routes = Routes::open().map_err(named("routes"))?;
        let route_events = Routes::monitor().and_then(Events::new).map_err(named("routes"))?;
        let network = routes.read(&wanted(&scope)).map_err(named("routes"))?;
        let listener = Seqpacket::listen(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
        let rendered = render(uid, &scope, &network);
        let mut keeper =
            Keeper::start(tables, rendered).map_err(named("the table cannot be put in force"))?;
        let (clock, mut clients) = (Clock::new(), Clients::default());
        let leases = Desk::start(&mut Around {
            tables: &mut keeper.tables,
            iptables: &iptables,
            clients: &mut clients,
            scope: &scope,
            network: &network,
            now_ms: clock.mono_ms(),
        });
        let mut guard = Guard {
            source,
            uid,
            clock,
            scope,
            is_made_up,
            literals_differ: false,
            network,
            is_known: true,
            told: Wan::default(),
            keeper,
            iptables,
            leases,
            routes,
            table_events,
            own,
            route_events,
            listener,
            clients,
            work: Work::default(),
            network_due: None,
            config_due: None,
            review_due: 0,
            report_due: 0,
        };
        if guard.in_force() {
            guard.told = guard.network.uplinks.clone();
        }
        let wan: Vec<&str> = guard.network.wan.iter().map(String::as_str).collect();
        crate::info!("guard ready: user {uid}, WAN {}, table in force: {}", wan.join(" "), guard.in_force());
        Ok(guard)
    }

    async fn serve(&mut self, signals: &Signals) -> Result<(), String> {
        loop {
            match poll_fn(|cx| self.poll_next(signals, cx)).await {
                Event::Signal(Signal::Stop) => break,
                Event::Signal(Signal::Reload) => self.reload(true),
                Event::Tables => {
                    // Leases come and go by the dozen; to read both tables each time would cost more than all else of them.
                    if self.table_events.socket.drain_of_others(self.own) {
                        self.check();
                    }
                }
                Event::Routes => {
                    if self.route_events.socket.drain() {
                        let due = self.now().saturating_add(GATHER_MS);
                        self.network_due.get_or_insert(due);
                    }
                }
                Event::Leases(woken) => self.with_leases(|leases, around| leases.wake(woken, around)),
                Event::Client(Ok(client)) => self.admit(client),
                Event::Client(Err(e)) => crate::warn!("a connection could not be accepted: {e}"),
                Event::Heard(_, Ok(Request::ConfigChanged)) => {
                    let due = self.now().saturating_add(GATHER_MS);
                    self.config_due.get_or_insert(due);
                }
                Event::Heard(client, Ok(Request::Lease(request))) => {
                    self.with_leases(|leases, around| leases.ask(client, request, around));
                }
                Event::Heard(client, Ok(request)) => self.configure(client, request),
                Event::Heard(client, Err(_)) => self.clients.remove(client),
                // Its successor reads UCI anew; the table stays meanwhile.
                Event::Worked(_, Err(gone @ UciError::Gone(_))) => return Err(gone.to_string()),
                Event::Worked(whom, result) => self.worked(whom, result),
                Event::Time => {}
            }
            self.do_what_is_due();
        }
        self.with_leases(Desk::stop);
        crate::info!("guard stopped; its table stays");
        Ok(())
    }

    fn do_what_is_due(&mut self) {
        let now = self.now();
        let is_due = |due: &mut Option<u64>| due.take_if(|d| *d <= now).is_some();
        if is_due(&mut self.config_due) {
            self.reload(false);
        }
        if is_due(&mut self.network_due) {
            self.look_around();
        }
        if self.keeper.due_ms().is_some_and(|due| due <= now) {
            self.assert();
        }
        self.with_leases(Desk::do_what_is_due);
        if self.review_due <= now {
            self.review_due = now.saturating_add(REVIEW_MS);
            self.look_around();
            self.check();
            self.with_leases(Desk::review);
        }
        if self.report_due <= now {
            self.keeper.count();
            self.report();
        }
    }

    fn with_leases(&mut self, act: impl FnOnce(&mut Desk, &mut Around<'_>)) {
        let mut around = Around {
            tables: &mut self.keeper.tables,
            iptables: &self.iptables,
            clients: &mut self.clients,
            scope: &self.scope,
            network: &self.network,
            now_ms: self.clock.mono_ms(),
        };
        act(&mut self.leases, &mut around);
    }

    fn now(&self) -> u64 {
        self.clock.mono_ms()
    }

    /// Reads links, addresses and routes again, and tells `run` if they have changed.
    fn look_around(&mut self) {
        let read = self.routes.read(&wanted(&self.scope));
        let was_known = std::mem::replace(&mut self.is_known, read.is_ok());
        match read {
            Ok(network) if network == self.network => {
                if !was_known {
                    self.report();
                }
            }
            Ok(network) => {
                self.network = network;
                self.render_again();
                // The kernel first: what `run` learns late is refused anyway.
                self.tell(&Report::Networks(self.network.inside.clone()));
                self.tell(&Report::Outward(self.network.outward.clone()));
                self.report();
            }
            Err(e) => {
                if was_known {
                    crate::error!("routes cannot be read, and until they can nothing is carried: {e}");
                }
                self.report();
            }
        }
    }

    fn render_again(&mut self) {
        if self.keeper.take(render(self.uid, &self.scope, &self.network)) {
            self.assert();
        }
        self.with_leases(Desk::look_around);
    }

    /// Compares the kernel's table with ours; if it is another one, says so and puts ours in its place.
    fn check(&mut self) {
        self.keeper.verify();
        if !self.keeper.is_in_force() {
            crate::warn!("the firewall table was changed by another program; it is put in force again");
            self.report();
            self.assert();
        }
        self.with_leases(Desk::check);
    }

    fn assert(&mut self) {
        self.keeper.put(self.now(), &mut self.table_events.socket);
        self.report();
    }

    /// The table stands, it is that of the network as it is, and `run` can be told of all networks that it denies.
    fn in_force(&self) -> bool {
        self.keeper.is_in_force() && self.is_known && self.network.inside.len() <= MAX_NETWORKS
    }

    /// Takes a connection of the service user; nobody else has anything to say or to hear.
    fn admit(&mut self, client: Seqpacket) {
        match client.peer() {
            Ok(uid) if uid == self.uid || uid == 0 => {}
            Ok(uid) => return crate::warn!("user {uid} connected to the guard and was sent away"),
            Err(e) => return crate::warn!("who connected to the guard is not known: {e}"),
        }
        let network = &self.network;
        let reports = [
            Report::Networks(network.inside.clone()),
            Report::Outward(network.outward.clone()),
            Report::Wan(self.told.clone()),
            self.state(),
            Report::Lease(self.leases.ability()),
        ];
        if reports.iter().all(|report| client.send(&report.encode()).is_ok()) {
            let client = self.clients.add(client, self.leases.holder());
            self.with_leases(|leases, around| leases.welcome(client, around));
        }
    }

    fn state(&self) -> Report {
        Report::State(State {
            in_force: self.in_force(),
            literals_differ: self.literals_differ,
            uid: self.uid,
            refused: self.keeper.refused(),
        })
    }

    fn report(&mut self) {
        self.report_due = self.now().saturating_add(KEEP_ALIVE_MS);
        // Not before the table lets out by it: `run` connects at once.
        if self.in_force() && self.told != self.network.uplinks {
            self.told = self.network.uplinks.clone();
            self.tell(&Report::Wan(self.told.clone()));
        }
        let state = self.state();
        self.tell(&state);
    }

    fn tell(&mut self, report: &Report) {
        let message = report.encode();
        if message.len() <= MAX_MESSAGE {
            self.clients.tell(&message);
        }
    }
}

//! The parts that do I/O, started and replaced as the configuration says.
use super::list_tasks::ListTasks;
use super::node::Node;
use super::services::{Machine, Services};
use crate::clock::Clock;
use crate::config::{Apply, Config, diff, real_path};
use crate::coordinator::client::{Client, Settings, WAIT_MS};
use crate::coordinator::list_fetch::ListFetcher;
use crate::coordinator::node::Node as _;
use crate::dns::{OwnNames, Resolver};
use crate::egress::Egress;
use crate::guard::client::Link as GuardLink;
use crate::http::client::{Client as Http, Resolve};
use crate::http::url::Url;
use crate::policy::addresses::{AddressGuard, Prefix};
use crate::policy::geo::prefixes::region_of;
use crate::policy::wan::Wan;
use crate::probe::fetch::Fetcher;
use crate::relay::RelayShared;
use crate::relay::admission::{Counts, Limits};
use crate::session::descriptors::share;
use crate::sys::System;
use crate::sys::linux::{net, pages};
use crate::tls::client::{CertificateTime, ClientTls, Roots};
use crate::tls::server::Acceptor;
use crate::vault::Vault;
use async_executor::{LocalExecutor, Task};
use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

mod listeners;
mod resolver;

use self::listeners::Listeners;
use self::resolver::resolver;

/// How long after what seldom happens the pages that it needed of the program are given back.
const SETTLED: Duration = Duration::from_secs(2);

/// The running services of a node.
pub struct Supervisor {
    executor: Rc<LocalExecutor<'static>>,
    system: Rc<dyn System>,
    egress: Rc<Egress>,
    node: Rc<Node>,
    relay: Rc<RelayShared>,
    acceptor: Rc<Acceptor>,
    vault: Vault,
    time: Arc<CertificateTime>,
    /// The configuration that options which need a restart are still in force of.
    started: Rc<Config>,
    resolver: RefCell<Rc<dyn Resolver>>,
    listeners: RefCell<Listeners>,
    link: RefCell<Option<Link>>,
    lists: ListTasks,
    guard: Rc<GuardLink>,
    /// Waits until nothing has happened for a while.
    settling: RefCell<Option<Task<()>>>,
}

/// The client of the coordinator and its task.
struct Link {
    client: Rc<Client>,
    task: Task<()>,
}

impl Supervisor {
    /// Nothing listens and nothing connects yet.
    pub fn new(
        (executor, system, link): (Rc<LocalExecutor<'static>>, Rc<dyn System>, Rc<GuardLink>),
        node: Rc<Node>,
        acceptor: Rc<Acceptor>,
        vault: Vault,
        time: Arc<CertificateTime>,
    ) -> io::Result<Rc<Supervisor>> {
        let config = node.config();
        let egress = Egress::new(system.clone(), node.ledger.clock.clone(), guard(&config));
        let resolver = resolver(&config, &node, &time, &egress);
        let relay = RelayShared::new(node.clone(), resolver.clone(), egress.clone(), executor.clone())?;
        let supervisor = Rc::new(Supervisor {
            lists: ListTasks::new(executor.clone(), node.clone()),
            executor,
            system,
            egress,
            node,
            relay,
            acceptor,
            vault,
            time,
            started: config,
            resolver: RefCell::new(resolver),
            listeners: RefCell::default(),
            link: RefCell::default(),
            guard: link,
            settling: RefCell::default(),
        });
        supervisor.share_descriptors();
        Ok(supervisor)
    }

    /// A certificate for other names, and the request for the coordinator's.
    fn rename(&self, names: &[String]) {
        let csr = (!names.is_empty()).then(|| self.acceptor.key().csr(names)).transpose();
        match self.acceptor.set_names(names).and(csr) {
            Ok(csr) => self.node.identity.borrow_mut().csr = csr,
            Err(e) => self.node.alert("certificate-refused", &e.to_string()),
        }
    }

    /// Speaks to the configured coordinator, if there is one.
    pub fn connect(&self) {
        *self.link.borrow_mut() = None;
        let config = self.node.config();
        let (Some(url), Some(coordinator)) = (&config.coordinator.url, self.node.coordinator_key()) else {
            return;
        };
        let url = match Url::parse(url) {
            Ok(url) => url,
            Err(e) => return self.node.alert("coordinator-url", &e.to_string()),
        };
        let settings = Settings {
            url,
            coordinator,
            allow_plain_probes: config.policy.allow_plain_http_probes,
            extra_ports: config.lab.ports.clone(),
            wait_ms: WAIT_MS,
        };
        let names: Rc<dyn Resolve> = Rc::new(OwnNames { resolver: self.resolver(), clock: self.clock() });
        let trust = |file: &Option<PathBuf>| {
            let file = file.as_deref().and_then(real_path);
            Rc::new(ClientTls::new(Roots::from(file), self.time.clone()))
        };
        let coordinator_tls = trust(&config.coordinator.ca_file);
        // The system's bundle costs 125 kB each time it is loaded.
        let same = config.probes.ca_file == config.coordinator.ca_file;
        let probes_tls = if same { coordinator_tls.clone() } else { trust(&config.probes.ca_file) };
        let egress = self.egress.clone();
        let http = Http::new(egress.clone(), names.clone(), coordinator_tls, self.clock());
        let fetcher = Fetcher { egress, resolver: names, tls: probes_tls, clock: self.clock() };
        let client = Rc::new(Client::new(settings, self.node.key.clone(), self.clock(), http, fetcher));
        let (running, node) = (client.clone(), self.node.clone());
        let task = self.executor.spawn(async move { running.run(&*node).await });
        *self.link.borrow_mut() = Some(Link { client, task });
    }

    /// Shares the descriptors out between strangers and tunnels.
    fn share_descriptors(&self) {
        let config = self.node.config();
        let limit = net::descriptor_limit();
        let share = share(limit, config.relay.max_pending as usize);
        self.relay.set_limits(limits(&config, share.pending));
        self.node.limit_tunnels(share.tunnels, limit);
    }

    /// Reads which line there is.
    pub fn read_wan(&self) {
        let found = self.system.wan(&self.node.config().network.wan_device);
        self.node.wan_read(found.map_err(|e| e.to_string()));
        self.seldom();
    }

    /// Posts what waits, before the end.
    pub async fn flush(&self, deadline: Duration) {
        let Some(Link { client, task }) = self.link.take() else { return };
        drop(task);
        if !client.flush(&*self.node, deadline).await {
            crate::info!("what the coordinator has not answered is kept and posted after the next start");
        }
    }

    /// The resolver in use, with its cache.
    fn resolver(&self) -> Rc<dyn Resolver> {
        self.resolver.borrow().clone()
    }

    fn clock(&self) -> Rc<Clock> {
        self.node.ledger.clock.clone()
    }

    fn client(&self) -> Option<Rc<Client>> {
        self.link.borrow().as_ref().map(|l| l.client.clone())
    }
}

impl Services for Supervisor {
    fn is_allowed(&self, address: IpAddr) -> bool {
        self.egress.is_allowed(address)
    }

    fn certificate(&self, pem: &str) {
        match self.acceptor.set_certificate(pem) {
            Ok(()) => {
                crate::info!("the listener has the certificate that the coordinator returned");
                self.node.clear_alert("certificate-refused");
            }
            Err(e) => self.node.alert("certificate-refused", &e.to_string()),
        }
    }

    fn registered(&self) {
        if let Err(e) = self.vault.registered() {
            crate::warn!("{e}");
        }
        self.seldom();
    }

    fn seldom(&self) {
        let settled = async {
            async_io::Timer::after(SETTLED).await;
            pages::give_back();
        };
        // The one before it, if it still waits, is dropped.
        *self.settling.borrow_mut() = Some(self.executor.spawn(settled));
    }

    fn lists_wanted(&self) {
        let config = self.node.config();
        let file = config.coordinator.ca_file.as_deref().and_then(real_path);
        self.lists.fetch(ListFetcher {
            egress: self.egress.clone(),
            resolver: Rc::new(OwnNames { resolver: self.resolver(), clock: self.clock() }),
            tls: Rc::new(ClientTls::new(Roots::from(file), self.time.clone())),
            extra_ports: config.lab.ports.clone(),
        });
    }

    fn outbox_changed(&self) {
        if let Some(client) = self.client() {
            client.outbox_changed();
        }
    }

    fn state_changed(&self) {
        if let Some(client) = self.client() {
            client.heartbeat_soon();
        }
    }

    fn ways_changed(&self) {
        if let Some(client) = self.client() {
            client.register_again();
        }
    }

    fn strangers(&self) -> Counts {
        self.relay.counts()
    }

    fn region_wanted(&self, file: &Path, address: IpAddr) {
        let (file, node) = (real_path(file).unwrap_or_else(|| file.to_owned()), self.node.clone());
        let look = async move {
            // The file may be large: it is read through, not kept.
            let found = blocking::unblock(move || {
                let open = std::fs::File::open(&file).map_err(|e| format!("{}: {e}", file.display()))?;
                region_of(std::io::BufReader::new(open), address)
            });
            node.prefix_found(address, found.await);
        };
        self.executor.spawn(look).detach();
    }

    fn machine(&self) -> Machine {
        Machine {
            board: self.system.board(),
            kernel: self.system.kernel(),
            rss_kb: self.system.rss_kb(),
            cpu_us: self.system.cpu_us(),
        }
    }

    fn networks(&self, networks: &[Prefix]) {
        self.egress.networks_changed(networks.to_vec());
        self.seldom();
    }

    fn wan(&self, wan: Option<&Wan>) {
        self.egress.forget_networks();
        self.egress.set_wan(wan.cloned());
        if let Some(client) = self.client() {
            client.line_changed();
            self.node.link_changed(client.status());
        }
    }

    fn binds(&self) -> bool {
        self.egress.binds()
    }

    fn config_changed(&self, old: &Config, new: &Config) {
        let changes = diff(old, new);
        self.guard.config_changed();
        if changes.touches("security") {
            *self.resolver.borrow_mut() = resolver(new, &self.node, &self.time, &self.egress);
        }
        self.egress.reconfigure(guard(new));
        self.relay.reconfigure(self.resolver());
        if old.network.wan_device != new.network.wan_device {
            self.read_wan();
        }
        self.share_descriptors();
        if old.relay.names != new.relay.names {
            self.rename(&new.relay.names);
        }
        self.listen_again(old, new);
        self.lists.read_files();
        // These the client was made with: its resolver, its certificates, and what a probe may be.
        let made_with = changes.touches("security")
            || old.probes.ca_file != new.probes.ca_file
            || old.policy.allow_plain_http_probes != new.policy.allow_plain_http_probes
            || old.lab.ports != new.lab.ports;
        if made_with || changes.needs(Apply::Reconnect) {
            self.connect();
        } else if let Some(client) = self.client() {
            client.register_again();
        }
        if diff(&self.started, new).needs(Apply::Restart) {
            self.node
                .alert("restart-needed", "A changed option takes effect when the node is started again.");
        } else {
            self.node.clear_alert("restart-needed");
        }
    }
}

fn guard(config: &Config) -> AddressGuard {
    AddressGuard::new(config.lab.allow_addresses.clone())
}

/// The owner's bounds for connections that are not authenticated, but for their number.
fn limits(config: &Config, pending: usize) -> Limits {
    let relay = &config.relay;
    Limits {
        pending,
        pending_per_source: relay.max_pending_per_source as usize,
        handshakes: relay.max_handshakes_per_second,
        handshakes_per_source: relay.max_handshakes_per_source_per_second,
    }
}

//! What a node does once it is made: it serves its owner and its buyers, does what is due, and drains.
use super::backend::{Control, epoch, reload};
use super::bus::Bus;
use super::guarded::Guarded;
use super::lifecycle::NodeEvent;
use super::node::Node;
use super::run::{Failed, failed, invalid};
use super::sandbox::Sandbox;
use super::source::Source;
use super::supervisor::Supervisor;
use crate::api::listen::{self, Served};
use crate::api::run_dir::RunDir;
use crate::cli::run::RunOptions;
use crate::config::{GuardMode, Platform};
use crate::guard::client::{LONGEST, Link};
use crate::sys::linux::netlink::Routes;
use crate::sys::linux::signals::{Signal, Signals};
use crate::sys::linux::{Linux, reactor};
use crate::tls::client::CertificateTime;
use crate::tls::server::Acceptor;
use crate::turns;
use crate::vault::Vault;
use async_executor::LocalExecutor;
use async_io::Async;
use futures_lite::future;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::Duration;

/// How long reports of links and routes are gathered.
const GATHER: Duration = Duration::from_millis(20);
/// How often a configuration is asked for that could not be read at the start.
const SEEK: Duration = Duration::from_secs(5);
/// How long live tunnels have to leave their lines.
const DRAIN: Duration = Duration::from_millis(300);
/// How long the last bundles and transitions have to be posted.
const FLUSH: Duration = Duration::from_millis(500);

/// What serves the owner before there is a node.
pub type Early = (Served, Option<Bus>);

/// All that [`serve`] takes over.
pub struct Running<'a> {
    pub options: &'a RunOptions,
    pub signals: Signals,
    pub executor: Rc<LocalExecutor<'static>>,
    /// The API, if it is served already.
    pub early: Option<Early>,
    pub platform: Platform,
    pub source: Source,
    pub run_dir: RunDir,
    pub vault: Vault,
    pub acceptor: Rc<Acceptor>,
    pub node: Rc<Node>,
    pub time: std::sync::Arc<CertificateTime>,
    pub sandbox: Sandbox,
}

/// Runs the node until it is told to end.
pub fn serve(running: Running<'_>) -> Result<(), Failed> {
    let Running {
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
    } = running;
    let guard = Rc::new(Link::new(run_dir.path()));
    node.leases.guarded_by(guard.clone());
    let machine = Rc::new(Guarded { system: Linux, node: node.clone() });
    let supervisor =
        Supervisor::new((executor.clone(), machine, guard.clone()), node.clone(), acceptor, vault, time)
            .map_err(failed)?;
    supervisor.listen().map_err(failed)?;
    let epoch = epoch().ok_or_else(|| failed("the system gives no random numbers"))?;
    let control = Rc::new(Control { node: node.clone(), source: source.clone(), platform, epoch });
    let (api, bus, sandbox) = match early {
        Some((api, bus)) => {
            api.replace(control.clone());
            bus.iter().for_each(|bus| bus.replace(control.clone()));
            (api, bus, sandbox)
        }
        None => {
            let api = listen::start(&executor, run_dir, options.api, control.clone(), Vec::new());
            let api = api.map_err(failed)?;
            // Nothing has been read from the network yet.
            let sandbox = sandbox.seal().map_err(invalid)?;
            (api, Bus::start(&executor, &options.ubus, control), sandbox)
        }
    };
    node.notices.replace(bus.as_ref().map(Bus::notices));
    node.notice_state();
    node.sandbox.replace(Some(sandbox));
    node.serve(supervisor.clone());
    supervisor.read_wan();
    supervisor.connect();
    let following = supervisor.clone();
    executor.spawn(async move { follow_network(&following).await }).detach();
    let listening = node.clone();
    let longest = match node.config().security.guard {
        GuardMode::Required => LONGEST.0,
        GuardMode::Optional => LONGEST.1,
    };
    executor.spawn(async move { guard.attend(&*listening, longest).await }).detach();
    let leases = node.leases.clone();
    executor.spawn(async move { leases.attend().await }).detach();
    let ticking = node.clone();
    executor.spawn(async move { tick(&ticking).await }).detach();
    let (seeking, sought) = (node.clone(), source.clone());
    executor.spawn(async move { seek_config(&seeking, &sought).await }).detach();
    let pacing = node.clone();
    executor.spawn(async move { pacing.ledger.pacer.run().await }).detach();
    let config = node.config();
    crate::info!("node {} ready: relay {}, API {}", node.key.node_id(), config.relay.listen, api.place());
    let until = async {
        while wait(&signals).await == Signal::Reload {
            // Beside the wait for the next signal, which may be the one to end.
            let (node, source) = (node.clone(), source.clone());
            executor.spawn(async move { reload(&node, &source).await }).detach();
        }
        drain(&node, &supervisor).await;
    };
    reactor::block_on(turns::run(&executor, until)).map_err(failed)?;
    drop((api, bus));
    node.ledger.flush_log();
    crate::info!("stopped");
    Ok(())
}

/// Has the line read again whenever links, addresses or routes have changed.
async fn follow_network(supervisor: &Supervisor) {
    let monitor = Routes::monitor().and_then(|m| Ok((Async::new(m.as_fd().try_clone_to_owned()?)?, m)));
    let (wait, mut monitor) = match monitor {
        Ok(both) => both,
        Err(e) => return crate::warn!("changes of the network are noticed only where the guard tells: {e}"),
    };
    loop {
        if let Err(e) = wait.readable().await {
            return crate::warn!("changes of the network are noticed only where the guard tells: {e}");
        }
        // A line that is dialled again is a dozen of reports.
        pause(GATHER).await;
        monitor.drain();
        supervisor.read_wan();
    }
}

/// The next signal. If signals cannot be read, the node ends: it could not be ended otherwise.
pub async fn wait(signals: &Signals) -> Signal {
    signals.next().await.unwrap_or_else(|e| {
        crate::error!("signals cannot be read: {e}");
        Signal::Stop
    })
}

/// Does what is due, when it is due or when the bell rings.
async fn tick(node: &Node) {
    loop {
        let next = node.tick();
        let rung = std::future::poll_fn(|cx| node.ledger.poll_rung(cx));
        match next {
            Some(after) => future::or(rung, pause(after)).await,
            None => rung.await,
        }
    }
}

async fn pause(time: Duration) {
    async_io::Timer::after(time).await;
}

/// Closes all sessions, lets their flows end, and posts what is left, each under a deadline.
async fn drain(node: &Node, supervisor: &Supervisor) {
    node.on(NodeEvent::Drain);
    supervisor.stop_listening();
    let empty = async {
        while node.ledger.live_flows() > 0 {
            async_io::Timer::after(Duration::from_millis(5)).await;
        }
    };
    future::or(empty, pause(DRAIN)).await;
    node.tick();
    node.finish();
    supervisor.flush(FLUSH).await;
}

/// Asks again for a configuration that could not be read at the start.
async fn seek_config(node: &Node, source: &Source) {
    while !source.is_reached() {
        pause(SEEK).await;
        // What is wrong stands in the log and in the status.
        let _ = reload(node, source).await;
    }
}

//! A relay in a thread of its own, its gate, and both of its peers.
use super::super::{RelayShared, serve_plain, serve_tls};
use super::leases::{Asked, TestTenant, granted};
use super::peer::{PATIENCE, Peer, client_config, connect_to_port, dial, hello, pause};
use crate::clock::Clock;
use crate::dns::{Answer, Lookup, ResolveError, Resolver};
use crate::egress::Egress;
use crate::guard::lease_wire::LeaseRequest;
use crate::lease::service::Leases;
use crate::policy::addresses::AddressGuard;
use crate::policy::refusal::Refusal;
use crate::relay::admission::Limits;
use crate::relay::door::DEFAULT_LIMITS;
use crate::session::credit::Credit;
use crate::session::{
    Account, Credentials, Denied, Direction, Ending, Flow, FlowState, Gate, HelloRules, Outcome, Phase,
    Target, Tenant,
};
use crate::time::Now;
use crate::tls::server::{Acceptor, ServerKey};
use async_executor::LocalExecutor;
use async_io::Timer;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

/// What a test wants of the relay.
pub struct Setup {
    pub tls: bool,
    pub denied: Option<Denied>,
    pub bytes_per_ms: Option<usize>,
    pub strangers: usize,
    pub leases: bool,
    /// What the address guard lets through, beside public addresses.
    pub allowed: (&'static str, u8),
}

impl Default for Setup {
    fn default() -> Setup {
        let allowed = ("127.0.0.0", 8);
        Setup { tls: false, denied: None, bytes_per_ms: None, strangers: 64, leases: false, allowed }
    }
}

/// A flow's log line.
#[derive(Debug)]
pub struct Ended {
    pub outcome: Outcome,
    pub ingress: u64,
    pub egress: u64,
    pub uncounted: u64,
    pub passed_hello: bool,
}

#[derive(Default)]
struct Seen {
    order: Option<Ending>,
    phase: Option<Phase>,
    ingress: u64,
    uncounted: u64,
    pipes: usize,
}

struct TestAccount {
    clock: Clock,
    tokens: RefCell<Option<usize>>,
    held: std::cell::Cell<usize>,
    credit: std::cell::Cell<Credit>,
    waiting: RefCell<Vec<Waker>>,
    flows: RefCell<Vec<Rc<FlowState>>>,
    seen: Arc<Mutex<Seen>>,
    ended: Sender<Ended>,
}

impl Account for TestAccount {
    fn now_us(&self) -> u64 {
        self.clock.now().mono_us
    }
    fn available(&self) -> usize {
        self.tokens.borrow().unwrap_or(usize::MAX).saturating_sub(self.held.get())
    }
    fn hold(&self, bytes: u64) {
        self.held.set(self.held.get() + bytes as usize);
    }
    fn release(&self, bytes: u64) {
        self.held.set(self.held.get().checked_sub(bytes as usize).expect("no more than was held"));
    }
    fn wait(&self, waker: &Waker) {
        self.waiting.borrow_mut().push(waker.clone());
    }
    fn count(&self, _: &FlowState, direction: Direction, bytes: u64) {
        if let Some(tokens) = self.tokens.borrow_mut().as_mut() {
            *tokens = tokens.saturating_sub(bytes as usize);
        }
        if direction == Direction::Ingress {
            self.seen.lock().unwrap().ingress += bytes;
        }
    }
    fn runs_short(&self) -> bool {
        false
    }
    fn connected(&self, _: &FlowState, latency_us: u64) {
        assert!(latency_us < 1_000_000);
    }
    fn passed_hello(&self, _: &FlowState) {}
    fn uncount(&self, _: &FlowState, _: Direction, bytes: u64) {
        self.seen.lock().unwrap().uncounted += bytes;
    }
    fn credit(&self) -> &std::cell::Cell<Credit> {
        &self.credit
    }
    fn hello_rules(&self, flow: &FlowState) -> HelloRules {
        HelloRules { host: flow.host.clone(), alpn: Rc::new([]), ech_deny: false }
    }
    fn judge_alias(&self, name: &str) -> Result<(), Refusal> {
        if name == "blocked.test" { Err(Refusal::DomainBlocked) } else { Ok(()) }
    }
    fn ended(&self, flow: &Rc<FlowState>) {
        self.flows.borrow_mut().retain(|f| f.id != flow.id);
        let (ingress, egress) = flow.bytes();
        let mut seen = self.seen.lock().unwrap();
        let uncounted = std::mem::take(&mut seen.uncounted);
        let passed_hello = flow.passed_hello();
        let _ = self.ended.send(Ended { outcome: flow.outcome(), ingress, egress, uncounted, passed_hello });
    }
}

struct TestGate {
    account: Rc<TestAccount>,
    denied: Option<Denied>,
    leases: Option<Rc<Leases>>,
}

impl Gate for TestGate {
    fn now(&self) -> Now {
        self.account.clock.now()
    }
    fn admit(
        &self,
        _: Option<IpAddr>,
        _: Option<&Credentials>,
        target: Result<&Target, Refusal>,
    ) -> Result<Flow, Denied> {
        if let Some(denied) = self.denied {
            return Err(denied);
        }
        let target = target?;
        let mut flows = self.account.flows.borrow_mut();
        let state = FlowState::new(flows.len() as u64, &target.host, target.port, self.account.now_us());
        let state = Rc::new(state);
        flows.push(state.clone());
        Ok(Flow::new(state, self.account.clone()))
    }
    fn admit_lease(
        &self,
        _: Option<IpAddr>,
        _: Option<&Credentials>,
        target: Option<Result<&Target, Refusal>>,
        reachable: bool,
    ) -> Result<Rc<dyn Tenant>, Denied> {
        if !reachable {
            return Err(Refusal::LeaseUnavailable.into());
        }
        target.transpose()?;
        Ok(Rc::new(TestTenant("s".into())))
    }
    fn leases(&self) -> Option<Rc<Leases>> {
        self.leases.clone()
    }
}

struct TestNames;

impl Resolver for TestNames {
    fn resolve<'a>(&'a self, host: &'a str, _: Now) -> Lookup<'a> {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let answer = |addresses: Vec<IpAddr>, aliases: &[&str]| {
            Ok(Rc::new(Answer { addresses, aliases: aliases.iter().map(|a| (*a).to_owned()).collect() }))
        };
        let found = match host {
            "origin.test" => answer(vec![ip("127.0.0.1")], &["cdn.test"]),
            "several.test" => answer(vec![ip("127.0.0.9"), ip("127.0.0.1")], &[]),
            "private.test" => answer(vec![ip("192.168.0.1")], &[]),
            "mixed.test" => answer(vec![ip("127.0.0.1"), ip("fd00::1")], &[]),
            "alias.test" => answer(vec![ip("127.0.0.1")], &["blocked.test"]),
            _ => Err(ResolveError::NoAddress),
        };
        Box::pin(std::future::ready(found))
    }
}

/// A running relay and the target behind it.
pub struct Relay {
    address: SocketAddr,
    target: TcpListener,
    tls: Option<Arc<ClientConfig>>,
    seen: Arc<Mutex<Seen>>,
    ended: Receiver<Ended>,
    clock: Clock,
    asked: Asked,
}

impl Relay {
    pub fn start(setup: Setup) -> Relay {
        Relay::start_at("127.0.0.1:0", setup)
    }

    pub fn start_at(own: &str, setup: Setup) -> Relay {
        let listener = crate::sys::linux::net::listen(own.parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        Relay::start_on(listener.into(), address, setup)
    }

    pub fn start_on(listener: OwnedFd, address: SocketAddr, setup: Setup) -> Relay {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (sender, ended) = channel();
        let (tls, thread_seen) = (setup.tls.then(client_config), seen.clone());
        let asked = Asked::default();
        let thread_asked = asked.clone();
        std::thread::spawn(move || run(listener, setup, (thread_seen, thread_asked), sender));
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        Relay { address, target, tls, seen, ended, clock: Clock::new(), asked }
    }

    /// What was asked of the guard so far.
    pub fn asked(&self) -> Vec<LeaseRequest> {
        self.asked.lock().unwrap().clone()
    }

    /// A connection to the listener, without its TLS.
    pub fn connect(&self) -> TcpStream {
        dial(self.address)
    }

    pub fn target_port(&self) -> u16 {
        self.target.local_addr().unwrap().port()
    }

    pub fn accept(&self) -> TcpStream {
        let (target, _) = self.target.accept().unwrap();
        target.set_read_timeout(Some(PATIENCE)).unwrap();
        target
    }

    /// A connection to the listener, with its TLS.
    pub fn peer(&self) -> Peer {
        let socket = self.connect();
        match &self.tls {
            None => Peer::Plain(socket),
            Some(config) => {
                let name = ServerName::try_from("relay.test").unwrap();
                let conn = ClientConnection::new(config.clone(), name).unwrap();
                Peer::Tls(Box::new(StreamOwned::new(conn, socket)))
            }
        }
    }

    /// A tunnel up to the 200.
    pub fn open(&self) -> (Peer, TcpStream) {
        let mut buyer = self.peer();
        buyer.write_all(&connect_to_port("origin.test", self.target_port())).unwrap();
        let target = self.accept();
        let mut answer = vec![0; super::connect::ESTABLISHED.len()];
        buyer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, super::connect::ESTABLISHED);
        (buyer, target)
    }

    /// A tunnel whose hello has arrived.
    pub fn open_through(&self) -> (Peer, TcpStream) {
        let (mut buyer, mut target) = self.open();
        let sent = hello("origin.test");
        buyer.write_all(&sent).unwrap();
        target.read_exact(&mut vec![0; sent.len()]).unwrap();
        (buyer, target)
    }

    /// Ends the newest flow.
    pub fn end(&self, ending: Ending) {
        self.seen.lock().unwrap().order = Some(ending);
    }

    /// The next flow's log line.
    pub fn ended(&self) -> Ended {
        self.ended.recv_timeout(PATIENCE).unwrap()
    }

    /// The newest flow's phase, a little later.
    pub fn phase(&self) -> Phase {
        pause(30);
        self.seen.lock().unwrap().phase.unwrap()
    }

    pub fn ingress(&self) -> u64 {
        self.seen.lock().unwrap().ingress
    }

    /// Pipes made and not closed.
    pub fn pipes(&self) -> usize {
        pause(20);
        self.seen.lock().unwrap().pipes
    }

    pub fn timed(&self, work: impl FnOnce()) -> Duration {
        let start = self.clock.now().mono_us;
        work();
        Duration::from_micros(self.clock.now().mono_us - start)
    }
}

fn run(listener: OwnedFd, setup: Setup, (seen, asked): (Arc<Mutex<Seen>>, Asked), ended: Sender<Ended>) {
    let executor = Rc::new(LocalExecutor::new());
    let account = Rc::new(TestAccount {
        clock: Clock::new(),
        tokens: RefCell::new(setup.bytes_per_ms.map(|_| 0)),
        held: Default::default(),
        credit: Default::default(),
        waiting: RefCell::default(),
        flows: RefCell::default(),
        seen,
        ended,
    });
    let leases = setup.leases.then(|| granted(&asked));
    let gate = Rc::new(TestGate { account: account.clone(), denied: setup.denied, leases });
    let guard = AddressGuard::new(vec![(setup.allowed.0.parse().unwrap(), setup.allowed.1)]);
    let system = Rc::new(crate::sys::dummy::Dummy::with(Vec::new()));
    let egress = Egress::new(system, Rc::new(Clock::new()), guard);
    let shared = RelayShared::new(gate, Rc::new(TestNames), egress, executor.clone()).unwrap();
    shared.set_limits(Limits { pending: setup.strangers, ..DEFAULT_LIMITS });
    executor.spawn(tick(account, setup.bytes_per_ms, shared.clone())).detach();
    let served = crate::sys::linux::reactor::block_on(executor.run(async {
        if setup.tls {
            let acceptor = Acceptor::new(ServerKey::generate().unwrap(), &["relay.test".to_owned()]).unwrap();
            serve_tls(listener.into(), Rc::new(acceptor), shared).await.unwrap();
        } else {
            serve_plain(listener, shared).await.unwrap();
        }
    }));
    served.unwrap();
}

/// What a listener needs, with nobody behind it.
pub fn lone_shared() -> Rc<RelayShared> {
    let account = Rc::new(TestAccount {
        clock: Clock::new(),
        tokens: RefCell::default(),
        held: Default::default(),
        credit: Default::default(),
        waiting: RefCell::default(),
        flows: RefCell::default(),
        seen: Arc::default(),
        ended: channel().0,
    });
    let gate = Rc::new(TestGate { account, denied: None, leases: None });
    RelayShared::new(gate, Rc::new(TestNames), Egress::loopback(), Rc::new(LocalExecutor::new())).unwrap()
}

/// Carries the test's orders to the flows, and gives tokens.
async fn tick(account: Rc<TestAccount>, bytes_per_ms: Option<usize>, shared: Rc<RelayShared>) {
    loop {
        Timer::after(Duration::from_millis(1)).await;
        let newest = account.flows.borrow().last().cloned();
        let order = {
            let mut seen = account.seen.lock().unwrap();
            seen.phase = newest.as_ref().map(|f| f.phase()).or(seen.phase);
            seen.pipes = shared.pipes.made();
            seen.order.take()
        };
        if let (Some(order), Some(flow)) = (order, newest) {
            flow.end(order);
        }
        if let Some(rate) = bytes_per_ms {
            account.tokens.borrow_mut().iter_mut().for_each(|t| *t = (*t + rate).min(10 * rate));
            account.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }
}

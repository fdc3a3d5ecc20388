//! A relay in a thread of its own, its gate, and both of its peers.
use super::super::{RelayShared, serve_plain, serve_tls};
use crate::clock::Clock;
use crate::dns::{Answer, Lookup, ResolveError, Resolver};
use crate::policy::addresses::AddressGuard;
use crate::policy::refusal::Refusal;
use crate::relay::watch::Watch;
use crate::session::{
    Account, Credentials, Denied, Direction, Ending, Flow, FlowState, Gate, HelloRules, Outcome, Phase,
    Target,
};
use crate::time::Now;
use crate::tls::server::{Acceptor, ServerKey};
use async_executor::LocalExecutor;
use async_io::Timer;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// What a test wants of the relay.
pub struct Setup {
    pub tls: bool,
    pub denied: Option<Denied>,
    pub bytes_per_ms: Option<usize>,
    pub strangers: usize,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { tls: false, denied: None, bytes_per_ms: None, strangers: 64 }
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
        self.tokens.borrow().unwrap_or(usize::MAX)
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
    fn connected(&self, _: &FlowState, latency_us: u64) {
        assert!(latency_us < 1_000_000);
    }
    fn passed_hello(&self, _: &FlowState) {}
    fn uncount_egress(&self, _: &FlowState, bytes: u64) {
        self.seen.lock().unwrap().uncounted += bytes;
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
}

impl Gate for TestGate {
    fn now(&self) -> Now {
        self.account.clock.now()
    }
    fn admit(&self, _: Option<&Credentials>, target: Result<&Target, Refusal>) -> Result<Flow, Denied> {
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
}

impl Relay {
    pub fn start(setup: Setup) -> Relay {
        let listener = crate::sys::linux::net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (sender, ended) = channel();
        let (tls, thread_seen) = (setup.tls.then(client_config), seen.clone());
        std::thread::spawn(move || run(listener, setup, thread_seen, sender));
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        Relay { address, target, tls, seen, ended, clock: Clock::new() }
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

    /// A tunnel up to the 200.
    pub fn open(&self) -> (Peer, TcpStream) {
        let socket = self.connect();
        let mut buyer = match &self.tls {
            None => Peer::Plain(socket),
            Some(config) => {
                let name = ServerName::try_from("relay.test").unwrap();
                let conn = ClientConnection::new(config.clone(), name).unwrap();
                Peer::Tls(Box::new(StreamOwned::new(conn, socket)))
            }
        };
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

fn run(listener: TcpListener, setup: Setup, seen: Arc<Mutex<Seen>>, ended: Sender<Ended>) {
    let executor = Rc::new(LocalExecutor::new());
    let account = Rc::new(TestAccount {
        clock: Clock::new(),
        tokens: RefCell::new(setup.bytes_per_ms.map(|_| 0)),
        waiting: RefCell::default(),
        flows: RefCell::default(),
        seen,
        ended,
    });
    let gate = Rc::new(TestGate { account: account.clone(), denied: setup.denied });
    let guard = AddressGuard::new(vec![("127.0.0.0".parse().unwrap(), 8)]);
    let mut shared = RelayShared::new(gate, Rc::new(TestNames), guard, executor.clone()).unwrap();
    Rc::get_mut(&mut shared).unwrap().strangers = Watch::new(Some(setup.strangers));
    executor.spawn(tick(account, setup.bytes_per_ms, shared.clone())).detach();
    let served = crate::sys::linux::reactor::block_on(executor.run(async {
        if setup.tls {
            let acceptor = Acceptor::new(ServerKey::generate().unwrap(), &["relay.test".to_owned()]).unwrap();
            serve_tls(listener, Rc::new(acceptor), shared).await.unwrap();
        } else {
            serve_plain(listener, shared).await.unwrap();
        }
    }));
    served.unwrap();
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

/// A buyer's end of a tunnel.
pub enum Peer {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Peer {
    pub fn socket(&mut self) -> &mut TcpStream {
        match self {
            Peer::Plain(s) => s,
            Peer::Tls(t) => &mut t.sock,
        }
    }

    pub fn into_socket(self) -> TcpStream {
        match self {
            Peer::Plain(s) => s,
            Peer::Tls(t) => t.sock,
        }
    }

    pub fn plain(&self) -> &TcpStream {
        match self {
            Peer::Plain(s) => s,
            Peer::Tls(_) => panic!("not plain"),
        }
    }

    /// Ends this half: a FIN, over TLS a close_notify before it.
    pub fn finish(&mut self) {
        if let Peer::Tls(t) = self {
            t.conn.send_close_notify();
            t.flush().unwrap();
        }
        self.socket().shutdown(Shutdown::Write).unwrap();
    }

    /// Sends all of it and ends this half while it reads everything.
    pub fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut got = Vec::new();
        match self {
            Peer::Plain(stream) => {
                let (mut out, bytes) = (stream.try_clone().unwrap(), bytes.to_vec());
                let sender = std::thread::spawn(move || {
                    out.write_all(&bytes).unwrap();
                    out.shutdown(Shutdown::Write).unwrap();
                });
                stream.read_to_end(&mut got).unwrap();
                sender.join().unwrap();
            }
            Peer::Tls(stream) => {
                // One thread for both: small steps, so that neither side fills up.
                let mut piece = vec![0; 1 << 16];
                for chunk in bytes.chunks(1 << 14) {
                    stream.write_all(chunk).unwrap();
                    stream.sock.set_nonblocking(true).unwrap();
                    while let Ok(n @ 1..) = stream.read(&mut piece) {
                        got.extend_from_slice(&piece[..n]);
                    }
                    stream.sock.set_nonblocking(false).unwrap();
                }
                self.finish();
                self.read_to_end(&mut got).unwrap();
            }
        }
        got
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Peer::Plain(s) => s.read(buffer),
            Peer::Tls(t) => t.read(buffer),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Peer::Plain(s) => s.write(bytes),
            Peer::Tls(t) => t.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Peer::Plain(s) => s.flush(),
            Peer::Tls(t) => t.flush(),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test's peer blocks in its own thread")]
fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[allow(clippy::disallowed_methods, reason = "a test's thread waits")]
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Closes a connection by a reset.
pub fn reset(stream: TcpStream) {
    use std::os::fd::AsFd;
    crate::sys::linux::net::reset(stream.as_fd());
}

pub fn connect_to(host: &str) -> Vec<u8> {
    connect_to_port(host, 443)
}

pub fn connect_to_port(host: &str, port: u16) -> Vec<u8> {
    format!("CONNECT {host}:{port} HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n\r\n").into_bytes()
}

/// A small TLS 1.2 hello; without a server name if it is empty.
pub fn hello(name: &str) -> Vec<u8> {
    let vec16 = |b: &[u8]| [&u16::try_from(b.len()).unwrap().to_be_bytes()[..], b].concat();
    let mut body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let mut extensions = [&[0, 23][..], &vec16(&[])].concat();
    if !name.is_empty() {
        let list = vec16(&[&[0][..], &vec16(name.as_bytes())].concat());
        extensions.extend([&[0, 0][..], &vec16(&list)].concat());
    }
    extensions.extend([&[0, 21][..], &vec16(&[0; 100])].concat());
    body.extend(vec16(&extensions));
    [&[22, 3, 1][..], &vec16(&[&[1, 0][..], &vec16(&body)].concat())].concat()
}

pub fn pattern(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

fn client_config() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Arc::new(config)
}

/// The test knows whom it talks to.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

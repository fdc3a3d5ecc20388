//! The relay alone, with a gate that admits all: `relay_bench plain|tls ADDRESS:PORT KEYFILE NAME=ADDRESS`.
//! For load measurements; every check of hosts, addresses and hellos is on.
use async_executor::LocalExecutor;
use echomesh::clock::Clock;
use echomesh::dns::{Answer, Lookup, ResolveError, Resolver};
use echomesh::egress::Egress;
use echomesh::policy::addresses::AddressGuard;
use echomesh::policy::refusal::Refusal;
use echomesh::policy::wan::Choice;
use echomesh::relay::{RelayShared, serve_plain, serve_tls};
use echomesh::session::credit::Credit;
use echomesh::session::{Account, Credentials, Denied, Direction, Flow, FlowState, Gate, HelloRules, Target};
use echomesh::sys::System as _;
use echomesh::sys::linux::reactor;
use echomesh::sys::linux::{Linux, net};
use echomesh::time::Now;
use echomesh::tls::server::{Acceptor, ServerKey};
use std::cell::Cell;
use std::error::Error;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;

struct Open {
    clock: Clock,
    alpn: Rc<[String]>,
    bytes: Cell<u64>,
    flows: Cell<u64>,
    credit: Cell<Credit>,
}

impl Account for Open {
    fn hold(&self, _: u64) {}
    fn release(&self, _: u64) {}
    fn now_us(&self) -> u64 {
        self.clock.now().mono_us
    }
    fn available(&self) -> usize {
        usize::MAX
    }
    fn wait(&self, _: &Waker) {}
    fn count(&self, _: &FlowState, _: Direction, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }
    fn runs_short(&self) -> bool {
        false
    }
    fn connected(&self, _: &FlowState, _: u64) {}
    fn passed_hello(&self, _: &FlowState) {}
    fn uncount(&self, _: &FlowState, _: Direction, _: u64) {}
    fn credit(&self) -> &Cell<Credit> {
        &self.credit
    }
    fn hello_rules(&self, flow: &FlowState) -> HelloRules {
        HelloRules { host: flow.host.clone(), alpn: self.alpn.clone(), ech_deny: false }
    }
    fn judge_alias(&self, _: &str) -> Result<(), Refusal> {
        Ok(())
    }
    fn ended(&self, _: &Rc<FlowState>) {}
}

struct OpenGate(Rc<Open>);

impl Gate for OpenGate {
    fn now(&self) -> Now {
        self.0.clock.now()
    }
    fn admit(
        &self,
        _: Option<IpAddr>,
        c: Option<&Credentials>,
        target: Result<&Target, Refusal>,
    ) -> Result<Flow, Denied> {
        let target = target?;
        c.ok_or(Refusal::AuthRequired)?;
        let id = self.0.flows.replace(self.0.flows.get() + 1);
        let state = FlowState::new(id, &target.host, target.port, self.0.now_us());
        Ok(Flow::new(Rc::new(state), self.0.clone()))
    }
}

struct Fixed(String, Rc<Answer>);

impl Resolver for Fixed {
    fn resolve<'a>(&'a self, host: &'a str, _: Now) -> Lookup<'a> {
        let found = if host == self.0 { Ok(self.1.clone()) } else { Err(ResolveError::NoAddress) };
        Box::pin(std::future::ready(found))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    net::raise_descriptor_limit(0)?;
    let args: Vec<String> = std::env::args().collect();
    let [_, kind, listen, key, origin] = &args[..] else { return Err("usage: see the source".into()) };
    let (name, address) = origin.split_once('=').ok_or("NAME=ADDRESS")?;
    let address: IpAddr = address.parse()?;
    let answer = Rc::new(Answer { addresses: vec![address], aliases: Vec::new() });
    let open = Open {
        clock: Clock::new(),
        alpn: ["h2".to_owned(), "http/1.1".to_owned()].into(),
        bytes: Cell::new(0),
        flows: Cell::new(0),
        credit: Cell::default(),
    };
    let executor = Rc::new(LocalExecutor::new());
    let full = if address.is_ipv4() { 32 } else { 128 };
    let guard = AddressGuard::new(vec![(address, full)]);
    let egress = Egress::new(Rc::new(Linux), Rc::new(Clock::new()), guard);
    egress.set_wan(Some(Linux.wan(&Choice::Auto)?));
    let shared = RelayShared::new(
        Rc::new(OpenGate(Rc::new(open))),
        Rc::new(Fixed(name.to_owned(), answer)),
        egress,
        executor.clone(),
    )?;
    let listener = net::listen(listen.parse()?)?;
    reactor::block_on(executor.run(async {
        if kind == "tls" {
            let acceptor =
                Acceptor::new(ServerKey::load_or_create(key.as_ref())?, &["localhost".to_owned()])?;
            serve_tls(listener, Rc::new(acceptor), shared).await?;
        } else {
            serve_plain(listener, shared).await?;
        }
        Ok(())
    }))?
}

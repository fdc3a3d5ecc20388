//! A guard that does what a test says, and leases of it.
use super::bench::TOKEN;
use super::*;
use crate::guard::client::Listener as _;
use crate::guard::lease_wire::{Ability, Grant, LeaseReport, LeaseRequest, Offload};
use crate::guard::protocol::Report;
use crate::lease::service::{Connection, Given, Guard, LOOK_MS, Wanted};
use crate::policy::refusal::Refusal;
use crate::session::{Credentials, Gate as _, Target, Tenant};
use futures_lite::future::{block_on, poll_once};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

/// Sessions that may have leases.
pub const BOTH: &str = r#"{"policyProfile":{"name":"p","allowDomains":[],"blockDomains":[],"allowedPorts":[443],"alpn":["h2"],
    "transports":["relay","lease"],"ech":"outer"}}"#;
pub const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34));

/// What `run` has said; nothing is done.
#[derive(Default)]
pub struct FakeGuard {
    pub said: RefCell<Vec<LeaseRequest>>,
    /// How often counters were asked for, beside that.
    pub counts: Cell<u32>,
    pub deaf: Cell<bool>,
    pub given_up: Cell<bool>,
}

impl Guard for FakeGuard {
    fn send(&self, request: LeaseRequest) -> bool {
        match request {
            LeaseRequest::Count => self.counts.set(self.counts.get() + 1),
            other => self.said.borrow_mut().push(other),
        }
        !self.deaf.get()
    }
    fn give_up(&self) -> bool {
        !self.given_up.replace(true)
    }
}

impl FakeGuard {
    pub fn take(&self) -> Vec<LeaseRequest> {
        self.said.take()
    }
}

pub fn able() -> Ability {
    Ability { possible: true, offload: Offload::Software, caps: true, reason: "x".into(), max_flows: 100 }
}

/// A bench with a guard that gives leases, and a session that may have them.
pub fn leasing(config: &str, order: &str) -> (Bench, Rc<FakeGuard>) {
    let mut bench = Bench::with(config);
    let guard = Rc::new(FakeGuard::default());
    bench.node.leases.guarded_by(guard.clone());
    says(&bench, LeaseReport::Able(able()));
    bench.open(ID, order);
    assert_eq!(bench.queued(ID), ["accepted", "active"]);
    (bench, guard)
}

pub fn says(bench: &Bench, report: LeaseReport) {
    bench.node.hear(Report::Lease(report));
}

pub fn target(host: &str) -> Target {
    Target { host: host.into(), port: 443, literal: None }
}

/// The checks of a request for a lease.
pub fn tenant(bench: &Bench, host: &str) -> Result<Rc<dyn Tenant>, Refusal> {
    let credentials = Credentials { session_id: ID.into(), token: TOKEN.to_vec() };
    let target = target(host);
    let judged = bench.node.admit_lease(Some(bench::BUYER), Some(&credentials), Some(Ok(&target)), true);
    judged.map_err(|d| d.refusal)
}

pub fn wanted(bench: &Bench, host: &str) -> Wanted {
    Wanted {
        tenant: tenant(bench, host).unwrap(),
        buyer: bench::BUYER,
        target: target(host),
        address: TARGET,
        aliases: vec![format!("cdn.{host}")],
    }
}

/// A lease that the guard grants, and what it was asked for.
pub fn lease(bench: &Bench, guard: &FakeGuard, connection: &Connection, host: &str) -> (Given, Grant) {
    let mut asked = Box::pin(connection.open(wanted(bench, host)));
    assert!(block_on(poll_once(&mut asked)).is_none(), "it waits for the guard");
    let Some(LeaseRequest::Grant(grant)) = guard.take().pop() else { panic!("no grant") };
    says(bench, LeaseReport::Granted { no: grant.no });
    (block_on(asked).unwrap(), grant)
}

/// Time passes, and the node looks as often as it says that it will.
pub fn wait_and_look(bench: &mut Bench, ms: u64) {
    for _ in 0..ms / LOOK_MS {
        bench.pass_ms(LOOK_MS);
        bench.tick();
    }
    bench.pass_ms(ms % LOOK_MS);
    bench.tick();
}

//! What all connections of the relay share.
use super::admission::{Counts, Limits};
use super::door::Door;
use super::pools::Pipes;
use super::watch::{Deadline, Watch};
use crate::dns::Resolver;
use crate::policy::addresses::{AddressGuard, Prefix};
use crate::policy::refusal::Refusal;
use crate::session::Gate;
use crate::sys::System;
use crate::sys::linux::reactor::Reactor;
use async_executor::LocalExecutor;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// Bytes read from a socket at a time.
pub(super) const CHUNK: usize = 64 * 1024;

/// What the listeners and tunnels work with. One per node.
pub struct RelayShared {
    pub(super) gate: Rc<dyn Gate>,
    pub(super) resolver: RefCell<Rc<dyn Resolver>>,
    pub(super) addresses: RefCell<AddressGuard>,
    pub(super) executor: Rc<LocalExecutor<'static>>,
    pub(super) system: Rc<dyn System>,
    pub(super) reactor: Rc<Reactor>,
    pub(super) pipes: Pipes,
    /// Borrowed between two awaits only, for bytes that are handed on at once.
    pub(super) scratch: RefCell<Box<[u8]>>,
    pub(super) door: Rc<Door>,
    pub(super) dials: Rc<Watch>,
}

impl RelayShared {
    /// Joins the parts. The thread sleeps best in [`crate::sys::linux::reactor::block_on`]; where it sleeps elsewhere, a
    /// task watches the relay's sockets.
    ///
    /// # Errors
    /// The kernel's, if it has no descriptor left.
    pub fn new(
        gate: Rc<dyn Gate>,
        resolver: Rc<dyn Resolver>,
        addresses: AddressGuard,
        executor: Rc<LocalExecutor<'static>>,
        system: Rc<dyn System>,
    ) -> io::Result<Rc<RelayShared>> {
        let reactor = Reactor::local()?;
        let driver = reactor.clone();
        executor.spawn(async move { driver.drive().await }).detach();
        Ok(Rc::new(RelayShared {
            door: Door::new(gate.clone(), executor.clone()),
            gate,
            resolver: RefCell::new(resolver),
            addresses: RefCell::new(addresses),
            executor,
            system,
            reactor,
            pipes: Pipes::default(),
            scratch: RefCell::new(vec![0; CHUNK].into_boxed_slice()),
            dials: Watch::new(),
        }))
    }

    /// Whether an address is public and not this machine's own, or allowed in the lab.
    pub fn is_allowed(&self, address: std::net::IpAddr) -> bool {
        self.refresh_addresses().is_ok() && self.addresses.borrow().judge(address).is_ok()
    }

    /// Replaces the resolver and the address guard, after a change of the configuration.
    pub fn reconfigure(&self, resolver: Rc<dyn Resolver>, addresses: AddressGuard) {
        *self.resolver.borrow_mut() = resolver;
        *self.addresses.borrow_mut() = addresses;
    }

    /// Takes the owner's networks as the guard reports them.
    pub fn networks_changed(&self, networks: Vec<Prefix>) {
        self.addresses.borrow_mut().refresh(networks, self.gate.now().mono_ms());
    }

    /// Reads the owner's networks anew if what is known is old.
    ///
    /// # Errors
    /// [`Refusal::AddressDenied`] if the kernel will not tell: without them the router's own networks are not known.
    pub(super) fn refresh_addresses(&self) -> Result<(), Refusal> {
        let now = self.gate.now().mono_ms();
        if self.addresses.borrow().is_stale(now) {
            let networks = self.system.own_networks().map_err(|_| Refusal::AddressDenied)?;
            self.addresses.borrow_mut().refresh(networks, now);
        }
        Ok(())
    }

    /// Other bounds for connections that are not authenticated.
    pub fn set_limits(&self, limits: Limits) {
        self.door.set_limits(limits);
    }

    /// What has happened to such connections.
    pub fn counts(&self) -> Counts {
        self.door.counts()
    }

    /// A deadline for a step of an admitted connection.
    pub(super) fn deadline(&self) -> Deadline {
        let deadline = self.dials.start(self.gate.now().mono_ms(), Rc::default());
        self.dials.sweep_in(&self.executor, &self.gate);
        deadline
    }
}

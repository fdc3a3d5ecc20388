//! What all connections of the relay share.
use super::admission::{Counts, Limits};
use super::door::Door;
use super::pools::Pipes;
use super::watch::{Deadline, Watch};
use crate::dns::Resolver;
use crate::egress::Egress;
use crate::session::Gate;
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
    pub(super) egress: Rc<Egress>,
    pub(super) executor: Rc<LocalExecutor<'static>>,
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
        egress: Rc<Egress>,
        executor: Rc<LocalExecutor<'static>>,
    ) -> io::Result<Rc<RelayShared>> {
        let reactor = Reactor::local()?;
        let driver = reactor.clone();
        executor.spawn(async move { driver.drive().await }).detach();
        Ok(Rc::new(RelayShared {
            door: Door::new(gate.clone(), executor.clone()),
            gate,
            resolver: RefCell::new(resolver),
            egress,
            executor,
            reactor,
            pipes: Pipes::default(),
            scratch: RefCell::new(vec![0; CHUNK].into_boxed_slice()),
            dials: Watch::new(),
        }))
    }

    /// Replaces the resolver, after a change of the configuration.
    pub fn reconfigure(&self, resolver: Rc<dyn Resolver>) {
        *self.resolver.borrow_mut() = resolver;
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

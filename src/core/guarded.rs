//! The machine, with the guard's word on the owner's networks in the place of what this process reads itself.
use super::node::Node;
use crate::policy::wan::{Choice, Wan};
use crate::sys::System;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

/// A machine that asks the guard first.
pub struct Guarded<S> {
    /// The machine itself.
    pub system: S,
    /// The node, which hears the guard.
    pub node: Rc<Node>,
}

impl<S: System> System for Guarded<S> {
    fn own_networks(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        self.node.guarded_networks().map_or_else(|| self.system.own_networks(), Ok)
    }
    fn wan(&self, choice: &Choice) -> io::Result<Wan> {
        self.node.guarded_wan().map_or_else(|| self.system.wan(choice), Ok)
    }
    fn board(&self) -> String {
        self.system.board()
    }
    fn kernel(&self) -> String {
        self.system.kernel()
    }
    fn rss_kb(&self) -> u64 {
        self.system.rss_kb()
    }
    fn cpu_us(&self) -> u64 {
        self.system.cpu_us()
    }
}

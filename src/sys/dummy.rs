//! A machine that is made up: the twin for tests, and for whatever runs off a router.
use super::System;
use crate::policy::wan::{Choice, Wan};
use std::cell::RefCell;
use std::io;
use std::net::IpAddr;

/// What it says is what it was given.
#[derive(Debug, Default)]
pub struct Dummy {
    /// The owner's networks; `None` is a kernel that will not tell.
    pub networks: RefCell<Option<Vec<(IpAddr, u8)>>>,
    /// The devices that lead outward.
    pub wan: RefCell<Wan>,
}

impl Dummy {
    /// A machine with these networks of the owner's.
    pub fn with(networks: Vec<(IpAddr, u8)>) -> Dummy {
        Dummy { networks: RefCell::new(Some(networks)), ..Dummy::default() }
    }
}

impl System for Dummy {
    fn own_networks(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        self.networks.borrow().clone().ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }
    fn wan(&self, _: &Choice) -> io::Result<Wan> {
        Ok(self.wan.borrow().clone())
    }
    fn board(&self) -> String {
        "dummy".to_owned()
    }
    fn kernel(&self) -> String {
        "0".to_owned()
    }
    fn rss_kb(&self) -> u64 {
        0
    }
    fn cpu_us(&self) -> u64 {
        0
    }
}

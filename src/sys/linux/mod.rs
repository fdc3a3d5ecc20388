//! Linux: the only place with `unsafe`.
#![allow(unsafe_code, reason = "system calls that no safe crate offers; each block has its SAFETY comment")]
pub mod clash;
pub mod device;
pub mod iptables;
pub mod local_time;
pub mod machine;
#[cfg(all(target_pointer_width = "32", target_env = "musl"))]
mod musl_32;
pub mod net;
pub mod netlink;
pub mod offload;
pub mod pages;
pub mod pipe;
pub mod process;
pub mod reactor;
pub mod routes;
pub mod sandbox;
pub mod seqpacket;
pub mod signals;
pub mod traffic;

use super::System;
use crate::guard::network::Wanted;
use crate::policy::wan::{Choice, Wan};
use std::io;
use std::net::IpAddr;

/// The Linux that the process runs on.
#[derive(Clone, Copy, Debug)]
pub struct Linux;

impl System for Linux {
    fn own_networks(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        routes::own_networks()
    }
    fn wan(&self, choice: &Choice) -> io::Result<Wan> {
        let wanted = Wanted { choice: choice.clone(), binds: true };
        Ok(netlink::Routes::open()?.read(&wanted)?.uplinks)
    }
    fn board(&self) -> String {
        machine::board()
    }
    fn kernel(&self) -> String {
        machine::kernel()
    }
    fn rss_kb(&self) -> u64 {
        machine::rss_kb()
    }
    fn cpu_us(&self) -> u64 {
        machine::cpu_us()
    }
}

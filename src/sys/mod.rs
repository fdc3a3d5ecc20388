//! The platform: what the node asks of the machine beside sockets, behind one narrow trait with a dummy twin. Only
//! `core` picks one.
pub mod dummy;
pub mod linux;
pub mod openwrt;

use crate::policy::wan::{Choice, Wan};
use std::io;
use std::net::IpAddr;

/// The machine the node runs on.
pub trait System {
    /// Everything that must not be dialled because it is the owner's: own addresses, connected networks, routes that
    /// lead inside, gateways, name servers. With prefix lengths.
    ///
    /// # Errors
    /// The kernel's. Nothing may be dialled then.
    fn own_networks(&self) -> io::Result<Vec<(IpAddr, u8)>>;
    /// The devices that lead outward, chosen as the owner wants it.
    ///
    /// # Errors
    /// The kernel's. Nothing leaves then.
    fn wan(&self, choice: &Choice) -> io::Result<Wan>;
    /// The board's name; `unknown` where nobody tells.
    fn board(&self) -> String;
    /// The kernel's release.
    fn kernel(&self) -> String;
    /// Resident memory of this process, 1000 bytes.
    fn rss_kb(&self) -> u64;
    /// Processor time that this process has used, microseconds.
    fn cpu_us(&self) -> u64;
}

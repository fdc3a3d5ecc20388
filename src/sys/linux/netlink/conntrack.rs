//! Connection tracking: what the kernel has, its end, and the two numbers that say what it counts and keeps.
use super::{BUFFER, NETFILTER, Netlink, PIECE};
use crate::guard::conntrack::{Entry, Told, Tuple, ask, delete, read};
use crate::guard::lease_wire::CtId;
use crate::guard::netlink as nl;
use crate::sys::linux::reactor::Io;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::task::{Context, Poll};

/// `NFNLGRP_CONNTRACK_DESTROY` as a bit.
const ENDS: u32 = 1 << 2;
/// Bytes of a report, and of reports that the kernel holds for us.
const REPORT: usize = 4096;
const REPORTS: usize = 1 << 20;
/// Connections deleted by one datagram.
const BATCH: usize = 64;
/// Whether connections are counted, and how many there can be.
const COUNTS: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";
const MOST: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Has the kernel count bytes and packets of connections from now on.
///
/// # Errors
/// The kernel's: it has no connection tracking, or cannot count.
pub fn have_counted() -> io::Result<()> {
    if !is_counting()? {
        std::fs::write(COUNTS, "1")?;
    }
    Ok(())
}

/// Whether the kernel counts connections that begin now; somebody may have switched that off.
///
/// # Errors
/// The kernel's: it has no connection tracking.
pub fn is_counting() -> io::Result<bool> {
    Ok(std::fs::read_to_string(COUNTS)?.trim() == "1")
}

/// How many connections the kernel keeps at most. A 0 of its own is no bound (net/netfilter/nf_conntrack_core.c, `__nf_conntrack_alloc`).
///
/// # Errors
/// The kernel's: it has no connection tracking.
pub fn most() -> io::Result<u32> {
    let most: u32 = std::fs::read_to_string(MOST)?.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(if most == 0 { u32::MAX } else { most })
}

/// Questions and orders.
#[derive(Debug)]
pub struct Conntrack(Netlink);

impl Conntrack {
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn open() -> io::Result<Conntrack> {
        Netlink::open(NETFILTER, 0, PIECE, Some(BUFFER)).map(Conntrack)
    }

    /// The TCP connections that have all of these bits in their mark.
    ///
    /// # Errors
    /// The kernel's: it has no `nf_conntrack_netlink`.
    pub fn list(&mut self, bits: u32) -> io::Result<Vec<Entry>> {
        let mut list = Vec::new();
        self.0.drain();
        let question = ask(bits, self.0.next());
        self.0.dump(&question, |message| {
            let Some(Told::There(entry)) = read(message) else { return };
            if entry.mark & bits == bits {
                list.push(entry);
            }
        })?;
        Ok(list)
    }

    /// Deletes connections. Those that are gone already are none.
    ///
    /// # Errors
    /// The kernel's. That one was deleted is seen by [`Conntrack::list`] alone.
    pub fn delete(&mut self, list: &[(CtId, Tuple)]) -> io::Result<()> {
        for some in list.chunks(BATCH) {
            let batch = delete(some.iter().map(|(ct, tuple)| (*ct, tuple)), self.0.next());
            rustix::net::send(&self.0.fd, &batch, SendFlags::empty())?;
            self.0.drain();
        }
        Ok(())
    }
}

/// Reports of connections' ends.
#[derive(Debug)]
pub struct Ends {
    socket: Netlink,
    wait: Io,
}

impl Ends {
    /// From now on.
    ///
    /// # Errors
    /// The kernel's: it has no `nf_conntrack_netlink`, or no descriptor is left.
    pub fn open() -> io::Result<Ends> {
        let socket = Netlink::open(NETFILTER, ENDS, REPORT, Some(REPORTS))?;
        let wait = Io::of_messages_of(&socket)?;
        Ok(Ends { socket, wait })
    }

    /// Whether there is one. Then [`Ends::take`] has to be asked.
    pub fn poll_end(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait.poll_message(cx)
    }

    /// Takes a report; whether there may be more. What the kernel could not report is lost: a list tells that.
    pub fn take(&mut self, mut take: impl FnMut(Entry)) -> bool {
        match rustix::net::recv(&self.socket.fd, &mut self.socket.piece[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                for message in nl::messages(self.socket.piece.get(..length).unwrap_or_default()) {
                    if let Some(Told::Gone(entry)) = read(&message) {
                        take(entry);
                    }
                }
                true
            }
            Err(Errno::INTR | Errno::NOBUFS) => true,
            Err(_) => false,
        }
    }
}

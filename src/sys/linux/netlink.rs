//! Sockets for nf_tables and for the kernel's reports of links, addresses and routes.
use crate::guard::clash::{Elements, Survey};
use crate::guard::found::{Found, flowtable_of};
use crate::guard::messages::{Ask, acknowledgements, ask, ask_of, attempt, remove, replace};
use crate::guard::netlink::{self as nl, DONE, DUMP, ERROR, INTERRUPTED, REQUEST, Writer};
use crate::guard::network::{Answers, Network, Wanted};
use crate::guard::offload::Others;
use crate::guard::table::{LEASES, Table};
use crate::policy::addresses::Prefix;
use crate::policy::routes::name_servers;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub mod conntrack;
pub mod queue;

/// `NETLINK_ROUTE` is 0, which is no protocol for rustix.
pub(super) const ROUTE: Option<Protocol> = None;
const NETFILTER: Option<Protocol> = Some(rustix::net::netlink::NETFILTER);
/// Bytes read at a time; the kernel's dumps come in pieces of at most 32 KiB.
pub(super) const PIECE: usize = 64 * 1024;
/// The same of a dump that is asked for often: the kernel makes pieces no larger.
const ADDRESSES: usize = 16 * 1024;
/// The same where it does not matter what is read.
const GLANCE: usize = 256;
/// Bytes of a batch and its answers that the kernel holds for us.
const BUFFER: usize = 4 << 20;
/// How long the kernel has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a dump is asked for again that was changed under way.
const DUMPS: u32 = 5;
/// Groups of `RTMGRP_*`: links, IPv4 addresses and routes, IPv6 addresses and routes.
const ROUTE_GROUPS: u32 = 1 | 0x10 | 0x40 | 0x100 | 0x400;
/// `NFNLGRP_NFTABLES` as a bit.
const TABLE_GROUP: u32 = 1 << 6;

/// A netlink socket.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    seq: u32,
    piece: Vec<u8>,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Netlink {
    /// `buffer`: bytes of ours that the kernel holds, of one that takes whole tables.
    pub(super) fn open(
        protocol: Option<Protocol>,
        groups: u32,
        piece: usize,
        buffer: Option<usize>,
    ) -> io::Result<Netlink> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        if let Some(buffer) = buffer {
            sockopt::set_socket_send_buffer_size_force(&fd, buffer)?;
            sockopt::set_socket_recv_buffer_size_force(&fd, buffer)?;
        }
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Netlink { fd, seq: 1, piece: vec![0; piece] })
    }

    /// The number of the next request.
    pub(super) fn next(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// The socket's number, which reports of what it asked for bear.
    pub(super) fn port(&self) -> io::Result<u32> {
        let address = SocketAddrNetlink::try_from(rustix::net::getsockname(&self.fd)?)?;
        Ok(address.pid())
    }

    /// Sends requests and waits until each is acknowledged.
    pub(super) fn request(&mut self, batch: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.fd, batch, SendFlags::empty())?;
        let mut asked: Vec<u32> = nl::messages(batch).map(|m| m.seq).collect();
        let mut failed = None;
        while !asked.is_empty() {
            let (read, _) = rustix::net::recv(&self.fd, &mut self.piece[..], RecvFlags::empty())?;
            for message in nl::messages(self.piece.get(..read).unwrap_or_default()) {
                if message.kind == ERROR && asked.contains(&message.seq) {
                    asked.retain(|seq| *seq != message.seq);
                    failed = failed.or_else(|| failure(&message));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What was reported and has not been read: each message to `take`; `false` if some was lost.
    pub(super) fn reported(&mut self, mut take: impl FnMut(&nl::Message<'_>)) -> bool {
        loop {
            match rustix::net::recv(&self.fd, &mut self.piece[..], RecvFlags::DONTWAIT) {
                Ok((read, _)) => {
                    nl::messages(self.piece.get(..read).unwrap_or_default()).for_each(|m| take(&m))
                }
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Throws away what was reported; whether there was anything.
    pub fn drain(&mut self) -> bool {
        self.drain_of(|_| true)
    }

    /// The same; whether any of it was not asked for by the socket of this number.
    pub fn drain_of_others(&mut self, own: u32) -> bool {
        self.drain_of(|datagram| nl::port_of(datagram) != Some(own))
    }

    fn drain_of(&mut self, counts: impl Fn(&[u8]) -> bool) -> bool {
        let mut any = false;
        loop {
            match rustix::net::recv(&self.fd, &mut self.piece[..], RecvFlags::DONTWAIT) {
                Ok((read, _)) => any |= counts(self.piece.get(..read).unwrap_or_default()),
                Err(Errno::INTR) => {}
                // What did not fit is lost, which is a report as well.
                Err(Errno::NOBUFS) => any = true,
                Err(_) => return any,
            }
        }
    }

    /// Sends a question and takes the pieces of its answer; `Ok(false)` if it was changed under way.
    pub(super) fn dump(
        &mut self,
        question: &[u8],
        mut take: impl FnMut(&nl::Message<'_>),
    ) -> io::Result<bool> {
        rustix::net::send(&self.fd, question, SendFlags::empty())?;
        let mut whole = true;
        loop {
            let (read, _) = rustix::net::recv(&self.fd, &mut self.piece[..], RecvFlags::empty())?;
            for message in nl::messages(self.piece.get(..read).unwrap_or_default()) {
                if message.seq != self.seq {
                    continue;
                }
                whole &= message.flags & INTERRUPTED == 0;
                match message.kind {
                    DONE => return Ok(whole),
                    ERROR => return failure(&message).map_or(Ok(whole), Err),
                    _ => take(&message),
                }
            }
        }
    }
}

/// What `read` makes of one dump or several; again, some times, while it has none because one was changed under way.
///
/// # Errors
/// That of `read`, or all of them were changed.
pub(super) fn until_whole<T>(mut read: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    for _ in 0..DUMPS {
        if let Some(found) = read()? {
            return Ok(found);
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// The error of an `NLMSG_ERROR`; 0 is an acknowledgement.
pub(super) fn failure(message: &nl::Message<'_>) -> Option<io::Error> {
    let number = nl::u32_at(message.body, 0)?.cast_signed();
    (number != 0).then(|| io::Error::from_raw_os_error(number.saturating_neg()))
}

/// nf_tables.
#[derive(Debug)]
pub struct Tables(Netlink);

impl Tables {
    /// # Errors
    /// The kernel's: it has no nf_tables, or no descriptor is left.
    pub fn open() -> io::Result<Tables> {
        Netlink::open(NETFILTER, 0, PIECE, Some(BUFFER)).map(Tables)
    }

    /// The number that reports of what is changed here bear.
    ///
    /// # Errors
    /// The kernel's.
    pub fn number(&self) -> io::Result<u32> {
        self.0.port()
    }

    /// A socket that becomes readable whenever a table changes.
    ///
    /// # Errors
    /// As [`Tables::open`].
    pub fn monitor() -> io::Result<Netlink> {
        Netlink::open(NETFILTER, TABLE_GROUP, GLANCE, Some(BUFFER))
    }

    /// Puts a table in the place of what has its name, in one transaction.
    ///
    /// # Errors
    /// The kernel's; then all is as it was.
    pub fn replace(&mut self, table: &Table) -> io::Result<()> {
        self.carry_out(&replace(table))
    }

    /// Takes the table of a name away, if there is one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        self.carry_out(&remove(name))
    }

    /// Asks whether the kernel would take a table; it is not put in force. The name must be nobody's.
    ///
    /// # Errors
    /// The kernel's, for the first part that it would not take.
    pub fn attempt(&mut self, table: &Table) -> io::Result<()> {
        self.carry_out(&attempt(table))
    }

    /// Carries out a transaction.
    ///
    /// # Errors
    /// The kernel's; then all is as it was.
    pub fn carry_out(&mut self, batch: &[u8]) -> io::Result<()> {
        let socket = &mut self.0;
        // Answers to what failed before must not be taken for this one's.
        socket.drain();
        rustix::net::send(&socket.fd, batch, SendFlags::empty())?;
        let (mut missing, mut failed) = (acknowledgements(batch), None);
        while missing > 0 {
            let (read, _) = match rustix::net::recv(&socket.fd, &mut socket.piece[..], RecvFlags::empty()) {
                // A batch that fails as a whole has one error and no acknowledgements.
                Err(Errno::AGAIN) => return Err(failed.unwrap_or(io::ErrorKind::TimedOut.into())),
                read => read?,
            };
            for message in nl::messages(socket.piece.get(..read).unwrap_or_default()) {
                missing = missing.saturating_sub(1);
                if let Some(e) = failure(&message).filter(|_| message.kind == ERROR) {
                    return Err(failed.take().unwrap_or(e));
                }
            }
        }
        Ok(())
    }

    /// The table as the kernel has it.
    ///
    /// # Errors
    /// The kernel's, or it changes faster than it can be read.
    pub fn read(&mut self, name: &str) -> io::Result<Found> {
        until_whole(|| {
            self.0.drain();
            let mut found = Found::of(name);
            let mut whole = true;
            for what in [Ask::Table, Ask::Chains, Ask::Rules, Ask::Sets, Ask::Objects, Ask::Flowtables] {
                whole &= self.ask(name, what, &mut found)?;
            }
            for set in found.sets() {
                whole &= self.ask(name, Ask::Elements(&set), &mut found)?;
            }
            Ok(whole.then_some(found))
        })
    }

    /// The counters alone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&mut self, name: &str) -> io::Result<Found> {
        let mut found = Found::of(name);
        self.ask(name, Ask::Objects, &mut found)?;
        Ok(found)
    }

    /// Flowtables of tables that are not of leases.
    ///
    /// # Errors
    /// The kernel's, or they change faster than they can be read.
    pub fn others_flowtables(&mut self) -> io::Result<Others> {
        until_whole(|| {
            let mut others = Others::default();
            let whole = self.all(Ask::Flowtables, |m| {
                let Some(other) = flowtable_of(m).filter(|f| f.table != LEASES) else { return };
                others.any = true;
                if other.hardware {
                    others.hardware.get_or_insert_with(|| other.table.to_owned());
                } else if !other.counts {
                    others.uncounted.get_or_insert_with(|| other.table.to_owned());
                }
            })?;
            Ok(whole.then_some(others))
        })
    }

    /// Looks through the chains and rules of all tables, and the sets that they name.
    ///
    /// # Errors
    /// The kernel's, or they change faster than they can be read.
    pub fn survey(&mut self, survey: &mut Survey) -> io::Result<()> {
        let mut whole = self.all(Ask::Chains, |m| survey.take_chain(m))?;
        whole &= self.all(Ask::Rules, |m| survey.take_rule(m))?;
        for set in survey.sets() {
            let question = ask_of(Some((set.family, &set.table)), Ask::Elements(&set.set), self.0.next());
            let mut elements = Elements::default();
            match self.0.dump(&question, |m| elements.take(m)) {
                // Gone with its rule, which then was read too early.
                Err(e) if e.kind() == io::ErrorKind::NotFound => whole = false,
                read => whole &= read?,
            }
            survey.resolve(&set, &elements);
        }
        if whole { Ok(()) } else { Err(io::ErrorKind::ResourceBusy.into()) }
    }

    /// What all tables have of a kind.
    fn all(&mut self, what: Ask<'_>, take: impl FnMut(&nl::Message<'_>)) -> io::Result<bool> {
        let question = ask_of(None, what, self.0.next());
        self.0.dump(&question, take)
    }

    fn ask(&mut self, name: &str, what: Ask<'_>, found: &mut Found) -> io::Result<bool> {
        let question = ask(name, what, self.0.next());
        match self.0.dump(&question, |m| found.take(m)) {
            // Without a table there is nothing in it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            answer => answer,
        }
    }
}

/// Links, addresses and routes.
#[derive(Debug)]
pub struct Routes(Netlink);

impl Routes {
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn open() -> io::Result<Routes> {
        Netlink::open(ROUTE, 0, PIECE, None).map(Routes)
    }

    /// A socket that becomes readable whenever one of them changes.
    ///
    /// # Errors
    /// As [`Routes::open`].
    pub fn monitor() -> io::Result<Netlink> {
        Netlink::open(ROUTE, ROUTE_GROUPS, GLANCE, None)
    }

    /// Where the machine stands now.
    ///
    /// # Errors
    /// The kernel's, or it changes faster than it can be read.
    pub fn read(&mut self, wanted: &Wanted) -> io::Result<Network> {
        let answers = until_whole(|| {
            let mut answers = Answers::default();
            let mut whole = true;
            // `RTM_GETLINK`, `RTM_GETADDR`, `RTM_GETROUTE`, each with the largest of their headers.
            for kind in [18, 22, 26] {
                let mut w = Writer::default();
                w.message((kind, REQUEST | DUMP, self.0.next()), &[0; 16], |_| {});
                whole &= self.0.dump(&w.finish(), |m| answers.take(m))?;
            }
            Ok(whole.then_some(answers))
        })?;
        let mut resolvers = Vec::new();
        for path in super::routes::RESOLVERS {
            let text = super::routes::table_if_any(path)?;
            resolvers.extend(name_servers(&text).map(|p| p.0));
        }
        resolvers.sort_unstable();
        resolvers.dedup();
        Ok(answers.network(wanted, resolvers))
    }
}

/// The addresses of all interfaces, as [`Answers::addresses`] has them.
///
/// Not by `getifaddrs`: musl's walk over attributes (`RTA_NEXT`, `src/network/netlink.h`) never ends where one says that it has no length, as under
/// qemu's emulation of big-endian processors.
///
/// # Errors
/// The kernel's, or they change faster than they can be read.
pub(super) fn addresses() -> io::Result<Vec<Prefix>> {
    let mut socket = Netlink::open(ROUTE, 0, ADDRESSES, None)?;
    until_whole(|| {
        let mut answers = Answers::default();
        let mut w = Writer::default();
        // `RTM_GETADDR` with `struct ifaddrmsg`: of any family.
        w.message((22, REQUEST | DUMP, socket.next()), &[0; 8], |_| {});
        let whole = socket.dump(&w.finish(), |m| answers.take(m))?;
        Ok(whole.then(|| answers.addresses()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::wan::Choice;

    #[test]
    fn the_kernels_routes_are_those_of_proc() {
        let wanted = Wanted { choice: Choice::Auto, binds: true };
        let network = Routes::open().unwrap().read(&wanted).unwrap();
        // What is special anyway (the multicast route) need not be told.
        let (v4, v6) = crate::guard::ranges::denied(&network.inside);
        for (address, bits) in super::super::routes::own_networks().unwrap() {
            assert!(v4.contains(address) || v6.contains(address), "{address}/{bits} in {network:?}");
        }
    }
}

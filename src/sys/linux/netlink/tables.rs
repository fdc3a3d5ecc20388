//! Tables of nf_tables: put in force, read back, looked through, watched.
use super::{BUFFER, GLANCE, NETFILTER, Netlink, PIECE, failure, until_whole};
use crate::guard::clash::{Elements, Survey};
use crate::guard::found::{Found, flowtable_of};
use crate::guard::messages::{Ask, acknowledgements, ask, ask_of, attempt, remove, replace};
use crate::guard::netlink::{self as nl, ERROR};
use crate::guard::offload::Others;
use crate::guard::table::{LEASES, Table};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::io;

/// `NFNLGRP_NFTABLES` as a bit.
const TABLE_GROUP: u32 = 1 << 6;

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

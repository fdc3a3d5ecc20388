//! The second count of leases' packets in the kernel: put there with the table of leases, read with each count, gone with it.
//!
//! It decides nothing: where it cannot be had, leases go on, and the reason is told.
use super::lease_count::{Places, Sums, render};
use super::lease_rules::LeaseScope;
use super::lease_set::watch;
use super::lease_wire::{Checked, Counted, Grant, LeaseReport};
use super::network::Network;
use super::table::COUNTING;
use crate::sys::linux::netlink::Tables;
use crate::sys::linux::offload::places;
use std::io;

/// The table that stands.
#[derive(Debug)]
struct Standing {
    scope: LeaseScope,
    places: Places,
    outward: bool,
}

/// The second count.
#[derive(Debug, Default)]
pub struct Audit {
    sums: Sums,
    stands: Option<Standing>,
    /// Which ways are counted twice in this round: from buyers, and to them.
    counts: [bool; 2],
    why: String,
}

impl Audit {
    /// The table of leases was put in force.
    pub fn begin(&mut self, tables: &mut Tables, scope: &LeaseScope, network: &Network) {
        let put = places(network).and_then(|places| put(tables, *scope, &places, &[]));
        self.sums.from_zero();
        self.stand(put);
    }

    fn stand(&mut self, put: Result<Standing, String>) {
        let (counts, why) = match &put {
            Ok(Standing { outward: true, .. }) => ([true; 2], String::new()),
            Ok(_) => ([true, false], "the kernel has no place to count what leaves (Linux 5.16)".to_owned()),
            Err(why) => ([false; 2], why.clone()),
        };
        if counts != self.counts {
            self.sums.begin();
        }
        (self.counts, self.why, self.stands) = (counts, why, put.ok());
    }

    /// A lease is about to be there.
    pub fn add(&mut self, tables: &mut Tables, grant: &Grant) {
        self.change(tables, grant, true);
    }

    /// A lease and its connections are gone.
    pub fn remove(&mut self, tables: &mut Tables, grant: &Grant) {
        self.change(tables, grant, false);
    }

    fn change(&mut self, tables: &mut Tables, grant: &Grant, on: bool) {
        if self.stands.is_some()
            && let Err(e) = tables.carry_out(&watch(grant, on))
        {
            self.give_up(tables, &e);
        }
    }

    /// The counters of all connections.
    pub fn count(&mut self, tables: &mut Tables, list: &[Counted]) {
        self.sums.all(list);
        self.read(tables);
    }

    /// The last ones of one.
    pub fn closed(&mut self, counted: &Counted) {
        self.sums.closed(counted);
    }

    fn read(&mut self, tables: &mut Tables) {
        let Some(standing) = &self.stands else { return };
        match tables.counters(COUNTING) {
            Ok(found) if self.sums.read(&found, standing.places.headers) => {}
            Ok(_) => self.sums.begin(),
            Err(e) => self.give_up(tables, &e),
        }
    }

    /// Somebody may have changed the table: then both counts begin anew.
    pub fn verify<'a>(&mut self, tables: &mut Tables, grants: impl Iterator<Item = &'a Grant>) {
        let Some(Standing { scope, places, outward }) = &self.stands else { return };
        let grants: Vec<Grant> = grants.copied().collect();
        let wanted = render(scope, places, *outward, &grants).table;
        if tables.read(COUNTING).is_ok_and(|found| found.table() == Some(&wanted)) {
            return;
        }
        crate::warn!("the second count of leases begins anew: another program has changed its table");
        let put = put(tables, *scope, places, &grants);
        self.sums.begin();
        self.stand(put);
    }

    /// All leases have ended: the last reading, and the table goes.
    pub fn end(&mut self, tables: &mut Tables) {
        self.read(tables);
        self.sums.all(&[]);
        self.stands = None;
        // A kernel without the family has no such table either.
        if let Err(e) = tables.remove(COUNTING) {
            crate::debug!("no table {COUNTING} is taken away: {e}");
        }
    }

    fn give_up(&mut self, tables: &mut Tables, e: &io::Error) {
        crate::warn!("leases are not counted a second time: {e}");
        self.stand(Err(format!("the kernel does not count: {e}")));
        if let Err(e) = tables.remove(COUNTING) {
            crate::warn!("table {COUNTING} cannot be taken away: {e}");
        }
    }

    /// Both counts.
    pub fn report(&self) -> LeaseReport {
        let Sums { round, flows, tracked, seen, .. } = self.sums;
        let why = self.why.clone();
        LeaseReport::Checked(Checked { round, flows, counts: self.counts, tracked, seen, why })
    }
}

/// Puts the table in force; without a place behind the routes where there is none.
fn put(
    tables: &mut Tables,
    scope: LeaseScope,
    places: &Places,
    grants: &[Grant],
) -> Result<Standing, String> {
    if !places.have_room() {
        return Err("there is no line, or it has more than four devices".to_owned());
    }
    let mut failed = None;
    for outward in [true, false] {
        match tables.replace(&render(&scope, places, outward, grants).table) {
            Ok(()) => return Ok(Standing { scope, places: places.clone(), outward }),
            Err(e) => failed = Some(e),
        }
    }
    let e = failed.map(|e| e.to_string()).unwrap_or_default();
    Err(format!("the kernel counts at no device (OpenWrt: kmod-nft-netdev): {e}"))
}

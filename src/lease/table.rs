//! The leases that `run` has given out: whose they are, which port each has, until when, and what ends them.
//!
//! A lease's port stays taken until the guard has said that nothing of the lease is left in the kernel, and then rests:
//! a straggler of the old lease must not meet a new one. Tables are small (at most [`MAX_LEASES`]), so they are searched
//! from one end to the other.
pub use crate::guard::lease_wire::LeaseNo;
use crate::mutant::out;
use crate::sorted::SortedMap;
use std::net::IpAddr;
use std::rc::Rc;

/// Leases of all sessions.
pub const MAX_LEASES: usize = 256;
/// Leases of one session.
pub const MAX_PER_SESSION: usize = 64;
/// How long a lease holds if nobody renews it, milliseconds.
pub const TTL_MS: u64 = 600_000;
/// How much of it has to be over before a lease is renewed, milliseconds: each time is a transaction of the guard's, who ends
/// connections between them, and fills the kernel's limit of new connections again.
pub const RENEWAL_PAUSE_MS: u64 = 10_000;
/// How long a port rests if others are to be had, milliseconds: as long as conntrack remembers a closed connection
/// (`nf_conntrack_tcp_timeout_time_wait`).
pub const REST_MS: u64 = 120_000;
/// How long it rests at least, milliseconds.
pub const MIN_REST_MS: u64 = 5_000;

/// What a buyer asks for and policy has granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The session that pays.
    pub session: Rc<str>,
    /// The buyer's TLS connection, by the caller's number: the lease ends with it.
    pub connection: u64,
    /// Where that connection comes from; flows may come from nowhere else.
    pub buyer: IpAddr,
    /// Name of the origin, in lower case: what the SNI must be.
    pub host: Rc<str>,
    /// The checked address, of the buyer's family. It never changes.
    pub target: IpAddr,
    /// Whether the session has a rate cap, and so needs a class of its own in the shaper.
    pub capped: bool,
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The guard was asked for it and has not answered.
    Asked,
    /// It is in the kernel.
    Granted,
    /// The guard was asked to end it and has not said that it has.
    Ending,
}

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its number towards the guard.
    pub no: LeaseNo,
    /// Its name towards the buyer: 128 random bits in hexadecimal.
    pub id: String,
    /// What it was given for.
    pub ask: Ask,
    /// The port of the router that it listens at.
    pub port: u16,
    /// The session's number for the shaper, from 1 to 64; 0 without a cap.
    pub class: u16,
    /// Monotonic milliseconds at which it expires.
    pub expires_ms: u64,
    /// Where it stands.
    pub state: State,
}

impl Lease {
    /// Whole seconds until it expires, for the guard's timeout: rounded up, so that the table's own expiry comes first.
    pub fn ttl_s(&self, now_ms: u64) -> u16 {
        self.expires_ms.saturating_sub(now_ms).div_ceil(1000).try_into().unwrap_or(u16::MAX)
    }
}

/// Why there is no lease to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The node has [`MAX_LEASES`], or no port is free: it may have one later.
    Node,
    /// The session has [`MAX_PER_SESSION`].
    Session,
}

/// Unpredictable bytes for one lease, from the system's generator.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    /// For the name.
    pub id: [u8; 16],
    /// For the port.
    pub port: u64,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    ports: (u16, u16),
    last: LeaseNo,
    leases: SortedMap<LeaseNo, Lease>,
    /// Ports that were in use, and when each was given back.
    resting: SortedMap<u16, u64>,
}

impl Table {
    /// An empty table that takes ports from `ports`, both ends included.
    pub fn new(ports: (u16, u16)) -> Table {
        Table { ports, last: 0, leases: SortedMap::new(), resting: SortedMap::new() }
    }

    /// Enters a lease, which the guard is then to be asked for.
    ///
    /// # Errors
    /// A bound is met, or every port is taken or rests.
    pub fn ask(&mut self, ask: Ask, random: Random, now_ms: u64) -> Result<&Lease, Full> {
        let of_session = self.leases.values().filter(|l| l.ask.session == ask.session).count();
        if of_session >= MAX_PER_SESSION && !out("lease-session-limit") {
            return Err(Full::Session);
        }
        if self.leases.len() >= MAX_LEASES {
            return Err(Full::Node);
        }
        let class = if ask.capped { self.class(&ask.session).ok_or(Full::Node)? } else { 0 };
        let port = self.free_port(random.port, now_ms).ok_or(Full::Node)?;
        let no = self.next_no();
        let id = random.id.iter().map(|b| format!("{b:02x}")).collect();
        let expires_ms = now_ms + TTL_MS;
        self.resting.remove(&port);
        self.leases.insert(no, Lease { no, id, ask, port, class, expires_ms, state: State::Asked });
        self.leases.get(&no).ok_or(Full::Node)
    }

    /// The guard has put it into the kernel. False if it is being ended already, or unknown.
    pub fn granted(&mut self, no: LeaseNo) -> bool {
        match self.leases.get_mut(&no) {
            Some(lease) if lease.state == State::Asked => {
                lease.state = State::Granted;
                true
            }
            _ => false,
        }
    }

    /// The guard has refused it, or has ended it: nothing of it is in the kernel. Its port rests.
    pub fn ended(&mut self, no: LeaseNo, now_ms: u64) -> Option<Lease> {
        let lease = self.leases.remove(&no)?;
        self.resting.insert(lease.port, now_ms);
        Some(lease)
    }

    /// Nothing of any lease is in the kernel any more.
    pub fn gone(&mut self, now_ms: u64) -> Vec<Lease> {
        let all: Vec<Lease> = std::mem::take(&mut self.leases).into_values().collect();
        self.resting.extend(all.iter().map(|l| (l.port, now_ms)));
        all
    }

    /// A session's lease by its name. Another session's is not found: a name alone opens nothing.
    pub fn find(&self, id: &str, session: &str) -> Option<&Lease> {
        let mine = |l: &&Lease| l.id == id && (*l.ask.session == *session || out("lease-owner"));
        self.leases.values().find(mine).filter(|l| l.state != State::Ending)
    }

    /// The lease behind a number.
    pub fn get(&self, no: LeaseNo) -> Option<&Lease> {
        self.leases.get(&no)
    }

    /// The granted lease that a packet from `buyer` to this port belongs to.
    pub fn at_port(&self, port: u16, buyer: IpAddr) -> Option<&Lease> {
        let buyer = buyer.to_canonical();
        let hers = |l: &&Lease| l.ask.buyer.to_canonical() == buyer || out("lease-buyer-address");
        self.leases.values().find(|l| l.port == port && l.state == State::Granted).filter(hers)
    }

    /// Makes a granted lease hold for [`TTL_MS`] from now, unless that was just done; whether the guard is to be told. `None` if it
    /// is none, or its time is already over.
    pub fn renew(&mut self, no: LeaseNo, now_ms: u64) -> Option<(&Lease, bool)> {
        let lease =
            self.leases.get_mut(&no).filter(|l| l.state == State::Granted && now_ms < l.expires_ms)?;
        let is_due = lease.expires_ms + RENEWAL_PAUSE_MS <= now_ms + TTL_MS || out("lease-renewal-pause");
        if is_due {
            lease.expires_ms = now_ms + TTL_MS;
        }
        Some((lease, is_due))
    }

    /// Begins to end one lease; true if the guard is to be told.
    pub fn end(&mut self, no: LeaseNo) -> bool {
        !self.end_where(|l| l.no == no).is_empty()
    }

    /// The buyer's connection is over: the leases that the guard is to be told to end.
    pub fn end_of_connection(&mut self, connection: u64) -> Vec<LeaseNo> {
        self.end_where(|l| l.ask.connection == connection)
    }

    /// Rules have changed: ends the leases that they refuse now.
    pub fn end_where(&mut self, over: impl Fn(&Lease) -> bool) -> Vec<LeaseNo> {
        let hit = self.leases.values_mut().filter(|l| l.state != State::Ending && over(l));
        hit.map(|lease| {
            lease.state = State::Ending;
            lease.no
        })
        .collect()
    }

    /// Ends what nobody has renewed in time, its flows included.
    pub fn expire(&mut self, now_ms: u64) -> Vec<LeaseNo> {
        self.end_where(|l| now_ms >= l.expires_ms && !out("lease-expiry"))
    }

    /// Monotonic milliseconds at which [`Table::expire`] has something to do next.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.leases.values().filter(|l| l.state != State::Ending).map(|l| l.expires_ms).min()
    }

    /// Every lease, those that are being ended included.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// A port that nobody has, chosen by `random` among those that have rested; if there is none, the one that has
    /// rested longest.
    fn free_port(&self, random: u64, now_ms: u64) -> Option<u16> {
        let rested = |port: &u16| match self.resting.get(port) {
            Some(since) => now_ms.saturating_sub(*since) >= REST_MS,
            None => !self.leases.values().any(|l| l.port == *port),
        };
        let (first, last) = self.ports;
        let count = u64::from(last.saturating_sub(first)) + 1;
        let offset = u16::try_from(random % count).unwrap_or(0);
        let start = first.saturating_add(offset);
        // The first one from a random place on: as hard to foresee as a free choice, for far less work.
        if let Some(port) = (start..=last).chain(first..start).find(rested) {
            return Some(port);
        }
        let (port, since) = self.resting.iter().min_by_key(|(_, since)| **since)?;
        (now_ms.saturating_sub(*since) >= MIN_REST_MS).then_some(*port)
    }

    /// The class of a session that has one, or else the lowest that is free.
    fn class(&self, session: &str) -> Option<u16> {
        let in_use = |l: &&Lease| l.class != 0;
        let mut hers = self.leases.values().filter(in_use).filter(|l| *l.ask.session == *session);
        let taken = |class: u16| self.leases.values().any(|l| l.class == class);
        hers.next().map(|l| l.class).or_else(|| (1..=64).find(|class| !taken(*class)))
    }

    fn next_no(&mut self) -> LeaseNo {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.leases.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

#[cfg(test)]
mod tests;

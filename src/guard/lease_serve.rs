//! Leases in the guard's loop: between `run`, the book of leases, the queue, connection tracking and the kernel's tables.
//!
//! One connection of `run`'s has the leases. When it ends, says nothing while connections live, or anything is not as it should be,
//! all of them end: the connections that are known are deleted at once; then the table is put in force without leases, so that
//! nothing undecided passes and nothing begins; then connections are deleted until the kernel has none; then the table goes.
mod ability;
mod in_kernel;
mod packets;

use self::ability::{DECIDE_MS, Grounds};
use self::packets::Gone;
use super::clients::Clients;
use super::draft::Rendered;
use super::lease_audit::Audit;
use super::lease_caps::LeaseCaps;
use super::lease_flows::{Flows, MAX_FLOWS};
use super::lease_kernel::{Kernel, Woken};
use super::lease_unheard::Unheard;
use super::lease_wire::{
    Ability, Counted, CtId, Denial, Grant, LeaseReport, LeaseRequest, MAX_COUNTED, Offload, Verdict,
};
use super::leases::{Action, Book, Site};
use super::network::Network;
use super::offload::Decision;
use super::protocol::Report;
use super::ranges::{Ranges, denied};
use super::scope::Scope;
use crate::sorted::SortedSet;
use crate::sys::linux::iptables::Iptables;
use crate::sys::linux::netlink::Tables;
use crate::sys::linux::offload::Answers;
use std::task::{Context, Poll};

/// How long `run` may say nothing while connections live, milliseconds: it asks for their counters every second.
const SILENCE_MS: u64 = 10_000;
/// How long connections that are to end are gathered, milliseconds: the kernel has to be asked for all that it has before and
/// after, for many as for one. After a flood that is done for hundreds.
const GATHER_MS: u64 = 5;
/// So many of them are not gathered any longer.
const MAX_DOOMED: usize = MAX_FLOWS as usize;
/// How often packets are looked for that have waited too long, milliseconds.
const LATE_MS: u64 = 1_000;

/// What of the guard's the leases need.
pub struct Around<'a> {
    /// The kernel's tables.
    pub tables: &'a mut Tables,
    /// Those that they do not show.
    pub iptables: &'a Iptables,
    /// `run`.
    pub clients: &'a mut Clients,
    /// What the owner wants.
    pub scope: &'a Scope,
    /// Where the router stands.
    pub network: &'a Network,
    /// Monotonic milliseconds.
    pub now_ms: u64,
}

/// The leases' side of the guard.
#[derive(Debug)]
pub struct Desk {
    kernel: Result<Kernel, String>,
    /// How leases are carried, or why there can be none; decided anew from time to time.
    way: Result<Decision, String>,
    decide_ms: u64,
    grounds: Grounds,
    answers: Answers,
    ability: Ability,
    book: Book,
    flows: Flows,
    caps: LeaseCaps,
    audit: Audit,
    /// The connection that has the leases, and when it last said something.
    holder: Option<(u64, u64)>,
    unheard: Unheard,
    /// The table that stands, while leases live.
    rendered: Option<Rendered>,
    denied: (Ranges, Ranges),
    /// All leases are to end, and have not yet; when that is tried again.
    owed_ms: Option<u64>,
    late_ms: u64,
    /// Connections that `run` wants ended, and when they are.
    doomed: SortedSet<CtId>,
    doom_ms: Option<u64>,
}

impl Desk {
    /// Of a guard that begins: whatever was there of leases ends.
    pub fn start(around: &mut Around<'_>) -> Desk {
        let kernel = Kernel::open(around.scope);
        let (grounds, mut answers) = (Grounds::of(around), Answers::default());
        let mut desk = Desk {
            kernel,
            way: grounds.way(&mut answers, around),
            answers,
            decide_ms: around.now_ms.saturating_add(DECIDE_MS),
            ability: Ability {
                possible: false,
                offload: Offload::Plain,
                caps: false,
                reason: String::new(),
                max_flows: grounds.most,
            },
            book: Book::default(),
            flows: Flows::new(grounds.most),
            grounds,
            caps: LeaseCaps::default(),
            audit: Audit::default(),
            holder: None,
            unheard: Unheard::default(),
            rendered: None,
            denied: denied(&around.network.inside),
            owed_ms: None,
            late_ms: 0,
            doomed: SortedSet::new(),
            doom_ms: None,
        };
        desk.hear_of_ends();
        desk.end_all(around);
        desk.ability = desk.able();
        desk
    }

    /// Whether the kernel has something to say.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Woken> {
        let Ok(kernel) = &self.kernel else { return Poll::Pending };
        match kernel.poll_next(cx) {
            Poll::Pending => self.caps.poll_next(cx).map(|()| Woken::Caps),
            woken => woken,
        }
    }

    /// The kernel has something to say.
    pub fn wake(&mut self, woken: Woken, around: &mut Around<'_>) {
        match woken {
            Woken::Packet => _ = self.take_packet(&mut Gone::new(&|_, _| false), around),
            Woken::End => self.take_ends(1, around),
            Woken::Caps => {
                self.caps.wake(around.network);
                self.mind_caps(around);
            }
        }
    }

    /// The connection that has the leases.
    pub fn holder(&self) -> Option<u64> {
        self.holder.map(|(client, _)| client)
    }

    /// Somebody has connected: perhaps `run`, whose connections ended when it was not there.
    pub fn welcome(&mut self, client: u64, around: &mut Around<'_>) {
        for counted in self.unheard.fresh(around.now_ms) {
            around.clients.answer(client, &Report::Lease(LeaseReport::Closed(counted)));
        }
    }

    /// What an earlier guard let begin ends now: with the kernel's last counters, if it reports them.
    fn hear_of_ends(&mut self) {
        if let Ok(Err(e)) = self.kernel.as_mut().map(Kernel::watch) {
            crate::warn!("last counters of connections are not known: {e}");
        }
    }

    fn say(&self, report: LeaseReport, around: &mut Around<'_>) {
        if let Some((client, _)) = self.holder {
            around.clients.answer(client, &Report::Lease(report));
        }
    }

    /// `run` asks for something.
    pub fn ask(&mut self, client: u64, request: LeaseRequest, around: &mut Around<'_>) {
        match &mut self.holder {
            Some((holder, _)) if *holder != client => {
                if let LeaseRequest::Grant(Grant { no, .. }) = request {
                    let denied = LeaseReport::Denied { no, why: Denial::Failed };
                    around.clients.answer(client, &Report::Lease(denied));
                }
                return;
            }
            holder => *holder = Some((client, around.now_ms)),
        }
        match request {
            LeaseRequest::Grant(grant) => self.grant(grant, around),
            LeaseRequest::Renew { no, ttl_s } => {
                let actions = self.book.renew(no, ttl_s, around.now_ms);
                self.carry_out(actions, around);
            }
            LeaseRequest::End { no } => {
                let actions = self.book.end(no, around.now_ms);
                self.carry_out(actions, around);
            }
            LeaseRequest::EndAll => self.end_all(around),
            LeaseRequest::Verdict { packet, what } => {
                let what = self.under_cap(packet, what);
                let Ok(kernel) = &self.kernel else { return };
                let marks = (kernel.marks.accepted, kernel.marks.refused);
                kernel.say(self.flows.judge(packet, what, marks));
                self.mind_caps(around);
            }
            LeaseRequest::Kill { ct } => {
                self.doomed.insert(ct);
                let full = self.doomed.len() >= MAX_DOOMED;
                let due = if full { around.now_ms } else { around.now_ms.saturating_add(GATHER_MS) };
                self.doom_ms = Some(self.doom_ms.map_or(due, |earlier| earlier.min(due)));
            }
            LeaseRequest::Count => self.count(client, around),
        }
    }

    /// A connection is not accepted before it is under its session's cap.
    fn under_cap(&mut self, packet: u32, what: Verdict) -> Verdict {
        let Some((ct, original, answer)) = self.flows.of(packet).filter(|_| what == Verdict::Accept) else {
            return what;
        };
        let lease = self.book.of(original.from.ip(), original.to.port());
        let begun = match lease {
            Some(lease) => self.caps.begin(lease.class, ct, original, answer),
            None => Err("its lease has ended".to_owned()),
        };
        begun.map_or_else(
            |e| {
                crate::warn!("a connection of a lease is refused: {e}");
                Verdict::Refuse
            },
            |()| what,
        )
    }

    fn grant(&mut self, grant: Grant, around: &mut Around<'_>) {
        let no = grant.no;
        let is_capped = grant.cap_kbps != 0 || grant.class != 0;
        let actions = match &around.scope.leases {
            Some(scope) if !is_capped || self.ability.caps && grant.class != 0 => {
                let denied = (&self.denied.0, &self.denied.1);
                let possible = self.ability.possible;
                let site = Site { scope, denied, possible };
                self.book.grant(grant, &site, around.now_ms)
            }
            _ => vec![Action::Say(LeaseReport::Denied { no, why: Denial::Failed })],
        };
        self.carry_out(actions, around);
    }

    /// Counters of all connections; not past what `run` has not read yet: it asks again.
    fn count(&mut self, client: u64, around: &mut Around<'_>) {
        self.take_ends(MAX_FLOWS as usize, around);
        let Ok(kernel) = &mut self.kernel else { return };
        if !around.clients.is_clear(client) {
            return;
        }
        let list = match kernel.conntrack.list(kernel.marks.lease) {
            Ok(list) => list,
            Err(e) => return crate::warn!("connections of leases cannot be listed: {e}"),
        };
        let counted: Vec<Counted> = list.iter().map(|e| e.counted).collect();
        self.audit.count(around.tables, &counted);
        // What has come meanwhile is in the list's counters, or has ended and is not in the list.
        self.take_ends(MAX_FLOWS as usize, around);
        let closed = self.flows.compare(&list);
        self.say_closed(closed, around);
        if list.iter().any(|e| !e.is_counted) {
            crate::error!(
                "leases end: the kernel has a connection that it does not count (net.netfilter.nf_conntrack_acct)"
            );
            self.decide(around);
            return self.end_all(around);
        }
        self.say(self.audit.report(), around);
        let mut rest = counted.as_slice();
        loop {
            let (some, after) = rest.split_at(rest.len().min(MAX_COUNTED));
            let last = after.is_empty();
            self.say(LeaseReport::Counts { list: some.to_vec(), last }, around);
            if last {
                break;
            }
            rest = after;
        }
    }

    /// When [`Desk::do_what_is_due`] has something to do.
    pub fn due_ms(&self) -> Option<u64> {
        let late = (!self.flows.is_empty()).then_some(self.late_ms);
        let dues = [self.book.due_ms(), self.owed_ms, late, self.caps.due_ms(), self.doom_ms];
        dues.into_iter().flatten().min()
    }

    /// Leases that are over, packets that nobody judged, a connection that is gone or silent, what could not be done before.
    pub fn do_what_is_due(&mut self, around: &mut Around<'_>) {
        if let Some((client, heard_ms)) = self.holder {
            if self.flows.silence_ms(heard_ms, around.now_ms) > SILENCE_MS {
                crate::error!("leases end: run says nothing");
                around.clients.remove(client);
            }
            if around.clients.find(client).is_none() {
                self.holder = None;
                self.end_all(around);
            }
        }
        self.kill_doomed(around);
        if self.owed_ms.is_some_and(|due| due <= around.now_ms) {
            self.end_all(around);
        }
        if self.book.due_ms().is_some_and(|due| due <= around.now_ms) {
            let actions = self.book.expire(around.now_ms);
            self.carry_out(actions, around);
        }
        if self.decide_ms <= around.now_ms {
            self.decide_again(around);
        }
        if self.caps.due_ms().is_some_and(|due| due <= around.now_ms) {
            self.caps.tidy(around.now_ms);
            self.mind_caps(around);
        }
        if self.late_ms <= around.now_ms {
            self.late_ms = around.now_ms.saturating_add(LATE_MS);
            if let Ok(kernel) = &self.kernel {
                kernel.say(self.flows.drop_late(around.now_ms));
            }
        }
    }
}

//! How leases are carried here, if they can be, and what `run` is told of it.
use super::{Around, Desk};
use crate::guard::draft::Rendered;
use crate::guard::lease_rules::render;
use crate::guard::lease_wire::{Ability, LeaseReport, MAX_REASON, Offload};
use crate::guard::offload::{Decision, Others, decide};
use crate::guard::protocol::Report;
use crate::guard::ranges::denied;
use crate::sys::linux::clash::claim;
use crate::sys::linux::netlink::conntrack;
use crate::sys::linux::offload::Answers;
use std::io;

/// How often it is decided anew how leases are carried, milliseconds: other programs' tables and disciplines change.
pub(super) const DECIDE_MS: u64 = 30_000;

/// Of the connections that the kernel keeps, leases have one in so many: the rest is the owner's.
const PART: u32 = 4;

impl Desk {
    /// What can be done with leases now.
    pub fn ability(&self) -> LeaseReport {
        LeaseReport::Able(self.ability.clone())
    }

    pub(super) fn able(&self) -> Ability {
        let (possible, offload, reason) = match (&self.kernel, &self.way, self.owed_ms) {
            (Err(why), ..) | (_, Err(why), _) => (false, Offload::Plain, why.clone()),
            (Ok(_), Ok(_), Some(_)) => {
                (false, Offload::Plain, "what was there of leases cannot be ended".to_owned())
            }
            (Ok(_), Ok(way), None) => (true, way.offload, way.reason.clone()),
        };
        let no_caps = self.way.as_ref().ok().and_then(|way| way.no_caps.as_deref());
        let obstacle = no_caps.or_else(|| self.caps.obstacle());
        let caps = obstacle.is_none();
        let mut reason = match obstacle {
            Some(why) if possible && reason.is_empty() => format!("no leases for sessions with a cap: {why}"),
            Some(why) if possible => format!("{reason}; no leases for sessions with a cap: {why}"),
            _ => reason,
        };
        while reason.len() > MAX_REASON {
            reason.pop();
        }
        Ability { possible, offload, caps, reason, max_flows: self.grounds.most }
    }

    fn tell_ability(&mut self, around: &mut Around<'_>) {
        let able = self.able();
        if able != self.ability {
            let can = if able.possible { "leases are possible" } else { "leases are not possible" };
            crate::info!("{can}: {:?}; {}", able.offload, able.reason);
            self.ability = able;
            around.clients.tell(&Report::Lease(self.ability()).encode());
        }
    }

    /// Where a cap is not in force any more, all leases end.
    pub(super) fn mind_caps(&mut self, around: &mut Around<'_>) {
        if self.caps.hold(self.book.grants()) {
            self.tell_ability(around);
        } else {
            match self.caps.went_with_the_line() {
                true => crate::info!("leases end: the line is gone, and their caps with it"),
                false => crate::error!("leases end: their caps are not in force"),
            }
            self.end_all(around);
        }
    }

    /// The network or what the owner wants may have changed.
    pub fn look_around(&mut self, around: &mut Around<'_>) {
        self.denied = denied(&around.network.inside);
        self.caps.look_around(around.network);
        self.carry_out(Vec::new(), around);
        self.decide(around);
    }

    /// Other programs may have taken from leases what they stand on, or given it back: nobody reports that.
    pub fn review(&mut self, around: &mut Around<'_>) {
        if self.kernel.is_ok() && Grounds::of(around) != self.grounds {
            self.decide(around);
        }
    }

    /// Decides anew after a while. What the kernel lacked it is asked for again, but not while leases live.
    pub(super) fn decide_again(&mut self, around: &mut Around<'_>) {
        self.reopen(around);
        if self.rendered.is_none() {
            self.answers.forget_what_is_missing();
        }
        self.decide(around);
    }

    /// Decides how leases are carried. Where that is another way than those that live have, they end.
    pub(super) fn decide(&mut self, around: &mut Around<'_>) {
        self.decide_ms = around.now_ms.saturating_add(DECIDE_MS);
        self.grounds = Grounds::of(around);
        self.flows.bound(self.grounds.most);
        self.way = self.grounds.way(&mut self.answers, around);
        if self.rendered.is_some() && self.rendered != self.wanted(around) {
            crate::info!("leases end: the network, the configuration or the way to carry them has changed");
            self.end_all(around);
        }
        self.tell_ability(around);
    }

    /// The table as it would be put in force now; none where there can be no leases.
    pub(super) fn wanted(&self, around: &Around<'_>) -> Option<Rendered> {
        let (way, leases) = self.way.as_ref().ok().zip(around.scope.leases.as_ref())?;
        Some(render(leases, around.network, way.flowtable.as_ref(), way.others))
    }
}

/// What leases stand on that other programs may change without a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grounds {
    /// Who else has ports of leases; that nobody can be asked counts as well.
    claimed: Option<String>,
    /// The kernel counts connections that begin now.
    counted: bool,
    /// Connections that leases may have: a part of those that the kernel keeps.
    pub most: u32,
    /// Flowtables of others, or why they are not known.
    others: Result<Others, String>,
}

impl Grounds {
    /// As they are now.
    pub fn of(around: &mut Around<'_>) -> Grounds {
        let others = around.tables.others_flowtables();
        let others = others.map_err(|e| format!("others' flowtables cannot be read: {e}"));
        let counted = conntrack::is_counting().unwrap_or(false);
        let most = conntrack::most().unwrap_or(0) / PART;
        Grounds { claimed: claimed(around), counted, most, others }
    }

    /// How leases are carried here.
    pub fn way(&self, answers: &mut Answers, around: &mut Around<'_>) -> Result<Decision, String> {
        let scope = around.scope.leases.as_ref().ok_or("lease.markMask has fewer than 4 bits")?;
        if let Some(whose) = &self.claimed {
            return Err(whose.clone());
        }
        if !self.counted {
            return Err(
                "connections are not counted: somebody has switched net.netfilter.nf_conntrack_acct off"
                    .to_owned(),
            );
        }
        let others = self.others.as_ref().map_err(Clone::clone)?;
        let facts = answers.facts(around.tables, scope, around.network, others);
        decide(around.scope.offload, &facts)
    }
}

fn claimed(around: &mut Around<'_>) -> Option<String> {
    let scope = around.scope.leases.as_ref()?;
    let unread = |e: io::Error| Some(format!("who else has the ports of leases cannot be found out: {e}"));
    claim(around.tables, around.iptables, scope, around.network).unwrap_or_else(unread)
}

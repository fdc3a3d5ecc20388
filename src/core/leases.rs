//! Sessions as the kernel path sees them, and what the node makes of the guard's word on leases.
use super::gate::FULL;
use super::node::Node;
use super::session::{At, Session};
use super::status::no_offload;
use crate::guard::found::Amount;
use crate::guard::lease_wire::{Checked, LeaseReport, Offload};
use crate::guard::scope::kbps;
use crate::json::{Value, object};
use crate::policy::decision::Standing as _;
use crate::policy::decision::{admit, judge_standing};
use crate::policy::refusal::Refusal;
use crate::session::limits::MAX_NEW_PER_SECOND;
use crate::session::{Denied, Flow, LeaseTerms, Target, Tenant, Way};
use std::net::IpAddr;
use std::rc::Rc;

/// A session whose buyer has asked for a lease.
pub struct Holder {
    /// The session.
    pub session: Rc<Session>,
    /// Where the buyer's connection came from, if the owner has that logged.
    pub from: Option<IpAddr>,
}

impl Tenant for Holder {
    fn session(&self) -> &Rc<str> {
        self.session.name()
    }

    fn terms(&self) -> LeaseTerms {
        let allowance = self.session.allowance.borrow();
        let limits = allowance.limits();
        let per_second = limits.max_new_per_second.unwrap_or(MAX_NEW_PER_SECOND).min(MAX_NEW_PER_SECOND);
        LeaseTerms {
            new_per_second: u16::try_from(per_second).unwrap_or(u16::MAX),
            cap_kbps: limits.max_mbps.map_or(0, kbps),
            until: self.session.order.expires_at,
        }
    }

    fn judge_aliases(&self, names: &[String]) -> Result<(), Refusal> {
        let rules = self.session.rules.borrow();
        names.iter().try_for_each(|name| rules.judge_alias(name))
    }

    fn admit(&self, target: &Target) -> Result<Flow, Denied> {
        let now = self.session.shared().ledger.now();
        let from = (self.from, Way::Kernel);
        let flow = admit(Ok(target), &At::kernel(&self.session, now, true))
            .and_then(|()| self.session.open_flow(target, from, now).ok_or(FULL));
        if let Err(denied) = &flow {
            self.refused(target, denied.refusal);
        }
        flow
    }

    fn still_allowed(&self, target: &Target, aliases: &[String]) -> bool {
        let at = At::kernel(&self.session, self.session.shared().ledger.now(), true);
        judge_standing(&at).is_ok()
            && at.host_allowed(&target.host, target.port)
            && self.judge_aliases(aliases).is_ok()
            && at.quota_wait().is_none()
    }

    fn refused(&self, target: &Target, refusal: Refusal) {
        self.session.refused(&target.host, target.port, (self.from, Way::Kernel), refusal);
    }
}

impl Node {
    /// The guard has said something of leases.
    pub(super) fn hear_of_leases(&self, report: LeaseReport) {
        let changed = self.leases.hear(report);
        if self.leases.take_begun() {
            self.ledger.ring();
        }
        self.offer_leases(changed);
    }

    /// The guard is gone.
    pub(super) fn lose_leases(&self) {
        let changed = self.leases.lost();
        self.offer_leases(changed);
    }

    fn offer_leases(&self, changed: bool) {
        self.shared().kernel.set(self.leases.is_possible());
        if changed {
            // What the coordinator was told of the ways to this node is no longer so.
            self.tell(|s| s.ways_changed());
            self.ledger.ring();
        }
    }

    /// `leases` of the diagnostics.
    pub(super) fn leases_value(&self) -> Value {
        let flows = self.leases.flow_counts();
        let ability = self.leases.ability();
        object([
            ("possible", self.leases.is_possible().into()),
            ("caps", ability.as_ref().is_some_and(|a| a.caps).into()),
            ("leases", self.leases.count().into()),
            ("connections", self.leases.connection_count().into()),
            ("undecided", flows.undecided.into()),
            ("accepted", flows.accepted.into()),
            ("ending", flows.ending.into()),
            ("maxFlows", ability.map(|a| u64::from(a.max_flows)).into()),
            (
                "check",
                self.leases.checked().map_or(Value::Null, |(both, charged)| check_value(&both, charged)),
            ),
        ])
    }

    /// The best way there is for a session now.
    pub(super) fn active_path(&self) -> &'static str {
        match self.leases.ability().filter(|a| a.possible).map(|a| a.offload) {
            None => "relay",
            Some(Offload::Software) => "software",
            Some(Offload::Plain) => "plain",
        }
    }

    /// `offload` of the status.
    pub(super) fn offload_value(&self) -> Value {
        let config = self.config();
        let mode = config.network.offload.name();
        let Some(ability) = self.leases.ability() else {
            return no_offload(mode, "There is no guard that gives leases, so the relay carries everything.");
        };
        object([
            ("mode", mode.into()),
            ("active", self.active_path().into()),
            ("reason", ability.reason.into()),
        ])
    }
}

/// What the counts of one way may differ by without anybody's having interfered: a hundredth of what has passed, and so many bytes a
/// connection. The second count has what connection tracking never had: a SYN that came too often, packets behind a reset, each segment's
/// own header where a group was cut up to be judged. It lacks what was lost in between.
const EXPLAINED_PART: u64 = 100;
const EXPLAINED_A_FLOW: u64 = 4096;

/// `check` of `leases` in the diagnostics: what was charged, and what the two counts have.
fn check_value(both: &Checked, charged: [u64; 2]) -> Value {
    let [from, to] = [0, 1].map(|way| way_value(both, way, charged.get(way).copied().unwrap_or(0)));
    object([
        ("reason", both.why.as_str().into()),
        ("connections", both.flows.into()),
        ("egress", from),
        ("ingress", to),
    ])
}

fn way_value(both: &Checked, way: usize, payload: u64) -> Value {
    let of = |list: &[Amount; 2]| list.get(way).copied().unwrap_or_default();
    let (tracked, seen) = (of(&both.tracked), of(&both.seen));
    let counted = both.counts.get(way) == Some(&true);
    let explained =
        seen.bytes.max(tracked.bytes) / EXPLAINED_PART + both.flows.saturating_mul(EXPLAINED_A_FLOW);
    let second = |value: u64| if counted { value.into() } else { Value::Null };
    let difference = seen.bytes.abs_diff(tracked.bytes);
    object([
        ("chargedBytes", payload.into()),
        ("trackedPackets", tracked.packets.into()),
        ("trackedBytes", tracked.bytes.into()),
        ("independentPackets", second(seen.packets)),
        ("independentBytes", second(seen.bytes)),
        ("differenceBytes", second(difference)),
        ("explainedBytes", second(explained)),
        ("agrees", if counted { (difference <= explained).into() } else { Value::Null }),
    ])
}

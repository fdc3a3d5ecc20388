//! Quarantine: what calls for it, and the way out.
use super::lifecycle::NodeEvent;
use super::node::Node;
use crate::coordinator::wire::Observed;
use crate::policy::geo::telling_address;
use crate::time::{DAY, Unix, days_from_civil};
use std::net::IpAddr;

/// What the node found of itself that it must not go on with. Each is an alert of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The evidence says that the node is not where its owner lets it work.
    GeoMismatch,
    /// Traffic was seen that no rule of the node let out.
    OutsidePolicy,
    /// Orders that are not the coordinator's keep coming in its name.
    OrdersForged,
}

impl Violation {
    /// All of them.
    pub const ALL: [Violation; 3] =
        [Violation::GeoMismatch, Violation::OutsidePolicy, Violation::OrdersForged];

    /// The code of its alert.
    pub fn code(self) -> &'static str {
        match self {
            Violation::GeoMismatch => "geo-mismatch",
            Violation::OutsidePolicy => "outside-policy",
            Violation::OrdersForged => "orders-forged",
        }
    }

    /// What the owner is to look at before the way out.
    fn advice(self) -> &'static str {
        match self {
            Violation::GeoMismatch => "Check node.regionAllow against where the router is",
            Violation::OutsidePolicy => {
                "Check what else runs under the node's user, and whether the binary is the released one"
            }
            Violation::OrdersForged => {
                "Ask the coordinator, and check coordinator.url and coordinator.publicKey"
            }
        }
    }
}

/// The alert of a quarantine that a restart found: which violation it was stands in its sentence.
const STANDING: &str = "quarantined";

impl Node {
    /// Puts the node into quarantine: flows are reset, sessions closed and new ones refused, over restarts, until the
    /// owner clears it. `detail` is a sentence that says what was seen; the way out is added here. The first reason
    /// stands in the status, each violation has its alert.
    pub fn quarantine(&self, violation: Violation, detail: &str) {
        let reason = format!("{detail} {}, then run: echomesh start --clear-quarantine", violation.advice());
        self.alert(violation.code(), &reason);
        self.on(NodeEvent::Quarantine(reason));
    }

    /// The owner has looked into it: the quarantine is over, and whatever counts towards one starts anew.
    pub fn clear_quarantine(&self) {
        self.region.borrow_mut().forgive();
        *self.forged.borrow_mut() = Default::default();
        for code in Violation::ALL.map(Violation::code) {
            self.clear_alert(code);
        }
        self.clear_alert(STANDING);
        self.on(NodeEvent::ClearQuarantine);
    }

    /// Weighs what is known of the node's place, with each answer to a heartbeat.
    pub(super) fn review_region(&self, observed: Option<&Observed>) {
        let config = self.config();
        let allowed = &config.node.region_allow;
        if let Some(address) = observed.and_then(|o| o.address.parse::<IpAddr>().ok()) {
            let moved = self.region.borrow_mut().seen_at(&address.to_string());
            if moved {
                self.look_up_prefix();
            }
        }
        let seen = observed.map(|o| (o.region.as_str(), o.confidence));
        let outside = self.region.borrow_mut().observe(seen, self.time_zone(), (&config.geo, allowed));
        let against = self.region.borrow().against(allowed);
        if outside {
            let belief = self.region.borrow().belief(allowed).outside;
            let detail =
                format!("The node seems to be outside node.regionAllow (confidence {belief:.2}). {against}");
            self.quarantine(Violation::GeoMismatch, &detail);
        }
        if against.is_empty() || outside {
            self.clear_alert("geo-suspect");
        } else {
            self.alert("geo-suspect", &format!("Something speaks against node.regionAllow. {against}"));
        }
    }

    /// The guard says which addresses the router's WAN has.
    pub(super) fn wan_reported(&self, addresses: &[IpAddr]) {
        let address = telling_address(addresses);
        if self.region.borrow_mut().wan_has(address) {
            self.look_up_prefix();
        }
    }

    /// Asks the owner's file, if there is one, for the region of the WAN address: as the coordinator sees it, and as the
    /// router has it.
    pub(super) fn look_up_prefix(&self) {
        let (seen, wan) = {
            let region = self.region.borrow();
            (region.address().and_then(|a| a.parse::<IpAddr>().ok()), region.wan())
        };
        self.clear_alert("geo-file");
        for address in seen.into_iter().chain(wan.filter(|_| wan != seen)) {
            self.region.borrow_mut().looked_up(&address.to_string(), None);
            if let Some(file) = &self.config().geo.prefix_file {
                self.tell(|s| s.region_wanted(file, address));
            }
        }
    }

    /// What the owner's file of prefixes says of an address that was asked for.
    pub fn prefix_found(&self, address: IpAddr, found: Result<Option<String>, String>) {
        match found {
            Ok(region) => {
                self.clear_alert("geo-file");
                self.region.borrow_mut().looked_up(&address.to_string(), region);
            }
            Err(e) => self.alert("geo-file", &format!("geo.prefixFile: {e}; nothing of it is believed.")),
        }
    }

    /// Offsets from UTC on 1 January and 1 July of this year, seconds.
    fn time_zone(&self) -> (i32, i32) {
        let (year, ..) = self.ledger.now().unix().date();
        let at = |month| (self.ledger.local)(Unix(days_from_civil(year, month, 1) * DAY)).offset_s;
        (at(1), at(7))
    }

    /// Raises the alert of a quarantine that was in force when the process ended.
    pub(super) fn show_quarantine(&self) {
        let reason = self.machine.borrow().quarantine().map(str::to_owned);
        if let Some(reason) = reason {
            self.alert(STANDING, &reason);
        }
    }
}

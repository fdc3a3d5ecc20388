//! Quarantine: what calls for it, and the way out.
use super::lifecycle::NodeEvent;
use super::node::Node;

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

    /// Raises the alert of a quarantine that was in force when the process ended.
    pub(super) fn show_quarantine(&self) {
        let reason = self.machine.borrow().quarantine().map(str::to_owned);
        if let Some(reason) = reason {
            self.alert(STANDING, &reason);
        }
    }
}

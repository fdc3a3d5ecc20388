//! The node and its guard: what the reports change.
use super::node::Node;
use super::quarantine::Violation;
use crate::guard::client::{Listener, Lost};
use crate::guard::protocol::Report;
use crate::guard::ruleset::{COUNTERS, reason};
use crate::guard::view::{Finding, Status};
use crate::json::{Value, object};
use crate::policy::addresses::Prefix;

impl Listener for Node {
    fn hear(&self, report: Report) {
        let report = match report {
            Report::Lease(report) => return self.hear_of_leases(report),
            report => report,
        };
        let now = self.ledger.now().mono_ms();
        if let Report::Outward(list) = &report {
            self.wan_reported(list);
        }
        let networks = if let Report::Networks(list) = &report { Some(list.clone()) } else { None };
        let wan = if let Report::Wan(wan) = &report { Some(wan.clone()) } else { None };
        let finding = self.guard.borrow_mut().hear(report, now);
        if let Some(list) = networks {
            self.tell(|s| s.networks(&list));
        }
        if let Some(wan) = wan {
            self.put_wan(Some(wan), None);
        }
        match finding {
            Some(Finding::Outside(text)) => self.quarantine(Violation::OutsidePolicy, &text),
            Some(Finding::Refused(text)) => self.alert("guard-refused", &text),
            None => {}
        }
        self.show_guard();
        self.clear_alert("guard-lost");
    }

    fn lose(&self, why: Option<&Lost>) {
        self.guard.borrow_mut().lose();
        self.lose_leases();
        // What nobody watches any more is evidence of nothing.
        self.wan_reported(&[]);
        if let Some(why) = why {
            self.alert("guard-lost", &why.to_string());
        }
        self.show_guard();
    }
}

impl Node {
    /// How the guard is, for the status and for whether anything may be carried.
    pub fn guard_status(&self) -> Status {
        self.guard.borrow().status(self.config().security.guard, self.ledger.now().mono_ms())
    }

    /// The owner's networks as the guard reports them, while it does.
    pub fn guarded_networks(&self) -> Option<Vec<Prefix>> {
        self.guard.borrow().networks(self.ledger.now().mono_ms()).map(<[Prefix]>::to_vec)
    }

    /// Refused packets by the table's counters; null without a guard.
    pub(super) fn guard_value(&self) -> Value {
        let Some(refused) = self.guard.borrow().refused() else { return Value::Null };
        object(COUNTERS.map(reason).into_iter().zip(refused.map(Value::from)))
    }

    fn show_guard(&self) {
        let (differ, other) = {
            let view = self.guard.borrow();
            (view.literals_differ(), view.holds_another())
        };
        if differ {
            let text =
                "The configuration names addresses that the guard lets nobody reach yet; send it SIGHUP.";
            self.alert("guard-outdated", text);
        } else {
            self.clear_alert("guard-outdated");
        }
        match other {
            Some(uid) => self.alert(
                "guard-user",
                &format!(
                    "The guard holds user {uid}, and this process is another; start both with one --user."
                ),
            ),
            None => self.clear_alert("guard-user"),
        }
        self.review();
        self.ledger.ring();
    }
}

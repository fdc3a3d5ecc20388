//! The table of live flows: who is in it, and whose time is over.
use super::{HALF_CLOSED_US, HELLO_US, IDLE_US, LIFETIME_US, Ledger, Live, MAX_FLOWS};
use crate::mutant;
use crate::session::{Ending, FlowState, Phase, Target, Way};
use crate::time::Now;
use std::net::IpAddr;
use std::rc::Rc;

impl Ledger {
    /// Enters a new flow; `None` when the table is full.
    pub fn open_flow(
        &self,
        session: &Rc<str>,
        to: &Target,
        (from, way): (Option<IpAddr>, Way),
        now: Now,
    ) -> Option<Rc<FlowState>> {
        let mut flows = self.flows.borrow_mut();
        if flows.len() >= self.most_flows.get() {
            return None;
        }
        let id = self.next_flow.get();
        self.next_flow.set(id + 1);
        let flow = FlowState::new(id, &to.host, to.port, now.mono_us).coming_from(from, way);
        let flow = Rc::new(flow);
        if flows.is_empty() {
            self.ring();
        }
        flows.insert(id, (flow.clone(), session.clone()));
        self.targets.borrow_mut().opened(&to.host);
        Some(flow)
    }

    /// Live flows that there may be: [`MAX_FLOWS`], or what the descriptors allow.
    pub fn most_flows(&self) -> usize {
        self.most_flows.get()
    }

    /// Bounds live flows to what the descriptors allow. Those that there are go on.
    pub fn set_most_flows(&self, most: usize) {
        self.most_flows.set(most.min(MAX_FLOWS));
    }

    /// Takes an ended flow out.
    pub fn close_flow(&self, id: u64) {
        let ended = self.flows.borrow_mut().remove(&id);
        if let Some((flow, _)) = ended {
            self.targets.borrow_mut().closed(&flow.host, self.now().mono_us);
        }
    }

    /// Live flows of the node.
    pub fn live_flows(&self) -> usize {
        self.flows.borrow().len()
    }

    /// Resets all flows for which `which` holds, given the session's id. They are told at once; their tasks do it in
    /// this turn of the loop.
    pub fn reset_flows(&self, which: impl Fn(&FlowState, &str) -> bool) {
        // A copy: ending a flow may drop it, which takes it out of the table.
        let all = self.copy_flows();
        all.iter()
            .filter(|(flow, session)| which(flow, session))
            .for_each(|(flow, _)| flow.end(Ending::Reset));
    }

    /// Resets the newest flows of a session, but for the first `keep`.
    pub fn reset_newest(&self, session: &str, keep: usize) {
        let mut flows = self.copy_flows();
        flows.retain(|(_, of)| **of == *session);
        flows.sort_unstable_by_key(|(flow, _)| flow.id);
        flows.iter().skip(keep).for_each(|(flow, _)| flow.end(Ending::Reset));
    }

    /// Ends flows whose time is over. To be called once a second while there are flows.
    pub fn sweep(&self, now: Now) {
        for (flow, _) in self.copy_flows() {
            if let Some(ending) = overdue(&flow, now.mono_us) {
                flow.end(ending);
            }
        }
    }

    /// Resets the newest flows to targets that have more than they may.
    pub(super) fn reset_excess(&self) {
        let mut flows = self.copy_flows();
        flows.sort_unstable_by_key(|(flow, _)| flow.id);
        let excess = self.targets.borrow().excess(flows.iter().map(|(flow, _)| flow.host.as_str()));
        excess.into_iter().filter_map(|at| flows.get(at)).for_each(|(flow, _)| flow.end(Ending::Reset));
    }

    fn copy_flows(&self) -> Vec<Live> {
        self.flows.borrow().values().cloned().collect()
    }
}

/// How a flow whose time is over ends.
fn overdue(flow: &FlowState, now_us: u64) -> Option<Ending> {
    flow.take_active(now_us);
    let since = now_us.saturating_sub(flow.phase_since_us());
    if now_us.saturating_sub(flow.started_us) >= LIFETIME_US {
        return Some(Ending::Reset);
    }
    match flow.phase() {
        Phase::Hello if since >= HELLO_US && !mutant::out("hello-deadline") => Some(Ending::HelloTimeout),
        Phase::Open if since >= IDLE_US => Some(Ending::Close),
        Phase::HalfClosed if since >= HALF_CLOSED_US && !mutant::out("half-closed-deadline") => {
            Some(Ending::Close)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_own_time() {
        let flow = FlowState::new(0, "a.test", 443, 0);
        assert_eq!(overdue(&flow, IDLE_US * 2), None, "dialling is bounded by the relay");
        assert_eq!(overdue(&flow, LIFETIME_US), Some(Ending::Reset));
    }
}

//! The node's line: what is known of it, and what its changes end.
use super::node::Node;
use crate::json::{Value, array, object};
use crate::policy::wan::{Uplink, Wan};
use crate::time::Unix;
use std::fmt::Write as _;

/// What is known of the line.
#[derive(Clone, Debug, Default)]
pub struct Line {
    wan: Option<Wan>,
    since: Option<Unix>,
    failure: Option<String>,
    /// There was a line, or the owner has named one: to have none is worth an alert.
    wanted: bool,
}

impl Node {
    /// The line as this process reads it itself. While the guard tells, its word stands: its table is made for that.
    pub fn wan_read(&self, found: Result<Wan, String>) {
        match (self.guarded_wan(), found) {
            (Some(wan), _) | (None, Ok(wan)) => self.put_wan(Some(wan), None),
            (None, Err(e)) => {
                crate::error!("the network cannot be read, and nothing leaves: {e}");
                self.put_wan(None, Some(e));
            }
        }
    }

    /// The devices that lead outward as the guard reports them, while it does.
    pub fn guarded_wan(&self) -> Option<Wan> {
        self.guard.borrow().wan(self.ledger.now().mono_ms()).cloned()
    }

    /// The line is this one now. Flows that left by another are reset: they would hang until their peers give up.
    pub(super) fn put_wan(&self, wan: Option<Wan>, failure: Option<String>) {
        let known = wan.clone().unwrap_or_default();
        let named = self.config().network.wan_device.name() != "auto";
        {
            let mut line = self.line.borrow_mut();
            if line.since.is_some() && line.wan == wan && line.failure == failure {
                return;
            }
            let wanted = line.wanted || named || !known.is_down();
            *line = Line { wan: wan.clone(), since: Some(self.ledger.now().unix()), failure, wanted };
        }
        crate::info!("the line is {}", sentence(&known));
        self.tell(|s| s.wan(wan.as_ref()));
        self.ledger.reset_flows(|flow, _| flow.leaving().is_some_and(|l| !known.carries(l)));
        if known.is_down() && self.line.borrow().wanted {
            self.alert("wan-down", &self.line.borrow().reason(named));
        } else {
            self.clear_alert("wan-down");
        }
    }

    /// `wan` of the diagnostics.
    pub(super) fn wan_value(&self) -> Value {
        let line = self.line.borrow();
        let wan = line.wan.clone().unwrap_or_default();
        let down = wan.is_down();
        let choice = self.config().network.wan_device.name().to_owned();
        let binds = self.services.borrow().as_ref().is_none_or(|s| s.binds());
        let reason = match (down, binds) {
            (true, _) => Some(line.reason(choice != "auto")),
            (false, false) => Some(
                "This kernel is older than 5.7 and binds no socket to a device: connections are made only where its routes \
                 lead to the same line."
                    .to_owned(),
            ),
            (false, true) => None,
        };
        object([
            ("wanted", choice.into()),
            ("ipv4", wan.v4.as_ref().map(uplink_value).into()),
            ("ipv6", wan.v6.as_ref().map(uplink_value).into()),
            ("since", line.since.map(|t| t.to_string()).into()),
            ("bound", (!down && binds).into()),
            ("reason", reason.into()),
        ])
    }
}

impl Line {
    fn reason(&self, named: bool) -> String {
        match (&self.failure, named) {
            (Some(e), _) => format!("The network cannot be read, so nothing leaves: {e}."),
            (None, true) => {
                "The device of network.wanDevice is not there, is down, or has no address; nothing leaves by another one."
                    .to_owned()
            }
            (None, false) => "There is no default route in the main table, so nothing leaves.".to_owned(),
        }
    }
}

fn uplink_value(uplink: &Uplink) -> Value {
    object([
        ("device", uplink.device.as_str().into()),
        ("addresses", array(uplink.addresses.iter().map(ToString::to_string))),
    ])
}

fn sentence(wan: &Wan) -> String {
    let mut text = String::new();
    for uplink in wan.uplinks() {
        let _ = write!(text, "{}{}", if text.is_empty() { "" } else { ", " }, uplink.device);
        uplink.addresses.iter().for_each(|a| _ = write!(text, " {a}"));
    }
    if text.is_empty() { "down".to_owned() } else { text }
}

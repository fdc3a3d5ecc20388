//! What the owner is told of a coordinator that cannot be reached or refuses.
use super::Client;
use crate::coordinator::link::Lane;
use crate::coordinator::node::{self, Node};
use crate::coordinator::wire::Problem;
use crate::http::client::Error;
use crate::http::head::Malformed;
use std::cell::Cell;

/// An alert that stands as long as one of the lanes has reason for it.
#[derive(Default)]
pub(super) struct Complaint(Cell<u8>);

impl Complaint {
    /// Notes how it is with a lane; true if no lane has reason any more.
    fn note(&self, lane: Lane, reason: bool) -> bool {
        let bit = 1 << lane as u8;
        self.0.set(if reason { self.0.get() | bit } else { self.0.get() & !bit });
        self.0.get() == 0
    }

    /// Raises or takes back the alert.
    pub(super) fn tell(&self, node: &dyn Node, code: &'static str, lane: Lane, reason: Option<String>) {
        if self.note(lane, reason.is_some()) || reason.is_some() {
            node.alert(code, reason.map(|why| format!("{}: {why}", lane_name(lane))));
        }
    }
}

impl Client {
    /// A request has failed.
    pub(super) fn trouble(&self, node: &dyn Node, lane: Lane, error: &Error, had_contact: bool) {
        match error {
            Error::CertificateTime(_) if !had_contact => {
                node.alert(node::CLOCK_UNSET, Some(error.to_string()))
            }
            Error::CertificateTime(_) | Error::Tls(_) | Error::Trust(_) => {
                node.alert(node::COORDINATOR_UNTRUSTED, Some(error.to_string()));
            }
            // A torn connection is nobody's fault.
            Error::Malformed(Malformed::Truncated) => {}
            Error::Malformed(_) | Error::TooLarge(_) | Error::ContentCoding => {
                self.malformed.tell(node, node::COORDINATOR_MALFORMED, lane, Some(error.to_string()));
            }
            _ => {}
        }
    }
}

fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Register => "registration",
        Lane::Heartbeat => "heartbeat",
        Lane::Control => "control poll",
        Lane::Probe => "probe",
        Lane::Outbox => "outbox",
    }
}

/// The name of what the coordinator finds wrong.
pub(super) fn slug_of(problem: &Problem, status: u16) -> String {
    if problem.slug.is_empty() { format!("status-{status}") } else { problem.slug.clone() }
}

/// The same with its detail.
pub(super) fn sentence(problem: &Problem) -> String {
    if problem.detail.is_empty() {
        problem.slug.clone()
    } else {
        format!("{}: {}", problem.slug, problem.detail)
    }
}

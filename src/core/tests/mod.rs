//! The node as a whole, without sockets: given clocks, a journal in a directory of its own, orders signed by a test
//! coordinator, flows through the gate, bytes through the flows.
mod bench;
mod bounds;
mod breakers;
mod clocks;
mod control;
mod crash;
mod fake_guard;
mod flash;
mod geo;
mod guard;
mod lease_flows;
mod leases;
mod lists;
mod offences;
mod opening;
mod oracle;
mod privacy;
mod property;
mod quotas;
mod rules;
pub(super) mod schema;
mod services;
mod settling;
mod wan;
mod wire;
mod words;

use bench::{Bench, ID, START, id, open_order, profile};

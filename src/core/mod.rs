//! The node as a whole: its state, and the wiring of all parts.
pub mod alerts;
pub mod closing;
pub mod durable;
pub mod ledger;
pub mod lifecycle;
pub mod node;
pub mod orders;
pub mod region;
pub mod rules;
pub mod session;

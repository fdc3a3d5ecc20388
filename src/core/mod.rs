//! The node as a whole: its state, and the wiring of all parts.
pub mod alerts;
pub mod backend;
pub mod bus;
pub mod closed;
pub mod closing;
pub mod durable;
pub mod flash;
pub mod gate;
pub mod guard;
pub mod guarded;
mod kept;
pub mod leases;
pub mod ledger;
pub mod lifecycle;
pub mod link;
pub mod list_files;
pub mod list_tasks;
pub mod locked;
pub mod node;
mod node_lists;
pub mod orders;
mod pages;
pub mod places;
pub mod quarantine;
pub mod region;
pub mod rules;
pub mod run;
pub mod sandbox;
pub mod services;
pub mod session;
pub mod source;
pub mod state;
pub mod status;
pub mod supervisor;
pub mod wan;

#[cfg(test)]
mod tests;

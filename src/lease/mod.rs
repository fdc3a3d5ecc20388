//! The kernel path's side of `run`: which leases there are, what their packets may do, and how many bytes they carried.
//! All of it but [`service`], [`flows`] and their `connection` is pure; what moves packets and firewall rules is the guard.
mod connection;
pub mod event;
mod flow;
pub mod flows;
pub mod gate;
pub mod inspect;
pub mod reassembly;
pub mod segment;
pub mod service;
pub mod table;
pub mod tally;

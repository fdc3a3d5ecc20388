//! The kernel path's side of `run`: which leases there are, what their packets may do, and how many bytes they carried.
//! All of it is pure; what moves packets and firewall rules is the guard.
pub mod service;
pub mod table;

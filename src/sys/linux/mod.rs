//! Linux: the only place with `unsafe`.
#![allow(unsafe_code, reason = "system calls that no safe crate offers; each block has its SAFETY comment")]
pub mod local_time;
pub mod machine;
pub mod net;
pub mod pipe;
pub mod reactor;
pub mod routes;
pub mod signals;

//! ubus, the bus of OpenWrt's services, as a client speaks it: bytes and what follows from them, without I/O.
//!
//! Sources: `blob.h`, `blobmsg.h` of libubox; `ubusmsg.h`, `libubus-*.c` of ubus. What crosses the socket is big-endian, whatever the
//! machine is.
pub mod blob;
pub mod client;
pub mod message;

pub use blob::Malformed;
pub use client::{Client, Invocation, Type};
pub use message::{MAX_BODY, Status};

#[cfg(test)]
mod testdata;

//! The relay path: an HTTPS CONNECT proxy that carries nothing it has not judged.
pub mod admission;
mod authority;
mod buyer;
pub mod connect;
mod dial;
mod door;
pub mod lease_ask;
mod lease_http;
mod listener;
mod pools;
mod pump;
mod shared;
mod tls_pump;
mod tunnel;
mod watch;

pub use listener::{serve_plain, serve_tls};
pub use shared::RelayShared;

#[cfg(test)]
mod tests;

//! HTTP/1.1: framing shared by both sides, a small client, a small server.
pub mod client;
pub mod connection;
pub mod head;
pub mod server;
#[cfg(test)]
pub(crate) mod testing;
pub mod url;

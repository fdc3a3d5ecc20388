//! HTTP/1.1, as little as the node needs of it: framing, a small client, a small server.
pub mod client;
pub mod connection;
pub mod head;
pub mod places;
pub mod request;
pub mod server;
#[cfg(test)]
pub(crate) mod testing;
pub mod url;

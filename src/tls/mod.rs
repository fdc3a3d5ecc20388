//! TLS: configurations of the node as client and as server.
pub mod client;

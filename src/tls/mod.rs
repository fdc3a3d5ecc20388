//! TLS: the node as a client, the server that buyers meet, and the ClientHello of what they carry.
pub mod client;
pub mod client_hello;
mod key;
mod provider;
pub mod server;
pub mod stream;
pub mod x509;

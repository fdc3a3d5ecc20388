//! TLS: the node as a client, the server that buyers meet, and the ClientHello of what they carry.
pub mod client;
pub mod client_hello;
pub mod server;
pub mod stream;

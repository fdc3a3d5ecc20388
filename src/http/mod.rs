//! HTTP/1.1, as little as the node needs of it: framing, a small client, a small server.
pub mod client;
pub mod connection;
pub mod head;
pub mod request;
pub mod server;
pub mod url;

//! HTTP/1.1, as little as the node needs of it.
pub mod request;
pub mod server;

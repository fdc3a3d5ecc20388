//! The relay path: an HTTPS CONNECT proxy that carries nothing it has not judged.
pub mod connect;

//! OpenWrt: what only its routers have.
pub mod uci;

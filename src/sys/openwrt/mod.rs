//! OpenWrt: what only its routers have.
pub mod ubus;
pub mod uci;

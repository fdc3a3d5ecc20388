//! EchoMesh: a daemon that sells a router's idle bandwidth to named, vetted buyers.
#[cfg(all(test, feature = "lab"))]
mod agreement;
pub mod api;
pub mod bell;
pub mod cli;
pub mod clock;
pub mod config;
pub mod coordinator;
pub mod core;
pub mod dns;
pub mod egress;
pub mod encoding;
pub mod guard;
pub mod http;
pub mod json;
#[cfg(feature = "lab")]
pub mod lab;
pub mod lease;
pub mod log;
pub mod meter;
pub mod mutant;
pub mod policy;
pub mod probe;
pub mod relay;
pub mod session;
pub mod signed;
pub mod sorted;
pub mod sys;
pub mod time;
pub mod tls;
pub mod turns;
pub mod ubus;
pub mod vault;

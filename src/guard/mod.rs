//! The guard: the process with `CAP_NET_ADMIN` that keeps the service user's traffic within policy, whatever `run` does.
//!
//! `run` parses what comes from the network and may be broken by it. The guard judges nothing that comes from the network, and hands packets of leases on as they are (whether one carries
//! anything it reads itself, `lease_flows`): it takes the owner's configuration and the kernel's reports of addresses and routes, renders a firewall table from them, puts it in force
//! in one transaction, reads it back, and tells `run` whether it stands.

pub mod caps;
pub mod clash;
pub mod client;
pub mod clients;
pub mod config;
pub mod conntrack;
pub mod draft;
pub mod early;
pub mod expr;
pub mod found;
pub mod framed;
pub mod keeper;
pub mod lease_audit;
pub mod lease_caps;
mod lease_codec;
pub mod lease_count;
pub mod lease_flows;
pub mod lease_kernel;
pub mod lease_rules;
pub mod lease_serve;
pub mod lease_set;
pub mod lease_unheard;
pub mod lease_wire;
pub mod leases;
pub mod messages;
pub mod netlink;
pub mod network;
pub mod nfqueue;
pub mod offload;
pub mod outbox;
pub mod pace;
pub mod protocol;
pub mod view;

pub mod ranges;
pub mod reset;
pub mod rules;
pub mod ruleset;
pub mod scope;
pub mod serve;
pub mod shaping;

pub mod table;
pub mod tc;
pub mod uci;
pub mod work;

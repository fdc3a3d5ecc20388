//! The coordinator as the node's counterpart: what is said, how it is signed, when it is said, and the tasks that say
//! it (`docs/protocol.md`, section 2).
pub mod client;
pub mod link;
pub mod list_fetch;
pub mod list_versions;
pub mod lists;
pub mod node;
pub mod orders;
mod outbox;
mod probing;
pub mod profile;
pub mod signatures;
#[cfg(test)]
mod testing;
pub mod wire;

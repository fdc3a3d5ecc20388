//! The vault: the node's key on disk, its rotation, and what other private files need.
pub mod commands;
pub mod files;
mod keys;
pub mod pem;

pub use keys::{KeyState, Rotation, Vault, VaultError};

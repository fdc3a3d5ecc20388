//! The vault: the node's key on disk, its rotation, and what other private files need.
pub mod attempts;
pub mod commands;
pub mod der;
mod error;
pub mod files;
mod keys;
pub mod pem;
pub mod scrypt;
pub mod seal;
mod secret;

pub use error::VaultError;
pub use keys::{KeyState, Resealed, Rotation, Vault};
pub use secret::{BadPassphrase, MAX_PASSPHRASE, MIN_PASSPHRASE, Passphrase};

//! What goes wrong with keys, and whose fault it is.
use super::files::FileError;
use super::seal::SealError;
use super::secret::BadPassphrase;
use std::fmt;
use std::path::PathBuf;

/// Why the vault did not do what was asked. No variant holds anything secret.
#[derive(Debug)]
pub enum VaultError {
    /// The file, its owner or its mode.
    File(FileError),
    /// The file holds no Ed25519 key in PKCS#8 PEM.
    NotAKey(PathBuf),
    /// The key needs a passphrase.
    Locked(PathBuf),
    /// The last rotation is not known to the coordinator yet: the chain of signatures would break.
    RotationPending,
    /// Too many keys were put aside today.
    TooManyKept(PathBuf),
    /// The system has no random numbers.
    NoRandomness,
    /// The sealed key cannot be opened.
    Seal(PathBuf, SealError),
    /// It is not sealed.
    NotSealed(PathBuf),
    /// The passphrase is no good.
    Passphrase(BadPassphrase),
    /// The owner has to say that it is meant.
    Unconfirmed(&'static str),
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VaultError::File(e) => e.fmt(f),
            VaultError::NotAKey(path) => {
                let path = path.display();
                write!(f, "{path}: holds no Ed25519 private key (PKCS#8, PEM); put the right file there, or move it \
                           away and a new key, and with it a new identity, is made")
            }
            VaultError::Locked(path) => write!(f, "{}: is sealed with a passphrase", path.display()),
            VaultError::Seal(path, e) => write!(f, "{}: {e}", path.display()),
            VaultError::NotSealed(path) => write!(f, "{}: is not sealed", path.display()),
            VaultError::Passphrase(e) => e.fmt(f),
            VaultError::RotationPending => f.write_str(
                "the last rotation is not registered at the coordinator yet; run the node once before the next",
            ),
            VaultError::TooManyKept(path) => {
                write!(f, "{}: too many keys were put aside today", path.display())
            }
            VaultError::NoRandomness => f.write_str("the system gives no random numbers"),
            VaultError::Unconfirmed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for VaultError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            VaultError::File(e) => Some(e),
            VaultError::Seal(_, e) => Some(e),
            VaultError::Passphrase(e) => Some(e),
            _ => None,
        }
    }
}

impl From<FileError> for VaultError {
    fn from(error: FileError) -> VaultError {
        VaultError::File(error)
    }
}

impl From<BadPassphrase> for VaultError {
    fn from(error: BadPassphrase) -> VaultError {
        VaultError::Passphrase(error)
    }
}

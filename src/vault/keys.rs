//! The node's key: made once, kept, rotated, never lost.
use super::files::{self, FileError};
use super::pem::{self, Content};
use crate::json::{self, Value, object};
use crate::signed::{self, Kind, NodeKey, PublicKey};
use crate::time::Unix;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Keys kept aside under one date.
const MAX_KEPT_PER_DAY: usize = 100;

/// What the key file is.
#[derive(Debug)]
pub enum KeyState {
    /// There is none yet.
    Absent,
    /// It needs a passphrase.
    Locked,
    /// It can sign.
    Ready(NodeKey),
}

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
            VaultError::RotationPending => f.write_str(
                "the last rotation is not registered at the coordinator yet; run the node once before the next",
            ),
            VaultError::TooManyKept(path) => {
                write!(f, "{}: {MAX_KEPT_PER_DAY} keys were put aside today", path.display())
            }
            VaultError::NoRandomness => f.write_str("the system gives no random numbers"),
            VaultError::Unconfirmed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for VaultError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let VaultError::File(e) = self { Some(e) } else { None }
    }
}

impl From<FileError> for VaultError {
    fn from(error: FileError) -> VaultError {
        VaultError::File(error)
    }
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The NodeID before.
    pub old: String,
    /// The NodeID from the next start on.
    pub new: String,
    /// Where the old key is kept.
    pub kept: PathBuf,
}

/// The key file and what belongs to it, all in one directory: `NAME`, `NAME.previous` (the old key's word for the
/// new one, until it is registered) and `NAME.old-DATE` (keys that were replaced).
#[derive(Clone, Debug)]
pub struct Vault {
    path: PathBuf,
}

impl Vault {
    /// The vault of a key file; the path has no `~` any more. Nothing is read yet.
    pub fn at(path: impl Into<PathBuf>) -> Vault {
        Vault { path: path.into() }
    }

    /// The key file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the key file.
    pub fn state(&self) -> Result<KeyState, VaultError> {
        let file = match files::read(&self.path) {
            Err(FileError::Missing(_)) => return Ok(KeyState::Absent),
            file => file?,
        };
        match pem::read(&file) {
            Some(Content::Plain(key, _)) => Ok(KeyState::Ready(key)),
            Some(Content::Sealed) => Ok(KeyState::Locked),
            None => Err(VaultError::NotAKey(self.path.clone())),
        }
    }

    /// The key, which must be there and not sealed.
    pub fn load(&self) -> Result<NodeKey, VaultError> {
        match self.state()? {
            KeyState::Ready(key) => Ok(key),
            KeyState::Locked => Err(VaultError::Locked(self.path.clone())),
            KeyState::Absent => Err(FileError::Missing(self.path.clone()).into()),
        }
    }

    /// The key, made if there is none. Says whether it was made.
    pub fn load_or_generate(&self) -> Result<(NodeKey, bool), VaultError> {
        match self.state()? {
            KeyState::Absent => Ok((self.generate()?, true)),
            _ => Ok((self.load()?, false)),
        }
    }

    /// Makes a key; an existing one is left alone and an error.
    pub fn generate(&self) -> Result<NodeKey, VaultError> {
        let (key, seed) = random_key()?;
        files::create(&self.path, pem::write(&seed).as_bytes())?;
        Ok(key)
    }

    /// The key as PKCS#8 PEM.
    pub fn export(&self) -> Result<Zeroizing<String>, VaultError> {
        let file = files::read(&self.path)?;
        match pem::read(&file) {
            Some(Content::Plain(_, seed)) => Ok(pem::write(&seed)),
            Some(Content::Sealed) => Err(VaultError::Locked(self.path.clone())),
            None => Err(VaultError::NotAKey(self.path.clone())),
        }
    }

    /// Takes a key (PKCS#8 PEM) as this node's. One that is there is kept aside under the date of `now`.
    pub fn import(&self, text: &[u8], now: Unix) -> Result<NodeKey, VaultError> {
        let (key, seed) = match pem::read(text) {
            Some(Content::Plain(key, seed)) => (key, seed),
            Some(Content::Sealed) => return Err(VaultError::Locked(PathBuf::from("the imported key"))),
            None => return Err(VaultError::NotAKey(PathBuf::from("the imported text"))),
        };
        match self.state() {
            Ok(KeyState::Absent) => files::create(&self.path, pem::write(&seed).as_bytes())?,
            Ok(KeyState::Ready(old)) if old.public() == key.public() => {}
            // A sealed or damaged file may still be worth something to its owner.
            Ok(_) | Err(VaultError::NotAKey(_)) => {
                self.keep_old(now)?;
                files::replace(&self.path, pem::write(&seed).as_bytes())?;
            }
            Err(e) => return Err(e),
        }
        Ok(key)
    }

    /// Replaces the key by a new one, for which the old one signs. The old one is kept aside under the date of
    /// `now`. A running node goes on with the old one until it is started again.
    ///
    /// Whatever moment the power fails at, the key file holds one of the two, and a signature for a key that never
    /// came into force is recognised by the NodeID it is for.
    pub fn rotate(&self, now: Unix) -> Result<Rotation, VaultError> {
        let old = self.load()?;
        if self.previous(&old)?.is_some() {
            return Err(VaultError::RotationPending);
        }
        let (new, seed) = random_key()?;
        let mut word = object([("nodeId", new.node_id().into())]);
        signed::sign(Kind::Rotation, &mut word, &old);
        let signature = word.member(Kind::Rotation.member()).cloned().unwrap_or(Value::Null);
        let previous = object([("nodeId", old.node_id().into()), ("sig", signature)]);
        let record = object([("nodeId", new.node_id().into()), ("previous", previous)]);
        files::replace(&self.beside(".previous"), record.canonical().as_bytes())?;
        let kept = self.keep_old(now)?;
        files::replace(&self.path, pem::write(&seed).as_bytes())?;
        Ok(Rotation { old: old.node_id(), new: new.node_id(), kept })
    }

    /// The member `previous` of the registration, `{nodeId, sig}`, while a rotation to `key` is not registered.
    pub fn previous(&self, key: &NodeKey) -> Result<Option<Value>, VaultError> {
        let file = match files::read(&self.beside(".previous")) {
            Err(FileError::Missing(_)) => return Ok(None),
            file => file?,
        };
        let record = json::parse(&file).unwrap_or(Value::Null);
        let previous = record.member("previous").cloned().unwrap_or(Value::Null);
        let text = |name| previous.member(name).and_then(Value::as_str);
        let word = object([
            ("nodeId", key.node_id().into()),
            (Kind::Rotation.member(), text("sig").unwrap_or_default().into()),
        ]);
        let old = text("nodeId").and_then(PublicKey::parse);
        let holds = old.is_some_and(|old| signed::verify(Kind::Rotation, &word, &old));
        Ok(holds.then_some(previous))
    }

    /// The coordinator knows the new key: the old one's word has done its work.
    pub fn registered(&self) -> Result<(), VaultError> {
        match files::destroy(&self.beside(".previous")) {
            Ok(()) | Err(FileError::Missing(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Destroys the key, those kept aside and what belongs to them. Gives the files that are gone.
    pub fn wipe(&self) -> Result<Vec<PathBuf>, VaultError> {
        let around = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = |n: &str| {
            n.strip_prefix(&name).is_some_and(|rest| {
                rest.is_empty()
                    || rest == ".tmp"
                    || rest.starts_with(".previous")
                    || rest.starts_with(".old-")
            })
        };
        let io = |e| VaultError::File(FileError::Io(around.to_owned(), e));
        let mut gone = Vec::new();
        let entries = match fs::read_dir(around) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(gone),
            entries => entries.map_err(io)?,
        };
        for entry in entries {
            let entry = entry.map_err(io)?;
            if ours(&entry.file_name().to_string_lossy()) {
                files::destroy(&entry.path())?;
                gone.push(entry.path());
            }
        }
        gone.sort();
        Ok(gone)
    }

    /// Gives the key file a second name with the date, which is where it stays when the first is replaced.
    fn keep_old(&self, now: Unix) -> Result<PathBuf, VaultError> {
        let (year, month, day) = now.date();
        let date = format!(".old-{year:04}-{month:02}-{day:02}");
        for n in 1..=MAX_KEPT_PER_DAY {
            let kept = self.beside(&if n == 1 { date.clone() } else { format!("{date}-{n}") });
            match files::link(&self.path, &kept) {
                Ok(()) => return Ok(kept),
                Err(FileError::Exists(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(VaultError::TooManyKept(self.path.clone()))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    }
}

fn random_key() -> Result<(NodeKey, Zeroizing<[u8; 32]>), VaultError> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *seed).map_err(|_| VaultError::NoRandomness)?;
    let key = NodeKey::from_seed(&seed).ok_or(VaultError::NoRandomness)?;
    Ok((key, seed))
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::{Folder, mode};
    use super::*;

    const NOW: Unix = Unix(1_766_152_800);

    fn vault(folder: &Folder) -> Vault {
        Vault::at(folder.0.join("node.key"))
    }

    fn names(folder: &Folder) -> Vec<String> {
        let entries = fs::read_dir(&folder.0).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_key_is_made_once() {
        let folder = Folder::new("once");
        let vault = vault(&folder);
        assert!(matches!(vault.state().unwrap(), KeyState::Absent));
        assert!(matches!(vault.load().unwrap_err(), VaultError::File(FileError::Missing(_))));
        let (first, made) = vault.load_or_generate().unwrap();
        let (second, again) = vault.load_or_generate().unwrap();
        assert_eq!((made, again, first.public()), (true, false, second.public()));
        assert_eq!(mode(vault.path()), 0o600);
        assert!(matches!(vault.generate().unwrap_err(), VaultError::File(FileError::Exists(_))));
    }

    #[test]
    fn openssl_reads_the_key_and_its_keys_are_read() {
        let folder = Folder::new("openssl");
        let vault = vault(&folder);
        let key = vault.generate().unwrap();
        #[allow(clippy::disallowed_methods, reason = "openssl is the oracle")]
        let openssl = |args: &[&str]| {
            let out =
                std::process::Command::new("openssl").args(args).output().expect("openssl is installed");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        };
        let path = vault.path().to_str().unwrap();
        let spki = openssl(&["pkey", "-in", path, "-pubout", "-outform", "DER"]);
        assert_eq!(spki[12..], key.public().as_bytes()[..]);
        let other = openssl(&["genpkey", "-algorithm", "ed25519"]);
        let imported = vault.import(&other, NOW).unwrap();
        let spki = openssl(&["pkey", "-in", path, "-pubout", "-outform", "DER"]);
        assert_eq!(spki[12..], imported.public().as_bytes()[..]);
        assert_ne!(imported.public(), key.public());
    }

    #[test]
    fn a_rotation_keeps_the_old_key_and_its_word_for_the_new_until_that_is_registered() {
        let folder = Folder::new("rotation");
        let vault = vault(&folder);
        let old = vault.generate().unwrap();
        assert_eq!(vault.previous(&old).unwrap(), None);
        let rotation = vault.rotate(NOW).unwrap();
        let new = vault.load().unwrap();
        assert_eq!((rotation.old, rotation.new), (old.node_id(), new.node_id()));
        assert_ne!(old.public(), new.public());
        let kept = Vault::at(&rotation.kept);
        assert!(rotation.kept.ends_with("node.key.old-2025-12-19"));
        assert_eq!(kept.load().unwrap().public(), old.public());

        let previous = vault.previous(&new).unwrap().unwrap();
        assert_eq!(previous.member("nodeId").unwrap().as_str(), Some(old.node_id().as_str()));
        let signature =
            crate::encoding::from_base64(previous.member("sig").unwrap().as_str().unwrap()).unwrap();
        let bytes = format!("echomesh:rotation:v1\n{{\"nodeId\":\"{}\"}}", new.node_id());
        assert!(old.public().verifies(bytes.as_bytes(), &signature));

        assert!(matches!(vault.rotate(NOW).unwrap_err(), VaultError::RotationPending));
        assert_eq!(vault.load().unwrap().public(), new.public());
        vault.registered().unwrap();
        vault.registered().unwrap();
        assert_eq!(vault.previous(&new).unwrap(), None);
        assert!(vault.rotate(NOW).unwrap().kept.ends_with("node.key.old-2025-12-19-2"));
    }

    #[test]
    fn a_rotation_that_broke_off_leaves_the_old_key_in_force() {
        let folder = Folder::new("broken");
        let vault = vault(&folder);
        let old = vault.generate().unwrap();
        let backup = vault.export().unwrap();
        vault.rotate(NOW).unwrap();
        // As if the power had failed before the key file was replaced.
        files::replace(vault.path(), backup.as_bytes()).unwrap();
        assert_eq!(vault.previous(&old).unwrap(), None);
        let again = vault.rotate(NOW).unwrap();
        assert_eq!(again.old, old.node_id());
    }

    #[test]
    fn import_never_loses_what_was_there() {
        let folder = Folder::new("import");
        let vault = vault(&folder);
        let first = vault.generate().unwrap();
        let exported = vault.export().unwrap();
        assert_eq!(vault.import(exported.as_bytes(), NOW).unwrap().public(), first.public());
        assert_eq!(names(&folder), ["node.key"]);
        let second = vault.import(pem::write(&[7; 32]).as_bytes(), NOW).unwrap();
        assert_eq!(vault.load().unwrap().public(), second.public());
        let kept = Vault::at(folder.0.join("node.key.old-2025-12-19"));
        assert_eq!(kept.load().unwrap().public(), first.public());
        assert!(matches!(vault.import(b"nonsense", NOW).unwrap_err(), VaultError::NotAKey(_)));
        assert_eq!(vault.load().unwrap().public(), second.public());
    }

    #[test]
    fn keys_kept_in_one_day_are_bounded() {
        let folder = Folder::new("bounded");
        let vault = vault(&folder);
        vault.generate().unwrap();
        for n in 0..MAX_KEPT_PER_DAY {
            vault.keep_old(NOW).unwrap_or_else(|e| panic!("{n}: {e}"));
        }
        assert!(matches!(vault.keep_old(NOW).unwrap_err(), VaultError::TooManyKept(_)));
    }

    #[test]
    fn a_sealed_key_is_locked_and_a_damaged_one_is_an_error_without_its_content() {
        let folder = Folder::new("sealed");
        let vault = vault(&folder);
        let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        files::create(vault.path(), sealed.as_bytes()).unwrap();
        assert!(matches!(vault.state().unwrap(), KeyState::Locked));
        assert!(matches!(vault.load().unwrap_err(), VaultError::Locked(_)));
        assert!(matches!(vault.export().unwrap_err(), VaultError::Locked(_)));
        files::replace(vault.path(), b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----")
            .unwrap();
        let error = vault.load_or_generate().unwrap_err();
        assert!(matches!(error, VaultError::NotAKey(_)));
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn wipe_takes_the_keys_and_nothing_else() {
        let folder = Folder::new("wipe");
        let vault = vault(&folder);
        vault.generate().unwrap();
        vault.rotate(NOW).unwrap();
        for other in ["node.keys", "tls.key", "node.key.note"] {
            fs::write(folder.0.join(other), "x").unwrap();
        }
        assert_eq!(vault.wipe().unwrap().len(), 3);
        assert_eq!(names(&folder), ["node.key.note", "node.keys", "tls.key"]);
    }
}

//! The node's key: made once, kept, sealed and unsealed, rotated, never lost.
use super::error::VaultError;
use super::files::{self, FileError};
use super::pem::{self, Content};
use super::seal::{Fresh, ITERATIONS, Sealed};
use super::secret::Passphrase;
use crate::json::{self, Value, object};
use crate::signed::{self, Kind, NodeKey, PublicKey};
use crate::time::Unix;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs;
use std::num::NonZeroU32;
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

/// What a change of the seal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Files that are sealed with the new passphrase now; the key file is the last.
    pub sealed: Vec<PathBuf>,
    /// Keys kept aside that another passphrase seals; they are as they were.
    pub left: Vec<PathBuf>,
}

/// The key file and what belongs to it, all in one directory: `NAME`, `NAME.previous` (the old key's word for the
/// new one, until it is registered) and `NAME.old-DATE` (keys that were replaced).
///
/// A key is plain or sealed with a passphrase. What takes a passphrase takes none for a plain key.
#[derive(Clone, Debug)]
pub struct Vault {
    path: PathBuf,
    iterations: NonZeroU32,
}

/// A key that can sign, and the seed it is made of.
type Opened = (NodeKey, Zeroizing<[u8; 32]>);

impl Vault {
    /// The vault of a key file; the path has no `~` any more. Nothing is read yet.
    pub fn at(path: impl Into<PathBuf>) -> Vault {
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        Vault { path: path.into(), iterations }
    }

    /// With a seal that costs nothing: tests have no time.
    #[cfg(test)]
    pub fn quick(self) -> Vault {
        Vault { iterations: NonZeroU32::MIN, ..self }
    }

    /// The key file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the key file.
    pub fn state(&self) -> Result<KeyState, VaultError> {
        match read(&self.path) {
            Err(VaultError::File(FileError::Missing(_))) => Ok(KeyState::Absent),
            Err(e) => Err(e),
            Ok(Content::Plain(key, _)) => Ok(KeyState::Ready(key)),
            Ok(Content::Sealed(der)) => match Sealed::read(&der) {
                Ok(_) => Ok(KeyState::Locked),
                Err(e) => Err(VaultError::Seal(self.path.clone(), e)),
            },
        }
    }

    /// The key, which must be there. A sealed one is opened, which takes its time.
    pub fn load(&self, passphrase: Option<&Passphrase>) -> Result<NodeKey, VaultError> {
        Ok(open(read(&self.path)?, passphrase, &self.path)?.0)
    }

    /// The key, made if there is none (sealed if there is a passphrase). Says whether it was made.
    pub fn load_or_generate(&self, passphrase: Option<&Passphrase>) -> Result<(NodeKey, bool), VaultError> {
        match self.state()? {
            KeyState::Absent => Ok((self.generate(passphrase)?, true)),
            KeyState::Ready(key) => Ok((key, false)),
            KeyState::Locked => Ok((self.load(passphrase)?, false)),
        }
    }

    /// Makes a key, sealed if there is a passphrase; an existing one is left alone and an error.
    pub fn generate(&self, passphrase: Option<&Passphrase>) -> Result<NodeKey, VaultError> {
        let (key, seed) = random_key()?;
        if let Some(passphrase) = passphrase {
            passphrase.check_length()?;
        }
        files::create(&self.path, self.text(&seed, passphrase)?.as_bytes())?;
        Ok(key)
    }

    /// The key as PKCS#8 PEM: plain if that is asked for; else sealed, with the passphrase that opens it, or with this
    /// one if it is plain.
    pub fn export(
        &self,
        passphrase: Option<&Passphrase>,
        plain: bool,
    ) -> Result<Zeroizing<String>, VaultError> {
        let content = read(&self.path)?;
        let container = if let Content::Sealed(der) = &content { Some(pem::write_sealed(der)) } else { None };
        let (_, seed) = open(content, passphrase, &self.path)?;
        match (plain, container, passphrase) {
            (true, _, _) => Ok(pem::write(&seed)),
            (false, Some(container), _) => Ok(Zeroizing::new(container)),
            (false, None, Some(passphrase)) => {
                passphrase.check_length()?;
                self.text(&seed, Some(passphrase))
            }
            (false, None, None) => Err(VaultError::NotSealed(self.path.clone())),
        }
    }

    /// Takes a key (PKCS#8 PEM) as this node's; a sealed one needs its passphrase and is sealed with it here too. One
    /// that is there is kept aside under the date of `now`.
    pub fn import(
        &self,
        text: &[u8],
        passphrase: Option<&Passphrase>,
        now: Unix,
    ) -> Result<NodeKey, VaultError> {
        let imported = Path::new("the imported key");
        let content = pem::read(text).ok_or_else(|| VaultError::NotAKey("the imported text".into()))?;
        let sealed = matches!(content, Content::Sealed(_));
        let (key, seed) = open(content, passphrase, imported)?;
        let text = self.text(&seed, passphrase.filter(|_| sealed))?;
        match self.state() {
            Ok(KeyState::Absent) => files::create(&self.path, text.as_bytes())?,
            Ok(KeyState::Ready(old)) if old.public() == key.public() && !sealed => {}
            // A sealed or damaged file may still be worth something to its owner.
            Ok(_) | Err(VaultError::NotAKey(_) | VaultError::Seal(..)) => {
                self.keep_old(now)?;
                files::replace(&self.path, text.as_bytes())?;
            }
            Err(e) => return Err(e),
        }
        Ok(key)
    }

    /// Seals the key with a passphrase, or with another one than before, and the keys that are kept aside too. The plain
    /// files are overwritten.
    pub fn seal(&self, old: Option<&Passphrase>, new: &Passphrase) -> Result<Resealed, VaultError> {
        new.check_length()?;
        // First of all, so that a wrong passphrase changes nothing.
        let (_, seed) = open(read(&self.path)?, old, &self.path)?;
        let (mut sealed, mut left) = (Vec::new(), Vec::new());
        for kept in self.files()?.into_iter().filter(|path| self.is_kept(path)) {
            match read(&kept).and_then(|content| open(content, old, &kept)) {
                Ok((_, seed)) => {
                    files::replace_destroying(&kept, self.text(&seed, Some(new))?.as_bytes())?;
                    sealed.push(kept);
                }
                Err(VaultError::File(FileError::Io(path, e))) => return Err(FileError::Io(path, e).into()),
                Err(_) => left.push(kept),
            }
        }
        files::replace_destroying(&self.path, self.text(&seed, Some(new))?.as_bytes())?;
        sealed.push(self.path.clone());
        Ok(Resealed { sealed, left })
    }

    /// Writes the key without a seal; keys kept aside stay sealed.
    pub fn unseal(&self, passphrase: &Passphrase) -> Result<NodeKey, VaultError> {
        let content = read(&self.path)?;
        if matches!(content, Content::Plain(..)) {
            return Err(VaultError::NotSealed(self.path.clone()));
        }
        let (key, seed) = open(content, Some(passphrase), &self.path)?;
        files::replace(&self.path, self.text(&seed, None)?.as_bytes())?;
        Ok(key)
    }

    /// Replaces the key by a new one, for which the old one signs. The old one is kept aside under the date of
    /// `now`; a sealed key's successor is sealed with its passphrase. A running node goes on with the old one until it is
    /// started again.
    ///
    /// Whatever moment the power fails at, the key file holds one of the two, and a signature for a key that never
    /// came into force is recognised by the NodeID it is for.
    pub fn rotate(&self, passphrase: Option<&Passphrase>, now: Unix) -> Result<Rotation, VaultError> {
        let content = read(&self.path)?;
        let sealed = matches!(content, Content::Sealed(_));
        let (old, _) = open(content, passphrase, &self.path)?;
        if self.previous(&old)?.is_some() {
            return Err(VaultError::RotationPending);
        }
        let (new, seed) = random_key()?;
        let text = self.text(&seed, passphrase.filter(|_| sealed))?;
        let mut word = object([("nodeId", new.node_id().into())]);
        signed::sign(Kind::Rotation, &mut word, &old);
        let signature = word.member(Kind::Rotation.member()).cloned().unwrap_or(Value::Null);
        let previous = object([("nodeId", old.node_id().into()), ("sig", signature)]);
        let record = object([("nodeId", new.node_id().into()), ("previous", previous)]);
        files::replace(&self.beside(".previous"), record.canonical().as_bytes())?;
        let kept = self.keep_old(now)?;
        files::replace(&self.path, text.as_bytes())?;
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
        let gone = self.files()?;
        gone.iter().try_for_each(|path| files::destroy(path))?;
        Ok(gone)
    }

    /// The files that are the vault's, in the order of their names.
    pub fn files(&self) -> Result<Vec<PathBuf>, VaultError> {
        let around = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = |n: &str| {
            n.strip_prefix(&name).is_some_and(|rest| {
                ["", ".tmp", ".wiping"].contains(&rest)
                    || rest.starts_with(".previous")
                    || rest.starts_with(".old-")
            })
        };
        let io = |e| VaultError::File(FileError::Io(around.to_owned(), e));
        let mut found = Vec::new();
        let entries = match fs::read_dir(around) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(io)?,
        };
        for entry in entries {
            let entry = entry.map_err(io)?;
            if ours(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
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

    fn is_kept(&self, path: &Path) -> bool {
        let start = self.beside(".old-");
        let leftover = path.extension().is_some_and(|e| e == "tmp" || e == "wiping");
        path.as_os_str().as_encoded_bytes().starts_with(start.as_os_str().as_encoded_bytes()) && !leftover
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    }

    /// The file of a seed.
    fn text(
        &self,
        seed: &[u8; 32],
        passphrase: Option<&Passphrase>,
    ) -> Result<Zeroizing<String>, VaultError> {
        let Some(passphrase) = passphrase else { return Ok(pem::write(seed)) };
        let mut fresh: Fresh = Default::default();
        SystemRandom::new().fill(&mut fresh).map_err(|_| VaultError::NoRandomness)?;
        let sealed = Sealed::new(&*pem::der(seed), passphrase, &fresh, self.iterations);
        Ok(Zeroizing::new(pem::write_sealed(&sealed.to_der())))
    }
}

fn read(path: &Path) -> Result<Content, VaultError> {
    pem::read(&files::read(path)?).ok_or_else(|| VaultError::NotAKey(path.to_owned()))
}

/// The key of a file's content; `path` is for the error.
fn open(content: Content, passphrase: Option<&Passphrase>, path: &Path) -> Result<Opened, VaultError> {
    let der = match content {
        Content::Plain(key, seed) => return Ok((key, seed)),
        Content::Sealed(der) => der,
    };
    let passphrase = passphrase.ok_or_else(|| VaultError::Locked(path.to_owned()))?;
    let opened = Sealed::read(&der).and_then(|sealed| sealed.open(passphrase));
    let key = opened.map_err(|e| VaultError::Seal(path.to_owned(), e))?;
    pem::read_der(&key).ok_or_else(|| VaultError::NotAKey(path.to_owned()))
}

fn random_key() -> Result<Opened, VaultError> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *seed).map_err(|_| VaultError::NoRandomness)?;
    let key = NodeKey::from_seed(&seed).ok_or(VaultError::NoRandomness)?;
    Ok((key, seed))
}

#[cfg(test)]
mod tests;

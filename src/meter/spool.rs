//! The durable journal of the node: an append-only file of records that survives the death of the process at any byte.
//!
//! A line is one batch: 16 hexadecimal digits of the BLAKE3 of its text, a space, a JSON array of the batch's records in
//! canonical form, a line feed. A batch is written by one `write(2)` and is there whole or not at all.
use crate::json::{Value, parse};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Largest batch, bytes of its line.
pub const MAX_BATCH: usize = 4 << 20;
/// Largest journal, bytes. Beyond it an append is refused until the journal is rewritten.
pub const MAX_JOURNAL: u64 = 16 << 20;
/// Below this length a journal is never worth rewriting.
const COMPACT_FROM: u64 = 256 << 10;
/// Side files of damaged ends that are kept: the first ones and the newest.
const MAX_DAMAGED: usize = 8;
const PREFIX: usize = 17;

/// What was cut off the end of a journal when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the first byte that belongs to no whole batch.
    pub offset: u64,
    /// Bytes from there to the end.
    pub bytes: u64,
    /// Where they were put.
    pub kept_in: PathBuf,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { offset, bytes, kept_in } = self;
        write!(
            f,
            "the journal was damaged from byte {offset}; {bytes} bytes were moved to {}",
            kept_in.display()
        )
    }
}

/// Why the journal cannot be used.
#[derive(Debug)]
pub enum JournalError {
    /// Another process holds it: a second node of this owner must not run on the same state.
    Locked(PathBuf),
    /// The batch is larger than [`MAX_BATCH`]; nothing was written.
    BatchTooLarge(usize),
    /// The journal has reached [`MAX_JOURNAL`] and must be rewritten first; nothing was written.
    Full,
    /// An earlier write failed half-way and could not be undone; only a rewrite helps.
    Broken,
    /// The file system's fault.
    Io {
        /// What was being done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Locked(path) => {
                write!(
                    f,
                    "{} is in use: another node runs with this state directory; stop it first",
                    path.display()
                )
            }
            JournalError::BatchTooLarge(bytes) => {
                write!(f, "a batch of {bytes} bytes is too large for the journal (at most {MAX_BATCH})")
            }
            JournalError::Full => {
                write!(f, "the journal has reached {MAX_JOURNAL} bytes and must be rewritten")
            }
            JournalError::Broken => {
                f.write_str("an earlier write to the journal failed half-way; it must be rewritten")
            }
            JournalError::Io { what, path, source } => {
                write!(f, "cannot {what} {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let JournalError::Io { source, .. } = self { Some(source) } else { None }
    }
}

/// The journal, held by this process alone.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    /// Length after the last rewrite.
    base: u64,
    broken: bool,
    _lock: File,
}

impl Journal {
    /// Opens or creates the journal (mode 0600) and reads its records. An end that is no whole batch is moved to a side
    /// file. The lock is a file beside it and is held until the journal is dropped.
    pub fn open(path: &Path) -> Result<(Journal, Vec<Value>, Option<Damage>), JournalError> {
        let lock = take_lock(&beside(path, ".lock"))?;
        let mut file = open_private(path, OFlags::RDWR | OFlags::CREATE)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(at("read", path))?;
        let (records, whole) = read_batches(&text);
        let damage = match text.get(whole..) {
            Some(rest) if !rest.is_empty() => Some(cut_off(path, &file, whole, rest)?),
            _ => None,
        };
        let length = whole as u64;
        drop(file);
        let file = open_private(path, OFlags::WRONLY | OFlags::APPEND)?;
        sync_directory(path)?;
        let journal =
            Journal { path: path.to_owned(), file, length, base: length, broken: false, _lock: lock };
        Ok((journal, records, damage))
    }

    /// Makes the records durable, all of them or none: one `write(2)`, then `fdatasync(2)`. After an error nothing of
    /// them is in the journal.
    pub fn append(&mut self, records: &[Value]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        if self.broken {
            return Err(JournalError::Broken);
        }
        let line = batch(records)?;
        if self.length + line.len() as u64 > MAX_JOURNAL {
            return Err(JournalError::Full);
        }
        if let Err(source) = write_once(&mut self.file, &line).and_then(|()| self.file.sync_data()) {
            self.broken = self.file.set_len(self.length).is_err();
            return Err(JournalError::Io { what: "write to", path: self.path.clone(), source });
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Replaces the whole content, by a new file that takes the old one's name once it is durable.
    pub fn rewrite(&mut self, records: &[Value]) -> Result<(), JournalError> {
        let temporary = beside(&self.path, ".new");
        let mut file =
            open_private(&temporary, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND)?;
        let mut length = 0;
        for chunk in records.chunks(64) {
            length += write_apart(&mut file, chunk, &temporary)?;
        }
        if length > MAX_JOURNAL {
            return Err(JournalError::Full);
        }
        file.sync_data().map_err(at("write to", &temporary))?;
        std::fs::rename(&temporary, &self.path).map_err(at("replace", &self.path))?;
        sync_directory(&self.path)?;
        (self.file, self.length, self.base, self.broken) = (file, length, length, false);
        Ok(())
    }

    /// One whose next write has to be a rewrite.
    #[cfg(test)]
    pub fn torn(self) -> Journal {
        Journal { broken: true, ..self }
    }

    /// Whether the journal has grown so much since it was last rewritten that it should be rewritten now.
    pub fn needs_rewrite(&self) -> bool {
        self.broken || self.length > COMPACT_FROM.max(self.base.saturating_mul(2))
    }

    /// Bytes in the file.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Writes records as one batch, or as several if they are too large for one; the bytes written.
fn write_apart(file: &mut File, records: &[Value], path: &Path) -> Result<u64, JournalError> {
    match batch(records) {
        Ok(line) => {
            file.write_all(&line).map_err(at("write to", path))?;
            Ok(line.len() as u64)
        }
        Err(JournalError::BatchTooLarge(_)) if records.len() > 1 => {
            let (first, rest) = records.split_at(records.len() / 2);
            Ok(write_apart(file, first, path)? + write_apart(file, rest, path)?)
        }
        Err(e) => Err(e),
    }
}

/// The line of a batch.
fn batch(records: &[Value]) -> Result<Vec<u8>, JournalError> {
    let mut text = String::from("[");
    for (i, record) in records.iter().enumerate() {
        text.push_str(if i > 0 { "," } else { "" });
        text.push_str(&record.canonical());
    }
    text.push(']');
    let line = format!("{} {text}\n", checksum(text.as_bytes()));
    if line.len() > MAX_BATCH { Err(JournalError::BatchTooLarge(line.len())) } else { Ok(line.into_bytes()) }
}

fn checksum(text: &[u8]) -> String {
    blake3::hash(text).to_hex().chars().take(PREFIX - 1).collect()
}

/// The records of all whole batches from the start, and where those end.
fn read_batches(text: &[u8]) -> (Vec<Value>, usize) {
    let (mut records, mut whole) = (Vec::new(), 0);
    for line in text.split_inclusive(|b| *b == b'\n') {
        let Some(Value::Array(mut batch)) = read_batch(line) else { break };
        records.append(&mut batch);
        whole += line.len();
    }
    (records, whole)
}

fn read_batch(line: &[u8]) -> Option<Value> {
    let (prefix, text) = line.strip_suffix(b"\n")?.split_at_checked(PREFIX)?;
    let expected = checksum(text) + " ";
    if prefix == expected.as_bytes() { parse(text).ok() } else { None }
}

/// Saves the damaged rest, then cuts it off.
fn cut_off(path: &Path, file: &File, whole: usize, rest: &[u8]) -> Result<Damage, JournalError> {
    let side_file = |n: usize| beside(path, &format!(".damaged.{n}"));
    let number = (1..MAX_DAMAGED).find(|n| !side_file(*n).exists()).unwrap_or(MAX_DAMAGED);
    let kept_in = side_file(number);
    let mut side = open_private(&kept_in, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
    side.write_all(rest).and_then(|()| side.sync_data()).map_err(at("write to", &kept_in))?;
    file.set_len(whole as u64).and_then(|()| file.sync_data()).map_err(at("shorten", path))?;
    Ok(Damage { offset: whole as u64, bytes: rest.len() as u64, kept_in })
}

fn take_lock(path: &Path) -> Result<File, JournalError> {
    let file = open_private(path, OFlags::WRONLY | OFlags::CREATE)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Locked(path.to_owned())),
        Err(e) => Err(JournalError::Io { what: "lock", path: path.to_owned(), source: e.into() }),
    }
}

fn open_private(path: &Path, flags: OFlags) -> Result<File, JournalError> {
    match open(path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(descriptor) => Ok(File::from(descriptor)),
        Err(e) => Err(JournalError::Io { what: "open", path: path.to_owned(), source: e.into() }),
    }
}

/// A short write is an error: the rest would be a second write.
fn write_once(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    match file.write(bytes)? {
        n if n == bytes.len() => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::StorageFull, "the batch was written only in part")),
    }
}

/// Makes a new or renamed entry durable.
fn sync_directory(path: &Path) -> Result<(), JournalError> {
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = File::open(directory).and_then(|d| d.sync_all());
    opened.map_err(at("sync", directory))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { what, path, source }
}

#[cfg(test)]
pub(crate) use tests::Scratch;

#[cfg(test)]
mod tests;

//! The configuration's file: read whole, replaced atomically, its predecessor kept.
use super::forms::expand_home;
use super::model::Config;
use super::schema::Platform;
use super::{Errors, FILE, Face, MAX_TEXT, from_value, parse, read, uci, write};
use crate::json::Value;
use rustix::process::geteuid;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

impl Platform {
    /// Where this process runs.
    pub fn detect() -> Platform {
        if Path::new("/etc/openwrt_release").exists() { Platform::OpenWrt } else { Platform::Other }
    }
}

impl Face {
    /// By the name of the file: `.json` is JSON, `.uci` and the package's name without an ending (`/etc/config/echomesh`) are
    /// UCI, everything else is YAML; in a build that reads none, JSON, unless it is called `.yaml`.
    pub fn of(path: &Path) -> Face {
        match path.extension() {
            Some(e) if e.eq_ignore_ascii_case("json") => Face::Json,
            Some(e) if e.eq_ignore_ascii_case("uci") || e == "config" => Face::Uci,
            None if path.file_name().is_some_and(|n| n == uci::PACKAGE) => Face::Uci,
            Some(e) if e == "yaml" || e == "yml" => Face::Yaml,
            _ if cfg!(feature = "yaml") => Face::Yaml,
            _ => Face::Json,
        }
    }
}

/// A path of the configuration with `~/` replaced by this process's home directory (`HOME`); `None` if it has none.
pub fn real_path(path: &Path) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute());
    expand_home(path, home.as_deref())
}

/// The configuration's file: the owner's choice, else a router's own store, else `~/.echomesh/config.yaml` ([`FILE`]) or the system's,
/// whichever there is.
pub fn usual_path(chosen: Option<&Path>) -> PathBuf {
    let router = Path::new("/etc/config/echomesh");
    if chosen.is_none() && Platform::detect() == Platform::OpenWrt && router.exists() {
        return router.to_owned();
    }
    let own = real_path(&Path::new("~/.echomesh").join(FILE));
    let system = Path::new("/etc/echomesh").join(FILE);
    match (chosen, own) {
        (Some(chosen), _) => chosen.to_owned(),
        (None, Some(own)) if own.exists() || !system.exists() => own,
        (None, _) => system,
    }
}

/// Why the file could not be read or written.
#[derive(Debug)]
pub enum StoreError {
    /// There is no file.
    Missing(PathBuf),
    /// The system does not let us read it.
    Unreadable(PathBuf, io::Error),
    /// What stands in it is no valid configuration.
    Invalid(PathBuf, Errors),
    /// It could not be replaced; the old one stands.
    NotWritten(PathBuf, io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Missing(path) => {
                let path = path.display();
                write!(
                    f,
                    "{path}: there is no configuration; `echomesh setup` asks what it needs and writes one, `echomesh config init > {path}` makes one to edit"
                )
            }
            StoreError::Unreadable(path, e) => write!(f, "{}: cannot be read: {e}", path.display()),
            StoreError::Invalid(path, errors) => {
                f.write_str(errors.render(&path.to_string_lossy()).trim_end())
            }
            StoreError::NotWritten(path, e) => {
                write!(
                    f,
                    "{}: the new configuration was not written and the old one stands: {e}",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Missing(_) => None,
            StoreError::Unreadable(_, e) | StoreError::NotWritten(_, e) => Some(e),
            StoreError::Invalid(_, e) => Some(e),
        }
    }
}

/// What [`Store::save`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The file was replaced.
    Replaced,
    /// The file says the same already; its comments stay.
    Unchanged,
}

/// The file of the configuration.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    platform: Platform,
}

impl Store {
    /// The store at a path; nothing is read yet.
    pub fn open(path: impl Into<PathBuf>, platform: Platform) -> Store {
        Store { path: path.into(), platform }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration in the file.
    pub fn load(&self) -> Result<Config, StoreError> {
        let text = read_bounded(&self.path)?;
        parse(&text, Face::of(&self.path), self.platform)
            .map_err(|e| StoreError::Invalid(self.path.clone(), e))
    }

    /// Replaces the file: written aside, flushed, renamed. The predecessor is kept as `NAME.bak`; mode and, as far
    /// as the system allows, nothing else of it is taken over; root gives it to whoever had it. A failure at any point leaves the old file.
    pub fn save(&self, config: &Config) -> Result<Saved, StoreError> {
        if self.load().is_ok_and(|old| old == *config) {
            return Ok(Saved::Unchanged);
        }
        let face = Face::of(&self.path);
        let text = self.written(&config.to_value(), face);
        // A file that cannot be read back must not replace one that can.
        match parse(text.as_bytes(), face, self.platform) {
            Ok(back) if back == *config => {}
            Ok(_) => return Err(self.not_written(io::Error::other("it would be read back differently"))),
            Err(errors) => return Err(StoreError::Invalid(self.path.clone(), errors)),
        }
        self.replace(text.as_bytes()).map(|()| Saved::Replaced).map_err(|e| self.not_written(e))
    }

    /// Replaces the file as [`Store::save`] does by a valid document with exactly the members that it has.
    pub fn save_document(&self, document: &Value) -> Result<Saved, StoreError> {
        let face = Face::of(&self.path);
        let old = read_bounded(&self.path).unwrap_or_default();
        if read(&old, face).is_ok_and(|old| old.canonical() == document.canonical()) {
            return Ok(Saved::Unchanged);
        }
        let text = self.written(document, face);
        // UCI has no empty lists, and its documents are the same when what they stand for is.
        let same = |back: &Value| match face {
            Face::Uci => from_value(back, self.platform) == from_value(document, self.platform),
            _ => back.canonical() == document.canonical(),
        };
        match read(text.as_bytes(), face) {
            Ok(back) if same(&back) => {}
            Ok(_) => return Err(self.not_written(io::Error::other("it would be read back differently"))),
            Err(errors) => return Err(StoreError::Invalid(self.path.clone(), errors)),
        }
        self.replace(text.as_bytes()).map(|()| Saved::Replaced).map_err(|e| self.not_written(e))
    }

    /// The file's text. In UCI names of sections stay, and what is the service script's.
    fn written(&self, document: &Value, face: Face) -> String {
        if face != Face::Uci {
            return write(document, face);
        }
        let text = read_bounded(&self.path).ok().and_then(|text| String::from_utf8(text).ok());
        let before = text.and_then(|text| uci::parse(&text).ok()).unwrap_or_default();
        uci::write(document, &before)
    }

    fn not_written(&self, error: io::Error) -> StoreError {
        StoreError::NotWritten(self.path.clone(), error)
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        // Behind a symbolic link its target is replaced, not the link.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let (new, kept) = (beside(&target, ".new"), beside(&target, ".bak"));
        let mode = fs::metadata(&target).map_or(0o600, |m| m.permissions().mode() & 0o7777);
        let result = write_aside(&new, text, mode).and_then(|()| {
            give(&new, &target)?;
            keep(&target, &kept)?;
            fs::rename(&new, &target)
        });
        if result.is_err() {
            let _ = fs::remove_file(&new);
        }
        result.and_then(|()| sync_directory(&target))
    }
}

/// Reads a file of at most [`MAX_TEXT`] bytes, and one byte more, so that its size is told as the error.
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, StoreError> {
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => StoreError::Missing(path.to_owned()),
        _ => StoreError::Unreadable(path.to_owned(), e),
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(MAX_TEXT as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn write_aside(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    // What an interrupted attempt left behind.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// What root writes for the service must belong to the service: to whoever has the file, or its directory.
fn give(new: &Path, target: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let model = fs::metadata(target).or_else(|_| fs::metadata(directory(target)))?;
    let written = fs::symlink_metadata(new)?;
    // A node that runs as root may write its file, but is killed for giving one away.
    if (model.uid(), model.gid()) == (written.uid(), written.gid()) {
        return Ok(());
    }
    lchown(new, Some(model.uid()), Some(model.gid()))
}

/// Keeps the predecessor under another name. A link takes no space, so a full disk does not stand in the way.
fn keep(target: &Path, kept: &Path) -> io::Result<()> {
    if !target.exists() {
        return Ok(());
    }
    let aside = beside(kept, ".new");
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::hard_link(target, &aside).or_else(|_| fs::copy(target, &aside).map(|_| ()))?;
    fs::rename(&aside, kept)
}

fn sync_directory(file: &Path) -> io::Result<()> {
    File::open(directory(file))?.sync_all()
}

fn directory(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;

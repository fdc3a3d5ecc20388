//! The owner's files of hosts: read in pieces, whole or not at all.
use super::rules::HostLists;
use crate::config::{Config, real_path};
use crate::policy::lists::{Importer, NameSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;
/// Largest file, bytes.
const MAX_FILE: u64 = 256 << 20;

/// A file that cannot be read: its name, and why. Nothing of the others is used then.
#[derive(Debug)]
pub struct ListError(PathBuf, io::Error);

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the list {} cannot be read: {}", self.0.display(), self.1)
    }
}

impl std::error::Error for ListError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.1)
    }
}

/// What the owner's files hold.
#[derive(Debug, Default)]
pub struct OwnLists {
    block: NameSet,
    /// `None` without a file; an empty list allows nothing.
    allow: Option<NameSet>,
    stamps: Vec<Stamp>,
}

/// What changes when a file is written or replaced.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl OwnLists {
    /// Reads the files of a configuration. Takes seconds for millions of names.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn load(config: &Config) -> Result<OwnLists, ListError> {
        let network = &config.network;
        let block = read_all(&network.blocklist_files)?;
        let allow = match network.allowlist_files.as_slice() {
            [] => None,
            files => Some(read_all(files)?),
        };
        Ok(OwnLists { block, allow, stamps: stamps(config) })
    }

    /// For the rules, without the coordinator's; and which files they are of.
    pub fn into_rules(self) -> (HostLists, Stamps) {
        let lists =
            HostLists { block: Rc::new(self.block), allow: self.allow.map(Rc::new), ..HostLists::default() };
        (lists, Stamps(self.stamps))
    }
}

/// Which files the lists in force were read from.
#[derive(Debug, Default)]
pub struct Stamps(Vec<Stamp>);

impl Stamps {
    /// Whether the files are other ones now, or other files are named.
    pub fn differ(&self, config: &Config) -> bool {
        self.0 != stamps(config)
    }
}

fn stamps(config: &Config) -> Vec<Stamp> {
    let network = &config.network;
    let of = |path: &PathBuf| {
        let found = std::fs::metadata(real(path)).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    let between = std::iter::once(None);
    network
        .blocklist_files
        .iter()
        .map(of)
        .chain(between)
        .chain(network.allowlist_files.iter().map(of))
        .collect()
}

fn read_all(paths: &[PathBuf]) -> Result<NameSet, ListError> {
    let mut importer = Importer::default();
    for path in paths.iter().map(|p| real(p)) {
        read(&path, &mut importer).map_err(|e| ListError(path.clone(), e))?;
        let report = importer.end_list();
        crate::info!("list {}: {report}", path.display());
    }
    Ok(importer.finish())
}

fn read(path: &Path, importer: &mut Importer) -> io::Result<()> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut file = file.take(MAX_FILE + 1);
    let (mut piece, mut length) = (vec![0; PIECE], 0);
    loop {
        let got = file.read(&mut piece)?;
        length += got as u64;
        if got == 0 {
            return Ok(());
        }
        if length > MAX_FILE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        importer.feed(piece.get(..got).unwrap_or_default());
    }
}

fn real(path: &Path) -> PathBuf {
    real_path(path).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Platform, from_value};
    use crate::json;
    use crate::meter::Scratch;

    fn config(dir: &Scratch, block: &[&str], allow: &[&str]) -> Config {
        let names = |files: &[&str]| {
            let paths: Vec<String> = files.iter().map(|f| format!("{:?}", dir.0.join(f))).collect();
            paths.join(",")
        };
        let text = format!(
            r#"{{"version":1,"network":{{"blocklistFiles":[{}],"allowlistFiles":[{}]}}}}"#,
            names(block),
            names(allow)
        );
        from_value(&json::parse(text.as_bytes()).unwrap(), Platform::Other).unwrap()
    }

    #[test]
    fn all_files_of_a_kind_are_one_list() {
        let dir = Scratch::new();
        std::fs::write(dir.0.join("a"), "a.test\n0.0.0.0 b.test\n").unwrap();
        std::fs::write(dir.0.join("b"), "||c.test^").unwrap();
        let (lists, _) = OwnLists::load(&config(&dir, &["a", "b"], &[])).unwrap().into_rules();
        let covered = |h: &&str| lists.block.covers(h);
        let hosts = ["a.test", "b.test", "c.test", "d.test"];
        assert_eq!(hosts.iter().filter(|h| covered(h)).count(), 3);
        assert!(lists.allow.is_none());
    }

    #[test]
    fn an_empty_file_of_allowed_hosts_allows_nothing() {
        let dir = Scratch::new();
        std::fs::write(dir.0.join("none"), "").unwrap();
        let (lists, _) = OwnLists::load(&config(&dir, &[], &["none"])).unwrap().into_rules();
        assert!(lists.allow.is_some_and(|l| l.is_empty()));
    }

    #[test]
    fn a_file_that_is_missing_or_none_is_an_error_with_its_name() {
        let dir = Scratch::new();
        std::fs::create_dir(dir.0.join("folder")).unwrap();
        for name in ["missing", "folder"] {
            let error = OwnLists::load(&config(&dir, &[name], &[])).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("cannot be read"), "{error}");
        }
    }

    #[test]
    fn another_file_or_another_content_is_noticed() {
        let dir = Scratch::new();
        std::fs::write(dir.0.join("a"), "a.test").unwrap();
        let one = config(&dir, &["a"], &[]);
        let (_, stamps) = OwnLists::load(&one).unwrap().into_rules();
        assert!(!stamps.differ(&one));
        assert!(stamps.differ(&config(&dir, &[], &["a"])) && stamps.differ(&config(&dir, &[], &[])));
        std::fs::write(dir.0.join("a"), "a.test b.test").unwrap();
        assert!(stamps.differ(&one));
    }
}

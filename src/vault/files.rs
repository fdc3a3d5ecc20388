//! Files that only this node may read: its keys.
//!
//! A file is read only if nobody else could have read or replaced it, and it is written so that at every moment
//! either the old or the new one stands there whole.
use rustix::process::geteuid;
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest private file that is read, in bytes.
pub const MAX_FILE: usize = 16 * 1024;

/// Why a private file could not be used.
#[derive(Debug)]
pub enum FileError {
    /// There is none.
    Missing(PathBuf),
    /// There is one already.
    Exists(PathBuf),
    /// Somebody else may have read it or put it there. What is wrong, and what to do.
    Exposed(PathBuf, String),
    /// It is larger than [`MAX_FILE`].
    TooLarge(PathBuf),
    /// The system refuses.
    Io(PathBuf, io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Missing(path) => write!(f, "{}: there is no such file", path.display()),
            FileError::Exists(path) => {
                write!(f, "{}: there is one already; it is left alone", path.display())
            }
            FileError::Exposed(path, what) => write!(f, "{}: {what}", path.display()),
            FileError::TooLarge(path) => write!(f, "{}: more than {MAX_FILE} bytes", path.display()),
            FileError::Io(path, e) => write!(f, "{}: {e}", path.display()),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let FileError::Io(_, e) = self { Some(e) } else { None }
    }
}

/// Reads a private file; the memory is zeroed when it is dropped.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let io = |e: io::Error| match (e.kind(), e.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => FileError::Missing(path.to_owned()),
        (_, Some(libc::ELOOP)) => FileError::Exposed(path.to_owned(), LINK.to_owned()),
        _ => FileError::Io(path.to_owned(), e),
    };
    // Without blocking, in case somebody made it a pipe.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
    let found = file.metadata().map_err(io)?;
    let around = fs::metadata(directory(path)).map_err(io)?;
    if let Some(what) = exposure(geteuid().as_raw(), &Owned::of(&found), &Owned::of(&around)) {
        return Err(FileError::Exposed(path.to_owned(), what));
    }
    if !found.is_file() {
        return Err(FileError::Exposed(path.to_owned(), "is no regular file".to_owned()));
    }
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > MAX_FILE { Err(FileError::TooLarge(path.to_owned())) } else { Ok(bytes) }
}

/// Writes a private file that must not exist yet, and its directory if that is missing.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let aside = aside(path)?;
    write_aside(&aside, path, bytes)?;
    // A link fails where a rename would replace.
    let linked = fs::hard_link(&aside, path);
    let _ = fs::remove_file(&aside);
    match linked {
        Ok(()) => sync(path),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(FileError::Exists(path.to_owned())),
        Err(e) => Err(FileError::Io(path.to_owned(), e)),
    }
}

/// Writes a private file in the place of one that may exist, and its directory if that is missing.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let aside = aside(path)?;
    write_aside(&aside, path, bytes)?;
    rename(&aside, path)
}

/// [`replace`] of a file whose old content must not be found on the disk: it is overwritten once the new one stands.
pub fn replace_destroying(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".wiping");
    let old = PathBuf::from(name);
    match destroy(&old) {
        Ok(()) | Err(FileError::Missing(_)) => {}
        Err(e) => return Err(e),
    }
    link(path, &old)?;
    replace(path, bytes)?;
    destroy(&old)
}

/// Moves a private file to another name in its directory, durably.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(|e| FileError::Io(to.to_owned(), e))?;
    sync(to)
}

/// Gives a private file a second name, which must be free, durably.
pub fn link(from: &Path, to: &Path) -> Result<(), FileError> {
    match fs::hard_link(from, to) {
        Ok(()) => sync(to),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(FileError::Exists(to.to_owned())),
        Err(e) => Err(FileError::Io(to.to_owned(), e)),
    }
}

/// Overwrites a file with zeros and removes it. On flash the overwriting may go elsewhere; on a disk it does not.
pub fn destroy(path: &Path) -> Result<(), FileError> {
    let io = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
        _ => FileError::Io(path.to_owned(), e),
    };
    let found = fs::symlink_metadata(path).map_err(io)?;
    if found.is_file() {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let mut file = OpenOptions::new().write(true).custom_flags(flags).open(path).map_err(io)?;
        let size = usize::try_from(found.len()).unwrap_or(MAX_FILE).min(MAX_FILE);
        file.write_all(&vec![0; size]).and_then(|()| file.sync_all()).map_err(io)?;
    }
    fs::remove_file(path).map_err(io)?;
    sync(path)
}

const LINK: &str = "is a symbolic link; put the file itself there";

/// What of a file's metadata decides who could have read or replaced it.
struct Owned {
    owner: u32,
    mode: u32,
}

impl Owned {
    fn of(found: &Metadata) -> Owned {
        Owned { owner: found.uid(), mode: found.mode() & 0o7777 }
    }
}

/// Why a file in a directory is not private to `me`. Root may use the files of the service's user, since its commands
/// work on them; what stands in a directory that only its owner writes, that owner put there.
fn exposure(me: u32, file: &Owned, around: &Owned) -> Option<String> {
    if file.mode & 0o077 != 0 {
        let mode = file.mode;
        return Some(format!(
            "others may read it (mode {mode:04o}); `chmod 600` it, and rotate the key if somebody may have"
        ));
    }
    if me != 0 && file.owner != me {
        return Some(format!("belongs to user {}, not to this process's user {me}; `chown` it", file.owner));
    }
    if me != 0 && around.owner != me && around.owner != 0 {
        return Some(format!(
            "its directory belongs to user {}, who could replace it; `chown` it",
            around.owner
        ));
    }
    if around.mode & 0o022 != 0 {
        return Some(format!("others may write its directory (mode {:04o}); `chmod 700` it", around.mode));
    }
    None
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name under which a file is written before it gets its own; its directory exists afterwards.
fn aside(path: &Path) -> Result<PathBuf, FileError> {
    let around = directory(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(around)
        .map_err(|e| FileError::Io(around.to_owned(), e))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    Ok(PathBuf::from(name))
}

fn write_aside(aside: &Path, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let written = (|| {
        match fs::remove_file(aside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
        if geteuid().is_root() {
            // What root writes for the service must belong to the service.
            let model = fs::symlink_metadata(path).or_else(|_| fs::metadata(directory(path)))?;
            let written = file.metadata()?;
            if (model.uid(), model.gid()) != (written.uid(), written.gid()) {
                fchown(&file, Some(model.uid()), Some(model.gid()))?;
            }
        }
        file.write_all(bytes)?;
        file.sync_all()
    })();
    written.map_err(|e| {
        let _ = fs::remove_file(aside);
        FileError::Io(path.to_owned(), e)
    })
}

fn sync(path: &Path) -> Result<(), FileError> {
    let around = directory(path);
    File::open(around).and_then(|d| d.sync_all()).map_err(|e| FileError::Io(around.to_owned(), e))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A private directory of its own, removed at the end.
    pub(in super::super) struct Folder(pub PathBuf);

    impl Folder {
        pub fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("echomesh-vault-{name}-{}", std::process::id()));
            DirBuilder::new().recursive(true).mode(0o700).create(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    pub(in super::super) fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn exposed(path: &Path) -> String {
        match read(path).unwrap_err() {
            FileError::Exposed(_, what) => what,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_written_file_and_its_directory_are_private() {
        let folder = Folder::new("private");
        let path = folder.0.join("a/b/key");
        create(&path, b"one").unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(matches!(create(&path, b"two").unwrap_err(), FileError::Exists(_)));
        assert_eq!(**read(&path).unwrap(), *b"one");
        replace(&path, b"two").unwrap();
        assert_eq!((&**read(&path).unwrap(), mode(&path)), (&b"two"[..], 0o600));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_may_read_or_replace_is_refused() {
        let folder = Folder::new("exposed");
        let path = folder.0.join("key");
        create(&path, b"x").unwrap();
        for bad in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bad)).unwrap();
            assert!(exposed(&path).contains(&format!("others may read it (mode {bad:04o}); `chmod 600`")));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(exposed(&path).contains("others may write its directory (mode 0770)"));
    }

    #[test]
    fn a_link_a_directory_and_a_large_file_are_refused() {
        let folder = Folder::new("link");
        let (path, link) = (folder.0.join("key"), folder.0.join("link"));
        replace(&path, &[0; MAX_FILE]).unwrap();
        assert_eq!(read(&path).unwrap().len(), MAX_FILE);
        symlink(&path, &link).unwrap();
        assert_eq!(exposed(&link), LINK);
        replace(&path, &[0; MAX_FILE + 1]).unwrap();
        assert!(matches!(read(&path).unwrap_err(), FileError::TooLarge(_)));
        fs::create_dir(folder.0.join("d")).unwrap();
        fs::set_permissions(folder.0.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(exposed(&folder.0.join("d")), "is no regular file");
        assert!(matches!(read(&folder.0.join("none")).unwrap_err(), FileError::Missing(_)));
    }

    #[test]
    fn another_user_s_file_is_refused_but_by_root() {
        let owned = |owner, mode| Owned { owner, mode };
        let (file, around) = (owned(7, 0o600), owned(7, 0o700));
        assert_eq!(exposure(7, &file, &around), None);
        assert_eq!(exposure(0, &file, &around), None);
        assert_eq!(exposure(7, &file, &owned(0, 0o755)), None);
        assert!(exposure(8, &file, &around).unwrap().starts_with("belongs to user 7"));
        assert!(exposure(7, &file, &owned(8, 0o755)).unwrap().starts_with("its directory belongs to user 8"));
        assert!(exposure(0, &file, &owned(7, 0o777)).unwrap().starts_with("others may write its directory"));
    }

    #[test]
    fn a_destroyed_file_is_zeroed_first() {
        let folder = Folder::new("destroyed");
        let (path, witness) = (folder.0.join("key"), folder.0.join("witness"));
        create(&path, b"secret").unwrap();
        link(&path, &witness).unwrap();
        destroy(&path).unwrap();
        assert!(matches!(read(&path).unwrap_err(), FileError::Missing(_)));
        assert_eq!(**read(&witness).unwrap(), [0; 6]);
    }
}

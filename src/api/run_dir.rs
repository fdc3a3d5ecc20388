//! The run directory: where the running node and its tools meet (`api.sock`, `api.token`).
use super::access::Token;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where a service's run directory is.
const SYSTEM: &str = "/var/run/echomesh";

/// A run directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

/// Why there is no run directory, or a file of it cannot be written.
#[derive(Debug)]
pub enum RunDirError {
    /// None of the candidates can be used, and there is no other.
    None,
    /// The owner's choice, or a file in it, cannot be used.
    Io(PathBuf, io::Error),
    /// Others may write to the directory, and so put their own socket there.
    Shared(PathBuf),
}

impl fmt::Display for RunDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunDirError::None => write!(
                f,
                "{SYSTEM} cannot be used and XDG_RUNTIME_DIR is not set; give a directory with --run-dir"
            ),
            RunDirError::Io(path, e) => write!(f, "{}: {e}", path.display()),
            RunDirError::Shared(path) => write!(
                f,
                "{}: others may write to this run directory; make it yours alone (chmod 700)",
                path.display()
            ),
        }
    }
}

impl std::error::Error for RunDirError {}

impl RunDir {
    /// The candidates in their order: the owner's choice alone if there is one.
    pub fn candidates(chosen: Option<&Path>) -> Vec<RunDir> {
        let user = std::env::var_os("XDG_RUNTIME_DIR").map(|d| Path::new(&d).join("echomesh"));
        match chosen {
            Some(path) => vec![RunDir(path.to_owned())],
            None => std::iter::once(PathBuf::from(SYSTEM)).chain(user).map(RunDir).collect(),
        }
    }

    /// The first candidate that this process can write to, made if need be (mode 0700).
    pub fn prepare(chosen: Option<&Path>) -> Result<RunDir, RunDirError> {
        for dir in RunDir::candidates(chosen) {
            match dir.make() {
                Ok(()) => return Ok(dir),
                Err(e) if chosen.is_some() => return Err(e),
                Err(_) => {}
            }
        }
        Err(RunDirError::None)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The API's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("api.sock")
    }

    /// The API's bearer token.
    pub fn token(&self) -> PathBuf {
        self.0.join("api.token")
    }

    /// Makes a new token and writes its file (mode 0600), whole or not at all.
    pub fn write_token(&self, random: &[u8; 32]) -> Result<Token, RunDirError> {
        let (token, text) = Token::new(random);
        let (new, path) = (self.0.join("api.token.new"), self.token());
        let write = || {
            let _ = fs::remove_file(&new);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(Zeroizing::new(format!("{}\n", &*text)).as_bytes())?;
            fs::rename(&new, &path)
        };
        write().map_err(|e| RunDirError::Io(path.clone(), e))?;
        Ok(token)
    }

    fn make(&self) -> Result<(), RunDirError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        let usable = made.and_then(|()| {
            let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
            rustix::fs::access(&self.0, wanted)?;
            fs::metadata(&self.0)
        });
        match usable {
            Ok(meta) if meta.mode() & 0o022 != 0 => Err(RunDirError::Shared(self.0.clone())),
            Ok(_) => Ok(()),
            Err(e) => Err(RunDirError::Io(self.0.clone(), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn fresh(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("echomesh-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn the_token_file_is_the_owners_alone() {
        let path = fresh("token");
        let dir = RunDir::prepare(Some(&path)).unwrap();
        fs::write(dir.token(), "old").unwrap();
        fs::set_permissions(dir.token(), fs::Permissions::from_mode(0o644)).unwrap();
        dir.write_token(&[0xab; 32]).unwrap();
        assert_eq!(fs::metadata(dir.token()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(dir.token()).unwrap(), format!("{}\n", "ab".repeat(32)));
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_write_to_is_refused() {
        let path = fresh("shared");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(RunDir::prepare(Some(&path)), Err(RunDirError::Shared(p)) if p == path));
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_choice_that_cannot_be_used_is_an_error_not_another_directory() {
        let path = fresh("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(RunDir::prepare(Some(&path)), Err(RunDirError::Io(p, _)) if p == path));
        fs::remove_file(&path).unwrap();
    }
}

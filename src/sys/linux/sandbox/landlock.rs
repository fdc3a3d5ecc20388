//! Landlock (landlock(7), linux/landlock.h): which files the process can reach at all, whatever its user may.
//!
//! Each generation of the kernel's interface (ABI) knows more rights; a right that this one does not know is not asked for.
//! Rights are given below directories: a file that is replaced by renaming, as resolv.conf is, keeps its place there.
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What the process may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Directories (or files) below which files are read, made, replaced and removed.
    pub own: Vec<PathBuf>,
    /// Directories (or files) below which files are read. What does not exist is left out.
    pub read: Vec<PathBuf>,
    /// Directories below which files are read and executed.
    pub run: Vec<PathBuf>,
}

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
/// Everything of ABI 1, with the kinds of files that the node never makes.
const FIRST: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// ABI 6: abstract Unix sockets of, and signals to, processes outside.
const SCOPES: u64 = 0b11;

const OWN: u64 =
    WRITE_FILE | READ_FILE | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | TRUNCATE;
/// Rights that a rule for a file, which is no directory, may have.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

/// `struct landlock_ruleset_attr`.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: libc::c_int,
}

/// The rights that an ABI knows.
fn known(abi: libc::c_long) -> u64 {
    let since = |first: libc::c_long, right: u64| if abi >= first { right } else { 0 };
    FIRST | since(2, REFER) | since(3, TRUNCATE) | since(5, IOCTL_DEV)
}

/// The kernel's ABI, from 1 on.
///
/// # Errors
/// Why it has none.
fn abi() -> io::Result<libc::c_long> {
    let (none, size): (*const Ruleset, usize) = (std::ptr::null(), 0);
    // SAFETY: with this flag the kernel reads no attribute.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, size, CREATE_RULESET_VERSION) };
    if abi >= 1 {
        return Ok(abi);
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            io::Error::new(error.kind(), "this kernel has no Landlock (5.13 or later, built with it)")
        }
        Some(libc::EOPNOTSUPP) => io::Error::new(error.kind(), "Landlock is switched off (boot option lsm=)"),
        _ => error,
    })
}

/// Confines the calling thread, and each that it starts later, to these files; returns the ABI.
///
/// # Errors
/// Why it is not confined: no Landlock, `no_new_privs` not set, or a directory of its own that cannot be opened.
pub(super) fn confine(files: &Files) -> io::Result<libc::c_long> {
    let abi = abi()?;
    let known = known(abi);
    let ruleset = create(known, if abi >= 6 { SCOPES } else { 0 })?;
    for path in &files.own {
        let added = open(path).and_then(|fd| allow(&ruleset, &fd, OWN & known));
        added.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    }
    for path in &files.read {
        if let Ok(fd) = open(path) {
            allow(&ruleset, &fd, READ_FILE)?;
        }
    }
    for path in &files.run {
        if let Ok(fd) = open(path) {
            allow(&ruleset, &fd, EXECUTE | READ_FILE | READ_DIR)?;
        }
    }
    // SAFETY: a descriptor and a number are passed.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(abi) }
}

fn create(handled_access_fs: u64, scoped: u64) -> io::Result<OwnedFd> {
    // The network is the guard's: its rules know addresses, Landlock's only ports.
    let attribute = Ruleset { handled_access_fs, handled_access_net: 0, scoped };
    // SAFETY: the kernel reads the structure, whose size is passed; trailing zeros that it does not know it ignores.
    let fd = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attribute, size_of::<Ruleset>(), 0u32)
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
    Ok(file.into())
}

fn allow(ruleset: &OwnedFd, target: &OwnedFd, rights: u64) -> io::Result<()> {
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(target)?.st_mode);
    let allowed_access = if kind == rustix::fs::FileType::Directory { rights } else { rights & OF_FILES };
    let rule = PathBeneath { allowed_access, parent_fd: target.as_raw_fd() };
    // SAFETY: the kernel reads the structure of this type, and the descriptor in it is open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0u32,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_abi_is_asked_for_rights_that_it_does_not_know() {
        assert_eq!(known(1), 0x1fff);
        assert_eq!(known(2), 0x3fff);
        assert_eq!(known(3), 0x7fff);
        assert_eq!(known(4), 0x7fff);
        assert_eq!(known(5), 0xffff);
        assert_eq!(known(9), 0xffff);
    }

    #[test]
    fn nothing_of_its_own_may_be_executed() {
        assert_eq!(OWN & EXECUTE, 0);
        assert_eq!(known(1) & EXECUTE, EXECUTE);
    }
}

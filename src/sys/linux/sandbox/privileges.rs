//! What a process may do beyond its user's rights, and how it gives that up: capabilities(7), prctl(2), setresuid(2).
use super::user::User;
use std::io;

/// `CAP_SETPCAP` of linux/capability.h: who has it may shrink the bounding set.
const CAP_SETPCAP: u32 = 8;
/// `CAP_SETGID`.
const CAP_SETGID: u32 = 6;
/// `_LINUX_CAPABILITY_VERSION_3`: two words for each set.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// One word of each set (`struct __user_cap_data_struct`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Leaves root's rights: bounding set, groups, user, capabilities, in the order in which each still may be left. The bits of
/// `keep` are capabilities that stay (a set bit for each number).
///
/// # Errors
/// The kernel's, with what it refused. The process must end then: it is neither root nor the user.
pub(super) fn leave(user: Option<&User>, keep: u64) -> io::Result<()> {
    let held = capabilities()?.0;
    if has(held, CAP_SETPCAP) {
        shrink_bounding_set(keep)?;
    }
    // Kernels before 4.3 have no ambient set to be cleared.
    let _ = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong);
    if keep != 0 && user.is_some() {
        prctl(libc::PR_SET_KEEPCAPS, 1).map_err(|e| named("PR_SET_KEEPCAPS", e))?;
    }
    if has(held, CAP_SETGID) {
        drop_groups()?;
    }
    if let Some(user) = user {
        switch(user)?;
    }
    set_capabilities(keep)
}

/// Becomes the user, for ever: real, effective and saved numbers.
///
/// # Errors
/// The kernel's.
pub(super) fn switch(user: &User) -> io::Result<()> {
    // SAFETY: plain numbers are passed.
    check("setresgid", unsafe { libc::setresgid(user.gid, user.gid, user.gid) })?;
    // SAFETY: plain numbers are passed.
    check("setresuid", unsafe { libc::setresuid(user.uid, user.uid, user.uid) })
}

/// Drops the supplementary groups, which root's are until somebody does.
///
/// # Errors
/// The kernel's, to those who may not.
pub(super) fn drop_groups() -> io::Result<()> {
    // SAFETY: no groups are read from a null list of length 0.
    check("setgroups", unsafe { libc::setgroups(0, std::ptr::null()) })
}

/// The effective, permitted and inheritable capabilities of the calling thread.
///
/// # Errors
/// The kernel's.
pub(super) fn capabilities() -> io::Result<(u64, u64, u64)> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut words = [Word::default(); 2];
    // SAFETY: version 3 makes the kernel write two words, which `words` has.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, words.as_mut_ptr()) };
    check("capget", i32::try_from(result).unwrap_or(-1))?;
    let [low, high] = words;
    let join = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    Ok((
        join(low.effective, high.effective),
        join(low.permitted, high.permitted),
        join(low.inheritable, high.inheritable),
    ))
}

fn set_capabilities(keep: u64) -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let word = |bits: u64| {
        let bits = (bits & u64::from(u32::MAX)) as u32;
        Word { effective: bits, permitted: bits, inheritable: 0 }
    };
    let words = [word(keep), word(keep >> 32)];
    // SAFETY: version 3 makes the kernel read two words, which `words` has.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
    check("capset", i32::try_from(result).unwrap_or(-1))?;
    match capabilities()? {
        (effective, permitted, 0) if effective == keep && permitted == keep => Ok(()),
        other => Err(io::Error::other(format!("capset has left {other:x?}"))),
    }
}

fn shrink_bounding_set(keep: u64) -> io::Result<()> {
    // The first number that the kernel does not know ends the list.
    for number in 0..64u32 {
        match prctl(libc::PR_CAPBSET_READ, number.into()) {
            Ok(0) => {}
            Ok(_) if has(keep, number) => {}
            Ok(_) => {
                prctl(libc::PR_CAPBSET_DROP, number.into()).map_err(|e| named("PR_CAPBSET_DROP", e))?;
            }
            Err(_) => break,
        }
    }
    Ok(())
}

/// No exec gives this process, or what it may start, more rights than it has.
///
/// # Errors
/// The kernel's (before 3.5).
pub(super) fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    match prctl(libc::PR_GET_NO_NEW_PRIVS, 0)? {
        1 => Ok(()),
        _ => Err(io::Error::other("PR_SET_NO_NEW_PRIVS has no effect")),
    }
}

/// Neither a core dump nor another process of the same user gets at the memory, where the keys are.
///
/// # Errors
/// The kernel's.
pub(super) fn no_dump() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    prctl(libc::PR_SET_DUMPABLE, 0).map(|_| ())
}

fn has(set: u64, number: u32) -> bool {
    set.checked_shr(number).unwrap_or(0) & 1 == 1
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    let zero: libc::c_ulong = 0;
    // SAFETY: every option used here takes plain numbers.
    let result = unsafe { libc::prctl(option, argument, zero, zero, zero) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check(what: &str, result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(named(what, io::Error::last_os_error())) } else { Ok(()) }
}

fn named(what: &str, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{what}: {e}"))
}

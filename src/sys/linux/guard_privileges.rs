//! What the guard keeps of root: `CAP_NET_ADMIN`, and the service user's view of files.
use std::io;

/// `_LINUX_CAPABILITY_VERSION_3` and `CAP_NET_ADMIN` (linux/capability.h).
const VERSION_3: u32 = 0x2008_0522;
const CAP_NET_ADMIN: u32 = 12;
/// Highest capability there is room for.
const CAPABILITIES: u32 = 64;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Set {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Keeps `CAP_NET_ADMIN` alone and takes the service user's place towards files, for good. To be called before any other
/// thread runs: each of this is a thread's own.
///
/// The user id stays root's, so that `run` knows whom it talks to, and so that the service user can neither signal nor trace
/// the guard.
///
/// # Errors
/// The kernel's; the process should end then.
pub fn keep_net_admin(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: none of these calls touches memory of ours.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()).into())?;
        // These two have no error: the second call of each tells what holds.
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        let (has_gid, has_uid) = (libc::setfsgid(gid), libc::setfsuid(uid));
        if has_gid.cast_unsigned() != gid || has_uid.cast_unsigned() != uid {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        for capability in (0..CAPABILITIES).filter(|c| *c != CAP_NET_ADMIN) {
            // Fails for those that this kernel does not know.
            libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0);
        }
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0).into())?;
    }
    let header = Header { version: VERSION_3, pid: 0 };
    let keep = Set { effective: 1 << CAP_NET_ADMIN, permitted: 1 << CAP_NET_ADMIN, inheritable: 0 };
    let sets = [keep, Set { effective: 0, permitted: 0, inheritable: 0 }];
    // SAFETY: both structures are those of capset(2) and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })
}

#[allow(clippy::useless_conversion, reason = "`c_long` has 32 bits on some targets")]
fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

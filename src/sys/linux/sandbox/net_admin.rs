//! What the guard keeps of root: `CAP_NET_ADMIN`, and the service user's view of files.
use super::privileges::{leave, no_dump, no_new_privileges};
use std::io;

/// `CAP_NET_ADMIN` of linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;

/// Keeps `CAP_NET_ADMIN` alone and takes the service user's place towards files, for good. To be called before any other
/// thread runs: each of this is a thread's own.
///
/// The user id stays root's, so that `run` knows whom it talks to, and so that the service user can neither signal nor trace
/// the guard.
///
/// # Errors
/// The kernel's; the process should end then.
pub fn keep_net_admin(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain numbers are passed. These calls have no error: the second of each tells what holds.
    let (has_gid, has_uid) = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsgid(gid), libc::setfsuid(uid))
    };
    if has_gid.cast_unsigned() != gid || has_uid.cast_unsigned() != uid {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    leave(None, 1 << CAP_NET_ADMIN)?;
    no_new_privileges()?;
    no_dump()
}

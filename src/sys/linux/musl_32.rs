//! Functions of musl that fail on 32-bit processors as their callers there use them.
use std::ffi::{c_int, c_void};

/// There are none: `polling` then waits with `epoll_wait`'s own milliseconds.
///
/// rustix 1.1 hands `timerfd_settime` a struct whose nanoseconds are narrower than musl 1.2's (and, in a crate libc without
/// `libc_unstable_musl_v1_2`, to the function of 32-bit instants): timers were disarmed where they should have been set, for parts of a second on
/// big-endian processors and always on little-endian ones.
// SAFETY: the name is the C library's, and so are the signature and what -1 means.
#[unsafe(no_mangle)]
extern "C" fn timerfd_create(_clock: c_int, _flags: c_int) -> c_int {
    -1
}

/// Never called, since there are no descriptors for it; here so that the linker takes neither from musl, where they are one object.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn timerfd_settime(_fd: c_int, _flags: c_int, _new: *const c_void, _old: *mut c_void) -> c_int {
    -1
}

/// The name that a crate libc with `libc_unstable_musl_v1_2` has for it.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn __timerfd_settime64(
    _fd: c_int,
    _flags: c_int,
    _new: *const c_void,
    _old: *mut c_void,
) -> c_int {
    -1
}

/// `dlsym` of programs that are linked statically.
///
/// musl's (`src/ldso/mips/dlsym.s`) expects position-independent callers, who leave its address in `t9`; ours are not (`cross/targets.sh` says why), and
/// it jumps to nowhere. rustix asks it for functions that the C library may have. A static program has nothing to look up.
#[cfg(echomesh_static)]
mod without_dynamic_linker {
    use std::ffi::{c_char, c_void};
    use std::ptr;

    /// Finds nothing, as `dlsym` of every static program does.
    // SAFETY: the name is the C library's, and so are the signature and what null means.
    #[unsafe(no_mangle)]
    extern "C" fn dlsym(_handle: *mut c_void, _symbol: *const c_char) -> *mut c_void {
        ptr::null_mut()
    }

    /// The name that musl 1.2's headers, and the crate libc with `libc_unstable_musl_v1_2`, have for it.
    // SAFETY: as above.
    #[unsafe(no_mangle)]
    extern "C" fn __dlsym_time64(_handle: *mut c_void, _symbol: *const c_char) -> *mut c_void {
        ptr::null_mut()
    }
}

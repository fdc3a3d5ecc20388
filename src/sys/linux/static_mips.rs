//! `dlsym` of programs that are linked statically for MIPS.
//!
//! musl's (`src/ldso/mips/dlsym.s`) expects position-independent callers, who leave its address in `t9`; ours are not (`cross/targets.sh` says why), and
//! it jumps to nowhere. rustix asks it for functions that the C library may have. A static program has nothing to look up.
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

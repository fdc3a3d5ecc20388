//! The program's pages in memory.
use std::ffi::{c_int, c_void};

/// `PF_W` of elf(5).
const WRITABLE: u32 = 2;

/// Gives back what the start has touched of the program's and its libraries' files, and what the rest of its life hardly needs:
/// parsers of the configuration, the first handshakes. What is needed comes back from the page cache when it is. The kernel would do
/// so by itself only when memory is short already, and maps 64 kB around each page that is touched. Returns the bytes that were
/// looked at.
pub fn give_back() -> usize {
    let mut bytes: usize = 0;
    // SAFETY: `segments` takes the third argument for what it is, and nothing else has it meanwhile.
    unsafe { libc::dl_iterate_phdr(Some(segments), (&raw mut bytes).cast()) };
    bytes
}

/// One object of the process. Zero: go on.
unsafe extern "C" fn segments(info: *mut libc::dl_phdr_info, _: libc::size_t, total: *mut c_void) -> c_int {
    // SAFETY: a question without arguments, answered from what the kernel said at the start: no system call.
    let Ok(page) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) else { return 0 };
    // SAFETY: the loader's description of an object, which stays as long as the object: none is ever unloaded here.
    let (base, headers) = unsafe {
        let info = &*info;
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & WRITABLE == 0) {
        let (Ok(from), Ok(length)) =
            (usize::try_from(base.wrapping_add(header.p_vaddr)), usize::try_from(header.p_memsz))
        else {
            continue;
        };
        let (begin, end) = (from.next_multiple_of(page), from.saturating_add(length) / page * page);
        let Some(length) = end.checked_sub(begin).filter(|n| *n > 0) else { continue };
        // SAFETY: whole pages of a segment that nobody can have written to: what is read there again is the same, from the file.
        // What the kernel will not give back (its own vdso) stays.
        let given = unsafe { libc::madvise(begin as *mut c_void, length, libc::MADV_DONTNEED) } == 0;
        if given {
            // SAFETY: the total of `give_back`, which waits for us.
            unsafe { *total.cast::<usize>() += length };
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_comes_again() {
        // More than the C library's alone; and this very function is in it.
        assert!(give_back() > 1_000_000);
        assert!(give_back() > 1_000_000);
    }
}

//! Things that the node must not be able to do, tried from inside its sandbox: for the tests, which run each with the sandbox and
//! without it. Built with feature `lab`, never packaged.
use super::{Files, Layers, Profile, User};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

type Attempt = fn(&Path) -> io::Result<()>;

/// A null pointer: without a filter the kernel refuses it, with one the call is never looked at.
const NULL: usize = 0;

macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: numbers, null pointers and strings that live through the call; the kernel checks each pointer itself.
        done(unsafe { libc::syscall(libc::$number $(, $argument)*) })
    };
}

/// All attempts by name. The path is a directory that is the process's own.
const ATTEMPTS: &[(&str, Attempt)] = &[
    ("nothing", |_| Ok(())),
    ("execve", |_| {
        let words = [c"true".as_ptr(), std::ptr::null()];
        call!(SYS_execve, c"/bin/true".as_ptr(), words.as_ptr(), NULL)
    }),
    ("execveat", |_| call!(SYS_execveat, -1, NULL, NULL, NULL, 0)),
    ("fork", |_| call!(SYS_clone, libc::SIGCHLD, NULL, NULL, NULL, NULL)),
    ("clone-newuser", |_| call!(SYS_clone, libc::CLONE_NEWUSER | libc::CLONE_THREAD, NULL, NULL, NULL, NULL)),
    ("clone3", |_| call!(SYS_clone3, NULL, NULL)),
    ("unshare", |_| call!(SYS_unshare, libc::CLONE_NEWUTS)),
    ("setns", |_| call!(SYS_setns, -1, 0)),
    ("ptrace", |_| call!(SYS_ptrace, libc::PTRACE_PEEKTEXT, 1, NULL, NULL)),
    ("process-vm-readv", |_| call!(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0)),
    ("pidfd-open", |_| call!(SYS_pidfd_open, 1, 0)),
    ("kill-init", |_| call!(SYS_kill, 1, 0)),
    ("kill-parent", |_| call!(SYS_kill, std::os::unix::process::parent_id(), 0)),
    ("tgkill-parent", |_| {
        let parent = std::os::unix::process::parent_id();
        call!(SYS_tgkill, parent, parent, 0)
    }),
    ("raw-socket", |_| call!(SYS_socket, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    ("raw-socket-flags", |_| {
        call!(
            SYS_socket,
            libc::AF_INET6,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            libc::IPPROTO_ICMPV6
        )
    }),
    ("ping-socket", |_| call!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)),
    ("packet-socket", |_| call!(SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("netfilter-socket", |_| call!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)),
    ("alg-socket", |_| call!(SYS_socket, libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    ("vsock-socket", |_| call!(SYS_socket, libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("io-uring", |_| call!(SYS_io_uring_setup, 1, NULL)),
    ("bpf", |_| call!(SYS_bpf, 0, NULL, 0)),
    ("userfaultfd", |_| call!(SYS_userfaultfd, 0)),
    ("perf-event", |_| call!(SYS_perf_event_open, NULL, 0, -1, -1, 0)),
    ("keyctl", |_| call!(SYS_keyctl, 0, -3, 0)),
    ("open-by-handle", |_| call!(SYS_open_by_handle_at, -1, NULL, 0)),
    ("mount", |_| call!(SYS_mount, NULL, NULL, NULL, 0, NULL)),
    ("chroot", |own| {
        let path = std::ffi::CString::new(own.as_os_str().as_encoded_bytes())?;
        call!(SYS_chroot, path.as_ptr())
    }),
    ("setuid", |_| call!(SYS_setresuid, 1, 1, 1)),
    ("capset", |_| call!(SYS_capset, NULL, NULL)),
    ("seccomp", |_| call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, NULL)),
    ("memfd", |_| call!(SYS_memfd_create, c"x".as_ptr(), 0)),
    ("dumpable", |_| call!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0)),
    ("ioctl-terminal", |_| call!(SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr())),
    ("setsockopt-raw-level", |_| call!(SYS_setsockopt, 0, 255, 1, NULL, 0)),
    ("mprotect-exec", |_| {
        let page = page(libc::PROT_READ | libc::PROT_WRITE)?;
        call!(SYS_mprotect, page, 4096, libc::PROT_READ | libc::PROT_EXEC)
    }),
    ("mmap-exec", |_| page(libc::PROT_READ | libc::PROT_EXEC).map(|_| ())),
    ("other-architecture-number", |_| {
        // SAFETY: a call without pointers: getpid by the numbers of the x32 ABI.
        done(unsafe { libc::syscall(0x4000_0027) })
    }),
    ("newer-call", |_| {
        // SAFETY: no kernel has this number yet.
        done(unsafe { libc::syscall(libc::SYS_clone3 + 500) })
    }),
    ("read-shadow", |_| std::fs::read("/etc/shadow").map(drop)),
    ("read-passwd", |_| std::fs::read("/etc/passwd").map(drop)),
    ("write-outside", |own| write_and_remove(&own.with_extension("outside"))),
    ("rename-outside", |own| {
        std::fs::write(own.join("moved"), "x")?;
        std::fs::rename(own.join("moved"), own.with_extension("moved"))?;
        std::fs::remove_file(own.with_extension("moved"))
    }),
    ("write-own", |own| write_and_remove(&own.join("file"))),
    ("link-own", |own| {
        std::os::unix::fs::symlink("/etc/shadow", own.join("link"))?;
        std::fs::remove_file(own.join("link"))
    }),
    ("tcp-socket", |_| std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
    ("resolve", |_| std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1)).map(drop)),
    ("interfaces", |_| crate::sys::linux::net::interfaces().map(drop)),
    ("thread", |_| std::thread::Builder::new().spawn(|| ()).map(|t| t.join().unwrap_or_default())),
    ("abort", |_| std::process::abort()),
];

/// Names of all attempts.
pub fn names() -> impl Iterator<Item = &'static str> {
    ATTEMPTS.iter().map(|(name, _)| *name)
}

/// Confines the process as the node does (unless `bare`) and tries one thing in a thread that ran before the filter came. Tells the
/// layers that are in force, and what the kernel said.
///
/// # Errors
/// The sandbox's, or an unknown name.
pub fn run(
    name: &str,
    own: PathBuf,
    user: Option<&User>,
    bare: bool,
) -> io::Result<(Layers, io::Result<()>)> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no attempt {name}"));
    let (_, attempt) = ATTEMPTS.iter().find(|(n, _)| *n == name).ok_or_else(unknown)?;
    let mut layers = Layers::default();
    let files =
        Files { own: vec![own.clone()], read: vec!["/etc/hosts".into(), "/proc".into()], run: Vec::new() };
    if !bare {
        super::leave_privileges(Profile::Run, user, &mut layers)?;
        super::confine_files(&files, &mut layers);
    }
    let (go, gone) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || gone.recv().map(|()| attempt(&own)))?;
    if !bare {
        super::filter_calls(Profile::Run, &mut layers);
    }
    go.send(()).map_err(io::Error::other)?;
    let tried = thread.join().map_err(|_| io::Error::other("the thread has panicked"))?;
    Ok((layers, tried.map_err(io::Error::other)?))
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn page(protection: libc::c_int) -> io::Result<*mut libc::c_void> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new page where the kernel likes, which nothing refers to.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page) }
}

fn write_and_remove(path: &Path) -> io::Result<()> {
    std::fs::write(path, "x")?;
    std::fs::remove_file(path)
}

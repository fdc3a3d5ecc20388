//! The node's sandbox from inside: each forbidden thing is tried in a process that has confined itself as the node does, and
//! without the sandbox, so that no attempt fails for another reason than the sandbox.
#![cfg(feature = "lab")]
#![allow(clippy::disallowed_methods, reason = "a test of a program runs it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const SIGSYS: i32 = 31;
const SIGABRT: i32 = 6;
/// Whom it becomes where the test runs as root; nobody's number in particular.
const USER: &str = "54321:54321";

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Refused(i32),
    Killed(i32),
}
use End::{Done, Killed, Refused};

struct Own(PathBuf);

impl Own {
    fn new(name: &str) -> Own {
        let path = std::env::temp_dir().join(format!("echomesh-trespass-{name}-{}", std::process::id()));
        // A directory of the test's own around the process's own, which "outside" is.
        fs::create_dir_all(path.join("own")).unwrap();
        for path in [&path, &path.join("own")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        Own(path)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn attempt(name: &str, bare: bool) -> (End, String) {
    let own = Own::new(&format!("{name}-{bare}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_echomesh-lab"));
    command.args(["trespass", name, "--own"]).arg(own.0.join("own")).stdin(Stdio::null());
    if bare {
        command.arg("--bare");
    } else if is_root() {
        command.args(["--user", USER]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let refused = || text.lines().find_map(|l| l.strip_prefix("refused: ")?.parse().ok());
    let end = match (output.status.signal(), output.status.code()) {
        (Some(signal), _) => Killed(signal),
        (None, Some(0)) => Done,
        (None, Some(1)) => Refused(refused().unwrap()),
        other => panic!("{name}: {other:?} {text} {}", String::from_utf8_lossy(&output.stderr)),
    };
    (end, text)
}

/// What kills the process. Without the sandbox each ends in another way.
const DEADLY: &[&str] = &[
    "execve",
    "execveat",
    "fork",
    "clone-newuser",
    "unshare",
    "setns",
    "ptrace",
    "process-vm-readv",
    "pidfd-open",
    "kill-init",
    "kill-parent",
    "tgkill-parent",
    "raw-socket",
    "raw-socket-flags",
    "ping-socket",
    "packet-socket",
    "netfilter-socket",
    "alg-socket",
    "vsock-socket",
    "io-uring",
    "bpf",
    "userfaultfd",
    "perf-event",
    "keyctl",
    "open-by-handle",
    "mount",
    "chroot",
    "setuid",
    "capset",
    "seccomp",
    "memfd",
    "dumpable",
    "ioctl-terminal",
    "setsockopt-raw-level",
    "mprotect-exec",
    "other-architecture-number",
    "link-own",
];
/// What fails, and how.
const REFUSED: &[(&str, i32)] =
    &[("mmap-exec", libc_errno::EACCES), ("clone3", libc_errno::ENOSYS), ("newer-call", libc_errno::ENOSYS)];
/// What Landlock keeps out of reach, where the kernel has it.
const FENCED: &[&str] = &["read-passwd", "write-outside", "rename-outside"];
/// What the node needs.
const ALLOWED: &[&str] = &["nothing", "write-own", "tcp-socket", "resolve", "interfaces", "thread"];

/// Numbers of this test's architectures; MIPS has others.
mod libc_errno {
    pub const EACCES: i32 = 13;
    pub const ENOSYS: i32 = if cfg!(target_arch = "mips") { 89 } else { 38 };
}

#[test]
fn what_is_not_on_the_list_kills_the_process_and_only_in_the_sandbox() {
    for name in DEADLY {
        assert_eq!(attempt(name, false).0, Killed(SIGSYS), "{name}");
        assert_ne!(attempt(name, true).0, Killed(SIGSYS), "{name} without the sandbox");
    }
    // These even succeed without it, whoever runs the test.
    for name in
        ["execve", "fork", "pidfd-open", "kill-parent", "dumpable", "memfd", "mprotect-exec", "link-own"]
    {
        assert_eq!(attempt(name, true).0, Done, "{name} without the sandbox");
    }
}

#[test]
fn what_the_c_library_can_do_without_is_refused() {
    for (name, error) in REFUSED {
        assert_eq!(attempt(name, false).0, Refused(*error), "{name}");
    }
    assert_eq!(attempt("mmap-exec", true).0, Done);
    assert_ne!(attempt("clone3", true).0, Refused(libc_errno::ENOSYS), "this kernel has clone3");
}

#[test]
fn foreign_files_are_out_of_reach() {
    let (end, layers) = attempt("read-shadow", false);
    assert_eq!(end, Refused(libc_errno::EACCES));
    if is_root() {
        assert_eq!(attempt("read-shadow", true).0, Done);
    }
    if !layers.contains("landlock") {
        eprintln!("this kernel has no Landlock: only the user's rights were tried");
        return;
    }
    for name in FENCED {
        assert_eq!(attempt(name, true).0, Done, "{name} without the sandbox");
        assert_eq!(attempt(name, false).0, Refused(libc_errno::EACCES), "{name}");
    }
}

#[test]
fn what_the_node_needs_is_allowed() {
    for name in ALLOWED {
        assert_eq!(attempt(name, false).0, Done, "{name}");
    }
    // A panic ends in SIGABRT, not in SIGSYS, so that it is told from an attack.
    assert_eq!(attempt("abort", false).0, Killed(SIGABRT));
}

#[test]
fn every_attempt_is_judged_and_all_layers_are_in_force() {
    let list = Command::new(env!("CARGO_BIN_EXE_echomesh-lab")).args(["trespass", "list"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let refused = REFUSED.iter().map(|(name, _)| name);
    let judged = DEADLY.iter().chain(refused).chain(FENCED).chain(ALLOWED).chain(&["read-shadow", "abort"]);
    let mut judged: Vec<&str> = judged.copied().collect();
    let mut listed: Vec<&str> = list.lines().collect();
    judged.sort_unstable();
    listed.sort_unstable();
    assert_eq!(judged, listed);
    let layers = attempt("nothing", false).1;
    for layer in ["user", "capabilities", "no-new-privs", "no-dump", "seccomp"] {
        assert!(layers.contains(layer), "{layer}: {layers}");
    }
}

//! Which system calls each process may make, by the numbers of the architecture that it is built for.
//!
//! What is not in a list kills the process: exec, fork, ptrace, signals to others, mounts, namespaces, modules, bpf,
//! io_uring, keyrings, changes of user. Calls newer than the lists fail as they do on an older kernel, so that a newer C library
//! falls back to those that are known.
use super::Profile;
use super::bpf::{Rule, Table, Test, Verdict};
use libc::c_long;

macro_rules! numbers {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// The architecture as the kernel tells it to a filter (`AUDIT_ARCH_*`), and its first number.
#[cfg(target_arch = "x86_64")]
const MACHINE: (u32, u32) = (0xc000_003e, 0);
#[cfg(target_arch = "aarch64")]
const MACHINE: (u32, u32) = (0xc000_00b7, 0);
#[cfg(all(target_arch = "arm", target_endian = "little"))]
const MACHINE: (u32, u32) = (0x4000_0028, 0);
#[cfg(all(target_arch = "mips", target_endian = "big"))]
const MACHINE: (u32, u32) = (0x0000_0008, 4000);
#[cfg(all(target_arch = "mips", target_endian = "little"))]
const MACHINE: (u32, u32) = (0x4000_0008, 4000);

/// The first number that no list here knows (`mseal` is 462 everywhere), and the last that is taken for a newer call.
const UNKNOWN: (u32, u32) = (MACHINE.1 + 463, MACHINE.1 + 999);

/// Streams and datagrams, descriptors, readiness.
const TRAFFIC: &[c_long] = numbers![
    SYS_read SYS_readv SYS_write SYS_writev SYS_splice SYS_pipe2 SYS_close SYS_dup SYS_fcntl
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_eventfd2
    SYS_timerfd_create SYS_timerfd_settime
    SYS_bind SYS_listen SYS_accept4 SYS_connect SYS_shutdown SYS_getsockname SYS_getpeername SYS_getsockopt
    SYS_sendto SYS_sendmsg SYS_sendmmsg SYS_recvfrom SYS_recvmsg
];

/// The node's own files. Which those are, the user's rights and Landlock say.
const FILES: &[c_long] = numbers![
    SYS_openat SYS_statx SYS_lseek SYS_getdents64 SYS_getcwd SYS_faccessat SYS_faccessat2 SYS_readlinkat
    SYS_mkdirat SYS_unlinkat SYS_renameat SYS_renameat2 SYS_linkat SYS_ftruncate SYS_fsync SYS_fdatasync
    SYS_fchmod SYS_fchmodat SYS_flock
];

/// Memory, threads, clocks, random numbers, the way out.
const PROCESS: &[c_long] = numbers![
    SYS_brk SYS_munmap SYS_mremap SYS_madvise SYS_futex SYS_set_robust_list SYS_sched_yield SYS_sched_getaffinity
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_restart_syscall
    SYS_getrandom SYS_getpid SYS_gettid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_uname SYS_sysinfo
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack SYS_exit SYS_exit_group
];

/// Older names of the calls above, and what only one architecture has.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &[c_long] = numbers![
    SYS_open SYS_stat SYS_lstat SYS_fstat SYS_newfstatat SYS_access SYS_readlink SYS_mkdir SYS_rmdir SYS_unlink
    SYS_rename SYS_link SYS_chmod SYS_poll SYS_epoll_wait SYS_pread64 SYS_pwrite64 SYS_rseq
];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &[c_long] = numbers![SYS_fstat SYS_newfstatat SYS_pread64 SYS_pwrite64 SYS_rseq];
#[cfg(target_arch = "arm")]
const ARCHITECTURE: &[c_long] = numbers![
    SYS_open SYS_stat64 SYS_lstat64 SYS_fstat64 SYS_fstatat64 SYS_access SYS_readlink SYS_mkdir SYS_rmdir SYS_unlink
    SYS_rename SYS_link SYS_chmod SYS_poll SYS_epoll_wait SYS_pread64 SYS_pwrite64
    SYS__llseek SYS_fcntl64 SYS_ftruncate64 SYS_send SYS_recv SYS_sigreturn
    SYS_getuid32 SYS_geteuid32 SYS_getgid32 SYS_getegid32
];
#[cfg(target_arch = "mips")]
const ARCHITECTURE: &[c_long] = numbers![
    SYS_open SYS_stat64 SYS_lstat64 SYS_fstat64 SYS_access SYS_readlink SYS_mkdir SYS_rmdir SYS_unlink
    SYS_rename SYS_link SYS_chmod SYS_poll SYS_epoll_wait
    SYS__llseek SYS_fcntl64 SYS_ftruncate64 SYS_send SYS_recv SYS_sigreturn SYS_accept
];

/// Those that libc does not name, by their place in the architecture's own table.
#[cfg(target_arch = "arm")]
const UNNAMED: &[u32] = &[398];
/// `pread64`, `pwrite64`, `fstatat64`, `rseq`.
#[cfg(target_arch = "mips")]
const UNNAMED: &[u32] = &[200, 201, 293, 367];
#[cfg(not(any(target_arch = "arm", target_arch = "mips")))]
const UNNAMED: &[u32] = &[];

/// With times of 64 bits, whose numbers all 32-bit architectures share: `clock_gettime64`, `clock_getres_time64`,
/// `clock_nanosleep_time64`, `timerfd_settime64`, `ppoll_time64`, `futex_time64`.
#[cfg(target_pointer_width = "32")]
const TIME64: &[u32] = &[403, 406, 407, 411, 414, 422];
#[cfg(not(target_pointer_width = "32"))]
const TIME64: &[u32] = &[];

/// The table of a profile for this process.
pub(super) fn table(profile: Profile, pid: u32) -> Table {
    if profile == Profile::Uci {
        return table_of_uci();
    }
    let named = [TRAFFIC, FILES, PROCESS, ARCHITECTURE].concat();
    let raw = UNNAMED.iter().chain(TIME64).map(|n| MACHINE.1 + n);
    let mut rules: Vec<Rule> = named.into_iter().map(number).chain(raw).map(Rule::always).collect();
    rules.extend(restricted(pid));
    rules.push(sockets(profile));
    rules.sort_by_key(|r| r.number);
    let unknown = (UNKNOWN.0, UNKNOWN.1, errno(libc::ENOSYS));
    Table { machine: MACHINE.0, rules, unknown, others: Verdict::Kill }
}

/// What neither the process that executes `uci` nor `uci` has any business with. Here the list is of what is refused: `uci`
/// and its C library are the router's, and a call that nobody thought of would leave the node without its configuration.
const NOT_FOR_UCI: &[c_long] = numbers![
    SYS_socket SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_kill SYS_tkill SYS_tgkill
    SYS_rt_sigqueueinfo SYS_pidfd_send_signal SYS_pidfd_open SYS_pidfd_getfd SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot
    SYS_unshare SYS_setns SYS_bpf SYS_io_uring_setup SYS_io_uring_enter SYS_userfaultfd SYS_keyctl SYS_add_key
    SYS_request_key SYS_open_by_handle_at SYS_init_module SYS_finit_module SYS_delete_module SYS_reboot SYS_kexec_load
    SYS_swapon SYS_acct SYS_perf_event_open SYS_mknodat SYS_settimeofday SYS_clock_settime SYS_personality SYS_capset
];

/// `cacheflush` and `set_tls`, private to ARM.
#[cfg(target_arch = "arm")]
const PRIVATE: &[u32] = &[0x000f_0002, 0x000f_0005];
#[cfg(not(target_arch = "arm"))]
const PRIVATE: &[u32] = &[];

/// The table of [`Profile::Uci`].
fn table_of_uci() -> Table {
    let denied = Verdict::Refuse(errno(libc::EPERM));
    let mut rules: Vec<Rule> = NOT_FOR_UCI.iter().map(|n| Rule::never(number(*n), denied)).collect();
    let no_namespace = Test { argument: 0, mask: flags(NAMESPACES), values: vec![0] };
    rules.push(refused(libc::SYS_clone, vec![vec![no_namespace]], libc::EPERM));
    rules.push(refused(libc::SYS_clone3, Vec::new(), libc::ENOSYS));
    rules.extend(PRIVATE.iter().copied().map(Rule::always));
    rules.sort_by_key(|r| r.number);
    // To the end of all numbers: those of other ways to make a call (x32) lie there, too.
    let unknown = (UNKNOWN.0, u32::MAX, errno(libc::ENOSYS));
    Table { machine: MACHINE.0, rules, unknown, others: Verdict::Allow }
}

fn errno(e: i32) -> u16 {
    u16::try_from(e).unwrap_or(u16::MAX)
}

/// Flags of clone(2) that make namespaces.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

fn number(call: c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn flags(value: libc::c_int) -> u32 {
    value.cast_unsigned()
}

/// All bits of the argument are one of the values.
fn is(argument: u8, values: &[u32]) -> Test {
    Test { argument, mask: u32::MAX, values: values.to_vec() }
}

fn only(call: c_long, ways: Vec<Vec<Test>>) -> Rule {
    Rule { number: number(call), ways, otherwise: Verdict::Kill }
}

fn refused(call: c_long, ways: Vec<Vec<Test>>, error: i32) -> Rule {
    let otherwise = Verdict::Refuse(errno(error));
    Rule { number: number(call), ways, otherwise }
}

/// Calls whose arguments matter.
fn restricted(pid: u32) -> Vec<Rule> {
    let executable = flags(libc::PROT_EXEC);
    let not_executable = Test { argument: 2, mask: executable, values: vec![0] };
    // A C library that loads a module for its name service gets an error and goes on without it.
    let map = |call| refused(call, vec![vec![not_executable.clone()]], libc::EACCES);
    let thread = flags(libc::CLONE_THREAD);
    let a_thread = Test { argument: 0, mask: flags(NAMESPACES) | thread, values: vec![thread] };
    let levels = [libc::SOL_SOCKET, libc::IPPROTO_IP, libc::IPPROTO_TCP, libc::IPPROTO_IPV6].map(flags);
    // FIONBIO, FIONREAD, FIOCLEX: descriptors; TIOCOUTQ: what a peer has not acknowledged. A terminal's are not among them.
    let requests = [libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::TIOCOUTQ].map(request);
    let mut rules = vec![
        only(libc::SYS_mprotect, vec![vec![not_executable.clone()]]),
        only(libc::SYS_clone, vec![vec![a_thread]]),
        // Its flags lie in memory, where a filter cannot look; the C library falls back to clone.
        refused(libc::SYS_clone3, Vec::new(), libc::ENOSYS),
        // The name of a thread; a name of memory, which an allocator may give.
        only(libc::SYS_prctl, vec![vec![is(0, &[flags(libc::PR_SET_NAME), SET_VMA])]]),
        only(libc::SYS_ioctl, vec![vec![is(1, &requests)]]),
        only(libc::SYS_setsockopt, vec![vec![is(1, &levels)]]),
        // Its own limits: the C library asks for the size of the stack.
        only(libc::SYS_prlimit64, vec![vec![is(0, &[0])]]),
        // abort(3) sends itself SIGABRT.
        only(libc::SYS_tgkill, vec![vec![is(0, &[pid])]]),
    ];
    if cfg!(target_env = "musl") {
        rules.push(only(libc::SYS_tkill, vec![vec![is(1, &[flags(libc::SIGABRT)])]]));
    }
    #[cfg(any(target_pointer_width = "64", target_arch = "mips"))]
    rules.push(map(libc::SYS_mmap));
    #[cfg(target_pointer_width = "32")]
    rules.push(map(libc::SYS_mmap2));
    rules
}

/// `PR_SET_VMA`.
const SET_VMA: u32 = 0x5356_4d41;

#[allow(clippy::cast_possible_truncation, reason = "a request of ioctl(2) has 32 bits")]
fn request(request: libc::Ioctl) -> u32 {
    request as u32
}

/// `socket(2)`: Unix sockets, and TCP and UDP for `run` or netlink for `guard`. No raw, packet, multipath or Bluetooth socket.
fn sockets(profile: Profile) -> Rule {
    // The type without SOCK_NONBLOCK and SOCK_CLOEXEC.
    let kind =
        |values: &[i32]| Test { argument: 1, mask: 0xf, values: values.iter().copied().map(flags).collect() };
    let family = |values: &[i32]| is(0, &values.iter().copied().map(flags).collect::<Vec<_>>());
    let protocol = |values: &[i32]| is(2, &values.iter().copied().map(flags).collect::<Vec<_>>());
    let unix =
        vec![family(&[libc::AF_UNIX]), kind(&[libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET])];
    let netlink = |of: &[i32]| {
        vec![family(&[libc::AF_NETLINK]), kind(&[libc::SOCK_RAW, libc::SOCK_DGRAM]), protocol(of)]
    };
    let ways = match profile {
        Profile::Run => vec![
            vec![
                family(&[libc::AF_INET, libc::AF_INET6]),
                kind(&[libc::SOCK_STREAM, libc::SOCK_DGRAM]),
                protocol(&[0, libc::IPPROTO_TCP, libc::IPPROTO_UDP]),
            ],
            unix,
            // The dialler and the C library's resolver ask for the machine's own addresses.
            netlink(&[libc::NETLINK_ROUTE]),
        ],
        Profile::Guard | Profile::Uci => vec![unix, netlink(&[libc::NETLINK_ROUTE, libc::NETLINK_NETFILTER])],
    };
    only(libc::SYS_socket, ways)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_one_rule_and_none_is_unknown() {
        for profile in [Profile::Run, Profile::Guard] {
            let table = table(profile, 7);
            assert!(table.rules.windows(2).all(|two| two[0].number < two[1].number));
            assert!(table.rules.iter().all(|r| r.number < UNKNOWN.0 && r.number >= MACHINE.1));
        }
    }

    #[test]
    fn the_guard_reaches_processes_and_the_kernel_but_no_network() {
        let rule = sockets(Profile::Guard);
        assert_eq!((rule.number, rule.otherwise), (number(libc::SYS_socket), Verdict::Kill));
        let known = [libc::AF_UNIX, libc::AF_NETLINK].map(flags);
        for way in &rule.ways {
            let family = way.iter().find(|test| test.argument == 0).expect("each way has a family");
            assert!(family.mask == u32::MAX && family.values.iter().all(|f| known.contains(f)), "{family:?}");
        }
        let run = sockets(Profile::Run);
        assert!(
            run.ways.iter().flatten().any(|t| t.argument == 0 && t.values.contains(&flags(libc::AF_INET)))
        );
    }

    #[test]
    fn uci_opens_no_socket_and_makes_no_namespace() {
        let table = table(Profile::Uci, 7);
        assert!(table.rules.windows(2).all(|two| two[0].number < two[1].number));
        let rule = |call: c_long| table.rules.iter().find(|r| r.number == number(call));
        assert!(rule(libc::SYS_socket).is_some_and(|r| r.ways.is_empty()));
        let clone = &rule(libc::SYS_clone).unwrap().ways[0][0];
        assert_eq!(
            (clone.mask & flags(libc::CLONE_NEWUSER), clone.values.as_slice()),
            (flags(libc::CLONE_NEWUSER), &[0][..])
        );
        assert!(rule(libc::SYS_execve).is_none() && table.others == Verdict::Allow);
    }

    #[test]
    fn what_gives_power_over_the_machine_has_no_rule() {
        let forbidden: &[c_long] = numbers![
            SYS_execve SYS_execveat SYS_ptrace SYS_kill SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_unshare SYS_setns
            SYS_bpf SYS_io_uring_setup SYS_io_uring_enter SYS_userfaultfd SYS_keyctl SYS_add_key SYS_request_key
            SYS_open_by_handle_at SYS_setuid SYS_setgid SYS_setresuid SYS_setresgid SYS_setgroups SYS_capset SYS_seccomp
            SYS_init_module SYS_finit_module SYS_delete_module SYS_reboot SYS_kexec_load SYS_swapon SYS_acct
            SYS_process_vm_readv SYS_process_vm_writev SYS_pidfd_open SYS_pidfd_getfd SYS_pidfd_send_signal
            SYS_perf_event_open SYS_memfd_create SYS_mknodat SYS_symlinkat SYS_settimeofday SYS_clock_settime
            SYS_personality SYS_socketpair SYS_shmat SYS_rt_sigqueueinfo
        ];
        for profile in [Profile::Run, Profile::Guard] {
            let table = table(profile, 7);
            for call in forbidden {
                assert!(table.rules.iter().all(|r| r.number != number(*call)), "{call}");
            }
        }
    }
}

//! The sandbox: what the process gives up before it reads a byte from the network.
//!
//! Privileges, core dumps and files ([`leave_privileges`], [`confine_files`]) are settled while there is one thread, whose
//! restrictions later ones inherit; system calls ([`filter_calls`]) are cut down when everything has started, in all threads at once.
pub mod bpf;
mod calls;
mod landlock;
mod net_admin;
mod privileges;
#[cfg(feature = "lab")]
pub mod trespass;
pub mod user;

pub use landlock::Files;
pub use net_admin::keep_net_admin;
pub use user::{User, UserError};

use std::io;

/// Which process is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `echomesh run`: the network, and no capability.
    Run,
    /// `echomesh guard`: netlink, `CAP_NET_ADMIN`, and no network.
    Guard,
    /// The guard's process that executes `uci`: files and other programs, and no socket.
    Uci,
}

impl Profile {
    /// The capabilities that it keeps, a bit for each number of linux/capability.h.
    fn keeps(self) -> u64 {
        /// `CAP_NET_ADMIN`.
        const NET_ADMIN: u64 = 1 << 12;
        match self {
            Profile::Run | Profile::Uci => 0,
            Profile::Guard => NET_ADMIN,
        }
    }
}

/// A part of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The process is not root.
    User,
    /// No capability but the profile's.
    Capabilities,
    /// No exec gives more rights.
    NoNewPrivileges,
    /// No core dump, and no other process of the user reads the memory.
    NoDump,
    /// Own files only (Landlock).
    Files,
    /// Listed system calls only (seccomp).
    Calls,
}

impl Layer {
    /// Its name in the status.
    pub fn name(self) -> &'static str {
        match self {
            Layer::User => "user",
            Layer::Capabilities => "capabilities",
            Layer::NoNewPrivileges => "no-new-privs",
            Layer::NoDump => "no-dump",
            Layer::Files => "landlock",
            Layer::Calls => "seccomp",
        }
    }
}

/// What is in force, and what is not and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// In force.
    pub on: Vec<Layer>,
    /// Missing, with the reason and what to do about it.
    pub missing: Vec<(Layer, String)>,
}

impl Layers {
    fn note(&mut self, layer: Layer, result: Result<(), String>) {
        match result {
            Ok(()) => self.on.push(layer),
            Err(why) => self.missing.push((layer, why)),
        }
    }
}

/// The user of a `--user` option, by the system's passwd file.
///
/// # Errors
/// [`UserError`]; a passwd file that cannot be read has no users.
pub fn find_user(text: &str) -> Result<User, UserError> {
    user::find(text, &std::fs::read_to_string("/etc/passwd").unwrap_or_default())
}

/// Whether the process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Becomes the user and nothing more, where the owner has switched the sandbox off.
///
/// # Errors
/// The kernel's; the process should end then.
pub fn become_user(user: &User) -> io::Result<()> {
    privileges::drop_groups()?;
    privileges::switch(user)
}

/// Becomes the user, drops capabilities and groups, forbids new ones and core dumps.
///
/// # Errors
/// The kernel's, if the user cannot be left or a capability cannot be dropped: the process must end then, whatever the mode.
pub fn leave_privileges(profile: Profile, user: Option<&User>, layers: &mut Layers) -> io::Result<()> {
    privileges::leave(user, profile.keeps())?;
    let root = "the node runs as root; start it with --user NAME, or as a user of its own";
    layers.note(Layer::User, if is_root() { Err(root.to_owned()) } else { Ok(()) });
    layers.note(Layer::Capabilities, Ok(()));
    layers.note(Layer::NoNewPrivileges, privileges::no_new_privileges().map_err(|e| e.to_string()));
    layers.note(Layer::NoDump, privileges::no_dump().map_err(|e| e.to_string()));
    Ok(())
}

/// Confines the process to these files, before its second thread starts.
pub fn confine_files(files: &Files, layers: &mut Layers) {
    // A thread that runs already would stay outside.
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let confined = match threads {
        0 | 1 => landlock::confine(files).map(|_| ()).map_err(|e| e.to_string()),
        more => Err(format!("{more} threads run already")),
    };
    layers.note(Layer::Files, confined);
}

/// Kills the process from now on when one of its threads, present and future, makes a system call that is not the profile's.
pub fn filter_calls(profile: Profile, layers: &mut Layers) {
    layers.note(Layer::Calls, filter(profile));
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: libc::c_ushort,
    instructions: *const bpf::Instruction,
}

fn filter(profile: Profile) -> Result<(), String> {
    let code = bpf::assemble(&calls::table(profile, std::process::id())).map_err(|e| format!("{e:?}"))?;
    let length = libc::c_ushort::try_from(code.len()).map_err(|e| e.to_string())?;
    let program = Program { length, instructions: code.as_ptr() };
    // SAFETY: `program` and the instructions that it points to live through the call, which copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    match result {
        0 => Ok(()),
        thread if thread > 0 => Err(format!("thread {thread} has another filter")),
        _ => {
            let error = io::Error::last_os_error();
            let hint = match error.raw_os_error() {
                Some(libc::ENOSYS | libc::EINVAL) => " (a kernel without CONFIG_SECCOMP_FILTER)",
                _ => "",
            };
            Err(format!("{error}{hint}"))
        }
    }
}

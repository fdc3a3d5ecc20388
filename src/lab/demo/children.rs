//! Child processes and the scratch directory: nothing of them outlives the demo, however it ends.
use super::Outcome;
use crate::sys::linux::signals::Blocked;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Everything to end and to remove.
#[derive(Clone, Default)]
pub struct Children(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    running: Vec<(&'static str, Child)>,
    directory: Option<PathBuf>,
}

impl Children {
    /// Ends everything and the demo itself at the first signal.
    pub fn end_on(&self, signals: Blocked) {
        let children = self.clone();
        std::thread::spawn(move || {
            signals.wait().ok();
            children.end();
            std::process::exit(130);
        });
    }

    /// A scratch directory of our own, mode 0700.
    pub fn directory(&self) -> Outcome<PathBuf> {
        let name = format!("echomesh-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made =
            std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path);
        made.map_err(|e| format!("{}: {e}", path.display()))?;
        self.lock().directory = Some(path.clone());
        Ok(path)
    }

    /// Starts a program with its output in a file.
    pub fn start(&self, name: &'static str, command: &mut Command, log: &Path) -> Outcome<u32> {
        let failed = |e: std::io::Error| format!("{name}: {e}");
        let out = File::create(log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(failed)?;
        let pid = child.id();
        self.lock().running.push((name, child));
        Ok(pid)
    }

    /// Fails if one of them has ended.
    pub fn check(&self) -> Outcome<()> {
        for (name, child) in &mut self.lock().running {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("{name} ended by itself ({status})"));
            }
        }
        Ok(())
    }

    /// Ends all, the last one started first, and removes the scratch directory.
    pub fn end(&self) {
        let mut inner = self.lock();
        for (_, mut child) in inner.running.drain(..).rev() {
            stop(&mut child);
        }
        if let Some(directory) = inner.directory.take() {
            std::fs::remove_dir_all(directory).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SIGTERM; SIGKILL after three seconds.
fn stop(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        kill_process(pid, Signal::TERM).ok();
    }
    for _ in 0..300 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        sleep(10);
    }
    child.kill().ok();
    child.wait().ok();
}

/// Sleeps so many milliseconds: the demo is a sequence of steps, there is no event loop to stop.
pub fn sleep(ms: u64) {
    async_io::block_on(async_io::Timer::after(Duration::from_millis(ms)));
}

/// A command to be started.
#[allow(
    clippy::disallowed_methods,
    reason = "the demo starts the lab, the node and curl; the daemon executes nothing"
)]
pub fn program(path: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(path)
}

//! Where the node's files are, and the end of all of them.
use crate::config::{Config, real_path};
use crate::vault::Vault;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Files of the run directory beside the logs.
const RUN_FILES: [&str; 3] = ["api.sock", "api.token", "api.token.new"];
/// Names of the logs' segments, without their number.
const LOGS: [&str; 2] = ["access", "bundles"];

/// The node's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What must outlive a reboot, beside the key or where the owner wants it.
    pub state: PathBuf,
    /// The node's key.
    pub key: PathBuf,
    /// The listener's key.
    pub tls_key: PathBuf,
    /// The journal of what must outlive power loss.
    pub journal: PathBuf,
    /// The journal of what must outlive the process, in the run directory.
    pub memory: PathBuf,
    /// The run directory.
    pub run: PathBuf,
    /// The access log and the archive of what was billed; in the run directory, which is memory on a router.
    pub log: PathBuf,
}

impl Places {
    /// Where they are under a configuration.
    pub fn new(config: &Config, state: Option<&Path>, run: &Path) -> Places {
        let key = real_path(&config.node.id_path).unwrap_or_else(|| config.node.id_path.clone());
        let beside = key.parent().unwrap_or(Path::new(".")).to_owned();
        let state = state.map_or(beside, Path::to_owned);
        Places {
            tls_key: state.join("listener.key"),
            journal: state.join("node.journal"),
            memory: run.join("node.journal"),
            run: run.to_owned(),
            log: run.join("log"),
            key,
            state,
        }
    }

    /// The directories that the node writes to, with that of its configuration if that is a file.
    pub fn own(&self, config: Option<&Path>) -> Vec<PathBuf> {
        let config = config.map(|c| c.canonicalize().unwrap_or_else(|_| c.to_owned()));
        let around = [Some(&self.key), config.as_ref()].into_iter().flatten().filter_map(|p| p.parent());
        around.chain([self.state.as_path(), self.run.as_path()]).map(Path::to_owned).collect()
    }

    /// Removes the keys, the journal, the logs, what the run directory holds, and the files `also`. Directories go if
    /// nothing of anybody else's is in them. What cannot be removed does not keep the rest from being removed.
    ///
    /// No node may be running on these files.
    pub fn wipe(&self, also: &[PathBuf]) -> Wiped {
        let mut wiped = Wiped::default();
        match Vault::at(&self.key).wipe() {
            Ok(gone) => wiped.removed.extend(gone),
            Err(e) => wiped.failed.push(e.to_string()),
        }
        // What is secret is overwritten first; the vault has done so with the node's.
        match Vault::at(&self.tls_key).wipe() {
            Ok(gone) => wiped.removed.extend(gone),
            Err(e) => wiped.failed.push(e.to_string()),
        }
        wiped.family(&self.journal);
        wiped.family(&self.memory);
        for log in LOGS {
            wiped.family(&self.log.join(log));
        }
        RUN_FILES.iter().for_each(|name| wiped.file(&self.run.join(name)));
        also.iter().for_each(|path| wiped.file(path));
        [&self.log, &self.run, &self.state].into_iter().for_each(|d| wiped.directory(d));
        wiped
    }
}

/// What a wipe did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wiped {
    /// What is gone.
    pub removed: Vec<PathBuf>,
    /// What is not, and why.
    pub failed: Vec<String>,
}

impl Wiped {
    fn file(&mut self, path: &Path) {
        match fs::remove_file(path) {
            Ok(()) => self.removed.push(path.to_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => self.failed.push(format!("{}: {e}", path.display())),
        }
    }

    /// A file, and those beside it whose name goes on with a dot: segments, and what was written aside.
    fn family(&mut self, path: &Path) {
        self.file(path);
        let (Some(around), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
            return;
        };
        let entries = match fs::read_dir(around) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(e) => return self.failed.push(format!("{}: {e}", around.display())),
        };
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|p| {
                let rest = p.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(name));
                rest.is_some_and(|rest| rest.starts_with('.'))
            })
            .collect();
        found.sort();
        found.iter().for_each(|path| self.file(path));
    }

    /// A directory that is empty now; one that is not holds something of another's and stays.
    fn directory(&mut self, path: &Path) {
        if fs::remove_dir(path).is_ok() {
            self.removed.push(path.to_owned());
        }
    }
}

impl fmt::Display for Wiped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.removed.iter().try_for_each(|path| writeln!(f, "removed {}", path.display()))?;
        self.failed.iter().try_for_each(|why| writeln!(f, "NOT removed: {why}"))?;
        if self.removed.is_empty() && self.failed.is_empty() {
            writeln!(f, "There was nothing to remove.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Scratch;

    fn places(dir: &Scratch) -> Places {
        let (state, run) = (dir.0.join("state"), dir.0.join("run"));
        Places {
            key: state.join("node.key"),
            tls_key: state.join("listener.key"),
            journal: state.join("node.journal"),
            memory: run.join("node.journal"),
            log: run.join("log"),
            run,
            state,
        }
    }

    fn fill(places: &Places) -> Vec<PathBuf> {
        fs::create_dir_all(&places.log).unwrap();
        fs::create_dir_all(&places.state).unwrap();
        let state =
            ["node.key", "node.key.previous", "node.key.old-2026-01-01", "listener.key", "node.journal"];
        let run = [
            "api.sock",
            "api.token",
            "node.journal",
            "node.journal.lock",
            "log/access.0",
            "log/access.12",
            "log/bundles.3",
            "log/access.new",
        ];
        let more = ["node.journal.tmp"];
        let files: Vec<PathBuf> = [&state[..], &more]
            .concat()
            .iter()
            .map(|n| places.state.join(n))
            .chain(run.iter().map(|n| places.run.join(n)))
            .collect();
        files.iter().for_each(|f| fs::write(f, "x").unwrap());
        files
    }

    #[test]
    fn everything_of_the_node_is_gone_and_told() {
        let dir = Scratch::new();
        let places = places(&dir);
        let files = fill(&places);
        let config = dir.0.join("config.yaml");
        fs::write(&config, "version: 1").unwrap();
        let wiped = places.wipe(std::slice::from_ref(&config));
        assert_eq!(wiped.failed, [""; 0]);
        for file in files.iter().chain([&config, &places.state, &places.run]) {
            assert!(!file.exists() && wiped.removed.contains(file), "{}", file.display());
        }
        assert_eq!(places.wipe(&[config]).to_string(), "There was nothing to remove.\n");
    }

    #[test]
    fn what_is_anothers_stays() {
        let dir = Scratch::new();
        let places = places(&dir);
        fill(&places);
        let others = [
            places.state.join("photos"),
            places.run.join("log/accessories"),
            places.state.join("node.journals"),
        ];
        others.iter().for_each(|f| fs::write(f, "theirs").unwrap());
        places.wipe(&[]);
        assert!(others.iter().all(|f| f.exists()));
    }

    #[test]
    fn what_cannot_be_removed_is_told_and_the_rest_is_gone() {
        let dir = Scratch::new();
        let places = places(&dir);
        fill(&places);
        let stubborn = places.run.join("log/access.7");
        fs::create_dir(&stubborn).unwrap();
        fs::write(stubborn.join("x"), "").unwrap();
        let wiped = places.wipe(&[]);
        assert!(wiped.failed.len() == 1 && wiped.failed[0].contains("access.7"), "{:?}", wiped.failed);
        assert!(wiped.to_string().contains("NOT removed: "));
        assert!(!places.key.exists() && !places.journal.exists());
    }
}

//! The sandbox as the configuration asks for it: who the node becomes, what it may reach, and what of that is in force.
use crate::api::run_dir::RunDir;
use crate::cli::run::RunOptions;
use crate::config::schema::{Kind, OPTIONS, find};
use crate::config::{Config, SandboxMode, forms::Form, real_path};
use crate::json::{Value, array, object};
use crate::sys::linux::sandbox::{self, Files, Layer, Layers, Profile, User};
use crate::tls::client::SYSTEM_BUNDLES;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// What is read beside the node's own files. Name servers and time zone are files that others replace by renaming, so that their
/// directories have to be readable: there the user's rights keep secrets apart, which is one reason not to be root.
const READ: [&str; 7] = [
    "/etc",
    "/proc",
    "/sys/firmware",
    "/tmp/resolv.conf.d",
    "/tmp/sysinfo",
    "/usr/share/zoneinfo",
    "/dev/urandom",
];

/// The sandbox of this process.
#[derive(Debug)]
pub struct Sandbox {
    mode: SandboxMode,
    layers: Layers,
}

impl Sandbox {
    /// Nothing is in force.
    pub fn unconfined(mode: SandboxMode) -> Sandbox {
        Sandbox { mode, layers: Layers::default() }
    }

    /// Whether the user to become is known, if there is one.
    ///
    /// # Errors
    /// A sentence; the node must not go on as root then.
    pub fn know_user(options: &RunOptions) -> Result<(), String> {
        options.user.as_deref().map_or(Ok(()), |text| user_to_become(text).map(|_| ()))
    }

    /// Leaves root and its rights. The directories that the node needs as its user are given to it before.
    ///
    /// # Errors
    /// What is missing for `strict`, or whatever keeps the process root although it shall not be.
    pub fn begin(config: &Config, options: &RunOptions, file: Option<&Path>) -> Result<Sandbox, String> {
        let mut sandbox = Sandbox::unconfined(config.security.sandbox_mode);
        let user = options.user.as_deref().map(user_to_become).transpose()?.flatten();
        if let Some(user) = &user {
            let key = real_path(&config.node.id_path).unwrap_or_else(|| config.node.id_path.clone());
            let run_dir = RunDir::candidates(options.run_dir.as_deref());
            let run_dir = run_dir.first().map(|d| d.path().to_owned());
            for path in [real_parent(&key), options.state_dir.clone(), run_dir].into_iter().flatten() {
                give(&path, user)?;
            }
        }
        let left = match (sandbox.mode, &user) {
            (SandboxMode::Off, None) => Ok(()),
            (SandboxMode::Off, Some(user)) => sandbox::become_user(user),
            (_, user) => sandbox::leave_privileges(Profile::Run, user.as_ref(), &mut sandbox.layers),
        };
        left.map_err(|e| {
            format!("the rights of root cannot be dropped, and the node does not run with them: {e}")
        })?;
        if let (Some(user), Some(file)) = (&user, file) {
            check_config(file, user)?;
        }
        sandbox.check()?;
        Ok(sandbox)
    }

    /// Confines the process to its own files and what the configuration names. No second thread may run yet.
    ///
    /// # Errors
    /// A directory that cannot be made. A missing Landlock is none: many routers' kernels lack it.
    pub fn fence(&mut self, config: &Config, own: &[PathBuf]) -> Result<(), String> {
        if self.mode == SandboxMode::Off {
            return Ok(());
        }
        for path in own {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|e| format!("{}: cannot be made: {e}", path.display()))?;
        }
        sandbox::confine_files(&files(config, own), &mut self.layers);
        self.check()
    }

    /// Cuts system calls down, in all threads: from here on everything may be read from the network.
    ///
    /// # Errors
    /// What is missing for `strict`.
    pub fn seal(mut self) -> Result<Sandbox, String> {
        if self.mode == SandboxMode::Off {
            crate::warn!(
                "security.sandboxMode is off: a fault of this program would have all rights of its user"
            );
            return Ok(self);
        }
        sandbox::filter_calls(Profile::Run, &mut self.layers);
        self.check()?;
        for (layer, why) in &self.layers.missing {
            crate::warn!("sandbox without {}: {why}", layer.name());
        }
        Ok(self)
    }

    /// `strict` is kept or not begun.
    fn check(&self) -> Result<(), String> {
        let missing = self.layers.missing.iter().find(|(layer, _)| *layer != Layer::Files);
        match missing {
            Some((layer, why)) if self.mode == SandboxMode::Strict => Err(format!(
                "security.sandboxMode: strict does not run without the layer {}: {why}; or set it to standard, which runs \
                 and says what is missing",
                layer.name()
            )),
            _ => Ok(()),
        }
    }

    /// `sandbox` of the status.
    pub fn to_value(&self) -> Value {
        let layers = array(self.layers.on.iter().map(|l| l.name()));
        let missing = |(layer, why): &(Layer, String)| {
            object([("layer", layer.name().into()), ("reason", why.as_str().into())])
        };
        let missing = Value::Array(self.layers.missing.iter().map(missing).collect());
        object([("mode", self.mode.name().into()), ("layers", layers), ("missing", missing)])
    }
}

/// The user that an option names; none if the process is that user already.
fn user_to_become(text: &str) -> Result<Option<User>, String> {
    let user = sandbox::find_user(text).map_err(|e| e.to_string())?;
    if sandbox::is_root() {
        return Ok(Some(user));
    }
    let own = rustix::process::geteuid().as_raw();
    if own == user.uid {
        return Ok(None);
    }
    Err(format!(
        "--user {text}: only root can become another user, and this is user {own}; start it as root or without --user"
    ))
}

/// Makes a directory the user's: a missing one, or one of root's that is empty. What stands in others is not taken from
/// whoever has it.
fn give(path: &Path, user: &User) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("{}: cannot be given to user {}: {e}", path.display(), user.name);
    if !path.exists() {
        if let Some(around) = path.parent() {
            fs::create_dir_all(around).map_err(wrong)?;
        }
        fs::DirBuilder::new().mode(0o700).create(path).map_err(wrong)?;
    }
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let directory = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(wrong)?;
    let owner = directory.metadata().map_err(wrong)?.uid();
    if owner == user.uid {
        return Ok(());
    }
    if owner == 0 && fs::read_dir(path).map_err(wrong)?.next().is_none() {
        return fchown(&directory, Some(user.uid), Some(user.gid)).map_err(wrong);
    }
    let (path, name) = (path.display(), &user.name);
    Err(format!(
        "{path}: belongs to user {owner}, and the node shall keep its files there as {name}; \
         `chown -R {}:{} {path}`, or choose another directory",
        user.uid, user.gid
    ))
}

/// The configuration must be readable after the change of user, for a reload.
fn check_config(file: &Path, user: &User) -> Result<(), String> {
    let (path, name) = (file.display(), &user.name);
    fs::File::open(file)
        .map(|_| ())
        .map_err(|e| format!("{path}: user {name} cannot read the configuration: {e}; `chown {name}` it"))?;
    let around = real_parent(file).unwrap_or_default();
    if rustix::fs::access(&around, rustix::fs::Access::WRITE_OK).is_err() {
        crate::info!(
            "{}: user {name} cannot write here, so the API cannot change the configuration",
            around.display()
        );
    }
    Ok(())
}

fn files(config: &Config, own: &[PathBuf]) -> Files {
    let mut files =
        Files { own: own.to_vec(), read: READ.iter().map(PathBuf::from).collect(), run: Vec::new() };
    let plain = config.relay.listen_plain.as_deref().map(Path::new).filter(|p| p.is_absolute());
    files.own.extend(plain.and_then(Path::parent).map(Path::to_owned));
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let system = SYSTEM_BUNDLES.iter().chain(&["/etc/resolv.conf", "/etc/localtime"]).map(PathBuf::from);
    for path in paths(config).into_iter().chain(named).chain(system) {
        // A file that is replaced by renaming keeps its place in its directory; behind a link the target has one, too.
        let around = [path.parent().map(Path::to_owned), real_parent(&path)];
        files.read.extend(around.into_iter().flatten().filter(|p| p != Path::new("/")));
        files.read.push(path);
    }
    files.own.sort();
    files.own.dedup();
    files.read.sort();
    files.read.dedup();
    files
}

/// Every path that the configuration names.
fn paths(config: &Config) -> Vec<PathBuf> {
    let document = config.to_value();
    let mut paths = Vec::new();
    for option in
        OPTIONS.iter().filter(|o| matches!(o.kind, Kind::Text(Form::Path) | Kind::Texts(Form::Path, _)))
    {
        let found = find(&document, option.path);
        let list = found.and_then(Value::as_array).unwrap_or_default();
        let texts = list.iter().chain(found).filter_map(Value::as_str);
        paths.extend(texts.filter_map(|text| real_path(Path::new(text))));
    }
    paths
}

/// The directory of a file, links followed.
fn real_parent(path: &Path) -> Option<PathBuf> {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).parent().map(Path::to_owned)
}

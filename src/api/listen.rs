//! The API's listeners: `api.sock` in the run directory (mode 0600), and loopback.
use super::run_dir::{RunDir, RunDirError};
use super::{Api, Backend};
use crate::http::server::{Deadlines, Listener, serve};
use async_executor::{LocalExecutor, Task};
use async_io::Async;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Why the API cannot be served.
#[derive(Debug)]
pub enum ListenError {
    /// The run directory, or a file in it.
    RunDir(RunDirError),
    /// A node is running with this run directory.
    Running(PathBuf),
    /// The socket file.
    Socket(PathBuf, io::Error),
    /// The TCP address.
    Tcp(SocketAddr, io::Error),
    /// Not a loopback address: the API speaks without TLS.
    NotLoopback(SocketAddr),
    /// The system gave no random bytes.
    Random,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::RunDir(e) => e.fmt(f),
            ListenError::Running(path) => {
                write!(f, "{}: a node is running there; stop it, or choose another --run-dir", path.display())
            }
            ListenError::Socket(path, e) => write!(f, "{}: {e}", path.display()),
            ListenError::Tcp(address, e) if e.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "{address}: another program listens there; choose another address with --api")
            }
            ListenError::Tcp(address, e) => write!(f, "{address}: {e}"),
            ListenError::NotLoopback(address) => {
                write!(f, "{address}: the API listens on loopback only, such as 127.0.0.1:7878")
            }
            ListenError::Random => f.write_str("the system gives no random bytes for the API's token"),
        }
    }
}

impl std::error::Error for ListenError {}

/// The API while it is served. Dropping it takes its files away and stops listening.
pub struct Served {
    /// The address of the TCP listener, with its real port.
    pub address: Option<SocketAddr>,
    dir: RunDir,
    /// One for each listener: each has its own rates.
    apis: Vec<Rc<Api>>,
    _tasks: Vec<Task<()>>,
}

/// Makes the token, binds the listeners and serves them as tasks of `executor`. `tcp` may have port 0, and may be left
/// out. `names` are the host names, beside loopback's, that requests may be addressed to.
pub fn start(
    executor: &Rc<LocalExecutor<'static>>,
    dir: RunDir,
    tcp: Option<SocketAddr>,
    backend: Rc<dyn Backend>,
    names: Vec<String>,
) -> Result<Served, ListenError> {
    let unix = bind_unix(&dir.socket())?;
    let tcp = tcp.map(bind_tcp).transpose()?;
    let mut random = zeroize::Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *random).map_err(|_| ListenError::Random)?;
    let token = dir.write_token(&random).map_err(ListenError::RunDir)?;
    let address = tcp.as_ref().and_then(|l| l.get_ref().local_addr().ok());
    let listeners = std::iter::once(Listener::Unix(unix)).chain(tcp.map(Listener::Tcp));
    let (mut apis, mut tasks) = (Vec::new(), Vec::new());
    for listener in listeners {
        let api = Rc::new(Api::new(backend.clone(), token, names.clone()));
        let serving = serve(executor.clone(), listener, api.clone(), Deadlines::default());
        tasks.push(executor.spawn(serving));
        apis.push(api);
    }
    Ok(Served { address, dir, apis, _tasks: tasks })
}

impl Served {
    /// Where it is served, for people.
    pub fn place(&self) -> String {
        self.address.map_or_else(|| "at its socket alone".to_owned(), |address| address.to_string())
    }

    /// Lets another backend answer from now on.
    pub fn replace(&self, backend: Rc<dyn Backend>) {
        self.apis.iter().for_each(|api| api.replace(backend.clone()));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.dir.socket());
        let _ = fs::remove_file(self.dir.token());
    }
}

fn bind_tcp(address: SocketAddr) -> Result<Async<TcpListener>, ListenError> {
    if !address.ip().is_loopback() {
        return Err(ListenError::NotLoopback(address));
    }
    Async::<TcpListener>::bind(address).map_err(|e| ListenError::Tcp(address, e))
}

/// Binds under another name, sets the mode and renames: there is no moment at which others could connect, and a socket
/// that a killed node left is replaced.
fn bind_unix(path: &Path) -> Result<Async<UnixListener>, ListenError> {
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::Running(path.to_owned()));
    }
    let new = path.with_extension("sock.new");
    let bind = || {
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        fs::rename(&new, path)?;
        Async::new(listener)
    };
    bind().map_err(|e| ListenError::Socket(path.to_owned(), e))
}

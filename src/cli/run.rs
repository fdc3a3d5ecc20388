//! `echomesh run`: from the command line to the node.
use super::args::Arguments;
use super::{Exit, Failure};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the node finds its files and listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The configuration; without it the usual places.
    pub config: Option<PathBuf>,
    /// Whether the configuration is UCI's, instead of a file's.
    pub uci: bool,
    /// The run directory; without it the usual places.
    pub run_dir: Option<PathBuf>,
    /// The directory of what outlives the process; without it the configuration's own.
    pub state_dir: Option<PathBuf>,
    /// The user to become: a name, a UID, or UID:GID.
    pub user: Option<String>,
    /// The API's TCP address; `None` leaves only the Unix socket.
    pub api: Option<SocketAddr>,
    /// Whether the node is on ubus.
    pub ubus: Bus,
}

/// Whether the node is on ubus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// If ubusd's socket is there at the start.
    Found,
    /// Never.
    Off,
    /// At this socket, now or later.
    At(PathBuf),
}

/// The options of a command line.
pub fn options(arguments: &Arguments) -> Result<RunOptions, Failure> {
    let path = |name| arguments.value(name).map(PathBuf::from);
    let api = match arguments.text("api")? {
        Some("off") => None,
        Some(text) => Some(text.parse().map_err(|_| {
            let message =
                format!("--api {text}: write an address and a port, such as 127.0.0.1:7878, or off");
            Failure::new(Exit::Usage, message)
        })?),
        None => Some(SocketAddr::from(([127, 0, 0, 1], 7878))),
    };
    let ubus = match path("ubus") {
        None => Bus::Found,
        Some(path) if path.as_os_str() == "off" => Bus::Off,
        Some(path) => Bus::At(path),
    };
    let user = arguments.text("user")?.map(str::to_owned);
    Ok(RunOptions {
        config: path("config"),
        uci: arguments.has("uci"),
        run_dir: path("run-dir"),
        state_dir: path("state-dir"),
        user,
        api,
        ubus,
    })
}

/// Runs the node until it is told to end.
pub fn run(options: RunOptions) -> ExitCode {
    crate::core::run::run(options)
}

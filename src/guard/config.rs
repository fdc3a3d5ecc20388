//! UCI through the guard, as `run` reaches it: a connection for each exchange, in the order question, answer. It blocks, and
//! belongs on a thread of its own once the node runs.
use super::client::SOCKET;
use super::protocol::{MAX_MESSAGE, PIECE, Refusal, Report, Request};
use crate::config::MAX_TEXT;
use crate::sys::linux::seqpacket::Waiting;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the guard has for an answer; `uci` itself has [`LIMIT`](crate::sys::openwrt::uci::LIMIT) for each of its four runs.
const PATIENCE: Duration = Duration::from_secs(45);
/// How often, and with what pause, a starting node looks for its guard: ten seconds in all.
const TRIES: (u32, Duration) = (100, Duration::from_millis(100));
/// Root: only who may change the configuration may say what it is.
const ROOT: u32 = 0;

/// The BLAKE3 of a text of UCI.
pub type Digest = [u8; 32];

/// The digest of a text.
pub fn digest(text: &str) -> Digest {
    blake3::hash(text.as_bytes()).into()
}

/// Why UCI was not read or written.
#[derive(Debug)]
pub enum ConfigError {
    /// There is no guard to ask, or it went away.
    NoGuard(io::Error),
    /// Whoever listens there is not root.
    Impostor(u32),
    /// It says what no guard of this version says.
    Malformed,
    /// UCI holds something else than what was read last.
    Changed,
    /// The guard or `uci` refused, and says why.
    Refused(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::NoGuard(e) => write!(
                f,
                "UCI cannot be asked, because the guard does not answer ({e}); is `echomesh guard --uci` running?"
            ),
            ConfigError::Impostor(uid) => {
                write!(f, "Whoever listens on the guard's socket is user {uid} and not root, and is not asked.")
            }
            ConfigError::Malformed => {
                f.write_str("The guard answers what this version does not know; run both from one binary.")
            }
            ConfigError::Changed => f.write_str(
                "Somebody has changed UCI since the node read it (`uci set` counts without a commit, too); reload the node, \
                 read the configuration again and repeat the change.",
            ),
            ConfigError::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<io::Error> for ConfigError {
    fn from(e: io::Error) -> ConfigError {
        ConfigError::NoGuard(e)
    }
}

/// The way to the guard.
#[derive(Clone, Debug)]
pub struct ConfigLink {
    path: PathBuf,
}

impl ConfigLink {
    /// To the guard of a run directory.
    pub fn new(run_dir: &Path) -> ConfigLink {
        ConfigLink { path: run_dir.join(SOCKET) }
    }

    /// Waits until there is a guard: both processes are started at once.
    ///
    /// # Errors
    /// [`ConfigError::NoGuard`] after ten seconds.
    pub fn wait(&self) -> Result<(), ConfigError> {
        let mut last = io::ErrorKind::NotFound.into();
        for _ in 0..TRIES.0 {
            match Waiting::connect(&self.path, PATIENCE) {
                Ok(_) => return Ok(()),
                Err(e) => last = e,
            }
            #[allow(clippy::disallowed_methods, reason = "nothing runs yet that it could stop")]
            std::thread::sleep(TRIES.1);
        }
        Err(ConfigError::NoGuard(last))
    }

    /// What `uci show` says.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(&self) -> Result<String, ConfigError> {
        let mut exchange = self.open()?;
        let mut text = Vec::new();
        loop {
            let from = u32::try_from(text.len()).map_err(|_| ConfigError::Malformed)?;
            match exchange.ask(&Request::Read(from))? {
                Report::Piece { total, from: at, bytes } => {
                    let total = usize::try_from(total).unwrap_or(usize::MAX);
                    text.extend(&bytes);
                    if at != from || total > MAX_TEXT || text.len() > total {
                        return Err(ConfigError::Malformed);
                    }
                    if text.len() == total {
                        return String::from_utf8(text).map_err(|_| ConfigError::Malformed);
                    }
                    if bytes.is_empty() {
                        return Err(ConfigError::Malformed);
                    }
                }
                other => return Err(refused(other)),
            }
        }
    }

    /// Makes UCI say what a text of its file's form says, if it still says what was read: the digest of what it says then.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn write(&self, read: &Digest, text: &str) -> Result<Digest, ConfigError> {
        let mut exchange = self.open()?;
        let mut sent: u32 = 0;
        for piece in text.as_bytes().chunks(PIECE) {
            let request = Request::Piece { from: sent, bytes: piece.to_vec() };
            sent = sent.saturating_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
            match exchange.ask(&request)? {
                Report::Taken(all) if all == sent => {}
                other => return Err(refused(other)),
            }
        }
        match exchange.ask(&Request::Commit(*read))? {
            Report::Written(digest) => Ok(digest),
            other => Err(refused(other)),
        }
    }

    fn open(&self) -> Result<Exchange, ConfigError> {
        let socket = Waiting::connect(&self.path, PATIENCE)?;
        match socket.peer()? {
            ROOT => Ok(Exchange { socket, buffer: vec![0; MAX_MESSAGE] }),
            uid => Err(ConfigError::Impostor(uid)),
        }
    }
}

fn refused(report: Report) -> ConfigError {
    match report {
        Report::Refused(Refusal::Changed, _) => ConfigError::Changed,
        Report::Refused(Refusal::Failed, why) => ConfigError::Refused(why),
        _ => ConfigError::Malformed,
    }
}

struct Exchange {
    socket: Waiting,
    buffer: Vec<u8>,
}

impl Exchange {
    /// The answer to a question. What the guard tells all is passed over.
    fn ask(&mut self, request: &Request) -> Result<Report, ConfigError> {
        self.socket.send(&request.encode())?;
        loop {
            let length = self.socket.receive(&mut self.buffer)?;
            let message = self.buffer.get(..length).filter(|m| !m.is_empty());
            let message = message.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
            match Report::decode(message).map_err(|_| ConfigError::Malformed)? {
                Report::State(_)
                | Report::Networks(_)
                | Report::Outward(_)
                | Report::Wan(_)
                | Report::Lease(_) => {}
                answer @ (Report::Piece { .. }
                | Report::Taken(_)
                | Report::Written(_)
                | Report::Refused(..)) => return Ok(answer),
            }
        }
    }
}

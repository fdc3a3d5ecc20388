//! The guard as the keeper of UCI: what is read, what is written, and for whom.
use super::config::{Digest, digest};
use super::protocol::{PIECE, Refusal, Report, Request};
use crate::config::{Config, Face, MAX_TEXT, Platform, from_value, parse, uci};
use crate::json::Value;
use crate::sys::openwrt::uci::{Ask, Uci};
use std::fmt;
use std::io;

/// Why UCI was not read or written.
#[derive(Debug)]
pub enum UciError {
    /// The process that executes `uci` is gone.
    Gone(io::Error),
    /// `uci` failed, or what it says is no configuration.
    Failed(String),
    /// It says something else than what was read.
    Changed,
}

impl fmt::Display for UciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UciError::Gone(e) => write!(f, "the process that executes uci is gone: {e}"),
            UciError::Failed(why) => f.write_str(why),
            UciError::Changed => f.write_str("UCI says something else than what was read"),
        }
    }
}

impl std::error::Error for UciError {}

async fn ask(uci: &Uci, what: Ask, text: &str) -> Result<Vec<u8>, UciError> {
    uci.ask(what, text).await.map_err(UciError::Gone)?.map_err(UciError::Failed)
}

/// What `uci show` says.
///
/// # Errors
/// [`UciError`].
pub async fn show(uci: &Uci) -> Result<String, UciError> {
    let text = ask(uci, Ask::Show, "").await?;
    String::from_utf8(text)
        .map_err(|e| UciError::Failed(format!("UCI: byte {} is not UTF-8", e.utf8_error().valid_up_to())))
}

/// The configuration that such a text stands for.
///
/// # Errors
/// All that is wrong with it.
pub fn config(text: &str) -> Result<Config, UciError> {
    parse(text.as_bytes(), Face::Uci, Platform::OpenWrt).map_err(|e| UciError::Failed(e.to_string()))
}

/// Makes UCI say what `new` does, a text in the form of its file, if it says now what was read. What it says then.
///
/// The package is replaced in one rename, and read back; uncommitted changes are in what was read, and so in the new text or
/// meant to be gone. Nothing is written if it says the same already.
///
/// # Errors
/// [`UciError`]. Unless it says otherwise, what stood there stands.
pub async fn replace(uci: &Uci, read: &Digest, new: &str) -> Result<String, UciError> {
    let document = document(new)?;
    let before = show(uci).await?;
    if digest(&before) != *read {
        return Err(UciError::Changed);
    }
    let wanted = complete(&document)?;
    if config(&before).is_ok_and(|stands| stands == wanted) {
        // What counts is perhaps not committed yet, and shall outlive a reboot.
        ask(uci, Ask::Commit, "").await?;
        return Ok(before);
    }
    // A text that is no configuration, such as one with a slip in it, has names of sections all the same.
    let sections = uci::parse(&before).unwrap_or_default();
    ask(uci, Ask::Import, &uci::write(&document, &sections)).await?;
    ask(uci, Ask::Revert, "").await?;
    let after = show(uci).await?;
    match config(&after) {
        Ok(stands) if stands == wanted => Ok(after),
        _ => Err(UciError::Failed(
            "UCI was written and says something else now; somebody else writes it, too".to_owned(),
        )),
    }
}

fn document(text: &str) -> Result<Value, UciError> {
    crate::config::read(text.as_bytes(), Face::Uci).map_err(|e| UciError::Failed(e.to_string()))
}

fn complete(document: &Value) -> Result<Config, UciError> {
    from_value(document, Platform::OpenWrt).map_err(|e| UciError::Failed(e.to_string()))
}

/// What one connection of `run` has asked for and sent so far.
#[derive(Debug, Default)]
pub struct Exchange {
    shown: String,
    sent: Vec<u8>,
}

/// What the guard has to do for a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Todo {
    /// Nothing but to answer.
    Answer(Report),
    /// Read UCI, and answer with the first piece.
    Show,
    /// Write this, if UCI says what has this digest.
    Replace(Digest, String),
}

impl Exchange {
    /// A request of the configuration's.
    pub fn hear(&mut self, request: Request) -> Todo {
        let refused = |why: &str| Todo::Answer(Report::Refused(Refusal::Failed, why.to_owned()));
        match request {
            Request::Read(0) => Todo::Show,
            Request::Read(from) => Todo::Answer(self.piece(from)),
            Request::Piece { from, bytes } => {
                if from == 0 {
                    self.sent.clear();
                }
                if usize::try_from(from) != Ok(self.sent.len()) {
                    return refused("the pieces do not follow each other");
                }
                if self.sent.len() + bytes.len() > MAX_TEXT {
                    self.sent.clear();
                    return refused("the configuration is too long");
                }
                self.sent.extend(bytes);
                Todo::Answer(Report::Taken(u32::try_from(self.sent.len()).unwrap_or(u32::MAX)))
            }
            Request::Commit(read) => match String::from_utf8(std::mem::take(&mut self.sent)) {
                Ok(text) => Todo::Replace(read, text),
                Err(_) => refused("the configuration is not UTF-8"),
            },
            Request::ConfigChanged | Request::Lease(_) => refused("this is no request of the configuration"),
        }
    }

    /// What UCI was found to say; the answer to who asked.
    pub fn shown(&mut self, result: Result<String, UciError>) -> Report {
        match result {
            Ok(text) => {
                self.shown = text;
                self.piece(0)
            }
            Err(e) => refusal(&e),
        }
    }

    fn piece(&self, from: u32) -> Report {
        let whole = self.shown.as_bytes();
        let rest = usize::try_from(from).ok().and_then(|at| whole.get(at..)).unwrap_or_default();
        let bytes = rest.get(..PIECE.min(rest.len())).unwrap_or_default().to_vec();
        Report::Piece { total: u32::try_from(whole.len()).unwrap_or(u32::MAX), from, bytes }
    }
}

/// The answer to who wanted to write.
pub fn written(result: &Result<String, UciError>) -> Report {
    match result {
        Ok(text) => Report::Written(digest(text)),
        Err(e) => refusal(e),
    }
}

fn refusal(error: &UciError) -> Report {
    let why = if matches!(error, UciError::Changed) { Refusal::Changed } else { Refusal::Failed };
    Report::Refused(why, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(from: usize, bytes: &[u8]) -> Request {
        Request::Piece { from: u32::try_from(from).unwrap(), bytes: bytes.to_vec() }
    }

    fn refused(todo: &Todo) -> bool {
        matches!(todo, Todo::Answer(Report::Refused(Refusal::Failed, _)))
    }

    #[test]
    fn a_text_is_read_in_pieces_of_one_reading() {
        let text: String = (0..1500).map(|i| format!("line {i:05}\n")).collect();
        let mut exchange = Exchange::default();
        assert_eq!(exchange.hear(Request::Read(0)), Todo::Show);
        let mut report = exchange.shown(Ok(text.clone()));
        let mut all = Vec::new();
        loop {
            let Report::Piece { total, from, bytes } = report else { panic!("{report:?}") };
            assert_eq!((total as usize, from as usize), (text.len(), all.len()));
            assert!(bytes.len() <= PIECE && !bytes.is_empty());
            all.extend(bytes);
            if all.len() == text.len() {
                break;
            }
            let Todo::Answer(next) = exchange.hear(Request::Read(u32::try_from(all.len()).unwrap())) else {
                panic!("uci is asked once");
            };
            report = next;
        }
        assert_eq!(all, text.as_bytes());
        let Todo::Answer(beyond) = exchange.hear(Request::Read(u32::MAX)) else { panic!() };
        assert!(matches!(beyond, Report::Piece { bytes, .. } if bytes.is_empty()));
    }

    #[test]
    fn a_text_is_taken_in_pieces_that_follow_each_other_up_to_the_bound() {
        let mut exchange = Exchange::default();
        assert_eq!(exchange.hear(piece(0, b"abc")), Todo::Answer(Report::Taken(3)));
        assert!(refused(&exchange.hear(piece(2, b"d"))));
        assert_eq!(exchange.hear(piece(3, b"def")), Todo::Answer(Report::Taken(6)));
        assert_eq!(exchange.hear(Request::Commit([1; 32])), Todo::Replace([1; 32], "abcdef".to_owned()));
        assert_eq!(exchange.hear(Request::Commit([1; 32])), Todo::Replace([1; 32], String::new()));
        // It begins anew at 0.
        exchange.hear(piece(0, b"abc"));
        assert_eq!(exchange.hear(piece(0, b"x")), Todo::Answer(Report::Taken(1)));
        assert!(refused(&exchange.hear(Request::ConfigChanged)));

        let whole = vec![b'x'; PIECE];
        for at in (0..MAX_TEXT).step_by(PIECE) {
            assert!(!refused(&exchange.hear(piece(at, &whole))), "{at}");
        }
        assert!(refused(&exchange.hear(piece(MAX_TEXT, b"x"))));
        exchange.hear(piece(0, b"\xff"));
        assert!(refused(&exchange.hear(Request::Commit([0; 32]))), "no UTF-8");
    }

    #[test]
    fn failures_are_told_apart() {
        let told = |e: UciError| written(&Err(e));
        assert!(matches!(told(UciError::Changed), Report::Refused(Refusal::Changed, _)));
        let failed = told(UciError::Failed("uci: Entry not found".to_owned()));
        assert_eq!(failed, Report::Refused(Refusal::Failed, "uci: Entry not found".to_owned()));
        assert_eq!(written(&Ok("x".to_owned())), Report::Written(digest("x")));
    }
}

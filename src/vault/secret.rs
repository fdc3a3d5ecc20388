//! The passphrase of a sealed key.
use std::fmt;
use zeroize::Zeroizing;

/// Longest passphrase, bytes.
pub const MAX_PASSPHRASE: usize = 1024;
/// Shortest passphrase that a key is sealed with, characters. One that is there already is taken as it is.
pub const MIN_PASSPHRASE: usize = 8;

/// A passphrase. `Debug` shows nothing of it, nothing prints it, and its memory is zeroed when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// Why a text is no passphrase. It is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPassphrase {
    /// There is none.
    Empty,
    /// More than [`MAX_PASSPHRASE`] bytes.
    TooLong,
    /// Too short to seal a key with.
    TooShort,
}

impl fmt::Display for BadPassphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPassphrase::Empty => f.write_str("the passphrase is empty"),
            BadPassphrase::TooLong => write!(f, "the passphrase has more than {MAX_PASSPHRASE} bytes"),
            BadPassphrase::TooShort => write!(
                f,
                "the passphrase has fewer than {MIN_PASSPHRASE} characters; who gets the file would guess it"
            ),
        }
    }
}

impl std::error::Error for BadPassphrase {}

impl Passphrase {
    /// These bytes.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Passphrase, BadPassphrase> {
        match bytes.len() {
            0 => Err(BadPassphrase::Empty),
            1..=MAX_PASSPHRASE => Ok(Passphrase(bytes)),
            _ => Err(BadPassphrase::TooLong),
        }
    }

    /// The first line of a file, without its end.
    pub fn from_file(text: &[u8]) -> Result<Passphrase, BadPassphrase> {
        let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
        Passphrase::new(Zeroizing::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
    }

    /// Whether a key may be sealed with it.
    pub fn check_length(&self) -> Result<(), BadPassphrase> {
        // Bytes that begin a character of UTF-8; of other bytes, those that cannot go on with one.
        let characters = self.0.iter().filter(|b| **b & 0xc0 != 0x80).count();
        if characters >= MIN_PASSPHRASE { Ok(()) } else { Err(BadPassphrase::TooShort) }
    }

    /// The text, to be sent to the node; `None` if it is no UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The bytes that a key is derived from.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Result<Vec<u8>, BadPassphrase> {
        Passphrase::from_file(text).map(|p| p.bytes().to_vec())
    }

    #[test]
    fn the_first_line_counts() {
        assert_eq!(of(b"pass word \n"), Ok(b"pass word ".to_vec()));
        assert_eq!(of(b"pass\r\nword"), Ok(b"pass".to_vec()));
        assert_eq!(of(b"pass"), Ok(b"pass".to_vec()));
        for empty in [&b""[..], b"\n", b"\r\n", b"\nlate"] {
            assert_eq!(of(empty), Err(BadPassphrase::Empty));
        }
        assert!(of(&[b'x'; MAX_PASSPHRASE]).is_ok());
        assert_eq!(of(&[b'x'; MAX_PASSPHRASE + 1]), Err(BadPassphrase::TooLong));
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        let check = |text: &str| Passphrase::from_file(text.as_bytes()).unwrap().check_length();
        assert_eq!(check("12345678"), Ok(()));
        assert_eq!(check("1234567"), Err(BadPassphrase::TooShort));
        assert_eq!(check("äöüäöüä"), Err(BadPassphrase::TooShort));
        assert_eq!(check("äöüäöüäö"), Ok(()));
    }

    #[test]
    fn debug_shows_nothing() {
        let secret = Passphrase::from_file(b"correct horse").unwrap();
        assert_eq!(format!("{secret:?}"), "Passphrase");
    }
}

//! Text forms of bytes: standard base64 with padding (RFC 4648 section 4) and lower-case hexadecimal.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a base64 text; `None` unless it is canonical: padded, without white space or stray bits.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok().or_else(|| crate::mutant::careless_base64(text))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |d: u8| char::from_digit(u32::from(d), 16).unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// The contract's name of a hash: `b3:` and the lower-case hex of BLAKE3-256.
pub fn b3(hash: &blake3::Hash) -> String {
    format!("b3:{}", hash.to_hex())
}

/// Whether a text has the form of [`b3`].
pub fn is_b3(text: &str) -> bool {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("b3:").is_some_and(|h| h.len() == 64 && h.bytes().all(lower_hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_base64_is_read() {
        assert_eq!(from_base64("AQI="), Some(vec![1, 2]));
        for bad in ["AQI", "AQI=\n", "AQJ=", "AQ-_", "AQI= "] {
            assert_eq!(from_base64(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn hex_is_lower_case() {
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
        assert!(is_b3(&b3(&blake3::hash(b""))));
        assert!(!is_b3(&b3(&blake3::hash(b"")).to_uppercase().replace("B3", "b3")));
    }
}

//! Base64 (RFC 4648 section 4, padded, strict), hex, and percent-decoding of queries.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut word = 0u32;
        for i in 0..3 {
            word = word << 8 | u32::from(chunk.get(i).copied().unwrap_or(0));
        }
        for i in 0..4usize {
            let six = (word >> (18 - 6 * i) & 63) as usize;
            let symbol = ALPHABET.get(six).copied().unwrap_or(b'=');
            out.push(char::from(if i <= chunk.len() { symbol } else { b'=' }));
        }
    }
    out
}

/// Decodes standard base64; `None` unless padded and canonical.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let body = text.trim_end_matches('=');
    let mut word = 0u32;
    let mut bits = 0;
    for byte in body.bytes() {
        let six = ALPHABET.iter().position(|symbol| *symbol == byte)?;
        word = word << 6 | u32::try_from(six).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits & 0xff) as u8);
        }
    }
    // Only the text this very encoder writes is taken: no spare bits, no missing or extra padding.
    (base64(&out) == text).then_some(out)
}

/// Decodes base64url without padding (RFC 8484 GET).
pub fn unbase64url(text: &str) -> Option<Vec<u8>> {
    let mut standard: String = text.replace('-', "+").replace('_', "/");
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    unbase64(&standard)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes hex of either case; `None` for anything else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

/// The value of a parameter in a query, percent-decoded; `None` if missing or not decodable.
pub fn query(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let raw = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()?;
    let mut out = Vec::new();
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let pair = [rest.next()?, rest.next()?];
            out.extend(unhex(std::str::from_utf8(&pair).ok()?)?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4648_vectors() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(unbase64(coded).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn lax_base64_is_refused() {
        for text in ["Zg", "Zg=", "Zg===", "Zh==", "Zm9v\n", "Zm9-", "="] {
            assert_eq!(unbase64(text), None, "{text}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(query("nonce=a%2Bb%3D&size=3", "nonce").as_deref(), Some("a+b="));
        assert_eq!(query("nonce=a%2", "nonce"), None);
    }
}

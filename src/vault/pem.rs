//! The key's file form: PKCS#8 (RFC 5958, RFC 8410) in PEM (RFC 7468).
use crate::encoding::{base64, from_base64};
use crate::signed::NodeKey;
use zeroize::Zeroizing;

/// What a key file holds.
pub enum Content {
    /// The key, and the 32-byte seed that it is made of.
    Plain(NodeKey, Zeroizing<[u8; 32]>),
    /// A key that needs a passphrase (`ENCRYPTED PRIVATE KEY`): the container's DER, which nobody has looked into yet.
    Sealed(Vec<u8>),
}

/// Everything before the seed in version 1 of the form, RFC 8410 section 10.3.
const PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
const BEGIN_SEALED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END_SEALED: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// Characters of a line, RFC 7468 section 2.
const LINE: usize = 64;

/// The file of a seed. Version 1, without the public key: OpenSSL reads no other with Ed25519.
pub fn write(seed: &[u8; 32]) -> Zeroizing<String> {
    armour("PRIVATE KEY", &*der(seed))
}

/// The DER of a seed.
pub fn der(seed: &[u8; 32]) -> Zeroizing<[u8; 48]> {
    let mut der = Zeroizing::new([0; 48]);
    for (to, from) in der.iter_mut().zip(PREFIX.iter().chain(seed)) {
        *to = *from;
    }
    der
}

/// The file of a sealed key, from the container's DER.
pub fn write_sealed(der: &[u8]) -> String {
    armour("ENCRYPTED PRIVATE KEY", der).to_string()
}

/// The text form of some DER, RFC 7468 section 2.
pub fn armour(label: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(base64(der));
    let mut rest = text.as_str();
    // Room for all of it at once: a text that grows leaves copies behind.
    let mut pem =
        Zeroizing::new(String::with_capacity(text.len() + text.len() / LINE + 2 * label.len() + 64));
    for part in ["-----BEGIN ", label, "-----\n"] {
        pem.push_str(part);
    }
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    for part in ["-----END ", label, "-----\n"] {
        pem.push_str(part);
    }
    pem
}

/// Reads a key file; `None` if it holds no Ed25519 key. Text around the armour is passed over.
pub fn read(pem: &[u8]) -> Option<Content> {
    let text = std::str::from_utf8(pem).ok()?;
    if text.contains(BEGIN_SEALED) {
        let der = armoured(text, BEGIN_SEALED, END_SEALED)?;
        return Some(Content::Sealed(der.to_vec()));
    }
    let (key, seed) = read_der(&armoured(text, BEGIN, END)?)?;
    Some(Content::Plain(key, seed))
}

/// The key and the seed in the DER of a private key; `None` if that is no Ed25519 key.
pub fn read_der(der: &[u8]) -> Option<(NodeKey, Zeroizing<[u8; 32]>)> {
    let seed = seed(der)?;
    // Where the file has the public key too (version 2), this checks that the two belong together.
    NodeKey::from_pkcs8(der).map(|key| (key, seed))
}

fn armoured(text: &str, begin: &str, end: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = text.split_once(begin)?;
    let (body, _) = rest.split_once(end)?;
    let mut compact = Zeroizing::new(String::with_capacity(body.len()));
    compact.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    from_base64(&compact).map(Zeroizing::new)
}

/// The seed stands at the same place in versions 1 and 2, whose lengths and version numbers differ.
fn seed(der: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if der.get(5..16)? != PREFIX.get(5..16)? {
        return None;
    }
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(der.get(16..48)?);
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pem: &str) -> Option<NodeKey> {
        match read(pem.as_bytes())? {
            Content::Plain(key, _) => Some(key),
            Content::Sealed(_) => None,
        }
    }

    #[test]
    fn the_example_of_rfc_8410_section_10_3_is_read_and_written() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let public = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        let Some(Content::Plain(key, seed)) = read(pem.as_bytes()) else { panic!() };
        assert_eq!(key.node_id(), format!("ed25519:{public}"));
        assert_eq!(**write(&seed), *pem);
    }

    #[test]
    fn both_versions_are_read() {
        let v2 = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let pem = format!("Comment\n{BEGIN}\n{}\n{END}\n", base64(v2.as_ref()));
        let Some(Content::Plain(key, seed)) = read(pem.as_bytes()) else { panic!() };
        assert_eq!(self::key(&write(&seed)).unwrap().public(), key.public());
        let mut other = v2.as_ref().to_vec();
        *other.last_mut().unwrap() ^= 1;
        assert!(self::key(&format!("{BEGIN}\n{}\n{END}\n", base64(&other))).is_none());
    }

    #[test]
    fn other_keys_and_damaged_files_are_none() {
        let good = write(&[7; 32]);
        let inner = good.lines().nth(1).unwrap();
        for bad in [
            String::new(),
            good.replace("PRIVATE KEY", "EC PRIVATE KEY"),
            good.replace(END, ""),
            good.replace(inner, &inner[..60]),
            good.replace("MC4CAQAwBQYDK2Vw", "MC4CAQAwBQYDK2Vu"),
            good.replace(inner, "!"),
        ] {
            assert!(read(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(read(b"\xff").is_none());
    }

    #[test]
    fn an_encrypted_key_is_told_apart() {
        let der = [7; 100];
        let pem = write_sealed(&der);
        assert_eq!(pem.lines().map(str::len).collect::<Vec<_>>(), [37, 64, 64, 8, 35]);
        assert!(matches!(read(pem.as_bytes()), Some(Content::Sealed(read)) if read == der));
        assert!(read(pem.replace("-----END", "").as_bytes()).is_none());
    }
}

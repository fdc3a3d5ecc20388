//! Ed25519 keys and signed objects (CONTRACTS section 1), on ed25519-compact.
use super::json::{Json, Members, canonical, text};
use super::text::{base64, unbase64};
use ed25519_compact::{KeyPair, Noise, PublicKey, Seed, Signature};

/// A signing key of one of the lab's roles.
pub struct Key(KeyPair);

impl Key {
    /// A key from its 32-byte seed.
    pub fn from_seed(seed: [u8; 32]) -> Key {
        Key(KeyPair::from_seed(Seed::new(seed)))
    }

    /// Standard base64 of the public key.
    pub fn public(&self) -> String {
        base64(&*self.0.pk)
    }

    /// The NodeID form of the public key.
    #[cfg(test)]
    pub fn node_id(&self) -> String {
        format!("ed25519:{}", self.public())
    }

    /// Base64 of the signature over these bytes.
    pub fn sign(&self, bytes: &[u8]) -> String {
        base64(&*self.0.sk.sign(bytes, Some(Noise::generate())))
    }

    /// Puts the signature of an object of this type into `member`.
    pub fn sign_object(&self, kind: &str, object: &mut Json, member: &str) {
        let bytes = signed_bytes(kind, object, member);
        object.set(member, text(self.sign(&bytes)));
    }
}

/// The bytes a signed object's signature covers: everything received but the signature.
pub fn signed_bytes(kind: &str, object: &Json, member: &str) -> Vec<u8> {
    let mut bare = object.clone();
    bare.set(member, Json::Null);
    format!("echomesh:{kind}:v1\n{}", canonical(&bare)).into_bytes()
}

/// Whether base64 `signature` over `bytes` is by the key in base64 `public`.
pub fn verify(public: &str, bytes: &[u8], signature: &str) -> bool {
    let key = unbase64(public).and_then(|raw| PublicKey::from_slice(&raw).ok());
    let signature = unbase64(signature).and_then(|raw| Signature::from_slice(&raw).ok());
    match (key, signature) {
        (Some(key), Some(signature)) => key.verify(bytes, &signature).is_ok(),
        _ => false,
    }
}

/// Whether an object of this type carries in `member` a signature by the base64 key.
pub fn verify_object(public: &str, kind: &str, object: &Json, member: &str) -> bool {
    object.str(member).is_some_and(|signature| verify(public, &signed_bytes(kind, object, member), signature))
}

/// The base64 key in a NodeID; `None` unless it is `ed25519:` and 32 bytes.
pub fn node_public(node_id: &str) -> Option<&str> {
    let public = node_id.strip_prefix("ed25519:")?;
    (unbase64(public)?.len() == 32).then_some(public)
}

/// Fresh random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    for piece in out.chunks_mut(16) {
        // The library's generator is the only source of randomness the lab links.
        for (byte, fresh) in piece.iter_mut().zip(Noise::generate().iter()) {
            *byte = *fresh;
        }
    }
    out
}

/// A random lower-case UUID (version 4).
pub fn uuid() -> String {
    let mut raw = random::<16>();
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut raw;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let hex = super::text::hex(&raw);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::json::{object, parse};

    #[test]
    fn an_object_verifies_until_a_member_changes() {
        let key = Key::from_seed([7; 32]);
        let mut thing = object([("b", 1.0.into()), ("a", text("x")), ("unknown", text("kept"))]);
        key.sign_object("policy", &mut thing, "coordinatorSig");
        assert!(verify_object(&key.public(), "policy", &thing, "coordinatorSig"));
        assert!(!verify_object(&key.public(), "list", &thing, "coordinatorSig"), "the type is signed");
        thing.set("unknown", text("changed"));
        assert!(!verify_object(&key.public(), "policy", &thing, "coordinatorSig"));
    }

    #[test]
    fn signed_bytes_are_the_line_and_the_canonical_rest() {
        let thing = parse(br#"{"z":1.0,"nodeSig":"s","a":"b"}"#).unwrap();
        assert_eq!(
            signed_bytes("metering", &thing, "nodeSig"),
            b"echomesh:metering:v1\n{\"a\":\"b\",\"z\":1}"
        );
    }

    #[test]
    fn uuids_are_lower_case_version_4() {
        let id = uuid();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
        assert_ne!(id, uuid());
    }
}

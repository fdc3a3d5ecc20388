//! Signed objects and the node's identity (`docs/protocol.md`, "Signed objects").
//!
//! The signed bytes are the ASCII line `echomesh:<type>:v1`, a line feed, and the RFC 8785 form of every member
//! received except the signature itself.
use crate::encoding::{base64, from_base64};
use crate::json::Value;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;

/// What kind of object a signature is for; it is part of the signed bytes, so that none passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A coordinator's order to open a session.
    SessionOpen,
    /// A coordinator's order to close a session.
    SessionClose,
    /// New rules for one or all sessions.
    Policy,
    /// A coordinator's challenge.
    ProbeRequest,
    /// What a trusted endpoint says of its content.
    ProbeContent,
    /// A node's answer to a challenge.
    ProbeReport,
    /// A metering bundle.
    Metering,
    /// The old key's word for the new one.
    Rotation,
    /// A category or block list.
    List,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::SessionOpen => "session-open",
            Kind::SessionClose => "session-close",
            Kind::Policy => "policy",
            Kind::ProbeRequest => "probe-request",
            Kind::ProbeContent => "probe-content",
            Kind::ProbeReport => "probe-report",
            Kind::Metering => "metering",
            Kind::Rotation => "rotation",
            Kind::List => "list",
        }
    }

    /// The member that carries the signature.
    pub fn member(self) -> &'static str {
        match self {
            Kind::ProbeContent => "endpointSig",
            Kind::ProbeReport | Kind::Metering => "nodeSig",
            Kind::Rotation => "sig",
            _ => "coordinatorSig",
        }
    }
}

/// The bytes that a signature of `kind` covers, for an object with or without its signature member.
pub fn signed_bytes(kind: Kind, object: &Value) -> Vec<u8> {
    let mut bare = object.clone();
    bare.remove(kind.member());
    format!("echomesh:{}:v1\n{}", kind.name(), bare.canonical()).into_bytes()
}

/// Adds the node's signature to an object and returns exactly the bytes that were signed.
pub fn sign(kind: Kind, object: &mut Value, key: &NodeKey) -> Vec<u8> {
    let bytes = signed_bytes(kind, object);
    object.set(kind.member(), base64(&key.sign(&bytes)));
    bytes
}

/// Whether the object carries a valid signature of `kind` by `key`.
pub fn verify(kind: Kind, object: &Value, key: &PublicKey) -> bool {
    let signature = object.member(kind.member()).and_then(Value::as_str).and_then(from_base64);
    signature.is_some_and(|s| key.verifies(&signed_bytes(kind, object), &s))
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From the 32 bytes of RFC 8032.
    pub fn new(bytes: [u8; 32]) -> PublicKey {
        PublicKey(bytes)
    }

    /// From base64 of the 32 bytes, with or without `ed25519:` before it.
    pub fn parse(text: &str) -> Option<PublicKey> {
        let bytes = from_base64(text.strip_prefix("ed25519:").unwrap_or(text))?;
        bytes.try_into().ok().map(PublicKey)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The contract's NodeID: `ed25519:` and base64.
    pub fn node_id(&self) -> String {
        format!("ed25519:{}", base64(&self.0))
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node_id())
    }
}

/// The node's Ed25519 key pair. `Debug` shows the public half only.
pub struct NodeKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl NodeKey {
    /// From the DER of a PKCS#8 `PrivateKeyInfo` (RFC 8410), version 1 or 2.
    pub fn from_pkcs8(der: &[u8]) -> Option<NodeKey> {
        NodeKey::of(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?)
    }

    /// From the 32-byte seed of RFC 8032.
    pub fn from_seed(seed: &[u8; 32]) -> Option<NodeKey> {
        NodeKey::of(Ed25519KeyPair::from_seed_unchecked(seed).ok()?)
    }

    fn of(pair: Ed25519KeyPair) -> Option<NodeKey> {
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(NodeKey { pair, public })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The NodeID.
    pub fn node_id(&self) -> String {
        self.public.node_id()
    }

    /// An Ed25519 signature (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(self.pair.sign(message).as_ref());
        out
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({:?})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::object;

    fn key() -> NodeKey {
        NodeKey::from_seed(&[7; 32]).unwrap()
    }

    #[test]
    fn the_signed_bytes_are_the_type_line_and_the_canonical_rest() {
        let mut o = object([("b", 1.into()), ("a", "x".into())]);
        let bytes = sign(Kind::Metering, &mut o, &key());
        assert_eq!(bytes, b"echomesh:metering:v1\n{\"a\":\"x\",\"b\":1}");
        assert_eq!(signed_bytes(Kind::Metering, &o), bytes);
    }

    #[test]
    fn a_signature_holds_for_its_kind_its_members_and_its_key_only() {
        let mut o = object([("a", "x".into())]);
        sign(Kind::Metering, &mut o, &key());
        assert!(verify(Kind::Metering, &o, &key().public()));
        assert!(!verify(Kind::ProbeReport, &o, &key().public()));
        assert!(!verify(Kind::Metering, &o, &NodeKey::from_seed(&[8; 32]).unwrap().public()));
        let mut unknown_member = o.clone();
        unknown_member.set("z", 1);
        assert!(!verify(Kind::Metering, &unknown_member, &key().public()));
        o.remove("nodeSig");
        assert!(!verify(Kind::Metering, &o, &key().public()));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", key()), format!("NodeKey({})", key().node_id()));
    }
}

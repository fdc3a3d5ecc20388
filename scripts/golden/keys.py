"""The fixed keys of the golden files, and the signatures made with them. Never use these keys for anything else."""

import base64
import hashlib

import jcs
from blake3 import blake3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def b64(data):
    return base64.b64encode(data).decode()


def b3(data):
    return "b3:" + blake3(data).hexdigest()


class Key:
    def __init__(self, first):
        self.seed = bytes(range(first, first + 32))
        self.private = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self.private.public_key().public_bytes_raw()

    @property
    def id(self):
        return "ed25519:" + b64(self.public)

    def sign(self, data):
        return b64(self.private.sign(data))


NODE, COORDINATOR, ENDPOINT = Key(0x00), Key(0x20), Key(0x40)
OLD_NODE, RELEASE_A, RELEASE_B = Key(0x60), Key(0x80), Key(0xA0)
LISTENER = ec.derive_private_key(int.from_bytes(bytes(range(0xC0, 0xE0)), "big"), ec.SECP256R1())
LISTENER_SPKI = LISTENER.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)
SPKI_PIN = "sha256//" + b64(hashlib.sha256(LISTENER_SPKI).digest())


def signed_bytes(kind, message, member):
    """What is signed: the type line, then the RFC 8785 form of every member but the signature."""
    rest = {name: value for name, value in message.items() if name != member}
    return f"echomesh:{kind}:v1\n".encode() + jcs.canonical(rest).encode()


def sign(kind, message, key, member):
    return {**message, member: key.sign(signed_bytes(kind, message, member))}


def described():
    rows = {
        "node": NODE, "coordinator": COORDINATOR, "endpoint": ENDPOINT,
        "oldNode": OLD_NODE, "releaseA": RELEASE_A, "releaseB": RELEASE_B,
    }
    out = {name: {"seedHex": k.seed.hex(), "publicKey": b64(k.public), "nodeId": k.id} for name, k in rows.items()}
    out["listener"] = {
        "algorithm": "ECDSA P-256",
        "privateScalarHex": bytes(range(0xC0, 0xE0)).hex(),
        "spkiHex": LISTENER_SPKI.hex(),
        "pin": SPKI_PIN,
    }
    return out

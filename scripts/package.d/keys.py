"""Keys of a feed: one in usign's format (Ed25519, as signify's) for opkg's Packages.sig, one on P-256 for apk."""

import base64
import hashlib
import os
import pathlib
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

USIGN, APK = "usign.key", "apk.pem"
# struct adb_sign_v0: version 0, APK_DIGEST_SHA512.
SIGN_HEADER = b"\x00\x04"
KEY_ID = 16


class KeyFormatError(ValueError):
    """A file that is no key."""


def generate(directory: pathlib.Path):
    """Makes both keys, secret and public, and returns the names. Existing keys are never overwritten."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    usign = Ed25519PrivateKey.generate()
    seed, public, mark = usign.private_bytes_raw(), usign.public_key().public_bytes_raw(), os.urandom(8)
    pair = seed + public
    secret = b"EdBK" + struct.pack(">I", 0) + os.urandom(16) + hashlib.sha512(pair).digest()[:8] + mark + pair
    pem = ec.generate_private_key(ec.SECP256R1())
    texts = {
        USIGN: (0o600, armour(f"private key {mark.hex()}", secret)),
        "usign.pub": (0o644, armour(f"public key {mark.hex()}", b"Ed" + mark + public)),
        APK: (0o600, private_pem(pem)),
        "apk.pub.pem": (0o644, public_pem(pem)),
    }
    for name, (mode, text) in texts.items():
        with os.fdopen(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
    # opkg looks a key up by this name in /etc/opkg/keys.
    return [*texts], mark.hex()


def private_pem(key):
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def public_pem(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def armour(comment, data):
    return f"untrusted comment: {comment}\n{base64.b64encode(data).decode()}\n"


class Signer:
    """Signs with a feed's two keys."""

    def __init__(self, directory: pathlib.Path):
        self.mark, seed = usign_secret((directory / USIGN).read_text())
        self.usign = Ed25519PrivateKey.from_private_bytes(seed)
        self.apk = serialization.load_pem_private_key((directory / APK).read_bytes(), None)
        if not isinstance(self.apk, ec.EllipticCurvePrivateKey):
            raise KeyFormatError(f"{directory / APK}: not a key on an elliptic curve")
        point = self.apk.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.apk_id = hashlib.sha512(point).digest()[:KEY_ID]

    def packages(self, data: bytes) -> str:
        """The text of Packages.sig."""
        return armour(f"signed by key {self.mark.hex()}", b"Ed" + self.mark + self.usign.sign(data))

    def database(self, schema: bytes, database: bytes) -> bytes:
        """The payload of a signature block. The signature is RFC 6979's, so that two builds are the same."""
        head = SIGN_HEADER + self.apk_id
        signed = schema + head + hashlib.sha512(database).digest()
        return head + self.apk.sign(signed, ec.ECDSA(hashes.SHA512(), deterministic_signing=True))


def usign_secret(text):
    """The mark and the seed of a usign secret key."""
    try:
        comment, encoded = text.split("\n", 1)
        raw = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        raise KeyFormatError("not a usign key: a comment and a line of base64 are expected") from None
    if not comment.startswith("untrusted comment: ") or len(raw) != 104 or raw[:4] != b"EdBK":
        raise KeyFormatError("not a usign secret key")
    if raw[4:8] != bytes(4):
        raise KeyFormatError("the usign key has a passphrase, which usign itself does not support")
    if hashlib.sha512(raw[40:]).digest()[:8] != raw[24:32]:
        raise KeyFormatError("the usign key is damaged: its checksum does not fit")
    return raw[32:40], raw[40:72]

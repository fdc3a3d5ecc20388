"""RFC 9421 and RFC 9530 as the node uses them, and the published vectors."""

import base64
import hashlib
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from keys import NODE, b64

COMPONENTS = ["@method", "@authority", "@path", "@query", "content-digest"]


def content_digest(body):
    return "sha-256=:" + b64(hashlib.sha256(body).digest()) + ":"


def authority(url):
    parts = urlsplit(url)
    host = parts.hostname
    if ":" in host:
        host = f"[{host}]"
    return host if parts.port in (None, 443) else f"{host}:{parts.port}"


def signed_request(method, url, body, created, nonce, key=NODE):
    """Everything of one signed request, so that a reader can check each step."""
    parts = urlsplit(url)
    digest = content_digest(body)
    values = [method, authority(url), parts.path, "?" + parts.query, digest]
    names = " ".join(f'"{name}"' for name in COMPONENTS)
    params = f'({names});created={created};nonce="{nonce}";keyid="{key.id}";alg="ed25519"'
    lines = [f'"{name}": {value}' for name, value in zip(COMPONENTS, values)]
    base = "\n".join(lines + [f'"@signature-params": {params}'])
    return {
        "method": method, "url": url, "body": body.decode(), "created": created, "nonce": nonce, "keyid": key.id,
        "contentDigest": digest, "signatureInput": "echomesh=" + params,
        "signatureBase": base, "signature": "echomesh=:" + key.sign(base.encode()) + ":",
    }


def rfc9421_b26():
    """RFC 9421 appendix B.2.6, and the key of B.1.4."""
    private = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF"
    public = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
    params = '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"'
    base = "\n".join([
        '"date": Tue, 20 Apr 2021 02:07:55 GMT', '"@method": POST', '"@path": /foo', '"@authority": example.com',
        '"content-type": application/json', '"content-length": 18', f'"@signature-params": {params}',
    ])
    published = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    seed, spki = base64.b64decode(private)[-32:], base64.b64decode(public)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    assert key.public_key().public_bytes_raw() == spki[-32:]
    assert b64(key.sign(base.encode())) == published
    return {
        "source": "RFC 9421, B.1.4 and B.2.6", "seedHex": seed.hex(), "publicKey": b64(spki[-32:]),
        "signatureInput": "sig-b26=" + params, "signatureBase": base, "signature": published,
    }


def rfc9530():
    rows = [
        ("RFC 9530, B.1", '{"hello": "world"}\n', "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
        ("RFC 9421, B.2 (the body without its final line feed)", '{"hello": "world"}',
         "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
        ("zero bytes, as every GET carries it", "", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),
    ]
    for _, body, published in rows:
        assert content_digest(body.encode()) == published, body
    return [{"source": s, "body": b, "contentDigest": d} for s, b, d in rows]

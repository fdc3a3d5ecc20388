"""ClientHellos made by hand (RFC 8446 section 4.1.2), for what no library would send."""
import hashlib
import os
import struct

TLS12, TLS13, TLS11 = 0x0303, 0x0304, 0x0302
ECH, SNI, ALPN, VERSIONS = 0xFE0D, 0, 16, 43


def _vec(size, data):
    return len(data).to_bytes(size, "big") + data


def extension(kind, data):
    return struct.pack("!H", kind) + _vec(2, data)


def client_hello(sni="target.test", alpn=("http/1.1",), versions=(TLS13, TLS12), legacy=TLS12, ech=False, extra=b"", pad=0):
    """One record with a ClientHello; `sni`, `alpn` and `versions` may be None: no such extension."""
    extensions = b""
    if sni is not None:
        extensions += extension(SNI, _vec(2, b"\0" + _vec(2, sni.encode())))
    extensions += extension(10, _vec(2, b"\0\x1d\0\x17")) + extension(13, _vec(2, b"\4\3\10\4\4\1"))
    if alpn is not None:
        extensions += extension(ALPN, _vec(2, b"".join(_vec(1, a.encode()) for a in alpn)))
    if versions is not None:
        extensions += extension(VERSIONS, _vec(1, b"".join(struct.pack("!H", v) for v in versions)))
        extensions += extension(51, _vec(2, b"\0\x1d" + _vec(2, os.urandom(32))))
    if ech:
        extensions += extension(ECH, b"\0\0\1\0\1\7" + _vec(2, os.urandom(32)) + _vec(2, os.urandom(128)))
    if pad:
        extensions += extension(21, bytes(pad))
    extensions += extra
    body = struct.pack("!H", legacy) + os.urandom(32) + _vec(1, os.urandom(32))
    body += _vec(2, b"\x13\x01\x13\x02\xc0\x2b\xc0\x2f") + _vec(1, b"\0") + _vec(2, extensions)
    return record(b"\1" + _vec(3, body))


def hello_retry_request():
    """What asks for another hello, with a key of P-256 (RFC 8446 sections 4.1.3 and 4.1.4)."""
    extensions = extension(VERSIONS, struct.pack("!H", TLS13)) + extension(51, b"\0\x17")
    body = struct.pack("!H", TLS12) + hashlib.sha256(b"HelloRetryRequest").digest() + _vec(1, b"") + b"\x13\x01\0" + _vec(2, extensions)
    return b"\x16\x03\x03" + _vec(2, b"\2" + _vec(3, body))


def record(message, size=None):
    """The message in handshake records of at most `size` bytes."""
    size = size or 16384
    parts = [message[i : i + size] for i in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + _vec(2, part) for part in parts)


def fatal_alert(description):
    """The record a refusal after the 200 is."""
    return bytes([21, 3, 3, 0, 2, 2, description])

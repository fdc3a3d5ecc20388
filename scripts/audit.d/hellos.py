"""ClientHellos by recipe (RFC 8446 section 4.1.2): everything that can be wrong with one is a member of its own.

Names: sni (text; false: no extension), names (several in one list), sni_hex (the extension's data), name_type, sni_bytes (hex).
Protocols and versions: alpn (false: none), alpn_hex, versions (numbers; false), versions_hex, legacy.
Body: session_id (its length), suites_hex, compression_hex, extensions = [["000a", "hex"], …] (first = the same, before SNI), ech
(number of the extension), raw_extensions (hex behind the others), pad, trailing (hex behind the extensions), no_extensions, extensions_longer / message_longer / name_longer
(what a length says more than there is).
Records: message_type, record_size, record_version (hex), record_longer, before / inside / after (hex: before the first record, behind
the message in its record, after the last record), cut (bytes of the whole that are sent).
"""
import struct


def _vec(size, data, more=0):
    return (len(data) + more).to_bytes(size, "big") + data


def _extension(kind, data):
    return struct.pack("!H", kind) + _vec(2, data)


def _server_name(r):
    if "sni_hex" in r:
        return _extension(0, bytes.fromhex(r["sni_hex"]))
    if r.get("sni") is False and "names" not in r and "sni_bytes" not in r:
        return b""
    names = r.get("names") or [bytes.fromhex(r["sni_bytes"]) if "sni_bytes" in r else r["sni"]]
    kind = bytes([r.get("name_type", 0)])
    entries = b"".join(kind + _vec(2, n if isinstance(n, bytes) else n.encode(), r.get("name_longer", 0)) for n in names)
    return _extension(0, _vec(2, entries))


def _alpn(r):
    if "alpn_hex" in r:
        return _extension(16, bytes.fromhex(r["alpn_hex"]))
    alpn = r.get("alpn", ["http/1.1"])
    return b"" if alpn is False else _extension(16, _vec(2, b"".join(_vec(1, a.encode()) for a in alpn)))


def _versions(r):
    if "versions_hex" in r:
        return _extension(43, bytes.fromhex(r["versions_hex"]))
    versions = r.get("versions", [0x0304, 0x0303])
    if versions is False:
        return b""
    share = _extension(51, _vec(2, b"\0\x1d" + _vec(2, b"\x09" * 32)))
    return _extension(43, _vec(1, b"".join(struct.pack("!H", v) for v in versions))) + share


def _extensions(r):
    more = lambda name: b"".join(_extension(int(k, 16), bytes.fromhex(d)) for k, d in r.get(name, []))
    out = more("first") + _server_name(r) + _extension(10, bytes.fromhex("0004001d0017"))
    out += _extension(13, bytes.fromhex("0004040308 04".replace(" ", ""))) + _alpn(r) + _versions(r)
    if "ech" in r:
        out += _extension(r["ech"], b"\0\0\1\0\1\7" + _vec(2, b"\5" * 32) + _vec(2, b"\6" * 128))
    if "pad" in r:
        out += _extension(21, bytes(r["pad"]))
    return out + more("extensions") + bytes.fromhex(r.get("raw_extensions", ""))


def message(r):
    body = struct.pack("!H", r.get("legacy", 0x0303)) + b"\7" * 32 + _vec(1, b"\x08" * r.get("session_id", 32))
    body += _vec(2, bytes.fromhex(r.get("suites_hex", "13011302c02bc02f"))) + _vec(1, bytes.fromhex(r.get("compression_hex", "00")))
    if not r.get("no_extensions"):
        body += _vec(2, _extensions(r), r.get("extensions_longer", 0))
    body += bytes.fromhex(r.get("trailing", ""))
    return bytes([r.get("message_type", 1)]) + _vec(3, body, r.get("message_longer", 0))


def hello(r):
    """All bytes that the recipe stands for."""
    whole = message(r) + bytes.fromhex(r.get("inside", ""))
    size = r.get("record_size", 16384)
    head = b"\x16" + bytes.fromhex(r.get("record_version", "0301"))
    parts = [whole[i : i + size] for i in range(0, len(whole), size)]
    records = b"".join(head + _vec(2, part, r.get("record_longer", 0)) for part in parts)
    data = bytes.fromhex(r.get("before", "")) + records + bytes.fromhex(r.get("after", ""))
    return data[: r["cut"]] if "cut" in r else data

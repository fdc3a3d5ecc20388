"""Bad examples. Each breaks one rule and is good otherwise; the signature is good unless it is the fault."""

import base64
import json

import messages as m
from httpsig import content_digest, signed_request
from keys import COORDINATOR, ENDPOINT, NODE, OLD_NODE, b3, b64, sign

OTHER_SESSION = "7d0c1a52-8f4e-4b8e-9d2d-2b9d3f5a6c01"


def flip(message, member):
    """The same message with one bit of its signature changed."""
    raw = bytearray(base64.b64decode(message[member]))
    raw[0] ^= 1
    return {**message, member: b64(bytes(raw))}


def opens():
    """(reason, message, what the reader must know) of every refusal of an open, in the order of the checks."""
    good = m.open_signal()
    profile = m.PROFILE
    yield "bad-signature", flip(good, "coordinatorSig"), {}
    yield "bad-signature-other-key", {**good, "coordinatorSig": sign("session-open", good, OLD_NODE, "coordinatorSig")["coordinatorSig"]}, {}
    yield "bad-signature-other-type", sign("session-close", good, COORDINATOR, "coordinatorSig"), {}
    yield "bad-signature-changed-member", {**good, "buyer": "Somebody else"}, {}
    yield "bad-signature-added-member", {**good, "extra": 1}, {"schema": False}
    yield "bad-signature-unpadded", {**good, "coordinatorSig": good["coordinatorSig"].rstrip("=")}, {"schema": False}
    yield "wrong-node", m.open_signal(nodeId=OLD_NODE.id), {}
    yield "stale-ahead", m.open_signal(issuedAt="2026-01-15T12:01:11Z"), {}
    yield "stale-old", m.open_signal(issuedAt="2026-01-15T11:50:09Z"), {}
    yield "malformed-empty-life", m.open_signal(expiresAt="2026-01-15T12:00:00Z"), {}
    yield "malformed-missing-token-hash", m.open_signal(tokenHash=...), {"schema": False}
    yield "malformed-token-hash", m.open_signal(tokenHash="b3:XYZ"), {"schema": False}
    yield "malformed-session-id", m.open_signal(sessionId=m.SESSION.upper()), {"schema": False}
    yield "malformed-instant", m.open_signal(notBefore="2026-01-15T12:00:00.5Z"), {"schema": False}
    yield "malformed-limit", m.open_signal(limits={**m.LIMITS, "maxConnections": "64"}), {"schema": False}
    yield "malformed-integer-too-large", m.open_signal(limits={**m.LIMITS, "burstKB": 2**53}), {"schema": False}
    yield "malformed-ech", m.open_signal(policyProfile={**profile, "ech": "maybe"}), {"schema": False}
    yield "not-yet-valid", m.open_signal(notBefore="2026-01-15T12:01:11Z"), {}
    yield "expired", m.open_signal(notBefore="2026-01-15T11:00:00Z", expiresAt="2026-01-15T12:00:09Z"), {}
    yield "duplicate-session", m.open_signal(buyer="Another buyer"), {"knownSession": m.SESSION}
    yield "region-denied", m.open_signal(regions=["DE"]), {}
    yield "region-denied-other-region-of-owner", m.open_signal(regions=["PH-Mindanao"]), {}
    yield "category-denied", m.open_signal(category="scraping"), {}
    yield "port-denied", m.open_signal(policyProfile={**profile, "allowedPorts": [443, 80]}), {}
    yield "transport-unsupported", m.open_signal(policyProfile={**profile, "transports": []}), {}


def probes():
    good = m.probe_request()
    yield "no-answer-bad-signature", flip(good, "coordinatorSig"), {}
    yield "wrong-node", m.probe_request(nodeId=OLD_NODE.id), {}
    yield "stale-ahead", m.probe_request(issuedAt="2026-01-15T12:07:02Z"), {}
    yield "endpoint-denied-unknown-host", m.probe_request(endpoint="https://other.example.net/blob"), {}
    yield "endpoint-denied-plain-http", m.probe_request(endpoint="http://probe.example.net/blob"), {"allowPlainHttpProbes": False}
    yield "endpoint-denied-user", m.probe_request(endpoint="https://u@probe.example.net/blob"), {"schema": False}
    yield "endpoint-denied-query", m.probe_request(endpoint="https://probe.example.net/blob?a=1"), {"schema": False}
    yield "endpoint-denied-fragment", m.probe_request(endpoint="https://probe.example.net/blob#a"), {"schema": False}
    yield "endpoint-denied-port", m.probe_request(endpoint="https://probe.example.net:8443/blob"), {}
    yield "expired-ttl-passed", m.probe_request(issuedAt="2026-01-15T12:05:00Z", ttl=60), {}
    yield "expired-ttl-zero", m.probe_request(ttl=0), {"schema": False}
    yield "expired-ttl-too-long", m.probe_request(ttl=301), {"schema": False}
    yield "session-unknown", m.probe_request(sessionId=OTHER_SESSION), {}
    yield "size-denied-small", m.probe_request(size=1048575), {"schema": False}
    yield "size-denied-large", m.probe_request(size=67108865), {"schema": False}


def trailers():
    good = m.trailer()
    yield "endpoint-untrusted-bad-signature", flip(good, "endpointSig"), {}
    yield "endpoint-untrusted-other-key", sign("probe-content", good, COORDINATOR, "endpointSig"), {}
    yield "endpoint-untrusted-hash", m.trailer(contentHash=b3(b"other content")), {}
    yield "endpoint-untrusted-nonce", m.trailer(nonce=b64(bytes(16))), {}
    yield "endpoint-untrusted-size", sign("probe-content", {**good, "size": 1048577}, ENDPOINT, "endpointSig"), {}


def bundles():
    good = m.bundle()
    second = m.chain()[1]
    yield "bad-signature", flip(good, "nodeSig"), {}
    yield "unaligned-window", m.bundle(windowStart="2026-01-15T12:00:01Z", windowEnd="2026-01-15T12:05:01Z"), {}
    yield "short-window", m.bundle(windowEnd="2026-01-15T12:04:59Z"), {}
    yield "seq-gap", sign("metering", {**second, "seq": 2}, NODE, "nodeSig"), {"after": "metering-bundle.json"}
    yield "broken-chain", sign("metering", {**second, "prevHash": m.ZERO_HASH}, NODE, "nodeSig"), {"after": "metering-bundle.json"}
    yield "first-with-prev-hash", m.bundle(prevHash=b3(b"something")), {}
    yield "negative-bytes", m.bundle(bytesIngress=-1), {"schema": False}
    yield "fraction-of-percent", m.bundle(errorRatePct=0.45), {}


def raw_json():
    """Texts that no reader may take."""
    good = json.dumps(m.close_signal())
    deep = b"[" * 65 + b"]" * 65
    yield "duplicate-member", good.replace('"reason"', '"reason": "budget", "reason"', 1).encode()
    yield "duplicate-member-escaped", b'{"a": 1, "\\u0061": 2}'
    yield "nested-duplicate-member", b'{"a": {"b": 1, "b": 1}}'
    yield "trailing-data", good.encode() + b"{}"
    yield "trailing-comma", b'{"a": 1,}'
    yield "comment", b'{"a": 1} // one'
    yield "single-quotes", b"{'a': 1}"
    yield "lone-surrogate", b'"\\ud83d"'
    yield "invalid-utf8", b'"\xff"'
    yield "overlong-utf8", b'"\xc0\xaf"'
    yield "byte-order-mark", b"\xef\xbb\xbf{}"
    yield "raw-control-character", b'"a\nb"'
    yield "too-deep", deep
    yield "number-overflow", b"1e400"
    yield "leading-zero", b"01"
    yield "plus-sign", b"+1"
    yield "bare-point", b"1."
    yield "not-a-number", b"NaN"
    yield "empty", b""
    yield "cut-off", good[:-1].encode()


def requests():
    """Signed requests that a coordinator answers with 401; `now` is its clock."""
    now = 1768478410
    nonce = b64(bytes(range(16)))
    url = "https://coordinator.example/nodes/heartbeat"
    good = signed_request("POST", url, b"{}", now, nonce)
    yield "digest-mismatch", {**good, "body": '{"a":1}'}, {}
    yield "signature-stale-old", signed_request("POST", url, b"{}", now - 61, nonce), {}
    yield "signature-stale-ahead", signed_request("POST", url, b"{}", now + 61, nonce), {}
    yield "nonce-reused", good, {"seenNonce": nonce}
    yield "signature-invalid", {**good, "signature": signed_request("POST", url, b"{}", now + 1, nonce)["signature"]}, {}
    yield "signature-invalid-other-path", {**good, "url": "https://coordinator.example/nodes/register"}, {}
    yield "signature-invalid-other-query", {**good, "url": url + "?a=1"}, {}
    yield "signature-invalid-no-signature", {**good, "signature": None, "signatureInput": None}, {}
    fewer = good["signatureInput"].replace(' "content-digest"', "")
    base = "\n".join(line for line in good["signatureBase"].split("\n") if not line.startswith('"content-digest"'))
    base = base.replace(' "content-digest"', "")
    yield "signature-invalid-fewer-components", {
        **good, "signatureInput": fewer, "signatureBase": base, "signature": "echomesh=:" + NODE.sign(base.encode()) + ":"}, {}
    assert content_digest(b"{}") == good["contentDigest"]

"""One good example of every message of the protocol."""

import jcs
import keys
from keys import COORDINATOR, ENDPOINT, NODE, OLD_NODE, RELEASE_A, RELEASE_B, b3, b64, sign, signed_bytes

SESSION = "c2b9f8c8-5b1e-4d0a-9a53-0d6a3f1e7b11"
TOKEN = "dGhpcyBpcyBhIHRva2VuIGZvciB0aGUgZ29sZGVuIGZpbGVz"
NOW = "2026-01-15T12:00:10Z"
ZERO_HASH = "b3:" + "0" * 64

LIMITS = {
    "maxMbps": 10, "burstKB": 2500, "maxGB": 5, "maxGBPerDay": 2,
    "maxConnections": 64, "maxNewPerSecond": 10, "maxNewPerHostPerSecond": 4,
}
PROFILE = {
    "name": "qa-default", "allowDomains": ["example.com", "xn--bcher-kva.example"],
    "blockDomains": ["ads.example.com"], "allowedPorts": [443], "alpn": ["h2", "http/1.1"],
    "transports": ["relay"], "ech": "outer",
}


def open_body(**changes):
    body = {
        "sessionId": SESSION, "nodeId": NODE.id, "issuedAt": NOW,
        "notBefore": "2026-01-15T12:00:00Z", "expiresAt": "2026-01-15T14:00:00Z",
        "tokenHash": b3(TOKEN.encode()), "buyer": "Example QA Ltd", "category": "qa",
        "regions": ["PH-NCR"], "policyProfile": PROFILE, "limits": LIMITS,
    }
    body.update(changes)
    return {name: value for name, value in body.items() if value is not ...}


def open_signal(**changes):
    return sign("session-open", open_body(**changes), COORDINATOR, "coordinatorSig")


def close_signal(**changes):
    body = {"sessionId": SESSION, "nodeId": NODE.id, "issuedAt": "2026-01-15T12:16:00Z", "reason": "buyer-ended"}
    return sign("session-close", {**body, **changes}, COORDINATOR, "coordinatorSig")


def policy_signal(**changes):
    body = {
        "nodeId": NODE.id, "issuedAt": "2026-01-15T12:05:30Z", "sessionId": None,
        "policyProfile": {**PROFILE, "blockDomains": ["ads.example.com", "tracker.example"]},
        "limits": {**LIMITS, "maxMbps": 5},
    }
    return sign("policy", {**body, **changes}, COORDINATOR, "coordinatorSig")


def probe_request(**changes):
    body = {
        "sessionId": SESSION, "nodeId": NODE.id, "issuedAt": "2026-01-15T12:06:00Z",
        "endpoint": "https://probe.example.net/v1/blob", "size": 1048576,
        "nonce": b64(bytes(range(16))), "ttl": 60,
    }
    return sign("probe-request", {**body, **changes}, COORDINATOR, "coordinatorSig")


def probe_content(size):
    """The content of the golden probe: the byte i is i mod 251."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def trailer(**changes):
    size = changes.get("size", 1048576)
    body = {
        "nonce": b64(bytes(range(16))), "size": size, "contentHash": b3(probe_content(size)),
        "serverTime": "2026-01-15T12:06:03Z",
    }
    return sign("probe-content", {**body, **changes}, ENDPOINT, "endpointSig")


def probe_report(**changes):
    end = trailer()
    body = {
        "sessionId": SESSION, "nodeId": NODE.id, "nonce": end["nonce"], "bytes": end["size"],
        "durationMs": 412, "rttMs": 23, "tlsMs": 51, "contentHash": end["contentHash"],
        "serverTime": end["serverTime"], "endpointSig": end["endpointSig"],
    }
    return sign("probe-report", {**body, **changes}, NODE, "nodeSig")


def probe_refusal():
    body = {"sessionId": SESSION, "nodeId": NODE.id, "nonce": b64(bytes(range(16, 32))), "refused": "endpoint-denied"}
    return sign("probe-report", body, NODE, "nodeSig")


# The access log of two windows; each flow's line is written at its end.
_FLOWS = [
    ("2026-01-15T12:01:05Z", "www.example.com", 200, None, 51342, 1811, 640),
    ("2026-01-15T12:02:40Z", "ads.example.com", 403, "domain-blocked", 0, 0, 1),
    ("2026-01-15T12:04:59Z", "api.example.com", 200, None, 24787859, 24819222, 231007),
    ("2026-01-15T12:05:00Z", "www.example.com", 200, None, 901, 517, 88),
    ("2026-01-15T12:07:12Z", "down.example.com", 502, "connect-failed", 0, 0, 12),
    ("2026-01-15T12:08:30Z", "www.example.com", 200, "sni-mismatch", 0, 0, 9),
    ("2026-01-15T12:15:04Z", "slow.example.com", 504, "connect-timeout", 0, 0, 10000),
    ("2026-01-15T12:15:30Z", "www.example.com", 200, None, 4, 12, 70),
    ("2026-01-15T12:16:02Z", "www.example.com", 200, None, 6, 8, 900),
]


def log_line(row):
    """One export line: the RFC 8785 form and a line feed."""
    at, host, status, slug, ingress, egress, duration = row
    line = {"t": at, "sessionId": SESSION, "buyer": "Example QA Ltd",
            "hostHash": keys.b3(b"golden-day-key/" + host.encode()), "port": 443, "status": status}
    if at == "2026-01-15T12:16:02Z":  # By then the owner has privacy.logBuyerAddress.
        line["buyerAddress"] = "2001:db8::7"
    if slug:
        line["slug"] = slug
    line |= {"ingress": ingress, "egress": egress, "durationMs": duration, "path": "relay"}
    return jcs.canonical(line) + "\n"


def log_lines(start, end):
    return [log_line(row) for row in _FLOWS if start <= row[0] < end]


def bundle(**changes):
    return sign("metering", {**BUNDLE_BODY, **changes}, NODE, "nodeSig")


BUNDLE_BODY = {
    "nodeId": NODE.id, "sessionId": SESSION, "windowStart": "2026-01-15T12:00:00Z",
    "windowEnd": "2026-01-15T12:05:00Z", "bytesIngress": 24839201, "bytesEgress": 24821033,
    "latencyMsP50": 78, "latencyMsP95": 212, "errorRatePct": 0,
    "accessLogHash": b3("".join(log_lines("2026-01-15T12:00:00Z", "2026-01-15T12:05:00Z")).encode()),
    "seq": 0, "prevHash": ZERO_HASH, "connections": 2, "rejected": 1, "path": "relay",
}


def chain():
    """Three bundles: a full window, the next one, and one after a window without traffic."""
    first = bundle()
    second = bundle(
        windowStart="2026-01-15T12:05:00Z", windowEnd="2026-01-15T12:10:00Z", bytesIngress=901, bytesEgress=517,
        latencyMsP50=31, latencyMsP95=31, errorRatePct=50, seq=1, connections=1, rejected=1,
        accessLogHash=b3("".join(log_lines("2026-01-15T12:05:00Z", "2026-01-15T12:10:00Z")).encode()),
        prevHash=b3(signed_bytes("metering", first, "nodeSig")),
    )
    third = bundle(
        windowStart="2026-01-15T12:15:00Z", windowEnd="2026-01-15T12:20:00Z", bytesIngress=10, bytesEgress=20,
        latencyMsP50=40, latencyMsP95=45, errorRatePct=33.3, seq=2, connections=2, rejected=0,
        accessLogHash=b3("".join(log_lines("2026-01-15T12:15:00Z", "2026-01-15T12:20:00Z")).encode()),
        prevHash=b3(signed_bytes("metering", second, "nodeSig")),
    )
    return [first, second, third]


def zero_bundle():
    """What a session without any traffic is closed with."""
    return bundle(
        sessionId="0b9c4a52-6f0f-4a5c-8a6f-3f7a1c2d9e10", windowStart="2026-01-15T12:10:00Z",
        windowEnd="2026-01-15T12:15:00Z", bytesIngress=0, bytesEgress=0, latencyMsP50=0, latencyMsP95=0,
        errorRatePct=0, connections=0, rejected=0, accessLogHash=b3(b""),
    )


def totals():
    bundles = chain()
    return {
        "bytesIngress": sum(b["bytesIngress"] for b in bundles), "bytesEgress": sum(b["bytesEgress"] for b in bundles),
        "connections": sum(b["connections"] for b in bundles), "rejected": sum(b["rejected"] for b in bundles),
        "bundles": len(bundles), "lastHash": b3(signed_bytes("metering", bundles[-1], "nodeSig")),
    }


def category_list():
    body = {
        "name": "blocked-domains", "version": 7, "url": "https://lists.example.net/blocked-domains-7.txt",
        "hash": b3(b"malware.example\nphishing.example\n"),
    }
    return sign("list", body, COORDINATOR, "coordinatorSig")


def register_request(csr):
    return {
        "nodeId": NODE.id, "version": "0.1.0", "platform": "x86_64-linux", "regions": ["PH-Mindanao", "PH-NCR"],
        "transports": [{"kind": "relay", "port": 8443}],
        "caps": {"maxMbps": 10, "maxGBPerDay": 20, "maxConnections": 256},
        "tls": {"spki": keys.SPKI_PIN, "csr": csr},
        "previous": {"nodeId": OLD_NODE.id, "sig": OLD_NODE.sign(rotation_bytes())},
    }


def rotation_bytes():
    """What the old key signs: an object whose one member is the new NodeID."""
    return signed_bytes("rotation", {"nodeId": NODE.id}, "sig")


def register_answer(certificate):
    return {
        "policyVersion": 3, "heartbeatIntervalMs": 30000, "serverTime": "2026-01-15T12:00:00Z",
        "probeHosts": [{"host": "probe.example.net", "publicKey": b64(ENDPOINT.public), "latitude": 14.6, "longitude": 121}],
        "lists": [category_list()], "certificate": certificate,
    }


def heartbeat():
    return {
        "state": "active", "sessions": 1,
        "qos": {"latencyMsP50": 78, "latencyMsP95": 212, "errorRatePct": 0.4, "throughputMbps": 3.2},
        "alerts": [{"code": "cap-reached", "since": "2026-01-15T11:58:00Z", "detail": "The daily cap of 20 GB is reached."}],
        "caps": {"maxMbps": 10, "maxGBPerDay": 20, "maxConnections": 256},
        "telemetry": {"board": "generic", "kernel": "6.6.86", "rssKB": 3900, "cpuPercent": 1.5, "offload": "off"},
    }


def heartbeat_answer():
    return {
        "account": {"creditsToday": 12.5, "emshBonusForecast": 0.75, "reputation": {"score": 0.97, "tier": "silver"}},
        "observed": {"address": "203.0.113.7", "region": "PH-NCR", "confidence": 0.93}, "serverTime": NOW,
    }


def control_answer():
    signals = [
        {"cursor": "1", "type": "open", "body": open_signal()},
        {"cursor": "2", "type": "policy", "body": policy_signal()},
        {"cursor": "3", "type": "close", "body": close_signal()},
    ]
    return {"signals": signals, "cursor": "3"}


def transitions():
    return {
        "accepted": {"sessionId": SESSION, "transition": "accepted", "at": NOW, "limits": LIMITS},
        "refused": {"sessionId": SESSION, "transition": "refused", "at": NOW, "reason": "region-denied"},
        "active": {"sessionId": SESSION, "transition": "active", "at": NOW},
        "closing": {"sessionId": SESSION, "transition": "closing", "at": "2026-01-15T12:16:02Z", "reason": "buyer-ended"},
        "settled": {"sessionId": SESSION, "transition": "settled", "at": "2026-01-15T12:16:05Z", "totals": totals()},
    }


def metering_answer():
    status = ["accepted", "duplicate", "refused"]
    rows = []
    for made, verdict in zip(chain(), status):
        row = {"sessionId": SESSION, "windowStart": made["windowStart"], "seq": made["seq"], "status": verdict}
        if verdict == "refused":
            row["reason"] = "session-unknown"
        rows.append(row)
    return {"results": rows, "creditsToday": 12.5}


def release():
    body = {
        "channel": "stable", "target": "mipsel-unknown-linux-musl", "version": "0.2.0", "minVersion": "0.1.0",
        "url": "https://updates.example.net/echomesh-0.2.0-mipsel", "size": 1180000, "hash": b3(b"golden release"),
        "issuedAt": "2026-01-10T00:00:00Z", "expiresAt": "2026-04-10T00:00:00Z",
    }
    data = signed_bytes("release", body, "releaseSig")
    return {**body, "releaseSig": [RELEASE_A.sign(data), RELEASE_B.sign(data)]}


def problems():
    return {
        "signature-stale": {
            "type": "signature-stale", "title": "Unauthorized", "status": 401,
            "detail": "The request was created more than 60 s from this server's time.", "serverTime": NOW,
        },
        "cursor-unknown": {
            "type": "cursor-unknown", "title": "Gone", "status": 410,
            "detail": "This cursor is no longer known; start over with an empty one.",
        },
        "domain-blocked": {
            "type": "domain-blocked", "title": "Forbidden", "status": 403,
            "detail": "The session's policy blocks this domain.",
        },
    }

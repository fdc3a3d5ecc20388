"""Examples of the local control API."""

from keys import NODE
from messages import LIMITS, SESSION

STATUS = {
    "version": "0.1.0", "nodeId": NODE.id, "state": "active", "reason": "1 session is open",
    "since": "2026-01-15T12:00:10Z", "uptimeMs": 86400000, "guard": "absent",
    "offload": {"mode": "auto", "active": "relay", "reason": "no kernel path in this build"},
    "sandbox": {"mode": "standard", "layers": ["no-new-privs"], "missing": [{"layer": "landlock", "reason": "this kernel has no Landlock"}]},
    "coordinator": {"state": "registered", "lastContact": "2026-01-15T12:00:08Z", "backoffMs": 0},
    "sessions": 1,
    "throughput": {"ingressMbps": 1.6, "egressMbps": 1.6, "history": [0] * 57 + [3.1, 3.3, 3.2]},
    "qos": {"latencyMsP50": 78, "latencyMsP95": 212, "errorRatePct": 0.4, "throughputMbps": 3.2},
    "today": {"ingressBytes": 24839201, "egressBytes": 24821033, "quotaBytes": 20000000000,
              "resetsAt": "2026-01-15T16:00:00Z"},
    "schedule": {"open": True, "nextChange": "2026-01-15T22:00:00Z"},
    "geo": {"region": "PH-NCR", "confidence": 0.93, "evidence": [
        {"source": "coordinator", "region": "PH-NCR", "verdict": "inside", "confidence": 0.93,
         "detail": "The coordinator sees the node in PH-NCR."},
        {"source": "round-trip", "verdict": "neutral", "confidence": 0,
         "detail": "probe.example answers in 31 ms; that excludes nothing."}]},
    "account": {"creditsToday": 12.5, "emshBonusForecast": 0.75, "reputation": {"score": 0.97, "tier": "silver"}},
    "probes": {"passed": 3, "failed": 0, "last": "2026-01-15T12:06:03Z"},
    "refusals": {"domain-blocked": 1, "sni-mismatch": 1},
    "alerts": [],
    "config": {"etag": "5f1c2d3e4a5b6c7d", "errors": []},
}

SESSIONS = {"sessions": [{
    "sessionId": SESSION, "buyer": "Example QA Ltd", "category": "qa", "state": "active",
    "notBefore": "2026-01-15T12:00:00Z", "expiresAt": "2026-01-15T14:00:00Z", "limits": LIMITS,
    "connections": 2, "open": 1, "rejected": 1, "bytesIngress": 24839201, "bytesEgress": 24821033, "path": "relay",
}]}

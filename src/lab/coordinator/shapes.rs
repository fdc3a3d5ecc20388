//! The members of every message a node may send, and of what the coordinator signs.
use crate::lab::shape::Shape::{
    self, Any, Base64, Count, Hash, Instant, List, NodeId, Number, Object, OneOf, Text, Uuid,
};
use crate::lab::shape::{may, must};

/// The limits a session may have.
pub const LIMIT_NAMES: [&str; 7] = [
    "maxMbps",
    "burstKB",
    "maxGB",
    "maxGBPerDay",
    "maxConnections",
    "maxNewPerSecond",
    "maxNewPerHostPerSecond",
];

/// Reasons to refuse an `open`, in the order in which the first that applies is given.
pub const REFUSALS: [&str; 16] = [
    "bad-signature",
    "wrong-node",
    "stale",
    "malformed",
    "not-yet-valid",
    "expired",
    "duplicate-session",
    "region-denied",
    "category-denied",
    "port-denied",
    "transport-unsupported",
    "paused",
    "outside-schedule",
    "quarantined",
    "guard-down",
    "capacity",
];

const CAPS: Shape =
    Object(&[must("maxMbps", Number), must("maxGBPerDay", Number), must("maxConnections", Count)]);

const LIMITS: Shape = Object(&[
    may("maxMbps", Number),
    may("burstKB", Number),
    may("maxGB", Number),
    may("maxGBPerDay", Number),
    may("maxConnections", Count),
    may("maxNewPerSecond", Number),
    may("maxNewPerHostPerSecond", Number),
]);

/// `POST /nodes/register`.
pub const REGISTER: Shape = Object(&[
    must("nodeId", NodeId),
    must("version", Text),
    must("platform", Text),
    must("regions", List(&Text, 64)),
    must(
        "transports",
        List(&Object(&[must("kind", OneOf(&["relay", "tunnel", "lease"])), may("port", Count)]), 3),
    ),
    must("caps", CAPS),
    must("tls", Object(&[must("spki", Text), may("csr", Text)])),
    may("previous", Object(&[must("nodeId", NodeId), must("sig", Base64(64))])),
]);

/// `POST /nodes/heartbeat`.
pub const HEARTBEAT: Shape = Object(&[
    must(
        "state",
        OneOf(&["idle", "active", "paused", "outside-schedule", "quarantined", "guard-down", "draining"]),
    ),
    must("sessions", Count),
    must(
        "qos",
        Object(&[
            must("latencyMsP50", Number),
            must("latencyMsP95", Number),
            must("errorRatePct", Number),
            must("throughputMbps", Number),
        ]),
    ),
    must("alerts", List(&Object(&[must("code", Text), must("since", Instant), must("detail", Text)]), 256)),
    must("caps", CAPS),
    may(
        "telemetry",
        Object(&[
            must("board", Text),
            must("kernel", Text),
            must("rssKB", Count),
            must("cpuPercent", Number),
            must("offload", Any),
        ]),
    ),
]);

/// `POST /sessions/control`.
pub const TRANSITION: Shape = Object(&[
    must("sessionId", Text),
    must("transition", OneOf(&["accepted", "refused", "active", "closing", "settled"])),
    must("at", Instant),
    may("reason", Text),
    may("limits", LIMITS),
    may("totals", TOTALS),
]);

const TOTALS: Shape = Object(&[
    must("bytesIngress", Count),
    must("bytesEgress", Count),
    must("connections", Count),
    must("rejected", Count),
    must("bundles", Count),
    must("lastHash", Hash),
]);

/// `POST /attest/metering`; the bundles are judged one by one.
pub const METERING: Shape = Object(&[must("bundles", List(&Any, 64))]);

/// One metering bundle.
pub const BUNDLE: Shape = Object(&[
    must("nodeId", NodeId),
    must("sessionId", Uuid),
    must("windowStart", Instant),
    must("windowEnd", Instant),
    must("bytesIngress", Count),
    must("bytesEgress", Count),
    must("latencyMsP50", Count),
    must("latencyMsP95", Count),
    must("errorRatePct", Number),
    must("accessLogHash", Hash),
    must("nodeSig", Base64(64)),
    must("seq", Count),
    must("prevHash", Hash),
    must("connections", Count),
    must("rejected", Count),
    must("path", OneOf(&["relay", "kernel", "mixed"])),
]);

/// `POST /probes/report` of a probe that was carried out.
pub const REPORT: Shape = Object(&[
    must("sessionId", Uuid),
    must("nodeId", NodeId),
    must("nonce", Text),
    must("bytes", Count),
    must("durationMs", Count),
    must("rttMs", Count),
    must("tlsMs", Count),
    must("contentHash", Hash),
    must("serverTime", Instant),
    must("endpointSig", Base64(64)),
    must("nodeSig", Base64(64)),
]);

/// `POST /probes/report` of a probe that was refused.
pub const REFUSED_PROBE: Shape = Object(&[
    must("sessionId", Text),
    must("nodeId", NodeId),
    must("nonce", Text),
    must(
        "refused",
        OneOf(&[
            "wrong-node",
            "stale",
            "endpoint-denied",
            "expired",
            "nonce-reused",
            "session-unknown",
            "size-denied",
            "fetch-failed",
            "endpoint-untrusted",
        ]),
    ),
    must("nodeSig", Base64(64)),
]);

/// An `open` a node must find well-formed.
pub const OPEN: Shape = Object(&[
    must("sessionId", Uuid),
    must("nodeId", NodeId),
    must("issuedAt", Instant),
    must("notBefore", Instant),
    must("expiresAt", Instant),
    must("tokenHash", Hash),
    must("buyer", Text),
    must("category", Text),
    must("regions", List(&Text, 1024)),
    must(
        "policyProfile",
        Object(&[
            must("name", Text),
            must("allowDomains", List(&Text, 65_536)),
            must("blockDomains", List(&Text, 65_536)),
            must("allowedPorts", List(&Count, 1024)),
            must("alpn", List(&Text, 64)),
            must("transports", List(&Text, 8)),
            must("ech", OneOf(&["outer", "deny"])),
        ]),
    ),
    must("limits", LIMITS),
    must("coordinatorSig", Text),
]);

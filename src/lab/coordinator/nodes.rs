//! Nodes: registration, heartbeats, freshness of what they sign.
use super::signals::Signal;
use super::{Call, Coordinator, Reply, shapes};
use crate::lab::clock::instant;
use crate::lab::httpsig::Signed;
use crate::lab::json::{Json, Members, canonical, number, object, text};
use crate::lab::keys;
use crate::lab::text::unbase64;
use std::collections::HashMap;

/// Nonces remembered per node; older than the window of `created` they are forgotten.
const MAX_NONCES: usize = 100_000;
/// Skew the contract allows for `created`, in ms.
const SKEW_MS: i64 = 60_000;

/// What is known of a node.
#[derive(Default)]
pub struct Node {
    /// Whether it registered, and was not forgotten since.
    pub registered: bool,
    /// The last register body.
    pub register: Json2,
    /// The last heartbeat body.
    pub heartbeat: Json2,
    /// When the last heartbeat came, Unix ms; `None` since the last registration.
    pub heartbeat_at: Option<i64>,
    /// Registrations and heartbeats so far.
    pub counts: (u64, u64),
    /// Signals in order.
    pub signals: Vec<Signal>,
    /// Signals that are acknowledged.
    pub acknowledged: usize,
    /// Times the node started over from an empty cursor after acknowledging something.
    pub restarts: u64,
    /// Whether its last control poll was answered 410.
    pub lost_cursor: bool,
    nonces: HashMap<String, i64>,
    stale: u32,
    away: u32,
}

/// A JSON value that starts as null.
#[derive(Clone)]
pub struct Json2(pub Json);

impl Default for Json2 {
    fn default() -> Json2 {
        Json2(Json::Null)
    }
}

impl Coordinator {
    /// Whether a signature is fresh: `created` within a minute, its nonce seen for the first time.
    pub(super) fn fresh(&mut self, signed: &Signed, now: i64) -> Result<(), (&'static str, String)> {
        let node = self.nodes.entry(signed.key_id.clone()).or_default();
        if (signed.created * 1000 - now).abs() > SKEW_MS {
            node.stale += 1;
            if node.stale > 4 {
                let detail = format!("{} stale signatures since the last good one", node.stale);
                let rule = "On signature-stale the node takes the offset and retries once";
                self.breach(&signed.key_id, None, now, rule, detail);
            }
            return Err((
                "signature-stale",
                format!("created is {} and it is {}", signed.created, now / 1000),
            ));
        }
        node.stale = 0;
        node.nonces.retain(|_, at| now - *at <= 2 * SKEW_MS + 5000);
        if node.nonces.len() >= MAX_NONCES || node.nonces.insert(signed.nonce.clone(), now).is_some() {
            let rule = "The coordinator takes each nonce once";
            self.breach(&signed.key_id, None, now, rule, format!("nonce {}", signed.nonce));
            return Err(("nonce-reused", "this nonce was used before".to_owned()));
        }
        Ok(())
    }

    /// A call of a node that is not registered.
    pub(super) fn turned_away(&mut self, id: &str, now: i64) {
        let node = self.nodes.entry(id.to_owned()).or_default();
        node.away += 1;
        if node.away == 20 {
            let rule = "register: at each start, on certificate change, and after 403 node-unknown";
            self.breach(
                id,
                None,
                now,
                rule,
                "20 calls were answered node-unknown and no registration followed",
            );
        }
    }

    pub(super) fn register(&mut self, call: &Call, id: &str, now: i64) -> Result<Reply, Reply> {
        let body = self.body(call, id, now, &shapes::REGISTER)?;
        if body.str("nodeId") != Some(id) {
            self.breach(id, None, now, "keyid = NodeID", "register's nodeId is not the signer");
            return Err(Reply::problem(400, "malformed", "nodeId is not the signer's"));
        }
        let spki = body.member("tls").and_then(|tls| tls.str("spki")).unwrap_or_default();
        if spki.strip_prefix("sha256//").and_then(unbase64).is_none_or(|raw| raw.len() != 32) {
            self.breach(id, None, now, "tls{spki:\"sha256//…\"}", format!("spki is {spki:?}"));
        }
        if body.list("transports").is_empty() || body.list("regions").is_empty() {
            self.breach(id, None, now, "regions[], transports[]", "one of them is empty");
        }
        self.check_rotation(&body, id, now);
        let mut reply = object([
            ("policyVersion", number(1)),
            ("heartbeatIntervalMs", number(self.heartbeat_ms)),
            ("serverTime", text(instant(now))),
            ("probeHosts", Json::Array(self.probe_hosts.clone())),
            ("lists", self.lists_json()),
        ]);
        let csr = body.member("tls").and_then(|tls| tls.str("csr"));
        if let (Some(certify), Some(csr)) = (&self.certify, csr) {
            match certify(csr) {
                Some(chain) => reply.set("certificate", text(chain)),
                None => self.breach(
                    id,
                    None,
                    now,
                    "certificate (PEM chain for the PEM csr)",
                    "the csr does not parse",
                ),
            }
        }
        let node = self.nodes.entry(id.to_owned()).or_default();
        node.registered = true;
        node.register = Json2(body);
        node.counts.0 += 1;
        node.heartbeat_at = None;
        node.away = 0;
        self.bell.ring();
        Ok(Reply::ok(reply))
    }

    /// "The old key's signature (type `rotation`) over the new NodeID": by the rule of signed objects the bytes are
    /// those of `{"nodeId": new}`; `docs/protocol.md` says so where the contract is silent.
    fn check_rotation(&mut self, body: &Json, id: &str, now: i64) {
        let Some(previous) = body.member("previous") else { return };
        let old = previous.str("nodeId").and_then(keys::node_public).unwrap_or_default();
        let bytes = format!("echomesh:rotation:v1\n{}", canonical(&object([("nodeId", text(id))])));
        if !keys::verify(old, bytes.as_bytes(), previous.str("sig").unwrap_or_default()) {
            let rule = "previous: the old key's signature (type rotation) over the new NodeID";
            self.breach(id, None, now, rule, "it does not verify");
        }
    }

    pub(super) fn heartbeat(&mut self, call: &Call, id: &str, now: i64) -> Result<Reply, Reply> {
        let body = self.body(call, id, now, &shapes::HEARTBEAT)?;
        let forgiving = self.faults.recent(now, 180_000);
        let most = 3 * self.heartbeat_ms + 5000;
        let node = self.nodes.entry(id.to_owned()).or_default();
        let gap = node.heartbeat_at.map(|last| now - last);
        node.heartbeat = Json2(body);
        node.heartbeat_at = Some(now);
        node.counts.1 += 1;
        if let Some(gap) = gap.filter(|gap| *gap > most && !forgiving) {
            self.breach(id, None, now, "heartbeatIntervalMs", format!("{gap} ms since the last heartbeat"));
        }
        self.bell.ring();
        let reputation = object([("score", 0.97.into()), ("tier", text("gold"))]);
        let credits = self.credits(id);
        let account = object([
            ("creditsToday", credits.into()),
            ("emshBonusForecast", (credits / 10.0).into()),
            ("reputation", reputation),
        ]);
        Ok(Reply::ok(object([
            ("account", account),
            ("observed", self.observed.clone()),
            ("serverTime", text(instant(now))),
        ])))
    }

    /// Credits of a node: one per GB of accepted bundles.
    pub(super) fn credits(&self, id: &str) -> f64 {
        let sessions = self.sessions.values().filter(|session| session.node == id);
        let bytes: i64 = sessions.map(|session| session.carried().0 + session.carried().1).sum();
        bytes as f64 / 1e9
    }

    /// Forgets a node's registration (fault `forget-node`).
    pub fn forget_node(&mut self, id: &str) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.registered = false;
        }
    }

    /// Nodes for the control API.
    pub fn nodes_json(&self) -> Json {
        let one = |(id, node): (&String, &Node)| {
            object([
                ("nodeId", text(id.clone())),
                ("registered", node.registered.into()),
                ("registrations", number(node.counts.0 as i64)),
                ("heartbeats", number(node.counts.1 as i64)),
                ("register", node.register.0.clone()),
                ("heartbeat", node.heartbeat.0.clone()),
                ("heartbeatAt", node.heartbeat_at.map_or(Json::Null, |at| text(instant(at)))),
                ("signals", number(node.signals.len() as i64)),
                ("acknowledged", number(node.acknowledged as i64)),
                ("cursorRestarts", number(node.restarts as i64)),
            ])
        };
        Json::Array(self.nodes.iter().map(one).collect())
    }
}

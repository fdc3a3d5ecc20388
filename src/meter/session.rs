//! The meter of one session: counts, windows, the chain of bundles (`docs/protocol.md`, "Metering bundle").
use super::access_log::{AccessLine, Path};
use super::window::{SecondBucket, WINDOW_S, Window, window_of};
use crate::encoding::{b3, is_b3};
use crate::json::{FieldError, Fields, MAX_INTEGER, Value, object};
use crate::session::Direction;
use crate::signed::{Kind, NodeKey, sign, signed_bytes};
use crate::time::{Now, Unix};

/// `prevHash` of a session's first bundle.
pub const FIRST_PREV_HASH: &str = "b3:0000000000000000000000000000000000000000000000000000000000000000";

/// What a session has carried so far: the contract's `totals`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Payload bytes from targets, those of the open window included.
    pub bytes_ingress: u64,
    /// Payload bytes taken by targets, those of the open window included.
    pub bytes_egress: u64,
    /// Connections that passed the hello check.
    pub connections: u64,
    /// Authenticated requests that were refused.
    pub rejected: u64,
    /// Bundles sealed.
    pub bundles: u64,
    /// What the next bundle's `prevHash` would be.
    pub last_hash: String,
}

impl Totals {
    /// The contract's object.
    pub fn to_value(&self) -> Value {
        object([
            ("bytesIngress", self.bytes_ingress.into()),
            ("bytesEgress", self.bytes_egress.into()),
            ("connections", self.connections.into()),
            ("rejected", self.rejected.into()),
            ("bundles", self.bundles.into()),
            ("lastHash", self.last_hash.as_str().into()),
        ])
    }

    /// Reads the contract's object.
    pub fn from_value(value: &Value) -> Result<Totals, FieldError> {
        let fields = Fields::of(value)?;
        let count = |name| Ok(fields.int(name, 0..=MAX_INTEGER)?.unsigned_abs());
        let last_hash = fields.str("lastHash")?;
        if !is_b3(last_hash) {
            return Err(fields.error("lastHash", "must be b3: and 64 lower-case hexadecimal digits"));
        }
        Ok(Totals {
            bytes_ingress: count("bytesIngress")?,
            bytes_egress: count("bytesEgress")?,
            connections: count("connections")?,
            rejected: count("rejected")?,
            bundles: count("bundles")?,
            last_hash: last_hash.to_owned(),
        })
    }
}

/// A bundle that will not change any more, complete but for its signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// Start of its window.
    pub window_start: Unix,
    /// Its place in the session's chain, from 0.
    pub seq: u64,
    /// The bundle without `nodeSig`.
    pub object: Value,
    /// BLAKE3 of its signed bytes: the next bundle's `prevHash`.
    pub hash: String,
}

impl Sealed {
    /// The canonical text of the signed bundle. Ed25519 is deterministic, so a repeat is byte-identical.
    pub fn sign(&self, key: &NodeKey) -> String {
        self.signed(key).canonical()
    }

    /// The signed bundle.
    pub fn signed(&self, key: &NodeKey) -> Value {
        let mut bundle = self.object.clone();
        sign(Kind::Metering, &mut bundle, key);
        bundle
    }
}

/// Counts what a session carries. Windows are cut by the corrected wall clock: one is sealed by the first call that comes
/// after its end, and waits in an outbox for [`SessionMeter::take_sealed`]. If the clock goes back the open window stays
/// open; a window once sealed is never opened again, so the next one may begin before its time.
///
/// After [`SessionMeter::close`] nothing is counted any more.
#[derive(Debug)]
pub struct SessionMeter {
    node_id: String,
    session_id: String,
    window: Option<Window>,
    last_window: Option<Unix>,
    totals: Totals,
    outbox: Vec<Sealed>,
    closed: bool,
}

impl SessionMeter {
    /// A session that has carried nothing.
    pub fn new(node_id: &str, session_id: &str) -> SessionMeter {
        let totals = Totals {
            bytes_ingress: 0,
            bytes_egress: 0,
            connections: 0,
            rejected: 0,
            bundles: 0,
            last_hash: FIRST_PREV_HASH.to_owned(),
        };
        SessionMeter {
            node_id: node_id.to_owned(),
            session_id: session_id.to_owned(),
            window: None,
            last_window: None,
            totals,
            outbox: Vec::new(),
            closed: false,
        }
    }

    /// Payload through the relay: bytes from the target, bytes taken by it.
    pub fn add(&mut self, now: Now, ingress: u64, egress: u64) {
        self.add_on(now, Path::Relay, ingress, egress);
    }

    /// Payload on either path.
    pub fn add_on(&mut self, now: Now, path: Path, ingress: u64, egress: u64) {
        if ingress == 0 && egress == 0 {
            return;
        }
        if let Some(window) = self.open(now) {
            window.add(now.unix(), path, ingress, egress);
            self.totals.bytes_ingress += ingress;
            self.totals.bytes_egress += egress;
        }
    }

    /// Takes back bytes that were counted and never got to the other side, from the newest seconds of the open window.
    /// What has been sealed stays. Returns how many were taken back.
    pub fn uncount(&mut self, direction: Direction, bytes: u64) -> u64 {
        let taken = self.window.as_mut().map_or(0, |window| window.uncount(direction, bytes));
        match direction {
            Direction::Ingress => self.totals.bytes_ingress -= taken,
            Direction::Egress => self.totals.bytes_egress -= taken,
        }
        taken
    }

    /// A target answered the SYN after so many microseconds.
    pub fn connected(&mut self, now: Now, latency_us: u64) {
        if let Some(window) = self.open(now) {
            window.connected(latency_us);
        }
    }

    /// A connection passed the hello check.
    pub fn connection(&mut self, now: Now) {
        if let Some(window) = self.open(now) {
            window.connections += 1;
            self.totals.connections += 1;
        }
    }

    /// An authenticated request was refused, before or after the 200.
    pub fn rejected(&mut self, now: Now) {
        if let Some(window) = self.open(now) {
            window.rejected += 1;
            self.totals.rejected += 1;
        }
    }

    /// A 502, a 504, or a reset by the target before its first byte.
    pub fn error(&mut self, now: Now) {
        if let Some(window) = self.open(now) {
            window.error();
        }
    }

    /// Writes the line of a flow that ends now and hashes it into the window's digest. The returned text, line feed
    /// included, is what goes to the log. Its `t` lies in the open window even while the clock has been set back.
    /// `None` after the close.
    pub fn write_line(&mut self, now: Now, line: &AccessLine) -> Option<String> {
        let window = self.open(now)?;
        let text = line.text(window.within(now.unix()));
        window.log_line(text.as_bytes());
        Some(text)
    }

    /// Hashes a finished line, line feed included, into the window's digest.
    pub fn log_line(&mut self, now: Now, line: &[u8]) {
        if let Some(window) = self.open(now) {
            window.log_line(line);
        }
    }

    /// Seals the open window if its time is over. Every counting call does so first; this is for the timer.
    pub fn due(&mut self, now: Now) {
        if self.window.as_ref().is_some_and(|window| now.unix() >= window.end()) {
            self.seal();
        }
    }

    /// When the open window ends, by the corrected clock; `None` if nothing waits to be sealed.
    pub fn window_end(&self) -> Option<Unix> {
        self.window.as_ref().map(Window::end)
    }

    /// Bundles sealed since the last call, in order.
    pub fn take_sealed(&mut self) -> Vec<Sealed> {
        std::mem::take(&mut self.outbox)
    }

    /// Seals the open window at once and counts no more. A session without traffic gets one bundle of zeros. Returns all
    /// bundles that were not taken yet; nothing the second time.
    pub fn close(&mut self, now: Now) -> Vec<Sealed> {
        if !self.closed {
            self.due(now);
            if self.window.is_none() && self.totals.bundles == 0 {
                self.open(now);
            }
            self.seal();
            self.closed = true;
        }
        self.take_sealed()
    }

    /// Whether the session's last bundle is sealed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What it has carried, the open window included.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The seconds of the open window in which bytes passed; their sum is what its bundle will say.
    pub fn buckets(&self) -> &[SecondBucket] {
        self.window.as_ref().map_or(&[], Window::buckets)
    }

    /// What has to be durable when a bundle is: `{sessionId, lastWindow, totals}` of the sealed windows. What the open
    /// window holds is not in it: after a crash it is lost, and the session is closed.
    pub fn chain_state(&self) -> Value {
        let mut sealed = self.totals.clone();
        if let Some(window) = &self.window {
            let open = window.figures();
            sealed.bytes_ingress -= open.ingress;
            sealed.bytes_egress -= open.egress;
            sealed.connections -= open.connections;
            sealed.rejected -= open.rejected;
        }
        object([
            ("sessionId", self.session_id.as_str().into()),
            ("lastWindow", self.last_window.map(|t| t.to_string()).into()),
            ("totals", sealed.to_value()),
        ])
    }

    /// Goes on with the chain that [`SessionMeter::chain_state`] described.
    pub fn restore(node_id: &str, state: &Value) -> Result<SessionMeter, FieldError> {
        let fields = Fields::of(state)?;
        let mut meter = SessionMeter::new(node_id, fields.str("sessionId")?);
        if let Some(text) = fields.opt_str("lastWindow")? {
            let bad = || fields.error("lastWindow", "must be the start of a window");
            meter.last_window = Some(Unix::parse(text).ok_or_else(bad)?);
        }
        meter.totals = Totals::from_value(fields.required("totals")?)?;
        Ok(meter)
    }

    /// The window that `now` counts for; `None` after the close.
    fn open(&mut self, now: Now) -> Option<&mut Window> {
        if self.closed {
            return None;
        }
        self.due(now);
        let after_last = self.last_window.map_or(Unix(i64::MIN), |t| Unix(t.0 + WINDOW_S));
        Some(self.window.get_or_insert_with(|| Window::new(window_of(now.unix()).max(after_last))))
    }

    fn seal(&mut self) {
        let Some(window) = self.window.take() else { return };
        let object = self.bundle(&window);
        let hash = b3(&blake3::hash(&signed_bytes(Kind::Metering, &object)));
        let seq = self.totals.bundles;
        self.totals.bundles += 1;
        self.totals.last_hash.clone_from(&hash);
        self.last_window = Some(window.start);
        self.outbox.push(Sealed { window_start: window.start, seq, object, hash });
    }

    fn bundle(&self, window: &Window) -> Value {
        let figures = window.figures();
        object([
            ("nodeId", self.node_id.as_str().into()),
            ("sessionId", self.session_id.as_str().into()),
            ("windowStart", window.start.to_string().into()),
            ("windowEnd", window.end().to_string().into()),
            ("bytesIngress", figures.ingress.into()),
            ("bytesEgress", figures.egress.into()),
            ("latencyMsP50", figures.latency_ms_p50.into()),
            ("latencyMsP95", figures.latency_ms_p95.into()),
            ("errorRatePct", figures.error_rate_pct.into()),
            ("accessLogHash", b3(&figures.lines).into()),
            ("seq", self.totals.bundles.into()),
            ("prevHash", self.totals.last_hash.as_str().into()),
            ("connections", figures.connections.into()),
            ("rejected", figures.rejected.into()),
            ("path", figures.path.as_str().into()),
        ])
    }
}

#[cfg(test)]
mod tests;

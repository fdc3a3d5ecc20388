//! Checking an export offline: signatures, chain, windows, sums, access log. Nothing is taken on trust but the NodeID.
mod input;

use super::session::{FIRST_PREV_HASH, Totals};
use super::window::WINDOW_S;
use crate::encoding::{b3, is_b3};
use crate::json::{FieldError, Fields, MAX_INTEGER, Value};
use crate::signed::{Kind, PublicKey, signed_bytes};
use crate::time::Unix;
use input::{Input, Line};
use std::collections::BTreeMap;
use std::fmt;

/// Faults of one session that are named; the rest is counted.
const MAX_NAMED: usize = 20;

/// What an export turned out to be.
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    /// Each session in it, by its identifier.
    pub sessions: Vec<SessionReport>,
    /// What belongs to no session: files that are not JSON, or not an export.
    pub faults: Vec<String>,
}

/// What was found of one session.
#[derive(Debug, Default, PartialEq)]
pub struct SessionReport {
    /// Its identifier.
    pub session_id: String,
    /// The NodeID in its bundles.
    pub node_id: String,
    /// Bundles, repeats not counted.
    pub bundles: usize,
    /// Start of the first window, end of the last.
    pub span: Option<(Unix, Unix)>,
    /// Sums of the bundles.
    pub bytes_ingress: u64,
    /// Sums of the bundles.
    pub bytes_egress: u64,
    /// Sums of the bundles.
    pub connections: u64,
    /// Sums of the bundles.
    pub rejected: u64,
    /// Windows whose lines gave the digest in the bundle.
    pub digests_matched: usize,
    /// Whether there were totals to compare with.
    pub settled: bool,
    /// Everything that is wrong, in words.
    pub faults: Vec<String>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether there was something to check and nothing is wrong with it.
    pub fn is_ok(&self) -> bool {
        !self.sessions.is_empty() && self.faults() == 0
    }

    /// The number of faults.
    pub fn faults(&self) -> usize {
        self.faults.len() + self.sessions.iter().map(|s| s.faults.len()).sum::<usize>()
    }
}

/// Checks the files of an export, each with its name: bundles as they were posted, lines of the access log as they were
/// exported, `settled` transitions with their totals; as JSON lines, arrays or the bodies of the requests.
pub fn verify(files: &[(&str, &[u8])]) -> Report {
    let mut input = Input::default();
    files.iter().for_each(|(name, text)| input.read(name, text));
    let mut sessions: BTreeMap<String, Exported<'_>> = BTreeMap::new();
    for bundle in &input.bundles {
        sessions.entry(session_of(bundle)).or_default().bundles.push(bundle);
    }
    for line in &input.lines {
        sessions.entry(session_of(&line.value)).or_default().lines.push(line);
    }
    for (session, totals) in &input.totals {
        sessions.entry(session.clone()).or_default().totals.push(totals);
    }
    let log_start = input.lines.iter().filter_map(instant).min();
    let check = |(id, exported): (String, Exported<'_>)| exported.check(id, log_start);
    Report { sessions: sessions.into_iter().map(check).collect(), faults: input.faults }
}

fn session_of(value: &Value) -> String {
    value.member("sessionId").and_then(Value::as_str).unwrap_or("(none)").to_owned()
}

fn instant(line: &Line) -> Option<Unix> {
    Unix::parse(line.value.member("t")?.as_str()?)
}

/// What the files say of one session.
#[derive(Default)]
struct Exported<'a> {
    bundles: Vec<&'a Value>,
    lines: Vec<&'a Line>,
    totals: Vec<&'a Value>,
}

/// A bundle whose members are well-formed.
struct Bundle<'a> {
    node_id: &'a str,
    start: Unix,
    seq: u64,
    prev_hash: &'a str,
    log_hash: &'a str,
    counts: [u64; 4],
    signed: Vec<u8>,
}

impl Exported<'_> {
    fn check(&self, session_id: String, log_start: Option<Unix>) -> SessionReport {
        let mut report = SessionReport { session_id, ..SessionReport::default() };
        let bundles = self.read_bundles(&mut report);
        check_chain(&bundles, &mut report);
        self.check_totals(&bundles, &mut report);
        if bundles.is_empty() {
            report.notes.push("there is no bundle of it".into());
        } else if log_start.is_none() {
            report.notes.push("no line of the access log was given".into());
        } else {
            self.check_lines(&bundles, log_start, &mut report);
        }
        report
    }

    /// Well-formed bundles in the order of `seq`, each once. The signature is checked here.
    fn read_bundles(&self, report: &mut SessionReport) -> Vec<Bundle<'_>> {
        let mut bundles: Vec<Bundle<'_>> = Vec::new();
        for value in &self.bundles {
            let bundle = match read_bundle(value) {
                Ok(bundle) => bundle,
                Err(e) => {
                    report.faults.push(format!("a bundle is malformed: {e}"));
                    continue;
                }
            };
            let key = PublicKey::parse(bundle.node_id);
            if !key.is_some_and(|key| crate::signed::verify(Kind::Metering, value, &key)) {
                report
                    .faults
                    .push(format!("bundle {}: the signature is not that of {}", bundle.seq, bundle.node_id));
            }
            match bundles.iter().find(|b| b.seq == bundle.seq) {
                Some(same) if same.signed == bundle.signed => {}
                Some(_) => report.faults.push(format!("bundle {}: there are two different ones", bundle.seq)),
                None => bundles.push(bundle),
            }
        }
        bundles.sort_by_key(|b| b.seq);
        bundles
    }

    fn check_totals(&self, bundles: &[Bundle<'_>], report: &mut SessionReport) {
        for value in &self.totals {
            report.settled = true;
            let totals = match Totals::from_value(value) {
                Ok(totals) => totals,
                Err(e) => {
                    report.faults.push(format!("the totals are malformed: {e}"));
                    continue;
                }
            };
            let pairs = [
                ("bytesIngress", totals.bytes_ingress, report.bytes_ingress),
                ("bytesEgress", totals.bytes_egress, report.bytes_egress),
                ("connections", totals.connections, report.connections),
                ("rejected", totals.rejected, report.rejected),
                ("bundles", totals.bundles, report.bundles as u64),
            ];
            for (name, said, sum) in pairs.into_iter().filter(|(_, said, sum)| said != sum) {
                report.faults.push(format!("totals: {name} is {said}, but the bundles give {sum}"));
            }
            let last = bundles.last().map_or(FIRST_PREV_HASH.to_owned(), |b| b3(&blake3::hash(&b.signed)));
            if totals.last_hash != last {
                report.faults.push(format!(
                    "totals: lastHash is {}, but the last bundle's is {last}",
                    totals.last_hash
                ));
            }
        }
    }

    /// Compares the digest of each window with its lines. Windows that began before the first line of the whole log may
    /// have lost theirs.
    fn check_lines(&self, bundles: &[Bundle<'_>], log_start: Option<Unix>, report: &mut SessionReport) {
        let mut covered: Vec<&Line> = Vec::new();
        for bundle in bundles {
            let within = |line: &&&Line| {
                instant(line).is_some_and(|t| (bundle.start.0..bundle.start.0 + WINDOW_S).contains(&t.0))
            };
            let mut hasher = blake3::Hasher::new();
            for line in self.lines.iter().filter(within) {
                hasher.update(&line.text);
                covered.push(line);
            }
            if b3(&hasher.finalize()) == bundle.log_hash {
                report.digests_matched += 1;
            } else if log_start.is_none_or(|t| t > bundle.start) {
                let text = "the log begins after its window did, so its lines could not be checked";
                report.notes.push(format!("bundle {}: {text}", bundle.seq));
            } else {
                report.faults.push(format!(
                    "bundle {}: the lines of its window do not give accessLogHash",
                    bundle.seq
                ));
            }
        }
        match self.lines.len() - covered.len() {
            0 => {}
            n => report
                .notes
                .push(format!("{n} lines lie in windows without a bundle: nobody was billed for them")),
        }
        check_line_sums(&covered, report);
    }
}

/// A byte belongs to a flow, and a flow leaves a line: the lines of a settled session never say more than its bundles.
fn check_line_sums(lines: &[&Line], report: &mut SessionReport) {
    let sum = |name| {
        let of = |line: &&Line| line.value.member(name).and_then(Value::as_int);
        lines.iter().filter_map(of).map(i64::unsigned_abs).sum::<u64>()
    };
    for (name, lines, bundles) in
        [("ingress", sum("ingress"), report.bytes_ingress), ("egress", sum("egress"), report.bytes_egress)]
    {
        if report.settled && lines > bundles {
            report.faults.push(format!("the lines give {lines} bytes of {name}, the bundles only {bundles}"));
        }
    }
}

/// Order, gaps, hashes, windows, and the sums.
fn check_chain(bundles: &[Bundle<'_>], report: &mut SessionReport) {
    report.bundles = bundles.len();
    report.node_id = bundles.first().map_or(String::new(), |b| b.node_id.to_owned());
    if let (Some(first), Some(last)) = (bundles.first(), bundles.last()) {
        report.span = Some((first.start, Unix(last.start.0 + WINDOW_S)));
    }
    let (mut next_seq, mut last_hash, mut last_start) = (0, Some(FIRST_PREV_HASH.to_owned()), None);
    for bundle in bundles {
        let mut fault = |text: String| report.faults.push(format!("bundle {}: {text}", bundle.seq));
        if bundle.seq != next_seq {
            fault(format!("{} before it are missing", bundle.seq - next_seq));
            last_hash = None;
        }
        if bundle.node_id != report.node_id {
            fault(format!("it is of another node, {}", bundle.node_id));
        }
        if last_hash.is_some_and(|hash| hash != bundle.prev_hash) {
            fault("prevHash is not the hash of the bundle before it".into());
        }
        if last_start.is_some_and(|start| start >= bundle.start) {
            fault("its window does not come after that of the bundle before it".into());
        }
        let [ingress, egress, connections, rejected] = bundle.counts;
        report.bytes_ingress = report.bytes_ingress.saturating_add(ingress);
        report.bytes_egress = report.bytes_egress.saturating_add(egress);
        report.connections = report.connections.saturating_add(connections);
        report.rejected = report.rejected.saturating_add(rejected);
        last_hash = Some(b3(&blake3::hash(&bundle.signed)));
        (next_seq, last_start) = (bundle.seq + 1, Some(bundle.start));
    }
}

fn read_bundle(value: &Value) -> Result<Bundle<'_>, FieldError> {
    let fields = Fields::of(value)?;
    let count = |name| Ok(fields.int(name, 0..=MAX_INTEGER)?.unsigned_abs());
    let hash = |name| match fields.str(name)? {
        text if is_b3(text) => Ok(text),
        _ => Err(fields.error(name, "must be b3: and 64 lower-case hexadecimal digits")),
    };
    let time = |name| {
        Unix::parse(fields.str(name)?).ok_or_else(|| fields.error(name, "must be YYYY-MM-DDTHH:MM:SSZ"))
    };
    let (start, end) = (time("windowStart")?, time("windowEnd")?);
    if start.0 % WINDOW_S != 0 {
        return Err(fields.error("windowStart", format!("{start} is no multiple of {WINDOW_S} s")));
    }
    if end.0 != start.0 + WINDOW_S {
        return Err(fields.error("windowEnd", format!("{end} is not {WINDOW_S} s after {start}")));
    }
    if count("latencyMsP50")? > count("latencyMsP95")? {
        return Err(fields.error("latencyMsP50", "is above latencyMsP95"));
    }
    let rate = fields.number("errorRatePct")?;
    if !(0.0..=100.0).contains(&rate) || (rate * 10.0).round() / 10.0 != rate {
        return Err(fields.error("errorRatePct", format!("{rate} is no percentage with one decimal")));
    }
    if !["relay", "kernel", "mixed"].contains(&fields.str("path")?) {
        return Err(fields.error("path", "must be relay, kernel or mixed"));
    }
    fields.str("sessionId")?;
    Ok(Bundle {
        node_id: fields.str("nodeId")?,
        start,
        seq: count("seq")?,
        prev_hash: hash("prevHash")?,
        log_hash: hash("accessLogHash")?,
        counts: [count("bytesIngress")?, count("bytesEgress")?, count("connections")?, count("rejected")?],
        signed: signed_bytes(Kind::Metering, value),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for session in &self.sessions {
            writeln!(f, "{session}")?;
        }
        for fault in &self.faults {
            writeln!(f, "FAULT: {fault}")?;
        }
        let bundles: usize = self.sessions.iter().map(|s| s.bundles).sum();
        write!(f, "{} sessions, {bundles} bundles, {} faults", self.sessions.len(), self.faults())
    }
}

impl fmt::Display for SessionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "session {}", self.session_id)?;
        if let Some((start, end)) = self.span {
            writeln!(f, "  node        {}", self.node_id)?;
            writeln!(f, "  windows     {} bundles from {start} to {end}", self.bundles)?;
            writeln!(f, "  bytes       {} from targets, {} to them", self.bytes_ingress, self.bytes_egress)?;
            writeln!(f, "  connections {}, {} requests rejected", self.connections, self.rejected)?;
            writeln!(f, "  access log  {} of {} digests match", self.digests_matched, self.bundles)?;
            let totals = if self.settled { "compared with the bundles" } else { "none given" };
            writeln!(f, "  totals      {totals}")?;
        }
        for note in self.notes.iter().take(MAX_NAMED) {
            writeln!(f, "  note: {note}")?;
        }
        for fault in self.faults.iter().take(MAX_NAMED) {
            writeln!(f, "  FAULT: {fault}")?;
        }
        match self.faults.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => writeln!(f, "  FAULT: and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests;

//! The node's state for people: a status document in, text of 80 columns out.
//!
//! Instants are shown as spans from now, which need no time zone. Texts that come from elsewhere lose their control
//! characters: nobody but the node draws on the owner's terminal.
pub(super) mod figures;

use crate::json::Value;
use crate::time::Unix;
use figures::{at, bytes, clean, clip, columns, figure, instant, number, span, sparkline, word, wrap};

/// Width of the column of labels.
const LABELS: usize = 13;

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether colours are wanted.
    pub colour: bool,
    /// Whether more than ASCII can be shown.
    pub unicode: bool,
    /// Columns, at least 40.
    pub width: usize,
}

/// The view of `GET /status`.
pub fn status(status: &Value, now: Unix, style: Style) -> String {
    let mut page = Page { text: String::new(), now, style };
    page.title(status);
    page.traffic(status);
    page.surroundings(status);
    page.troubles(status);
    page.end()
}

/// The view of `GET /sessions`.
pub fn sessions(document: &Value, now: Unix, style: Style) -> String {
    let mut page = Page { text: String::new(), now, style };
    let list = document.member("sessions").and_then(Value::as_array).unwrap_or_default();
    if list.is_empty() {
        return "no session is open\n".into();
    }
    for session in list {
        page.session(session);
    }
    page.end()
}

/// Rows that a small screen can do without, the first of them first. Alerts and what the configuration gets wrong are none.
const SPARE: [&str; 10] = [
    "Account",
    "Probes",
    "Latency",
    "Sandbox",
    "Path",
    "Region",
    "Refused",
    "Schedule",
    "Today",
    "Throughput",
];

/// A view on a screen of so many lines: without empty lines, then without what can be spared, if it is too long otherwise.
pub fn fit(text: &str, rows: usize) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.len() > rows {
        lines.retain(|line| !line.is_empty());
    }
    for label in SPARE {
        if lines.len() <= rows {
            break;
        }
        let mut inside = false;
        lines.retain(|line| {
            // A row goes on in lines that begin with a space; its label may be painted.
            inside = if line.starts_with(' ') {
                inside
            } else {
                line.trim_start_matches("\x1b[2m").starts_with(label)
            };
            !inside
        });
    }
    lines.truncate(rows);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The owner's next command in a state that waits for him.
fn remedy(state: &str) -> Option<&'static str> {
    Some(match state {
        "unconfigured" => "echomesh setup",
        "locked" => "echomesh keys unlock",
        "guard-down" => "echomesh guard (is it running?)",
        "quarantined" => "echomesh start --clear-quarantine, when the cause is gone",
        "paused" => "echomesh start",
        _ => return None,
    })
}

struct Page {
    text: String,
    now: Unix,
    style: Style,
}

#[derive(Clone, Copy)]
enum Colour {
    Green = 32,
    Yellow = 33,
    Red = 31,
    Dim = 2,
}

impl Page {
    /// The whole, in letters that the terminal has.
    fn end(self) -> String {
        if self.style.unicode {
            return self.text;
        }
        self.text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
    }

    fn title(&mut self, status: &Value) {
        let up = status.member("uptimeMs").and_then(Value::as_int);
        let up = up.map_or(String::new(), |ms| format!(" up {}", span(ms / 1000)));
        let name = clip(&format!("EchoMesh {}", word(status, "version")), self.style.width - columns(&up));
        let gap = self.style.width.saturating_sub(columns(&name) + columns(&up));
        self.line(&format!("{name}{}{up}", " ".repeat(gap)));
        let node = clip(&word(status, "nodeId"), self.style.width);
        if !node.is_empty() {
            let node = self.paint(Colour::Dim, &node);
            self.line(&node);
        }
        self.text.push('\n');

        let state = clip(&word(status, "state"), 20);
        let colour = match state.as_str() {
            "idle" | "active" => Colour::Green,
            "paused" | "outside-schedule" | "draining" => Colour::Yellow,
            _ => Colour::Red,
        };
        let dot = if self.style.unicode { "●" } else { "*" };
        let since = instant(status, "since").map(|t| format!(" for {}", self.ago(t)));
        let painted = self.paint(colour, &format!("{dot} {state}"));
        self.line(&format!("{painted}{}", since.unwrap_or_default()));
        let reason = word(status, "reason");
        if !reason.is_empty() {
            self.text.push_str("  ");
            self.words(&reason, 2);
        }
        if let Some(command) = remedy(&state) {
            let arrow = if self.style.unicode { "→" } else { ">" };
            self.text.push_str(&format!("  {arrow} "));
            self.words(command, 4);
        }
        self.text.push('\n');
    }

    fn traffic(&mut self, status: &Value) {
        let sessions = match status.member("sessions") {
            Some(Value::Array(list)) => list.len().to_string(),
            Some(number) => number.canonical(),
            None => "0".into(),
        };
        self.row("Sessions", &[sessions]);
        let rate =
            |name: &str| format!("{} Mbit/s", figure(number(status, &format!("throughput/{name}")), 2));
        let rates = [format!("in {}", rate("ingressMbps")), format!("out {}", rate("egressMbps"))];
        self.row("Throughput", &rates);
        let history = at(status, "throughput/history").and_then(Value::as_array).unwrap_or_default();
        let history: Vec<f64> = history.iter().filter_map(Value::as_f64).collect();
        if history.iter().any(|v| *v > 0.0) {
            let peak = history.iter().copied().fold(0.0, f64::max);
            let line = sparkline(&history, peak, self.style.width - LABELS, self.style);
            let line = self.paint(Colour::Green, &line);
            self.line(&format!("{}{line}", " ".repeat(LABELS)));
        }
        let ms = |name: &str| figure(number(status, &format!("qos/{name}")), 0);
        self.row(
            "Latency",
            &[
                format!("p50 {} ms", ms("latencyMsP50")),
                format!("p95 {} ms", ms("latencyMsP95")),
                format!("errors {} %", figure(number(status, "qos/errorRatePct"), 1)),
            ],
        );
        self.today(status);
    }

    fn today(&mut self, status: &Value) {
        let (ingress, egress) = (number(status, "today/ingressBytes"), number(status, "today/egressBytes"));
        let mut items = vec![format!("in {}", bytes(ingress)), format!("out {}", bytes(egress))];
        if let Some(resets) = instant(status, "today/resetsAt") {
            items.push(format!("new day in {}", self.until(resets)));
        }
        self.row("Today", &items);
        let quota = number(status, "today/quotaBytes");
        if quota > 0.0 {
            let used = ((ingress + egress) / quota).clamp(0.0, 99.99);
            let caption = format!(" {} % of {}", figure(used * 100.0, 1), bytes(quota));
            let room = self.style.width.saturating_sub(LABELS + columns(&caption)).min(40);
            let filled = (used.min(1.0) * room as f64).round() as usize;
            let (full, empty) = if self.style.unicode { ("█", "░") } else { ("#", ".") };
            let colour = if used >= 0.9 { Colour::Yellow } else { Colour::Green };
            let bar = self.paint(colour, &full.repeat(filled)) + &empty.repeat(room - filled);
            self.line(&format!("{}{bar}{caption}", " ".repeat(LABELS)));
        }
    }

    fn surroundings(&mut self, status: &Value) {
        if let Some(open) = at(status, "schedule/open").and_then(Value::as_bool) {
            let mut items = vec![if open { "open" } else { "closed" }.to_owned()];
            if let Some(next) = instant(status, "schedule/nextChange") {
                let verb = if open { "closes" } else { "opens" };
                items.push(format!("{verb} in {}", self.until(next)));
            }
            self.row("Schedule", &items);
        }
        let mut coordinator = vec![word(status, "coordinator/state")];
        if let Some(last) = instant(status, "coordinator/lastContact") {
            coordinator.push(format!("last contact {} ago", self.ago(last)));
        }
        let backoff = number(status, "coordinator/backoffMs");
        if backoff > 0.0 {
            coordinator.push(format!("next try within {} s", figure(backoff / 1000.0, 0)));
        }
        self.row("Coordinator", &coordinator);
        self.standing(status);
        self.row("Path", &[word(status, "offload/active"), format!("guard {}", word(status, "guard"))]);
        self.paragraph(&word(status, "offload/reason"));
        let list = |name: &str| at(status, name).and_then(Value::as_array).unwrap_or_default();
        let mut sandbox = vec![word(status, "sandbox/mode")];
        sandbox.extend(list("sandbox/layers").iter().filter_map(Value::as_str).map(clean));
        sandbox.extend(list("sandbox/missing").iter().map(|m| format!("without {}", word(m, "layer"))));
        self.row("Sandbox", &sandbox);
    }

    /// What the coordinator thinks of the node.
    fn standing(&mut self, status: &Value) {
        let region = word(status, "geo/region");
        if !region.is_empty() {
            let confidence = figure(number(status, "geo/confidence") * 100.0, 0);
            self.row("Region", &[region, format!("confidence {confidence} %")]);
        }
        let probes = |name: &str| figure(number(status, &format!("probes/{name}")), 0);
        let mut items = vec![format!("{} passed", probes("passed")), format!("{} failed", probes("failed"))];
        if let Some(last) = instant(status, "probes/last") {
            items.push(format!("last {} ago", self.ago(last)));
        }
        self.row("Probes", &items);
        if at(status, "account/creditsToday").is_some() {
            let of = |name: &str| figure(number(status, &format!("account/{name}")), 2);
            self.row(
                "Account",
                &[
                    format!("{} credits today", of("creditsToday")),
                    format!("bonus forecast {} EMSH", of("emshBonusForecast")),
                    format!(
                        "reputation {} {}",
                        of("reputation/score"),
                        word(status, "account/reputation/tier")
                    ),
                ],
            );
        }
    }

    fn troubles(&mut self, status: &Value) {
        let refusals = status.member("refusals").and_then(Value::as_object).unwrap_or_default();
        let mut counts: Vec<(String, f64)> =
            refusals.iter().map(|(slug, n)| (clean(slug), n.as_f64().unwrap_or_default())).collect();
        counts.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let items: Vec<String> = counts.iter().map(|(slug, n)| format!("{slug} {}", figure(*n, 0))).collect();
        self.row("Refused", if items.is_empty() { &[] } else { &items });
        let alerts = status.member("alerts").and_then(Value::as_array).unwrap_or_default();
        for (index, alert) in alerts.iter().enumerate() {
            let label = if index == 0 { "Alerts" } else { "" };
            let since = instant(alert, "since").map(|t| format!(" for {}", self.ago(t)));
            let code = self.paint(Colour::Yellow, &clip(&word(alert, "code"), 30));
            let label = self.label(label);
            self.line(&format!("{label}{code}{}", since.unwrap_or_default()));
            self.paragraph(&word(alert, "detail"));
        }
        let errors = at(status, "config/errors").and_then(Value::as_array).unwrap_or_default();
        for (index, error) in errors.iter().filter_map(Value::as_str).enumerate() {
            let label = self.label(if index == 0 { "Config" } else { "" });
            self.text.push_str(&label);
            self.words(error, LABELS);
        }
    }

    fn session(&mut self, session: &Value) {
        let id = clip(&word(session, "sessionId"), 36);
        let id = self.paint(Colour::Green, &id);
        let items = [word(session, "state"), word(session, "buyer"), word(session, "category")];
        let rest = clip(&items.join("  "), self.style.width - 38);
        self.line(&format!("{id}  {rest}"));
        let of = |name: &str| number(session, name);
        let mut items = vec![
            format!("{} open of {}", figure(of("open"), 0), figure(of("connections"), 0)),
            format!("{} refused", figure(of("rejected"), 0)),
            format!("in {}", bytes(of("bytesIngress"))),
            format!("out {}", bytes(of("bytesEgress"))),
        ];
        match (instant(session, "notBefore"), instant(session, "expiresAt")) {
            (Some(begin), _) if begin > self.now => items.push(format!("begins in {}", self.until(begin))),
            (_, Some(end)) => items.push(format!("ends in {}", self.until(end))),
            _ => {}
        }
        let line = clip(&items.join(self.separator()), self.style.width - 2);
        self.line(&format!("  {line}"));
    }

    /// A label and items, wrapped between items.
    fn row(&mut self, label: &str, items: &[String]) {
        let mut line = String::new();
        let mut label = self.label(label);
        let room = self.style.width - LABELS;
        for item in items {
            let item = clip(item, room);
            let needed = columns(&line) + columns(self.separator()) + columns(&item);
            if !line.is_empty() && needed > room {
                self.line(&format!("{label}{line}"));
                label = " ".repeat(LABELS);
                line.clear();
            }
            if !line.is_empty() {
                line.push_str(self.separator());
            }
            line.push_str(&item);
        }
        if items.is_empty() {
            line.push_str("none");
        }
        self.line(&format!("{label}{line}"));
    }

    /// A sentence under the labels, wrapped between words.
    fn paragraph(&mut self, sentence: &str) {
        if !sentence.is_empty() {
            self.text.push_str(&" ".repeat(LABELS));
            self.words(sentence, LABELS);
        }
    }

    fn words(&mut self, sentence: &str, indent: usize) {
        self.text.push_str(&wrap(&clean(sentence), indent, self.style.width));
        self.text.push('\n');
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn ago(&self, instant: Unix) -> String {
        span(self.now.0.saturating_sub(instant.0))
    }

    fn until(&self, instant: Unix) -> String {
        span(instant.0.saturating_sub(self.now.0))
    }

    fn label(&self, text: &str) -> String {
        let padding = " ".repeat(LABELS.saturating_sub(columns(text)));
        if text.is_empty() { padding } else { self.paint(Colour::Dim, text) + &padding }
    }

    fn separator(&self) -> &'static str {
        if self.style.unicode { " · " } else { ", " }
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        if self.style.colour { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests;

//! The node's state for people: a status document in, text of 80 columns out.
//!
//! Instants are shown as spans from now, which need no time zone. Texts that come from elsewhere lose their control
//! characters: nobody but the node draws on the owner's terminal.
mod figures;

use crate::json::Value;
use crate::time::Unix;
use figures::{at, bytes, clean, clip, columns, figure, instant, number, span, sparkline, word};

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
    page.text
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
    page.text
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
        let layers = at(status, "sandbox/layers").and_then(Value::as_array).unwrap_or_default();
        let layers: Vec<String> = layers.iter().filter_map(Value::as_str).map(clean).collect();
        let layers = if layers.is_empty() { "none".into() } else { layers.join(", ") };
        let guard = format!("guard {}", word(status, "guard"));
        let missing = at(status, "sandbox/missing").and_then(Value::as_array).unwrap_or_default();
        let missing: Vec<String> = missing.iter().map(|m| word(m, "layer")).collect();
        let missing =
            if missing.is_empty() { String::new() } else { format!("; missing {}", missing.join(", ")) };
        let sandbox = format!("sandbox {}: {layers}{missing}", word(status, "sandbox/mode"));
        self.row("Path", &[word(status, "offload/active"), guard, sandbox]);
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
        let (room, mut used) = (self.style.width - indent, 0);
        for word in clean(sentence).split_whitespace() {
            let word = clip(word, room);
            if used > 0 && used + 1 + columns(&word) > room {
                self.text.push('\n');
                self.text.push_str(&" ".repeat(indent));
                used = 0;
            }
            if used > 0 {
                self.text.push(' ');
                used += 1;
            }
            self.text.push_str(&word);
            used += columns(&word);
        }
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

//! The node's state for people: a status document in, text of 80 columns out.
//!
//! Instants are shown as spans from now, which need no time zone. Texts that come from elsewhere lose their control
//! characters: nobody but the node draws on the owner's terminal.
use crate::json::Value;
use crate::time::Unix;

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
            let line = sparkline(&history, peak, self.style);
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
        let layers = at(status, "sandbox/layers").and_then(Value::as_array).unwrap_or_default();
        let layers: Vec<String> = layers.iter().filter_map(Value::as_str).map(clean).collect();
        let layers = if layers.is_empty() { "none".into() } else { layers.join(", ") };
        self.row(
            "Path",
            &[
                word(status, "offload/active"),
                format!("guard {}", word(status, "guard")),
                format!("sandbox {}: {layers}", word(status, "sandbox/mode")),
            ],
        );
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

fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').try_fold(value, |value, name| value.member(name))
}

fn word(value: &Value, path: &str) -> String {
    at(value, path).and_then(Value::as_str).map(clean).unwrap_or_default()
}

fn number(value: &Value, path: &str) -> f64 {
    at(value, path).and_then(Value::as_f64).unwrap_or_default()
}

fn instant(value: &Value, path: &str) -> Option<Unix> {
    at(value, path).and_then(Value::as_str).and_then(Unix::parse)
}

/// The text without what moves a cursor or turns the direction of writing.
fn clean(text: &str) -> String {
    let unsafe_char = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if unsafe_char(c) { '?' } else { c }).collect()
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

fn clip(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(3)).chain("...".chars()).collect()
}

/// Larger figures are shown as this one: no figure of a node is, and a row has its width.
const MAX_FIGURE: f64 = 1e12;

/// A number with at most so many decimals, and no zeros at its end.
fn figure(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.clamp(-MAX_FIGURE, MAX_FIGURE));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn bytes(value: f64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")];
    match units.into_iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{} {unit}", figure(value / size, 2)),
        None => format!("{} B", figure(value, 0)),
    }
}

/// A span of time in its two largest units.
fn span(seconds: i64) -> String {
    let s = seconds.max(0);
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

fn sparkline(history: &[f64], peak: f64, style: Style) -> String {
    let steps: Vec<char> = if style.unicode { "▁▂▃▄▅▆▇█" } else { "_.-~=+*#" }.chars().collect();
    let room = style.width - LABELS;
    let recent = history.iter().skip(history.len().saturating_sub(room));
    let highest = steps.len().saturating_sub(1);
    let step = |value: &f64| (((value / peak).clamp(0.0, 1.0)) * highest as f64).ceil() as usize;
    recent.filter_map(|v| steps.get(step(v).min(highest))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false, unicode: true, width: 80 };
    const NOW: &str = "2025-12-19T14:03:20Z";

    fn document(text: &[u8]) -> Value {
        crate::json::parse(text).unwrap()
    }

    fn golden(name: &str, text: &str) {
        let path = format!("{}/src/cli/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
        let plain = uncoloured(text);
        assert!(plain.lines().all(|l| l.chars().count() <= 80), "{name} is too wide:\n{plain}");
    }

    fn uncoloured(text: &str) -> String {
        let mut parts = text.split("\x1b[");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |plain, part| plain + part.split_once('m').unwrap().1)
    }

    #[test]
    fn views_are_as_agreed() {
        let now = Unix::parse(NOW).unwrap();
        let busy = document(include_bytes!("../api/testdata/status.json"));
        golden("busy.txt", &status(&busy, now, PLAIN));
        golden("busy-ascii.txt", &status(&busy, now, Style { unicode: false, ..PLAIN }));
        golden("busy-colour.txt", &status(&busy, now, Style { colour: true, ..PLAIN }));
        let bad = document(include_bytes!("testdata/quarantined.json"));
        golden("quarantined.txt", &status(&bad, now, PLAIN));
        golden("empty.txt", &status(&document(b"{}"), now, PLAIN));
        let list = document(include_bytes!("testdata/sessions.json"));
        golden("sessions.txt", &sessions(&list, now, PLAIN));
        assert_eq!(sessions(&document(b"{\"sessions\":[]}"), now, PLAIN), "no session is open\n");
    }

    #[test]
    fn colour_and_ascii_change_nothing_but_themselves() {
        let now = Unix::parse(NOW).unwrap();
        let busy = document(include_bytes!("../api/testdata/status.json"));
        let plain = status(&busy, now, PLAIN);
        assert_eq!(uncoloured(&status(&busy, now, Style { colour: true, ..PLAIN })), plain);
        assert!(status(&busy, now, Style { unicode: false, ..PLAIN }).is_ascii());
    }

    #[test]
    fn nobody_else_draws_on_the_terminal() {
        let now = Unix::parse(NOW).unwrap();
        let text = r#"{"state":"idle\u001b[2J","reason":"\u202eevil\n","geo":{"region":"\u009b31m"},
            "alerts":[{"code":"a\rb","detail":"x\u0007y"}],"refusals":{"\u001b]0;t\u0007":1}}"#;
        let view = status(&document(text.as_bytes()), now, PLAIN);
        assert!(view.chars().all(|c| c == '\n' || !c.is_control()) && !view.contains('\u{202e}'), "{view:?}");
    }

    #[test]
    fn no_status_is_too_wide_or_too_odd_to_draw() {
        let now = Unix(i64::MAX);
        let long = "x".repeat(500);
        let odd = format!(
            r#"{{"version":"{long}","nodeId":"{long}","state":"{long}","reason":"{long}","since":"1970-01-01T00:00:00Z",
            "refusals":{{"{long}":9007199254740991}},"alerts":[{{"code":"{long}","detail":"{long} {long}"}}],
            "throughput":{{"history":[-1,1e300,0]}},"today":{{"ingressBytes":1e300,"quotaBytes":1}},
            "config":{{"errors":["{long}"]}},"geo":{{"region":"{long}","confidence":1e9}}}}"#
        );
        let view = status(&document(odd.as_bytes()), now, PLAIN);
        let widest = view.lines().map(|l| l.chars().count()).max().unwrap();
        assert!(widest <= 80, "{view}");
    }
}

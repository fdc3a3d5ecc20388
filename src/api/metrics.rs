//! `GET /metrics`: the figures of `/status` as OpenMetrics text (version 1.0.0). A figure that the status does not have
//! gives no sample.
use crate::json::Value;
use crate::time::Unix;
use std::fmt::Write as _;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// States of a node, in the order of the contract.
const STATES: [&str; 9] = [
    "idle",
    "active",
    "paused",
    "outside-schedule",
    "quarantined",
    "guard-down",
    "draining",
    "locked",
    "unconfigured",
];

/// The text for a status. Base units throughout: seconds, bytes, bit/s, ratios.
pub fn render(status: &Value) -> String {
    let mut page = Page { text: String::new(), status };
    page.identity();
    page.traffic();
    page.outside();
    page.text.push_str("# EOF\n");
    page.text
}

struct Page<'a> {
    text: String,
    status: &'a Value,
}

impl Page<'_> {
    fn identity(&mut self) {
        let version = self.word("version").unwrap_or_default().to_owned();
        self.family("echomesh_build", "info", "", "The version that runs.");
        self.sample("echomesh_build_info", &[("version", &version)], 1.0);
        if let Some(state) = self.word("state").map(str::to_owned) {
            self.family("echomesh_state", "stateset", "", "The node's state.");
            for name in STATES {
                self.sample("echomesh_state", &[("echomesh_state", name)], f64::from(name == state));
            }
        }
        self.gauge("echomesh_uptime_seconds", "seconds", "Time since the start.", "uptimeMs", 1e-3);
        self.gauge("echomesh_sessions", "", "Open sessions.", "sessions", 1.0);
        let alerts = self.status.member("alerts").and_then(Value::as_array).unwrap_or_default();
        let codes: Vec<&str> = alerts.iter().filter_map(|a| a.member("code")?.as_str()).collect();
        self.family("echomesh_alert", "gauge", "", "1 for each alert in force.");
        for code in codes {
            self.sample("echomesh_alert", &[("code", code)], 1.0);
        }
    }

    fn traffic(&mut self) {
        let both = [("ingress", "ingressMbps"), ("egress", "egressMbps")];
        self.family(
            "echomesh_throughput_bits_per_second",
            "gauge",
            "",
            "Payload between node and targets now.",
        );
        self.labelled("echomesh_throughput_bits_per_second", "direction", both, "throughput", 1e6);
        let today = [("ingress", "ingressBytes"), ("egress", "egressBytes")];
        self.family("echomesh_today_bytes", "gauge", "bytes", "Payload since the owner's midnight.");
        self.labelled("echomesh_today_bytes", "direction", today, "today", 1.0);
        self.gauge(
            "echomesh_quota_bytes",
            "bytes",
            "The owner's daily quota, both directions.",
            "today/quotaBytes",
            1.0,
        );
        let latency = [("0.5", "latencyMsP50"), ("0.95", "latencyMsP95")];
        self.family("echomesh_connect_latency_seconds", "gauge", "seconds", "SYN to SYN-ACK of targets.");
        self.labelled("echomesh_connect_latency_seconds", "quantile", latency, "qos", 1e-3);
        self.gauge(
            "echomesh_error_ratio",
            "ratio",
            "Failed connections to targets.",
            "qos/errorRatePct",
            1e-2,
        );
        let refusals = self.status.member("refusals").and_then(Value::as_object).unwrap_or_default();
        self.family("echomesh_refusals", "counter", "", "Requests of buyers that were refused, by reason.");
        for (slug, count) in refusals {
            self.sample("echomesh_refusals_total", &[("reason", slug)], count.as_f64().unwrap_or_default());
        }
    }

    fn outside(&mut self) {
        let results = [("passed", "passed"), ("failed", "failed")];
        self.family("echomesh_probes", "counter", "", "Answered challenges of the coordinator.");
        self.labelled("echomesh_probes_total", "result", results, "probes", 1.0);
        let up = self.word("coordinator/state").map(|state| f64::from(state == "online"));
        if let Some(up) = up {
            self.family("echomesh_coordinator_up", "gauge", "", "1 while the coordinator answers.");
            self.sample("echomesh_coordinator_up", &[], up);
        }
        if let Some(at) = self.word("coordinator/lastContact").and_then(Unix::parse) {
            let help = "When the coordinator last answered.";
            self.family("echomesh_coordinator_last_contact_timestamp_seconds", "gauge", "seconds", help);
            self.sample("echomesh_coordinator_last_contact_timestamp_seconds", &[], at.0 as f64);
        }
        if let Some(open) = self.at("schedule/open").and_then(Value::as_bool) {
            self.family("echomesh_schedule_open", "gauge", "", "1 while the owner's schedule is open.");
            self.sample("echomesh_schedule_open", &[], f64::from(open));
        }
        let help = "How sure the coordinator is of the node's region.";
        self.gauge("echomesh_geo_confidence_ratio", "ratio", help, "geo/confidence", 1.0);
        self.gauge("echomesh_credits_today", "", "Credits earned today.", "account/creditsToday", 1.0);
        let help = "The node's reputation with the coordinator.";
        self.gauge("echomesh_reputation_score", "", help, "account/reputation/score", 1.0);
    }

    fn at(&self, path: &str) -> Option<&Value> {
        path.split('/').try_fold(self.status, |value, name| value.member(name))
    }

    fn word(&self, path: &str) -> Option<&str> {
        self.at(path)?.as_str()
    }

    fn family(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {help}");
    }

    fn gauge(&mut self, name: &str, unit: &str, help: &str, path: &str, scale: f64) {
        if let Some(value) = self.at(path).and_then(Value::as_f64) {
            self.family(name, "gauge", unit, help);
            self.sample(name, &[], scaled(value, scale));
        }
    }

    fn labelled(&mut self, name: &str, label: &str, members: [(&str, &str); 2], under: &str, scale: f64) {
        for (text, member) in members {
            if let Some(value) = self.at(&format!("{under}/{member}")).and_then(Value::as_f64) {
                self.sample(name, &[(label, text)], scaled(value, scale));
            }
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{}\"", escaped(v))).collect();
        let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }
}

/// Divides rather than multiplies by a fraction, so that 78 ms is 0.078 s and not 0.078000000000000001.
fn scaled(value: f64, scale: f64) -> f64 {
    if scale < 1.0 { value / scale.recip().round() } else { value * scale }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_as_agreed() {
        let status = crate::json::parse(include_bytes!("testdata/status.json")).unwrap();
        assert_eq!(render(&status), include_str!("testdata/metrics.txt"));
    }

    #[test]
    fn an_empty_status_gives_a_page_without_figures() {
        let page = render(&crate::json::object::<&str>([]));
        let samples: Vec<&str> = page.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(samples, ["echomesh_build_info{version=\"\"} 1"]);
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_are_escaped() {
        let status = crate::json::parse(br#"{"refusals":{"a\"b\\c\nd":1}}"#).unwrap();
        assert!(render(&status).contains(r#"echomesh_refusals_total{reason="a\"b\\c\nd"} 1"#));
    }
}

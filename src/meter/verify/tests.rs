use super::super::access_log::tests::line;
use super::super::session::SessionMeter;
use super::*;
use crate::json::{array, object};
use crate::signed::{NodeKey, sign};
use crate::time::Now;

const T: i64 = 1_766_152_800;
const SESSION: &str = "5f0c4a1e-8f4f-4a58-9d5e-0f7a3f6b2c11";

fn at(seconds: i64) -> Now {
    Now { mono_us: 0, unix_ms: (T + seconds) * 1000 }
}

fn key() -> NodeKey {
    NodeKey::from_seed(&[3; 32]).unwrap()
}

/// A settled session of three bundles: what it posted, its log, its last transition.
struct Export {
    bundles: Vec<Value>,
    log: String,
    settled: Value,
}

fn export() -> Export {
    let mut meter = SessionMeter::new(&key().node_id(), SESSION);
    let mut log = String::new();
    for seconds in [10, 20, 310, 950] {
        meter.connected(at(seconds), 12_000);
        meter.connection(at(seconds));
        meter.add(at(seconds), 1000, 200);
        log.push_str(&meter.write_line(at(seconds), &line()).unwrap());
    }
    let bundles = meter.close(at(960)).iter().map(|sealed| sealed.signed(&key())).collect();
    let settled = object([
        ("sessionId", SESSION.into()),
        ("transition", "settled".into()),
        ("totals", meter.totals().to_value()),
    ]);
    Export { bundles, log, settled }
}

impl Export {
    fn verify(&self) -> Report {
        let bundles = array(self.bundles.clone()).canonical();
        let settled = self.settled.canonical();
        verify(&[("b", bundles.as_bytes()), ("l", self.log.as_bytes()), ("s", settled.as_bytes())])
    }

    /// Changes a member of a bundle and signs it again, as a dishonest node would.
    fn forge(&mut self, seq: usize, name: &str, value: impl Into<Value>) {
        self.bundles[seq].set(name, value);
        sign(Kind::Metering, &mut self.bundles[seq], &key());
    }

    fn faults(&self) -> Vec<String> {
        self.verify().sessions.remove(0).faults
    }
}

#[test]
fn an_honest_export_has_no_fault() {
    let report = export().verify();
    assert!(report.is_ok(), "{report}");
    let session = &report.sessions[0];
    assert_eq!((session.bundles, session.digests_matched, session.settled), (3, 3, true));
    assert_eq!((session.bytes_ingress, session.bytes_egress, session.connections), (4000, 800, 4));
    assert!(session.notes.is_empty());
    assert!(report.to_string().ends_with("1 sessions, 3 bundles, 0 faults"));
}

#[test]
fn every_layout_of_the_files_is_read() {
    let e = export();
    let posted = object([("bundles", array(e.bundles.clone()))]).canonical().replace(',', ",\n  ");
    let mixed: String = e.bundles.iter().map(|b| b.canonical() + "\n").collect::<String>()
        + "\n"
        + &e.log
        + &e.settled.canonical();
    for files in
        [vec![("posted", posted.as_bytes()), ("log", e.log.as_bytes())], vec![("mixed", mixed.as_bytes())]]
    {
        let report = verify(&files);
        assert!(report.is_ok() && report.sessions[0].digests_matched == 3, "{report}");
    }
}

#[test]
fn a_changed_bundle_breaks_its_signature_and_the_chain() {
    let mut e = export();
    e.bundles[1].set("bytesIngress", 999);
    let faults = e.faults();
    assert!(faults[0].starts_with("bundle 1: the signature is not that of ed25519:"));
    assert_eq!(faults[1], "bundle 2: prevHash is not the hash of the bundle before it");
    assert_eq!(faults[2], "totals: bytesIngress is 4000, but the bundles give 3999");
    assert_eq!(faults.len(), 4, "and more bytes in the lines than in the bundles: {faults:?}");
}

#[test]
fn a_missing_bundle_is_named() {
    let mut e = export();
    e.bundles.remove(0);
    assert_eq!(e.faults()[0], "bundle 1: 1 before it are missing");
    let mut e = export();
    e.bundles.pop();
    assert!(e.faults().iter().any(|f| f.starts_with("totals: lastHash is b3:")));
}

#[test]
fn two_bundles_of_one_place_are_a_fault_and_a_repeat_is_none() {
    let mut e = export();
    e.bundles.push(e.bundles[0].clone());
    assert!(e.verify().is_ok());
    e.bundles.push(e.bundles[0].clone());
    e.forge(4, "rejected", 7);
    assert_eq!(e.faults(), ["bundle 0: there are two different ones"]);
}

#[test]
fn a_window_that_is_none_or_comes_twice_is_a_fault() {
    let mut e = export();
    e.forge(2, "windowStart", "2025-12-19T14:15:01Z");
    assert!(e.faults()[0].contains("/windowStart: 2025-12-19T14:15:01Z is no multiple of 300 s"));
    let mut e = export();
    e.forge(2, "windowEnd", "2025-12-19T14:25:00Z");
    assert!(e.faults()[0].contains("/windowEnd"));
    let mut e = export();
    e.forge(2, "windowStart", "2025-12-19T14:05:00Z");
    e.forge(2, "windowEnd", "2025-12-19T14:10:00Z");
    assert_eq!(e.faults()[0], "bundle 2: its window does not come after that of the bundle before it");
}

#[test]
fn members_out_of_range_are_faults() {
    for (name, value) in [
        ("bytesEgress", Value::from(-1)),
        ("latencyMsP50", Value::from(99)),
        ("errorRatePct", Value::from(0.25)),
        ("errorRatePct", Value::from(101)),
        ("path", "pigeon".into()),
        ("accessLogHash", "b3:00".into()),
        ("prevHash", Value::Null),
    ] {
        let mut e = export();
        e.forge(0, name, value);
        assert!(e.faults()[0].starts_with(&format!("a bundle is malformed: /{name}")), "{name}");
    }
}

#[test]
fn a_bundle_of_another_node_in_the_chain_is_a_fault() {
    let mut e = export();
    let other = NodeKey::from_seed(&[9; 32]).unwrap();
    e.bundles[2].set("nodeId", other.node_id());
    sign(Kind::Metering, &mut e.bundles[2], &other);
    assert!(e.faults()[0].starts_with("bundle 2: it is of another node, ed25519:"));
}

#[test]
fn a_changed_or_missing_line_is_found() {
    let honest = export().log;
    let lines: Vec<&str> = honest.split_inclusive('\n').collect();
    for (log, fault) in [
        (
            [lines[0], lines[1], &lines[2].replace("443", "444"), lines[3]].concat(),
            "bundle 1: the lines of its window",
        ),
        ([lines[0], lines[1], lines[3]].concat(), "bundle 1: the lines of its window"),
        (honest.clone() + &line().text(Unix(T + 951)), "bundle 2: the lines of its window"),
        (
            honest.clone() + &line().text(Unix(T + 951)),
            "the lines give 5000 bytes of ingress, the bundles only 4000",
        ),
    ] {
        let faults = Export { log, ..export() }.faults();
        assert!(faults.iter().any(|f| f.starts_with(fault)), "{faults:?}");
    }
}

#[test]
fn lines_of_a_window_that_was_lost_are_noted() {
    let mut e = export();
    e.log.push_str(&line().text(Unix(T + 5000)));
    let report = e.verify();
    assert!(report.is_ok());
    assert_eq!(
        report.sessions[0].notes,
        ["1 lines lie in windows without a bundle: nobody was billed for them"]
    );
}

#[test]
fn windows_before_the_start_of_the_log_are_noted_as_unchecked() {
    let mut e = export();
    e.log = e.log.split_inclusive('\n').skip(3).collect();
    let report = e.verify();
    assert!(report.is_ok());
    let session = &report.sessions[0];
    assert_eq!((session.digests_matched, session.notes.len()), (1, 2), "{report}");
}

#[test]
fn what_is_no_export_is_a_fault_with_its_place() {
    let report = verify(&[("a", b"{\"x\":1}\n{\"y\"\n"), ("b", b"\x00"), ("c", b"")]);
    assert_eq!(report.faults[0], "a:1: neither a bundle, nor a line of the access log, nor totals");
    assert!(report.faults[1].starts_with("a:2: not JSON: "));
    assert!(report.faults[2].starts_with("b: not JSON: "));
    assert_eq!(report.faults(), 3);
    assert!(!verify(&[]).is_ok(), "nothing to check is not a success");
}

#[test]
fn duplicate_members_are_not_read() {
    let text = export().bundles[0].canonical().replacen('{', "{\"seq\":0,", 1);
    assert!(verify(&[("d", text.as_bytes())]).faults[0].contains("not JSON"));
}

//! The golden metering files, made by another implementation: read, verified, and made again from events.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]
use echomesh::encoding::hex;
use echomesh::json::{Value, parse};
use echomesh::meter::{AccessLine, Path, SessionMeter, line_instant, verify};
use echomesh::signed::{Kind, NodeKey, signed_bytes};
use echomesh::time::{Now, Unix};

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn value(name: &str) -> Value {
    parse(&golden(name)).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.member(name).and_then(Value::as_str).unwrap()
}

fn int(value: &Value, name: &str) -> u64 {
    value.member(name).and_then(Value::as_int).unwrap().unsigned_abs()
}

fn key() -> NodeKey {
    let seed = std::array::from_fn(|i| i as u8);
    assert_eq!(hex(&seed), text(value("keys.json").member("node").unwrap(), "seedHex"));
    NodeKey::from_seed(&seed).unwrap()
}

fn at(t: Unix) -> Now {
    Now { mono_us: 0, unix_ms: t.0 * 1000 }
}

fn log_lines() -> Vec<Vec<u8>> {
    golden("log-export.jsonl").split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

const CHAIN: [&str; 3] = ["metering-bundle", "metering-bundle-2", "metering-bundle-3"];

#[test]
fn signed_bytes_are_those_of_the_other_implementation() {
    for name in CHAIN.into_iter().chain(["metering-bundle-zero"]) {
        let bundle = value(&format!("{name}.json"));
        assert_eq!(signed_bytes(Kind::Metering, &bundle), golden(&format!("{name}.signed")), "{name}");
    }
}

/// Gives a meter what a golden bundle says has happened.
fn live_through(meter: &mut SessionMeter, bundle: &Value) {
    let start = Unix::parse(text(bundle, "windowStart")).unwrap();
    let now = at(Unix(start.0 + 1));
    meter.connected(now, int(bundle, "latencyMsP50") * 1000);
    meter.connected(now, int(bundle, "latencyMsP95") * 1000);
    let (ingress, egress) = (int(bundle, "bytesIngress"), int(bundle, "bytesEgress"));
    meter.add(now, ingress, 0);
    meter.add(at(Unix(start.0 + 299)), 0, egress);
    (0..int(bundle, "connections")).for_each(|_| meter.connection(now));
    (0..int(bundle, "rejected")).for_each(|_| meter.rejected(now));
    if bundle.member("errorRatePct").and_then(Value::as_f64) != Some(0.0) {
        meter.error(now);
    }
    let within = |line: &&Vec<u8>| (start.0..start.0 + 300).contains(&line_instant(line).unwrap().0);
    log_lines().iter().filter(within).for_each(|line| meter.log_line(at(line_instant(line).unwrap()), line));
}

#[test]
fn the_meter_makes_the_golden_chain_and_its_totals_byte_for_byte() {
    let bundles = CHAIN.map(|name| value(&format!("{name}.json")));
    let mut meter = SessionMeter::new(&key().node_id(), text(&bundles[0], "sessionId"));
    bundles.iter().for_each(|bundle| live_through(&mut meter, bundle));
    let settled = value("transition-settled.json");
    let sealed = meter.close(at(Unix::parse(text(&settled, "at")).unwrap()));
    let ours: Vec<String> = sealed.iter().map(|s| s.sign(&key())).collect();
    assert_eq!(ours, bundles.map(|b| b.canonical()));
    assert_eq!(meter.totals().to_value().canonical(), settled.member("totals").unwrap().canonical());
}

#[test]
fn the_meter_makes_the_golden_bundle_of_a_session_without_traffic() {
    let bundle = value("metering-bundle-zero.json");
    let mut meter = SessionMeter::new(&key().node_id(), text(&bundle, "sessionId"));
    let now = at(Unix(Unix::parse(text(&bundle, "windowStart")).unwrap().0 + 7));
    assert_eq!(meter.close(now)[0].sign(&key()), bundle.canonical());
}

#[test]
fn log_lines_are_written_as_in_the_golden_export() {
    let slugs = ["domain-blocked", "connect-failed", "connect-timeout", "sni-mismatch"];
    for golden in log_lines() {
        let line = parse(&golden).unwrap();
        let slug = line.member("slug").and_then(Value::as_str);
        let ours = AccessLine {
            session_id: text(&line, "sessionId").to_owned(),
            buyer: text(&line, "buyer").to_owned(),
            buyer_address: line.member("buyerAddress").map(|a| a.as_str().unwrap().parse().unwrap()),
            host_hash: text(&line, "hostHash").to_owned(),
            port: int(&line, "port") as u16,
            status: int(&line, "status") as u16,
            slug: slug.map(|s| *slugs.iter().find(|known| **known == s).unwrap()),
            ingress: int(&line, "ingress"),
            egress: int(&line, "egress"),
            duration_ms: int(&line, "durationMs"),
            path: Path::Relay,
        };
        assert_eq!(ours.text(line_instant(&golden).unwrap()).as_bytes(), golden);
    }
}

#[test]
fn the_golden_export_verifies() {
    let names =
        ["metering-request.json", "metering-bundle-zero.json", "log-export.jsonl", "transition-settled.json"];
    let texts = names.map(golden);
    let files: Vec<(&str, &[u8])> = names.into_iter().zip(texts.iter().map(Vec::as_slice)).collect();
    let report = verify(&files);
    assert!(report.is_ok(), "{report}");
    let session = report.sessions.iter().find(|s| s.settled).unwrap();
    assert_eq!((session.bundles, session.digests_matched), (3, 3), "{report}");
}

#[test]
fn every_bad_golden_bundle_is_found_out() {
    let index = value("index.json");
    let mut seen = 0;
    for row in index.member("bad").and_then(Value::as_array).unwrap() {
        if text(row, "of") != "metering-bundle" {
            continue;
        }
        seen += 1;
        let bad = golden(text(row, "file"));
        let before = row.member("after").and_then(Value::as_str).map(golden);
        let mut files: Vec<(&str, &[u8])> = vec![("bad", &bad)];
        files.extend(before.as_ref().map(|b| ("before", b.as_slice())));
        let report = verify(&files);
        let faults = &report.sessions[0].faults;
        let expected = match text(row, "reason") {
            "bad-signature" => "the signature is not that of",
            "unaligned-window" => "/windowStart",
            "short-window" => "/windowEnd",
            "seq-gap" => "before it are missing",
            "broken-chain" | "first-with-prev-hash" => "prevHash is not the hash",
            "negative-bytes" => "/bytes",
            "fraction-of-percent" => "/errorRatePct",
            other => panic!("no expectation for {other}"),
        };
        assert!(faults.iter().any(|f| f.contains(expected)), "{}: {faults:?}", text(row, "file"));
    }
    assert_eq!(seen, 8);
}

use super::*;
use proptest::prelude::*;

const KEY: &str = "ed25519:JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=";

fn pointer<T: fmt::Debug>(result: Result<T, WireError>) -> String {
    match result.unwrap_err() {
        WireError::Field(e) => e.pointer,
        other => other.to_string(),
    }
}

fn registration(change: impl Fn(String) -> String) -> Result<Registered, WireError> {
    let text = format!(
        r#"{{"policyVersion":3,"heartbeatIntervalMs":30000,"serverTime":"2026-01-02T03:04:05Z","new":1,
        "probeHosts":[{{"host":"Probe.Example.","publicKey":"{KEY}","latitude":1.5,"longitude":2}}],
        "lists":[{{"name":"ads","version":"7","url":"https://l.example/x","hash":"b3:{}","coordinatorSig":"AA=="}}]}}"#,
        "0".repeat(64)
    );
    registered(change(text).as_bytes())
}

#[test]
fn a_registration_answer_is_read() {
    let r = registration(|t| t).unwrap();
    assert_eq!((r.policy_version.as_str(), r.heartbeat_interval_ms), ("3", 30_000));
    assert_eq!(r.server_time, Unix(1_767_323_045));
    assert_eq!(r.probe_hosts[0].host, "probe.example");
    assert_eq!(r.probe_hosts[0].position, Some((1.5, 2.0)));
    assert_eq!(r.lists[0].raw.member("coordinatorSig"), Some(&Value::from("AA==")));
    assert_eq!(r.certificate, None);
}

#[test]
fn a_wrong_member_of_a_registration_answer_is_pointed_at() {
    for (from, to, at) in [
        ("30000", "99", "/heartbeatIntervalMs"),
        ("05Z", "05", "/serverTime"),
        ("Probe.Example.", "a/b", "/probeHosts/0/host"),
        ("ed25519:", "x25519:", "/probeHosts/0/publicKey"),
        ("b3:0", "b3:", "/lists/0/hash"),
    ] {
        assert_eq!(pointer(registration(|t| t.replace(from, to))), at);
    }
}

#[test]
fn the_number_of_signals_and_the_length_of_cursors_are_bounded() {
    let poll = |n: usize, cursor: &str| {
        let one = r#"{"cursor":"c","type":"open","body":{}}"#;
        let all = vec![one; n].join(",");
        signals(format!(r#"{{"signals":[{all}],"cursor":"{cursor}"}}"#).as_bytes())
    };
    assert_eq!(poll(MAX_SIGNALS, &"c".repeat(MAX_CURSOR)).unwrap().signals.len(), MAX_SIGNALS);
    assert_eq!(pointer(poll(MAX_SIGNALS + 1, "c")), "/signals");
    assert_eq!(pointer(poll(1, &"c".repeat(MAX_CURSOR + 1))), "/cursor");
    assert_eq!(pointer(poll(1, "ä")), "/cursor");
}

#[test]
fn the_results_of_bundles_are_read() {
    let answer = |status: &str| {
        let text = format!(
            r#"{{"results":[{{"sessionId":"s","windowStart":"2026-01-02T03:05:00Z","seq":4,"status":"{status}",
            "reason":"no"}}],"creditsToday":1.5}}"#
        );
        metering_answer(text.as_bytes())
    };
    assert_eq!(answer("accepted").unwrap().results[0].status, BundleStatus::Accepted);
    assert_eq!(answer("duplicate").unwrap().results[0].status, BundleStatus::Duplicate);
    assert_eq!(answer("refused").unwrap().results[0].status, BundleStatus::Refused("no".into()));
    assert_eq!(pointer(answer("lost")), "/results/0/status");
}

#[test]
fn a_heartbeat_answer_needs_a_time_and_a_sane_confidence() {
    let observed = r#""observed":{"address":"203.0.113.9","region":"PH","confidence":0.8}"#;
    let answer = |observed: &str| {
        heartbeat_answer(format!(r#"{{{observed},"serverTime":"2026-01-02T03:04:05Z"}}"#).as_bytes())
    };
    assert_eq!(answer(observed).unwrap().observed.unwrap().region, "PH");
    assert_eq!(pointer(answer(&observed.replace("0.8", "1.1"))), "/observed/confidence");
    assert_eq!(pointer(heartbeat_answer(b"{}")), "/serverTime");
}

#[test]
fn a_problem_is_read_and_anything_else_is_an_empty_one() {
    let body = br#"{"type":"signature-stale","detail":"x\ny","serverTime":"2026-01-02T03:04:05Z"}"#;
    let p = problem(body);
    assert_eq!((p.slug.as_str(), p.detail.as_str()), ("signature-stale", "xy"));
    assert_eq!(p.server_time, Some(Unix(1_767_323_045)));
    assert_eq!(problem(b"<html>"), Problem::default());
    assert_eq!(problem(&[b'['; 10_000]), Problem::default());
}

#[test]
fn a_transition_carries_only_what_it_has() {
    let t = Transition {
        session_id: "s".into(),
        transition: "closing",
        at: Unix(0),
        reason: Some("expired".into()),
        limits: None,
        totals: None,
    };
    assert_eq!(
        t.to_value().canonical(),
        r#"{"at":"1970-01-01T00:00:00Z","reason":"expired","sessionId":"s","transition":"closing"}"#
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(text in r#"\{("(signals|cursor|results|seq|serverTime|probe|observed)":[\[\]{}0-9",a-z]*,?){0,4}\}"#) {
        let bytes = text.as_bytes();
        let _ = (registered(bytes), heartbeat_answer(bytes), signals(bytes), metering_answer(bytes));
        let _ = (probe_request(bytes), report_answer(bytes), problem(bytes), transition_answer(bytes));
    }
}

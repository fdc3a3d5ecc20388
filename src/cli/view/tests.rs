//! Golden views, and what they must never do.
use super::*;
use crate::core::lifecycle::NodeState;
use crate::json::object;

const PLAIN: Style = Style { colour: false, unicode: true, width: 80 };
const NOW: &str = "2025-12-19T14:03:20Z";

fn document(text: &[u8]) -> Value {
    crate::json::parse(text).unwrap()
}

/// A status as the node gives it in a state, with the alerts that go with it.
fn in_state(state: NodeState) -> Value {
    let mut document = document(include_bytes!("../../api/testdata/status.json"));
    document.set("state", state.as_str());
    document.set("reason", state.reason());
    let alert = |code: &str, detail: &str| {
        object([("code", code.into()), ("since", "2025-12-19T14:01:00Z".into()), ("detail", detail.into())])
    };
    let alerts = match state {
        NodeState::GuardDown => {
            vec![alert("guard-lost", "the guard does not answer: is `echomesh guard` running?")]
        }
        NodeState::Quarantined => vec![
            alert("quarantine", "Region SG is not allowed."),
            alert(
                "list-unreadable",
                "/etc/echomesh/lists/a-file-with-quite-a-long-name-that-somebody-has-chosen-for-it.txt: No such file or directory (os error 2); the lists read before stay in force.",
            ),
        ],
        NodeState::OutsideSchedule => vec![alert(
            "doh-unconfigured",
            "名前は解決されません: security.dohUrl を設定するか、dnsOverHttps をオフにしてください。それから、もう一度お試しください。",
        )],
        _ => Vec::new(),
    };
    document.set("alerts", Value::Array(alerts));
    if !matches!(state, NodeState::Active | NodeState::Draining) {
        document.set("sessions", 0);
    }
    document
}

#[test]
fn every_state_fits_80_columns_with_and_without_colour_and_letters() {
    let now = Unix::parse(NOW).unwrap();
    let mut all = String::new();
    for state in NodeState::ALL {
        all.push_str(&format!("--- {}\n", state.as_str()));
        all.push_str(&status(&in_state(state), now, PLAIN));
    }
    golden("states.txt", &all);
    for state in NodeState::ALL {
        for (colour, unicode, width) in
            [(true, true, 80), (false, false, 80), (true, false, 60), (false, true, 40)]
        {
            let view = uncoloured(&status(&in_state(state), now, Style { colour, unicode, width }));
            assert!(view.lines().all(|l| figures::columns(l) <= width), "{width}:\n{view}");
            assert!(unicode || view.is_ascii());
        }
    }
}

#[test]
fn a_small_screen_keeps_the_state_and_what_is_wrong() {
    let now = Unix::parse(NOW).unwrap();
    let view = status(&in_state(NodeState::Quarantined), now, Style { colour: true, ..PLAIN });
    let whole = view.lines().count();
    assert_eq!(fit(&view, whole), view);
    for rows in [0, 1, 14, 15, 23, whole - 1] {
        let small = uncoloured(&fit(&view, rows));
        assert!(small.lines().count() <= rows, "{rows}:\n{small}");
        if rows >= 14 {
            let kept = [
                "● quarantined",
                "echomesh start --clear",
                "Sessions",
                "Alerts",
                "list-unreadable",
                "stay in force.",
            ];
            assert!(kept.iter().all(|k| small.contains(k)), "{rows}:\n{small}");
        }
    }
    assert!(uncoloured(&fit(&view, 23)).contains("Throughput") && !fit(&view, 15).contains("Account"));
}

#[test]
fn columns_are_those_of_a_terminal() {
    assert_eq!((figures::columns("aé▁"), figures::columns("名前"), figures::columns("🙂")), (3, 4, 2));
    assert_eq!(figures::clip("名前名前", 7), "名前...");
    assert_eq!(figures::wrap("aa bb cc", 2, 7), "aa bb\n  cc");
    assert_eq!(figures::wrap("名前名前 x", 0, 5), "名前\n名前\nx");
    assert_eq!(
        figures::wrap(&"x".repeat(25), 70, 80),
        format!("{0}\n{1}{0}\n{1}xxxxx", "x".repeat(10), " ".repeat(70))
    );
    assert_eq!((figures::wrap("", 4, 80), figures::wrap("名", 80, 80)), (String::new(), "名".to_owned()));
}

fn golden(name: &str, text: &str) {
    let path = format!("{}/src/cli/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
    let plain = uncoloured(text);
    assert!(plain.lines().all(|l| figures::columns(l) <= 80), "{name} is too wide:\n{plain}");
}

fn uncoloured(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').unwrap().1)
}

#[test]
fn views_are_as_agreed() {
    let now = Unix::parse(NOW).unwrap();
    let busy = document(include_bytes!("../../api/testdata/status.json"));
    golden("busy.txt", &status(&busy, now, PLAIN));
    golden("busy-ascii.txt", &status(&busy, now, Style { unicode: false, ..PLAIN }));
    golden("busy-colour.txt", &status(&busy, now, Style { colour: true, ..PLAIN }));
    let bad = document(include_bytes!("../testdata/quarantined.json"));
    golden("quarantined.txt", &status(&bad, now, PLAIN));
    golden("empty.txt", &status(&document(b"{}"), now, PLAIN));
    let list = document(include_bytes!("../testdata/sessions.json"));
    golden("sessions.txt", &sessions(&list, now, PLAIN));
    assert_eq!(sessions(&document(b"{\"sessions\":[]}"), now, PLAIN), "no session is open\n");
}

#[test]
fn colour_and_ascii_change_nothing_but_themselves() {
    let now = Unix::parse(NOW).unwrap();
    let busy = document(include_bytes!("../../api/testdata/status.json"));
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

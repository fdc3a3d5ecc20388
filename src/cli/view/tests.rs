//! Golden views, and what they must never do.
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

use super::*;
use crate::config::{Config, Face, MAX_TEXT, Platform, from_value, parse as parse_config, read};
use crate::json::{Value, array, object};
use proptest::prelude::*;

fn config(document: &Value) -> Config {
    from_value(document, Platform::OpenWrt).unwrap()
}

fn values(text: &str) -> Result<Vec<String>, String> {
    let sections = parse(&format!("config a\n\tlist b {text}\n")).map_err(|p| p.text)?;
    Ok(sections[0].options[0].values.clone())
}

/// What libuci made of it, by `uci -X show` (tests/config_corpus/README.md).
const ODD: &str = "\
echomesh.main=echomesh
echomesh.main.enabled='0'
echomesh.cfg026bf2=schedule
echomesh.cfg026bf2.days='Mon' 'Tue'
echomesh.cfg026bf2.start='22:00'
echomesh.x=schedule
echomesh.x.days='Mon'
echomesh.x.e='it'\\''s
two lines \\ \" tab\tx'
echomesh.x.l='it'\\''s a' 'b  c' ''
echomesh.cfg045c34=empty
";

#[test]
fn values_are_read_as_libuci_shows_them() {
    let sections = parse(ODD).unwrap();
    let named: Vec<_> = sections.iter().map(|s| (s.kind.as_str(), s.name.as_deref(), s.line)).collect();
    assert_eq!(
        named,
        [
            ("echomesh", Some("main"), 1),
            ("schedule", None, 3),
            ("schedule", Some("x"), 6),
            ("empty", None, 11)
        ]
    );
    assert_eq!(sections[1].option("days").unwrap().values, ["Mon", "Tue"]);
    assert_eq!(sections[2].option("e").unwrap().values, ["it's\ntwo lines \\ \" tab\tx"]);
    assert_eq!(sections[2].option("l").unwrap().values, ["it's a", "b  c", ""]);
}

#[test]
fn the_file_s_quotes_are_libuci_s() {
    for (text, value) in [
        ("Mon", "Mon"),
        ("'a b'", "a b"),
        ("\"a \\\" \\\\ b\"", "a \" \\ b"),
        ("a\\ b", "a b"),
        ("a'b'\"c\"d", "abcd"),
        ("'a\\b'", "a\\b"),
        ("'#;' # comment", "#;"),
        ("a#b", "a"),
        ("\"two\\\nlines\"", "twolines"),
        ("'two\nlines'", "two\nlines"),
        ("''", ""),
    ] {
        assert_eq!(values(text), Ok(vec![value.to_owned()]), "{text}");
    }
    assert!(values("a;b").unwrap_err().contains("a bare ;"));
    assert!(values("'a").unwrap_err().contains("the text ends within '"));
    assert!(values("a b").unwrap_err().contains("more words"));
    assert!(values("").unwrap_err().contains("the value is missing"));
}

#[test]
fn names_are_what_libuci_takes_for_one() {
    let refused = |text: &str| parse(text).unwrap_err().text;
    for name in ["ui.tel", "a b", "a-b", "é", "a\nb", "a=b"] {
        let allowed = "is no name; allowed: letters, digits and _";
        assert!(refused(&format!("config ui '{name}'\n")).ends_with(allowed), "{name}");
        assert!(refused(&format!("config ui\n\toption '{name}' x\n")).ends_with(allowed), "{name}");
    }
    assert_eq!(parse("config ui 'a_B9'\n\toption a_B9 x\n").unwrap()[0].name.as_deref(), Some("a_B9"));
    assert_eq!(parse("echomesh.@ui[0]=ui\nechomesh.@ui[0].a='x'\n").unwrap()[0].name, None);
}

#[test]
fn what_is_bounded_is_taken_up_to_the_bound() {
    let sections = |n: usize| parse(&"config schedule\n".repeat(n)).map_err(|p| (p.line, p.text));
    assert!(sections(MAX_SECTIONS).is_ok());
    assert_eq!(sections(MAX_SECTIONS + 1), Err((Some(129), "more than 128 sections".to_owned())));
    let options = |n: usize| (0..n).map(|i| format!("option o{i} x\n")).collect::<String>();
    assert!(parse(&format!("config a\n{}", options(MAX_OPTIONS))).is_ok());
    assert!(
        parse(&format!("config a\n{}", options(MAX_OPTIONS + 1))).unwrap_err().text.contains("more than 64")
    );
    let list = |n: usize| parse(&format!("config a\n{}", "list l x\n".repeat(n)));
    assert!(list(MAX_VALUES).is_ok() && list(MAX_VALUES + 1).unwrap_err().text.contains("too long"));
    let shown = |n: usize| parse(&format!("echomesh.a=a\nechomesh.a.l={}\n", "'x' ".repeat(n)));
    assert!(shown(MAX_VALUES).is_ok() && shown(MAX_VALUES + 1).unwrap_err().text.contains("too many"));
    let big = format!("config echomesh\n\toption version 1\n#{}", "x".repeat(MAX_TEXT));
    assert!(read(big.as_bytes(), Face::Uci).unwrap_err().to_string().contains("allowed: 262144"));
}

#[test]
fn whether_the_service_is_enabled_is_not_the_node_s_to_say() {
    let before =
        parse("config echomesh 'm'\n\toption enabled '1'\nconfig schedule 'night'\nconfig log\n").unwrap();
    let document = read(b"version: 1\nlog: {level: warn}\nnode: {schedules: [{days: [Mon], start: \"01:00\", end: \"02:00\"}, {days: [Tue], start: \"01:00\", end: \"02:00\"}]}", Face::Yaml).unwrap();
    let text = write(&document, &before);
    assert!(text.starts_with("config echomesh 'm'\n\toption enabled '1'\n\toption version '1'\n"), "{text}");
    assert!(
        text.contains("config schedule 'night'\n\tlist days 'Mon'")
            && text.contains("config schedule\n\tlist days 'Tue'")
    );
    assert!(text.contains("config log 'log'\n\toption level 'warn'\n"), "{text}");
    assert_eq!(read(text.as_bytes(), Face::Uci).unwrap().canonical(), document.canonical());
    assert!(!write(&document, &[]).contains("enabled"));
}

#[test]
fn numbers_and_booleans_are_typed_by_the_schema() {
    let given = |section: &str, option: &str| {
        let text = format!("config echomesh\n\toption version 1\nconfig {section}\n\toption {option}\n");
        read(text.as_bytes(), Face::Uci)
            .map(|d| d.member(section).cloned().unwrap_or(Value::Null).canonical())
    };
    for yes in ["1", "on", "true", "yes", "enabled"] {
        assert_eq!(
            given("privacy", &format!("log_buyer_address {yes}")).unwrap(),
            r#"{"logBuyerAddress":true}"#
        );
    }
    for no in ["0", "off", "false", "no", "disabled"] {
        assert_eq!(
            given("privacy", &format!("log_buyer_address {no}")).unwrap(),
            r#"{"logBuyerAddress":false}"#
        );
    }
    assert_eq!(given("network", "max_mbps 2.50").unwrap(), r#"{"maxMbps":2.5}"#);
    assert_eq!(given("network", "max_mbps ''").unwrap(), "{}", "an option without text is none");
    for no_number in ["010", "0x10", "1e999", "true", "\"'5'\""] {
        assert!(given("network", &format!("max_mbps {no_number}")).is_err(), "{no_number}");
    }
    // What has the form of a number elsewhere is a text where a text is wanted.
    assert_eq!(given("updates", "channel 5").unwrap(), r#"{"channel":"5"}"#);
}

#[test]
fn an_empty_list_says_what_its_absence_does() {
    let defaults = parse_config(b"version: 1", Face::Yaml, Platform::OpenWrt).unwrap();
    for option in OPTIONS.iter().filter(|o| !o.path.contains("[]") && !o.path.starts_with("lab.")) {
        let mut document = object([("version", 1.into())]);
        crate::config::schema::put(&mut document, option.path, Value::Array(Vec::new()));
        let Ok(with_empty) = from_value(&document, Platform::OpenWrt) else { continue };
        assert_eq!(with_empty, defaults, "{}", option.path);
    }
}

#[test]
fn a_list_without_values_is_none() {
    let node = "echomesh.main=echomesh\nechomesh.main.version='1'\nechomesh.node=node\n";
    let given = |lines: &str| read(format!("{node}{lines}").as_bytes(), Face::Uci).unwrap().canonical();
    assert_eq!(given("echomesh.node.region_allow=#DE-BE\n"), given(""));
}

#[test]
fn every_problem_has_its_place() {
    let text = "config echomesh\n\toption version 3\nconfig what\nconfig network\n\toption a b\n\toption c d\nconfig lab\n";
    let errors = read(text.as_bytes(), Face::Uci).unwrap_err();
    let places: Vec<_> = errors.problems.iter().map(|p| (p.path(), p.line)).collect();
    let at = |place: &str, line| (place.to_owned(), Some(line));
    assert_eq!(
        places,
        [at("echomesh.@what[0]", 3), at("echomesh.@network[0].a", 5), at("echomesh.@network[0].c", 6)]
    );
}

/// A valid document with texts of every kind that UCI has to quote.
fn any_document() -> impl Strategy<Value = Value> {
    let region = "[ -~é–]{1,20}".prop_filter("trimmed", |t| t.trim() == t && !t.is_empty());
    let path = "/[ -~é]{0,20}";
    let window = (0u16..1440, 1u16..1440, 1usize..7);
    (
        proptest::collection::vec(region, 0..5),
        path,
        proptest::collection::vec(window, 0..4),
        1u32..4_000_000,
        any::<bool>(),
    )
        .prop_map(|(regions, path, windows, rate, on)| {
            let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
            let windows = windows.into_iter().map(|(start, length, days)| {
                let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].into_iter().take(days);
                object([
                    ("days", array(days)),
                    ("start", clock(start).into()),
                    ("end", clock((start + length) % 1440).into()),
                ])
            });
            let windows = Value::Array(windows.collect());
            let node =
                object([("regionAllow", array(regions)), ("idPath", path.into()), ("schedules", windows)]);
            let network = object([("maxMbps", (f64::from(rate) / 64.0 + 0.1).into())]);
            let privacy = object([("logBuyerAddress", on.into())]);
            object([("version", 1.into()), ("node", node), ("network", network), ("privacy", privacy)])
        })
}

/// As `uci -X show` prints sections (cli.c).
fn shown(sections: &[Section]) -> String {
    let quoted = |v: &String| format!("'{}'", v.replace('\'', r"'\''"));
    let mut out = String::new();
    for (i, s) in sections.iter().enumerate() {
        let name = s.name.clone().unwrap_or_else(|| format!("cfg{i:06x}"));
        out.push_str(&format!("echomesh.{name}={}\n", s.kind));
        for o in &s.options {
            let all: Vec<String> = o.values.iter().map(quoted).collect();
            out.push_str(&format!("echomesh.{name}.{}={}\n", o.name, all.join(" ")));
        }
    }
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(document in any_document()) {
        let text = write(&document, &[]);
        let back = read(text.as_bytes(), Face::Uci).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(config(&back), config(&document), "{}", text);
        // Twice is the same bytes, and so it is by way of what `uci` shows of it.
        prop_assert_eq!(&write(&back, &[]), &text);
        let shown = shown(&parse(&text).unwrap());
        let again = read(shown.as_bytes(), Face::Uci).map_err(|e| TestCaseError::fail(format!("{e}\n{shown}")))?;
        prop_assert_eq!(again.canonical(), back.canonical());
    }

    #[test]
    fn any_text_is_taken_or_refused(text in "(echomesh\\.|config |option |list |[a-z]|['\"\\\\#;= \n\t.]){0,60}") {
        if let Ok(sections) = parse(&text) {
            let _ = document(&sections);
            let again: Vec<Section> = parse(&shown(&sections)).unwrap_or_default();
            prop_assert!(again.len() <= sections.len());
        }
    }
}

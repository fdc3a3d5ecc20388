use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_corpus").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e != "err"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn face(file: &Path) -> Face {
    Face::of(file)
}

fn yaml(text: &str) -> Result<Config, String> {
    parse(text.as_bytes(), Face::Yaml, Platform::Other).map_err(|e| e.render("x.yaml"))
}

fn spec() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_corpus/valid/spec.yaml")).unwrap()
}

#[test]
fn the_specification_s_file_is_valid_as_it_stands() {
    let config = parse(&spec(), Face::Yaml, Platform::OpenWrt).unwrap();
    assert_eq!(config.node.region_allow, ["PH-Mindanao", "PH-NCR"]);
    let schedule = &config.node.schedules[0];
    assert_eq!(schedule.days, [true, true, true, true, true, false, false]);
    assert_eq!((schedule.start_minute, schedule.end_minute), (22 * 60, 6 * 60));
    assert_eq!(config.network.blocklist_domains, ["example-bad.com"]);
    assert_eq!((config.network.max_mbps, config.network.max_gb_per_day), (10.0, 20.0));
    assert!(config.policy.allow_plain_http_probes);
    assert_eq!(config.security.guard, GuardMode::Required);
    assert_eq!(config.coordinator.url, None);
}

#[test]
fn every_valid_file_of_the_corpus_is_valid_in_all_faces_and_loses_nothing() {
    for file in corpus("valid") {
        if !cfg!(feature = "lab") && file.file_stem().unwrap() == "lab" {
            continue;
        }
        let text = fs::read(&file).unwrap();
        let document =
            read(&text, face(&file)).unwrap_or_else(|e| panic!("{}", e.render(&file.to_string_lossy())));
        for other in [Face::Yaml, Face::Json, Face::Uci] {
            let written = write(&document, other);
            let back =
                read(written.as_bytes(), other).unwrap_or_else(|e| panic!("{}\n{written}", e.render("-")));
            let same = if other == Face::Uci { without_empty_lists(&document) } else { document.clone() };
            assert_eq!(back.canonical(), same.canonical(), "{}\n{written}", file.display());
            assert_eq!(
                from_value(&back, Platform::OpenWrt).unwrap(),
                from_value(&document, Platform::OpenWrt).unwrap()
            );
        }
        let config = from_value(&document, Platform::Other).unwrap();
        assert_eq!(from_value(&config.to_value(), Platform::OpenWrt).unwrap(), config);
        assert_eq!(yaml(&config.to_yaml()).unwrap(), config);
    }
}

/// UCI has no empty list.
fn without_empty_lists(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(_, v)| v.as_array() != Some(&[]));
            Value::Object(kept.map(|(n, v)| (n.clone(), without_empty_lists(v))).collect())
        }
        other => other.clone(),
    }
}

#[test]
fn every_invalid_file_of_the_corpus_is_refused_with_its_one_error() {
    for file in corpus("invalid") {
        if cfg!(feature = "lab") && file.file_stem().unwrap() == "lab-in-release" {
            continue;
        }
        let text = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy();
        let errors = match parse(&text, face(&file), Platform::Other) {
            Ok(_) => panic!("{name} is accepted"),
            Err(errors) => errors,
        };
        assert_eq!((errors.problems.len(), errors.more), (1, 0), "{name}: {errors}");
        let expected = file.with_extension("err");
        if std::env::var_os("ECHOMESH_BLESS").is_some() {
            fs::write(&expected, errors.render(&name)).unwrap();
        }
        assert_eq!(errors.render(&name), fs::read_to_string(&expected).unwrap_or_default(), "{name}");
    }
}

#[test]
fn an_error_names_file_line_member_value_and_what_is_allowed() {
    let text = "version: 1\nnetwork:\n  httpsOnly: true\n  maxMbps: \"fast\"\n";
    assert_eq!(
        yaml(text).unwrap_err(),
        "x.yaml:4: network.maxMbps: \"fast\" is not a number; allowed: 0.1 to 100000 (Mbit/s)\n"
    );
    let json = br#"{"version":1,"node":{"schedules":[{"days":["Mon"],"start":"24:00","end":"01:00"}]}}"#;
    let errors = parse(json, Face::Json, Platform::Other).unwrap_err();
    assert_eq!(errors.problems[0].pointer, "/node/schedules/0/start");
    assert_eq!(
        errors.render("x.json"),
        "x.json: node.schedules[0].start: \"24:00\" is not a time of day; allowed: HH:MM from 00:00 to 23:59, in \
         quotes (router's time zone)\n"
    );
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_file_up_to_the_bound() {
    let errors = yaml("network: { maxMbps: 0, bogus: 1 }\nlog: { level: loud }\n").unwrap_err();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 4, "{errors}");
    assert!(lines[0].starts_with("x.yaml:1: network.maxMbps: 0 is out of range"), "{errors}");
    assert!(lines[3].starts_with("x.yaml:2: log.level: \"loud\" is not one"), "{errors}");
    assert!(errors.contains("version: is missing"), "{errors}");

    let unknown = |n: usize| (0..n).map(|i| format!("bogus{i}: 1\n")).collect::<String>();
    let told = |n| yaml(&format!("version: 1\n{}", unknown(n))).unwrap_err();
    assert_eq!(told(MAX_PROBLEMS).lines().count(), 20);
    assert!(told(MAX_PROBLEMS + 1).ends_with("x.yaml: and at least 1 more\n"));
    assert!(told(5000).ends_with("x.yaml: and at least 80 more\n"));
}

#[test]
fn a_misspelt_name_is_refused_with_the_likely_one() {
    let error = yaml("version: 1\nnetwork: { max_mbps: 5 }\n").unwrap_err();
    assert!(
        error.contains(
            "network.max_mbps: this name is not known: perhaps maxMbps is meant; allowed: maxMbps,"
        )
    );
    let far = yaml("version: 1\na: 5\n").unwrap_err();
    assert!(far.contains("a: this name is not known; allowed: version,"), "{far}");
    let dotted = yaml("version: 1\nnetwork.maxMbps: 5\n").unwrap_err();
    assert!(dotted.contains("this name is not known"), "{dotted}");
    let listed = yaml("version: 1\nnode: { \"schedules[]\": { start: \"00:00\" } }\n").unwrap_err();
    assert!(listed.contains("this name is not known"), "{listed}");
}

#[test]
fn words_that_older_yaml_takes_for_something_else_are_texts() {
    let given = |value: &str| read(format!("a: {value}").as_bytes(), Face::Yaml).unwrap_err().to_string();
    let kind =
        |value: &str| super::yaml::read(&format!("a: {value}")).unwrap().0.member("a").unwrap().clone();
    for text in
        ["on", "no", "Yes", "22:00", "0x10", "0o17", "012", ".inf", "-.INF", ".nan", "1_000", "1e", "+", "."]
    {
        assert_eq!(kind(text), Value::from(text));
    }
    assert_eq!(kind("\"1\""), Value::from("1"));
    assert_eq!(
        (kind("-0.5e1"), kind("+7"), kind(".5")),
        (Value::Float(-5.0), Value::Int(7), Value::Float(0.5))
    );
    assert_eq!((kind("TRUE"), kind("~")), (Value::Bool(true), Value::Null));
    assert_eq!(kind("9007199254740992"), Value::Float(9007199254740992.0));
    assert!(given("1").contains("this name is not known"));
}

#[test]
fn size_and_depth_are_bounded() {
    let padded = |n: usize| format!("version: 1\n#{}\n", "x".repeat(n - 13)).into_bytes();
    assert!(parse(&padded(MAX_TEXT), Face::Yaml, Platform::Other).is_ok());
    let error = parse(&padded(MAX_TEXT + 1), Face::Yaml, Platform::Other).unwrap_err().to_string();
    assert_eq!(error, "the text has 262145 bytes; allowed: 262144");
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(super::yaml::read(&nested(super::yaml::MAX_DEPTH)).is_ok());
    let error = |n| super::yaml::read(&nested(n)).unwrap_err().remove(0).text;
    assert_eq!(error(super::yaml::MAX_DEPTH + 1), "nested deeper than 16 levels");
    // So many flow levels stop the scanner, which reads ahead.
    assert_eq!(error(100_000), "not YAML: recursion limit exceeded");
    let blocks: String = (0..5000).map(|i| format!("{}a:\n", " ".repeat(i.min(30)))).collect();
    assert_eq!(super::yaml::read(&blocks).unwrap_err()[0].text, "nested deeper than 16 levels");
}

#[test]
fn a_byte_order_mark_is_passed_over_and_other_bytes_are_refused() {
    assert!(yaml("\u{feff}version: 1\n").is_ok());
    let error = parse(b"version: 1\n# \xff\n", Face::Yaml, Platform::Other).unwrap_err().to_string();
    assert_eq!(error, "byte 13 is not UTF-8");
}

#[test]
fn the_defaults_fail_closed() {
    let config = yaml("version: 1\n").unwrap();
    assert_eq!(config.security.guard, GuardMode::Optional);
    assert_eq!(config.security.sandbox_mode, SandboxMode::Strict);
    assert!(config.security.dns_over_https && !config.policy.allow_plain_http_probes);
    assert!(!config.ui.telemetry_opt_in && config.node.region_allow.is_empty());
    assert_eq!(config.lab, Lab::default());
    assert_eq!(config.relay.listen_plain, None);
    let router = parse(b"version: 1", Face::Yaml, Platform::OpenWrt).unwrap();
    assert_eq!(router.security.guard, GuardMode::Required);
    assert_eq!(router.node.id_path, Path::new("/etc/echomesh/node.key"));
}

#[test]
fn the_lab_section_is_read_by_builds_for_the_laboratory_alone() {
    let result = yaml("version: 1\nlab: { allowAddresses: [\"127.0.0.0/8\"], ports: [8443] }\n");
    if cfg!(feature = "lab") {
        let lab = result.unwrap().lab;
        assert_eq!((lab.allow_addresses, lab.ports), (vec![("127.0.0.0".parse().unwrap(), 8)], vec![8443]));
    } else {
        assert!(result.unwrap_err().contains("lab: this section switches checks off"));
    }
}

#[test]
fn names_are_compared_in_one_form() {
    let config = yaml("version: 1\nnetwork: { blocklistDomains: [Example.COM., a.b] }\n").unwrap();
    assert_eq!(config.network.blocklist_domains, ["example.com", "a.b"]);
}

#[test]
fn the_complete_document_has_every_option_but_the_unset() {
    let document = yaml("version: 1\n").unwrap().to_value();
    for option in schema::OPTIONS.iter().filter(|o| !o.path.contains("[]")) {
        let unset = option.default == schema::Default::Unset;
        assert_eq!(schema::find(&document, option.path).is_none(), unset, "{}", option.path);
    }
}

#[test]
fn a_change_changes_the_etag() {
    let one = yaml("version: 1\n").unwrap();
    let other = yaml("version: 1\nnetwork: { maxMbps: 11 }\n").unwrap();
    assert_eq!(one.etag(), yaml(&one.to_yaml()).unwrap().etag());
    assert_ne!(one.etag(), other.etag());
    assert_eq!(one.etag().len(), 16);
}

/// Any value of the kind of a document: names are texts, numbers finite.
fn any_document() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["\\PC{0,12}", "[ -~]{0,12}", "[\\x00-\\x7f]{0,8}", "(on|no|~|1e3|0x1|-|#a|a: b)"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-json::MAX_INTEGER..=json::MAX_INTEGER).prop_map(Value::Int),
        any::<f64>().prop_filter_map("finite", |f| f.is_finite().then_some(Value::Float(f))),
        text.prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::btree_map("\\PC{0,10}", inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(document in any_document()) {
        let text = write(&document, Face::Yaml);
        let (back, _) = super::yaml::read(&text).map_err(|e| TestCaseError::fail(format!("{e:?}\n{text}")))?;
        prop_assert_eq!(back.canonical(), document.canonical(), "{}", text);
        let back = json::parse(write(&document, Face::Json).as_bytes()).unwrap();
        prop_assert_eq!(back.canonical(), document.canonical());
    }

    #[test]
    fn no_text_makes_the_reader_fail_otherwise_than_by_an_error(
        at in 0usize..800,
        noise in "[-\\[\\]{}:,&*!#|>'\"%@`?~ \\n\\ta-z0-9.\\x00\u{85}\u{2028}]{0,12}",
        cut in 0usize..40,
    ) {
        let mut text = String::from_utf8(spec()).unwrap();
        let at = at.min(text.len());
        text.replace_range(at..(at + cut).min(text.len()), &noise);
        for face in [Face::Yaml, Face::Json, Face::Uci] {
            if let Err(errors) = parse(text.as_bytes(), face, Platform::Other) {
                prop_assert!(!errors.problems.is_empty() && errors.problems.len() <= MAX_PROBLEMS);
            }
        }
    }
}

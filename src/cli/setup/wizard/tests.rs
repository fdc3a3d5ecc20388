//! The wizard without a terminal.
use super::*;
use crate::config::{Face, read};
use proptest::prelude::*;

const KEY_TEXT: &str = "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=";

fn start(yaml: &str) -> Start {
    let document = read(yaml.as_bytes(), Face::Yaml).unwrap();
    let exists = yaml != "version: 1";
    Start {
        document,
        exists,
        key: None,
        place: "/x/node.yaml".into(),
        backup: Some("/x/node.yaml.bak".into()),
        platform: Platform::Other,
    }
}

fn fresh() -> Wizard {
    Wizard::new(start("version: 1"))
}

/// Types the lines; each must lead on.
fn typed(wizard: &mut Wizard, lines: &[&str]) {
    for line in lines {
        assert_eq!(wizard.line(line), Reply::Next, "{line}\n{}", wizard.page());
    }
}

fn refused(wizard: &mut Wizard, line: &str) -> String {
    let before = wizard.page();
    let Reply::Same(text) = wizard.line(line) else { panic!("{line} was taken") };
    assert_eq!(wizard.page(), before, "a refusal moves nothing");
    text
}

fn label(wizard: &Wizard) -> &'static str {
    QUESTIONS.get(wizard.at).map_or("summary", |q| q.label)
}

fn yaml(wizard: &Wizard) -> String {
    config::write(&wizard.document(), Face::Yaml)
}

#[test]
fn a_new_node_is_set_up_from_the_first_question_to_the_last() {
    let mut wizard = fresh();
    typed(&mut wizard, &["ph-NCR", "25", "50", "none", "Mon-Fri 22:00-06:00", "https://c.example", KEY_TEXT]);
    assert_eq!(label(&wizard), "Listener");
    typed(&mut wizard, &["", "node.example.org, 203.0.113.9", "sealed"]);
    assert_eq!(label(&wizard), "summary");
    assert_eq!(wizard.line("yes"), Reply::Write);
    assert_eq!(wizard.key(), KeyChoice::Sealed);
    let expected = format!(
        "version: 1
node:
  regionAllow: [\"PH-NCR\"]
  schedules:
    - days: [\"Mon\", \"Tue\", \"Wed\", \"Thu\", \"Fri\"]
      start: \"22:00\"
      end: \"06:00\"
network:
  maxMbps: 25
  maxGBPerDay: 50
coordinator:
  url: \"https://c.example\"
  publicKey: \"{KEY_TEXT}\"
relay:
  listen: \"0.0.0.0:8443\"
  names: [\"node.example.org\", \"203.0.113.9\"]
"
    );
    assert_eq!(yaml(&wizard), expected);
}

#[test]
fn a_refused_answer_has_the_schema_s_own_words() {
    let mut wizard = fresh();
    typed(&mut wizard, &["PH"]);
    for (line, message) in [
        ("fast", "network.maxMbps: \"fast\" is not a number; allowed: 0.1 to 100000 (Mbit/s)"),
        ("0", "network.maxMbps: 0 is out of range; allowed: 0.1 to 100000 (Mbit/s)"),
    ] {
        let direct = config::parse(
            format!("version: 1\nnetwork:\n  maxMbps: {line}").as_bytes(),
            Face::Yaml,
            Platform::Other,
        );
        assert_eq!(refused(&mut wizard, line), message);
        assert_eq!(direct.unwrap_err().to_string(), message);
    }
    typed(&mut wizard, &["10", "", ""]);
    for (line, message) in [
        ("Mon-Fri", "\"Mon-Fri\" is no schedule; allowed: always, or DAYS HH:MM-HH:MM"),
        ("Moo 22:00-06:00", "node.schedules[0].days[0]: \"Moo\" is not one of the words known here"),
        ("Mon 22:00-6:00", "node.schedules[0].end: \"6:00\" is not a time of day"),
        ("Mon 22:00-22:00", "node.schedules[0].end: is the start: the window would be empty"),
    ] {
        assert!(refused(&mut wizard, line).starts_with(message), "{}", refused(&mut wizard, line));
    }
    typed(&mut wizard, &["always"]);
    assert!(refused(&mut wizard, "http://c.example").contains("it must begin with\nhttps://"));
    typed(&mut wizard, &["https://c.example"]);
    assert_eq!(refused(&mut wizard, ""), "this needs an answer; back leads to the question before");
    assert!(wizard.page().ends_with("obeyed.\n: "), "{}", wizard.page());
    assert!(
        refused(&mut wizard, "none")
            .starts_with("coordinator.publicKey: \"none\" is not an Ed25519 public key")
    );
    typed(&mut wizard, &[KEY_TEXT]);
    assert!(refused(&mut wizard, "8443").starts_with("relay.listen: \"8443\" is not an address with port"));
    typed(&mut wizard, &[""]);
    assert!(refused(&mut wizard, "a.example:8443").starts_with("relay.names[0]: "));
}

#[test]
fn without_a_coordinator_its_key_is_not_asked_for_and_does_not_stay() {
    let mut wizard = fresh();
    typed(&mut wizard, &["PH", "", "", "", "", "none"]);
    assert_eq!(label(&wizard), "Listener");
    typed(&mut wizard, &["back", "https://c.example", KEY_TEXT, "back", "back", "none"]);
    assert_eq!(label(&wizard), "Listener");
    assert!(schema::find(&wizard.document(), "coordinator").is_none());
    typed(&mut wizard, &["", "", "keep"]);
    assert!(wizard.summary().contains("note: without coordinator.url the node is unconfigured"));
    assert!(!wizard.summary().contains("check"));
    assert!(matches!(wizard.line("check"), Reply::Same(_)));
}

#[test]
fn back_keeps_the_answers_and_a_number_on_the_summary_leads_to_its_question() {
    let mut wizard = fresh();
    assert!(refused(&mut wizard, "back").starts_with("this is the first question"));
    typed(&mut wizard, &["PH", "25", "back"]);
    assert!(wizard.page().ends_with("\n[25]: "));
    typed(&mut wizard, &["", "50", "", "", "none", "", "", "new"]);
    assert_eq!(label(&wizard), "summary");
    typed(&mut wizard, &["2", "30"]);
    assert_eq!(label(&wizard), "summary");
    typed(&mut wizard, &["back"]);
    assert_eq!(label(&wizard), "Key");
    typed(&mut wizard, &["keep"]);
    assert!(yaml(&wizard).contains("maxMbps: 30") && wizard.key() == KeyChoice::Keep);
    for line in ["7", "0", "11", "no", "", "99999999999999999999"] {
        assert!(refused(&mut wizard, line).starts_with("write yes, the number"), "{line}");
    }
}

#[test]
fn what_stands_there_is_the_default_and_what_is_not_asked_for_stays() {
    let before = "version: 1
node:
  idPath: /k/node.key
  regionAllow: [\"PH\", \"DE\"]
network:
  maxMbps: 12.5
  maxGBPerMonth: 300
security:
  sandboxMode: standard
relay:
  names: [\"a.example\"]
";
    let mut wizard = Wizard::new(start(before));
    assert!(wizard.page().ends_with("\n[PH, DE]: "), "{}", wizard.page());
    typed(&mut wizard, &["", "", "", "none", "", "", "", ""]);
    assert_eq!(label(&wizard), "Key");
    typed(&mut wizard, &["keep"]);
    let summary = wizard.summary();
    assert!(summary.contains("GB a month        none (was: 300)"), "{summary}");
    assert!(
        summary.contains("Its comments go. What stands there stays as\n/x/node.yaml.bak.\n")
            && summary.contains("12.5\n"),
        "{summary}"
    );
    let after = yaml(&wizard);
    assert!(after.contains("idPath: /k/node.key") && after.contains("sandboxMode: standard"), "{after}");
    assert!(!after.contains("maxGBPerMonth"), "{after}");
}

#[test]
fn a_key_that_there_is_is_not_asked_for() {
    let mut wizard = Wizard::new(Start { key: Some("ed25519:abc=".into()), ..start("version: 1") });
    typed(&mut wizard, &["PH", "", "", "", "", "none", "", ""]);
    assert_eq!(label(&wizard), "summary");
    assert!(wizard.summary().contains("ed25519:abc=, not touched"));
    assert!(matches!(wizard.line("10"), Reply::Same(_)));
    wizard.give("key", "new").unwrap();
    assert_eq!(wizard.key(), KeyChoice::Keep);
}

#[test]
fn an_interrupted_setup_goes_on_where_it_was() {
    let mut wizard = fresh();
    typed(&mut wizard, &["PH", "25", "50"]);
    assert_eq!(wizard.line("quit"), Reply::Quit);
    let kept = wizard.progress();
    let mut next = fresh();
    assert_eq!(next.resume(kept.as_bytes()), 3);
    assert_eq!((label(&next), next.document()), ("GB a month", wizard.document()));
    // What the command line says now is newer.
    let mut told = fresh();
    told.give("max-mbps", "7").unwrap();
    assert_eq!(told.resume(kept.as_bytes()), 2);
    assert!(yaml(&told).contains("maxMbps: 7\n"));
}

#[test]
fn what_was_kept_and_does_not_hold_any_more_is_asked_again() {
    for (kept, taken) in [
        (r#"{"answers":{"region":"PH","max-mbps":"0","max-gb-per-day":7,"colour":"red"},"version":1}"#, 1),
        ("{", 0),
        ("[1]", 0),
        (r#"{"answers":["PH"]}"#, 0),
    ] {
        let mut wizard = fresh();
        assert_eq!(wizard.resume(kept.as_bytes()), taken, "{kept}");
        assert_eq!(wizard.problems(), None);
    }
}

#[test]
fn help_and_search_move_nothing() {
    let mut wizard = fresh();
    let help = refused(&mut wizard, "?");
    assert!(help.starts_with("node.regionAllow Regions the node may serve") && help.contains("quit: go on"));
    assert_eq!(refused(&mut wizard, "/philip"), "  PH  Philippines");
    assert_eq!(refused(&mut wizard, "/atlantis"), "no country has \"atlantis\" in its name");
    assert!(refused(&mut wizard, "germany").ends_with("\n  DE Germany"));
    assert!(refused(&mut wizard, &"x".repeat(MAX_ANSWER + 1)).contains("at most 4096 bytes"));
}

#[test]
fn an_answer_at_the_limit_is_judged() {
    let mut wizard = fresh();
    let longest = "PH,".repeat(64) + "PH";
    assert!(refused(&mut wizard, &longest).contains("the list has 65 entries"));
    assert!(refused(&mut wizard, &"x".repeat(MAX_ANSWER)).contains("is not a region"));
}

#[test]
fn options_are_taken_by_their_names() {
    let mut wizard = fresh();
    wizard.give("region", "PH").unwrap();
    assert!(matches!(wizard.give("max-mbps", "0"), Err(Fault::Invalid(_))));
    assert!(matches!(wizard.give("schedule", "now"), Err(Fault::Shape(_))));
    assert!(matches!(wizard.give("colour", "red"), Err(Fault::Shape(_))));
    wizard.give("coordinator", "https://c.example").unwrap();
    assert!(wizard.problems().unwrap().starts_with("coordinator.publicKey: is missing"));
    assert_eq!(label(&wizard), "Mbit/s");
}

#[test]
fn no_page_is_wider_than_a_terminal() {
    let long = format!("https://{}.example/{}", "a".repeat(60), "b".repeat(200));
    let names: Vec<String> = (0..20).map(|n| format!("node-{n}.example.org")).collect();
    let mut wizard = Wizard::new(start("version: 1\nnetwork:\n  maxMbps: 3\n"));
    typed(&mut wizard, &["PH", "", "", "", "Mon,Wed,Fri 01:00-02:00; Tue 03:00-04:00; Sat,Sun 00:00-24:00"]);
    typed(&mut wizard, &[&long, KEY_TEXT, "", &names.join(",")]);
    let mut pages = vec![wizard.page(), wizard.summary(), refused(&mut wizard, "?")];
    typed(&mut wizard, &["new"]);
    for number in 1..=QUESTIONS.len() {
        typed(&mut wizard, &[&number.to_string()]);
        pages.push(wizard.page());
        pages.push(refused(&mut wizard, "?"));
        wizard.at = QUESTIONS.len();
    }
    for page in pages {
        assert!(page.lines().all(|l| l.chars().count() <= WIDTH), "{page}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_line_leads_to_a_document_that_the_schema_refuses(lines in prop::collection::vec(
        prop_oneof![
            Just("back".to_owned()), Just(String::new()), Just("yes".to_owned()), Just("none".to_owned()),
            Just("https://c.example".to_owned()), Just(KEY_TEXT.to_owned()), Just("always".to_owned()),
            "[0-9]{1,3}", "\\PC{0,20}",
        ], 0..25)
    ) {
        let mut wizard = fresh();
        for line in lines {
            if wizard.line(&line) == Reply::Write {
                prop_assert_eq!(wizard.problems(), None);
            }
            let missing = wizard.problems().filter(|p| !p.starts_with("coordinator.publicKey: is missing"));
            prop_assert_eq!(missing, None);
            let text = yaml(&wizard);
            prop_assert_eq!(read(text.as_bytes(), Face::Yaml).map(|d| d.canonical()).ok(),
                wizard.problems().is_none().then(|| wizard.document().canonical()));
            let mut again = fresh();
            again.resume(wizard.progress().as_bytes());
            prop_assert_eq!(again.document().canonical(), wizard.document().canonical());
        }
    }
}

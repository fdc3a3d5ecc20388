//! The coordinator's lists, and what they end.
use super::bench::{coordinator, is_reset};
use super::*;
use crate::coordinator::node::Node as _;
use crate::coordinator::wire::{ListRef, Registered};
use crate::json::{Value, object};
use crate::policy::lists::Importer;
use crate::policy::refusal::Refusal;
use crate::session::{Flow, MAX_ALIAS_BYTES};
use crate::signed::{Kind, sign};
use crate::time::Unix;

fn list(name: &str, version: &str) -> ListRef {
    let (url, hash) = ("https://l.test/x".to_owned(), format!("b3:{version}"));
    let members = [("name", name), ("version", version), ("url", &url), ("hash", &hash)];
    let mut raw = object(members.map(|(n, v)| (n, Value::from(v))));
    sign(Kind::List, &mut raw, &coordinator());
    ListRef { name: name.to_owned(), version: version.to_owned(), url, hash, raw }
}

/// A registration's answer that names these lists.
fn register(bench: &Bench, lists: &[ListRef]) {
    bench.node.registered(Registered {
        policy_version: "1".into(),
        heartbeat_interval_ms: 1000,
        server_time: Unix(bench.now()),
        probe_hosts: vec![],
        lists: lists.to_vec(),
        certificate: None,
    });
    bench.tick();
}

/// A list has been fetched.
fn load(bench: &Bench, list: &ListRef, text: &str) {
    let mut importer = Importer::default();
    importer.feed(text.as_bytes());
    bench.node.list_loaded(list, importer.finish());
    bench.tick();
}

/// Bytes of the journal.
fn journal(bench: &Bench) -> u64 {
    std::fs::metadata(bench.dir.0.join("journal")).unwrap().len()
}

fn through(bench: &Bench, host: &str, names: &[&str]) -> Flow {
    let flow = bench.tunnel(ID, host);
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    flow.judge_aliases(&names).unwrap();
    flow
}

#[test]
fn a_live_flow_is_judged_by_the_names_its_host_was_an_alias_of_too() {
    let mut bench = Bench::active("", "{}");
    let (ads, mail) = (list("ads", "1"), list("category:mail", "1"));
    register(&bench, &[ads.clone(), mail.clone()]);
    load(&bench, &ads, "nobody.test");
    load(&bench, &mail, "nobody.test");
    let tracked = through(&bench, "a.test", &["shop.test", "x.tracker.test"]);
    let mailing = through(&bench, "b.test", &["imap.mailer.test"]);
    let other = through(&bench, "c.test", &["tracker.test.other.test"]);
    let (later_ads, later_mail) = (list("ads", "2"), list("category:mail", "2"));
    register(&bench, &[later_ads.clone(), later_mail.clone()]);
    load(&bench, &later_ads, "tracker.test");
    assert_eq!([&tracked, &mailing, &other].map(is_reset), [true, false, false]);
    load(&bench, &later_mail, "mailer.test");
    assert_eq!([&mailing, &other].map(is_reset), [true, false]);
    bench.configure("network: { allowlistDomains: [c.test] }");
    assert!(!is_reset(&other), "an allow list names what buyers ask for");
    bench.configure("network: { allowlistDomains: [c.test], blocklistDomains: [other.test] }");
    assert!(is_reset(&other));
}

#[test]
fn a_flow_with_more_aliases_than_are_kept_ends_with_the_next_rules() {
    let mut bench = Bench::active("", "{}");
    let names = |bytes: usize| vec!["a".repeat(bytes / 2 - 1), "b".repeat(bytes - bytes / 2 - 1)];
    let (fits, long) = (bench.tunnel(ID, "a.test"), bench.tunnel(ID, "b.test"));
    fits.judge_aliases(&names(MAX_ALIAS_BYTES)).unwrap();
    long.judge_aliases(&names(MAX_ALIAS_BYTES + 1)).unwrap();
    bench.configure("network: { blocklistDomains: [bad.test] }");
    assert_eq!([is_reset(&fits), is_reset(&long)], [false, true]);
}

#[test]
fn an_alias_that_is_refused_is_so_at_once() {
    let mut bench = Bench::active("", "{}");
    bench.configure("network: { blocklistDomains: [bad.test] }");
    let flow = bench.tunnel(ID, "a.test");
    assert_eq!(flow.judge_aliases(&["x.bad.test".into()]), Err(Refusal::DomainBlocked));
}

#[test]
fn an_old_version_is_refused_after_a_withdrawal_and_a_restart_and_nothing_is_written_twice() {
    let bench = Bench::active("", "{}");
    let new = list("ads", "10");
    register(&bench, std::slice::from_ref(&new));
    load(&bench, &new, "nobody.test");
    assert_eq!(bench.refusal(ID, "a.test"), None);
    let written = journal(&bench);
    register(&bench, std::slice::from_ref(&new));
    assert_eq!(journal(&bench), written, "nothing is new");
    register(&bench, &[]);
    register(&bench, &[list("ads", "9")]);
    assert!(bench.has_alert("list-refused"));
    assert_eq!(bench.refusal(ID, "a.test"), Some(Refusal::DomainBlocked));
    let mut bench = bench.crash();
    bench.open(&id(1), "{}");
    register(&bench, &[list("ads", "9")]);
    assert!(bench.has_alert("list-refused") && bench.node.missing_list(0).is_none());
    assert_eq!(bench.refusal(&id(1), "a.test"), Some(Refusal::DomainBlocked));
    register(&bench, std::slice::from_ref(&new));
    load(&bench, &new, "nobody.test");
    assert!(!bench.has_alert("list-refused"));
    assert_eq!(bench.refusal(&id(1), "a.test"), None);
}

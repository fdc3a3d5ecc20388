//! What the object answers, with a fake node.
use super::*;
use crate::api::{Action, Archive, Health, Page, Tagged};
use crate::json::parse;
use crate::time::Unix;
use futures_lite::future::block_on;
use std::cell::RefCell;

#[derive(Default)]
struct Fake {
    done: RefCell<Vec<String>>,
}

impl Fake {
    fn note(&self, what: String) {
        self.done.borrow_mut().push(what);
    }
}

impl Backend for Fake {
    fn status(&self) -> Value {
        parse(br#"{"state":"idle","reason":"Ready.","since":"2025-12-19T14:00:00Z","nodeId":"em1x"}"#)
            .unwrap()
    }
    fn control(&self, action: Action) -> Result<(), Problem> {
        self.note(action.name().into());
        Ok(())
    }
    fn config(&self) -> Tagged {
        (object([("version", 1.into())]), "v1".into())
    }
    fn put_config(&self, document: Value) -> Later<Result<Tagged, Problem>> {
        self.note(document.canonical());
        Box::pin(ready(match document.member("version") {
            Some(_) => Ok((document, "v2".into())),
            None => Err(Problem::config_invalid(vec!["version is missing".into()])),
        }))
    }
    fn reload(&self) -> Later<Result<Tagged, Problem>> {
        Box::pin(ready(Ok(self.config())))
    }
    fn sessions(&self) -> Value {
        array([object([("sessionId", "s".into())])])
    }
    fn close_session(&self, id: &str) -> Result<(), Problem> {
        if id == "s" { Ok(()) } else { Err(Problem::session_unknown()) }
    }
    fn export(&self, _: Archive, _: Option<Unix>) -> Result<Box<dyn Iterator<Item = Vec<u8>>>, Problem> {
        Err(Problem::locked())
    }
    fn page(
        &self,
        archive: Archive,
        since: Option<Unix>,
        place: Option<u64>,
        lines: usize,
    ) -> Result<Page, Problem> {
        self.note(format!("{} {:?} {place:?} {lines}", archive.name(), since.map(|s| s.0)));
        Ok(Page { lines: vec!["{\"n\":1}".into()], next: 43, more: true })
    }
    fn diagnostics(&self) -> Value {
        object([("d", 1.into())])
    }
    fn health(&self) -> Health {
        Health { checks: Vec::new() }
    }
}

fn ask(node: &Fake, method: &str, arguments: &str) -> (Status, String) {
    let (status, body) = block_on(answer(node, method, Ok(parse(arguments.as_bytes()).unwrap())));
    (status, body.map_or_else(String::new, |b| b.canonical()))
}

#[test]
fn the_methods_are_the_contracts() {
    let names: Vec<&str> = signatures().iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "status",
            "control",
            "config_get",
            "config_set",
            "sessions",
            "session_close",
            "logs_export",
            "diagnostics",
            "report",
            "keys",
            "updates",
            "wipe",
            "reload"
        ]
    );
}

#[test]
fn bodies_are_those_of_the_http_api() {
    let node = Fake::default();
    for (method, arguments, body) in [
        (
            "control",
            r#"{"action":"pause"}"#,
            r#"{"reason":"Ready.","since":"2025-12-19T14:00:00Z","state":"idle"}"#,
        ),
        ("config_get", "{}", r#"{"version":1}"#),
        ("config_set", r#"{"config":{"version":1},"etag":"v1"}"#, r#"{"version":1}"#),
        ("config_set", r#"{"config":{"version":1}}"#, r#"{"version":1}"#),
        ("sessions", "{}", r#"{"sessions":[{"sessionId":"s"}]}"#),
        ("session_close", r#"{"id":"s"}"#, ""),
        ("diagnostics", r#"{"ubus_rpc_session":"0123"}"#, r#"{"d":1}"#),
        ("keys", "{}", r#"{"locked":false,"nodeId":"em1x"}"#),
        ("reload", "{}", r#"{"etag":"v1"}"#),
    ] {
        assert_eq!(ask(&node, method, arguments), (Status::Ok, body.to_owned()), "{method}");
    }
    assert_eq!(ask(&node, "status", "{}").1, node.status().canonical());
    assert!(ask(&node, "report", "{}").1.contains("echomesh-report"));
    assert_eq!(*node.done.borrow(), ["pause", r#"{"version":1}"#, r#"{"version":1}"#]);
}

#[test]
fn what_was_asked_wrongly_is_refused_and_not_done() {
    let node = Fake::default();
    for (method, arguments, status, slug) in [
        ("nomethod", "{}", Status::MethodNotFound, "method-unknown"),
        ("status", r#"{"x":1}"#, Status::InvalidArgument, "invalid"),
        ("control", "{}", Status::InvalidArgument, "invalid"),
        ("control", r#"{"action":1}"#, Status::InvalidArgument, "invalid"),
        ("control", r#"{"action":"halt"}"#, Status::InvalidArgument, "invalid"),
        ("control", r#"{"action":null}"#, Status::InvalidArgument, "invalid"),
        ("config_set", "{}", Status::InvalidArgument, "invalid"),
        ("config_set", r#"{"config":"version: 1"}"#, Status::InvalidArgument, "invalid"),
        ("config_set", r#"{"config":{"version":1},"etag":"v0"}"#, Status::InvalidArgument, "etag-mismatch"),
        ("session_close", r#"{"id":"t"}"#, Status::NotFound, "session-unknown"),
        ("session_close", "{}", Status::InvalidArgument, "invalid"),
        ("logs_export", r#"{"since":"yesterday"}"#, Status::InvalidArgument, "invalid"),
        ("logs_export", r#"{"kind":"other"}"#, Status::InvalidArgument, "invalid"),
        ("logs_export", r#"{"limit":0}"#, Status::InvalidArgument, "invalid"),
        ("logs_export", r#"{"limit":1001}"#, Status::InvalidArgument, "invalid"),
        ("logs_export", r#"{"limit":"7"}"#, Status::InvalidArgument, "invalid"),
        ("logs_export", r#"{"cursor":"bundles-42"}"#, Status::InvalidArgument, "cursor-unknown"),
        ("logs_export", r#"{"cursor":"access-"}"#, Status::InvalidArgument, "cursor-unknown"),
        ("keys", r#"{"passphrase":"p"}"#, Status::InvalidArgument, "not-locked"),
        ("keys", r#"{"passphrase":""}"#, Status::InvalidArgument, "invalid"),
        ("updates", "{}", Status::NotSupported, "not-supported"),
        ("wipe", r#"{"confirm":"yes"}"#, Status::InvalidArgument, "invalid"),
    ] {
        let (code, body) = ask(&node, method, arguments);
        assert_eq!(code, status, "{method} {arguments}: {body}");
        assert!(body.contains(&format!(r#""type":"{slug}""#)), "{method} {arguments}: {body}");
    }
    assert_eq!(*node.done.borrow(), [""; 0]);
    let (status, body) = ask(&node, "config_set", r#"{"config":{}}"#);
    assert_eq!(status, Status::InvalidArgument);
    assert!(body.contains(r#""errors":["version is missing"]"#), "{body}");
}

#[test]
fn exports_come_in_pages() {
    let node = Fake::default();
    let body = |kind: &str| format!(r#"{{"cursor":"{kind}-43","lines":["{{\"n\":1}}"],"more":true}}"#);
    assert_eq!(ask(&node, "logs_export", "{}"), (Status::Ok, body("access")));
    let second = r#"{"kind":"bundles","cursor":"bundles-42","limit":7,"since":"1970-01-01T00:00:09Z"}"#;
    assert_eq!(ask(&node, "logs_export", second), (Status::Ok, body("bundles")));
    assert_eq!(*node.done.borrow(), ["access None None 1000", "bundles Some(9) Some(42) 7"]);
}

#[test]
fn arguments_that_cannot_be_read_are_told() {
    let node = Fake::default();
    let (status, body) = block_on(answer(&node, "status", Err(Malformed("a text is not UTF-8"))));
    assert_eq!(status, Status::InvalidArgument);
    let detail = "The arguments cannot be read: a text is not UTF-8.";
    assert_eq!(body.unwrap().member("detail").unwrap().as_str(), Some(detail));
}

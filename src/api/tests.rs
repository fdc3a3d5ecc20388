//! The API over real sockets, with a fake node.
use super::*;
use crate::http::head::MAX_HEAD;
use crate::http::request::MAX_BODY;
use crate::http::server::{Deadlines, Listener, MAX_CONNECTIONS, serve};
use crate::json::{Value, array, object, parse};
use crate::time::Unix;
use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, future};
use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const STATUS: &[u8] = include_bytes!("testdata/status.json");
const ID: &str = "c2b9f8c8-0000-4000-8000-0123456789ab";

struct Fake {
    config: RefCell<Value>,
    etag: Cell<u32>,
    done: RefCell<Vec<Action>>,
    well: Cell<bool>,
}

impl Backend for Fake {
    fn status(&self) -> Value {
        parse(STATUS).unwrap()
    }
    fn control(&self, action: Action) -> Result<(), Problem> {
        self.done.borrow_mut().push(action);
        Ok(())
    }
    fn config(&self) -> (Value, String) {
        (self.config.borrow().clone(), format!("v{}", self.etag.get()))
    }
    fn put_config(&self, document: Value) -> Later<Result<Tagged, Problem>> {
        if document.member("version").is_none() {
            let problem = Problem::config_invalid(vec!["version is missing".into()]);
            return Box::pin(std::future::ready(Err(problem)));
        }
        self.config.replace(document);
        self.etag.set(self.etag.get() + 1);
        self.reload()
    }
    fn reload(&self) -> Later<Result<Tagged, Problem>> {
        Box::pin(std::future::ready(Ok(self.config())))
    }
    fn sessions(&self) -> Value {
        array([object([("sessionId", ID.into())])])
    }
    fn close_session(&self, id: &str) -> Result<(), Problem> {
        if id == ID { Ok(()) } else { Err(Problem::session_unknown()) }
    }
    fn export(
        &self,
        archive: Archive,
        since: Option<Unix>,
    ) -> Result<Box<dyn Iterator<Item = Vec<u8>>>, Problem> {
        let first = since.map_or(0, |s| s.0) + if archive == Archive::Bundles { 100 } else { 0 };
        Ok(Box::new((first..first + 3).map(|n| format!("{{\"n\":{n}}}\n").into_bytes())))
    }
    fn page(&self, _: Archive, _: Option<Unix>, _: Option<u64>, _: usize) -> Result<Page, Problem> {
        Err(Problem::locked())
    }
    fn diagnostics(&self) -> Value {
        object([("probePassRate", 1.into())])
    }
    fn recent_log(&self) -> Vec<String> {
        (0..300).map(|n| format!("info: line {n}")).collect()
    }
    fn health(&self) -> Health {
        Health { checks: vec![("meter", true), ("relay", self.well.get())] }
    }
}

struct Setup {
    executor: Rc<LocalExecutor<'static>>,
    address: SocketAddr,
    fake: Rc<Fake>,
    token: String,
}

impl Setup {
    /// Sends bytes on a fresh connection and reads to its end.
    async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn connect(&self) -> Async<TcpStream> {
        Async::<TcpStream>::connect(self.address).await.unwrap()
    }

    /// A request with the token, `Connection: close` and further fields; the status and all that came.
    async fn ask(&self, line: &str, fields: &str, body: &str) -> (u16, String) {
        let token = &self.token;
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        );
        let answer = self.raw(format!("{head}{fields}{length}\r\n{body}")).await;
        let status = answer.get(9..12).and_then(|s| s.parse().ok()).expect(&answer);
        (status, answer)
    }
}

/// Runs a test against a served API; `head` and `body` deadlines as given.
fn with_api<F: Future<Output = ()>>(deadlines: Deadlines, test: impl FnOnce(Rc<Setup>) -> F) {
    let executor = Rc::new(LocalExecutor::new());
    let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
    let address = listener.get_ref().local_addr().unwrap();
    let config = RefCell::new(object([("version", 1.into())]));
    let fake =
        Rc::new(Fake { config, etag: Cell::new(1), done: RefCell::new(Vec::new()), well: Cell::new(true) });
    let (token, text) = Token::new(&[7; 32]);
    let api = Rc::new(Api::new(fake.clone(), token, vec!["router.lan".into()]));
    let server = serve(executor.clone(), Listener::Tcp(listener), api, deadlines);
    executor.spawn(server).detach();
    let setup = Rc::new(Setup { executor: executor.clone(), address, fake, token: text.to_string() });
    let limit = async {
        Timer::after(Duration::from_secs(20)).await;
        panic!("the test hangs");
    };
    future::block_on(executor.run(future::or(test(setup), limit)));
}

fn slow() -> Deadlines {
    Deadlines::default()
}

fn slug(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(answer.contains("Content-Type: application/problem+json\r\n"), "{answer}");
    let problem = parse(body.as_bytes()).unwrap();
    assert_eq!(problem.member("status").unwrap().as_int().unwrap().to_string(), answer[9..12]);
    assert!(!problem.member("detail").unwrap().as_str().unwrap().is_empty());
    problem.member("type").unwrap().as_str().unwrap().to_owned()
}

#[test]
fn every_route_answers() {
    with_api(slow(), |api| async move {
        let json = "Content-Type: application/json\r\n";
        let (status, answer) = api.ask("GET /status", "", "").await;
        assert_eq!(status, 200);
        assert!(answer.ends_with(&parse(STATUS).unwrap().canonical()));
        let (status, answer) = api.ask("POST /control", json, r#"{"action":"clearQuarantine"}"#).await;
        assert_eq!(status, 200);
        let body = r#"{"reason":"2 sessions are open","since":"2025-12-19T13:58:20Z","state":"active"}"#;
        assert!(answer.ends_with(body), "{answer}");
        assert_eq!(*api.fake.done.borrow(), [Action::ClearQuarantine]);
        let (status, answer) = api.ask("GET /sessions", "", "").await;
        assert!(status == 200 && answer.ends_with(&format!(r#"{{"sessions":[{{"sessionId":"{ID}"}}]}}"#)));
        assert_eq!(api.ask(&format!("DELETE /sessions/{ID}"), "", "").await.0, 204);
        let (status, answer) = api.ask("DELETE /sessions/x", "", "").await;
        assert_eq!((status, slug(&answer).as_str()), (404, "session-unknown"));
        assert_eq!(api.ask("GET /diagnostics", "", "").await.0, 200);
        let (status, answer) = api.ask("GET /metrics", "", "").await;
        assert!(status == 200 && answer.contains(metrics::CONTENT_TYPE) && answer.ends_with("# EOF\n"));
        let (status, answer) = api.ask("GET /openapi.json", "", "").await;
        assert!(status == 200 && answer.ends_with(OPENAPI));
        let (status, answer) = api.ask("POST /report", "", "").await;
        assert!(status == 200 && answer.contains("info: line 299") && !answer.contains("info: line 99\""));
    });
}

#[test]
fn the_export_is_streamed_from_an_instant_on() {
    with_api(slow(), |api| async move {
        let (status, answer) = api.ask("GET /logs/export?since=1970-01-01T00%3A00:07Z", "", "").await;
        assert_eq!(status, 200);
        assert!(answer.contains("Transfer-Encoding: chunked\r\n"), "{answer}");
        assert!(answer.ends_with("8\r\n{\"n\":7}\n\r\n8\r\n{\"n\":8}\n\r\n8\r\n{\"n\":9}\n\r\n0\r\n\r\n"));
        for bad in ["", "yesterday", "1970-01-01T00%3A00%3A07+00:00", "%zz"] {
            let (status, answer) = api.ask(&format!("GET /logs/export?since={bad}"), "", "").await;
            assert_eq!((status, slug(&answer).as_str()), (422, "invalid"), "{bad}");
        }
        let old = format!(
            "GET /logs/export HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
            api.token
        );
        let answer = api.raw(old).await;
        assert!(!answer.contains("chunked") && answer.ends_with("\r\n\r\n{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n"));
    });
}

#[test]
fn the_export_has_two_kinds() {
    with_api(slow(), |api| async move {
        let (_, answer) = api.ask("GET /logs/export?kind=bundles", "", "").await;
        assert!(answer.ends_with("{\"n\":102}\n\r\n0\r\n\r\n"), "{answer}");
        let (_, answer) = api.ask("GET /logs/export?kind=access&since=1970-01-01T00:00:01Z", "", "").await;
        assert!(answer.ends_with("{\"n\":3}\n\r\n0\r\n\r\n"), "{answer}");
        for bad in ["kind", "kind=", "kind=all", "kind=%zz"] {
            let (status, answer) = api.ask(&format!("GET /logs/export?{bad}"), "", "").await;
            assert_eq!((status, slug(&answer).as_str()), (422, "invalid"), "{bad}");
        }
    });
}

#[test]
fn a_change_based_on_an_old_document_is_refused() {
    with_api(slow(), |api| async move {
        let put = |fields: &'static str, body: &'static str| {
            let api = api.clone();
            async move {
                let fields = format!("Content-Type: application/json; charset=utf-8\r\n{fields}");
                api.ask("PUT /config", &fields, body).await
            }
        };
        assert!(api.ask("GET /config", "", "").await.1.contains("ETag: \"v1\"\r\n"));
        let (status, answer) = put("If-Match: \"v1\"\r\n", r#"{"version":1,"a":1}"#).await;
        assert!(
            status == 200
                && answer.contains("ETag: \"v2\"\r\n")
                && answer.ends_with(r#"{"a":1,"version":1}"#)
        );
        for old in ["If-Match: \"v1\"\r\n", "If-Match: W/\"v2\"\r\n", "If-Match: v2\r\n", "If-Match:\r\n"] {
            let (status, answer) = put(old, r#"{"version":1}"#).await;
            assert_eq!((status, slug(&answer).as_str()), (412, "etag-mismatch"), "{old}");
        }
        assert_eq!(api.fake.etag.get(), 2);
        assert_eq!(put("If-Match: \"v1\", \"v2\"\r\n", r#"{"version":1}"#).await.0, 200);
        assert_eq!(put("If-Match: *\r\n", r#"{"version":1}"#).await.0, 200);
        assert_eq!(put("", r#"{"version":1}"#).await.0, 200);
        let (status, answer) = put("", "{}").await;
        assert_eq!((status, slug(&answer).as_str()), (422, "config-invalid"));
        assert!(answer.contains(r#""errors":["version is missing"]"#));
    });
}

#[test]
fn wrong_bodies_are_told_apart() {
    with_api(slow(), |api| async move {
        let json = "Content-Type: application/json\r\n";
        for (fields, body, status, name) in [
            ("", r#"{"action":"stop"}"#, 415, "media-type"),
            ("Content-Type: text/plain\r\n", r#"{"action":"stop"}"#, 415, "media-type"),
            (json, r#"{"action":"stop""#, 400, "malformed"),
            (json, r#"{"action":"stop","action":"start"}"#, 400, "malformed"),
            (json, r#"{"action":"explode"}"#, 422, "invalid"),
            (json, r#"{"action":7}"#, 422, "invalid"),
            (json, r#"[]"#, 422, "invalid"),
            (json, "", 400, "malformed"),
        ] {
            let (got, answer) = api.ask("POST /control", fields, body).await;
            assert_eq!((got, slug(&answer).as_str()), (status, name), "{body}");
        }
        assert!(api.fake.done.borrow().is_empty());
    });
}

#[test]
fn nothing_but_health_is_told_without_the_token() {
    with_api(slow(), |api| async move {
        for path in ["GET /status", "GET /openapi.json", "POST /control", "GET /metrics", "OPTIONS /status"] {
            let answer =
                api.raw(format!("{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
            assert_eq!(slug(&answer), "token-required", "{path}");
            assert!(answer.contains("WWW-Authenticate: Bearer realm=\"echomesh\"\r\n"));
        }
        let health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answer = api.raw(health).await;
        assert!(answer.starts_with("HTTP/1.1 200 "));
        assert!(answer.ends_with(r#"{"checks":{"meter":true,"relay":true},"status":"ok"}"#));
        api.fake.well.set(false);
        let answer = api.raw(health).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(r#""status":"failing""#));
    });
}

#[test]
fn a_page_that_reaches_loopback_gets_nothing() {
    with_api(slow(), |api| async move {
        let token = api.token.clone();
        let ask = |host: &str, fields: &str| {
            let text = format!(
                "GET /status HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{fields}\r\n"
            );
            let api = api.clone();
            async move { api.raw(text).await }
        };
        assert_eq!(slug(&ask("rebound.example:7878", "").await), "host-denied");
        assert_eq!(slug(&ask("localhost:7878", "Origin: http://evil.example\r\n").await), "origin-denied");
        assert_eq!(slug(&ask("localhost:7878", "Origin: null\r\n").await), "origin-denied");
        assert!(
            ask("router.lan:7878", "Origin: http://router.lan:7878\r\n").await.starts_with("HTTP/1.1 200 ")
        );
        let rebound = "GET /healthz HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n";
        assert_eq!(slug(&api.raw(rebound).await), "host-denied");
        let absolute = format!(
            "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        assert_eq!(slug(&api.raw(absolute).await), "host-denied");
        let hidden = format!(
            "GET http://localhost/status HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        assert_eq!(slug(&api.raw(hidden).await), "host-denied");
        assert!(!ask("localhost", "").await.contains("Access-Control"));
    });
}

#[test]
fn paths_and_methods_that_do_not_exist_are_told_apart() {
    with_api(slow(), |api| async move {
        for path in ["/", "/statu", "/status/", "/sessions/", "/sessions/a/b", "/Status", "//status"] {
            let (status, answer) = api.ask(&format!("GET {path}"), "", "").await;
            assert_eq!((status, slug(&answer).as_str()), (404, "not-found"), "{path}");
        }
        let (status, answer) = api.ask("DELETE /config", "", "").await;
        assert_eq!((status, slug(&answer).as_str()), (405, "method-not-allowed"));
        assert!(answer.contains("Allow: GET, HEAD, PUT, OPTIONS\r\n"));
        let (status, answer) = api.ask("OPTIONS /control", "", "").await;
        assert!(status == 204 && answer.contains("Allow: POST, OPTIONS\r\n") && answer.ends_with("\r\n\r\n"));
        assert_eq!(api.ask("OPTIONS *", "", "").await.0, 204);
        let (get, head) = (api.ask("GET /status", "", "").await.1, api.ask("HEAD /status", "", "").await.1);
        assert_eq!(get.split_once("\r\n\r\n").unwrap().0.to_owned() + "\r\n\r\n", head);
    });
}

#[test]
fn limits_hold_at_the_bound() {
    with_api(slow(), |api| async move {
        let fill = "a".repeat(MAX_HEAD);
        let (status, answer) = api.ask("GET /status", &format!("X: {fill}\r\n"), "").await;
        assert_eq!((status, slug(&answer).as_str()), (431, "head-too-large"));
        let json = "Content-Type: application/json\r\n";
        let whole = format!("{{\"version\":1{}}}", " ".repeat(MAX_BODY - 13));
        assert_eq!(whole.len(), MAX_BODY);
        assert_eq!(api.ask("PUT /config", json, &whole).await.0, 200);
        let (status, answer) = api.ask("PUT /config", json, &format!("{whole} ")).await;
        assert_eq!((status, slug(&answer).as_str()), (413, "too-large"));
        let both = api.ask("PUT /config", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "").await;
        assert_eq!((both.0, slug(&both.1).as_str()), (400, "malformed"));
    });
}

#[test]
fn whoever_floods_without_the_token_is_slowed_down_and_the_owner_is_not() {
    with_api(slow(), |api| async move {
        let bare = "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut slugs = Vec::new();
        for _ in 0..300 {
            slugs.push(slug(&api.raw(bare).await));
        }
        assert_eq!(slugs[0], "token-required");
        let slowed = slugs.iter().filter(|s| *s == "rate-limited").count();
        assert!(slowed > 0 && slugs.iter().all(|s| s == "token-required" || s == "rate-limited"), "{slowed}");
        assert_eq!(api.ask("GET /status", "", "").await.0, 200);
    });
}

#[test]
fn no_answer_lets_a_page_of_another_origin_read_it() {
    with_api(slow(), |api| async move {
        let fields = "Origin: http://localhost\r\nAccess-Control-Request-Method: PUT\r\n";
        for line in ["GET /status", "OPTIONS /config", "POST /none", "GET /healthz", "PUT /config"] {
            let answer = api.ask(line, fields, "").await.1;
            assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
            assert!(answer.contains("X-Content-Type-Options: nosniff\r\n"), "{answer}");
            assert!(!answer.contains(&api.token), "{answer}");
        }
    });
}

#[test]
fn the_body_of_a_refused_request_is_not_awaited() {
    with_api(slow(), |api| async move {
        let head = "PUT /config HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n";
        let mut stream = api.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 400];
        let n = stream.read(&mut answer).await.unwrap();
        assert!(answer[..n].starts_with(b"HTTP/1.1 401 "));
    });
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    with_api(slow(), |api| async move {
        let mut stream = api.connect().await;
        let head = format!(
            "POST /control HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 18\r\nConnection: close\r\n\r\n",
            api.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(br#"{"action":"pause"}"#).await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.starts_with("HTTP/1.1 200 "));
        assert_eq!(*api.fake.done.borrow(), [Action::Pause]);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    with_api(slow(), |api| async move {
        let token = &api.token;
        let common = format!("HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n");
        let chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"action\"\r\n8\r\n:\"stop\"}\r\n0\r\n\r\n";
        let first = format!("POST /control {common}{chunked}");
        let text = format!(
            "{first}HEAD /status {common}\r\nGET /healthz {common}\r\nGET /none {common}Connection: close\r\n\r\n"
        );
        let answer = api.raw(text).await;
        let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
        assert_eq!(statuses, ["200", "200", "200", "404"]);
        assert_eq!(*api.fake.done.borrow(), [Action::Stop]);
    });
}

/// Every method and path of the OpenAPI document exists, answers a plain request with a status that the document lists,
/// and the node has no other route.
#[test]
fn the_openapi_document_and_the_routes_agree() {
    with_api(slow(), |api| async move {
        let document = parse(OPENAPI.as_bytes()).unwrap();
        let mut listed = Vec::new();
        for (path, item) in document.member("paths").unwrap().as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(m, _)| m != "parameters") {
                let method = method.to_uppercase();
                listed.push(format!("{method} {path}"));
                let body = operation.member("requestBody").map_or("", |_| "{}");
                let field = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
                let line = format!("{method} {}", path.replace("{id}", ID));
                let (status, answer) = api.ask(&line, field, body).await;
                let responses = operation.member("responses").unwrap();
                let response =
                    responses.member(&status.to_string()).unwrap_or_else(|| panic!("{line}: {answer}"));
                if let Some(content) = response.member("content") {
                    let media_type = &content.as_object().unwrap()[0].0;
                    assert!(answer.contains(&format!("Content-Type: {media_type}\r\n")), "{line}: {answer}");
                }
                let token = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                let open = !api.raw(token).await.starts_with("HTTP/1.1 401 ");
                assert_eq!(open, operation.member("security").is_some(), "{line}");
            }
        }
        let mut routes: Vec<String> = routes::list().collect();
        listed.sort();
        routes.sort();
        assert_eq!(listed, routes);
    });
}

#[test]
fn a_silent_client_is_left_and_a_slow_one_told() {
    let short = Deadlines { head: Duration::from_millis(80), body: Duration::from_millis(80) };
    with_api(short, |api| async move {
        assert_eq!(api.raw("").await, "");
        assert_eq!(slug(&api.raw("GET /sta").await), "timeout");
        let head = format!(
            "PUT /config HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\n",
            api.token
        );
        assert_eq!(slug(&api.raw(head + "{").await), "timeout");
    });
}

#[test]
fn a_hundred_requests_at_once_are_all_answered() {
    let deadlines = Deadlines { head: Duration::from_secs(1), ..slow() };
    with_api(deadlines, |api| async move {
        let ask = |n: usize| {
            let api = api.clone();
            api.executor.clone().spawn(async move {
                if n.is_multiple_of(2) {
                    return api.ask("GET /status", "", "").await.0;
                }
                // Keeps the connection for as long as the server lets it.
                let text = format!(
                    "GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
                    api.token
                );
                api.raw(text).await[9..12].parse().unwrap()
            })
        };
        let tasks: Vec<_> = (0..100).map(ask).collect();
        for task in tasks {
            assert_eq!(task.await, 200);
        }
    });
}

#[test]
fn connections_beyond_the_limit_wait_and_idle_ones_give_way() {
    with_api(slow(), |api| async move {
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            idle.push(api.connect().await);
        }
        let started = crate::clock::Clock::new();
        assert_eq!(api.ask("GET /status", "", "").await.0, 200);
        assert!(started.now().mono_ms() < 5_000);
        let mut end = [0; 1];
        assert_eq!(idle[0].read(&mut end).await.unwrap(), 0);
    });
}

//! The API over real sockets, with a fake node.
mod connections;
mod support;

use super::*;
use crate::json::parse;
use support::*;

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

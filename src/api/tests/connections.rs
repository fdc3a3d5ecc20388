//! Connections to the API: their order, their bounds, their deadlines.
use super::support::*;
use super::*;
use crate::http::head::MAX_HEAD;
use crate::http::request::MAX_BODY;
use crate::http::server::{Deadlines, MAX_CONNECTIONS};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use std::time::Duration;

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

//! The coordinator's client against the lab: a coordinator and an endpoint written from the contract alone, with other
//! implementations of every primitive. Whatever the lab records as a breach fails the test.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod lab;
mod mini_node;

use async_executor::LocalExecutor;
use async_io::Timer;
use echomesh::json::{Value, object};
use futures_lite::future;
use lab::{Lab, node, text};
use mini_node::MiniNode;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// Runs a story beside the client; the node's log is shown if it fails or takes a minute.
fn play<F: Future<Output = ()>>(name: &str, story: impl FnOnce(Rc<Lab>, Rc<MiniNode>) -> F) {
    let lab = Rc::new(Lab::up(name));
    let (node, client) = node(&lab.facts);
    struct Show(Rc<MiniNode>);
    impl Drop for Show {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{:#?}", self.0.log.borrow());
            }
        }
    }
    let _show = Show(node.clone());
    let ex = LocalExecutor::new();
    let limit = async {
        Timer::after(Duration::from_secs(60)).await;
        panic!("{name} takes too long");
    };
    let story = story(lab, node.clone());
    future::block_on(ex.run(future::or(
        story,
        future::or(limit, async {
            client.run(&*node).await;
        }),
    )));
}

async fn until(node: &MiniNode, line: &str, times: usize) {
    while node.log.borrow().iter().filter(|l| l.contains(line)).count() < times {
        Timer::after(Duration::from_millis(10)).await;
    }
}

fn session(opened: &Value) -> String {
    text(opened, &["sessionId"])
}

#[test]
fn a_session_is_opened_probed_closed_and_settled_without_a_breach() {
    play("session", |lab, node| async move {
        until(&node, "heartbeat", 1).await;
        let opened = lab.post("/open", "{}").await;
        assert_eq!(text(&opened, &["state"]), "active");
        let id = session(&opened);
        let probed = lab.post("/probe", r#"{"size":4194304,"followUps":2}"#).await;
        assert!(probed.canonical().contains("passed"), "{}", probed.canonical());
        until(&node, "probe Ok", 3).await;
        let closed = lab.post("/close", &format!(r#"{{"sessionId":"{id}"}}"#)).await;
        assert_eq!(text(&closed, &["state"]), "settled");
        until(&node, "heartbeat", 3).await;
        let verdict = lab.get(&format!("/verdict?sessionId={id}")).await;
        assert_eq!(verdict.member("ok"), Some(&Value::Bool(true)), "{}", verdict.canonical());
        lab.is_content().await;
    });
}

#[test]
fn opens_are_refused_for_the_first_reason_that_applies() {
    play("refusals", |lab, node| async move {
        until(&node, "registered", 1).await;
        for (ask, answer) in [
            (r#"{"badSignature":true}"#, "bad-signature"),
            (
                r#"{"overrides":{"nodeId":"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}"#,
                "wrong-node",
            ),
            (r#"{"overrides":{"issuedAt":"2020-01-01T00:00:00Z"}}"#, "stale"),
            (r#"{"overrides":{"tokenHash":"b3:00"}}"#, "malformed"),
            (r#"{"overrides":{"policyProfile":null}}"#, "malformed"),
            (r#"{"durationS":-5}"#, "malformed"),
            (r#"{"notBeforeS":3600}"#, "not-yet-valid"),
            (r#"{"notBeforeS":-3600,"durationS":60}"#, "expired"),
            (r#"{"overrides":{"regions":["XX"]}}"#, "region-denied"),
            (r#"{"overrides":{"category":"scraping"}}"#, "category-denied"),
            (r#"{"policyProfile":{"allowedPorts":[22]}}"#, "port-denied"),
            (r#"{"policyProfile":{"transports":["tunnel"]}}"#, "transport-unsupported"),
        ] {
            let opened = lab.post("/open", ask).await;
            assert_eq!(text(&opened, &["answer"]), answer, "{ask}");
        }
        node.paused.set(true);
        assert_eq!(text(&lab.post("/open", "{}").await, &["answer"]), "paused");
        node.paused.set(false);
        let opened = lab.post("/open", "{}").await;
        let same = object([("type", "open".into()), ("body", opened.member("open").cloned().into())]);
        lab.post("/signal", &same.canonical()).await;
        until(&node, "ignored", 1).await;
        lab.is_content().await;
    });
}

#[test]
fn faults_of_the_coordinator_are_weathered_without_a_breach() {
    play("faults", |lab, node| async move {
        until(&node, "heartbeat", 1).await;
        let order = async |faults: &[&str]| {
            for fault in faults {
                lab.post("/fault", fault).await;
            }
        };
        // Few at a time: every failure in a row doubles the pause that follows.
        order(&[
            r#"{"kind":"drop","path":"/sessions/control"}"#,
            r#"{"kind":"lose-answer","path":"/sessions/control"}"#,
            r#"{"kind":"garbage","path":"/sessions/control"}"#,
            r#"{"kind":"status","status":302,"location":"/elsewhere","path":"/nodes/heartbeat"}"#,
            r#"{"kind":"oversize","path":"/nodes/heartbeat"}"#,
        ])
        .await;
        let id = session(&lab.post("/open", "{}").await);
        order(&[r#"{"kind":"forget-cursor"}"#, r#"{"kind":"forget-node"}"#]).await;
        until(&node, "registered", 2).await;
        until(&node, "ignored", 1).await;
        order(&[
            r#"{"kind":"status","status":429,"retryAfter":2,"path":"/sessions/control"}"#,
            r#"{"kind":"status","status":503,"retryAfter":1,"path":"/attest/metering"}"#,
            r#"{"kind":"lose-answer","path":"/attest/metering"}"#,
            r#"{"kind":"delay","ms":700,"path":"/attest/metering"}"#,
        ])
        .await;
        let closed = lab.post("/close", &format!(r#"{{"sessionId":"{id}"}}"#)).await;
        assert_eq!(text(&closed, &["state"]), "settled");
        until(&node, "heartbeat", 3).await;
        assert!(node.log.borrow().iter().any(|l| l.contains("alert coordinator-malformed")));
        lab.is_content().await;
    });
}

#[test]
fn a_coordinator_whose_clock_is_years_away_is_followed() {
    play("clock", |lab, node| async move {
        until(&node, "heartbeat", 1).await;
        let years = 400_i64 * 86_400_000;
        lab.post("/fault", &format!(r#"{{"kind":"clock","offsetMs":{years}}}"#)).await;
        until(&node, "corrected", 1).await;
        until(&node, "heartbeat", 2).await;
        // The lab measures the pause between heartbeats by the clock that has just jumped.
        lab.post("/violations", "{}").await;
        let opened = lab.post("/open", "{}").await;
        assert_eq!(text(&opened, &["state"]), "active");
        let skew = node.clock.offset_ms() - years;
        assert!(skew.abs() < 3000, "{skew}");
        lab.is_content().await;
    });
}

#[test]
fn refused_and_repeated_bundles_settle_all_the_same() {
    play("bundles", |lab, node| async move {
        until(&node, "registered", 1).await;
        for (fault, seen) in [("refuse-bundles", "Refused"), ("duplicate", "Duplicate")] {
            let id = session(&lab.post("/open", "{}").await);
            lab.post("/fault", &format!(r#"{{"kind":"{fault}"}}"#)).await;
            let closed = lab.post("/close", &format!(r#"{{"sessionId":"{id}"}}"#)).await;
            assert_eq!(text(&closed, &["state"]), "settled");
            until(&node, seen, 1).await;
        }
        lab.is_content().await;
    });
}

#[test]
fn probes_that_must_not_pass_are_refused_by_name() {
    play("probes", |lab, node| async move {
        until(&node, "registered", 1).await;
        let id = session(&lab.post("/open", "{}").await);
        for (ask, refused) in [
            (r#"{"endpoint":"https://origin.lab.test/probe"}"#, "endpoint-denied"),
            (r#"{"ttl":301}"#, "expired"),
            (r#"{"size":1048575}"#, "size-denied"),
            (r#"{"overrides":{"issuedAt":"2020-01-01T00:00:00Z"}}"#, "stale"),
            (r#"{"sessionId":"00000000-0000-4000-8000-000000000000"}"#, "session-unknown"),
        ] {
            let probed = lab.post("/probe", ask).await;
            assert!(
                probed.canonical().contains(&format!(r#""refused":"{refused}""#)),
                "{}",
                probed.canonical()
            );
        }
        for (fault, refused) in [
            ("probe-signature", "endpoint-untrusted"),
            ("probe-hash", "endpoint-untrusted"),
            ("probe-nonce", "endpoint-untrusted"),
            ("probe-trailer", "fetch-failed"),
            ("probe-short", "fetch-failed"),
            ("probe-status", "fetch-failed"),
        ] {
            lab.post("/fault", &format!(r#"{{"kind":"{fault}"}}"#)).await;
            let probed = lab.post("/probe", &format!(r#"{{"sessionId":"{id}"}}"#)).await;
            let text = probed.canonical();
            assert!(text.contains(&format!(r#""refused":"{refused}""#)), "{fault}: {text}");
        }
        lab.post("/probe", r#"{"badSignature":true,"waitMs":1}"#).await;
        until(&node, "alert probe-forged", 1).await;
        lab.is_content().await;
    });
}

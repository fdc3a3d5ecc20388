//! The coordinator on a socket: reads calls, waits for long polls, writes answers.
use super::{Call, Coordinator, MAX_BODY, Outcome, Poll, Reply};
use crate::lab::clock::unix_ms;
use crate::lab::http::{self, Answer, Executor, Incomings, Payload, answer, typed};
use async_io::{Async, Timer};
use futures_rustls::TlsAcceptor;
use hyper::Response;
use hyper::header::HeaderValue;
use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

/// The coordinator as the lab's roles share it.
pub type Shared = Rc<RefCell<Coordinator>>;

/// Serves the coordinator's endpoints.
pub fn run(executor: &Executor, listener: Async<TcpListener>, tls: TlsAcceptor, shared: &Shared) {
    let shared = Rc::clone(shared);
    http::serve(executor, listener, Some(tls), move |request, _| {
        let shared = Rc::clone(&shared);
        async move { handle(&shared, request).await }
    });
}

fn now(shared: &Shared) -> i64 {
    shared.borrow().now(unix_ms())
}

async fn handle(shared: &Shared, request: Incomings) -> Answer {
    let (head, body) = request.into_parts();
    let header = |(name, value): (&hyper::header::HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let body = match http::read_body(body, MAX_BODY + 1).await {
        Ok(body) => body,
        // Longer still: the judge only needs to know that it is too long.
        Err(_) => vec![0; MAX_BODY + 1],
    };
    let call = Call {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers.iter().map(header).collect(),
        body,
        http11: head.version == hyper::Version::HTTP_11,
    };
    let at = now(shared);
    let outcome = shared.borrow_mut().receive(&call, at);
    match outcome {
        Outcome::Drop => Err(std::io::ErrorKind::ConnectionAborted.into()),
        Outcome::Reply(reply) => Ok(write(reply).await),
        Outcome::Wait(poll, wait_ms, lost) => {
            let reply = wait(shared, &poll, wait_ms).await;
            if lost { Err(std::io::ErrorKind::ConnectionAborted.into()) } else { Ok(write(reply).await) }
        }
    }
}

async fn wait(shared: &Shared, poll: &Poll, wait_ms: u64) -> Reply {
    let until = unix_ms() + i64::try_from(wait_ms).unwrap_or(0);
    loop {
        let left = u64::try_from(until - unix_ms()).unwrap_or(0);
        let at = now(shared);
        let polled = shared.borrow_mut().poll(poll, at, left == 0);
        if let Some(reply) = polled {
            return reply;
        }
        let bell = shared.borrow().bell.clone();
        bell.wait(Duration::from_millis(left)).await;
    }
}

async fn write(reply: Reply) -> Response<Payload> {
    if reply.delay_ms > 0 {
        Timer::after(Duration::from_millis(reply.delay_ms)).await;
    }
    let mut response = match (reply.raw, &reply.body) {
        (Some(raw), _) => typed(reply.status, "application/json", raw),
        (None, Some(body)) => answer(reply.status, body),
        (None, None) => typed(reply.status, "application/json", ""),
    };
    if reply.status >= 400 {
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert("content-type", kind);
    }
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

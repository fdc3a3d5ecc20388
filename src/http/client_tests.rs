use super::*;
use crate::http::testing::{Answering, Handler, Reply, TestCa, TestServer};
use async_executor::LocalExecutor;
use futures_lite::future::block_on;
use std::net::TcpListener;

const VALID: (i32, i32) = (2020, 2090);

fn always(reply: &'static str, keep: bool) -> Handler {
    Rc::new(move |_| -> Answering { Box::pin(async move { Reply { bytes: reply.into(), keep } }) })
}

fn quick() -> Limits {
    let ms = Duration::from_millis;
    let short = ms(200);
    Limits { resolve: short, connect: short, tls: short, write: short, head: short, body: short }
}

fn client(tls: Rc<ClientTls>) -> Client {
    let resolver = Rc::new(Fixed(vec!["127.0.0.1".parse().unwrap()]));
    Client::new(Egress::loopback(), resolver, tls, Rc::new(Clock::new()))
}

struct Fixture {
    ca: TestCa,
    server: TestServer,
    ex: Rc<LocalExecutor<'static>>,
}

impl Fixture {
    fn new(name: &str, years: (i32, i32), handler: Handler) -> Fixture {
        let (ca, ex) = (TestCa::new(), Rc::new(LocalExecutor::new()));
        let server = TestServer::start(&ex, Some(ca.server(name, years)), handler);
        Fixture { ca, server, ex }
    }

    fn get(&self, client: &Client, host: &str) -> Result<Response, Error> {
        let url = self.server.url(host, "/x");
        block_on(self.ex.run(client.send(&Request::new("GET", &url))))
    }
}

#[test]
fn one_connection_serves_one_request_after_the_other() {
    let handler: Handler = Rc::new(|got| {
        let body = format!("{} {} {:?}", got.method, got.target, String::from_utf8(got.body).unwrap());
        Box::pin(async move { Reply::json(200, &body) })
    });
    let f = Fixture::new("a.example", VALID, handler);
    let client = client(f.ca.trust());
    let url = f.server.url("a.example", "/x?y=1");
    let request = Request { body: Some(b"hello"), ..Request::new("POST", &url) };
    for _ in 0..3 {
        let response = block_on(f.ex.run(client.send(&request))).unwrap();
        assert_eq!((response.status, &response.body[..]), (200, &b"POST /x?y=1 \"hello\""[..]));
    }
    assert_eq!((f.server.connections.get(), client.kept()), (1, 1));
}

#[test]
fn chunked_and_unbounded_bodies_are_read_and_interim_responses_skipped() {
    let chunked = "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let f = Fixture::new("a.example", VALID, always(chunked, true));
    let keeps = client(f.ca.trust());
    assert_eq!(f.get(&keeps, "a.example").unwrap().body, b"abcde");
    assert_eq!(keeps.kept(), 1);
    let f = Fixture::new("a.example", VALID, always("HTTP/1.1 200 OK\r\n\r\nto the end", false));
    let drops = client(f.ca.trust());
    assert_eq!(f.get(&drops, "a.example").unwrap().body, b"to the end");
    assert_eq!(drops.kept(), 0);
}

#[test]
fn a_connection_that_the_server_has_closed_is_not_used_again() {
    let f = Fixture::new("a.example", VALID, always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false));
    let client = client(f.ca.trust());
    for n in 1..4 {
        assert_eq!(f.get(&client, "a.example").unwrap().body, b"ok");
        assert_eq!(f.server.connections.get(), n);
        // Until the server's end of the connection has arrived.
        block_on(f.ex.run(async_io::Timer::after(Duration::from_millis(30))));
    }
}

#[test]
fn idle_connections_are_bounded() {
    let f = Fixture::new("127.0.0.1", VALID, always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true));
    let client = client(f.ca.trust());
    let url = f.server.url("127.0.0.1", "/");
    block_on(f.ex.run(async {
        let all = (0..MAX_IDLE + 2).map(|_| Request::new("GET", &url)).collect::<Vec<_>>();
        let mut sending: Vec<_> = all.iter().map(|r| Box::pin(client.send(r))).collect();
        for s in &mut sending {
            let _ = futures_lite::future::poll_once(s.as_mut()).await;
        }
        for s in sending {
            s.await.unwrap();
        }
    }));
    assert_eq!(f.server.connections.get(), MAX_IDLE + 2);
    assert_eq!(client.kept(), MAX_IDLE);
}

#[test]
fn a_body_is_taken_up_to_the_limit() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    let f = Fixture::new("a.example", VALID, always(reply, true));
    let client = client(f.ca.trust());
    let url = f.server.url("a.example", "/");
    let send = |max_body| {
        let request = Request { max_body, ..Request::new("GET", &url) };
        block_on(f.ex.run(client.send(&request)))
    };
    assert_eq!(send(10).unwrap().body.len(), 10);
    assert!(matches!(send(9), Err(Error::TooLarge(9))));
}

#[test]
fn a_certificate_must_be_of_the_name_of_the_ca_and_of_the_time() {
    let ok = || always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true);
    let f = Fixture::new("a.example", VALID, ok());
    assert!(f.get(&client(f.ca.trust()), "a.example").is_ok());
    assert!(matches!(f.get(&client(f.ca.trust()), "b.example"), Err(Error::Tls(_))));
    assert!(matches!(f.get(&client(TestCa::new().trust()), "a.example"), Err(Error::Tls(_))));
    for years in [(2020, 2021), (2090, 2091)] {
        let f = Fixture::new("a.example", years, ok());
        assert!(
            matches!(f.get(&client(f.ca.trust()), "a.example"), Err(Error::CertificateTime(_))),
            "{years:?}"
        );
    }
}

#[test]
fn a_certificate_that_was_not_yet_valid_is_taken_once_time_is_known_to_have_passed() {
    let f =
        Fixture::new("a.example", (2090, 2095), always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true));
    let time = crate::tls::client::CertificateTime::new(0);
    let tls = ClientTls::new(crate::tls::client::Roots::File(f.ca.file.clone()), time.clone());
    let client = client(Rc::new(tls));
    assert!(matches!(f.get(&client, "a.example"), Err(Error::CertificateTime(_))));
    time.raise(crate::time::Unix::parse("2091-01-01T00:00:00Z").unwrap().0.unsigned_abs());
    assert!(f.get(&client, "a.example").is_ok());
}

#[test]
fn a_missing_ca_file_trusts_nobody() {
    let f = Fixture::new("a.example", VALID, always("", false));
    let (gone, time) = (f.ca.file.with_extension("gone"), crate::tls::client::CertificateTime::new(0));
    let tls = ClientTls::new(crate::tls::client::Roots::File(gone), time);
    assert!(matches!(f.get(&client(Rc::new(tls)), "a.example"), Err(Error::Trust(_))));
}

#[test]
fn each_phase_has_its_deadline() {
    let (ca, ex) = (TestCa::new(), Rc::new(LocalExecutor::new()));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://a.example:{}/", silent.local_addr().unwrap().port())).unwrap();
    let quick_client = || client(ca.trust()).with_limits(quick());
    let result = block_on(ex.run(quick_client().send(&Request::new("GET", &url))));
    assert!(matches!(result, Err(Error::Timeout(Phase::Tls))), "{result:?}");
    let never: Handler = Rc::new(|_| Box::pin(std::future::pending()));
    let f = Fixture::new("a.example", VALID, never);
    let result = f.get(&client(f.ca.trust()).with_limits(quick()), "a.example");
    assert!(matches!(result, Err(Error::Timeout(Phase::Head))), "{result:?}");
    let half = always("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", true);
    let f = Fixture::new("a.example", VALID, half);
    let result = f.get(&client(f.ca.trust()).with_limits(quick()), "a.example");
    assert!(matches!(result, Err(Error::Timeout(Phase::Body))), "{result:?}");
}

#[test]
fn patience_is_added_to_the_wait_for_an_answer() {
    let slow: Handler = Rc::new(|_| {
        Box::pin(async {
            async_io::Timer::after(Duration::from_millis(400)).await;
            Reply::json(200, "{}")
        })
    });
    let f = Fixture::new("a.example", VALID, slow);
    let client = client(f.ca.trust()).with_limits(quick());
    let url = f.server.url("a.example", "/");
    let request = Request { patience: Duration::from_secs(5), ..Request::new("GET", &url) };
    assert_eq!(block_on(f.ex.run(client.send(&request))).unwrap().status, 200);
}

#[test]
fn redirects_are_not_followed_and_content_codings_not_taken() {
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n";
    let f = Fixture::new("a.example", VALID, always(redirect, true));
    assert_eq!(f.get(&client(f.ca.trust()), "a.example").unwrap().status, 302);
    let coded = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n";
    let f = Fixture::new("a.example", VALID, always(coded, true));
    assert!(matches!(f.get(&client(f.ca.trust()), "a.example"), Err(Error::ContentCoding)));
}

#[test]
fn a_torn_answer_is_an_error() {
    let f = Fixture::new("a.example", VALID, always("", false));
    assert!(matches!(f.get(&client(f.ca.trust()), "a.example"), Err(Error::Io(_))));
    for torn in ["HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
        let f = Fixture::new("a.example", VALID, always(torn, false));
        let result = f.get(&client(f.ca.trust()), "a.example");
        assert!(matches!(result, Err(Error::Malformed(Malformed::Truncated))), "{torn:?} {result:?}");
    }
}

#[test]
fn nobody_listening_and_no_address_are_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ca = TestCa::new();
    let send = |client: Client, host: &str| {
        let url = Url::parse(&format!("https://{host}:{closed}/")).unwrap();
        block_on(client.send(&Request::new("GET", &url)))
    };
    assert!(matches!(send(client(ca.trust()), "a.example"), Err(Error::Connect(_))));
    assert!(matches!(send(client(ca.trust()), "127.0.0.1"), Err(Error::Connect(_))));
    let nowhere = Client::new(Egress::loopback(), Rc::new(Fixed(vec![])), ca.trust(), Rc::new(Clock::new()));
    assert!(matches!(send(nowhere, "a.example"), Err(Error::Resolve(_))));
}

/// The line changes while an exchange waits: it is to be tried again at once, not when its deadline is over.
#[test]
fn another_line_ends_what_waits_and_what_was_kept() {
    let handler: Handler = Rc::new(|got| -> Answering {
        Box::pin(async move {
            if got.target == "/slow" {
                async_io::Timer::after(Duration::from_secs(30)).await;
            }
            Reply::json(200, "{}")
        })
    });
    let f = Fixture::new("a.example", VALID, handler);
    let client = client(f.ca.trust());
    assert_eq!(f.get(&client, "a.example").unwrap().status, 200);
    assert_eq!(client.kept(), 1);
    client.egress.set_wan(None);
    assert_eq!(f.get(&client, "a.example").unwrap().status, 200);
    assert_eq!(f.server.connections.get(), 2, "the kept one belonged to the old line");
    let slow = f.server.url("a.example", "/slow");
    let request = Request { patience: Duration::from_secs(30), ..Request::new("GET", &slow) };
    let change = async {
        async_io::Timer::after(Duration::from_millis(50)).await;
        client.egress.set_wan(None);
        futures_lite::future::pending().await
    };
    let ended = block_on(f.ex.run(futures_lite::future::or(client.send(&request), change)));
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
}

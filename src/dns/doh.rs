//! DNS over HTTPS (RFC 8484): one POST for A and one for AAAA, both at once.
use super::message::{self, Found, Kind};
use super::{Answer, ResolveError};
use crate::http::client::{Client, Error, MAX_IDLE, Request};
use crate::http::url::Url;
use crate::mutant::out;
use futures_lite::future;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A DNS message is no longer.
const MAX_MESSAGE: usize = 64 * 1024;
const TYPE: &str = "application/dns-message";
/// Questions under way at a time. The others wait: to open a connection for each of a burst would cost a router more than
/// all the answers.
const MAX_EXCHANGES: usize = MAX_IDLE;

/// A resolver at a URL.
pub(super) struct Doh {
    url: Url,
    client: Client,
    under_way: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

/// A question under way. The next may go when it is dropped.
struct Turn<'a>(&'a Doh);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        // All of them: the first may have been given up.
        self.0.waiting.take().into_iter().for_each(Waker::wake);
    }
}

impl Doh {
    pub fn new(url: Url, client: Client) -> Doh {
        Doh { url, client, under_way: Cell::new(0), waiting: RefCell::default() }
    }

    async fn turn(&self) -> Turn<'_> {
        poll_fn(|cx| {
            if self.under_way.get() < MAX_EXCHANGES {
                self.under_way.set(self.under_way.get() + 1);
                return Poll::Ready(Turn(self));
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|w| w.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// All addresses, and seconds for which they hold. Both questions must be answered: an address that was not seen
    /// could be one that refuses the name.
    pub async fn ask(&self, host: &str) -> (Result<Answer, ResolveError>, u32) {
        let both = future::zip(self.ask_one(host, Kind::A), self.ask_one(host, Kind::Aaaa)).await;
        let (v4, v6) = match both {
            (Ok(v4), Ok(v6)) => (v4, v6),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) if out("both-families-answered") => (one, Found::default()),
            (Err(e), _) | (_, Err(e)) => return (Err(e), 0),
        };
        let ttl_s = v4.ttl_s.min(v6.ttl_s);
        let mut aliases = v4.aliases;
        aliases.extend(v6.aliases);
        aliases.sort_unstable();
        aliases.dedup();
        let addresses: Vec<_> = v4.addresses.into_iter().chain(v6.addresses).collect();
        if addresses.is_empty() {
            (Err(ResolveError::NoAddress), ttl_s)
        } else {
            (Ok(Answer { addresses, aliases }), ttl_s)
        }
    }

    async fn ask_one(&self, host: &str, kind: Kind) -> Result<Found, ResolveError> {
        let question = message::question(host, kind)?;
        let _turn = self.turn().await;
        let fields = [("Accept", TYPE.to_owned()), ("Content-Type", TYPE.to_owned())];
        let request = Request {
            headers: &fields,
            body: Some(&question),
            max_body: MAX_MESSAGE,
            ..Request::new("POST", &self.url)
        };
        let response = match self.client.send(&request).await {
            // A kept connection had gone stale.
            Err(Error::Closed) => self.client.send(&request).await,
            other => other,
        };
        let response = response.map_err(|_| ResolveError::Failed)?;
        let typed = response.headers.get("content-type").is_some_and(is_dns_message);
        if response.status != 200 || !typed {
            return Err(ResolveError::Failed);
        }
        message::answer(&response.body, host, kind)
    }
}

fn is_dns_message(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::egress::Egress;
    use crate::http::client::Fixed;
    use crate::tls::client::{CertificateTime, ClientTls, Roots};
    use simple_dns::rdata::{A, AAAA, CNAME, RData};
    use simple_dns::{CLASS, Name, Packet, QTYPE, ResourceRecord, TYPE as RecordType};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    type Reply = fn(&Packet<'_>) -> (&'static str, Vec<u8>);

    struct Server {
        url: Url,
        accepted: Arc<AtomicUsize>,
        heads: Arc<Mutex<Vec<String>>>,
    }

    fn serve(reply: Reply) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/dns-query", listener.local_addr().unwrap())).unwrap();
        let (accepted, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counter, log) = (accepted.clone(), heads.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                let log = log.clone();
                std::thread::spawn(move || exchange(stream.unwrap(), reply, &log));
            }
        });
        Server { url, accepted, heads }
    }

    fn exchange(mut stream: std::net::TcpStream, reply: Reply, log: &Mutex<Vec<String>>) {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            bytes.extend_from_slice(&piece[..n]);
            let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
            let length = text.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap();
            if bytes.len() < head + 4 + length.parse::<usize>().unwrap() {
                continue;
            }
            let (status, body) = reply(&Packet::parse(&bytes[head + 4..]).unwrap());
            let fields = format!("Content-Type: {TYPE}\r\nContent-Length: {}", body.len());
            stream.write_all(format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n").as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            log.lock().unwrap().push(text);
            bytes.clear();
        }
    }

    fn record<'a>(name: &str, rdata: RData<'a>) -> ResourceRecord<'a> {
        ResourceRecord::new(Name::new(name).unwrap().into_owned(), CLASS::IN, 60, rdata)
    }

    fn aliased(asked: &Packet<'_>) -> (&'static str, Vec<u8>) {
        let mut reply = asked.clone().into_reply();
        let v4 = asked.questions[0].qtype == QTYPE::TYPE(RecordType::A);
        reply.answers.push(record("a.test", RData::CNAME(CNAME(Name::new("b.test").unwrap()))));
        reply.answers.push(if v4 {
            record("b.test", RData::A(A { address: 0x0101_0101 }))
        } else {
            record("b.test", RData::AAAA(AAAA { address: 1 }))
        });
        ("200 OK", reply.build_bytes_vec().unwrap())
    }

    fn doh(server: &Server) -> Doh {
        let tls = ClientTls::new(Roots::System, CertificateTime::new(0));
        Doh::new(
            server.url.clone(),
            Client::new(Egress::loopback(), Rc::new(Fixed(vec![])), Rc::new(tls), Rc::new(Clock::new())),
        )
    }

    #[test]
    fn both_kinds_are_asked_on_kept_connections() {
        let server = serve(aliased);
        let doh = doh(&server);
        for _ in 0..3 {
            let (found, ttl_s) = async_io::block_on(doh.ask("a.test"));
            let want = Answer {
                addresses: vec!["1.1.1.1".parse().unwrap(), "::1".parse().unwrap()],
                aliases: vec!["b.test".into()],
            };
            assert_eq!((found, ttl_s), (Ok(want), 60));
        }
        assert_eq!(server.accepted.load(Ordering::SeqCst), 2);
        let heads = server.heads.lock().unwrap();
        assert_eq!(heads.len(), 6);
        assert!(heads.iter().all(|h| {
            h.starts_with("POST /dns-query HTTP/1.1\r\n")
                && h.contains("\r\nContent-Type: application/dns-message")
        }));
    }

    #[test]
    fn a_burst_of_questions_shares_few_connections() {
        let server = serve(aliased);
        let (doh, executor) = (Rc::new(doh(&server)), async_executor::LocalExecutor::new());
        let ask = |_| {
            let doh = doh.clone();
            executor.spawn(async move { doh.ask("a.test").await.0.is_ok() })
        };
        let asked: Vec<_> = (0..40).map(ask).collect();
        async_io::block_on(executor.run(async {
            for one in asked {
                assert!(one.await);
            }
        }));
        let accepted = server.accepted.load(Ordering::SeqCst);
        assert!(accepted <= MAX_EXCHANGES, "{accepted}");
    }

    #[test]
    fn half_an_answer_is_none() {
        let server = serve(|asked| {
            let v4 = asked.questions[0].qtype == QTYPE::TYPE(RecordType::A);
            if v4 { aliased(asked) } else { ("503 Service Unavailable", Vec::new()) }
        });
        let (found, _) = async_io::block_on(doh(&server).ask("a.test"));
        assert_eq!(found, Err(ResolveError::Failed));
    }

    #[test]
    fn a_name_without_addresses_is_told_from_a_failure() {
        let server = serve(|asked| ("200 OK", asked.clone().into_reply().build_bytes_vec().unwrap()));
        assert_eq!(async_io::block_on(doh(&server).ask("a.test")), (Err(ResolveError::NoAddress), 60));
    }
}

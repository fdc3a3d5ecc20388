//! Names of the lab: a zone served by DNS over HTTPS (RFC 8484) and, if asked for, by UDP.
use super::http::{self, Answer, Executor, Incomings, problem, typed};
use super::json::{Json, Members, as_str, number, object, text};
use super::text::{query, unbase64url};
use async_io::{Async, Timer};
use futures_rustls::TlsAcceptor;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hyper::Method;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

/// Names in a zone.
const MAX_NAMES: usize = 10_000;
/// Links of a chain of aliases followed in one answer.
const MAX_CHAIN: usize = 32;

/// What a name answers.
#[derive(Clone, Default)]
pub struct Entry {
    addresses: Vec<IpAddr>,
    cname: Option<String>,
    ttl: u32,
    fail: String,
    times: i64,
    /// What it answers after so many answers for IPv4.
    then: Option<Vec<IpAddr>>,
    after: i64,
}

/// Names, counters.
#[derive(Default)]
pub struct Zone {
    names: RefCell<BTreeMap<String, Entry>>,
    queries: Cell<u64>,
    by_name: RefCell<BTreeMap<String, u64>>,
}

/// What to send: an answer's bytes, an HTTP status instead, or nothing for a long time.
enum Said {
    Answer(Vec<u8>),
    Status(u16),
    Silence,
}

impl Zone {
    /// Sets a name's addresses. `*.suffix` stands for every name below it that has no entry of its own.
    pub fn set(&self, name: &str, addresses: Vec<IpAddr>) {
        let entry = Entry { addresses, ttl: 60, times: -1, ..Entry::default() };
        self.names.borrow_mut().insert(plain(name), entry);
    }

    /// Takes `{name, addresses?, cname?, ttl?, then?, after?, fail?, times?, remove?}`; after `after` answers (1) for IPv4
    /// the name has the addresses of `then`; `fail` is `servfail`, `nxdomain`,
    /// `refused`, `timeout`, `garbage`, `http` and holds for `times` answers (−1, the default: for good).
    pub fn apply(&self, ask: &Json) -> Result<Json, String> {
        let name = plain(ask.str("name").ok_or("a zone entry needs a name")?);
        if ask.member("remove") == Some(&Json::Boolean(true)) {
            self.names.borrow_mut().remove(&name);
            return Ok(object([("removed", text(name))]));
        }
        let addresses = addresses_of(ask, "addresses")?;
        let then = addresses_of(ask, "then")?;
        let old = self.names.borrow().get(&name).cloned().unwrap_or_default();
        let entry = Entry {
            addresses: if ask.member("addresses").is_some() { addresses } else { old.addresses },
            cname: ask.str("cname").map(plain).or(old.cname.filter(|_| ask.member("addresses").is_none())),
            ttl: ask.int("ttl").and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or(60),
            fail: ask.str("fail").unwrap_or_default().to_owned(),
            times: ask.int("times").unwrap_or(-1),
            then: ask.member("then").map(|_| then),
            after: ask.int("after").unwrap_or(1),
        };
        if self.names.borrow().len() >= MAX_NAMES {
            return Err(format!("a zone has at most {MAX_NAMES} names"));
        }
        self.names.borrow_mut().insert(name.clone(), entry);
        Ok(object([("set", text(name))]))
    }

    /// Counters and names for the control API.
    pub fn to_json(&self) -> Json {
        let names = self.names.borrow();
        let one = |(name, entry): (&String, &Entry)| {
            let addresses = entry.addresses.iter().map(|address| text(address.to_string())).collect();
            (name.clone(), Json::Array(addresses))
        };
        let counts = self.by_name.borrow().iter().map(|(name, n)| (name.clone(), number(*n))).collect();
        object([
            ("queries", number(self.queries.get())),
            ("byName", Json::Object(counts)),
            ("names", Json::Object(names.iter().map(one).collect())),
        ])
    }

    fn find(&self, name: &str) -> Option<Entry> {
        let names = self.names.borrow();
        if let Some(entry) = names.get(name) {
            return Some(entry.clone());
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(entry) = names.get(&format!("*.{parent}")) {
                return Some(entry.clone());
            }
            rest = parent;
        }
        None
    }

    fn failure(&self, name: &str) -> String {
        let mut names = self.names.borrow_mut();
        let Some(entry) = names.get_mut(name).filter(|entry| !entry.fail.is_empty()) else {
            return String::new();
        };
        let fail = entry.fail.clone();
        entry.times -= 1;
        if entry.times == 0 {
            entry.fail.clear();
        }
        fail
    }

    fn say(&self, wire: &[u8]) -> Said {
        let Ok(request) = Message::from_vec(wire) else { return Said::Status(400) };
        let Some(asked) =
            request.queries.first().filter(|_| request.metadata.message_type == MessageType::Query)
        else {
            return Said::Status(400);
        };
        let name = plain(&asked.name().to_ascii());
        self.queries.set(self.queries.get() + 1);
        if self.by_name.borrow().len() < MAX_NAMES {
            *self.by_name.borrow_mut().entry(name.clone()).or_default() += 1;
        }
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata.recursion_desired = request.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_query(asked.clone());
        match self.failure(&name).as_str() {
            "timeout" => return Said::Silence,
            "http" => return Said::Status(500),
            "garbage" => return Said::Answer(vec![0xff; 9]),
            "servfail" => response.metadata.response_code = ResponseCode::ServFail,
            "refused" => response.metadata.response_code = ResponseCode::Refused,
            "nxdomain" => response.metadata.response_code = ResponseCode::NXDomain,
            _ => self.fill(&mut response, asked, name),
        }
        response.to_vec().map_or(Said::Status(500), Said::Answer)
    }

    fn fill(&self, response: &mut Message, asked: &Query, mut name: String) {
        for _ in 0..MAX_CHAIN {
            let Some(entry) = self.find(&name) else {
                response.metadata.response_code = ResponseCode::NXDomain;
                return;
            };
            let Ok(owner) = Name::from_ascii(format!("{name}.")) else { return };
            if let Some(target) = entry.cname {
                let Ok(alias) = Name::from_ascii(format!("{target}.")) else { return };
                response.add_answer(Record::from_rdata(owner, entry.ttl, RData::CNAME(CNAME(alias))));
                name = target;
                continue;
            }
            for address in self.turn(&name, &entry, asked.query_type()) {
                let data = match address {
                    IpAddr::V4(v4) if asked.query_type() == RecordType::A => RData::A(A(v4)),
                    IpAddr::V6(v6) if asked.query_type() == RecordType::AAAA => RData::AAAA(AAAA(v6)),
                    _ => continue,
                };
                response.add_answer(Record::from_rdata(owner.clone(), entry.ttl, data));
            }
            return;
        }
    }

    /// The addresses of now; one answer more is given of those that change.
    fn turn(&self, name: &str, entry: &Entry, kind: RecordType) -> Vec<IpAddr> {
        let Some(then) = &entry.then else { return entry.addresses.clone() };
        if kind == RecordType::A
            && let Some(kept) = self.names.borrow_mut().get_mut(name)
        {
            kept.after -= 1;
        }
        if entry.after > 0 { entry.addresses.clone() } else { then.clone() }
    }

    async fn handle(&self, request: Incomings) -> Answer {
        if request.uri().path() != "/dns-query" {
            return Ok(problem(404, "not-found", "the resolver is at /dns-query"));
        }
        let wire = if request.method() == Method::POST {
            let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok());
            if kind != Some("application/dns-message") {
                return Ok(problem(415, "media-type", "POST application/dns-message"));
            }
            http::read_body(request.into_body(), 65_535).await.unwrap_or_default()
        } else {
            let coded = query(request.uri().query().unwrap_or_default(), "dns");
            coded.and_then(|coded| unbase64url(&coded)).unwrap_or_default()
        };
        match self.say(&wire) {
            Said::Answer(bytes) => Ok(typed(200, "application/dns-message", bytes)),
            Said::Status(status) => Ok(problem(status, "dns", "no answer to this query")),
            Said::Silence => {
                Timer::after(Duration::from_secs(60)).await;
                Err(std::io::ErrorKind::TimedOut.into())
            }
        }
    }
}

fn addresses_of(ask: &Json, member: &str) -> Result<Vec<IpAddr>, String> {
    let one = |raw: &Json| {
        let raw = as_str(raw).unwrap_or_default();
        raw.parse().map_err(|_| format!("{raw:?} is no address"))
    };
    ask.list(member).iter().map(one).collect()
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Serves DNS over HTTPS.
pub fn run(executor: &Executor, listener: Async<TcpListener>, tls: TlsAcceptor, zone: &Rc<Zone>) {
    let zone = Rc::clone(zone);
    http::serve(executor, listener, Some(tls), move |request, _| {
        let zone = Rc::clone(&zone);
        async move { zone.handle(request).await }
    });
}

/// Serves DNS over UDP.
pub fn run_udp(executor: &Executor, socket: Async<UdpSocket>, zone: &Rc<Zone>) {
    let zone = Rc::clone(zone);
    let serving = async move {
        let mut buffer = [0; 4096];
        loop {
            let Ok((len, peer)) = socket.recv_from(&mut buffer).await else {
                Timer::after(Duration::from_millis(50)).await;
                continue;
            };
            if let Said::Answer(bytes) = zone.say(buffer.get(..len).unwrap_or_default()) {
                let _ = socket.send_to(&bytes, peer).await;
            }
        }
    };
    executor.spawn(serving).detach();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::json::parse;

    fn ask(zone: &Zone, name: &str, kind: RecordType) -> Message {
        let mut request = Message::query();
        request.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        match zone.say(&request.to_vec().unwrap()) {
            Said::Answer(bytes) => Message::from_vec(&bytes).unwrap(),
            _ => panic!("no answer"),
        }
    }

    #[test]
    fn addresses_aliases_and_wildcards_answer() {
        let zone = Zone::default();
        zone.set("origin.lab.test", vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]);
        zone.set("*.wild.test", vec!["192.0.2.7".parse().unwrap()]);
        zone.apply(&parse(br#"{"name":"alias.test","cname":"origin.lab.test","ttl":5}"#).unwrap()).unwrap();
        assert_eq!(ask(&zone, "Origin.lab.test.", RecordType::A).answers.len(), 1);
        assert_eq!(ask(&zone, "origin.lab.test.", RecordType::AAAA).answers.len(), 1);
        assert_eq!(ask(&zone, "alias.test.", RecordType::A).answers.len(), 2);
        assert_eq!(ask(&zone, "a.b.wild.test.", RecordType::A).answers.len(), 1);
        let missing = ask(&zone, "nobody.test.", RecordType::A);
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn a_failure_lasts_as_often_as_ordered() {
        let zone = Zone::default();
        zone.set("a.test", vec!["192.0.2.1".parse().unwrap()]);
        zone.apply(&parse(br#"{"name":"a.test","fail":"servfail","times":1}"#).unwrap()).unwrap();
        assert_eq!(ask(&zone, "a.test.", RecordType::A).metadata.response_code, ResponseCode::ServFail);
        assert_eq!(ask(&zone, "a.test.", RecordType::A).answers.len(), 1, "the addresses stay");
    }
}

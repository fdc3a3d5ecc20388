//! The lab in a process of its own, and a client that speaks to it.
use super::mini_node::MiniNode;
use async_io::Timer;
use echomesh::clock::Clock;
use echomesh::coordinator::client::{Client, Settings};
use echomesh::egress::Egress;
use echomesh::http::client::{Client as Http, Fixed, Request};
use echomesh::http::url::Url;
use echomesh::json::{self, Value};
use echomesh::probe::fetch::Fetcher;
use echomesh::signed::{NodeKey, PublicKey};
use echomesh::tls::client::{CertificateTime, ClientTls, Roots};
use futures_lite::future;
use std::cell::{Cell, OnceCell, RefCell};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// A lab in a process of its own, stopped when dropped.
pub struct Lab {
    child: Child,
    dir: PathBuf,
    pub facts: Value,
    control: Http,
}

impl Lab {
    #[allow(clippy::disallowed_methods, reason = "the lab is another process")]
    pub fn up(name: &str) -> Lab {
        let dir = std::env::temp_dir().join(format!("echomesh-coordinator-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_echomesh-lab"));
        command.arg("up").arg("--dir").arg(&dir).args(["--heartbeat", "1000"]);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let file = dir.join("lab.json");
        let facts = future::block_on(async {
            for _ in 0..500 {
                if let Some(facts) = std::fs::read(&file).ok().and_then(|b| json::parse(&b).ok()) {
                    return facts;
                }
                Timer::after(Duration::from_millis(20)).await;
            }
            panic!("the lab did not start");
        });
        let control = client(&facts);
        Lab { child, dir, facts, control }
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let base = text(&self.facts, &["control", "url"]);
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q.to_owned())));
        let url = Url::parse(&base).unwrap().below(path, query);
        let bytes = body.map(|b| b.canonical().into_bytes());
        let request = Request {
            body: bytes.as_deref(),
            patience: Duration::from_secs(30),
            max_body: 16 << 20,
            ..Request::new(method, &url)
        };
        let response = self.control.send(&request).await.unwrap();
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, 200, "{path}: {text}");
        json::parse(text.as_bytes()).unwrap()
    }

    pub async fn post(&self, path: &str, body: &str) -> Value {
        let mut body = json::parse(body.as_bytes()).unwrap();
        if matches!(path, "/open" | "/close" | "/probe") && body.member("waitMs").is_none() {
            body.set("waitMs", 20_000);
        }
        self.call("POST", path, Some(body)).await
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).await
    }

    /// Nothing that the lab calls a breach.
    pub async fn is_content(&self) {
        let violations = self.get("/violations").await;
        assert_eq!(violations, Value::Array(vec![]), "{}", violations.canonical());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A text member, by its path.
pub fn text(value: &Value, path: &[&str]) -> String {
    let found = path.iter().try_fold(value, |v, name| v.member(name));
    found.and_then(Value::as_str).unwrap_or_else(|| panic!("{path:?} in {}", value.canonical())).to_owned()
}

fn tls(facts: &Value) -> Rc<ClientTls> {
    Rc::new(ClientTls::new(Roots::File(text(facts, &["caFile"]).into()), CertificateTime::new(0)))
}

fn client(facts: &Value) -> Http {
    let resolver = Rc::new(Fixed(vec!["127.0.0.1".parse().unwrap()]));
    Http::new(Egress::loopback(), resolver, tls(facts), Rc::new(Clock::new()))
}

/// A node and its client, configured from the lab's facts.
pub fn node(facts: &Value) -> (Rc<MiniNode>, Rc<Client>) {
    let key = Rc::new(NodeKey::from_seed(&[42; 32]).unwrap());
    let clock = Rc::new(Clock::new());
    let coordinator = PublicKey::parse(&text(facts, &["coordinatorPublicKey"])).unwrap();
    let port = facts.member("endpoint").and_then(|e| e.member("port")).and_then(Value::as_int).unwrap();
    let endpoint_port = u16::try_from(port).unwrap();
    let origin = facts.member("origin").and_then(|e| e.member("port")).and_then(Value::as_int).unwrap();
    let settings = Settings {
        url: Url::parse(&text(facts, &["coordinator", "url"])).unwrap(),
        coordinator,
        allow_plain_probes: false,
        extra_ports: vec![endpoint_port, u16::try_from(origin).unwrap()],
        wait_ms: 2000,
    };
    let resolver = Rc::new(Fixed(vec!["127.0.0.1".parse().unwrap()]));
    let fetcher = Fetcher { egress: Egress::loopback(), resolver, tls: tls(facts), clock: clock.clone() };
    let http = client(facts);
    let client = Rc::new(Client::new(settings, key.clone(), clock.clone(), http, fetcher));
    let node = Rc::new(MiniNode {
        key,
        clock,
        coordinator,
        endpoint_port: u16::try_from(origin).unwrap(),
        cursor: RefCell::default(),
        known: RefCell::default(),
        active: RefCell::default(),
        outbox: RefCell::default(),
        hosts: RefCell::default(),
        nonces: RefCell::default(),
        log: RefCell::default(),
        paused: Cell::new(false),
        client: OnceCell::new(),
    });
    let _ = node.client.set(client.clone());
    (node, client)
}

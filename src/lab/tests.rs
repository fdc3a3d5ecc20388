//! The roles on sockets, with a node and a buyer played by the test.
use super::args::{self, Command};
use super::client::{self, Duplex};
use super::http::{Executor, Payload};
use super::json::{Json, Members, canonical, object, parse, text};
use super::keys::{self, Key};
use super::{blake3, clock, httpsig, pki, up};
use async_io::Async;
use http_body_util::BodyExt;
use hyper::Request;
use rustls::pki_types::ServerName;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::rc::Rc;

struct Lab {
    executor: Executor,
    dir: PathBuf,
    state: Json,
    node: Key,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Lab {
    fn start(executor: &Executor, name: &str) -> Lab {
        let dir = std::env::temp_dir().join(format!("echomesh-lab-{}-{name}", std::process::id()));
        let flags = ["up", "--dir", dir.to_str().unwrap(), "--zone", "lan.test=192.168.1.1"];
        let Ok(Command::Up(up)) = args::parse(flags.map(Into::into)) else { panic!("flags") };
        let state = up::start(executor, &up).unwrap();
        Lab { executor: Rc::clone(executor), dir, state, node: Key::from_seed([6; 32]) }
    }

    fn address(&self, role: &str) -> SocketAddr {
        self.state.member(role).unwrap().str("address").unwrap().parse().unwrap()
    }

    async fn connect(&self, role: &str) -> Box<dyn Duplex> {
        let stream = Async::<TcpStream>::connect(self.address(role)).await.unwrap();
        if role == "control" {
            return Box::new(stream);
        }
        let config = client::tls(Some(pki::roots(&self.dir.join("ca.pem")).unwrap()), None, false).unwrap();
        let name = self.state.member(role).unwrap().str("name").unwrap().to_owned();
        let name = ServerName::try_from(name).unwrap();
        Box::new(client::connector(config).connect(name, stream).await.unwrap())
    }

    async fn fetch(&self, role: &str, request: Request<Payload>) -> (u16, Vec<u8>) {
        let stream = self.connect(role).await;
        let response = client::exchange(&self.executor, stream, request).await.unwrap();
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    async fn get(&self, role: &str, path: &str) -> Vec<u8> {
        let request = Request::get(path).header("host", "x").body(Payload::from("")).unwrap();
        self.fetch(role, request).await.1
    }

    async fn ask(&self, path: &str, body: &str) -> Json {
        let request = Request::post(path).header("host", "x").body(Payload::from(body.to_owned())).unwrap();
        parse(&self.fetch("control", request).await.1).unwrap()
    }

    async fn signed(&self, method: &str, target: &str, body: &str) -> (u16, Json) {
        let authority = self.state.member("coordinator").unwrap().str("host").unwrap().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let message = httpsig::Message {
            method,
            authority: &authority,
            path,
            query,
            headers: &[],
            body: body.as_bytes(),
        };
        let nonce = super::text::base64(&keys::random::<16>());
        let mut builder = Request::builder().method(method).uri(target).header("host", &authority);
        for (name, value) in httpsig::sign(&self.node, &message, clock::unix_ms() / 1000, &nonce) {
            builder = builder.header(name, value);
        }
        let request = builder.header("content-type", "application/json").body(Payload::from(body.to_owned()));
        let (status, body) = self.fetch("coordinator", request.unwrap()).await;
        (status, parse(&body).unwrap_or(Json::Null))
    }

    async fn register(&self) {
        let body = format!(
            r#"{{"nodeId":"{}","version":"0","platform":"test","regions":["LAB-1"],"transports":[{{"kind":"relay","port":1}}],
            "caps":{{"maxMbps":1,"maxGBPerDay":1,"maxConnections":1}},"tls":{{"spki":"sha256//{}"}}}}"#,
            self.node.node_id(),
            super::text::base64(&[0; 32])
        );
        let (status, body) = self.signed("POST", "/nodes/register", &body).await;
        assert_eq!(status, 200, "{}", canonical(&body));
        assert_eq!(body.list("probeHosts")[0].str("host"), Some("endpoint.lab.test"));
    }

    async fn play_a_session(&self) {
        let (_, body) = self.signed("GET", "/sessions/control?cursor=&waitMs=5000", "").await;
        let session = body.list("signals")[0].member("body").unwrap().str("sessionId").unwrap().to_owned();
        let limits =
            object([("maxMbps", 1.0.into()), ("maxGBPerDay", 1.0.into()), ("maxConnections", 1.0.into())]);
        for step in ["accepted", "active"] {
            let mut body = object([
                ("sessionId", text(session.clone())),
                ("transition", text(step)),
                ("at", text(clock::instant(clock::unix_ms()))),
            ]);
            if step == "accepted" {
                body.set("limits", limits.clone());
            }
            assert_eq!(self.signed("POST", "/sessions/control", &canonical(&body)).await.0, 200);
        }
    }
}

fn with_lab<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Rc<Lab>) -> F) {
    let executor = Executor::default();
    async_io::block_on(executor.run(async {
        test(Rc::new(Lab::start(&executor, name))).await;
    }));
}

#[test]
fn an_open_wakes_the_long_poll_and_returns_when_active() {
    with_lab("open", |lab| async move {
        lab.register().await;
        let node = Rc::clone(&lab);
        let playing = lab.executor.spawn(async move { node.play_a_session().await });
        // The open comes while the node already waits.
        async_io::Timer::after(std::time::Duration::from_millis(50)).await;
        let opened = lab.ask("/open", r#"{"waitMs":5000}"#).await;
        playing.await;
        assert_eq!(opened.str("state"), Some("active"), "{}", canonical(&opened));
        let breaches = parse(&lab.get("control", "/violations").await).unwrap();
        assert_eq!(breaches, Json::Array(Vec::new()));
    });
}

#[test]
fn the_endpoint_signs_what_it_sent() {
    with_lab("endpoint", |lab| async move {
        let body = lab.get("endpoint", "/probe?nonce=a%2Bb&size=100000").await;
        let (content, trailer) = body.split_at(100_000);
        let trailer = parse(trailer).unwrap();
        assert_eq!(trailer.str("contentHash"), Some(blake3::name(content).as_str()));
        assert_eq!(trailer.str("nonce"), Some("a+b"));
        let public = lab.state.str("endpointPublicKey").unwrap();
        assert!(keys::verify_object(public, "probe-content", &trailer, "endpointSig"));
        for (fault, signed, hash) in [("probe-signature", false, true), ("probe-hash", true, false)] {
            lab.ask("/fault", &format!(r#"{{"kind":"{fault}"}}"#)).await;
            let body = lab.get("endpoint", "/probe?nonce=x&size=10").await;
            let trailer = parse(&body[10..]).unwrap();
            assert_eq!(keys::verify_object(public, "probe-content", &trailer, "endpointSig"), signed);
            assert_eq!(trailer.str("contentHash") == Some(blake3::name(&body[..10]).as_str()), hash);
        }
    });
}

#[test]
fn the_origin_counts_what_crossed_its_socket() {
    with_lab("origin", |lab| async move {
        assert_eq!(lab.get("origin", "/bytes/300000").await.len(), 300_000);
        let request =
            Request::post("/upload").header("host", "x").body(Payload::from(vec![1; 5000])).unwrap();
        assert_eq!(lab.fetch("origin", request).await.1, br#"{"bytes":5000}"#);
        let figures = parse(&lab.get("control", "/origin").await).unwrap();
        assert_eq!((figures.int("connections"), figures.int("uploaded")), (Some(2), Some(5000)));
        // TLS adds records and handshakes to both.
        assert!((300_000..320_000).contains(&figures.int("sent").unwrap()));
        assert!((5000..20_000).contains(&figures.int("received").unwrap()));
    });
}

#[test]
fn the_roles_have_names() {
    with_lab("names", |lab| async move {
        let zone = parse(&lab.get("control", "/zone").await).unwrap();
        let names = zone.member("names").unwrap();
        for name in
            ["coordinator.lab.test", "endpoint.lab.test", "origin.lab.test", "doh.lab.test", "lan.test"]
        {
            assert!(!names.list(name).is_empty(), "{name}");
        }
        let request = Request::post("/dns-query").header("host", "x").body(Payload::from("no dns")).unwrap();
        assert_eq!(lab.fetch("doh", request).await.0, 415);
    });
}

//! A fake node behind a served API, and requests to it.
use super::super::*;
use crate::http::server::{Deadlines, Listener, serve};
use crate::json::{Value, array, object, parse};
use crate::time::Unix;
use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, future};
use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub const STATUS: &[u8] = include_bytes!("../testdata/status.json");
pub const ID: &str = "c2b9f8c8-0000-4000-8000-0123456789ab";

pub struct Fake {
    pub config: RefCell<Value>,
    pub etag: Cell<u32>,
    pub done: RefCell<Vec<Action>>,
    pub well: Cell<bool>,
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

pub struct Setup {
    pub executor: Rc<LocalExecutor<'static>>,
    pub address: SocketAddr,
    pub fake: Rc<Fake>,
    pub token: String,
}

impl Setup {
    /// Sends bytes on a fresh connection and reads to its end.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    pub async fn connect(&self) -> Async<TcpStream> {
        Async::<TcpStream>::connect(self.address).await.unwrap()
    }

    /// A request with the token, `Connection: close` and further fields; the status and all that came.
    pub async fn ask(&self, line: &str, fields: &str, body: &str) -> (u16, String) {
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
pub fn with_api<F: Future<Output = ()>>(deadlines: Deadlines, test: impl FnOnce(Rc<Setup>) -> F) {
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

pub fn slow() -> Deadlines {
    Deadlines::default()
}

pub fn slug(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(answer.contains("Content-Type: application/problem+json\r\n"), "{answer}");
    let problem = parse(body.as_bytes()).unwrap();
    assert_eq!(problem.member("status").unwrap().as_int().unwrap().to_string(), answer[9..12]);
    assert!(!problem.member("detail").unwrap().as_str().unwrap().is_empty());
    problem.member("type").unwrap().as_str().unwrap().to_owned()
}

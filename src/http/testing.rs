//! An HTTPS server on loopback for the tests of everything that is a client.
use super::head::{BodyReader, Headers, Piece, RequestHead, request_framing, request_head};
use super::url::Url;
use crate::tls::client::{CertificateTime, ClientTls, Roots};
use async_executor::LocalExecutor;
use async_io::Async;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::TlsAcceptor;
use futures_rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use futures_rustls::rustls::ServerConfig;
use futures_rustls::rustls::crypto::ring;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::cell::Cell;
use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A request as the server got it.
pub struct Got {
    pub method: String,
    pub target: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// What it answers: raw bytes, and whether the connection stays open.
pub struct Reply {
    pub bytes: Vec<u8>,
    pub keep: bool,
}

impl Reply {
    pub fn json(status: u16, body: &str) -> Reply {
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Reply { bytes: (head + body).into_bytes(), keep: true }
    }
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply { bytes: bytes.into(), keep: true }
    }
    pub fn last(self) -> Reply {
        Reply { keep: false, ..self }
    }
}

pub type Answering = Pin<Box<dyn Future<Output = Reply>>>;
pub type Handler = Rc<dyn Fn(Got) -> Answering>;

/// A CA in a file of its own, removed when dropped.
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pub file: PathBuf,
}

impl TestCa {
    pub fn new() -> TestCa {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("echomesh-test-ca-{}-{n}.pem", std::process::id()));
        std::fs::write(&file, pem).unwrap();
        TestCa { issuer: Issuer::new(params, key), file }
    }

    /// Trusts this CA, from now on.
    pub fn trust(&self) -> Rc<ClientTls> {
        Rc::new(ClientTls::new(Roots::File(self.file.clone()), CertificateTime::new(0)))
    }

    /// A server's configuration for `name`, valid from January of one year to January of another.
    pub fn server(&self, name: &str, years: (i32, i32)) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], private).unwrap())
    }
}

impl Drop for TestCa {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Where a server listens, and how many connections it has taken.
pub struct TestServer {
    pub port: u16,
    pub connections: Rc<Cell<usize>>,
}

impl TestServer {
    /// Serves on a free port of 127.0.0.1; without `tls`, plain HTTP.
    pub fn start(
        ex: &Rc<LocalExecutor<'static>>,
        tls: Option<Arc<ServerConfig>>,
        handler: Handler,
    ) -> TestServer {
        let listener = Async::new(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let port = listener.get_ref().local_addr().unwrap().port();
        let connections = Rc::new(Cell::new(0));
        let (count, spawner) = (connections.clone(), ex.clone());
        ex.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                let (tls, handler) = (tls.clone(), handler.clone());
                spawner
                    .spawn(async move {
                        match tls {
                            None => serve(stream, handler).await,
                            Some(config) => {
                                if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                                    serve(stream, handler).await;
                                }
                            }
                        }
                    })
                    .detach();
            }
        })
        .detach();
        TestServer { port, connections }
    }

    pub fn url(&self, name: &str, path: &str) -> Url {
        Url::parse(&format!("https://{name}:{}{path}", self.port)).unwrap()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, handler: Handler) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = read(&mut stream, &mut buffer).await {
        let got = Got { method: head.method, target: head.target, headers: head.headers, body };
        let reply = handler(got).await;
        if stream.write_all(&reply.bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if !reply.keep {
            let _ = stream.close().await;
            return;
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<(RequestHead, Vec<u8>)> {
    let mut chunk = [0; 4096];
    let (head, length) = loop {
        if let Some(parsed) = request_head(buffer).unwrap() {
            break parsed;
        }
        match stream.read(&mut chunk).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&chunk[..n]),
            _ => return None,
        }
    };
    buffer.drain(..length);
    let (mut reader, mut body) = (BodyReader::new(request_framing(&head.headers).unwrap()), Vec::new());
    loop {
        match reader.next(buffer).unwrap() {
            Piece::Data(r) => {
                body.extend_from_slice(&buffer[r.clone()]);
                buffer.drain(..r.end);
            }
            Piece::End(n) => {
                buffer.drain(..n);
                return Some((head, body));
            }
            Piece::More(n) => {
                buffer.drain(..n);
                let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
                buffer.extend_from_slice(&chunk[..n]);
            }
        }
    }
}

//! A test's buyer: plain or over TLS, and the bytes it sends.
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long a peer waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A buyer's end of a tunnel.
pub enum Peer {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Peer {
    pub fn socket(&mut self) -> &mut TcpStream {
        match self {
            Peer::Plain(s) => s,
            Peer::Tls(t) => &mut t.sock,
        }
    }

    pub fn into_socket(self) -> TcpStream {
        match self {
            Peer::Plain(s) => s,
            Peer::Tls(t) => t.sock,
        }
    }

    pub fn plain(&self) -> &TcpStream {
        match self {
            Peer::Plain(s) => s,
            Peer::Tls(_) => panic!("not plain"),
        }
    }

    /// Ends this half: a FIN, over TLS a close_notify before it.
    pub fn finish(&mut self) {
        if let Peer::Tls(t) = self {
            t.conn.send_close_notify();
            t.flush().unwrap();
        }
        self.socket().shutdown(Shutdown::Write).unwrap();
    }

    /// Sends all of it and ends this half while it reads everything.
    pub fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut got = Vec::new();
        match self {
            Peer::Plain(stream) => {
                let (mut out, bytes) = (stream.try_clone().unwrap(), bytes.to_vec());
                let sender = std::thread::spawn(move || {
                    out.write_all(&bytes).unwrap();
                    out.shutdown(Shutdown::Write).unwrap();
                });
                stream.read_to_end(&mut got).unwrap();
                sender.join().unwrap();
            }
            Peer::Tls(stream) => {
                // One thread for both: small steps, so that neither side fills up.
                let mut piece = vec![0; 1 << 16];
                for chunk in bytes.chunks(1 << 14) {
                    stream.write_all(chunk).unwrap();
                    stream.sock.set_nonblocking(true).unwrap();
                    while let Ok(n @ 1..) = stream.read(&mut piece) {
                        got.extend_from_slice(&piece[..n]);
                    }
                    stream.sock.set_nonblocking(false).unwrap();
                }
                self.finish();
                self.read_to_end(&mut got).unwrap();
            }
        }
        got
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Peer::Plain(s) => s.read(buffer),
            Peer::Tls(t) => t.read(buffer),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Peer::Plain(s) => s.write(bytes),
            Peer::Tls(t) => t.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Peer::Plain(s) => s.flush(),
            Peer::Tls(t) => t.flush(),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test's peer blocks in its own thread")]
pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[allow(clippy::disallowed_methods, reason = "a test's thread waits")]
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Closes a connection by a reset.
pub fn reset(stream: TcpStream) {
    use std::os::fd::AsFd;
    crate::sys::linux::net::reset(stream.as_fd());
}

pub fn connect_to(host: &str) -> Vec<u8> {
    connect_to_port(host, 443)
}

pub fn connect_to_port(host: &str, port: u16) -> Vec<u8> {
    format!("CONNECT {host}:{port} HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n\r\n").into_bytes()
}

/// A small TLS 1.2 hello; without a server name if it is empty.
pub fn hello(name: &str) -> Vec<u8> {
    let vec16 = |b: &[u8]| [&u16::try_from(b.len()).unwrap().to_be_bytes()[..], b].concat();
    let mut body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let mut extensions = [&[0, 23][..], &vec16(&[])].concat();
    if !name.is_empty() {
        let list = vec16(&[&[0][..], &vec16(name.as_bytes())].concat());
        extensions.extend([&[0, 0][..], &vec16(&list)].concat());
    }
    extensions.extend([&[0, 21][..], &vec16(&[0; 100])].concat());
    body.extend(vec16(&extensions));
    [&[22, 3, 1][..], &vec16(&[&[1, 0][..], &vec16(&body)].concat())].concat()
}

pub fn pattern(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

pub fn client_config() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Arc::new(config)
}

/// The test knows whom it talks to.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

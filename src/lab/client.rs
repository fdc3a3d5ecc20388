//! Client sides: TLS with a pinned key, one HTTP exchange, and asking the control API.
use super::args::Ask;
use super::http::{Executor, Payload};
use super::json::{Json, Members, parse};
use super::text::base64;
use super::{httpsig, pki};
use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use smol_hyper::rt::FuturesIo;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// A byte stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Sends a request over a fresh connection and gives the response's head and content stream.
pub async fn exchange(
    executor: &Executor,
    stream: Box<dyn Duplex>,
    request: Request<Payload>,
) -> io::Result<Response<Incoming>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(FuturesIo::new(stream)).await.map_err(io::Error::other)?;
    executor
        .spawn(async move {
            let _ = connection.await;
        })
        .detach();
    sender.send_request(request).await.map_err(io::Error::other)
}

/// Asks the control API and prints its answer; false for an error or a verdict that is not ok.
pub async fn ask(executor: &Executor, ask: &Ask) -> io::Result<bool> {
    let address = match ask.control {
        Some(address) => address,
        None => state_control(&ask.dir.join(format!("{}.json", ask.state)))?,
    };
    let stream = Async::<TcpStream>::connect(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("no lab at {address}: {error}")))?;
    let method = if ask.json.is_some() { "POST" } else { "GET" };
    let request = Request::builder()
        .method(method)
        .uri(ask.path.as_str())
        .header("host", address.to_string())
        .body(Payload::from(ask.json.clone().unwrap_or_default()))
        .map_err(io::Error::other)?;
    let response = exchange(executor, Box::new(stream), request).await?;
    let success = response.status().is_success();
    let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    println!("{}", String::from_utf8_lossy(&body).trim_end());
    let verdict = parse(&body).ok().and_then(|json| json.member("ok").cloned());
    let bad = verdict == Some(Json::Boolean(false)) || body.ends_with(b"verdict: NOT OK\n");
    Ok(success && !bad)
}

fn state_control(path: &std::path::Path) -> io::Result<SocketAddr> {
    let state = std::fs::read(path).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}; is the lab up?", path.display()))
    })?;
    let state = parse(&state).map_err(io::Error::other)?;
    let address = state.member("control").and_then(|control| control.str("address")?.parse().ok());
    address.ok_or_else(|| io::Error::other(format!("{} names no control address", path.display())))
}

/// A TLS client that trusts the lab's authority, or one key, or (with `None` and `None`) any key.
pub fn tls(
    roots: Option<rustls::RootCertStore>,
    pin: Option<&str>,
    tls12: bool,
) -> io::Result<rustls::ClientConfig> {
    let versions = if tls12 { vec![&rustls::version::TLS12] } else { rustls::ALL_VERSIONS.to_vec() };
    let builder = rustls::ClientConfig::builder_with_provider(pki::provider())
        .with_protocol_versions(&versions)
        .map_err(io::Error::other)?;
    Ok(match (roots, pin) {
        (Some(roots), None) => builder.with_root_certificates(roots).with_no_client_auth(),
        (_, pin) => {
            let verifier = Arc::new(Pinned { pin: pin.map(str::to_owned), provider: pki::provider() });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    })
}

/// The fatal alert in a TLS error, by its number.
pub fn alert(error: &io::Error) -> Option<u8> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::AlertReceived(description) => Some(u8::from(*description)),
        _ => None,
    }
}

#[derive(Debug)]
struct Pinned {
    pin: Option<String>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let spki = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        let found = format!("sha256//{}", base64(&httpsig::sha256(&spki)));
        match &self.pin {
            Some(pin) if *pin != found => {
                Err(Error::General(format!("the proxy's key is {found}, and not the one of --pin")))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Shares a client configuration.
pub fn connector(config: rustls::ClientConfig) -> futures_rustls::TlsConnector {
    Arc::new(config).into()
}

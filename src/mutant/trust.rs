//! A client that trusts carelessly: each thing that a server's certificate must be is a rule of its own.
use super::out;
use futures_rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use futures_rustls::rustls::client::WebPkiServerVerifier;
use futures_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::{
    CertificateError as C, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::sync::Arc;

/// Makes a configuration judge certificates by the rules that are not out.
pub fn trust(config: &mut ClientConfig, roots: RootCertStore) {
    let provider = Arc::new(ring::default_provider());
    if let Ok(strict) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() {
        config.dangerous().set_certificate_verifier(Arc::new(Careless(strict)));
    }
}

#[derive(Debug)]
struct Careless(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.0.verify_server_cert(leaf, others, name, ocsp, now);
        let passes = match &judged {
            Err(Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. })) => {
                out("certificate-name")
            }
            Err(Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. })) => out("certificate-time"),
            Err(_) => out("certificate-issuer"),
            Ok(_) => false,
        };
        if passes { Ok(ServerCertVerified::assertion()) } else { judged }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

//! The listener's TLS: an ECDSA P-256 key whose hash the registration vouches for, and a certificate for it.
pub use super::key::ServerKey;
use super::provider::provider;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, ServerConfig};
use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::io;
use std::sync::Arc;

/// TLS 1.3 tickets sent after a handshake.
const TICKETS: usize = 1;

/// Why there is no key or no certificate.
#[derive(Debug)]
pub enum CertificateError {
    /// The key file cannot be read or written.
    File(io::Error),
    /// The key file holds no ECDSA P-256 key in PKCS#8 PEM; remove it to have a new one made.
    Key,
    /// A configured name cannot stand in a certificate.
    Names,
    /// The coordinator's certificate is no PEM chain.
    Chain,
    /// Its key is not this listener's.
    OtherKey,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::File(e) => write!(f, "the listener's key file: {e}"),
            CertificateError::Key => {
                f.write_str("the listener's key file holds no ECDSA P-256 key; remove it")
            }
            CertificateError::Names => f.write_str("relay.names holds a name that no certificate can have"),
            CertificateError::Chain => f.write_str("the coordinator's certificate is not a PEM chain"),
            CertificateError::OtherKey => f.write_str("the coordinator's certificate is for another key"),
        }
    }
}

impl std::error::Error for CertificateError {}

/// What the listener's handshakes use; the certificate may change while it runs.
#[derive(Debug)]
pub struct Acceptor {
    key: ServerKey,
    config: RefCell<Arc<ServerConfig>>,
}

impl Acceptor {
    /// With a self-signed certificate for these names.
    ///
    /// # Errors
    /// [`CertificateError::Names`] or [`CertificateError::Key`].
    pub fn new(key: ServerKey, names: &[String]) -> Result<Acceptor, CertificateError> {
        let chain = vec![key.self_signed(names)?];
        let config = server_config(&key, chain)?;
        Ok(Acceptor { key, config: RefCell::new(config) })
    }

    /// The configuration of a new handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.borrow().clone()
    }

    /// The key pair.
    pub fn key(&self) -> &ServerKey {
        &self.key
    }

    /// Takes the certificate that the coordinator returned: a PEM chain, the listener's first.
    ///
    /// # Errors
    /// [`CertificateError::Chain`] or [`CertificateError::OtherKey`]; the old certificate then stays.
    pub fn set_certificate(&self, pem: &str) -> Result<(), CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let chain = chain.ok().filter(|c| !c.is_empty()).ok_or(CertificateError::Chain)?;
        *self.config.borrow_mut() = server_config(&self.key, chain)?;
        Ok(())
    }

    /// Goes back to a self-signed certificate, for these names.
    ///
    /// # Errors
    /// [`CertificateError::Names`]; the old certificate then stays.
    pub fn set_names(&self, names: &[String]) -> Result<(), CertificateError> {
        let chain = vec![self.key.self_signed(names)?];
        *self.config.borrow_mut() = server_config(&self.key, chain)?;
        Ok(())
    }
}

/// TLS 1.2 and 1.3, no client certificates, no 0-RTT, ALPN `http/1.1` or none.
fn server_config(
    key: &ServerKey,
    chain: Vec<CertificateDer<'static>>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let certified = CertifiedKey::new(chain, key.for_handshakes());
    certified.keys_match().map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => CertificateError::OtherKey,
        _ => CertificateError::Chain,
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ciphers(has_aes())))
        .with_safe_default_protocol_versions()
        .map_err(|_| CertificateError::Key)?
        .with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    // Stateless: a session store would keep the memory that the tunnels do without.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.ticketer = Ticketer::new().map_err(|_| CertificateError::Key)?;
    config.send_tls13_tickets = TICKETS;
    Ok(Arc::new(config))
}

/// The cipher suites in the order of their cost on this machine; the 256-bit ones last, for buyers who insist.
fn ciphers(aes: bool) -> CryptoProvider {
    let mut provider = provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => {
            u8::from(!aes)
        }
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => u8::from(aes),
        _ => 2,
    });
    provider
}

/// Whether the CPU computes AES in hardware.
fn has_aes() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| lists_aes(&text))
}

fn lists_aes(cpuinfo: &str) -> bool {
    let listed = |line: &str| {
        line.split_once(':').is_some_and(|(key, values)| {
            ["flags", "Features"].contains(&key.trim()) && values.split_whitespace().any(|f| f == "aes")
        })
    };
    cpuinfo.lines().any(listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::pem::armour;

    fn names() -> Vec<String> {
        vec!["relay.test".to_owned(), "192.0.2.7".to_owned()]
    }

    fn certificate(key: &ServerKey) -> String {
        armour("CERTIFICATE", &key.self_signed(&names()).unwrap()).to_string()
    }

    #[test]
    fn a_certificate_of_another_key_is_refused_and_the_old_one_stays() {
        let acceptor = Acceptor::new(ServerKey::generate().unwrap(), &names()).unwrap();
        let before = acceptor.config();
        let other = ServerKey::generate().unwrap();
        let pem = certificate(&other);
        assert!(matches!(acceptor.set_certificate(&pem), Err(CertificateError::OtherKey)));
        assert!(matches!(acceptor.set_certificate("none"), Err(CertificateError::Chain)));
        assert!(Arc::ptr_eq(&before, &acceptor.config()));
        let own = certificate(&acceptor.key);
        acceptor.set_certificate(&own).unwrap();
        assert!(!Arc::ptr_eq(&before, &acceptor.config()));
    }

    #[test]
    fn the_cheapest_cipher_comes_first() {
        let first = |aes| ciphers(aes).cipher_suites.first().unwrap().suite();
        assert_eq!(first(true), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(first(false), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!(ciphers(true).cipher_suites.len(), provider().cipher_suites.len());
    }

    #[test]
    fn aes_is_found_in_cpuinfo() {
        assert!(lists_aes("processor\t: 0\nflags\t\t: fpu aes avx\n"));
        assert!(lists_aes("Features\t: fp asimd aes pmull\n"));
        assert!(!lists_aes("flags\t: fpu vaes\nmodel name\t: aes\n"));
    }
}

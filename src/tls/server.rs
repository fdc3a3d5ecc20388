//! The listener's TLS: an ECDSA P-256 key whose hash the registration vouches for, and a certificate for it.
use crate::encoding;
use ring::digest::{SHA256, digest};
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{CipherSuite, ServerConfig};
use std::cell::RefCell;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
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

/// The listener's key pair.
pub struct ServerKey {
    pair: rcgen::KeyPair,
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerKey").field("spki", &self.spki()).finish_non_exhaustive()
    }
}

impl ServerKey {
    /// Reads the key from a PEM file, which is made if there is none, for the user's eyes only.
    ///
    /// # Errors
    /// [`CertificateError::File`] or [`CertificateError::Key`].
    pub fn load_or_create(path: &Path) -> Result<ServerKey, CertificateError> {
        match fs::read_to_string(path) {
            Ok(pem) => {
                let private = fs::Permissions::from_mode(0o600);
                fs::set_permissions(path, private).map_err(CertificateError::File)?;
                ServerKey::from_pem(&pem)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let key = ServerKey::generate()?;
                write_private(path, key.pair.serialize_pem().as_bytes()).map_err(CertificateError::File)?;
                Ok(key)
            }
            Err(e) => Err(CertificateError::File(e)),
        }
    }

    /// A new key that is in no file.
    ///
    /// # Errors
    /// [`CertificateError::Key`] if the system has no randomness.
    pub fn generate() -> Result<ServerKey, CertificateError> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        Ok(ServerKey { pair: pair.map_err(|_| CertificateError::Key)? })
    }

    fn from_pem(pem: &str) -> Result<ServerKey, CertificateError> {
        let pair = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(pem, &rcgen::PKCS_ECDSA_P256_SHA256);
        Ok(ServerKey { pair: pair.map_err(|_| CertificateError::Key)? })
    }

    /// `sha256//` and the base64 of the hash of the public key's SubjectPublicKeyInfo, as curl's `--proxy-pinnedpubkey`
    /// takes it.
    pub fn spki(&self) -> String {
        let spki = rcgen::PublicKeyData::subject_public_key_info(&self.pair);
        format!("sha256//{}", encoding::base64(digest(&SHA256, &spki).as_ref()))
    }

    /// A certificate request (PKCS#10 PEM) for these names.
    ///
    /// # Errors
    /// [`CertificateError::Names`].
    pub fn csr(&self, names: &[String]) -> Result<String, CertificateError> {
        let request =
            parameters(names)?.serialize_request(&self.pair).map_err(|_| CertificateError::Names)?;
        request.pem().map_err(|_| CertificateError::Names)
    }

    /// A certificate for these names. It has no end that matters: buyers pin the key, and a router has no clock at boot.
    fn self_signed(&self, names: &[String]) -> Result<CertificateDer<'static>, CertificateError> {
        let certificate = parameters(names)?.self_signed(&self.pair).map_err(|_| CertificateError::Names)?;
        Ok(certificate.der().clone())
    }
}

fn parameters(names: &[String]) -> Result<rcgen::CertificateParams, CertificateError> {
    let mut parameters = rcgen::CertificateParams::new(names).map_err(|_| CertificateError::Names)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "echomesh");
    Ok(parameters)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

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
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pair.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(ciphers(has_aes())))
        .with_safe_default_protocol_versions()
        .map_err(|_| CertificateError::Key)?
        .with_no_client_auth();
    let mut config = builder.with_single_cert(chain, private).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => CertificateError::OtherKey,
        _ => CertificateError::Chain,
    })?;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    // Stateless: a session store would keep the memory that the tunnels do without.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.ticketer = provider::Ticketer::new().map_err(|_| CertificateError::Key)?;
    config.send_tls13_tickets = TICKETS;
    Ok(Arc::new(config))
}

/// The cipher suites in the order of their cost on this machine; the 256-bit ones last, for buyers who insist.
fn ciphers(aes: bool) -> CryptoProvider {
    let mut provider = provider::default_provider();
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

    fn names() -> Vec<String> {
        vec!["relay.test".to_owned(), "192.0.2.7".to_owned()]
    }

    #[test]
    fn the_key_is_made_once_for_the_user_alone() {
        let path = std::env::temp_dir().join(format!("echomesh-key-{}.pem", std::process::id()));
        let _ = fs::remove_file(&path);
        let first = ServerKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let second = ServerKey::load_or_create(&path).unwrap();
        assert_eq!(first.spki(), second.spki());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(ServerKey::load_or_create(&path), Err(CertificateError::Key)));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_certificate_of_another_key_is_refused_and_the_old_one_stays() {
        let acceptor = Acceptor::new(ServerKey::generate().unwrap(), &names()).unwrap();
        let before = acceptor.config();
        let other = ServerKey::generate().unwrap();
        let pem = parameters(&names()).unwrap().self_signed(&other.pair).unwrap().pem();
        assert!(matches!(acceptor.set_certificate(&pem), Err(CertificateError::OtherKey)));
        assert!(matches!(acceptor.set_certificate("none"), Err(CertificateError::Chain)));
        assert!(Arc::ptr_eq(&before, &acceptor.config()));
        let own = parameters(&names()).unwrap().self_signed(&acceptor.key.pair).unwrap().pem();
        acceptor.set_certificate(&own).unwrap();
        assert!(!Arc::ptr_eq(&before, &acceptor.config()));
    }

    #[test]
    fn the_request_is_for_the_same_key() {
        let key = ServerKey::generate().unwrap();
        assert!(key.csr(&names()).unwrap().starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        assert!(key.spki().starts_with("sha256//") && key.spki().len() == "sha256//".len() + 44);
    }

    #[test]
    fn the_cheapest_cipher_comes_first() {
        let first = |aes| ciphers(aes).cipher_suites.first().unwrap().suite();
        assert_eq!(first(true), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(first(false), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!(ciphers(true).cipher_suites.len(), provider::default_provider().cipher_suites.len());
    }

    #[test]
    fn aes_is_found_in_cpuinfo() {
        assert!(lists_aes("processor\t: 0\nflags\t\t: fpu aes avx\n"));
        assert!(lists_aes("Features\t: fp asimd aes pmull\n"));
        assert!(!lists_aes("flags\t: fpu vaes\nmodel name\t: aes\n"));
    }
}

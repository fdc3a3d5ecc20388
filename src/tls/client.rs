//! TLS configurations of the node as a client: the system's CA bundle or a pinned CA file, loaded when first needed.
use super::provider::provider;
use crate::clock::system_ms;
use futures_rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use futures_rustls::rustls::client::Resumption;
use futures_rustls::rustls::time_provider::TimeProvider;
use futures_rustls::rustls::{ClientConfig, RootCertStore};
use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Where distributions keep their CA bundle; the first that exists is read (`ca-bundle` on OpenWrt has the first).
pub const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Largest CA file that is read, in bytes.
pub const MAX_CA_FILE: u64 = 4 << 20;

/// A time that has certainly passed: the build sets `SOURCE_DATE_EPOCH` (seconds since 1970); without it,
/// 2025-12-01.
pub fn build_time() -> u64 {
    option_env!("SOURCE_DATE_EPOCH").and_then(|s| s.parse().ok()).unwrap_or(1_764_547_200)
}

/// The instant at which certificates are judged: the system's clock, but never before a time that has certainly
/// passed. A router has no clock at boot, and a clock that is set back must not make an expired certificate valid.
#[derive(Debug)]
pub struct CertificateTime {
    /// 32 bits, which last until 2106: a 32-bit MIPS has no wider atomics.
    floor_s: AtomicU32,
}

impl CertificateTime {
    /// Not before the build and the time last stored (seconds since 1970).
    pub fn new(last_stored_s: u64) -> Arc<CertificateTime> {
        Arc::new(CertificateTime { floor_s: AtomicU32::new(seconds(last_stored_s.max(build_time()))) })
    }

    /// A trusted peer has said that it is at least this time (seconds since 1970).
    pub fn raise(&self, unix_s: u64) {
        self.floor_s.fetch_max(seconds(unix_s), Relaxed);
    }

    /// Seconds since 1970.
    pub fn seconds(&self) -> u64 {
        u64::try_from(system_ms() / 1000).unwrap_or(0).max(self.floor_s.load(Relaxed).into())
    }
}

fn seconds(unix_s: u64) -> u32 {
    u32::try_from(unix_s).unwrap_or(u32::MAX)
}

impl TimeProvider for CertificateTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.seconds())))
    }
}

/// Who signs for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The system's CA bundle (or the file that `SSL_CERT_FILE` names).
    System,
    /// The certificates of this PEM file alone.
    File(PathBuf),
}

impl From<Option<PathBuf>> for Roots {
    fn from(file: Option<PathBuf>) -> Roots {
        file.map_or(Roots::System, Roots::File)
    }
}

/// Why there is nobody to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootsError {
    /// The file, or what was looked for.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CA file {}: {}", self.file, self.problem)
    }
}

impl std::error::Error for RootsError {}

/// A client configuration that is made when it is first needed, and again after a failure.
pub struct ClientTls {
    roots: Roots,
    time: Arc<CertificateTime>,
    config: RefCell<Option<Arc<ClientConfig>>>,
}

impl ClientTls {
    /// Nothing is read yet.
    pub fn new(roots: Roots, time: Arc<CertificateTime>) -> ClientTls {
        ClientTls { roots, time, config: RefCell::new(None) }
    }

    /// The configuration; reads the CA file the first time.
    pub async fn config(&self) -> Result<Arc<ClientConfig>, RootsError> {
        if let Some(config) = self.config.borrow().as_ref() {
            return Ok(config.clone());
        }
        let roots = self.roots.clone();
        let store = blocking::unblock(move || load(&roots)).await?;
        let config = Arc::new(configure(store, self.time.clone())?);
        *self.config.borrow_mut() = Some(config.clone());
        Ok(config)
    }
}

/// TLS 1.2 and 1.3, ALPN `http/1.1`.
fn configure(roots: RootCertStore, time: Arc<CertificateTime>) -> Result<ClientConfig, RootsError> {
    let provider = Arc::new(provider());
    let builder = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .map_err(|e| RootsError { file: String::new(), problem: e.to_string() })?;
    #[cfg(feature = "mutants")]
    let kept = roots.clone();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    #[cfg(feature = "mutants")]
    crate::mutant::trust(&mut config, kept);
    // A node talks to a handful of servers; the default keeps room for 256.
    config.resumption = Resumption::in_memory_sessions(8);
    Ok(config)
}

fn load(roots: &Roots) -> Result<RootCertStore, RootsError> {
    match roots {
        Roots::File(path) => read(path),
        Roots::System => {
            let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
            let known = SYSTEM_BUNDLES.iter().map(PathBuf::from);
            let found = named.into_iter().chain(known).find(|p| p.exists());
            let path = found.ok_or_else(|| RootsError {
                file: SYSTEM_BUNDLES.join(", "),
                problem: "none exists; install the package ca-bundle or name a caFile".into(),
            })?;
            read(&path)
        }
    }
}

fn read(path: &Path) -> Result<RootCertStore, RootsError> {
    let error = |problem: String| RootsError { file: path.display().to_string(), problem };
    let file = File::open(path).map_err(|e| error(e.to_string()))?;
    if file.metadata().map_err(|e| error(e.to_string()))?.len() > MAX_CA_FILE {
        return Err(error(format!("larger than {MAX_CA_FILE} bytes")));
    }
    let mut store = RootCertStore::empty();
    // Piece by piece: the system's bundle is several times as large as what is kept of it.
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file.take(MAX_CA_FILE))) {
        let certificate = certificate.map_err(|e| error(format!("not PEM: {e}")))?;
        // Bundles carry certificates that no verifier takes any more; the others still count.
        let _ = store.add(certificate);
    }
    if store.is_empty() { Err(error("holds no CA certificate".into())) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn the_time_of_judgement_never_falls_below_what_has_certainly_passed() {
        let time = CertificateTime::new(0);
        assert!(time.seconds() >= build_time());
        time.raise(4_000_000_000);
        assert_eq!(time.seconds(), 4_000_000_000);
        time.raise(5);
        assert_eq!(time.seconds(), 4_000_000_000);
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let path = std::env::temp_dir().join(format!("echomesh-ca-{}.pem", std::process::id()));
        std::fs::write(&path, "nothing").unwrap();
        let tls = ClientTls::new(Roots::File(path.clone()), CertificateTime::new(0));
        let error = block_on(tls.config()).unwrap_err();
        assert_eq!(error.problem, "holds no CA certificate");
        assert!(error.file.contains("echomesh-ca-"));
        std::fs::remove_file(&path).unwrap();
        assert!(block_on(tls.config()).unwrap_err().problem.contains("No such file"));
    }
}

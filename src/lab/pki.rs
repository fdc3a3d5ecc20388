//! The lab's certificate authority and its keys, kept in one directory that several processes may share.
use super::keys::{self, Key};
use super::text::{hex, unhex};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory with the authority's key and the roles' signing keys.
pub struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Opens the directory, making what is missing; safe against another process doing the same.
    pub fn open(dir: &Path) -> io::Result<Pki> {
        std::fs::create_dir_all(dir)?;
        let fresh = KeyPair::generate().map_err(io::Error::other)?.serialize_pem();
        let key = KeyPair::from_pem(&keep(&dir.join("ca.key"), &fresh, 0o600)?).map_err(io::Error::other)?;
        let params = authority();
        let certificate = params.self_signed(&key).map_err(io::Error::other)?.pem();
        keep(&dir.join("ca.pem"), &certificate, 0o644)?;
        Ok(Pki { dir: dir.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// Where the authority's certificate is.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The signing key of a role, made at first use.
    pub fn signing_key(&self, role: &str) -> io::Result<Key> {
        let seed = keep(&self.dir.join(format!("{role}.seed")), &hex(&keys::random::<32>()), 0o600)?;
        let seed = unhex(seed.trim()).and_then(|raw| <[u8; 32]>::try_from(raw).ok());
        seed.map(Key::from_seed)
            .ok_or_else(|| io::Error::other(format!("{role}.seed is not 32 bytes of hex")))
    }

    /// TLS for a server of these names and addresses: ALPN `http/1.1` alone, a fresh P-256 key.
    pub fn server(&self, names: &[String]) -> io::Result<futures_rustls::TlsAcceptor> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, names.first().cloned().unwrap_or_default());
        leaf_usages(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config).into())
    }

    /// Certifies the key and names of a PEM certification request, as a chain in PEM.
    pub fn certify(&self, csr: &str) -> io::Result<String> {
        let mut request = CertificateSigningRequestParams::from_pem(csr).map_err(io::Error::other)?;
        leaf_usages(&mut request.params);
        let certificate = request.signed_by(&self.issuer).map_err(io::Error::other)?;
        Ok(certificate.pem() + &std::fs::read_to_string(self.ca_file())?)
    }
}

/// Roots of a client: the certificates of a PEM file.
pub fn roots(file: &Path) -> io::Result<rustls::RootCertStore> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    Ok(roots)
}

/// The cryptography both sides of the lab's TLS use.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn leaf_usages(params: &mut CertificateParams) {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    // Browsers refuse leaves that are valid for more than 825 days, private roots included.
    let now = super::clock::unix_ms();
    let day = 86_400_000;
    let (from, to) = (date(now - day), date(now + 800 * day));
    params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
}

fn date(unix_ms: i64) -> (i32, u8, u8) {
    let text = super::clock::instant(unix_ms);
    let field = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<u16>().ok());
    let small = |from, to| field(from, to).and_then(|n| u8::try_from(n).ok()).unwrap_or(1);
    (field(0, 4).map_or(2026, i32::from), small(5, 7), small(8, 10))
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "EchoMesh lab");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Reads a file, writing `fresh` first if there is none; whoever writes first wins.
fn keep(path: &Path, fresh: &str, mode: u32) -> io::Result<String> {
    if !path.exists() {
        let draft = path.with_extension(format!("draft{}", std::process::id()));
        write_new(&draft, fresh, mode)?;
        let linked = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    std::fs::read_to_string(path)
}

fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_openings_share_keys_and_requests_are_certified() {
        let dir = std::env::temp_dir().join(format!("echomesh-lab-pki-{}", std::process::id()));
        let (one, two) = (Pki::open(&dir).unwrap(), Pki::open(&dir).unwrap());
        assert_eq!(one.signing_key("x").unwrap().public(), two.signing_key("x").unwrap().public());
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["node.test".to_owned()]).unwrap();
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let chain = two.certify(&request).unwrap();
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(two.certify("no request").is_err());
        assert_eq!(roots(&one.ca_file()).unwrap().len(), 1);
        std::fs::remove_dir_all(&dir).unwrap();
    }
    #[test]
    fn the_nodes_own_request_is_certified_for_its_key() {
        use crate::tls::server::{Acceptor, ServerKey};
        let dir = std::env::temp_dir().join(format!("echomesh-lab-csr-{}", std::process::id()));
        let names = ["relay.test".to_owned(), "192.0.2.7".to_owned()];
        let key = ServerKey::generate().unwrap();
        let chain = Pki::open(&dir).unwrap().certify(&key.csr(&names).unwrap()).unwrap();
        Acceptor::new(key, &names).unwrap().set_certificate(&chain).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

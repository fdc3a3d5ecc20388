//! The listener's ECDSA P-256 key: its file, its certificate, and how handshakes sign with it.
use super::server::CertificateError;
use super::x509;
use crate::encoding;
use crate::vault::pem::armour;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// The listener's key pair.
#[derive(Clone)]
pub struct ServerKey {
    pair: Arc<EcdsaKeyPair>,
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({})", self.spki())
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
                let (key, pkcs8) = ServerKey::with_file_form()?;
                let pem = armour("PRIVATE KEY", pkcs8.as_ref());
                write_private(path, pem.as_bytes()).map_err(CertificateError::File)?;
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
        ServerKey::with_file_form().map(|(key, _)| key)
    }

    fn with_file_form() -> Result<(ServerKey, ring::pkcs8::Document), CertificateError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let pkcs8 = pkcs8.map_err(|_| CertificateError::Key)?;
        Ok((ServerKey::from_pkcs8(pkcs8.as_ref())?, pkcs8))
    }

    fn from_pem(pem: &str) -> Result<ServerKey, CertificateError> {
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| CertificateError::Key)?;
        ServerKey::from_pkcs8(pkcs8.secret_pkcs8_der())
    }

    fn from_pkcs8(der: &[u8]) -> Result<ServerKey, CertificateError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &SystemRandom::new());
        Ok(ServerKey { pair: Arc::new(pair.map_err(|_| CertificateError::Key)?) })
    }

    /// `sha256//` and the base64 of the hash of the public key's SubjectPublicKeyInfo, as curl's `--proxy-pinnedpubkey`
    /// takes it.
    pub fn spki(&self) -> String {
        let spki = x509::public_key_info(self.point());
        format!("sha256//{}", encoding::base64(digest(&SHA256, &spki).as_ref()))
    }

    /// A certificate request (PKCS#10 PEM) for these names.
    ///
    /// # Errors
    /// [`CertificateError::Names`].
    pub fn csr(&self, names: &[String]) -> Result<String, CertificateError> {
        let info = x509::request_info(self.point(), names).ok_or(CertificateError::Names)?;
        Ok(armour("CERTIFICATE REQUEST", &self.signed(&info)?).to_string())
    }

    /// A certificate for these names.
    ///
    /// # Errors
    /// [`CertificateError::Names`].
    pub(super) fn self_signed(&self, names: &[String]) -> Result<CertificateDer<'static>, CertificateError> {
        let info = x509::certificate_info(self.point(), names).ok_or(CertificateError::Names)?;
        self.signed(&info).map(CertificateDer::from)
    }

    /// The key as handshakes take it.
    pub(super) fn for_handshakes(&self) -> Arc<dyn SigningKey> {
        Arc::new(self.clone())
    }

    fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn signed(&self, info: &[u8]) -> Result<Vec<u8>, CertificateError> {
        let signature = self.pair.sign(&SystemRandom::new(), info).map_err(|_| CertificateError::Key)?;
        Ok(x509::signed(info, signature.as_ref()))
    }
}

impl SigningKey for ServerKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(x509::public_key_info(self.point()).into())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for ServerKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        signature.map(|s| s.as_ref().to_vec()).map_err(|_| rustls::Error::FailedToGetRandomBytes)
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

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
    fn a_file_of_rcgen_is_read_and_one_with_another_kind_of_key_is_not() {
        let theirs = rcgen::KeyPair::generate().unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&theirs);
        let ours = ServerKey::from_pem(&theirs.serialize_pem()).unwrap();
        assert_eq!(x509::public_key_info(ours.point()), spki);
        for other in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
            let pem = rcgen::KeyPair::generate_for(other).unwrap().serialize_pem();
            assert!(matches!(ServerKey::from_pem(&pem), Err(CertificateError::Key)));
        }
    }

    /// OpenSSL's word on a file, which stands for `@` in the arguments: its output, or its complaint.
    #[allow(clippy::disallowed_methods, reason = "openssl is the oracle")]
    fn openssl(name: &str, pem: &str, args: &str) -> String {
        let path = std::env::temp_dir().join(format!("echomesh-{name}-{}.pem", std::process::id()));
        fs::write(&path, pem).unwrap();
        let args = args.split(' ').map(|a| if a == "@" { path.to_str().unwrap() } else { a });
        let told = Command::new("openssl").args(args).output().unwrap();
        fs::remove_file(&path).unwrap();
        String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr)
    }

    #[test]
    fn openssl_verifies_the_request_and_the_certificate() {
        let key = ServerKey::generate().unwrap();
        let csr = key.csr(&names()).unwrap();
        assert!(csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"), "{csr}");
        let told = openssl("csr", &csr, "req -verify -noout -text -in @");
        assert!(
            told.contains("verify OK") && told.contains("DNS:relay.test, IP Address:192.0.2.7"),
            "{told}"
        );
        let certificate = armour("CERTIFICATE", &key.self_signed(&names()).unwrap());
        let told = openssl("cert", &certificate, "x509 -noout -text -in @");
        assert!(told.contains("Not After : Jan  1 00:00:00 4096 GMT"), "{told}");
        assert!(told.contains("DNS:relay.test, IP Address:192.0.2.7"), "{told}");
        let told = openssl("self", &certificate, "verify -check_ss_sig -CAfile @ @");
        assert!(told.ends_with(": OK\n"), "{told}");
    }

    #[test]
    fn the_pin_is_a_hash() {
        let key = ServerKey::generate().unwrap();
        assert!(key.spki().starts_with("sha256//") && key.spki().len() == "sha256//".len() + 44);
        assert_eq!(format!("{key:?}"), format!("ServerKey({})", key.spki()));
    }
}

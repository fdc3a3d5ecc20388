//! What both sides of TLS compute with.
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use std::sync::Arc;

/// Loads no private key: the listener has made its own by then. The usual loader takes every kind, and RSA signing with it.
#[derive(Debug)]
struct Keyless;

impl KeyProvider for Keyless {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("no private key is loaded from a file here".to_owned()))
    }
}

/// `ring`, with a loader of keys that loads none.
pub fn provider() -> CryptoProvider {
    // Nothing of the usual loader may be in what is returned: it would be linked with all that it can sign.
    let CryptoProvider { cipher_suites, kx_groups, signature_verification_algorithms, secure_random, .. } =
        default_provider();
    let key_provider = &Keyless;
    CryptoProvider {
        cipher_suites,
        kx_groups,
        signature_verification_algorithms,
        secure_random,
        key_provider,
    }
}

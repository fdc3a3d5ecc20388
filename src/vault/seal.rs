//! Sealed keys: `EncryptedPrivateKeyInfo` (RFC 5958 section 3) by PBES2 (RFC 8018 section 6.2), which OpenSSL reads and
//! writes. Ours are sealed by PBKDF2-HMAC-SHA-256 and AES-256-CBC; keys that OpenSSL sealed by scrypt (RFC 7914) are opened
//! as well.
//!
//! The container has no authenticator: that the passphrase is right shows in padding and content, which must be a whole
//! private key. What it costs to open one is bounded before anything is derived.
use super::der::{self, Der, INTEGER, NULL, OCTETS, OID, SEQUENCE};
use super::scrypt;
use super::secret::Passphrase;
use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use std::fmt;
use std::num::NonZeroU32;
use zeroize::{Zeroize as _, Zeroizing};

/// Iterations of PBKDF2 that keys are sealed with: what OWASP recommends for HMAC-SHA-256, some five seconds of an
/// 880 MHz MIPS core (docs/decisions.md).
pub const ITERATIONS: u32 = 600_000;
/// Most iterations that are done to open a key.
pub const MAX_ITERATIONS: u32 = 2_000_000;
const SALT: usize = 16;
const MAX_SALT: usize = 64;
const BLOCK: usize = 16;
const MAX_CONTENT: usize = 1024;

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9];
const SCRYPT: &[u8] = &[0x2b, 6, 1, 4, 1, 0xda, 0x47, 4, 11];
const AES256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42];

/// Why a container cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// It is no `EncryptedPrivateKeyInfo` in DER.
    Malformed,
    /// Sealed in a way that is not read.
    Unsupported,
    /// Opening it would take too long or too much memory.
    TooCostly,
    /// The passphrase is wrong, or the content damaged.
    WrongPassphrase,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SealError::Malformed => "is no sealed private key (encrypted PKCS#8), or a damaged one",
            SealError::Unsupported => {
                "is sealed in a way that is not read; seal it anew with \
                 `openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256`"
            }
            SealError::TooCostly => {
                "would take too long or too much memory to open; the bounds are 2,000,000 iterations of PBKDF2 and \
                 16 MiB of scrypt"
            }
            SealError::WrongPassphrase => "the passphrase is wrong",
        })
    }
}

impl std::error::Error for SealError {}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kdf {
    Pbkdf2(NonZeroU32),
    Scrypt(scrypt::Cost),
}

/// A container that was read and whose cost is within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    kdf: Kdf,
    salt: Vec<u8>,
    iv: [u8; BLOCK],
    content: Vec<u8>,
}

/// Random bytes of a new container: the salt and the initialisation vector.
pub type Fresh = [u8; SALT + BLOCK];

impl Sealed {
    /// Reads a container.
    pub fn read(der: &[u8]) -> Result<Sealed, SealError> {
        let bad = SealError::Malformed;
        let mut all = Der::new(der);
        let mut info = all.sequence().filter(|_| all.is_empty()).ok_or(bad)?;
        let mut algorithm = info.sequence().ok_or(bad)?;
        let content = info.take(OCTETS).filter(|_| info.is_empty()).ok_or(bad)?;
        if algorithm.take(OID).ok_or(bad)? != PBES2 {
            return Err(SealError::Unsupported);
        }
        let mut parameters = algorithm.sequence().filter(|_| algorithm.is_empty()).ok_or(bad)?;
        let (kdf, salt) = read_kdf(parameters.sequence().ok_or(bad)?)?;
        let iv = read_cipher(parameters.sequence().filter(|_| parameters.is_empty()).ok_or(bad)?)?;
        if content.is_empty() || content.len() > MAX_CONTENT || !content.len().is_multiple_of(BLOCK) {
            return Err(bad);
        }
        Ok(Sealed { kdf, salt, iv, content: content.to_vec() })
    }

    /// Seals the DER of a private key, which has less than a kilobyte. It takes as long as the iterations say.
    pub fn new(key: &[u8], passphrase: &Passphrase, fresh: &Fresh, iterations: NonZeroU32) -> Sealed {
        let (salt, iv) = fresh.split_at(SALT);
        let mut sealed = Sealed {
            kdf: Kdf::Pbkdf2(iterations),
            salt: salt.to_vec(),
            iv: iv.try_into().unwrap_or_default(),
            content: Vec::new(),
        };
        sealed.content = encrypt(&sealed.key(passphrase), sealed.iv, key);
        sealed
    }

    /// The private key's DER. It takes as long as the container says, within the bounds.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = decrypt(&self.key(passphrase), self.iv, &self.content).ok_or(SealError::WrongPassphrase)?;
        // A wrong passphrase passes the padding once in 256 times; it does not make a sequence of just this length.
        let mut der = Der::new(&key);
        let whole = der.sequence().is_some() && der.is_empty();
        if whole { Ok(key) } else { Err(SealError::WrongPassphrase) }
    }

    /// The container's DER.
    pub fn to_der(&self) -> Vec<u8> {
        let salt = der::element(OCTETS, &[&self.salt]);
        let kdf = match self.kdf {
            Kdf::Pbkdf2(n) => {
                let prf = sequence(&[&oid(HMAC_SHA256), &der::element(NULL, &[])]);
                sequence(&[&oid(PBKDF2), &sequence(&[&salt, &der::integer(n.get()), &prf])])
            }
            Kdf::Scrypt(cost) => {
                let [n, r, p] = cost.parameters().map(der::integer);
                sequence(&[&oid(SCRYPT), &sequence(&[&salt, &n, &r, &p])])
            }
        };
        let cipher = sequence(&[&oid(AES256_CBC), &der::element(OCTETS, &[&self.iv])]);
        let algorithm = sequence(&[&oid(PBES2), &sequence(&[&kdf, &cipher])]);
        sequence(&[&algorithm, &der::element(OCTETS, &[&self.content])])
    }

    fn key(&self, passphrase: &Passphrase) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        match self.kdf {
            Kdf::Pbkdf2(n) => derive(PBKDF2_HMAC_SHA256, n, &self.salt, passphrase.bytes(), &mut *key),
            Kdf::Scrypt(cost) => scrypt::derive(passphrase.bytes(), &self.salt, cost, &mut *key),
        }
        key
    }
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der::element(SEQUENCE, parts)
}

fn oid(id: &[u8]) -> Vec<u8> {
    der::element(OID, &[id])
}

/// `KeyDerivationFunc`: PBKDF2-params (RFC 8018 appendix A.2) or scrypt-params (RFC 7914 section 7).
fn read_kdf(mut kdf: Der<'_>) -> Result<(Kdf, Vec<u8>), SealError> {
    let bad = SealError::Malformed;
    let id = kdf.take(OID).ok_or(bad)?;
    let mut parameters = kdf.sequence().filter(|_| kdf.is_empty()).ok_or(bad)?;
    let salt = parameters.take(OCTETS).filter(|s| s.len() <= MAX_SALT).ok_or(bad)?.to_vec();
    let number = |der: &mut Der<'_>| der.unsigned().ok_or(bad);
    let kdf = match id {
        PBKDF2 => {
            let iterations = NonZeroU32::new(number(&mut parameters)?).ok_or(bad)?;
            read_length(&mut parameters)?;
            // Without the member it is HMAC-SHA-1.
            let mut prf = parameters.sequence().ok_or(SealError::Unsupported)?;
            if prf.take(OID).ok_or(bad)? != HMAC_SHA256 {
                return Err(SealError::Unsupported);
            }
            prf.take(NULL).filter(|null| null.is_empty() && prf.is_empty()).ok_or(bad)?;
            if iterations.get() > MAX_ITERATIONS {
                return Err(SealError::TooCostly);
            }
            Kdf::Pbkdf2(iterations)
        }
        SCRYPT => {
            let (n, r, p) = (number(&mut parameters)?, number(&mut parameters)?, number(&mut parameters)?);
            read_length(&mut parameters)?;
            Kdf::Scrypt(scrypt::Cost::new(n, r, p).ok_or(SealError::TooCostly)?)
        }
        _ => return Err(SealError::Unsupported),
    };
    if parameters.is_empty() { Ok((kdf, salt)) } else { Err(bad) }
}

/// The optional length of the derived key, which the cipher fixes.
fn read_length(parameters: &mut Der<'_>) -> Result<(), SealError> {
    if parameters.is_next(INTEGER) && parameters.unsigned() != Some(32) {
        return Err(SealError::Malformed);
    }
    Ok(())
}

fn read_cipher(mut cipher: Der<'_>) -> Result<[u8; BLOCK], SealError> {
    if cipher.take(OID).ok_or(SealError::Malformed)? != AES256_CBC {
        return Err(SealError::Unsupported);
    }
    let iv = cipher.take(OCTETS).filter(|_| cipher.is_empty()).ok_or(SealError::Malformed)?;
    iv.try_into().map_err(|_| SealError::Malformed)
}

/// AES-256-CBC with the padding of RFC 8018 section 6.1.1.
fn encrypt(key: &[u8; 32], iv: [u8; BLOCK], plain: &[u8]) -> Vec<u8> {
    let cipher = Aes256::new(&(*key).into());
    let missing = BLOCK - plain.len() % BLOCK;
    let padding = u8::try_from(missing).unwrap_or_default();
    let mut padded = Zeroizing::new(Vec::with_capacity(plain.len() + BLOCK));
    padded.extend_from_slice(plain);
    padded.extend(std::iter::repeat_n(padding, missing));
    let mut last = iv;
    for block in padded.chunks_exact_mut(BLOCK) {
        let mut next = last;
        next.iter_mut().zip(block.iter()).for_each(|(a, b)| *a ^= b);
        let mut next = next.into();
        cipher.encrypt_block(&mut next);
        last = next.into();
        block.copy_from_slice(&last);
    }
    padded.to_vec()
}

/// `None` where the padding is wrong.
fn decrypt(key: &[u8; 32], iv: [u8; BLOCK], content: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = Aes256::new(&(*key).into());
    let mut plain = Zeroizing::new(Vec::with_capacity(content.len()));
    let mut last: &[u8] = &iv;
    for encrypted in content.chunks_exact(BLOCK) {
        let mut block = <[u8; BLOCK]>::try_from(encrypted).ok()?.into();
        cipher.decrypt_block(&mut block);
        plain.extend(block.iter().zip(last).map(|(a, b)| a ^ b));
        block.as_mut_slice().zeroize();
        last = encrypted;
    }
    let padding = *plain.last()?;
    let length = plain.len().checked_sub(padding.into())?;
    let pad = plain.get(length..)?;
    let whole = (1..=BLOCK).contains(&pad.len()) && pad.iter().all(|b| *b == padding);
    plain.truncate(length);
    whole.then_some(plain)
}

#[cfg(test)]
mod tests;

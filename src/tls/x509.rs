//! As much of X.509 (RFC 5280) and PKCS#10 (RFC 2986) as one ECDSA P-256 key needs: a certificate that it signs for itself,
//! and a request for one. Pure: the caller signs.
use crate::vault::der::{INTEGER, OCTETS, OID, SEQUENCE, element};
use ring::digest::{SHA256, digest};
use std::net::IpAddr;

const BITS: u8 = 0x03;
const SET: u8 = 0x31;
const UTF8: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[n]`, constructed.
const CONTEXT: u8 = 0xa0;
/// `[2]` and `[7]` of GeneralName, primitive.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// Octets of a serial number, RFC 5280 section 4.1.2.2.
const SERIAL: usize = 20;

/// Octets of all names together: what a certificate may carry and a handshake still fits a few records.
const MAX_NAMES: usize = 16 * 1024;

/// 1.2.840.10045.2.1 with 1.2.840.10045.3.1.7, RFC 5480: a public key on P-256.
const P256: [u8; 21] =
    [0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// 1.2.840.10045.4.3.2, RFC 5758: ECDSA with SHA-256, without parameters.
const ECDSA_SHA256: [u8; 12] = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
/// 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 17];
/// 1.2.840.113549.1.9.14, RFC 2985.
const EXTENSION_REQUEST: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

/// The SubjectPublicKeyInfo of an uncompressed point on P-256.
pub fn public_key_info(point: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&P256, &bits(point)])
}

/// What a certificate of this key for these names, issued by itself, has signed (TBSCertificate). It has no end that matters:
/// buyers pin the key, and a router has no clock at boot. `None` if a name cannot stand in one.
pub fn certificate_info(point: &[u8], names: &[String]) -> Option<Vec<u8>> {
    let extensions = alternative_names(names)?;
    let extensions = match extensions.as_slice() {
        [] => Vec::new(),
        some => element(CONTEXT | 3, &[&element(SEQUENCE, &[some])]),
    };
    let validity =
        [element(UTC_TIME, &[b"750101000000Z"]), element(GENERALIZED_TIME, &[b"40960101000000Z"])].concat();
    Some(element(
        SEQUENCE,
        &[
            &element(CONTEXT, &[&element(INTEGER, &[&[2]])]),
            &serial(point),
            &ECDSA_SHA256,
            &name(),
            &element(SEQUENCE, &[&validity]),
            &name(),
            &public_key_info(point),
            &extensions,
        ],
    ))
}

/// What a request for a certificate of this key for these names has signed (CertificationRequestInfo). `None` if a name
/// cannot stand in one.
pub fn request_info(point: &[u8], names: &[String]) -> Option<Vec<u8>> {
    let extensions = alternative_names(names)?;
    let attribute = match extensions.as_slice() {
        [] => Vec::new(),
        some => {
            let wanted = element(SET, &[&element(SEQUENCE, &[some])]);
            element(SEQUENCE, &[&element(OID, &[&EXTENSION_REQUEST]), &wanted])
        }
    };
    let attributes = element(CONTEXT, &[&attribute]);
    Some(element(SEQUENCE, &[&element(INTEGER, &[&[0]]), &name(), &public_key_info(point), &attributes]))
}

/// The whole of a certificate or request: what was signed, by what, the signature (ECDSA-Sig-Value).
pub fn signed(info: &[u8], signature: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[info, &ECDSA_SHA256, &bits(signature)])
}

fn bits(octets: &[u8]) -> Vec<u8> {
    element(BITS, &[&[0], octets])
}

fn name() -> Vec<u8> {
    let attribute = element(SEQUENCE, &[&element(OID, &[&COMMON_NAME]), &element(UTF8, &[b"echomesh"])]);
    element(SEQUENCE, &[&element(SET, &[&attribute])])
}

/// The hash of the key, as a positive integer in its shortest form.
fn serial(point: &[u8]) -> Vec<u8> {
    let hash = digest(&SHA256, point);
    let mut octets: Vec<u8> = hash.as_ref().iter().take(SERIAL).copied().collect();
    if let Some(first) = octets.first_mut() {
        *first &= 0x7f;
    }
    let zeros = |o: &[u8]| matches!(o, [0, next, ..] if *next < 0x80);
    while zeros(&octets) {
        octets.remove(0);
    }
    element(INTEGER, &[&octets])
}

/// The extension that names the key's holder; empty if there is no name, `None` if one is not ASCII or all are too long.
fn alternative_names(names: &[String]) -> Option<Vec<u8>> {
    if names.is_empty() {
        return Some(Vec::new());
    }
    let mut all = Vec::new();
    for name in names {
        all.extend(match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => element(IP_ADDRESS, &[&ip.octets()]),
            Ok(IpAddr::V6(ip)) => element(IP_ADDRESS, &[&ip.octets()]),
            Err(_) if name.is_ascii() => element(DNS_NAME, &[name.as_bytes()]),
            Err(_) => return None,
        });
        if all.len() > MAX_NAMES {
            return None;
        }
    }
    let value = element(OCTETS, &[&element(SEQUENCE, &[&all])]);
    Some(element(SEQUENCE, &[&element(OID, &[&SUBJECT_ALT_NAME]), &value]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};

    fn by_rcgen(names: &[String]) -> CertificateParams {
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "echomesh");
        parameters
    }

    /// The same as rcgen's, but for the signature, which is another every time.
    fn agree(names: &[String]) {
        let key = KeyPair::generate().unwrap();
        let point = key.der_bytes();
        assert_eq!(public_key_info(point), key.subject_public_key_info());
        let info = certificate_info(point, names).unwrap();
        let theirs = by_rcgen(names).self_signed(&key).unwrap();
        assert!(theirs.der().windows(info.len()).any(|part| part == info), "{names:?}");
        let overhead = theirs.der().len() - info.len();
        assert!((4 + 12 + 4 + 64..=4 + 12 + 3 + 72).contains(&overhead), "{overhead}");
        let info = request_info(point, names).unwrap();
        let theirs = by_rcgen(names).serialize_request(&key).unwrap();
        assert!(theirs.der().windows(info.len()).any(|part| part == info), "{names:?}");
    }

    #[test]
    fn what_is_signed_is_what_rcgen_would_sign() {
        agree(&[]);
        agree(&[
            "relay.test".to_owned(),
            "192.0.2.7".to_owned(),
            "2001:db8::7".to_owned(),
            "b.test".to_owned(),
        ]);
        let many: Vec<String> = (0..80).map(|n| format!("name-{n}.{}.test", "a".repeat(40))).collect();
        agree(&many);
    }

    #[test]
    fn serials_are_positive_and_in_their_shortest_form() {
        for n in 0..3000u32 {
            let serial = serial(&n.to_be_bytes());
            let content = serial.strip_prefix(&[INTEGER, serial[1]]).unwrap();
            assert!(content.len() <= SERIAL && content[0] < 0x80 && usize::from(serial[1]) == content.len());
            assert!(content[0] != 0 || content[1] >= 0x80, "{content:?}");
        }
    }

    #[test]
    fn a_name_that_no_certificate_can_have_is_refused() {
        assert_eq!(certificate_info(&[4; 65], &["müll.test".to_owned()]), None);
        assert_eq!(request_info(&[4; 65], &["müll.test".to_owned()]), None);
        let long = |n: usize| vec!["a".repeat(n - 4)];
        assert!(certificate_info(&[4; 65], &long(MAX_NAMES)).is_some());
        assert_eq!(certificate_info(&[4; 65], &long(MAX_NAMES + 1)), None);
    }

    #[test]
    fn a_golden_request() {
        let info = request_info(&[4; 65], &["a.test".to_owned(), "192.0.2.7".to_owned()]).unwrap();
        let start = "30819f02010030133111300f06035504030c086563686f6d657368\
                     3059301306072a8648ce3d020106082a8648ce3d030107034200";
        let end = "a02a302806092a864886f70d01090e311b301930170603551d110410300e8206612e746573748704c0000207";
        let expected = format!("{start}{}{end}", "04".repeat(65));
        assert_eq!(crate::encoding::hex(&info), expected);
    }

    proptest! {
        #[test]
        fn any_ascii_names_give_what_rcgen_gives(names in proptest::collection::vec("[a-z0-9.-]{1,60}", 0..5)) {
            agree(&names);
        }
    }
}

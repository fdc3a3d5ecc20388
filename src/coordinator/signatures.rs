//! HTTP Message Signatures (RFC 9421) and digests (RFC 9530) of the requests to the coordinator.
use crate::encoding::base64;
use crate::http::url::Url;
use crate::signed::NodeKey;
use crate::time::Unix;
use ring::digest::{SHA256, digest};
use std::fmt::Write as _;

/// The signature's label in `Signature` and `Signature-Input`.
pub const LABEL: &str = "echomesh";

/// The value of a `Content-Digest` field: RFC 9530, `sha-256` alone.
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", base64(digest(&SHA256, body).as_ref()))
}

/// The parameters of a signature, in the order in which they are written (RFC 9421 section 2.3).
#[derive(Clone, Debug, Default)]
pub struct Parameters<'a> {
    /// When it was made.
    pub created: Option<Unix>,
    /// A value used once.
    pub nonce: Option<&'a str>,
    /// Whose key it is.
    pub key_id: Option<&'a str>,
    /// The algorithm's registered name.
    pub algorithm: Option<&'a str>,
}

/// The covered components and parameters as an inner list (RFC 9421 section 2.3): the value of `@signature-params` and
/// of the label in `Signature-Input`.
pub fn signature_params(components: &[(&str, String)], parameters: &Parameters<'_>) -> String {
    let names: Vec<String> = components.iter().map(|(name, _)| quoted(name)).collect();
    let mut out = format!("({})", names.join(" "));
    if let Some(created) = parameters.created {
        let _ = write!(out, ";created={}", created.0);
    }
    for (name, value) in
        [("nonce", parameters.nonce), ("keyid", parameters.key_id), ("alg", parameters.algorithm)]
    {
        if let Some(value) = value {
            let _ = write!(out, ";{name}={}", quoted(value));
        }
    }
    out
}

/// The signature base (RFC 9421 section 2.5): a line for each component, the last one for the parameters.
pub fn signature_base(components: &[(&str, String)], params: &str) -> String {
    let mut out = String::new();
    for (name, value) in components {
        let _ = writeln!(out, "{}: {value}", quoted(name));
    }
    let _ = write!(out, "\"@signature-params\": {params}");
    out
}

/// The three fields that sign a request: `Content-Digest`, `Signature-Input`, `Signature`. `nonce` is base64 of at
/// least 16 random bytes that were never used before.
pub fn sign_request(
    method: &str,
    url: &Url,
    body: &[u8],
    created: Unix,
    nonce: &str,
    key: &NodeKey,
) -> [(&'static str, String); 3] {
    let digest = content_digest(body);
    let components = [
        ("@method", method.to_owned()),
        ("@authority", url.origin.authority()),
        ("@path", url.path.clone()),
        ("@query", format!("?{}", url.query.as_deref().unwrap_or_default())),
        ("content-digest", digest.clone()),
    ];
    let id = key.node_id();
    let parameters = Parameters {
        created: Some(created),
        nonce: Some(nonce),
        key_id: Some(&id),
        algorithm: Some("ed25519"),
    };
    let params = signature_params(&components, &parameters);
    let signature = key.sign(signature_base(&components, &params).as_bytes());
    [
        ("Content-Digest", digest),
        ("Signature-Input", format!("{LABEL}={params}")),
        ("Signature", format!("{LABEL}=:{}:", base64(&signature))),
    ]
}

/// A string of RFC 8941 section 3.3.3. What is quoted here has neither controls nor characters beyond ASCII.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::from_base64;

    #[test]
    fn the_ed25519_vector_of_rfc_9421_b_2_6() {
        let key = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF";
        let key = NodeKey::from_pkcs8(&from_base64(key).unwrap()).unwrap();
        let components = [
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT".to_owned()),
            ("@method", "POST".to_owned()),
            ("@path", "/foo".to_owned()),
            ("@authority", "example.com".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("content-length", "18".to_owned()),
        ];
        let parameters = Parameters {
            created: Some(Unix(1_618_884_473)),
            key_id: Some("test-key-ed25519"),
            ..Parameters::default()
        };
        let params = signature_params(&components, &parameters);
        let base = signature_base(&components, &params);
        assert_eq!(
            base,
            "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
             \"@authority\": example.com\n\"content-type\": application/json\n\"content-length\": 18\n\
             \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
             \"content-length\");created=1618884473;keyid=\"test-key-ed25519\""
        );
        assert_eq!(
            base64(&key.sign(base.as_bytes())),
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
        );
    }

    #[test]
    fn the_digests_of_rfc_9530() {
        for (body, digest) in [
            // Appendix B.1 (with a line feed), section 2 of RFC 9421 (without), and nothing at all.
            ("{\"hello\": \"world\"}\n", "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
            ("{\"hello\": \"world\"}", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
            ("", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),
        ] {
            assert_eq!(content_digest(body.as_bytes()), digest);
        }
    }

    #[test]
    fn a_request_is_signed_as_the_contract_says() {
        let key = NodeKey::from_seed(&[7; 32]).unwrap();
        let url = Url::parse("https://Coordinator.Example:443/api/sessions/control").unwrap();
        let [digest, input, signature] = sign_request("GET", &url, b"", Unix(1), "bm9uY2U=", &key);
        assert_eq!(digest.1, content_digest(b""));
        let params = format!(
            "(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\");created=1;nonce=\"bm9uY2U=\";\
             keyid=\"{}\";alg=\"ed25519\"",
            key.node_id()
        );
        assert_eq!(input.1, format!("echomesh={params}"));
        let base = format!(
            "\"@method\": GET\n\"@authority\": coordinator.example\n\"@path\": /api/sessions/control\n\
             \"@query\": ?\n\"content-digest\": {}\n\"@signature-params\": {params}",
            digest.1
        );
        let bytes = signature.1.strip_prefix("echomesh=:").and_then(|s| s.strip_suffix(':')).unwrap();
        assert!(key.public().verifies(base.as_bytes(), &from_base64(bytes).unwrap()));
    }

    #[test]
    fn another_port_and_a_query_are_part_of_what_is_signed() {
        let key = NodeKey::from_seed(&[7; 32]).unwrap();
        let sign =
            |url: &str| sign_request("GET", &Url::parse(url).unwrap(), b"", Unix(1), "n", &key)[2].1.clone();
        let plain = sign("https://c.example/x");
        assert_eq!(plain, sign("https://C.example:443/x"));
        assert_eq!(plain, sign("https://c.example/x?"));
        assert_ne!(plain, sign("https://c.example:8443/x"));
        assert_ne!(plain, sign("https://c.example/x?waitMs=1"));
    }
}

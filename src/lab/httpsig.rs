//! Verifying signed requests: RFC 9421 and RFC 9530 as CONTRACTS section 1 narrows them.
use super::keys;
use super::text::{base64, unbase64};
use sha2::{Digest, Sha256};

/// What the contract lets a request cover, no more and no less.
const COMPONENTS: [&str; 5] = ["@method", "@authority", "@path", "@query", "content-digest"];

/// A request as far as its signature goes.
pub struct Message<'a> {
    /// Request method.
    pub method: &'a str,
    /// The authority of the configured URL, lower case, without `:443`.
    pub authority: &'a str,
    /// Path, percent-encoded as received.
    pub path: &'a str,
    /// Query without the question mark; empty if there is none.
    pub query: &'a str,
    /// Field values by lower-case name.
    pub headers: &'a [(String, String)],
    /// Content.
    pub body: &'a [u8],
}

/// What a verified signature says.
#[derive(Debug)]
pub struct Signed {
    /// The signer's NodeID.
    pub key_id: String,
    /// Unix seconds.
    pub created: i64,
    /// Base64 of at least 16 random bytes.
    pub nonce: String,
}

/// Why a request's signature does not hold: the contract's slug and a sentence.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault(pub &'static str, pub String);

impl Message<'_> {
    fn header(&self, name: &str) -> Result<&str, String> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.trim());
        match (found.next(), found.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => Err(format!("the field {name} is missing")),
            _ => Err(format!("the field {name} is there twice")),
        }
    }

    fn component(&self, name: &str) -> Result<String, String> {
        Ok(match name {
            "@method" => self.method.to_owned(),
            "@authority" => self.authority.to_owned(),
            "@path" => self.path.to_owned(),
            "@query" => format!("?{}", self.query),
            field => self.header(field)?.to_owned(),
        })
    }
}

/// Verifies digest and signature; freshness and nonce are the caller's to judge.
pub fn verify(message: &Message) -> Result<Signed, Fault> {
    let invalid = |why: String| Fault("signature-invalid", why);
    let digest = message.header("content-digest").map_err(invalid)?;
    if sf_bytes(digest, "sha-256").as_deref() != Some(sha256(message.body).as_slice()) {
        return Err(Fault("digest-mismatch", format!("content-digest {digest:?} is not of this content")));
    }
    let input = parse_input(message.header("signature-input").map_err(invalid)?).map_err(invalid)?;
    check_input(&input).map_err(invalid)?;
    let field = message.header("signature").map_err(invalid)?;
    let signature = sf_bytes(field, "echomesh").ok_or_else(|| invalid("no signature echomesh".to_owned()))?;
    let mut covered = Vec::new();
    for name in &input.components {
        covered.push((name.as_str(), message.component(name).map_err(invalid)?));
    }
    let base = signature_base(&covered, &input.serialized);
    let key_id = input.text("keyid").unwrap_or_default();
    let public =
        keys::node_public(key_id).ok_or_else(|| invalid(format!("keyid {key_id:?} is no NodeID")))?;
    if !keys::verify(public, base.as_bytes(), &base64(&signature)) {
        return Err(invalid(format!("the signature is not over this base: {base:?}")));
    }
    let created = input.parameter("created").and_then(|value| value.parse().ok());
    Ok(Signed {
        key_id: key_id.to_owned(),
        created: created.unwrap_or(0),
        nonce: input.text("nonce").unwrap_or_default().to_owned(),
    })
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// RFC 9421 section 2.5: one line per component, then the parameters.
pub fn signature_base(covered: &[(&str, String)], parameters: &str) -> String {
    let lines: String = covered.iter().map(|(name, value)| format!("\"{name}\": {value}\n")).collect();
    format!("{lines}\"@signature-params\": {parameters}")
}

struct Input {
    components: Vec<String>,
    parameters: Vec<(String, String)>,
    serialized: String,
}

impl Input {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.parameter(name)?.strip_prefix('"')?.strip_suffix('"')
    }
}

fn check_input(input: &Input) -> Result<(), String> {
    let mut components: Vec<&str> = input.components.iter().map(String::as_str).collect();
    components.sort_unstable();
    let mut wanted = COMPONENTS;
    wanted.sort_unstable();
    if components != wanted {
        return Err(format!("covered components are {components:?}, not exactly {COMPONENTS:?}"));
    }
    let mut names: Vec<&str> = input.parameters.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names != ["alg", "created", "keyid", "nonce"] {
        return Err(format!("parameters are {names:?}, not created, nonce, keyid and alg"));
    }
    if input.text("alg") != Some("ed25519") {
        return Err("alg is not \"ed25519\"".to_owned());
    }
    let nonce = input.text("nonce").and_then(unbase64).ok_or("nonce is no base64 string")?;
    if nonce.len() < 16 {
        return Err(format!("nonce has {} bytes, fewer than 16", nonce.len()));
    }
    match input.parameter("created").map(str::parse::<i64>) {
        Some(Ok(_)) => Ok(()),
        _ => Err("created is no integer".to_owned()),
    }
}

/// Parses `echomesh=("a" "b");p=1;q="x"` and writes it again as RFC 8941 section 4.1 serializes it.
fn parse_input(field: &str) -> Result<Input, String> {
    let wrong = |what: &str| format!("signature-input {field:?}: {what}");
    let rest = field.strip_prefix("echomesh=(").ok_or_else(|| wrong("the label is not echomesh"))?;
    let (list, mut rest) = rest.split_once(')').ok_or_else(|| wrong("no closing parenthesis"))?;
    let mut components = Vec::new();
    for item in list.split_ascii_whitespace() {
        let name = item.strip_prefix('"').and_then(|item| item.strip_suffix('"'));
        components.push(name.ok_or_else(|| wrong("a component is no plain string"))?.to_owned());
    }
    let mut parameters = Vec::new();
    while let Some(tail) = rest.strip_prefix(';') {
        let (name, value) =
            tail.trim_start().split_once('=').ok_or_else(|| wrong("a parameter without value"))?;
        let end = match value.strip_prefix('"') {
            // None of the four values may hold a quote or a backslash, so the next quote ends it.
            Some(inner) => 2 + inner.find('"').ok_or_else(|| wrong("a string does not end"))?,
            None => value.find(';').unwrap_or(value.len()),
        };
        let (value, next) = value.split_at_checked(end).ok_or_else(|| wrong("not ASCII"))?;
        parameters.push((name.to_owned(), value.to_owned()));
        rest = next;
    }
    if !rest.is_empty() {
        return Err(wrong("something follows the parameters"));
    }
    let list: Vec<String> = components.iter().map(|name| format!("\"{name}\"")).collect();
    let tail: String = parameters.iter().map(|(name, value)| format!(";{name}={value}")).collect();
    Ok(Input { serialized: format!("({}){tail}", list.join(" ")), components, parameters })
}

/// The byte sequence a dictionary field has under a key.
fn sf_bytes(field: &str, key: &str) -> Option<Vec<u8>> {
    let members = field.split(',').map(str::trim);
    let value = members.filter_map(|member| member.strip_prefix(key)?.strip_prefix("=:")).next()?;
    unbase64(value.strip_suffix(':')?)
}

/// Signs a request the way a node does.
#[cfg(test)]
pub fn sign(key: &keys::Key, message: &Message, created: i64, nonce: &str) -> [(String, String); 3] {
    let digest = format!("sha-256=:{}:", base64(&sha256(message.body)));
    let parameters = format!(
        "(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\");created={created};nonce=\"{nonce}\";\
         keyid=\"{}\";alg=\"ed25519\"",
        key.node_id()
    );
    let covered = COMPONENTS.map(|name| match name {
        "content-digest" => (name, digest.clone()),
        name => (name, message.component(name).unwrap_or_default()),
    });
    let signature = key.sign(signature_base(&covered, &parameters).as_bytes());
    [
        ("content-digest".to_owned(), digest),
        ("signature-input".to_owned(), format!("echomesh={parameters}")),
        ("signature".to_owned(), format!("echomesh=:{signature}:")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::text::unbase64url;

    #[test]
    fn rfc9421_b_2_6() {
        let covered = [
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT".to_owned()),
            ("@method", "POST".to_owned()),
            ("@path", "/foo".to_owned()),
            ("@authority", "example.com".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("content-length", "18".to_owned()),
        ];
        let parameters = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
            ;created=1618884473;keyid=\"test-key-ed25519\"";
        let base = signature_base(&covered, parameters);
        let signature =
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==";
        let public = base64(&unbase64url("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs").unwrap());
        assert!(keys::verify(&public, base.as_bytes(), signature));
        assert!(!keys::verify(&public, base.replace("POST", "PUT").as_bytes(), signature));
    }

    #[test]
    fn rfc9530_digest_of_the_example() {
        let digest = base64(&sha256(b"{\"hello\": \"world\"}\n"));
        assert_eq!(digest, "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=");
        assert_eq!(base64(&sha256(b"")), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    fn request(headers: &[(String, String)]) -> Message<'_> {
        Message {
            method: "GET",
            authority: "coordinator.lab.test",
            path: "/sessions/control",
            query: "cursor=&waitMs=0",
            headers,
            body: b"",
        }
    }

    fn signed() -> (keys::Key, Vec<(String, String)>) {
        let key = keys::Key::from_seed([9; 32]);
        let headers = sign(&key, &request(&[]), 1_700_000_000, &base64(&[1; 16]));
        (key, headers.to_vec())
    }

    #[test]
    fn what_sign_makes_verify_takes() {
        let (key, headers) = signed();
        let found = verify(&request(&headers)).unwrap();
        assert_eq!((found.key_id, found.created), (key.node_id(), 1_700_000_000));
    }

    #[test]
    fn each_tampering_has_its_slug() {
        let (_, headers) = signed();
        let mut other = request(&headers);
        other.authority = "coordinator.lab.test:8443";
        assert_eq!(verify(&other).unwrap_err().0, "signature-invalid");
        let mut other = request(&headers);
        other.body = b"x";
        assert_eq!(verify(&other).unwrap_err().0, "digest-mismatch");
        for (from, to) in
            [(";alg=\"ed25519\"", ""), ("\"@query\" ", ""), (";alg", ";expires=1;alg"), ("echomesh=", "sig=")]
        {
            let mut headers = headers.clone();
            headers[1].1 = headers[1].1.replace(from, to);
            assert_eq!(verify(&request(&headers)).unwrap_err().0, "signature-invalid", "{from}");
        }
    }

    #[test]
    fn a_short_nonce_is_refused() {
        let key = keys::Key::from_seed([9; 32]);
        let headers = sign(&key, &request(&[]), 1, &base64(&[1; 15]));
        assert!(verify(&request(&headers)).unwrap_err().1.contains("fewer than 16"));
    }
}

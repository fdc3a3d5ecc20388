//! The daemon's JSON and signatures against files that another implementation made (`tests/golden/README.md`), and
//! against the published vectors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]
use echomesh::coordinator::signatures::{content_digest, sign_request};
use echomesh::json::{self, Value};
use echomesh::signed::{self, Kind, NodeKey, PublicKey};
use std::fs;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn value(name: &str) -> Value {
    json::parse(&bytes(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn text<'a>(of: &'a Value, member: &str) -> &'a str {
    of.member(member).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {member} in {of:?}"))
}

fn rows(of: &Value, member: &str) -> Vec<Value> {
    of.member(member).and_then(Value::as_array).map(<[Value]>::to_vec).unwrap_or_default()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap())
        .collect()
}

fn key(name: &str) -> NodeKey {
    let keys = value("keys.json");
    let seed: [u8; 32] = from_hex(text(keys.member(name).unwrap(), "seedHex")).try_into().unwrap();
    NodeKey::from_seed(&seed).unwrap()
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "session-open" => Kind::SessionOpen,
        "session-close" => Kind::SessionClose,
        "policy" => Kind::Policy,
        "probe-request" => Kind::ProbeRequest,
        "probe-content" => Kind::ProbeContent,
        "probe-report" => Kind::ProbeReport,
        "metering" => Kind::Metering,
        "list" => Kind::List,
        _ => return None,
    })
}

#[test]
fn numbers_are_written_as_rfc_8785_appendix_b_has_them() {
    let vectors = rows(&value("rfc8785.json"), "numbers");
    assert_eq!(vectors.len(), 26);
    for row in vectors {
        let bits = u64::from_str_radix(text(&row, "ieee754"), 16).unwrap();
        let number = f64::from_bits(bits);
        let Some(written) = row.member("json").and_then(Value::as_str) else {
            assert!(!number.is_finite());
            continue;
        };
        assert_eq!(Value::Float(number).canonical(), written);
        let read = json::parse(written.as_bytes()).unwrap();
        assert_eq!(read.as_f64(), Some(number), "{written}");
        assert_eq!(read.canonical(), written);
    }
}

#[test]
fn documents_are_written_as_rfc_8785_has_them() {
    for row in rows(&value("rfc8785.json"), "documents") {
        let name = text(&row, "name");
        let parsed = json::parse(text(&row, "input").as_bytes()).unwrap();
        assert_eq!(parsed.canonical(), text(&row, "canonical"), "{name}");
        assert_eq!(parsed.canonical().into_bytes(), from_hex(text(&row, "canonicalHex")), "{name}");
    }
}

#[test]
fn every_bad_json_text_is_refused() {
    let bad: Vec<Value> =
        rows(&value("index.json"), "bad").into_iter().filter(|r| text(r, "of") == "json").collect();
    assert!(bad.len() >= 20);
    for row in bad {
        let name = text(&row, "file");
        assert!(json::parse(&bytes(name)).is_err(), "{name} was taken");
    }
}

#[test]
fn signed_bytes_are_the_ones_another_implementation_signed() {
    let mut seen = 0;
    for row in rows(&value("index.json"), "good") {
        let Some(kind) = row.member("type").and_then(Value::as_str).and_then(kind) else { continue };
        let (name, object) = (text(&row, "file"), value(text(&row, "file")));
        assert_eq!(signed::signed_bytes(kind, &object), bytes(text(&row, "signedBytes")), "{name}");
        let signer = key(text(&row, "signer"));
        assert!(signed::verify(kind, &object, &signer.public()), "{name}: its signature");
        assert!(!signed::verify(kind, &object, &key("oldNode").public()), "{name}: another's key");
        let mut again = object.clone();
        again.remove(kind.member());
        signed::sign(kind, &mut again, &signer);
        assert_eq!(again.member(kind.member()), object.member(kind.member()), "{name}: signed again");
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[test]
fn every_forged_open_is_refused() {
    let coordinator = key("coordinator").public();
    for row in rows(&value("index.json"), "bad") {
        let name = text(&row, "file").to_owned();
        if text(&row, "of") != "signal-open" {
            continue;
        }
        let forged = text(&row, "reason").starts_with("bad-signature");
        assert_eq!(signed::verify(Kind::SessionOpen, &value(&name), &coordinator), !forged, "{name}");
    }
}

#[test]
fn the_old_keys_word_for_the_new_one_verifies() {
    let request = value("register-request.json");
    let previous = request.member("previous").unwrap();
    let mut word = json::object([("nodeId", text(&request, "nodeId").into())]);
    assert_eq!(signed::signed_bytes(Kind::Rotation, &word), bytes("rotation.signed"));
    word.set("sig", text(previous, "sig"));
    let old = PublicKey::parse(text(previous, "nodeId")).unwrap();
    assert!(signed::verify(Kind::Rotation, &word, &old));
}

#[test]
fn ed25519_agrees_with_rfc_9421_b_2_6() {
    let vector = value("rfc9421-b26.json");
    let seed: [u8; 32] = from_hex(text(&vector, "seedHex")).try_into().unwrap();
    let signature = NodeKey::from_seed(&seed).unwrap().sign(text(&vector, "signatureBase").as_bytes());
    assert_eq!(echomesh::encoding::base64(&signature), text(&vector, "signature"));
}

#[test]
fn requests_are_signed_as_another_implementation_signs_them() {
    for name in ["heartbeat", "control-poll", "probe-poll", "with-port-and-path"] {
        let example = value(&format!("request-{name}.json"));
        let url = echomesh::http::url::Url::parse(text(&example, "url")).unwrap();
        let created = echomesh::time::Unix(example.member("created").and_then(Value::as_int).unwrap());
        let body = text(&example, "body").as_bytes();
        let fields = sign_request(
            text(&example, "method"),
            &url,
            body,
            created,
            text(&example, "nonce"),
            &key("node"),
        );
        let expected = ["contentDigest", "signatureInput", "signature"].map(|m| text(&example, m));
        assert_eq!(fields.each_ref().map(|(_, value)| value.as_str()), expected, "{name}");
    }
}

#[test]
fn digests_agree_with_rfc_9530() {
    let vectors = value("rfc9530.json");
    for row in vectors.as_array().unwrap() {
        assert_eq!(content_digest(text(row, "body").as_bytes()), text(row, "contentDigest"));
    }
}

//! blobmsg both ways: every type, the recorded bytes, the bounds.
use super::*;
use crate::json::{MAX_INTEGER, object, parse};
use crate::ubus::message::{attribute, first};
use crate::ubus::testdata::recorded;
use proptest::prelude::*;

fn value_of(kind: u8, content: &[u8]) -> Result<Value, Malformed> {
    let mut bytes = Vec::new();
    put_named(&mut bytes, kind, "v", |out| out.extend(content));
    read_members(&bytes).map(|mut table| table.remove("v").unwrap())
}

fn sent(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_value(&mut bytes, "v", value);
    bytes
}

#[test]
fn every_type_and_width_is_read() {
    let integer = |i: i64| Ok(Value::Int(i));
    for (kind, content, value) in [
        (NULL, vec![], Ok(Value::Null)),
        (BOOL, vec![0], Ok(Value::Bool(false))),
        (BOOL, vec![2], Ok(Value::Bool(true))),
        (INT16, i16::MIN.to_be_bytes().to_vec(), integer(-32_768)),
        (INT32, i32::MIN.to_be_bytes().to_vec(), integer(-2_147_483_648)),
        (INT64, MAX_INTEGER.to_be_bytes().to_vec(), integer(MAX_INTEGER)),
        (INT64, i64::MAX.to_be_bytes().to_vec(), Ok(Value::Float(i64::MAX as f64))),
        (DOUBLE, (-2.5f64).to_be_bytes().to_vec(), Ok(Value::Float(-2.5))),
        (DOUBLE, (-0.0f64).to_be_bytes().to_vec(), integer(0)),
        (DOUBLE, 1e15f64.to_be_bytes().to_vec(), integer(1_000_000_000_000_000)),
        (DOUBLE, f64::NAN.to_be_bytes().to_vec(), Ok(Value::Null)),
        (STRING, b"\xc3\xa4\0".to_vec(), Ok("ä".into())),
        (STRING, b"\0".to_vec(), Ok("".into())),
        (TABLE, vec![], Ok(Value::Object(vec![]))),
        (ARRAY, vec![], Ok(Value::Array(vec![]))),
        (BOOL, vec![], Err(Malformed("a number has not the length of its type"))),
        (INT32, vec![0; 8], Err(Malformed("a number has not the length of its type"))),
        (STRING, b"a".to_vec(), Err(Malformed("a text does not end with its only NUL"))),
        (STRING, vec![], Err(Malformed("a text does not end with its only NUL"))),
        (STRING, b"a\0b\0".to_vec(), Err(Malformed("a text does not end with its only NUL"))),
        (STRING, b"\xff\0".to_vec(), Err(Malformed("a text is not UTF-8"))),
        (9, vec![], Err(Malformed("a value is of no known type"))),
    ] {
        assert_eq!(value_of(kind, &content), value, "{kind} {content:?}");
    }
}

#[test]
fn every_value_is_sent_as_its_type() {
    let integer = |kind, content: &[u8]| (kind, content.to_vec());
    for (value, (kind, content)) in [
        (Value::Null, (NULL, vec![])),
        (true.into(), (BOOL, vec![1])),
        (Value::Int(-1), integer(INT32, &(-1i32).to_be_bytes())),
        (Value::Int(1 << 31), integer(INT64, &(1i64 << 31).to_be_bytes())),
        (Value::Int(-(1 << 31)), integer(INT32, &i32::MIN.to_be_bytes())),
        (Value::Float(10.0), integer(INT32, &10i32.to_be_bytes())),
        (Value::Float(1e17), (DOUBLE, 1e17f64.to_be_bytes().to_vec())),
        (Value::Float(0.1), (DOUBLE, 0.1f64.to_be_bytes().to_vec())),
        (Value::Float(f64::INFINITY), (NULL, vec![])),
        ("a\0b".into(), (STRING, "a\u{fffd}b\0".as_bytes().to_vec())),
        (Value::Array(vec![]), (ARRAY, vec![])),
        (Value::Object(vec![]), (TABLE, vec![])),
    ] {
        let mut bytes = Vec::new();
        put_named(&mut bytes, kind, "v", |out| out.extend(content));
        assert_eq!(sent(&value), bytes, "{value:?}");
    }
}

#[test]
fn what_a_real_ubusd_delivered_is_read() {
    let data = |name| {
        let bytes = recorded(name);
        let (message, length) = first(&bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        read_members(message.find(attribute::DATA).unwrap().unwrap()).unwrap()
    };
    let arguments = br#"{"name":"x","n":-1,"on":true,"big":5000000000,"d":1.5,"a":[1,"b"],"nul":null}"#;
    assert_eq!(data("invoke"), parse(arguments).unwrap());
    let answer =
        br#"{"state":"up","b":true,"i64":-5,"i32":-7,"i16":-9,"dbl":2.5,"arr":["a",3],"t":{"nothing":null}}"#;
    assert_eq!(data("data"), parse(answer).unwrap());
}

#[test]
fn lengths_stay_within_what_there_is() {
    let whole = sent(&parse(br#"{"a":[1,"b"]}"#).unwrap());
    for cut in 1..whole.len() {
        assert!(read_members(&whole[..cut]).is_err(), "{cut}");
    }
    for length in [0u32, 3, 1000, 0x00ff_ffff] {
        let tag = (length | 0x8300_0000).to_be_bytes();
        assert_eq!(
            read_members(&[&tag[..], &[0; 8]].concat()),
            Err(Malformed("an attribute's length is not within its message"))
        );
    }
    assert_eq!(read_members(&[0x80, 0, 0, 8, 0, 9, 0, 0]), Err(Malformed("a name is not within its value")));
    assert_eq!(read_members(&[0, 0, 0, 8, 0, 0, 0, 0]), Err(Malformed("a value has no name's place")));
}

#[test]
fn nesting_and_number_are_bounded() {
    let nested = |levels| (0..levels).fold(Value::Int(1), |inner, _| Value::Array(vec![inner]));
    assert!(read_members(&sent(&nested(MAX_DEPTH))).is_ok());
    assert_eq!(read_members(&sent(&nested(MAX_DEPTH + 1))), Err(Malformed("the message is nested too deep")));
    let many = |n| sent(&Value::Array(vec![Value::Null; n]));
    assert!(read_members(&many(MAX_VALUES - 1)).is_ok());
    assert_eq!(read_members(&many(MAX_VALUES)), Err(Malformed("the message holds too many values")));
}

#[test]
fn a_name_comes_once() {
    let twice = [sent(&1.into()), sent(&2.into())].concat();
    assert_eq!(read_members(&twice), Err(Malformed("a table has a name twice")));
}

#[test]
fn a_name_longer_than_any_is_not_read() {
    let named = |length: usize| {
        let name = [&u16::try_from(length).unwrap().to_be_bytes()[..], &vec![b'n'; length], &[0]].concat();
        let mut bytes = Vec::new();
        put_tagged(&mut bytes, EXTENDED, |out| {
            out.extend(&name);
            out.resize(4 + padded(name.len()), 0);
        });
        read_members(&bytes)
    };
    assert_eq!(named(MAX_NAME), Ok(object([("n".repeat(MAX_NAME), Value::Null)])));
    assert_eq!(named(MAX_NAME + 1), Err(Malformed("a name is too long")));
}

#[test]
fn a_long_name_is_cut_and_the_rest_stays() {
    let mut bytes = Vec::new();
    put_value(&mut bytes, &"ä".repeat(200), &7.into());
    assert_eq!(read_members(&bytes).unwrap(), object([("ä".repeat(127), 7.into())]));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-MAX_INTEGER..=MAX_INTEGER).prop_map(Value::Int),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_filter("a fraction", |f| f.fract() != 0.0 && f.is_finite()).prop_map(Value::Float),
        "[^\0]{0,20}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let name = "[a-zA-Z0-9_ä]{0,20}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::btree_map(name, inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_sent_is_read(value in any_value()) {
        let bytes = sent(&value);
        prop_assert_eq!(bytes.len() % 4, 0);
        prop_assert_eq!(read_members(&bytes).unwrap().remove("v"), Some(value));
    }

    #[test]
    fn no_bytes_upset_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = read_members(&bytes) {
            let mut again = Vec::new();
            put_members(&mut again, value.as_object().unwrap());
            prop_assert_eq!(read_members(&again).unwrap(), value);
        }
    }
}

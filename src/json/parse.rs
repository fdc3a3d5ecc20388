//! Text to [`Value`], by `serde_json`'s parser with one visitor of ours.
use super::{MAX_INTEGER, Value};
use crate::mutant;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Deepest nesting that is read. No message of the contracts needs more than six.
pub const MAX_DEPTH: usize = 64;

/// Why a text is not JSON as the contracts want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in bytes, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: {}", self.line, self.column, self.problem)
    }
}

impl std::error::Error for Error {}

/// Reads one JSON text (RFC 8259). Refuses duplicate member names, numbers beyond a double, lone surrogates, nesting
/// deeper than [`MAX_DEPTH`] and anything after the value.
pub fn parse(text: &[u8]) -> Result<Value, Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Nested(MAX_DEPTH).deserialize(&mut reader).and_then(|v| reader.end().map(|()| v));
    value.map_err(|e| {
        let full = e.to_string();
        let problem = full.rsplit_once(" at line ").map_or(full.as_str(), |(text, _)| text).to_owned();
        Error { line: e.line(), column: e.column(), problem }
    })
}

/// Reads a value with at most so many levels below it.
struct Nested(usize);

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Nested {
    fn below<E: serde::de::Error>(&self) -> Result<usize, E> {
        let deep = self.0.checked_sub(1).or_else(|| mutant::out("json-depth").then_some(0));
        deep.ok_or_else(|| E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")))
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }
    fn visit_i64<E>(self, i: i64) -> Result<Value, E> {
        Ok(if (-MAX_INTEGER..=MAX_INTEGER).contains(&i) { Value::Int(i) } else { Value::Float(i as f64) })
    }
    fn visit_u64<E>(self, i: u64) -> Result<Value, E> {
        Ok(i64::try_from(i).ok().filter(|i| *i <= MAX_INTEGER).map_or(Value::Float(i as f64), Value::Int))
    }
    fn visit_f64<E>(self, f: f64) -> Result<Value, E> {
        Ok(Value::Float(f))
    }
    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(Value::String(s.to_owned()))
    }
    fn visit_string<E>(self, s: String) -> Result<Value, E> {
        Ok(Value::String(s))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Nested(below))? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut object: Vec<(String, Value)> = Vec::new();
        // A set only once an object is large: scanning a few names is faster than hashing them.
        let mut seen = std::collections::HashSet::new();
        while let Some(Name(name)) = members.next_key()? {
            let duplicate = if object.len() < 16 {
                object.iter().any(|(n, _)| *n == name)
            } else {
                if seen.is_empty() {
                    seen.extend(object.iter().map(|(n, _)| n.clone()));
                }
                !seen.insert(name.clone())
            };
            if duplicate && !mutant::out("json-duplicate") {
                return Err(A::Error::custom(format_args!("member name {name:?} stands twice")));
            }
            object.push((name, members.next_value_seed(Nested(below))?));
        }
        Ok(Value::Object(object))
    }
}

/// A member's name.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_str<E>(self, s: &str) -> Result<Name, E> {
                Ok(Name(s.to_owned()))
            }
            fn visit_string<E>(self, s: String) -> Result<Name, E> {
                Ok(Name(s))
            }
        }
        deserializer.deserialize_string(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().problem
    }

    #[test]
    fn a_duplicate_member_name_is_refused_in_small_and_in_large_objects() {
        assert!(problem(r#"{"a":1,"a":1}"#).contains("\"a\" stands twice"));
        let mut text: String = (0..100).map(|i| format!("\"m{i}\":{i},")).collect();
        text = format!("{{{text}\"m50\":0}}");
        assert!(problem(&text).contains("\"m50\" stands twice"));
        assert!(problem(r#"{"\u0061":1,"a":1}"#).contains("stands twice"));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert!(problem(&deep(MAX_DEPTH + 1)).contains("nested deeper"));
        assert!(problem(&deep(100_000)).contains("nested deeper"));
    }

    #[test]
    fn numbers_keep_their_kind() {
        assert_eq!(parse(b"9007199254740991").unwrap(), Value::Int(9007199254740991));
        assert_eq!(parse(b"9007199254740992").unwrap(), Value::Float(9007199254740992.0));
        assert_eq!(parse(b"-9007199254740992").unwrap(), Value::Float(-9007199254740992.0));
        assert_eq!(parse(b"1.0").unwrap().as_int(), Some(1));
        assert_eq!(parse(b"1.5").unwrap().as_int(), None);
        assert!(problem("1e999").contains("out of range"));
    }

    #[test]
    fn an_error_names_line_and_column() {
        let e = parse(b"{\n \"a\": 1,\n \"b\" 2}").unwrap_err();
        assert_eq!((e.line, e.problem.as_str()), (3, "expected `:`"));
    }

    #[test]
    fn trailing_text_and_lone_surrogates_are_refused() {
        assert!(problem("{} {}").contains("trailing"));
        assert!(parse(br#""\ud800""#).is_err());
        assert!(parse(b"\"\xff\"").is_err());
    }
}

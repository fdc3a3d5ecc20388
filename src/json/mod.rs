//! JSON as the contracts use it: parsed strictly, written canonically (RFC 8785), read with errors that carry a
//! JSON pointer (RFC 6901).
//!
//! One untyped [`Value`] serves every message. Signed objects must keep the members that this version does not
//! know, and one parser instead of one per type keeps the binary small.
mod canonical;
mod fields;
mod parse;

pub use fields::{FieldError, Fields};
pub use parse::{Error, MAX_DEPTH, parse};

/// Largest integer that every JSON implementation carries exactly (2^53 − 1).
pub const MAX_INTEGER: i64 = (1 << 53) - 1;

/// A JSON value. Numbers that are integers within ±(2^53 − 1) are [`Value::Int`], all others [`Value::Float`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer within ±(2^53 − 1).
    Int(i64),
    /// Any other number; always finite when it comes from [`parse`].
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object in the order of its text; names are unique when it comes from [`parse`].
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The RFC 8785 form of the value.
    pub fn canonical(&self) -> String {
        canonical::write(self)
    }

    /// The member `name` of an object; `None` for other values and for absent members.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.as_object()?.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Sets or replaces a member of an object; other values are left alone.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        let Value::Object(members) = self else { return };
        let value = value.into();
        match members.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => members.push((name.to_owned(), value)),
        }
    }

    /// Removes a member of an object and returns it.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let Value::Object(members) = self else { return None };
        let at = members.iter().position(|(n, _)| n == name)?;
        Some(members.remove(at).1)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(s) = self { Some(s) } else { None }
    }

    /// The text of a string, moved out.
    pub fn into_string(self) -> Option<String> {
        if let Value::String(s) = self { Some(s) } else { None }
    }

    /// The value of an integer; a float without fraction within the safe range counts (`1.0` is `1` in JSON).
    pub fn as_int(&self) -> Option<i64> {
        match *self {
            Value::Int(i) => Some(i),
            Value::Float(f) if f.fract() == 0.0 && f.abs() <= MAX_INTEGER as f64 => Some(f as i64),
            _ => None,
        }
    }

    /// The value of any number.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::Int(i) => Some(i as f64),
            Value::Float(f) => Some(f),
            _ => None,
        }
    }

    /// The value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(b) = *self { Some(b) } else { None }
    }

    /// The items of an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Value::Array(a) = self { Some(a) } else { None }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&[(String, Value)]> {
        if let Value::Object(o) = self { Some(o) } else { None }
    }

    /// The field's JSON type in an error message: `a string`, `an object`, …
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}

/// An object from pairs, in their order.
pub fn object<N: Into<String>>(members: impl IntoIterator<Item = (N, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(n, v)| (n.into(), v)).collect())
}

/// An array from anything that becomes values.
pub fn array<V: Into<Value>>(items: impl IntoIterator<Item = V>) -> Value {
    Value::Array(items.into_iter().map(Into::into).collect())
}

impl From<&str> for Value {
    fn from(s: &str) -> Value {
        Value::String(s.to_owned())
    }
}
impl From<String> for Value {
    fn from(s: String) -> Value {
        Value::String(s)
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value::Bool(b)
    }
}
impl From<i64> for Value {
    fn from(i: i64) -> Value {
        if (-MAX_INTEGER..=MAX_INTEGER).contains(&i) { Value::Int(i) } else { Value::Float(i as f64) }
    }
}
impl From<i32> for Value {
    fn from(i: i32) -> Value {
        Value::Int(i64::from(i))
    }
}
impl From<u32> for Value {
    fn from(i: u32) -> Value {
        Value::Int(i64::from(i))
    }
}
impl From<u16> for Value {
    fn from(i: u16) -> Value {
        Value::Int(i64::from(i))
    }
}
impl From<u64> for Value {
    fn from(i: u64) -> Value {
        i64::try_from(i).map_or(Value::Float(i as f64), Value::from)
    }
}
impl From<usize> for Value {
    fn from(i: usize) -> Value {
        Value::from(i as u64)
    }
}
impl From<f64> for Value {
    fn from(f: f64) -> Value {
        if f.is_finite() { Value::Float(f) } else { Value::Null }
    }
}
impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Value {
        Value::Array(items)
    }
}
impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(v: Option<V>) -> Value {
        v.map_or(Value::Null, Into::into)
    }
}

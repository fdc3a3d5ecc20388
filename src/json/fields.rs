//! Typed reading of an object's members, with errors that say where.
use super::Value;
use std::fmt;
use std::ops::RangeInclusive;

/// A member that is missing, of the wrong type or out of range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) of the member.
    pub pointer: String,
    /// What is wrong with it and what is allowed.
    pub problem: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.pointer.is_empty() { "/" } else { &self.pointer }, self.problem)
    }
}

impl std::error::Error for FieldError {}

/// An object that is being read. Members nobody asks for are ignored.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    pointer: String,
    members: &'a [(String, Value)],
}

impl<'a> Fields<'a> {
    /// The members of a message; an error if it is no object.
    pub fn of(value: &'a Value) -> Result<Fields<'a>, FieldError> {
        Fields::at(String::new(), value)
    }

    fn at(pointer: String, value: &'a Value) -> Result<Fields<'a>, FieldError> {
        match value.as_object() {
            Some(members) => Ok(Fields { pointer, members }),
            None => Err(wrong(pointer, "an object", value)),
        }
    }

    /// The member as it is; `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.iter().find(|(n, v)| n == name && *v != Value::Null).map(|(_, v)| v)
    }

    /// The JSON pointer of a member of this object.
    pub fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"))
    }

    /// An error about a member of this object.
    pub fn error(&self, name: &str, problem: impl Into<String>) -> FieldError {
        FieldError { pointer: self.pointer(name), problem: problem.into() }
    }

    /// A member that must be there.
    pub fn required(&self, name: &str) -> Result<&'a Value, FieldError> {
        self.get(name).ok_or_else(|| self.error(name, "is missing"))
    }

    /// A string that must be there.
    pub fn str(&self, name: &str) -> Result<&'a str, FieldError> {
        let value = self.required(name)?;
        value.as_str().ok_or_else(|| wrong(self.pointer(name), "a string", value))
    }

    /// A string that may be absent.
    pub fn opt_str(&self, name: &str) -> Result<Option<&'a str>, FieldError> {
        if self.get(name).is_some() { self.str(name).map(Some) } else { Ok(None) }
    }

    /// An integer that must be there and within `range`.
    pub fn int(&self, name: &str, range: RangeInclusive<i64>) -> Result<i64, FieldError> {
        let value = self.required(name)?;
        match value.as_int() {
            Some(i) if range.contains(&i) => Ok(i),
            Some(i) => {
                Err(self.error(name, format!("{i} is not within {} to {}", range.start(), range.end())))
            }
            None => Err(wrong(self.pointer(name), "an integer", value)),
        }
    }

    /// An integer that may be absent.
    pub fn opt_int(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, FieldError> {
        if self.get(name).is_some() { self.int(name, range).map(Some) } else { Ok(None) }
    }

    /// A number that must be there.
    pub fn number(&self, name: &str) -> Result<f64, FieldError> {
        let value = self.required(name)?;
        value.as_f64().ok_or_else(|| wrong(self.pointer(name), "a number", value))
    }

    /// A number that may be absent.
    pub fn opt_number(&self, name: &str) -> Result<Option<f64>, FieldError> {
        if self.get(name).is_some() { self.number(name).map(Some) } else { Ok(None) }
    }

    /// A boolean that must be there.
    pub fn bool(&self, name: &str) -> Result<bool, FieldError> {
        let value = self.required(name)?;
        value.as_bool().ok_or_else(|| wrong(self.pointer(name), "true or false", value))
    }

    /// An array that must be there.
    pub fn array(&self, name: &str) -> Result<&'a [Value], FieldError> {
        let value = self.required(name)?;
        value.as_array().ok_or_else(|| wrong(self.pointer(name), "an array", value))
    }

    /// An array of strings that must be there.
    pub fn strings(&self, name: &str) -> Result<Vec<String>, FieldError> {
        let items = self.array(name)?;
        let each = |(i, v): (usize, &Value)| {
            let text = v.as_str().map(str::to_owned);
            text.ok_or_else(|| wrong(format!("{}/{i}", self.pointer(name)), "a string", v))
        };
        items.iter().enumerate().map(each).collect()
    }

    /// An object that must be there.
    pub fn object(&self, name: &str) -> Result<Fields<'a>, FieldError> {
        Fields::at(self.pointer(name), self.required(name)?)
    }

    /// An object that may be absent.
    pub fn opt_object(&self, name: &str) -> Result<Option<Fields<'a>>, FieldError> {
        self.get(name).map(|v| Fields::at(self.pointer(name), v)).transpose()
    }

    /// The objects of an array that must be there.
    pub fn objects(&self, name: &str) -> Result<Vec<Fields<'a>>, FieldError> {
        let items = self.array(name)?.iter().enumerate();
        items.map(|(i, v)| Fields::at(format!("{}/{i}", self.pointer(name)), v)).collect()
    }
}

fn wrong(pointer: String, wanted: &str, found: &Value) -> FieldError {
    FieldError { pointer, problem: format!("must be {wanted}, not {}", found.type_name()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_points_at_the_member() {
        let value = super::super::parse(br#"{"a":{"b/c":[1,"x"]},"n":7}"#).unwrap();
        let a = Fields::of(&value).unwrap().object("a").unwrap();
        let e = a.strings("b/c").unwrap_err();
        assert_eq!(e.to_string(), "/a/b~1c/0: must be a string, not an integer");
        let e = Fields::of(&value).unwrap().int("n", 8..=9).unwrap_err();
        assert_eq!(e.to_string(), "/n: 7 is not within 8 to 9");
        assert_eq!(a.str("z").unwrap_err().to_string(), "/a/z: is missing");
    }
}

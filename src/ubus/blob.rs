//! Attributes (`blob.h`) and typed, named values (`blobmsg.h`), to and from JSON values.
//!
//! Integers come in four widths and are one kind of number here; the width of 8 bits is the bus's boolean. They are sent in 32 bits,
//! and in 64 where these are too few. A number without fraction is sent as an integer, as it is written in JSON.
use crate::json::Value;
use std::fmt;

/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 32;
/// Most values that one message may hold: those of a configuration whose lists are all full, and some.
pub const MAX_VALUES: usize = 32_768;

/// A blob attribute's bit for a header with a name.
const EXTENDED: u32 = 1 << 31;
const LENGTH: u32 = 0x00ff_ffff;

/// blobmsg types (`enum blobmsg_type`).
pub(super) const NULL: u8 = 0;
pub(super) const ARRAY: u8 = 1;
pub(super) const TABLE: u8 = 2;
pub(super) const STRING: u8 = 3;
pub(super) const INT64: u8 = 4;
pub(super) const INT32: u8 = 5;
pub(super) const INT16: u8 = 6;
pub(super) const BOOL: u8 = 7;
pub(super) const DOUBLE: u8 = 8;

/// Bytes that are not what the bus speaks, and what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// An attribute as it lies in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its number, or its type if it has a name.
    pub id: u8,
    /// Whether a name stands before the content.
    pub extended: bool,
    /// What follows the tag, without the padding.
    pub content: &'a [u8],
}

/// Takes the first attribute off `rest`; `None` at the end.
pub fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<Attribute<'a>>, Malformed> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (tag, _) = rest.split_first_chunk::<4>().ok_or(Malformed("an attribute's tag is cut off"))?;
    let tag = u32::from_be_bytes(*tag);
    let length = (tag & LENGTH) as usize;
    let content = rest.get(4..length).ok_or(Malformed("an attribute's length is not within its message"))?;
    *rest =
        rest.get(padded(length)..).ok_or(Malformed("an attribute's padding is not within its message"))?;
    let id = u8::try_from(tag >> 24 & 0x7f).unwrap_or_default();
    Ok(Some(Attribute { id, extended: tag & EXTENDED != 0, content }))
}

const fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Writes an attribute whose content `fill` writes.
pub fn put(out: &mut Vec<u8>, id: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    put_tagged(out, u32::from(id) << 24, fill);
}

/// Writes a named value whose content `fill` writes.
pub(super) fn put_named(out: &mut Vec<u8>, kind: u8, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    put_tagged(out, EXTENDED | u32::from(kind) << 24, |out| {
        let name = without_nul(name);
        let end = (0..=MAX_NAME).rev().find(|at| name.is_char_boundary(*at)).unwrap_or_default();
        let name = name.get(..end).unwrap_or_default();
        let start = out.len();
        out.extend(u16::try_from(name.len()).unwrap_or_default().to_be_bytes());
        out.extend(name.as_bytes());
        out.push(0);
        out.resize(start + padded(out.len() - start), 0);
        fill(out);
    });
}

/// Bytes of the longest name that is read or written; what anybody names is shorter by far.
pub const MAX_NAME: usize = 255;

/// A length beyond 24 bits is cut: such a message is over the bus's limit, and is not sent.
fn put_tagged(out: &mut Vec<u8>, tag: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    fill(out);
    let length = out.len() - start;
    let tag = tag | u32::try_from(length).unwrap_or(LENGTH) & LENGTH;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&tag.to_be_bytes());
    }
    out.resize(start + padded(length), 0);
}

/// Writes a value under a name, which members of arrays have none of.
pub fn put_value(out: &mut Vec<u8>, name: &str, value: &Value) {
    let integer = |out: &mut Vec<u8>, i: i64| match i32::try_from(i) {
        Ok(i) => put_named(out, INT32, name, |out| out.extend(i.to_be_bytes())),
        Err(_) => put_named(out, INT64, name, |out| out.extend(i.to_be_bytes())),
    };
    match value {
        Value::Null => put_named(out, NULL, name, |_| {}),
        Value::Bool(b) => put_named(out, BOOL, name, |out| out.push(u8::from(*b))),
        Value::Int(i) => integer(out, *i),
        Value::Float(f) => match value.as_int() {
            Some(i) => integer(out, i),
            None if f.is_finite() => put_named(out, DOUBLE, name, |out| out.extend(f.to_be_bytes())),
            None => put_named(out, NULL, name, |_| {}),
        },
        Value::String(text) => put_named(out, STRING, name, |out| {
            out.extend(without_nul(text).as_bytes());
            out.push(0);
        }),
        Value::Array(items) => {
            put_named(out, ARRAY, name, |out| items.iter().for_each(|item| put_value(out, "", item)));
        }
        Value::Object(members) => put_named(out, TABLE, name, |out| put_members(out, members)),
    }
}

/// Writes the members of an object one after the other, as the body of a call has them.
pub fn put_members(out: &mut Vec<u8>, members: &[(String, Value)]) {
    members.iter().for_each(|(name, value)| put_value(out, name, value));
}

/// Strings end with their first NUL on the bus; one in a text must not hide the rest.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Reads the named values that `bytes` consist of into an object.
///
/// # Errors
/// What is not blobmsg, nested deeper than [`MAX_DEPTH`], or more than [`MAX_VALUES`]; a name twice in one table.
pub fn read_members(bytes: &[u8]) -> Result<Value, Malformed> {
    Reader { left: MAX_VALUES }.table(bytes, MAX_DEPTH)
}

struct Reader {
    left: usize,
}

impl Reader {
    fn table(&mut self, mut bytes: &[u8], below: usize) -> Result<Value, Malformed> {
        let mut members = Vec::new();
        while let Some(attribute) = next(&mut bytes)? {
            members.push(self.named(&attribute, below)?);
        }
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.iter().zip(names.iter().skip(1)).any(|(one, other)| one == other) {
            return Err(Malformed("a table has a name twice"));
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self, mut bytes: &[u8], below: usize) -> Result<Value, Malformed> {
        let mut items = Vec::new();
        while let Some(attribute) = next(&mut bytes)? {
            items.push(self.named(&attribute, below)?.1);
        }
        Ok(Value::Array(items))
    }

    fn named(&mut self, attribute: &Attribute<'_>, below: usize) -> Result<(String, Value), Malformed> {
        self.left = self.left.checked_sub(1).ok_or(Malformed("the message holds too many values"))?;
        if !attribute.extended {
            return Err(Malformed("a value has no name's place"));
        }
        let (name, content) = split_name(attribute.content)?;
        Ok((name.to_owned(), self.value(attribute.id, content, below)?))
    }

    fn value(&mut self, kind: u8, content: &[u8], below: usize) -> Result<Value, Malformed> {
        let deeper = || below.checked_sub(1).ok_or(Malformed("the message is nested too deep"));
        Ok(match kind {
            NULL => Value::Null,
            ARRAY => self.array(content, deeper()?)?,
            TABLE => self.table(content, deeper()?)?,
            STRING => Value::String(text(content)?.to_owned()),
            INT64 => i64::from_be_bytes(exactly(content)?).into(),
            INT32 => i32::from_be_bytes(exactly(content)?).into(),
            INT16 => i32::from(i16::from_be_bytes(exactly(content)?)).into(),
            BOOL => (exactly::<1>(content)? != [0]).into(),
            DOUBLE => {
                let number = Value::from(f64::from_be_bytes(exactly(content)?));
                number.as_int().map_or(number, Value::Int)
            }
            _ => return Err(Malformed("a value is of no known type")),
        })
    }
}

/// The name of a value and what follows it.
fn split_name(content: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let cut = Malformed("a name is not within its value");
    let (length, _) = content.split_first_chunk::<2>().ok_or(cut)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length > MAX_NAME {
        return Err(Malformed("a name is too long"));
    }
    let name = content.get(2..length + 3).ok_or(cut)?;
    Ok((text(name)?, content.get(padded(length + 3)..).ok_or(cut)?))
}

/// A text with its NUL at the end and nowhere else.
pub(super) fn text(content: &[u8]) -> Result<&str, Malformed> {
    let text = match content.split_last() {
        Some((0, text)) if !text.contains(&0) => text,
        _ => return Err(Malformed("a text does not end with its only NUL")),
    };
    std::str::from_utf8(text).map_err(|_| Malformed("a text is not UTF-8"))
}

/// A content of a fixed length.
pub(super) fn exactly<const N: usize>(content: &[u8]) -> Result<[u8; N], Malformed> {
    content.try_into().map_err(|_| Malformed("a number has not the length of its type"))
}

#[cfg(test)]
mod tests;

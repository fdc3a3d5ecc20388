//! Messages (`ubusmsg.h`): a header of 8 bytes, and a blob of numbered attributes.
use super::blob::{self, Malformed};
use crate::json::Value;

/// Most bytes of a message behind its header; ubusd closes the connection on more.
pub const MAX_BODY: usize = 1 << 20;

/// Kinds (`enum ubus_msg_type`) that a client with an object meets.
pub(super) const HELLO: u8 = 0;
pub(super) const STATUS: u8 = 1;
pub(super) const DATA: u8 = 2;
pub(super) const INVOKE: u8 = 5;
pub(super) const ADD_OBJECT: u8 = 6;

/// Attributes (`enum ubus_msg_attr`).
pub(super) mod attribute {
    pub(crate) const STATUS: u8 = 1;
    pub(crate) const PATH: u8 = 2;
    pub(crate) const OBJECT: u8 = 3;
    pub(crate) const METHOD: u8 = 4;
    pub(crate) const SIGNATURE: u8 = 6;
    pub(crate) const DATA: u8 = 7;
    pub(crate) const NO_REPLY: u8 = 10;
}

/// What became of a call (`enum ubus_msg_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was done.
    Ok = 0,
    /// An argument is not what the method takes, or the object's state does not allow it.
    InvalidArgument = 2,
    /// There is no such method.
    MethodNotFound = 3,
    /// What the argument names does not exist.
    NotFound = 4,
    /// The caller may not.
    PermissionDenied = 6,
    /// Not now; later perhaps.
    Timeout = 7,
    /// This version does not do that.
    NotSupported = 8,
    /// The called program failed.
    SystemError = 13,
}

/// A message as it lies in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is for.
    pub kind: u8,
    /// Chosen by who asks, repeated by who answers.
    pub seq: u16,
    /// Whom it is from, or for.
    pub peer: u32,
    /// Its attributes.
    pub body: &'a [u8],
}

/// The first message of `bytes`, and how many of them it takes; `None` if it is not complete.
///
/// # Errors
/// What is no message, or longer than [`MAX_BODY`].
pub fn first(bytes: &[u8]) -> Result<Option<(Message<'_>, usize)>, Malformed> {
    let Some((head, rest)) = bytes.split_first_chunk::<12>() else { return Ok(None) };
    let [version, kind, s0, s1, p0, p1, p2, p3, t0, t1, t2, t3] = *head;
    if version != 0 {
        return Err(Malformed("a message is of another version"));
    }
    let length = (u32::from_be_bytes([t0, t1, t2, t3]) & 0x00ff_ffff) as usize;
    let padded = length.next_multiple_of(4);
    if length < 4 || padded > MAX_BODY {
        return Err(Malformed("a message has a length that is not allowed"));
    }
    let Some(body) = rest.get(..padded - 4) else { return Ok(None) };
    let body = body.get(..length - 4).unwrap_or_default();
    let (seq, peer) = (u16::from_be_bytes([s0, s1]), u32::from_be_bytes([p0, p1, p2, p3]));
    Ok(Some((Message { kind, seq, peer, body }, 8 + padded)))
}

/// A message whose attributes `fill` writes.
pub fn write(kind: u8, seq: u16, peer: u32, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0, kind];
    out.extend(seq.to_be_bytes());
    out.extend(peer.to_be_bytes());
    blob::put(&mut out, 0, fill);
    out
}

/// Whether the bus takes a message.
pub fn fits(message: &[u8]) -> bool {
    message.len() <= MAX_BODY + 8
}

pub(super) fn put_u32(out: &mut Vec<u8>, id: u8, value: u32) {
    blob::put(out, id, |out| out.extend(value.to_be_bytes()));
}

pub(super) fn put_text(out: &mut Vec<u8>, id: u8, text: &str) {
    blob::put(out, id, |out| {
        out.extend(text.as_bytes());
        out.push(0);
    });
}

pub(super) fn put_data(out: &mut Vec<u8>, members: &[(String, Value)]) {
    blob::put(out, attribute::DATA, |out| blob::put_members(out, members));
}

impl<'a> Message<'a> {
    /// The content of the first attribute with a number.
    ///
    /// # Errors
    /// Attributes that are not whole.
    pub(super) fn find(&self, id: u8) -> Result<Option<&'a [u8]>, Malformed> {
        let mut rest = self.body;
        let mut found = None;
        while let Some(attribute) = blob::next(&mut rest)? {
            if attribute.id == id && found.is_none() {
                found = Some(attribute.content);
            }
        }
        Ok(found)
    }

    /// An attribute that is a number.
    pub(super) fn u32(&self, id: u8) -> Result<Option<u32>, Malformed> {
        self.find(id)?.map(|content| blob::exactly(content).map(u32::from_be_bytes)).transpose()
    }
}

//! Netlink messages (linux/netlink.h): a header of 16 bytes in the machine's own order, a family header, and attributes of
//! type, length and value, each padded to 4 bytes.

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// The bits of an attribute's type that say it is nested or big-endian (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_FLAGS: u16 = 0xc000;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP`, `NLM_F_CREATE`, and `NLM_F_DUMP_INTR` of an answer.
pub const REQUEST: u16 = 1;
#[allow(missing_docs, reason = "the line above")]
pub const ACK: u16 = 4;
#[allow(missing_docs, reason = "the line above")]
pub const DUMP: u16 = 0x300;
#[allow(missing_docs, reason = "the line above")]
pub const CREATE: u16 = 0x400;
#[allow(missing_docs, reason = "the line above")]
pub const INTERRUPTED: u16 = 0x10;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
pub const ERROR: u16 = 2;
#[allow(missing_docs, reason = "the line above")]
pub const DONE: u16 = 3;

/// A message as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The number of the request it answers.
    pub seq: u32,
    /// Of a report: the number of the socket whose request was done; 0 is the kernel itself.
    pub port: u32,
    /// Family header and attributes.
    pub body: &'a [u8],
}

/// The messages of a datagram; ends at the first that is cut off.
pub fn messages(mut data: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(data, 0)? as usize;
        let body = data.get(HEADER..length)?;
        let (kind, flags) = (u16_at(data, 4)?, u16_at(data, 6)?);
        let message = Message { kind, flags, seq: u32_at(data, 8)?, port: u32_at(data, 12)?, body };
        data = data.get(padded(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The number of the socket whose request a report is of, or the first of the reports in one datagram: those of a transaction come
/// together, and no two transactions do. The end of the datagram may be missing.
pub fn port_of(datagram: &[u8]) -> Option<u32> {
    u32_at(datagram, 12)
}

/// The attributes of a message's or a nested attribute's content; ends at the first that is cut off.
pub fn attributes(mut data: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *data.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let kind = u16::from_ne_bytes([c, d]) & !TYPE_FLAGS;
        let value = data.get(ATTRIBUTE..length)?;
        data = data.get(padded(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a kind.
pub fn attribute(data: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(data).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// The first attribute of each kind below `N`, of a list that is asked for more than one: to look through it once for each costs more
/// than all else that is done with a packet of it.
pub struct Kinds<'a, const N: usize>([Option<&'a [u8]>; N]);

impl<'a, const N: usize> Kinds<'a, N> {
    /// Of a message's or a nested attribute's content.
    pub fn of(data: &'a [u8]) -> Kinds<'a, N> {
        let mut list = [None; N];
        for (kind, value) in attributes(data) {
            if let Some(place) = list.get_mut(usize::from(kind)) {
                place.get_or_insert(value);
            }
        }
        Kinds(list)
    }

    /// A value.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    /// One of 32 bits in network order.
    pub fn be32(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.first_chunk().map(|b| u32::from_be_bytes(*b))
    }
}

/// An attribute of 32 bits in network order.
pub fn be32(data: &[u8], kind: u16) -> Option<u32> {
    attribute(data, kind)?.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))
}

/// An attribute of 64 bits in network order.
pub fn be64(data: &[u8], kind: u16) -> Option<u64> {
    attribute(data, kind)?.first_chunk::<8>().map(|b| u64::from_be_bytes(*b))
}

/// A text attribute, without its final NUL.
pub fn text(data: &[u8], kind: u16) -> Option<&str> {
    let value = attribute(data, kind)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

/// 32 bits in the machine's own order.
pub fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b))
}

/// 16 bits in the machine's own order.
pub fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk::<2>().map(|b| u16::from_ne_bytes(*b))
}

const fn padded(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// Messages being written.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// Adds a message; `family` is its header behind `struct nlmsghdr`.
    pub fn message(
        &mut self,
        (kind, flags, seq): (u16, u16, u32),
        family: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) {
        let start = self.0.len();
        self.0.extend([0; 4]);
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        self.0.extend(seq.to_ne_bytes());
        self.0.extend([0; 4]);
        self.0.extend(family);
        fill(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.set(start, &length.to_ne_bytes());
        self.pad();
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |w| w.0.extend(value));
    }

    /// Adds an attribute of 32 bits in network order.
    pub fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Adds a text with its final NUL.
    pub fn put_text(&mut self, kind: u16, value: &str) {
        self.nest(kind, |w| {
            w.0.extend(value.as_bytes());
            w.0.push(0);
        });
    }

    /// Adds an attribute that holds attributes. (nf_tables asks for no `NLA_F_NESTED`, and sets none itself.)
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.set(start, &length.to_ne_bytes());
        self.pad();
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn pad(&mut self) {
        self.0.resize(padded(self.0.len()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let mut w = Writer::default();
        w.message((7, REQUEST, 9), &[2, 0, 0, 10], |w| {
            w.put_text(1, "abc");
            w.nest(2, |w| w.put_be32(3, 5));
        });
        w.message((8, 0, 10), &[], |_| {});
        let data = w.finish();
        let all: Vec<Message<'_>> = messages(&data).collect();
        assert_eq!(all.iter().map(|m| (m.kind, m.seq)).collect::<Vec<_>>(), [(7, 9), (8, 10)]);
        let body = &all[0].body[4..];
        assert_eq!(text(body, 1), Some("abc"));
        assert_eq!(be32(attribute(body, 2).unwrap(), 3), Some(5));
        assert_eq!(attribute(body, 4), None);
    }

    #[test]
    fn what_is_cut_off_ends_the_list() {
        assert_eq!(messages(&[0; 16]).next(), None, "a length below the header's");
        assert_eq!(attributes(&[3, 0, 1, 0]).next(), None, "a length below the header's");
        assert_eq!(attributes(&[9, 0, 1, 0, 1, 2, 3, 4]).next(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(messages(&data).count() <= data.len() / HEADER);
            prop_assert!(attributes(&data).count() <= data.len() / ATTRIBUTE);
        }
    }
}

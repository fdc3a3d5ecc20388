//! As much of DER (ITU-T X.690 section 10) as key containers need: definite lengths in their shortest form, and nothing
//! left over. Whatever else a BER reader would take is no key file of ours.

/// `INTEGER`.
pub const INTEGER: u8 = 0x02;
/// `OCTET STRING`.
pub const OCTETS: u8 = 0x04;
/// `NULL`.
pub const NULL: u8 = 0x05;
/// `OBJECT IDENTIFIER`.
pub const OID: u8 = 0x06;
/// `SEQUENCE`, constructed.
pub const SEQUENCE: u8 = 0x30;

/// What is not read yet of some DER.
#[derive(Clone, Copy, Debug)]
pub struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// From its first byte.
    pub fn new(bytes: &'a [u8]) -> Der<'a> {
        Der(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the next element has this tag.
    pub fn is_next(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// The content of the next element, which must have this tag.
    pub fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let rest = self.0.strip_prefix(&[tag])?;
        let (length, rest) = match rest {
            [n @ 0..=0x7f, rest @ ..] => (usize::from(*n), rest),
            [0x81, n @ 0x80..=0xff, rest @ ..] => (usize::from(*n), rest),
            [0x82, high @ 1..=0xff, low, rest @ ..] => (usize::from(*high) << 8 | usize::from(*low), rest),
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// The next element, which is a sequence.
    pub fn sequence(&mut self) -> Option<Der<'a>> {
        self.take(SEQUENCE).map(Der)
    }

    /// The next element, an integer from 0 to 2^32-1 in its shortest form.
    pub fn unsigned(&mut self) -> Option<u32> {
        let bytes = self.take(INTEGER)?;
        // The first bit is the sign; a zero byte stands before digits that would set it, and nowhere else.
        let digits = match bytes {
            [0] => bytes,
            [0, digits @ ..] if digits.first().is_some_and(|b| *b >= 0x80) => digits,
            [0, ..] => return None,
            [first, ..] if *first < 0x80 => bytes,
            _ => return None,
        };
        (digits.len() <= 4).then(|| digits.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }
}

/// An element of these parts. Its content has at most 65,535 bytes; a longer one is cut, which no reader takes.
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let mut out = match (high, low) {
        (0, ..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    out.extend(content.into_iter().take(usize::from(length)));
    out
}

/// An integer in its shortest form.
pub fn integer(n: u32) -> Vec<u8> {
    let bytes = n.to_be_bytes();
    let zeros = bytes.iter().take(3).take_while(|b| **b == 0).count();
    let digits = bytes.get(zeros..).unwrap_or_default();
    let sign: &[u8] = if digits.first().is_some_and(|b| *b >= 0x80) { &[0] } else { &[] };
    element(INTEGER, &[sign, digits])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(bytes: &[u8]) -> Option<(&[u8], usize)> {
        let mut der = Der::new(bytes);
        der.take(OCTETS).map(|content| (content, der.0.len()))
    }

    #[test]
    fn a_length_is_read_in_its_shortest_form_only() {
        assert_eq!(take(&[4, 0]), Some((&[][..], 0)));
        assert_eq!(take(&[4, 1, 9, 8]), Some((&[9][..], 1)));
        let long = |length: &[u8], n: usize| [&[4][..], length, &vec![7; n]].concat();
        for (length, n) in
            [(&[0x7f][..], 0x7f), (&[0x81, 0x80], 0x80), (&[0x81, 0xff], 0xff), (&[0x82, 1, 0], 256)]
        {
            assert_eq!(take(&long(length, n)).map(|(c, _)| c.len()), Some(n), "{length:?}");
            assert_eq!(take(&long(length, n - 1)), None, "{length:?}");
        }
        for bad in [&[0x80][..], &[0x81, 1], &[0x81, 0x7f], &[0x82, 0, 0xff], &[0x83, 0, 0, 9], &[0xff]] {
            assert_eq!(take(&long(bad, 300)), None, "{bad:?}");
        }
        assert_eq!(take(&[5, 0]), None);
    }

    #[test]
    fn an_integer_has_one_form() {
        for (bytes, n) in [
            (&[0][..], Some(0)),
            (&[1], Some(1)),
            (&[0x7f], Some(127)),
            (&[0, 0x80], Some(128)),
            (&[0, 0xff, 0xff, 0xff, 0xff], Some(u32::MAX)),
            (&[], None),
            (&[0x80], None),
            (&[0, 1], None),
            (&[0, 0], None),
            (&[1, 0, 0, 0, 0], None),
            (&[0, 0x80, 0, 0, 0, 0], None),
        ] {
            assert_eq!(Der::new(&element(INTEGER, &[bytes])).unsigned(), n, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(n: u32, content in proptest::collection::vec(any::<u8>(), 0..600)) {
            let bytes = [integer(n), element(OCTETS, &[&content])].concat();
            let whole = element(SEQUENCE, &[&bytes]);
            let mut inner = Der::new(&whole).sequence().unwrap();
            prop_assert_eq!(inner.unsigned(), Some(n));
            prop_assert!(inner.is_next(OCTETS));
            prop_assert_eq!(inner.take(OCTETS), Some(&content[..]));
            prop_assert!(inner.is_empty());
        }

        #[test]
        fn whatever_is_read_has_been_written_so(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut der = Der::new(&bytes);
            if let Some(content) = der.take(SEQUENCE) {
                prop_assert_eq!([element(SEQUENCE, &[content]), der.0.to_vec()].concat(), bytes);
            }
        }
    }
}

//! The ClientHello of a carried connection: read from raw records in any fragmentation (RFC 8446 sections 4.1.2 and
//! 5.1, RFC 5246 section 7.4.1.2), then judged. Nothing may reach the target before the verdict.
use crate::mutant::out;
use crate::policy::hosts::{DomainSet, normal};
use crate::policy::refusal::Refusal;
use crate::session::HelloRules;
use std::borrow::Cow;
use std::sync::OnceLock;

/// Raw bytes, record headers included, within which the hello must be complete.
pub const MAX_HELLO: usize = 16 * 1024;

const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const MAX_FRAGMENT: usize = 1 << 14;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
/// RFC 9849 has 0xfe0d; its drafts before number 13 took those below it, and the first one 0xffce.
const ENCRYPTED_CLIENT_HELLO: std::ops::RangeInclusive<u16> = 0xfe08..=0xfe0d;
const ENCRYPTED_SERVER_NAME: u16 = 0xffce;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;

/// The server names of a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sni {
    /// No extension, or one without a name.
    Missing,
    /// Exactly one host name, in lower case and without final dot.
    Name(String),
    /// Anything else: several names, another name type, an address, a NUL.
    Invalid,
}

/// What decides about a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The outer server name.
    pub sni: Sni,
    /// Protocols offered; `None` without the extension. A name that is no UTF-8 is an empty string.
    pub alpn: Option<Vec<String>>,
    /// Whether TLS 1.2 or 1.3 is offered.
    pub modern: bool,
    /// Whether the encrypted_client_hello extension is there, GREASE included.
    pub ech: bool,
}

/// How far the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The hello is not complete.
    NeedMore,
    /// [`HelloReader::hello`] has it.
    Complete,
    /// It cannot become one: [`Refusal::NotTls`], or [`Refusal::HelloTimeout`] if it is longer than [`MAX_HELLO`].
    Refused(Refusal),
}

/// Collects a hello from whatever pieces arrive. Holds [`MAX_HELLO`] raw bytes and the last piece at most.
#[derive(Debug, Default)]
pub struct HelloReader {
    raw: Vec<u8>,
    scan: HelloScan,
}

impl HelloReader {
    /// Takes the next bytes of the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        self.raw.extend_from_slice(bytes);
        self.scan.advance(&self.raw)
    }

    /// The hello, once complete.
    pub fn hello(&self) -> Option<&Hello> {
        self.scan.hello()
    }

    /// Every byte fed so far, unaltered: what the target gets after the verdict.
    pub fn into_raw(self) -> Vec<u8> {
        self.raw
    }
}

/// Finds the hello at the start of a stream whose bytes somebody else keeps.
#[derive(Debug, Default)]
pub struct HelloScan {
    /// Raw bytes already cut into records.
    read: usize,
    /// Bytes of the current record still to come.
    record_left: usize,
    /// The header of the message, as far as it has come.
    head: Vec<u8>,
    /// Bytes of the message so far, its header included.
    length: usize,
    done: Option<Progress>,
    hello: Option<Hello>,
}

impl HelloScan {
    /// Reads on. `raw` is the stream from its start, and never less than before.
    pub fn advance(&mut self, raw: &[u8]) -> Progress {
        if let Some(done) = self.done {
            return done;
        }
        let progress = self.run(raw);
        if progress != Progress::NeedMore {
            self.done = Some(progress);
        }
        progress
    }

    /// The hello, once complete.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Where in the stream the hello ends, once complete.
    pub fn end(&self) -> Option<usize> {
        self.hello.as_ref().map(|_| self.read)
    }

    fn run(&mut self, raw: &[u8]) -> Progress {
        loop {
            if self.record_left == 0 {
                match self.next_record(raw) {
                    Ok(true) => {}
                    Ok(false) => return unless_too_long(raw),
                    Err(refusal) => return Progress::Refused(refusal),
                }
            }
            let in_limit = raw.get(self.read..raw.len().min(limit())).unwrap_or_default();
            let take = in_limit.len().min(self.record_left);
            if take == 0 {
                return unless_too_long(raw);
            }
            let of_head = HANDSHAKE_HEADER.saturating_sub(self.head.len());
            self.head.extend(in_limit.iter().take(take.min(of_head)));
            self.length += take;
            self.read += take;
            self.record_left -= take;
            match self.message_end() {
                Ok(None) => {}
                Ok(Some(end)) => return self.complete(raw, end),
                Err(refusal) => return Progress::Refused(refusal),
            }
        }
    }

    /// Reads a record header; false if it is not there yet. What is there must fit already, so that a client that
    /// speaks something else is told at its first byte.
    fn next_record(&mut self, raw: &[u8]) -> Result<bool, Refusal> {
        let header = raw.get(self.read..raw.len().min(limit())).unwrap_or_default();
        let fits = |at: usize, ok: fn(u8) -> bool| header.get(at).is_none_or(|b| ok(*b));
        let handshake = fits(0, |b| b == HANDSHAKE) || out("record-type");
        let major = fits(1, |b| b == 3) || out("record-major");
        let minor = fits(2, |b| b <= 4) || out("record-minor");
        if !handshake || !major || !minor {
            return Err(Refusal::NotTls);
        }
        let Some([_, _, _, high, low]) = header.first_chunk::<RECORD_HEADER>() else { return Ok(false) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if (length == 0 && !out("record-empty")) || (length > MAX_FRAGMENT && !out("record-length")) {
            return Err(Refusal::NotTls);
        }
        self.record_left = length;
        self.read += RECORD_HEADER;
        if out("record-type") && header.first() != Some(&HANDSHAKE) {
            self.read += std::mem::take(&mut self.record_left);
            return self.next_record(raw);
        }
        if length == 0 { self.next_record(raw) } else { Ok(true) }
    }

    /// The length of the message once all of it has come.
    fn message_end(&self) -> Result<Option<usize>, Refusal> {
        if self.head.first().is_some_and(|kind| *kind != CLIENT_HELLO) && !out("message-type") {
            return Err(Refusal::NotTls);
        }
        let Some([_, a, b, c]) = self.head.first_chunk::<HANDSHAKE_HEADER>() else { return Ok(None) };
        let end = HANDSHAKE_HEADER + u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if end > MAX_HELLO - RECORD_HEADER && !out("message-length") {
            return Err(Refusal::HelloTimeout);
        }
        Ok((self.length >= end).then_some(end))
    }

    /// A hello ends its record: nothing may follow it there (RFC 8446 section 5.1: the keys change).
    fn complete(&mut self, raw: &[u8], end: usize) -> Progress {
        let message = message(raw.get(..self.read).unwrap_or_default());
        let body = message.get(HANDSHAKE_HEADER..end).unwrap_or_default();
        let alone = message.len() == end && self.record_left == 0;
        self.hello = if alone || out("hello-ends-record") { parse(body) } else { None };
        if self.hello.is_some() { Progress::Complete } else { Progress::Refused(Refusal::NotTls) }
    }
}

fn unless_too_long(raw: &[u8]) -> Progress {
    if raw.len() >= MAX_HELLO && !out("hello-limit") {
        Progress::Refused(Refusal::HelloTimeout)
    } else {
        Progress::NeedMore
    }
}

/// What records that were found to be good carry, put together. The last one may not be whole.
fn message(mut records: &[u8]) -> Cow<'_, [u8]> {
    let mut whole = Cow::Borrowed(&[][..]);
    while let Some(([kind, _, _, high, low], rest)) = records.split_first_chunk::<RECORD_HEADER>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (fragment, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        // Of another type only where that rule is out.
        if *kind == HANDSHAKE {
            match whole.is_empty() {
                true => whole = Cow::Borrowed(fragment),
                false => whole.to_mut().extend_from_slice(fragment),
            }
        }
        records = after;
    }
    whole
}

/// Raw bytes that are read of a hello.
fn limit() -> usize {
    if out("hello-limit") { usize::MAX } else { MAX_HELLO }
}

/// The verdict on a hello, checks in the contract's order.
///
/// # Errors
/// `sni-missing`, `sni-mismatch`, `alpn-denied`, `ech-denied` or `tls-version`.
pub fn judge(hello: &Hello, rules: &HelloRules, ech_public_names: &DomainSet) -> Result<(), Refusal> {
    match &hello.sni {
        Sni::Missing if out("sni-present") => {}
        Sni::Missing => return Err(Refusal::SniMissing),
        Sni::Name(name) if *name == rules.host || out("sni-equals-host") => {}
        Sni::Invalid if out("sni-valid") => {}
        Sni::Name(_) | Sni::Invalid => return Err(Refusal::SniMismatch),
    }
    let listed = |name: &String| rules.alpn.contains(name);
    let alpn_fits = |offered: &Vec<String>| {
        (!offered.is_empty() || out("alpn-not-empty"))
            && (offered.iter().all(listed) || (out("alpn-all-listed") && offered.iter().any(listed)))
            || out("alpn-listed")
    };
    if !hello.alpn.as_ref().is_none_or(alpn_fits) {
        return Err(Refusal::AlpnDenied);
    }
    let public = ech_public_names.covers(&rules.host) && !out("ech-public-name");
    if hello.ech && ((rules.ech_deny && !out("ech-deny")) || public) {
        return Err(Refusal::EchDenied);
    }
    if hello.modern || out("tls-version") { Ok(()) } else { Err(Refusal::TlsVersion) }
}

/// The known public names of ECH, from the data file.
pub fn ech_public_names() -> &'static DomainSet {
    static NAMES: OnceLock<DomainSet> = OnceLock::new();
    NAMES.get_or_init(|| {
        DomainSet::from_lines(include_str!("../../data/ech-public-names.txt")).unwrap_or_default()
    })
}

/// The fatal alert record (RFC 8446 section 6) that tells a buyer of a refusal after the 200; empty where there is none.
pub fn alert_record(refusal: Refusal) -> Vec<u8> {
    refusal.tls_alert().map_or_else(Vec::new, |description| vec![21, 3, 3, 0, 2, 2, description])
}

fn parse(body: &[u8]) -> Option<Hello> {
    let mut r = Reader(body);
    let legacy_version = r.u16()?;
    r.take(32)?;
    if r.vec8()?.len() > 32 && !out("hello-session-id") {
        return None;
    }
    let suites = r.vec16()?;
    let fit = !suites.is_empty() && suites.len() % 2 == 0;
    if (!fit && !out("hello-suites")) || (r.vec8()?.is_empty() && !out("hello-compression")) {
        return None;
    }
    let mut hello = Hello { sni: Sni::Missing, alpn: None, modern: legacy_version >= TLS12, ech: false };
    if r.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(r.vec16()?);
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.vec16()?);
        let repeated = seen.contains(&kind);
        seen.push(kind);
        match kind {
            SERVER_NAME if repeated && !out("sni-once") => hello.sni = Sni::Invalid,
            SERVER_NAME => hello.sni = server_name(data),
            // Readers differ in which of two they take (RFC 8446 section 4.2 forbids a second).
            _ if repeated && !out("extension-once") => return None,
            ALPN => hello.alpn = Some(protocols(data).unwrap_or_default()),
            SUPPORTED_VERSIONS => hello.modern = offers_modern(data).unwrap_or(false),
            kind if is_ech(kind) => hello.ech = true,
            _ => {}
        }
    }
    (r.0.is_empty() || out("hello-trailing")).then_some(hello)
}

fn is_ech(kind: u16) -> bool {
    let draft =
        (ENCRYPTED_CLIENT_HELLO.contains(&kind) || kind == ENCRYPTED_SERVER_NAME) && !out("ech-drafts");
    kind == *ENCRYPTED_CLIENT_HELLO.end() || draft
}

/// RFC 6066 section 3.
fn server_name(data: &[u8]) -> Sni {
    let mut r = Reader(data);
    if data.is_empty() || data == [0, 0] || data == [0, 3, 0, 0, 0] {
        return Sni::Missing;
    }
    let name = r.vec16().filter(|_| r.0.is_empty() || out("sni-trailing")).and_then(|list| {
        let mut list = Reader(list);
        let kind = list.take(1)?;
        let name = list.vec16()?;
        let host_name = kind == [0] || out("sni-type");
        (host_name && (list.0.is_empty() || out("sni-one-name"))).then_some(name)
    });
    let text = name.and_then(|n| std::str::from_utf8(n).ok()).and_then(normal);
    match text {
        Some(text) if text.parse::<std::net::Ipv4Addr>().is_err() || out("sni-no-address") => Sni::Name(text),
        _ => Sni::Invalid,
    }
}

/// RFC 7301 section 3.1.
fn protocols(data: &[u8]) -> Option<Vec<String>> {
    let mut outer = Reader(data);
    let mut list = Reader(outer.vec16()?);
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.vec8().filter(|n| !n.is_empty() || out("alpn-no-empty-name"))?;
        names.push(std::str::from_utf8(name).unwrap_or_default().to_owned());
    }
    (outer.0.is_empty() || out("alpn-trailing")).then_some(names)
}

/// RFC 8446 section 4.2.1.
fn offers_modern(data: &[u8]) -> Option<bool> {
    let mut r = Reader(data);
    let (versions, odd) = r.vec8()?.as_chunks::<2>();
    let strict = !out("versions-form");
    let modern = |v: &[u8; 2]| [TLS12, TLS13].contains(&u16::from_be_bytes(*v));
    ((odd.is_empty() && r.0.is_empty()) || !strict).then(|| versions.iter().any(modern))
}

/// A cursor over bytes; every method is `None` past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let n = if out("hello-lengths") { n.min(self.0.len()) } else { n };
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*head))
    }

    fn vec8(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take(usize::from(*length))
    }

    fn vec16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests;

//! The messages between guard and `run` over a Unix seqpacket socket: version, kind, content of a fixed shape; numbers in
//! network order. A message that is not exactly one of these ends the connection.
use super::lease_wire::{self, LeaseReport, LeaseRequest};
use super::network::{MAX_NETWORKS, MAX_OUTWARD, full};
use super::ruleset::COUNTERS;
use crate::policy::addresses::Prefix;
use crate::policy::wan::{MAX_ADDRESSES, Uplink, Wan, is_device_name};
use std::net::IpAddr;

/// First byte of every message.
pub const VERSION: u8 = 1;
/// Bytes of a prefix: family, length, 16 of the address.
const PREFIX: usize = 18;
/// Longest message of the guard's, bytes: a list of networks, which is longer than a packet with what is said of it.
pub const MAX_MESSAGE: usize = 2 + MAX_NETWORKS * PREFIX;
const _: () = assert!(2 + 64 + lease_wire::MAX_PACKET <= MAX_MESSAGE);
/// Bytes of the configuration in one message.
pub const PIECE: usize = 4096;
/// Longest message of `run`'s, bytes.
pub const MAX_REQUEST: usize = 2 + 4 + PIECE;
/// Longest sentence of a refusal, bytes.
pub const MAX_SENTENCE: usize = 2048;

/// What the guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// How the table is. Repeated every [`KEEP_ALIVE_MS`].
    State(State),
    /// The owner's networks, whenever they have changed, before the state that holds for them.
    Networks(Vec<Prefix>),
    /// The devices that lead outward, whenever they have changed and the table lets out by them.
    Wan(Wan),
    /// The router's own addresses on the devices that lead outward, whenever they have changed.
    Outward(Vec<IpAddr>),
    /// A piece of what UCI says, in answer to [`Request::Read`].
    Piece {
        /// Bytes of the whole.
        total: u32,
        /// Bytes before this piece.
        from: u32,
        /// At most [`PIECE`].
        bytes: Vec<u8>,
    },
    /// So many bytes of a new configuration are here, in answer to [`Request::Piece`].
    Taken(u32),
    /// UCI has it, and what it says now has this digest (BLAKE3), in answer to [`Request::Commit`].
    Written([u8; 32]),
    /// A request of the configuration was refused; the sentence says why.
    Refused(Refusal, String),
    /// Of leases.
    Lease(LeaseReport),
}

/// Why the guard did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Something failed.
    Failed,
    /// UCI says something else than what was read.
    Changed,
}

/// How often the guard reports at least, milliseconds.
pub const KEEP_ALIVE_MS: u64 = 2_000;

/// How the guard's table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The table is in the kernel, read back and equal to what was rendered.
    pub in_force: bool,
    /// The configuration names addresses that the guard has not taken: it wants a SIGHUP from the owner.
    pub literals_differ: bool,
    /// The user whose traffic the table holds.
    pub uid: u32,
    /// Packets that were refused since the guard's start, in the order of [`COUNTERS`].
    pub refused: [u64; COUNTERS.len()],
}

/// What `run` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The configuration's file has changed.
    ConfigChanged,
    /// What does UCI say, from this byte on? At 0 it is asked anew.
    Read(u32),
    /// A piece of a new configuration, in the form of UCI's file; from 0 it begins anew.
    Piece {
        /// Bytes before this piece.
        from: u32,
        /// At most [`PIECE`].
        bytes: Vec<u8>,
    },
    /// The pieces are the whole: UCI shall say that, if what it says now has this digest.
    Commit([u8; 32]),
    /// Of leases.
    Lease(LeaseRequest),
}

/// Why a message is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Another version of the protocol: both processes must be of one binary.
    Version,
    /// No kind of message, or not its shape.
    Shape,
}

impl Report {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Report::State(state) => {
                let mut m = vec![VERSION, 1, u8::from(state.in_force), u8::from(state.literals_differ)];
                m.extend(state.uid.to_be_bytes());
                state.refused.iter().for_each(|n| m.extend(n.to_be_bytes()));
                m
            }
            Report::Networks(list) => {
                let mut m = vec![VERSION, 2];
                list.iter().for_each(|p| put_prefix(&mut m, *p));
                m
            }
            Report::Wan(wan) => {
                let mut m = vec![VERSION, 8];
                [&wan.v4, &wan.v6].into_iter().for_each(|u| put_uplink(&mut m, u.as_ref()));
                m
            }
            Report::Piece { total, from, bytes } => {
                [&[VERSION, 3][..], &total.to_be_bytes(), &from.to_be_bytes(), bytes].concat()
            }
            Report::Taken(bytes) => [&[VERSION, 4][..], &bytes.to_be_bytes()].concat(),
            Report::Written(digest) => [&[VERSION, 5][..], digest].concat(),
            Report::Refused(why, text) => {
                let mut ends = (0..=MAX_SENTENCE.min(text.len())).rev();
                let text = ends.find_map(|end| text.get(..end)).unwrap_or_default();
                [&[VERSION, 6, u8::from(*why == Refusal::Changed)][..], text.as_bytes()].concat()
            }
            Report::Outward(list) => {
                let mut m = vec![VERSION, 7];
                list.iter().for_each(|a| put_prefix(&mut m, (*a, full(*a))));
                m
            }
            Report::Lease(report) => whole(report.encode()),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(data: &[u8]) -> Result<Report, Malformed> {
        let (kind, body) = open(data)?;
        let read = match kind {
            1 => state(body).map(Report::State),
            2 => networks(body).map(Report::Networks),
            3 => body.split_first_chunk::<4>().and_then(|(total, rest)| {
                let (from, bytes) = piece(rest)?;
                Some(Report::Piece { total: u32::from_be_bytes(*total), from, bytes })
            }),
            4 => body.try_into().ok().map(|n| Report::Taken(u32::from_be_bytes(n))),
            5 => body.try_into().ok().map(Report::Written),
            6 => refusal(body),
            7 => outward(body).map(Report::Outward),
            8 => wan(body).map(Report::Wan),
            _ => LeaseReport::decode(kind, body).map(Report::Lease),
        };
        read.ok_or(Malformed::Shape)
    }
}

impl Request {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Request::ConfigChanged => vec![VERSION, 0x81],
            Request::Read(from) => [&[VERSION, 0x82][..], &from.to_be_bytes()].concat(),
            Request::Piece { from, bytes } => [&[VERSION, 0x83][..], &from.to_be_bytes(), bytes].concat(),
            Request::Commit(digest) => [&[VERSION, 0x84][..], digest].concat(),
            Request::Lease(request) => whole(request.encode()),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(data: &[u8]) -> Result<Request, Malformed> {
        let read = match open(data)? {
            (0x81, []) => Some(Request::ConfigChanged),
            (0x82, from) => from.try_into().ok().map(|n| Request::Read(u32::from_be_bytes(n))),
            (0x83, body) => piece(body).map(|(from, bytes)| Request::Piece { from, bytes }),
            (0x84, digest) => digest.try_into().ok().map(Request::Commit),
            (kind, body) => LeaseRequest::decode(kind, body).map(Request::Lease),
        };
        read.ok_or(Malformed::Shape)
    }
}

fn whole((kind, mut body): (u8, Vec<u8>)) -> Vec<u8> {
    body.splice(0..0, [VERSION, kind]);
    body
}

fn open(data: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    match data {
        [VERSION, kind, body @ ..] => Ok((*kind, body)),
        [] | [VERSION] => Err(Malformed::Shape),
        _ => Err(Malformed::Version),
    }
}

fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn piece(body: &[u8]) -> Option<(u32, Vec<u8>)> {
    let (from, bytes) = body.split_first_chunk::<4>()?;
    (bytes.len() <= PIECE).then(|| (u32::from_be_bytes(*from), bytes.to_vec()))
}

fn refusal(body: &[u8]) -> Option<Report> {
    let (why, text) = body.split_first().filter(|(_, text)| text.len() <= MAX_SENTENCE)?;
    let why = if flag(*why)? { Refusal::Changed } else { Refusal::Failed };
    Some(Report::Refused(why, std::str::from_utf8(text).ok()?.to_owned()))
}

fn state(body: &[u8]) -> Option<State> {
    let ([in_force, literals_differ, uid @ ..], counts) = body.split_first_chunk::<6>()?;
    let mut refused = [0; COUNTERS.len()];
    if counts.len() != refused.len() * 8 {
        return None;
    }
    for (place, bytes) in refused.iter_mut().zip(counts.chunks_exact(8)) {
        *place = u64::from_be_bytes(*bytes.first_chunk()?);
    }
    Some(State {
        in_force: flag(*in_force)?,
        literals_differ: flag(*literals_differ)?,
        uid: u32::from_be_bytes(*uid),
        refused,
    })
}

fn networks(body: &[u8]) -> Option<Vec<Prefix>> {
    let list = body.chunks_exact(PREFIX);
    if !list.remainder().is_empty() || list.len() > MAX_NETWORKS {
        return None;
    }
    list.map(prefix).collect()
}

fn outward(body: &[u8]) -> Option<Vec<IpAddr>> {
    let list = networks(body)?;
    let whole = list.len() <= MAX_OUTWARD && list.iter().all(|(a, length)| *length == full(*a));
    whole.then(|| list.into_iter().map(|p| p.0).collect())
}

fn put_prefix(m: &mut Vec<u8>, (address, length): Prefix) {
    let (family, octets) = match address {
        IpAddr::V4(a) => (4, a.to_ipv6_compatible().octets()),
        IpAddr::V6(a) => (6, a.octets()),
    };
    m.extend([family, length]);
    m.extend(octets);
}

fn prefix(bytes: &[u8]) -> Option<Prefix> {
    let ([family, length], octets) = bytes.split_first_chunk::<2>()?;
    let address: [u8; 16] = *octets.first_chunk()?;
    match (family, address) {
        (4, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, v4 @ ..]) if *length <= 32 => Some((v4.into(), *length)),
        (6, _) if *length <= 128 => Some((address.into(), *length)),
        _ => None,
    }
}

/// A length and the name, the number, a count and the addresses; one zero for none.
fn put_uplink(m: &mut Vec<u8>, uplink: Option<&Uplink>) {
    let Some(uplink) = uplink else { return m.push(0) };
    let length = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    m.push(length(uplink.device.len()));
    m.extend(uplink.device.as_bytes());
    m.extend(uplink.index.to_be_bytes());
    m.push(length(uplink.addresses.len()));
    for address in &uplink.addresses {
        match address {
            IpAddr::V4(a) => m.extend(a.octets()),
            IpAddr::V6(a) => m.extend(a.octets()),
        }
    }
}

fn wan(body: &[u8]) -> Option<Wan> {
    let (v4, rest) = uplink(body, |b| b.split_first_chunk::<4>().map(|(a, rest)| ((*a).into(), rest)))?;
    let (v6, rest) = uplink(rest, |b| b.split_first_chunk::<16>().map(|(a, rest)| ((*a).into(), rest)))?;
    rest.is_empty().then_some(Wan { v4, v6 })
}

/// One or none, and what follows it.
fn uplink(
    body: &[u8],
    address: impl Fn(&[u8]) -> Option<(IpAddr, &[u8])>,
) -> Option<(Option<Uplink>, &[u8])> {
    let (length, rest) = body.split_first()?;
    if *length == 0 {
        return Some((None, rest));
    }
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let device = std::str::from_utf8(name).ok().filter(|n| is_device_name(n))?.to_owned();
    let (index, rest) = rest.split_first_chunk::<4>()?;
    let (count, mut rest) = rest.split_first()?;
    if usize::from(*count) > MAX_ADDRESSES {
        return None;
    }
    let mut addresses = Vec::new();
    for _ in 0..*count {
        let (found, after) = address(rest)?;
        addresses.push(found);
        rest = after;
    }
    Some((Some(Uplink { device, index: u32::from_be_bytes(*index), addresses }), rest))
}

#[cfg(test)]
mod tests;

//! The messages between guard and `run` over a Unix seqpacket socket: version, kind, content of a fixed shape; numbers in
//! network order. A message that is not exactly one of these ends the connection.
use super::network::{MAX_NETWORKS, MAX_OUTWARD, full};
use super::ruleset::COUNTERS;
use crate::policy::addresses::Prefix;
use std::net::IpAddr;

/// First byte of every message.
pub const VERSION: u8 = 1;
/// Bytes of a prefix: family, length, 16 of the address.
const PREFIX: usize = 18;
/// Longest message, bytes.
pub const MAX_MESSAGE: usize = 2 + MAX_NETWORKS * PREFIX;

/// What the guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// How the table is. Repeated every [`KEEP_ALIVE_MS`].
    State(State),
    /// The owner's networks, whenever they have changed, before the state that holds for them.
    Networks(Vec<Prefix>),
    /// The router's own addresses on the devices that lead outward, whenever they have changed.
    Outward(Vec<IpAddr>),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The configuration's file has changed.
    ConfigChanged,
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
            Report::Outward(list) => {
                let mut m = vec![VERSION, 3];
                list.iter().for_each(|a| put_prefix(&mut m, (*a, full(*a))));
                m
            }
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
            3 => outward(body).map(Report::Outward),
            _ => None,
        };
        read.ok_or(Malformed::Shape)
    }
}

impl Request {
    /// As it is sent.
    pub fn encode(self) -> Vec<u8> {
        vec![VERSION, 0x81]
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(data: &[u8]) -> Result<Request, Malformed> {
        match open(data)? {
            (0x81, []) => Ok(Request::ConfigChanged),
            _ => Err(Malformed::Shape),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATE: State =
        State { in_force: true, literals_differ: false, uid: 5310, refused: [1, 2, 3, 4, 5, 6] };

    #[test]
    fn what_is_sent_is_what_is_read() {
        let networks = vec![("192.168.1.0".parse().unwrap(), 24), ("fe80::".parse().unwrap(), 10)];
        let outward = Report::Outward(vec!["84.1.1.1".parse().unwrap(), "2a02::1".parse().unwrap()]);
        for report in
            [Report::State(STATE), Report::Networks(networks), Report::Networks(Vec::new()), outward]
        {
            assert_eq!(Report::decode(&report.encode()), Ok(report));
        }
        assert_eq!(Request::decode(&Request::ConfigChanged.encode()), Ok(Request::ConfigChanged));
    }

    #[test]
    fn nothing_else_is_read() {
        let good = Report::State(STATE).encode();
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            Report::decode(&bytes)
        };
        assert_eq!(changed(0, 2), Err(Malformed::Version));
        assert_eq!(changed(1, 9), Err(Malformed::Shape));
        assert_eq!(changed(2, 2), Err(Malformed::Shape), "neither yes nor no");
        for length in 0..good.len() {
            assert_eq!(Report::decode(&good[..length]), Err(Malformed::Shape), "{length}");
        }
        assert_eq!(Report::decode(&[&good[..], &[0]].concat()), Err(Malformed::Shape));
        assert_eq!(Request::decode(&[VERSION, 0x81, 0]), Err(Malformed::Shape));
    }

    #[test]
    fn the_largest_list_is_read_and_one_more_is_not() {
        let list = vec![("10.0.0.0".parse().unwrap(), 8); MAX_NETWORKS + 1];
        let most = Report::Networks(list[1..].to_vec());
        assert_eq!(most.encode().len(), MAX_MESSAGE);
        assert_eq!(Report::decode(&most.encode()), Ok(most));
        assert_eq!(Report::decode(&Report::Networks(list).encode()), Err(Malformed::Shape));
        let wan = |n| Report::Outward(vec!["84.1.1.1".parse().unwrap(); n]);
        assert!(Report::decode(&wan(MAX_OUTWARD).encode()).is_ok());
        assert_eq!(Report::decode(&wan(MAX_OUTWARD + 1).encode()), Err(Malformed::Shape));
        let mut network = Report::Networks(vec![("84.1.1.0".parse().unwrap(), 24)]).encode();
        network[1] = 3;
        assert_eq!(Report::decode(&network), Err(Malformed::Shape), "a network is no address");
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_would_be_sent(data in proptest::collection::vec(any::<u8>(), 0..80), kind in 1u8..4) {
            let data = [&[VERSION, kind][..], &data].concat();
            if let Ok(report) = Report::decode(&data) {
                prop_assert_eq!(report.encode(), data);
            }
        }
    }
}

//! Messages of leases as bytes: what is written and how it is read.
use super::found::Amount;
use super::lease_wire::{
    Ability, Checked, Counted, DENIALS, FIRST_REPORT, FIRST_REQUEST, Grant, LeaseReport, LeaseRequest,
    MAX_CLASS, MAX_COUNTED, MAX_PACKET, MAX_REASON, MAX_TTL_S, OFFLOADS, VERDICTS,
};
use std::net::IpAddr;

/// Bytes of one [`Counted`].
const COUNTED: usize = 36;

impl LeaseRequest {
    /// Kind and content.
    pub fn encode(&self) -> (u8, Vec<u8>) {
        let (kind, body) = match self {
            LeaseRequest::Grant(grant) => (0, put_grant(grant)),
            LeaseRequest::Renew { no, ttl_s } => (1, [&no.to_be_bytes()[..], &ttl_s.to_be_bytes()].concat()),
            LeaseRequest::End { no } => (2, no.to_be_bytes().to_vec()),
            LeaseRequest::EndAll => (3, Vec::new()),
            LeaseRequest::Verdict { packet, what } => {
                (4, [&packet.to_be_bytes()[..], &[place(&VERDICTS, what)]].concat())
            }
            LeaseRequest::Kill { ct } => (5, ct.to_be_bytes().to_vec()),
            LeaseRequest::Count => (6, Vec::new()),
        };
        (FIRST_REQUEST + kind, body)
    }

    /// Reads one; none if the kind is not a lease's or the content has another shape.
    pub fn decode(kind: u8, body: &[u8]) -> Option<LeaseRequest> {
        let mut r = Reader(body);
        let request = match kind.checked_sub(FIRST_REQUEST)? {
            0 => LeaseRequest::Grant(r.grant()?),
            1 => LeaseRequest::Renew { no: r.u32()?, ttl_s: r.ttl()? },
            2 => LeaseRequest::End { no: r.u32()? },
            3 => LeaseRequest::EndAll,
            4 => LeaseRequest::Verdict { packet: r.u32()?, what: r.one_of(&VERDICTS)? },
            5 => LeaseRequest::Kill { ct: r.u32()? },
            6 => LeaseRequest::Count,
            _ => return None,
        };
        r.end(request)
    }
}

impl LeaseReport {
    /// Kind and content.
    pub fn encode(&self) -> (u8, Vec<u8>) {
        let (kind, body) = match self {
            LeaseReport::Able(ability) => (0, put_ability(ability)),
            LeaseReport::Granted { no } => (1, no.to_be_bytes().to_vec()),
            LeaseReport::Denied { no, why } => (2, [&no.to_be_bytes()[..], &[place(&DENIALS, why)]].concat()),
            LeaseReport::Ended { no } => (3, no.to_be_bytes().to_vec()),
            LeaseReport::Gone => (4, Vec::new()),
            LeaseReport::Packet { packet, ct, port, buyer, reply, length, bytes } => {
                let mut m = Vec::with_capacity(bytes.len() + 40);
                m.extend(packet.to_be_bytes());
                m.extend(ct.to_be_bytes());
                m.extend(port.to_be_bytes());
                put_address(&mut m, buyer.0);
                m.extend(buyer.1.to_be_bytes());
                m.push(u8::from(*reply));
                m.extend(length.to_be_bytes());
                m.extend(bytes);
                (5, m)
            }
            LeaseReport::Counts { list, last } => {
                let mut m = Vec::with_capacity(1 + list.len() * COUNTED);
                m.push(u8::from(*last));
                list.iter().for_each(|c| put_counted(&mut m, c));
                (6, m)
            }
            LeaseReport::Closed(counted) => {
                let mut m = Vec::with_capacity(COUNTED);
                put_counted(&mut m, counted);
                (7, m)
            }
            LeaseReport::Checked(checked) => (8, put_checked(checked)),
        };
        (FIRST_REPORT + kind, body)
    }

    /// Reads one; none if the kind is not a lease's or the content has another shape.
    pub fn decode(kind: u8, body: &[u8]) -> Option<LeaseReport> {
        let mut r = Reader(body);
        let report = match kind.checked_sub(FIRST_REPORT)? {
            0 => LeaseReport::Able(r.ability()?),
            1 => LeaseReport::Granted { no: r.u32()? },
            2 => LeaseReport::Denied { no: r.u32()?, why: r.one_of(&DENIALS)? },
            3 => LeaseReport::Ended { no: r.u32()? },
            4 => LeaseReport::Gone,
            5 => LeaseReport::Packet {
                packet: r.u32()?,
                ct: r.u32()?,
                port: r.u16()?,
                buyer: (r.address()?, r.u16()?),
                reply: r.flag()?,
                length: r.u32()?,
                bytes: r.rest(MAX_PACKET)?.to_vec(),
            },
            6 => {
                let last = r.flag()?;
                let list = r.rest(MAX_COUNTED * COUNTED)?.chunks(COUNTED);
                let list = list.map(|c| Reader(c).counted()).collect::<Option<_>>()?;
                LeaseReport::Counts { list, last }
            }
            7 => LeaseReport::Closed(r.counted()?),
            8 => LeaseReport::Checked(r.checked()?),
            _ => return None,
        };
        r.end(report)
    }
}

/// Where a value stands among all of its type, which is its number on the wire.
fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    all.iter().position(|v| v == one).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

fn put_address(m: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(a) => {
            m.push(4);
            m.extend(a.octets());
        }
        IpAddr::V6(a) => {
            m.push(6);
            m.extend(a.octets());
        }
    }
}

fn put_grant(grant: &Grant) -> Vec<u8> {
    let mut m = grant.no.to_be_bytes().to_vec();
    put_address(&mut m, grant.buyer);
    put_address(&mut m, grant.target);
    for number in [grant.port, grant.ttl_s, grant.new_per_second, grant.burst, grant.class] {
        m.extend(number.to_be_bytes());
    }
    m.extend(grant.cap_kbps.to_be_bytes());
    m
}

fn put_ability(ability: &Ability) -> Vec<u8> {
    let mut m = vec![u8::from(ability.possible), place(&OFFLOADS, &ability.offload), u8::from(ability.caps)];
    m.extend(ability.max_flows.to_be_bytes());
    put_reason(&mut m, &ability.reason);
    m
}

/// Cut between two characters.
fn put_reason(m: &mut Vec<u8>, reason: &str) {
    let mut ends = (0..=MAX_REASON.min(reason.len())).rev();
    m.extend(ends.find_map(|end| reason.get(..end)).unwrap_or_default().as_bytes());
}

fn put_checked(checked: &Checked) -> Vec<u8> {
    let mut m = checked.round.to_be_bytes().to_vec();
    m.extend(checked.flows.to_be_bytes());
    m.extend(checked.counts.map(u8::from));
    for Amount { packets, bytes } in checked.tracked.iter().chain(&checked.seen) {
        m.extend(packets.to_be_bytes());
        m.extend(bytes.to_be_bytes());
    }
    put_reason(&mut m, &checked.why);
    m
}

fn put_counted(m: &mut Vec<u8>, counted: &Counted) {
    m.extend(counted.ct.to_be_bytes());
    for number in counted.packets.iter().chain(&counted.bytes) {
        m.extend(number.to_be_bytes());
    }
}

/// What is left of a message's content.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        self.one_of(&[false, true])
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let [at] = self.take()?;
        all.get(usize::from(at)).copied()
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.take()? {
            [4] => self.take::<4>().map(IpAddr::from),
            [6] => self.take::<16>().map(IpAddr::from),
            _ => None,
        }
    }

    fn ttl(&mut self) -> Option<u16> {
        self.u16().filter(|s| (1..=MAX_TTL_S).contains(s))
    }

    fn rest(&mut self, most: usize) -> Option<&'a [u8]> {
        let rest = std::mem::take(&mut self.0);
        (rest.len() <= most).then_some(rest)
    }

    fn grant(&mut self) -> Option<Grant> {
        let grant = Grant {
            no: self.u32()?,
            buyer: self.address()?,
            target: self.address()?,
            port: self.u16()?,
            ttl_s: self.ttl()?,
            new_per_second: self.u16()?,
            burst: self.u16()?,
            class: self.u16()?,
            cap_kbps: self.u32()?,
        };
        let one_family = grant.buyer.is_ipv4() == grant.target.is_ipv4();
        (one_family && grant.port != 0 && grant.class <= MAX_CLASS).then_some(grant)
    }

    fn ability(&mut self) -> Option<Ability> {
        Some(Ability {
            possible: self.flag()?,
            offload: self.one_of(&OFFLOADS)?,
            caps: self.flag()?,
            max_flows: self.u32()?,
            reason: self.reason()?,
        })
    }

    fn reason(&mut self) -> Option<String> {
        std::str::from_utf8(self.rest(MAX_REASON)?).ok().map(ToOwned::to_owned)
    }

    fn amount(&mut self) -> Option<Amount> {
        Some(Amount { packets: self.u64()?, bytes: self.u64()? })
    }

    fn checked(&mut self) -> Option<Checked> {
        Some(Checked {
            round: self.u32()?,
            flows: self.u64()?,
            counts: [self.flag()?, self.flag()?],
            tracked: [self.amount()?, self.amount()?],
            seen: [self.amount()?, self.amount()?],
            why: self.reason()?,
        })
    }

    fn counted(&mut self) -> Option<Counted> {
        Some(Counted {
            ct: self.u32()?,
            packets: [self.u64()?, self.u64()?],
            bytes: [self.u64()?, self.u64()?],
        })
    }

    fn end<T>(self, read: T) -> Option<T> {
        self.0.is_empty().then_some(read)
    }
}

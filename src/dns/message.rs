//! DNS questions and answers (RFC 1035, RFC 8484 section 4.1).
use super::ResolveError;
use crate::mutant::out;
use crate::policy::hosts::normal;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest chain of aliases that is followed.
const MAX_CHAIN: usize = 16;
/// Seconds to keep a negative answer that does not say how long (RFC 2308 section 5 has it in the SOA).
const NEGATIVE_TTL_S: u32 = 60;

/// The record type asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

impl Kind {
    fn record(self) -> TYPE {
        if self == Kind::A { TYPE::A } else { TYPE::AAAA }
    }
}

/// What one answer says. Without addresses the name has none of this kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Addresses of the name, or of the last of its aliases.
    pub addresses: Vec<IpAddr>,
    /// The names it is an alias of, in order and normal form.
    pub aliases: Vec<String>,
    /// Seconds for which that holds: the least of all records it rests on.
    pub ttl_s: u32,
}

/// The message that asks for a name's addresses. Its ID is 0, so that caches may serve it.
///
/// # Errors
/// [`ResolveError::NoAddress`] if the name cannot stand in a message.
pub fn question(host: &str, kind: Kind) -> Result<Vec<u8>, ResolveError> {
    let name = Name::new(host).map_err(|_| ResolveError::NoAddress)?;
    let mut packet = Packet::new_query(0);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind.record()), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(|_| ResolveError::NoAddress)
}

/// Reads the answer to [`question`].
///
/// # Errors
/// [`ResolveError::Failed`] if it is none, answers something else, or reports a failure of the resolver.
pub fn answer(bytes: &[u8], host: &str, kind: Kind) -> Result<Found, ResolveError> {
    let packet = Packet::parse(bytes).map_err(|_| ResolveError::Failed)?;
    let [asked] = packet.questions.as_slice() else { return Err(ResolveError::Failed) };
    let ours = packet.has_flags(PacketFlag::RESPONSE)
        && !packet.has_flags(PacketFlag::TRUNCATION)
        && packet.id() == 0
        && text(&asked.qname).as_deref() == Some(host)
        && asked.qtype == QTYPE::TYPE(kind.record())
        && asked.qclass == QCLASS::CLASS(CLASS::IN);
    match packet.rcode() {
        RCODE::NoError | RCODE::NameError if ours => {}
        _ => return Err(ResolveError::Failed),
    }
    let mut found = follow(&packet.answers, host, kind)?;
    if found.addresses.is_empty() {
        found.ttl_s = found.ttl_s.min(negative_ttl(&packet.name_servers));
    }
    Ok(found)
}

/// Walks from the name along its aliases; records of other owners are not looked at.
fn follow(records: &[ResourceRecord<'_>], host: &str, kind: Kind) -> Result<Found, ResolveError> {
    let mut found = Found { ttl_s: u32::MAX, ..Found::default() };
    let mut at = host.to_owned();
    loop {
        let mut next = None;
        for record in records.iter().filter(|r| r.class == CLASS::IN && text(&r.name).as_ref() == Some(&at)) {
            match (&record.rdata, kind) {
                (RData::A(a), Kind::A) => found.addresses.push(Ipv4Addr::from_bits(a.address).into()),
                (RData::AAAA(a), Kind::Aaaa) => found.addresses.push(Ipv6Addr::from_bits(a.address).into()),
                (RData::CNAME(c), _) => {
                    let to = text(&c.0).ok_or(ResolveError::Failed)?;
                    // A name has one alias at the most (RFC 2181 section 10.1).
                    if next.replace(to.clone()).is_some_and(|before| before != to) {
                        return Err(ResolveError::Failed);
                    }
                }
                _ => continue,
            }
            found.ttl_s = found.ttl_s.min(ttl(record.ttl));
        }
        let Some(next) = next else { return Ok(found) };
        // And nothing beside it (RFC 1034 section 3.6.2): which of both the buyer's client would believe is not known.
        if !found.addresses.is_empty()
            || (found.aliases.len() >= MAX_CHAIN && !out("alias-chain"))
            || found.aliases.contains(&next)
            || next == host
        {
            return Err(ResolveError::Failed);
        }
        found.aliases.push(next.clone());
        at = next;
    }
}

/// One with the highest bit set counts as 0 (RFC 2181 section 8).
fn ttl(given: u32) -> u32 {
    if given > i32::MAX.unsigned_abs() { 0 } else { given }
}

fn negative_ttl(authority: &[ResourceRecord<'_>]) -> u32 {
    let soa = authority.iter().find_map(|r| match &r.rdata {
        RData::SOA(soa) => Some(ttl(r.ttl).min(ttl(soa.minimum))),
        _ => None,
    });
    soa.unwrap_or(NEGATIVE_TTL_S)
}

fn text(name: &Name<'_>) -> Option<String> {
    normal(&name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::rdata;

    fn record<'a>(name: &'a str, ttl: u32, rdata: RData<'a>) -> ResourceRecord<'a> {
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, ttl, rdata)
    }

    fn a(name: &str, ttl: u32) -> ResourceRecord<'_> {
        record(name, ttl, RData::A(rdata::A { address: 0x0808_0808 }))
    }

    fn cname<'a>(name: &'a str, to: &'a str, ttl: u32) -> ResourceRecord<'a> {
        record(name, ttl, RData::CNAME(rdata::CNAME(Name::new(to).unwrap())))
    }

    fn reply(host: &str, answers: Vec<ResourceRecord<'_>>, change: impl Fn(&mut Packet<'_>)) -> Vec<u8> {
        let asked = question(host, Kind::A).unwrap();
        let mut packet = Packet::parse(&asked).unwrap().into_reply();
        packet.answers = answers;
        change(&mut packet);
        packet.build_bytes_vec().unwrap()
    }

    fn read(answers: Vec<ResourceRecord<'_>>) -> Result<Found, ResolveError> {
        answer(&reply("a.test", answers, |_| {}), "a.test", Kind::A)
    }

    #[test]
    fn addresses_come_with_the_aliases_on_the_way() {
        let found = read(vec![cname("c.test", "D.test", 5), cname("A.TEST", "c.test", 60), a("d.test", 300)]);
        let want = Found {
            addresses: vec!["8.8.8.8".parse().unwrap()],
            aliases: vec!["c.test".into(), "d.test".into()],
            ttl_s: 5,
        };
        assert_eq!(found, Ok(want));
    }

    #[test]
    fn records_of_other_names_are_not_looked_at() {
        let found = read(vec![a("evil.test", 1), a("a.test", 300), a("b.a.test", 1)]).unwrap();
        assert_eq!((found.addresses.len(), found.ttl_s), (1, 300));
    }

    #[test]
    fn a_name_with_two_aliases_or_with_an_address_beside_one_is_refused() {
        let two = vec![cname("a.test", "b.test", 60), cname("a.test", "c.test", 60), a("c.test", 60)];
        assert_eq!(read(two), Err(ResolveError::Failed));
        let same_twice = vec![cname("a.test", "b.test", 60), cname("a.test", "b.test", 60), a("b.test", 60)];
        assert_eq!(read(same_twice).unwrap().aliases, ["b.test"]);
        let beside = vec![a("a.test", 60), cname("a.test", "evil.test", 60)];
        assert_eq!(read(beside), Err(ResolveError::Failed));
    }

    #[test]
    fn a_time_to_live_with_the_highest_bit_is_none() {
        assert_eq!(read(vec![a("a.test", 1 << 31)]).unwrap().ttl_s, 0);
        assert_eq!(read(vec![a("a.test", (1 << 31) - 1)]).unwrap().ttl_s, (1 << 31) - 1);
    }

    #[test]
    fn chains_end() {
        let looped = vec![cname("a.test", "b.test", 9), cname("b.test", "a.test", 9)];
        assert_eq!(read(looped), Err(ResolveError::Failed));
        let names: Vec<String> = (0..20).map(|i| format!("n{i}.test")).collect();
        let mut long = vec![cname("a.test", &names[0], 9)];
        long.extend(names.windows(2).map(|w| cname(&w[0], &w[1], 9)));
        assert_eq!(read(long), Err(ResolveError::Failed));
    }

    #[test]
    fn an_answer_to_something_else_is_refused() {
        let failed = Err(ResolveError::Failed);
        let good = reply("a.test", vec![a("a.test", 9)], |_| {});
        assert!(answer(&good, "a.test", Kind::A).is_ok());
        assert_eq!(answer(&good, "b.test", Kind::A), failed);
        assert_eq!(answer(&good, "a.test", Kind::Aaaa), failed);
        assert_eq!(answer(&question("a.test", Kind::A).unwrap(), "a.test", Kind::A), failed);
        assert_eq!(answer(&reply("a.test", vec![], |p| p.set_id(7)), "a.test", Kind::A), failed);
        assert_eq!(answer(&reply("a.test", vec![], |p| p.questions.clear()), "a.test", Kind::A), failed);
        let servfail = reply("a.test", vec![], |p| *p.rcode_mut() = RCODE::ServerFailure);
        assert_eq!(answer(&servfail, "a.test", Kind::A), failed);
        assert_eq!(
            answer(&reply("a.test", vec![], |p| p.set_flags(PacketFlag::TRUNCATION)), "a.test", Kind::A),
            failed
        );
    }

    #[test]
    fn a_name_that_does_not_exist_says_for_how_long() {
        let soa = |ttl, minimum| {
            let soa = rdata::SOA {
                mname: Name::new("ns.test").unwrap(),
                rname: Name::new("root.test").unwrap(),
                serial: 1,
                refresh: 1,
                retry: 1,
                expire: 1,
                minimum,
            };
            record("test", ttl, RData::SOA(soa))
        };
        let read = |authority: Vec<ResourceRecord<'static>>| {
            let bytes = reply("a.test", vec![], move |p| {
                *p.rcode_mut() = RCODE::NameError;
                p.name_servers = authority.clone();
            });
            answer(&bytes, "a.test", Kind::A).unwrap()
        };
        assert_eq!(read(vec![soa(900, 30)]), Found { ttl_s: 30, ..Found::default() });
        assert_eq!(read(vec![]).ttl_s, NEGATIVE_TTL_S);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = answer(&bytes, "a.test", Kind::A);
        }

        #[test]
        fn a_damaged_answer_never_panics(at in any::<usize>(), value in any::<u8>()) {
            let mut bytes = reply("a.test", vec![cname("a.test", "c.test", 5), a("c.test", 5)], |_| {});
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = answer(&bytes, "a.test", Kind::A);
        }
    }
}

//! Leases as elements of the lease table's sets: `open4` and `open6` say who may connect to which port, `leases4` and
//! `leases6` where that leads. The kernel drops each by itself when its time is over, whatever becomes of the guard.
use super::lease_wire::Grant;
use super::messages::{Batch, DELETE_ELEMENTS, NEW_ELEMENTS};
use super::netlink::{self as nl, CREATE, Writer};
use super::table::{COUNTING, LEASES};
use std::net::IpAddr;

/// The port of the target.
pub const TARGET_PORT: u16 = 443;

/// What an element has beside its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// What a map gives for the key; empty in a set.
    pub data: Vec<u8>,
    /// New connections in a second, and at once.
    pub limit: Option<(u64, u32)>,
    /// Milliseconds that are left.
    pub left_ms: u64,
}

impl Element {
    /// Reads `NFTA_SET_ELEM_*`; none if it has no end, or something that no element of ours has.
    pub fn read(element: &[u8]) -> Option<Element> {
        let data = match nl::attribute(element, 2) {
            Some(data) => nl::attribute(data, 1)?.to_vec(),
            None => Vec::new(),
        };
        let limit = match nl::attribute(element, 7) {
            Some(limit) => Some(read_limit(limit)?),
            None => None,
        };
        nl::be64(element, 4)?;
        let known = [1, 2, 4, 5, 6, 7, 8];
        let ours = nl::be32(element, 3).unwrap_or(0) == 0
            && nl::attributes(element).all(|(kind, _)| kind == 3 || known.contains(&kind));
        ours.then_some(Element { data, limit, left_ms: nl::be64(element, 5)? })
    }
}

/// `NFTA_LIMIT_*`: packets in a second.
fn read_limit(expression: &[u8]) -> Option<(u64, u32)> {
    let data = nl::attribute(expression, 2)?;
    let ours = nl::text(expression, 1) == Some("limit")
        && nl::be64(data, 2) == Some(1)
        && nl::be32(data, 4).unwrap_or(0) == 0
        && nl::be32(data, 5).unwrap_or(0) == 0;
    ours.then_some((nl::be64(data, 1)?, nl::be32(data, 3)?))
}

/// The sets of a family: who may connect, and where it leads.
pub fn sets(v6: bool) -> (&'static str, &'static str) {
    if v6 { ("open6", "leases6") } else { ("open4", "leases4") }
}

/// The key of a lease in both of its sets.
pub fn key(grant: &Grant) -> Vec<u8> {
    place(grant.buyer, grant.port)
}

/// What the map gives for it.
pub fn data(grant: &Grant) -> Vec<u8> {
    place(grant.target, TARGET_PORT)
}

/// The limit of its new connections; the kernel takes 0 at once for 5.
pub fn limit(grant: &Grant) -> (u64, u32) {
    (grant.new_per_second.max(1).into(), grant.burst.max(1).into())
}

/// An address, and a port padded to four bytes, as registers hold them.
fn place(address: IpAddr, port: u16) -> Vec<u8> {
    let mut bytes = match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// The transaction that puts a lease into the kernel.
pub fn add(grant: &Grant) -> Vec<u8> {
    let mut batch = Batch::begin(LEASES);
    put(&mut batch, grant);
    batch.end()
}

/// The transaction that gives a lease new time: kernels before 6.12 change no element's, so it is another one. It is
/// there all the while, and its limit begins anew.
pub fn renew(grant: &Grant) -> Vec<u8> {
    let mut batch = Batch::begin(LEASES);
    take(&mut batch, grant);
    put(&mut batch, grant);
    batch.end()
}

/// The transaction that takes a lease out. It fails if the lease is not there.
pub fn remove(grant: &Grant) -> Vec<u8> {
    let mut batch = Batch::begin(LEASES);
    take(&mut batch, grant);
    batch.end()
}

/// The sets of the table that counts: those whose packets are.
pub const BUYERS: [&str; 2] = ["buyers4", "buyers6"];

/// The transaction that has a lease's packets counted, or counted no more.
pub fn watch(grant: &Grant, on: bool) -> Vec<u8> {
    let mut batch = Batch::begin(COUNTING);
    let [v4, v6] = BUYERS;
    let set = if grant.buyer.is_ipv6() { v6 } else { v4 };
    let (kind, flags) = if on { (NEW_ELEMENTS, CREATE) } else { (DELETE_ELEMENTS, 0) };
    batch.add(kind, flags, |w| in_set(w, set, |w| w.nest(1, |w| w.put(1, &key(grant)))));
    batch.end()
}

fn put(batch: &mut Batch<'_>, grant: &Grant) {
    let (open, leases) = sets(grant.buyer.is_ipv6());
    let time = |w: &mut Writer| w.put(4, &(u64::from(grant.ttl_s) * 1000).to_be_bytes());
    // The map first: who may connect has somewhere to go.
    batch.add(NEW_ELEMENTS, CREATE, |w| {
        in_set(w, leases, |w| {
            w.nest(1, |w| w.put(1, &key(grant)));
            w.nest(2, |w| w.put(1, &data(grant)));
            time(w);
            let (rate, burst) = limit(grant);
            w.nest(7, |w| {
                w.put_text(1, "limit");
                w.nest(2, |w| {
                    w.put(1, &rate.to_be_bytes());
                    w.put(2, &1u64.to_be_bytes());
                    w.put_be32(3, burst);
                    w.put_be32(4, 0);
                });
            });
        });
    });
    batch.add(NEW_ELEMENTS, CREATE, |w| {
        in_set(w, open, |w| {
            w.nest(1, |w| w.put(1, &key(grant)));
            time(w);
        });
    });
}

fn take(batch: &mut Batch<'_>, grant: &Grant) {
    let (open, leases) = sets(grant.buyer.is_ipv6());
    for set in [open, leases] {
        batch.add(DELETE_ELEMENTS, 0, |w| in_set(w, set, |w| w.nest(1, |w| w.put(1, &key(grant)))));
    }
}

/// One element of a set.
fn in_set(w: &mut Writer, set: &str, fill: impl FnOnce(&mut Writer)) {
    w.put_text(2, set);
    w.nest(3, |w| w.nest(1, fill));
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::found::Found;
    use super::super::lease_rules::tests::example;
    use super::super::messages::replace;
    use super::*;

    /// A lease of port 40001.
    pub fn grant(buyer: &str, target: &str) -> Grant {
        Grant {
            no: 1,
            buyer: buyer.parse().unwrap(),
            port: 40_001,
            target: target.parse().unwrap(),
            ttl_s: 600,
            new_per_second: 20,
            burst: 40,
            cap_kbps: 0,
            class: 0,
        }
    }

    #[test]
    fn what_is_put_in_is_read_back() {
        let mut found = Found::of(LEASES);
        nl::messages(&replace(&example().table)).for_each(|m| found.take(&m));
        for grant in [grant("44.1.0.9", "44.9.0.9"), grant("2a10:1::9", "2a10:9::9")] {
            // A kernel's answers say also how much time is left.
            let batch = add(&grant);
            for message in nl::messages(&batch).filter(|m| m.kind & 0xff == u16::from(NEW_ELEMENTS)) {
                let body = message.body.get(4..).unwrap();
                let element = nl::attribute(nl::attribute(body, 3).unwrap(), 1).unwrap();
                assert_eq!(Element::read(element), None, "without an end");
                let mut w = Writer::default();
                nl::attributes(element).for_each(|(kind, value)| w.put(kind, value));
                w.put(5, &1000u64.to_be_bytes());
                let read = Element::read(&w.finish()).unwrap();
                assert_eq!(nl::attribute(nl::attribute(element, 1).unwrap(), 1), Some(&key(&grant)[..]));
                let map = nl::text(body, 2).unwrap() == sets(grant.buyer.is_ipv6()).1;
                assert_eq!(read.left_ms, 1000);
                assert_eq!(
                    (read.data, read.limit),
                    if map { (data(&grant), Some((20, 40))) } else { (vec![], None) }
                );
            }
        }
    }

    #[test]
    fn an_element_that_stays_or_does_more_is_not_ours() {
        let element = |kinds: &[(u16, u64)]| {
            let mut w = Writer::default();
            w.nest(1, |w| w.put(1, &[1]));
            kinds.iter().for_each(|(kind, value)| w.put(*kind, &value.to_be_bytes()));
            Element::read(&w.finish())
        };
        assert!(element(&[(4, 9), (5, 8)]).is_some());
        assert_eq!(element(&[(5, 8)]), None, "no timeout");
        assert_eq!(element(&[(4, 9), (5, 8), (9, 0)]), None, "an object");
        assert_eq!(element(&[(4, 9), (5, 8), (3, 2 << 32)]), None, "for all keys");
    }

    #[test]
    fn renewing_takes_out_and_puts_in_at_once() {
        let kinds: Vec<u16> =
            nl::messages(&renew(&grant("44.1.0.9", "44.9.0.9"))).map(|m| m.kind & 0xff).collect();
        let [del, new] = [DELETE_ELEMENTS, NEW_ELEMENTS].map(u16::from);
        assert_eq!(kinds, [16, del, del, new, new, 17]);
    }

    #[test]
    fn a_limit_is_never_none() {
        let grant = Grant { new_per_second: 0, burst: 0, ..grant("44.1.0.9", "44.9.0.9") };
        assert_eq!(limit(&grant), (1, 1));
    }
}

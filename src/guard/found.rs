//! What the kernel says it has, read from the answers to [`super::messages::ask`].
use super::lease_set::Element;
use super::messages::{
    ACCEPT, COUNTER, COUNTS, HARDWARE, INTERVAL_END, NEW_CHAIN, NEW_ELEMENTS, NEW_FLOWTABLE, NEW_OBJECT,
    NEW_RULE, NEW_SET, NEW_TABLE, SUBSYSTEM, number,
};
use super::netlink::{self as nl, Message, attributes};
use super::table::{
    COUNTING, Chain, Device, Expr, Flowtable, Hook, Key, LEASES, NAME, Place, Set, Table, family,
};
use crate::sorted::{SortedMap, SortedSet};

/// A table of the kernel's, as its answers come.
#[derive(Debug)]
pub struct Found {
    there: bool,
    strange: bool,
    table: Table,
    leases: SortedMap<String, SortedMap<Vec<u8>, Element>>,
    counts: SortedMap<String, Amount>,
}

/// What a counter has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Packets.
    pub packets: u64,
    /// Bytes, with all headers that the packets had where they were counted.
    pub bytes: u64,
}

impl Amount {
    /// Adds another one.
    pub fn add(&mut self, more: Amount) {
        self.packets = self.packets.saturating_add(more.packets);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    /// What is above another one.
    #[must_use]
    pub fn less(self, other: Amount) -> Amount {
        let packets = self.packets.saturating_sub(other.packets);
        Amount { packets, bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

impl Found {
    /// Nothing yet of the table of this name.
    pub fn of(name: &str) -> Found {
        Found {
            there: false,
            strange: false,
            table: Table { name: name.to_owned(), ..Table::default() },
            leases: SortedMap::new(),
            counts: SortedMap::new(),
        }
    }

    /// The names of the sets told so far.
    pub fn sets(&self) -> Vec<String> {
        self.table.sets.keys().cloned().collect()
    }

    /// The elements of a set of leases, by key.
    pub fn leases(&self, set: &str) -> Option<&SortedMap<Vec<u8>, Element>> {
        self.leases.get(set)
    }

    /// The table, if there is one, it works, and nothing in it is of a kind that we never make.
    pub fn table(&self) -> Option<&Table> {
        (self.there && !self.strange).then_some(&self.table)
    }

    /// What each counter has seen.
    pub fn counts(&self) -> &SortedMap<String, Amount> {
        &self.counts
    }

    /// Takes an answer in; what belongs to other tables is passed over.
    pub fn take(&mut self, message: &Message<'_>) {
        let Some((head, body)) = message.body.split_first_chunk::<4>() else { return };
        let name = self.table.name.as_str();
        let ours = head[0] == family(name).0 && nl::text(body, 1) == Some(name);
        let Some(kind) = message.kind.checked_sub(SUBSYSTEM << 8).filter(|_| ours) else { return };
        let known = match u8::try_from(kind) {
            Ok(NEW_TABLE) => {
                self.there = true;
                // A dormant table is in the list and does nothing.
                (nl::be32(body, 2).unwrap_or(0) == 0).then_some(())
            }
            Ok(NEW_CHAIN) => self.chain(body),
            Ok(NEW_RULE) => self.rule(body),
            Ok(NEW_SET) => self.set(body),
            Ok(NEW_ELEMENTS) => self.elements(body),
            Ok(NEW_OBJECT) => self.object(body),
            Ok(NEW_FLOWTABLE) => self.flowtable(body),
            _ => Some(()),
        };
        self.strange |= known.is_none();
    }

    fn chain(&mut self, body: &[u8]) -> Option<()> {
        let hook = match nl::attribute(body, 4) {
            Some(_) if nl::be32(body, 5)? != ACCEPT => return None,
            Some(hook) => Some(Hook {
                nat: match nl::text(body, 7)? {
                    "filter" => false,
                    "nat" => true,
                    _ => return None,
                },
                place: Place::of(nl::be32(hook, 1)?, nl::attribute(hook, 3).and_then(device))?,
                priority: nl::be32(hook, 2)?.cast_signed(),
            }),
            None => None,
        };
        self.table.chains.edit(nl::text(body, 3)?.to_owned(), Chain::default, |chain| chain.hook = hook);
        Some(())
    }

    fn rule(&mut self, body: &[u8]) -> Option<()> {
        let expressions = attributes(nl::attribute(body, 4)?).map(|(_, e)| Expr::decode(e));
        let rule = expressions.collect::<Option<Vec<_>>>()?;
        self.table.chains.edit(nl::text(body, 2)?.to_owned(), Chain::default, |chain| chain.rules.push(rule));
        Some(())
    }

    fn set(&mut self, body: &[u8]) -> Option<()> {
        let numbers = (nl::be32(body, 4)?, nl::be32(body, 5)?, nl::be32(body, 3).unwrap_or(0));
        let data = nl::be32(body, 6).zip(nl::be32(body, 7));
        let size = nl::attribute(body, 9).and_then(|description| nl::be32(description, 1));
        let key = Key::of(numbers, size).filter(|k| k.data() == data)?;
        let name = nl::text(body, 2)?.to_owned();
        if key.is_of_leases() {
            self.leases.insert(name.clone(), SortedMap::new());
        }
        self.table.sets.insert(name, Set { key, elements: SortedSet::new() });
        Some(())
    }

    fn elements(&mut self, body: &[u8]) -> Option<()> {
        let name = nl::text(body, 2)?;
        let set = self.table.sets.get_mut(name)?;
        for (_, element) in attributes(nl::attribute(body, 3)?) {
            let key = nl::attribute(nl::attribute(element, 1)?, 1)?.to_vec();
            if let Some(leases) = self.leases.get_mut(name) {
                leases.insert(key, Element::read(element)?);
                continue;
            }
            set.elements.insert((key, nl::be32(element, 3).unwrap_or(0) & INTERVAL_END != 0));
        }
        Some(())
    }

    /// `NFTA_FLOWTABLE_*`.
    fn flowtable(&mut self, body: &[u8]) -> Option<()> {
        let hook = nl::attribute(body, 3)?;
        let devices = attributes(nl::attribute(hook, 3).unwrap_or_default());
        let device = |v: &[u8]| std::str::from_utf8(v.strip_suffix(&[0]).unwrap_or(v)).map(ToOwned::to_owned);
        if nl::be32(body, 7) != Some(COUNTS) || nl::be32(hook, 2).unwrap_or(0) != 0 {
            return None;
        }
        let flowtable = Flowtable { devices: devices.map(|(_, v)| device(v).ok()).collect::<Option<_>>()? };
        self.table.flowtables.insert(nl::text(body, 2)?.to_owned(), flowtable);
        Some(())
    }

    fn object(&mut self, body: &[u8]) -> Option<()> {
        let name = nl::text(body, 2)?.to_owned();
        if nl::be32(body, 3)? != COUNTER {
            return None;
        }
        let data = nl::attribute(body, 4)?;
        let [bytes, packets] = [1, 2].map(|kind| nl::be64(data, kind).unwrap_or(0));
        self.counts.insert(name.clone(), Amount { packets, bytes });
        self.table.counters.insert(name);
        Some(())
    }
}

/// A device's name, whose NUL the kernel sends with it.
fn device(name: &[u8]) -> Option<Device> {
    let mut device = Device::default();
    device.get_mut(..name.len())?.copy_from_slice(name);
    Some(device)
}

/// What matters of a flowtable that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other<'a> {
    /// Its table.
    pub table: &'a str,
    /// It is for the network hardware.
    pub hardware: bool,
    /// It counts what it carries.
    pub counts: bool,
}

/// The flowtable that a message tells of.
pub fn flowtable_of<'a>(message: &Message<'a>) -> Option<Other<'a>> {
    let body = message.body.get(4..).filter(|_| message.kind == number(NEW_FLOWTABLE))?;
    let flags = nl::be32(body, 7).unwrap_or(0);
    Some(Other { table: nl::text(body, 1)?, hardware: flags & HARDWARE != 0, counts: flags & COUNTS != 0 })
}

/// A chain or a rule that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theirs<'a> {
    /// `NFPROTO_*`.
    pub family: u8,
    /// Its table.
    pub table: &'a str,
    /// The chain.
    pub chain: &'a str,
    /// All its attributes.
    pub body: &'a [u8],
}

impl<'a> Theirs<'a> {
    /// What a message of that kind tells of; the chain's name is attribute `at`.
    pub fn of(message: &Message<'a>, kind: u8, at: u16) -> Option<Theirs<'a>> {
        let (head, body) = message.body.split_first_chunk::<4>().filter(|_| message.kind == number(kind))?;
        let (table, chain) = nl::text(body, 1).zip(nl::text(body, at))?;
        let is_ours = [NAME, LEASES, COUNTING].contains(&table);
        (!is_ours).then_some(Theirs { family: head[0], table, chain, body })
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::{element, number, replace};
    use super::super::netlink::Writer;
    use super::super::network::Network;
    use super::super::ruleset::render;
    use super::super::scope::Scope;
    use super::*;
    use proptest::prelude::*;

    fn table() -> Table {
        let scope = Scope { ports: (1..=1200).collect(), listen: [1].into(), mark: 1, ..Scope::default() };
        render(5, &scope, &Network::default()).table
    }

    /// What a kernel that took the batch would answer: the very messages.
    fn read(batch: &[u8]) -> Found {
        let mut found = Found::of(NAME);
        nl::messages(batch).for_each(|m| found.take(&m));
        found
    }

    #[test]
    fn what_the_batch_says_is_read_back_as_the_same_table() {
        let table = table();
        assert_eq!(read(&replace(&table)).table(), Some(&table));
    }

    #[test]
    fn a_table_with_anything_else_in_it_is_not_the_same() {
        let table = table();
        let batch = replace(&table);
        assert_eq!(Found::of(NAME).table(), None, "no table");
        let more = |kind, fill: &dyn Fn(&mut Writer)| {
            let mut w = Writer::default();
            w.message((number(kind), 0, 0), &[1, 0, 0, 0], |w| {
                w.put_text(1, NAME);
                fill(w);
            });
            let mut found = read(&batch);
            nl::messages(&w.finish()).for_each(|m| found.take(&m));
            found.table() == Some(&table)
        };
        assert!(more(99, &|_| ()), "a message that says nothing");
        assert!(!more(NEW_TABLE, &|w| w.put_be32(2, 1)), "dormant");
        assert!(!more(NEW_CHAIN, &|w| w.put_text(3, "other")), "a chain more");
        assert!(
            !more(NEW_RULE, &|w| {
                w.put_text(2, "output");
                w.nest(4, |w| Expr::Accept.encode(w));
            }),
            "a rule more"
        );
        assert!(
            !more(NEW_OBJECT, &|w| {
                w.put_text(2, "q");
                w.put_be32(3, 2);
            }),
            "a quota"
        );
        assert!(
            !more(NEW_ELEMENTS, &|w| {
                w.put_text(2, "wan");
                w.nest(3, |w| element(w, b"lan0", false));
            }),
            "an element more"
        );
    }

    #[test]
    fn a_flowtable_says_whose_it_is_and_what_it_does() {
        for (flags, hardware, counts) in
            [(None, false, false), (Some(1_u32), true, false), (Some(2), false, true)]
        {
            let mut w = Writer::default();
            for kind in [NEW_TABLE, NEW_FLOWTABLE] {
                w.message((number(kind), 0, 0), &[1, 0, 0, 0], |w| {
                    w.put_text(1, "fw4");
                    flags.into_iter().for_each(|flags| w.put(7, &flags.to_be_bytes()));
                });
            }
            let told = w.finish();
            let found: Vec<_> = nl::messages(&told).map(|m| flowtable_of(&m)).collect();
            assert_eq!(found, [None, Some(Other { table: "fw4", hardware, counts })]);
        }
    }

    #[test]
    fn what_belongs_to_others_is_passed_over() {
        let mut w = Writer::default();
        w.message((number(NEW_CHAIN), 0, 0), &[1, 0, 0, 0], |w| {
            w.put_text(1, "fw4");
            w.put_text(3, "output");
        });
        assert_eq!(read(&w.finish()).table, Table { name: NAME.to_owned(), ..Table::default() });
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut found = Found::of(NAME);
            for kind in 0..24u8 {
                let body = [&[1, 0, 0, 0][..], &[13, 0, 1, 0], NAME.as_bytes(), &[0, 0, 0, 0], &data].concat();
                found.take(&Message { kind: number(kind), flags: 0, seq: 0, port: 0, body: &body });
            }
        }
    }
}

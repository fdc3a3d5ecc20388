//! Messages of nf_tables (linux/netfilter/nf_tables.h): one transaction that replaces the table, the questions that read it
//! back, and what the answers say.
use super::netlink::{self as nl, ACK, CREATE, DUMP, Message, REQUEST, Writer, attributes};
use super::table::{Expr, Key, NAME, Set, Table};
use std::collections::BTreeMap;

/// `NFNL_SUBSYS_NFTABLES`, and `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END` of nfnetlink.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFT_MSG_*`.
const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
const NEW_SET: u8 = 9;
const GET_SET: u8 = 10;
const NEW_ELEMENTS: u8 = 12;
const GET_ELEMENTS: u8 = 13;
const NEW_OBJECT: u8 = 18;
const GET_OBJECT: u8 = 19;
/// `NLM_F_APPEND`: a rule goes behind those that are there.
const APPEND: u16 = 0x800;
/// `NFT_OBJECT_COUNTER`, `NFT_SET_ELEM_INTERVAL_END`.
const COUNTER: u32 = 1;
const INTERVAL_END: u32 = 1;
/// `BYTEORDER_HOST_ENDIAN`, for `NFTNL_UDATA_SET_KEYBYTEORDER`: without it `nft` lists no names of devices.
const HOST_ORDER: u32 = 1;
/// Elements of a message; a message's list must stay below 64 KiB.
const ELEMENTS: usize = 500;

/// The transaction: whatever table of the name is there goes, and this one stands in its place at once.
pub fn replace(table: &Table) -> Vec<u8> {
    let mut batch = Batch { w: Writer::default(), seq: 0 };
    batch.mark(BATCH_BEGIN);
    // Made first, so that there is one to delete.
    batch.add(NEW_TABLE, CREATE, |w| w.put_text(1, NAME));
    batch.add(DELETE_TABLE, 0, |w| w.put_text(1, NAME));
    batch.add(NEW_TABLE, CREATE, |w| w.put_text(1, NAME));
    for counter in &table.counters {
        batch.add(NEW_OBJECT, CREATE, |w| {
            w.put_text(1, NAME);
            w.put_text(2, counter);
            w.put_be32(3, COUNTER);
            w.nest(4, |_| {});
        });
    }
    for (id, (name, set)) in table.sets.iter().enumerate() {
        batch.set(name, set, u32::try_from(id).unwrap_or(0));
    }
    for (name, chain) in &table.chains {
        batch.add(NEW_CHAIN, CREATE, |w| {
            w.put_text(1, NAME);
            w.put_text(3, name);
            if let Some((hook, priority, policy)) = chain.hook {
                w.nest(4, |w| {
                    w.put_be32(1, hook);
                    w.put_be32(2, priority.cast_unsigned());
                });
                w.put_be32(5, policy);
                w.put_text(7, "filter");
            }
        });
    }
    for (name, chain) in &table.chains {
        for rule in &chain.rules {
            batch.add(NEW_RULE, CREATE | APPEND, |w| {
                w.put_text(1, NAME);
                w.put_text(2, name);
                w.nest(4, |w| rule.iter().for_each(|e| e.encode(w)));
            });
        }
    }
    batch.mark(BATCH_END);
    batch.w.finish()
}

struct Batch {
    w: Writer,
    seq: u32,
}

impl Batch {
    fn mark(&mut self, kind: u16) {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        // The end is acknowledged too: the acknowledgement says that all was done.
        self.w.message((kind, REQUEST, self.seq), &[0, 0, high, low], |_| {});
        self.seq += 1;
    }

    fn add(&mut self, kind: u8, flags: u16, fill: impl FnOnce(&mut Writer)) {
        self.w.message((number(kind), REQUEST | ACK | flags, self.seq), &[INET, 0, 0, 0], fill);
        self.seq += 1;
    }

    fn set(&mut self, name: &str, set: &Set, id: u32) {
        let (kind, length, flags) = set.key.numbers();
        self.add(NEW_SET, CREATE, |w| {
            w.put_text(1, NAME);
            w.put_text(2, name);
            w.put_be32(3, flags);
            w.put_be32(4, kind);
            w.put_be32(5, length);
            w.put_be32(10, id);
            if set.key == Key::Device {
                let [a, b, c, d] = HOST_ORDER.to_ne_bytes();
                w.put(13, &[0, 4, a, b, c, d]);
            }
        });
        let elements: Vec<_> = set.elements.iter().collect();
        for some in elements.chunks(ELEMENTS) {
            self.add(NEW_ELEMENTS, CREATE, |w| {
                w.put_text(1, NAME);
                w.put_text(2, name);
                w.nest(3, |w| some.iter().for_each(|(key, end)| element(w, key, *end)));
            });
        }
    }
}

fn element(w: &mut Writer, key: &[u8], end: bool) {
    w.nest(1, |w| {
        if end {
            w.put_be32(3, INTERVAL_END);
        }
        w.nest(1, |w| w.put(1, key));
    });
}

/// How many acknowledgements a transaction gets if all of it is done.
pub fn acknowledgements(batch: &[u8]) -> usize {
    nl::messages(batch).filter(|m| m.flags & ACK != 0).count()
}

fn number(kind: u8) -> u16 {
    SUBSYSTEM << 8 | u16::from(kind)
}

/// What is asked of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in nf_tables")]
pub enum Ask<'a> {
    Table,
    Chains,
    Rules,
    Sets,
    Objects,
    Elements(&'a str),
}

/// A question for a dump.
pub fn ask(what: Ask<'_>, seq: u32) -> Vec<u8> {
    let mut w = Writer::default();
    let kind = match what {
        Ask::Table => GET_TABLE,
        Ask::Chains => GET_CHAIN,
        Ask::Rules => GET_RULE,
        Ask::Sets => GET_SET,
        Ask::Objects => GET_OBJECT,
        Ask::Elements(_) => GET_ELEMENTS,
    };
    w.message((number(kind), REQUEST | DUMP, seq), &[INET, 0, 0, 0], |w| {
        if what != Ask::Table {
            w.put_text(1, NAME);
        }
        if let Ask::Elements(set) = what {
            w.put_text(2, set);
        }
    });
    w.finish()
}

/// What the kernel says it has, as its answers come.
#[derive(Debug, Default)]
pub struct Found {
    there: bool,
    strange: bool,
    table: Table,
    counts: BTreeMap<String, u64>,
}

impl Found {
    /// The names of the sets told so far.
    pub fn sets(&self) -> Vec<String> {
        self.table.sets.keys().cloned().collect()
    }

    /// The table, if there is one, it works, and nothing in it is of a kind that we never make.
    pub fn table(&self) -> Option<&Table> {
        (self.there && !self.strange).then_some(&self.table)
    }

    /// Packets that each counter has seen.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// Takes an answer in; what belongs to other tables is passed over.
    pub fn take(&mut self, message: &Message<'_>) {
        let Some((head, body)) = message.body.split_first_chunk::<4>() else { return };
        let ours = head[0] == INET && nl::text(body, 1) == Some(NAME);
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
            _ => Some(()),
        };
        self.strange |= known.is_none();
    }

    fn chain(&mut self, body: &[u8]) -> Option<()> {
        let hook = match nl::attribute(body, 4) {
            Some(hook) if nl::text(body, 7) == Some("filter") => {
                Some((nl::be32(hook, 1)?, nl::be32(hook, 2)?.cast_signed(), nl::be32(body, 5)?))
            }
            Some(_) => return None,
            None => None,
        };
        self.table.chains.entry(nl::text(body, 3)?.to_owned()).or_default().hook = hook;
        Some(())
    }

    fn rule(&mut self, body: &[u8]) -> Option<()> {
        let expressions = attributes(nl::attribute(body, 4)?).map(|(_, e)| Expr::decode(e));
        let rule = expressions.collect::<Option<Vec<_>>>()?;
        self.table.chains.entry(nl::text(body, 2)?.to_owned()).or_default().rules.push(rule);
        Some(())
    }

    fn set(&mut self, body: &[u8]) -> Option<()> {
        let numbers = (nl::be32(body, 4)?, nl::be32(body, 5)?, nl::be32(body, 3).unwrap_or(0));
        let set = Set { key: Key::of(numbers)?, elements: Default::default() };
        self.table.sets.insert(nl::text(body, 2)?.to_owned(), set);
        Some(())
    }

    fn elements(&mut self, body: &[u8]) -> Option<()> {
        let set = self.table.sets.get_mut(nl::text(body, 2)?)?;
        for (_, element) in attributes(nl::attribute(body, 3)?) {
            let key = nl::attribute(nl::attribute(element, 1)?, 1)?.to_vec();
            set.elements.insert((key, nl::be32(element, 3).unwrap_or(0) & INTERVAL_END != 0));
        }
        Some(())
    }

    fn object(&mut self, body: &[u8]) -> Option<()> {
        let name = nl::text(body, 2)?.to_owned();
        if nl::be32(body, 3)? != COUNTER {
            return None;
        }
        self.counts.insert(name.clone(), nl::be64(nl::attribute(body, 4)?, 2).unwrap_or(0));
        self.table.counters.insert(name);
        Some(())
    }
}

#[cfg(test)]
mod tests {
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
        let mut found = Found::default();
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
        assert_eq!(Found::default().table(), None, "no table");
        let more = |kind, fill: &dyn Fn(&mut Writer)| {
            let mut w = Writer::default();
            w.message((number(kind), 0, 0), &[INET, 0, 0, 0], |w| {
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
    fn what_belongs_to_others_is_passed_over() {
        let mut w = Writer::default();
        w.message((number(NEW_CHAIN), 0, 0), &[INET, 0, 0, 0], |w| {
            w.put_text(1, "fw4");
            w.put_text(3, "output");
        });
        assert_eq!(read(&w.finish()).table, Table::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut found = Found::default();
            for kind in 0..24u8 {
                let body = [&[INET, 0, 0, 0][..], &[13, 0, 1, 0], NAME.as_bytes(), &[0, 0, 0, 0], &data].concat();
                found.take(&Message { kind: number(kind), flags: 0, seq: 0, port: 0, body: &body });
            }
        }
    }
}

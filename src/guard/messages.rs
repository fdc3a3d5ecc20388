//! Messages of nf_tables (linux/netfilter/nf_tables.h): one transaction that replaces a table, and the questions that read it
//! back.
use super::netlink::{self as nl, ACK, CREATE, DUMP, REQUEST, Writer};
use super::table::{Flowtable, Key, Set, Table, family};

/// `NF_ACCEPT`, the verdict on what no rule of a chain decides.
pub(super) const ACCEPT: u32 = 1;
/// `NFNL_SUBSYS_NFTABLES`, and `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END` of nfnetlink.
pub(super) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFT_MSG_*`.
pub(super) const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
pub(super) const DELETE_TABLE: u8 = 2;
pub(super) const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
pub(super) const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
pub(super) const NEW_SET: u8 = 9;
const GET_SET: u8 = 10;
pub(super) const NEW_ELEMENTS: u8 = 12;
const GET_ELEMENTS: u8 = 13;
pub(super) const DELETE_ELEMENTS: u8 = 14;
pub(super) const NEW_OBJECT: u8 = 18;
const GET_OBJECT: u8 = 19;
pub(super) const NEW_FLOWTABLE: u8 = 22;
const GET_FLOWTABLE: u8 = 23;
/// `NF_NETDEV_INGRESS`.
const INGRESS: u32 = 0;
/// `NFT_FLOWTABLE_HW_OFFLOAD`, `NFT_FLOWTABLE_COUNTER`.
pub(super) const HARDWARE: u32 = 1;
pub(super) const COUNTS: u32 = 2;
/// `NLM_F_APPEND`: a rule goes behind those that are there.
const APPEND: u16 = 0x800;
/// `NFT_OBJECT_COUNTER`, `NFT_SET_ELEM_INTERVAL_END`.
pub(super) const COUNTER: u32 = 1;
pub(super) const INTERVAL_END: u32 = 1;
/// `BYTEORDER_HOST_ENDIAN`, for `NFTNL_UDATA_SET_KEYBYTEORDER`: without it `nft` lists no names of devices.
const HOST_ORDER: u32 = 1;
/// Elements of a message; a message's list must stay below 64 KiB.
const ELEMENTS: usize = 500;

/// The transaction: whatever table of the name is there goes, and this one stands in its place at once.
pub fn replace(table: &Table) -> Vec<u8> {
    let mut batch = Batch::begin(&table.name);
    batch.remove();
    batch.add(NEW_TABLE, CREATE, |_| {});
    batch.content(table);
    batch.end()
}

/// The transaction after which there is no table of this name.
pub fn remove(name: &str) -> Vec<u8> {
    let mut batch = Batch::begin(name);
    batch.remove();
    batch.end()
}

/// The same messages as [`replace`]'s, without an end: the kernel says what it makes of them, and does none of it.
pub fn attempt(table: &Table) -> Vec<u8> {
    let mut batch = Batch::begin(&table.name);
    batch.add(NEW_TABLE, CREATE, |_| {});
    batch.content(table);
    batch.w.finish()
}

/// A transaction on one table, as it is written.
pub(super) struct Batch<'a> {
    w: Writer,
    seq: u32,
    table: &'a str,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(table: &'a str) -> Batch<'a> {
        let mut batch = Batch { w: Writer::default(), seq: 0, table };
        batch.mark(BATCH_BEGIN);
        batch
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.mark(BATCH_END);
        self.w.finish()
    }

    fn mark(&mut self, kind: u16) {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        // The end is acknowledged too: the acknowledgement says that all was done.
        self.w.message((kind, REQUEST, self.seq), &[0, 0, high, low], |_| {});
        self.seq += 1;
    }

    /// A message on the table; `fill` adds what is behind its name.
    pub(super) fn add(&mut self, kind: u8, flags: u16, fill: impl FnOnce(&mut Writer)) {
        self.w.message(
            (number(kind), REQUEST | ACK | flags, self.seq),
            &[family(self.table).0, 0, 0, 0],
            |w| {
                w.put_text(1, self.table);
                fill(w);
            },
        );
        self.seq += 1;
    }

    fn remove(&mut self) {
        // Made first, so that there is one to delete.
        self.add(NEW_TABLE, CREATE, |_| {});
        self.add(DELETE_TABLE, 0, |_| {});
    }

    fn content(&mut self, table: &Table) {
        for counter in &table.counters {
            self.add(NEW_OBJECT, CREATE, |w| {
                w.put_text(2, counter);
                w.put_be32(3, COUNTER);
                w.nest(4, |_| {});
            });
        }
        for (id, (name, set)) in table.sets.iter().enumerate() {
            self.set(name, set, u32::try_from(id).unwrap_or(0));
        }
        for (name, flowtable) in &table.flowtables {
            self.flowtable(name, flowtable);
        }
        for (name, chain) in &table.chains {
            self.add(NEW_CHAIN, CREATE, |w| {
                w.put_text(3, name);
                if let Some(hook) = chain.hook {
                    w.nest(4, |w| {
                        w.put_be32(1, hook.place.number());
                        w.put_be32(2, hook.priority.cast_unsigned());
                        if let Some(device) = hook.place.device() {
                            w.put(3, device.split_inclusive(|b| *b == 0).next().unwrap_or_default());
                        }
                    });
                    w.put_be32(5, ACCEPT);
                    w.put_text(7, hook.kind());
                }
            });
        }
        for (name, chain) in &table.chains {
            for rule in &chain.rules {
                self.add(NEW_RULE, CREATE | APPEND, |w| {
                    w.put_text(2, name);
                    w.nest(4, |w| rule.iter().for_each(|e| e.encode(w)));
                });
            }
        }
    }

    fn set(&mut self, name: &str, set: &Set, id: u32) {
        let (kind, length, flags) = set.key.numbers();
        self.add(NEW_SET, CREATE, |w| {
            w.put_text(2, name);
            w.put_be32(3, flags);
            w.put_be32(4, kind);
            w.put_be32(5, length);
            if let Some((kind, length)) = set.key.data() {
                w.put_be32(6, kind);
                w.put_be32(7, length);
            }
            if let Some(size) = set.key.size() {
                w.nest(9, |w| w.put_be32(1, size));
            }
            w.put_be32(10, id);
            if set.key == Key::Device {
                let [a, b, c, d] = HOST_ORDER.to_ne_bytes();
                w.put(13, &[0, 4, a, b, c, d]);
            }
        });
        let elements: Vec<_> = set.elements.iter().collect();
        for some in elements.chunks(ELEMENTS) {
            self.add(NEW_ELEMENTS, CREATE, |w| {
                w.put_text(2, name);
                w.nest(3, |w| some.iter().for_each(|(key, end)| element(w, key, *end)));
            });
        }
    }

    /// `NFTA_FLOWTABLE_*`.
    fn flowtable(&mut self, name: &str, flowtable: &Flowtable) {
        self.add(NEW_FLOWTABLE, CREATE, |w| {
            w.put_text(2, name);
            w.nest(3, |w| {
                w.put_be32(1, INGRESS);
                w.put_be32(2, 0);
                w.nest(3, |w| flowtable.devices.iter().for_each(|d| w.put_text(1, d)));
            });
            w.put_be32(7, COUNTS);
        });
    }
}

pub(super) fn element(w: &mut Writer, key: &[u8], end: bool) {
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

pub(super) fn number(kind: u8) -> u16 {
    SUBSYSTEM << 8 | u16::from(kind)
}

/// What is asked of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in nf_tables")]
pub enum Ask<'a> {
    Table,
    Chains,
    Rules,
    Sets,
    Objects,
    Flowtables,
    Elements(&'a str),
}

/// A question for a dump.
pub fn ask(table: &str, what: Ask<'_>, seq: u32) -> Vec<u8> {
    ask_of(Some((family(table).0, table)), what, seq)
}

/// The same of a table of any family, or of all tables.
pub fn ask_of(table: Option<(u8, &str)>, what: Ask<'_>, seq: u32) -> Vec<u8> {
    let mut w = Writer::default();
    let kind = match what {
        Ask::Table => GET_TABLE,
        Ask::Chains => GET_CHAIN,
        Ask::Rules => GET_RULE,
        Ask::Sets => GET_SET,
        Ask::Objects => GET_OBJECT,
        Ask::Flowtables => GET_FLOWTABLE,
        Ask::Elements(_) => GET_ELEMENTS,
    };
    let family = table.map_or(0, |t| t.0);
    w.message((number(kind), REQUEST | DUMP, seq), &[family, 0, 0, 0], |w| {
        if let Some((_, name)) = table.filter(|_| what != Ask::Table) {
            w.put_text(1, name);
        }
        if let Ask::Elements(set) = what {
            w.put_text(2, set);
        }
    });
    w.finish()
}

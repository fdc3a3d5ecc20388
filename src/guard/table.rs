//! A firewall table as plain data: what is rendered, and what the kernel says it has. Two equal ones do the same.
use super::netlink::{self as nl, Writer};
use std::collections::{BTreeMap, BTreeSet};

/// The name of the table, in family `inet`.
pub const NAME: &str = "echomesh";

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Named counters.
    pub counters: BTreeSet<String>,
    /// Sets by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
}

/// A set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Type of its keys.
    pub key: Key,
    /// Keys, each with whether it is the first beyond a range (interval sets alone).
    pub elements: BTreeSet<(Vec<u8>, bool)>,
}

/// Types of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A port.
    Port,
    /// Name of a device.
    Device,
    /// An address.
    V4,
    #[allow(missing_docs, reason = "the other family")]
    V6,
    /// Ranges of addresses.
    V4Ranges,
    #[allow(missing_docs, reason = "the other family")]
    V6Ranges,
    /// Address and port.
    V4Port,
    #[allow(missing_docs, reason = "the other family")]
    V6Port,
}

/// `NFT_SET_INTERVAL`.
const INTERVAL: u32 = 4;

impl Key {
    const ALL: [Key; 8] =
        [Key::Port, Key::Device, Key::V4, Key::V6, Key::V4Ranges, Key::V6Ranges, Key::V4Port, Key::V6Port];

    /// Number of the type for whoever lists it (nftables' datatype.h; a concatenation has 6 bits for each), bytes of a
    /// key, and the set's flags.
    pub fn numbers(self) -> (u32, u32, u32) {
        match self {
            Key::Port => (13, 2, 0),
            Key::Device => (41, 16, 0),
            Key::V4 => (7, 4, 0),
            Key::V6 => (8, 16, 0),
            Key::V4Ranges => (7, 4, INTERVAL),
            Key::V6Ranges => (8, 16, INTERVAL),
            Key::V4Port => (7 << 6 | 13, 8, 0),
            Key::V6Port => (8 << 6 | 13, 20, 0),
        }
    }

    /// The type of these numbers.
    pub fn of(numbers: (u32, u32, u32)) -> Option<Key> {
        Key::ALL.into_iter().find(|k| k.numbers() == numbers)
    }

    /// As `nft` writes it.
    pub fn text(self) -> &'static str {
        match self {
            Key::Port => "inet_service",
            Key::Device => "ifname",
            Key::V4 | Key::V4Ranges => "ipv4_addr",
            Key::V6 | Key::V6Ranges => "ipv6_addr",
            Key::V4Port => "ipv4_addr . inet_service",
            Key::V6Port => "ipv6_addr . inet_service",
        }
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Hook, priority and default verdict of one that the kernel calls.
    pub hook: Option<(u32, i32, u32)>,
    /// Its rules.
    pub rules: Vec<Vec<Expr>>,
}

/// An expression of a rule (linux/netfilter/nf_tables.h). Registers are numbered as in messages; values are as they lie in
/// the kernel's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in nf_tables")]
pub enum Expr {
    /// Loads `NFT_META_*`.
    Meta { key: u32 },
    /// Loads `NFT_CT_*`.
    Ct { key: u32 },
    /// Stores into `NFT_CT_*`.
    SetCt { key: u32 },
    /// Ends the rule unless register 1 is, or is not, the value.
    Cmp { equal: bool, value: Vec<u8> },
    /// Register 1 becomes `(register 1 & mask) ^ xor`.
    Bitwise { mask: Vec<u8>, xor: Vec<u8> },
    /// Loads bytes of the network (1) or transport (2) header.
    Payload { base: u32, offset: u32, length: u32, register: u32 },
    /// Loads whether a TCP option is there.
    TcpOption { kind: u8 },
    /// Ends the rule unless register 1 is in the set, or is not.
    Lookup { set: String, inverted: bool },
    /// Counts.
    Counter { name: String },
    /// Answers with a TCP reset, or with ICMP `administratively prohibited`.
    Reject { tcp: bool },
    /// `NF_ACCEPT`.
    Accept,
    /// Goes on in another chain, for good.
    Goto { chain: String },
}

/// `NFT_REG_1`, the first of 16 bytes.
const REGISTER: u32 = 1;
/// `NFT_GOTO` and `NF_ACCEPT`.
const GOTO: u32 = (-4i32).cast_unsigned();
const ACCEPT: u32 = 1;
/// `NFT_REJECT_TCP_RST`, `NFT_REJECT_ICMPX_UNREACH` and `NFT_REJECT_ICMPX_ADMIN_PROHIBITED`.
const TCP_RESET: u32 = 1;
const ICMPX: u32 = 2;
const PROHIBITED: u8 = 3;

impl Expr {
    /// Writes it as an element of `NFTA_RULE_EXPRESSIONS`.
    pub fn encode(&self, w: &mut Writer) {
        w.nest(1, |w| {
            w.put_text(1, self.name());
            w.nest(2, |w| self.encode_data(w));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Expr::Meta { .. } => "meta",
            Expr::Ct { .. } | Expr::SetCt { .. } => "ct",
            Expr::Cmp { .. } => "cmp",
            Expr::Bitwise { .. } => "bitwise",
            Expr::Payload { .. } => "payload",
            Expr::TcpOption { .. } => "exthdr",
            Expr::Lookup { .. } => "lookup",
            Expr::Counter { .. } => "objref",
            Expr::Reject { .. } => "reject",
            Expr::Accept | Expr::Goto { .. } => "immediate",
        }
    }

    fn encode_data(&self, w: &mut Writer) {
        match self {
            Expr::Meta { key } | Expr::Ct { key } => {
                w.put_be32(1, REGISTER);
                w.put_be32(2, *key);
            }
            Expr::SetCt { key } => {
                w.put_be32(2, *key);
                w.put_be32(4, REGISTER);
            }
            Expr::Cmp { equal, value } => {
                w.put_be32(1, REGISTER);
                w.put_be32(2, u32::from(!equal));
                w.nest(3, |w| w.put(1, value));
            }
            Expr::Bitwise { mask, xor } => {
                w.put_be32(1, REGISTER);
                w.put_be32(2, REGISTER);
                w.put_be32(3, u32::try_from(mask.len()).unwrap_or(0));
                w.nest(4, |w| w.put(1, mask));
                w.nest(5, |w| w.put(1, xor));
            }
            Expr::Payload { base, offset, length, register } => {
                for (kind, value) in [(1, register), (2, base), (3, offset), (4, length)] {
                    w.put_be32(kind, *value);
                }
            }
            Expr::TcpOption { kind } => {
                w.put_be32(1, REGISTER);
                w.put(2, &[*kind]);
                for (kind, value) in [(3, 0), (4, 1), (5, 1), (6, 1)] {
                    w.put_be32(kind, value);
                }
            }
            Expr::Lookup { set, inverted } => {
                w.put_text(1, set);
                w.put_be32(2, REGISTER);
                w.put_be32(5, u32::from(*inverted));
            }
            Expr::Counter { name } => {
                w.put_be32(1, 1);
                w.put_text(2, name);
            }
            Expr::Reject { tcp: true } => w.put_be32(1, TCP_RESET),
            Expr::Reject { tcp: false } => {
                w.put_be32(1, ICMPX);
                w.put(2, &[PROHIBITED]);
            }
            Expr::Accept => verdict(w, ACCEPT, None),
            Expr::Goto { chain } => verdict(w, GOTO, Some(chain)),
        }
    }

    /// Reads an element of `NFTA_RULE_EXPRESSIONS`; `None` is one that no rule of ours has.
    pub fn decode(element: &[u8]) -> Option<Expr> {
        let data = nl::attribute(element, 2).unwrap_or_default();
        let number = |kind| nl::be32(data, kind);
        let value = |kind| nl::attribute(nl::attribute(data, kind)?, 1).map(<[u8]>::to_vec);
        let into_first = || number(1) == Some(REGISTER);
        Some(match nl::text(element, 1)? {
            "meta" if into_first() => Expr::Meta { key: number(2)? },
            "ct" if into_first() && number(3).is_none() => Expr::Ct { key: number(2)? },
            "ct" if number(4) == Some(REGISTER) && nl::attribute(data, 3).is_none() => {
                Expr::SetCt { key: number(2)? }
            }
            "cmp" if into_first() => Expr::Cmp {
                equal: match number(2)? {
                    0 => true,
                    1 => false,
                    _ => return None,
                },
                value: value(3)?,
            },
            // Operation 0 is the one with mask and xor; kernels before 5.6 have no other and do not name it.
            "bitwise" if into_first() && number(2) == Some(REGISTER) && number(6).unwrap_or(0) == 0 => {
                let (mask, xor) = (value(4)?, value(5)?);
                if number(3)? as usize != mask.len() {
                    return None;
                }
                Expr::Bitwise { mask, xor }
            }
            "payload" => Expr::Payload {
                register: number(1)?,
                base: number(2)?,
                offset: number(3)?,
                length: number(4)?,
            },
            "exthdr" if into_first() && [3, 4, 5, 6].map(number) == [Some(0), Some(1), Some(1), Some(1)] => {
                Expr::TcpOption { kind: *nl::attribute(data, 2)?.first()? }
            }
            "lookup" if number(2) == Some(REGISTER) && number(3).is_none() => Expr::Lookup {
                set: nl::text(data, 1)?.to_owned(),
                inverted: match number(5).unwrap_or(0) {
                    0 => false,
                    1 => true,
                    _ => return None,
                },
            },
            "objref" if number(1) == Some(1) => Expr::Counter { name: nl::text(data, 2)?.to_owned() },
            "reject" => match (number(1)?, nl::attribute(data, 2)) {
                (TCP_RESET, _) => Expr::Reject { tcp: true },
                (ICMPX, Some([PROHIBITED])) => Expr::Reject { tcp: false },
                _ => return None,
            },
            "immediate" if number(1) == Some(0) => {
                let verdict = nl::attribute(nl::attribute(data, 2)?, 2)?;
                match nl::be32(verdict, 1)? {
                    ACCEPT => Expr::Accept,
                    GOTO => Expr::Goto { chain: nl::text(verdict, 2)?.to_owned() },
                    _ => return None,
                }
            }
            _ => return None,
        })
    }
}

/// `immediate` into the verdict's register (`NFTA_IMMEDIATE_DATA`, `NFTA_DATA_VERDICT`).
fn verdict(w: &mut Writer, code: u32, chain: Option<&str>) {
    w.put_be32(1, 0);
    w.nest(2, |w| {
        w.nest(2, |w| {
            w.put_be32(1, code);
            if let Some(chain) = chain {
                w.put_text(2, chain);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_is_read_as_it_was_written_and_no_other_is_ours() {
        let s = || "x".to_owned();
        for expr in [
            Expr::Meta { key: 10 },
            Expr::Ct { key: 3 },
            Expr::SetCt { key: 3 },
            Expr::Cmp { equal: true, value: vec![6] },
            Expr::Cmp { equal: false, value: vec![1, 2, 3, 4] },
            Expr::Bitwise { mask: vec![1; 4], xor: vec![0; 4] },
            Expr::Payload { base: 2, offset: 2, length: 2, register: 9 },
            Expr::TcpOption { kind: 30 },
            Expr::Lookup { set: s(), inverted: true },
            Expr::Lookup { set: s(), inverted: false },
            Expr::Counter { name: s() },
            Expr::Reject { tcp: true },
            Expr::Reject { tcp: false },
            Expr::Accept,
            Expr::Goto { chain: s() },
        ] {
            let mut w = Writer::default();
            expr.encode(&mut w);
            let bytes = w.finish();
            assert_eq!(Expr::decode(nl::attribute(&bytes, 1).unwrap()), Some(expr));
        }
        let mut w = Writer::default();
        w.put_text(1, "immediate");
        w.nest(2, |w| verdict(w, 0, None));
        assert_eq!(Expr::decode(&w.finish()), None, "drop");
        assert_eq!(Expr::decode(&[]), None);
    }

    #[test]
    fn types_of_keys_are_told_apart() {
        for key in Key::ALL {
            assert_eq!(Key::of(key.numbers()), Some(key));
        }
    }
}

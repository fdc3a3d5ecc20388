//! Expressions of rules (linux/netfilter/nf_tables.h) as messages carry them.
use super::netlink::{self as nl, Writer};

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
    /// Stores into `NFT_META_*`.
    SetMeta { key: u32 },
    /// Ends the rule unless register 1 is, or is not, the value.
    Cmp { equal: bool, value: Vec<u8> },
    /// Ends the rule unless register 1 is the value or above it, or the value or below it.
    Bound { lower: bool, value: Vec<u8> },
    /// Register 1 becomes `(register 1 & mask) ^ xor`.
    Bitwise { mask: Vec<u8>, xor: Vec<u8> },
    /// Loads bytes of the network (1) or transport (2) header.
    Payload { base: u32, offset: u32, length: u32, register: u32 },
    /// Loads whether a TCP option is there.
    TcpOption { kind: u8 },
    /// Ends the rule unless register 1 is in the set, or is not.
    Lookup { set: String, inverted: bool },
    /// Register 1 becomes what a map has for it; ends the rule if it has nothing.
    Map { map: String },
    /// Counts.
    Counter { name: String },
    /// Answers with a TCP reset, or with ICMP `administratively prohibited`.
    Reject { tcp: bool },
    /// `NF_ACCEPT`.
    Accept,
    /// `NF_DROP`.
    Drop,
    /// Goes on in another chain, for good.
    Goto { chain: String },
    /// Destination becomes the address in register 1 and the port in the one behind it.
    Dnat { v6: bool },
    /// To user space; lost if nobody listens.
    Queue { number: u16 },
    /// The connection goes on in a flowtable.
    FlowAdd { table: String },
    /// One without parameters.
    Fixed(Fixed),
}

/// Expressions that have the same numbers wherever they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// Loads the type of the destination address (`RTN_*`).
    DestinationType,
    /// Loads the largest segment of the route.
    RouteMss,
    /// Register 1 into network order, 16 bits.
    ToNetworkOrder,
    /// Stores into the option of the largest segment, if it becomes smaller by it.
    SetMss,
    /// Source becomes the outgoing device's address.
    Masquerade,
    /// Loads the port that the connection was meant for before anything led it elsewhere.
    CalledPort,
    /// Ends the rule for what is beyond 4 KiB in a second, and 32 KiB at once.
    Trickle,
}

impl Fixed {
    const ALL: [Fixed; 7] = [
        Fixed::DestinationType,
        Fixed::RouteMss,
        Fixed::ToNetworkOrder,
        Fixed::SetMss,
        Fixed::Masquerade,
        Fixed::CalledPort,
        Fixed::Trickle,
    ];

    /// Name, and attributes: kind, width in bytes, value.
    fn content(self) -> (&'static str, &'static [(u16, usize, u32)]) {
        match self {
            // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR.
            Fixed::DestinationType => ("fib", &[(1, 4, REGISTER), (2, 4, 3), (3, 4, 2)]),
            // NFT_RT_TCPMSS.
            Fixed::RouteMss => ("rt", &[(1, 4, REGISTER), (2, 4, 3)]),
            // NFT_BYTEORDER_HTON.
            Fixed::ToNetworkOrder => {
                ("byteorder", &[(1, 4, REGISTER), (2, 4, REGISTER), (3, 4, 1), (4, 4, 2), (5, 4, 2)])
            }
            // TCPOPT_MSS, behind kind and length; NFT_EXTHDR_OP_TCPOPT.
            Fixed::SetMss => ("exthdr", &[(2, 1, 2), (3, 4, 2), (4, 4, 2), (6, 4, 1), (7, 4, REGISTER)]),
            Fixed::Masquerade => ("masq", &[]),
            // NFT_CT_PROTO_DST, IP_CT_DIR_ORIGINAL.
            Fixed::CalledPort => ("ct", &[(1, 4, REGISTER), (2, 4, 12), (3, 1, 0)]),
            // NFTA_LIMIT_RATE, UNIT, BURST, and of its TYPE NFT_LIMIT_PKT_BYTES.
            Fixed::Trickle => ("limit", &[(1, 8, 4 << 10), (2, 8, 1), (3, 4, 32 << 10), (4, 4, 1)]),
        }
    }

    fn encode(self, w: &mut Writer) {
        for (kind, width, value) in self.content().1 {
            let bytes = u64::from(*value).to_be_bytes();
            w.put(*kind, bytes.get(bytes.len() - width..).unwrap_or_default());
        }
    }

    /// The one of these attributes; a kernel may name more of them if they are 0.
    fn decode(name: &str, data: &[u8]) -> Option<Fixed> {
        Fixed::ALL.into_iter().find(|fixed| {
            let (own, wanted) = fixed.content();
            own == name
                && wanted.iter().all(|(kind, _, value)| number(data, *kind) == Some((*value).into()))
                && nl::attributes(data)
                    .all(|(kind, v)| wanted.iter().any(|w| w.0 == kind) || v.iter().all(|b| *b == 0))
        })
    }
}

/// An attribute of whatever width, in network order.
fn number(data: &[u8], kind: u16) -> Option<u64> {
    let value = nl::attribute(data, kind)?;
    (value.len() <= 8).then(|| value.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// `NFT_REG_1`, the first of 16 bytes.
const REGISTER: u32 = 1;
/// The registers behind an IPv4 address in register 1 (`NFT_REG32_01`) and behind an IPv6 one (`NFT_REG_2`).
pub const BEHIND_V4: u32 = 9;
#[allow(missing_docs, reason = "the line above")]
pub const BEHIND_V6: u32 = 2;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const V4: u32 = 2;
const V6: u32 = 10;
/// `NFT_CMP_LTE` and `NFT_CMP_GTE`.
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
/// `NFT_NAT_DNAT`, and `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`, which the kernel adds.
const DNAT: u32 = 1;
const GIVEN: u32 = 3;
/// `NFT_GOTO`, `NF_DROP` and `NF_ACCEPT`.
const GOTO: u32 = (-4i32).cast_unsigned();
const DROP: u32 = 0;
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
            Expr::Meta { .. } | Expr::SetMeta { .. } => "meta",
            Expr::Ct { .. } | Expr::SetCt { .. } => "ct",
            Expr::Cmp { .. } | Expr::Bound { .. } => "cmp",
            Expr::Bitwise { .. } => "bitwise",
            Expr::Payload { .. } => "payload",
            Expr::TcpOption { .. } => "exthdr",
            Expr::Lookup { .. } | Expr::Map { .. } => "lookup",
            Expr::Counter { .. } => "objref",
            Expr::Reject { .. } => "reject",
            Expr::Accept | Expr::Drop | Expr::Goto { .. } => "immediate",
            Expr::Dnat { .. } => "nat",
            Expr::Queue { .. } => "queue",
            Expr::FlowAdd { .. } => "flow_offload",
            Expr::Fixed(fixed) => fixed.content().0,
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
            Expr::SetMeta { key } => {
                w.put_be32(2, *key);
                w.put_be32(3, REGISTER);
            }
            Expr::Cmp { equal, value } => compare(w, u32::from(!equal), value),
            Expr::Bound { lower, value } => compare(w, if *lower { AT_LEAST } else { AT_MOST }, value),
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
            Expr::Map { map } => {
                w.put_text(1, map);
                w.put_be32(2, REGISTER);
                w.put_be32(3, REGISTER);
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
            Expr::Drop => verdict(w, DROP, None),
            Expr::Goto { chain } => verdict(w, GOTO, Some(chain)),
            Expr::Dnat { v6 } => {
                let (family, behind) = if *v6 { (V6, BEHIND_V6) } else { (V4, BEHIND_V4) };
                for (kind, value) in [(1, DNAT), (2, family), (3, REGISTER), (5, behind)] {
                    w.put_be32(kind, value);
                }
            }
            Expr::Queue { number } => {
                w.put(1, &number.to_be_bytes());
                w.put(2, &1u16.to_be_bytes());
            }
            Expr::FlowAdd { table } => w.put_text(1, table),
            Expr::Fixed(fixed) => fixed.encode(w),
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
            "meta" if number(3) == Some(REGISTER) => Expr::SetMeta { key: number(2)? },
            "ct" if into_first() && nl::attribute(data, 3).is_none() => Expr::Ct { key: number(2)? },
            "ct" if number(4) == Some(REGISTER) && nl::attribute(data, 3).is_none() => {
                Expr::SetCt { key: number(2)? }
            }
            "cmp" if into_first() => match (number(2)?, value(3)?) {
                (0, value) => Expr::Cmp { equal: true, value },
                (1, value) => Expr::Cmp { equal: false, value },
                (AT_LEAST, value) => Expr::Bound { lower: true, value },
                (AT_MOST, value) => Expr::Bound { lower: false, value },
                _ => return None,
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
            "lookup" if [2, 3].map(number) == [Some(REGISTER); 2] && number(5).unwrap_or(0) == 0 => {
                Expr::Map { map: nl::text(data, 1)?.to_owned() }
            }
            "objref" if number(1) == Some(1) => Expr::Counter { name: nl::text(data, 2)?.to_owned() },
            "reject" => match (number(1)?, nl::attribute(data, 2)) {
                (TCP_RESET, _) => Expr::Reject { tcp: true },
                (ICMPX, Some([PROHIBITED])) => Expr::Reject { tcp: false },
                _ => return None,
            },
            "immediate" if number(1) == Some(0) => {
                let verdict = nl::attribute(nl::attribute(data, 2)?, 2)?;
                match nl::be32(verdict, 1)? {
                    DROP => Expr::Drop,
                    ACCEPT => Expr::Accept,
                    GOTO => Expr::Goto { chain: nl::text(verdict, 2)?.to_owned() },
                    _ => return None,
                }
            }
            "nat" => dnat(data)?,
            "queue" => queue(data)?,
            "flow_offload" => Expr::FlowAdd { table: nl::text(data, 1)?.to_owned() },
            name => Expr::Fixed(Fixed::decode(name, data)?),
        })
    }
}

/// `NFTA_NAT_*`. The kernel names the upper ends as well, which are the lower ones if nothing else was given.
fn dnat(data: &[u8]) -> Option<Expr> {
    let (v6, behind) = match nl::be32(data, 2)? {
        V4 => (false, BEHIND_V4),
        V6 => (true, BEHIND_V6),
        _ => return None,
    };
    let either = |kind, wanted| nl::be32(data, kind).is_none_or(|r| r == wanted);
    let ours = nl::be32(data, 1)? == DNAT
        && (nl::be32(data, 3)?, nl::be32(data, 5)?) == (REGISTER, behind)
        && either(4, REGISTER)
        && either(6, behind)
        && nl::be32(data, 7).unwrap_or(0) & !GIVEN == 0;
    ours.then_some(Expr::Dnat { v6 })
}

/// `NFTA_QUEUE_*`: one queue, and no flag that lets packets by when nobody listens.
fn queue(data: &[u8]) -> Option<Expr> {
    let [number, queues, flags] = [1, 2, 3].map(|kind| number(data, kind));
    let ours = queues == Some(1) && flags.unwrap_or(0) == 0 && nl::attribute(data, 4).is_none();
    let number = u16::try_from(number?).ok()?;
    ours.then_some(Expr::Queue { number })
}

/// `NFTA_CMP_*`.
fn compare(w: &mut Writer, operation: u32, value: &[u8]) {
    w.put_be32(1, REGISTER);
    w.put_be32(2, operation);
    w.nest(3, |w| w.put(1, value));
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
mod tests;

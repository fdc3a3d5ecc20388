//! The words that rules are made of, each in two forms: as `nft` writes it, and as the kernel's expressions.
use super::expr::{BEHIND_V4, BEHIND_V6};
use super::framed::{Elsewhere, OfLease};
use super::table::{Expr, Fixed};

/// Protocols of the transport layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Proto {
    Icmp = 1,
    Tcp = 6,
    Udp = 17,
    Icmp6 = 58,
}

/// `ct state`, as bits of the kernel's.
pub const ESTABLISHED: u32 = 2;
/// Of a packet that another connection's trouble is told by, or of a connection that another one announced.
pub const RELATED: u32 = 4;
/// The first packet, or one in the middle of a connection that was not seen.
pub const NEW: u32 = 8;
/// Neither new nor established: invalid, related, untracked.
pub const ODD: u32 = 1 | 4 | 64;

/// A word of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The socket belongs to this user.
    User(u32),
    /// The connection has this bit of the mark.
    Marked(u32),
    /// Sets this bit of the connection's mark.
    Mark(u32),
    /// Leaves, or does not leave, by loopback.
    Loopback(bool),
    /// Does not leave by a device of the set `wan`.
    NotWan,
    /// Belongs to a connection that the other side began.
    Reply,
    /// State of the connection is one of these.
    State(u32),
    /// Transport protocol is, or is not, TCP. Not for rules that look at ports.
    Tcp(bool),
    /// Source port is in a set.
    From(&'static str),
    /// Destination port is this one.
    To(Proto, u16),
    /// Destination port of TCP is not in a set.
    ToNone(&'static str),
    /// Destination address is in a set.
    At(bool, &'static str),
    /// Destination address and port of TCP are in a set.
    AtPort(bool, &'static str),
    /// Destination address and then port of TCP are each in a set.
    AtAnd(bool, &'static str, &'static str),
    /// The IPv4 header has options.
    Options,
    /// Something stands between the IPv6 header and TCP.
    Extensions,
    /// Asks for Multipath TCP, with which the kernel opens further connections by itself.
    Multipath,
    /// Counts.
    Count(&'static str),
    /// Refuses with a TCP reset, or with ICMP.
    Reject(bool),
    /// Lets it go.
    Accept,
    /// Goes on in another chain.
    Goto(&'static str),
    /// Came in by a device of the set `wan`, or did not.
    FromWan(bool),
    /// Leaves by a device of the set `wan`.
    ToWan,
    /// Belongs to a connection that this side began.
    Original,
    /// Belongs to a connection that was meant for a port of this range before anything led it elsewhere. Stands behind a word
    /// that asks for TCP.
    Called(u16, u16),
    /// Destination port of TCP is in this range.
    ToRange(u16, u16),
    /// Destination port of TCP is not this one.
    NotTo(u16),
    /// Transport protocol.
    Is(Proto),
    /// Destination is an address of this machine's.
    Local,
    /// Flags of TCP: of the first ones exactly the second ones are, or are not, set.
    Flags(bool, u8, u8),
    /// One of these flags of TCP is set.
    AnyFlag(u8),
    /// Source address and destination port of TCP are in a set.
    Open(bool, &'static str),
    /// Its port at this end is no lease's.
    Elsewhere(Elsewhere),
    /// Is a packet between a lease's buyer and its port.
    OfLease(OfLease),
    /// Destination becomes what a map has for source address and destination port of TCP.
    Dnat(bool, &'static str),
    /// Source becomes the outgoing device's address.
    Masquerade,
    /// The largest segment of TCP becomes what the route carries.
    ClampMss,
    /// The packet has this bit of the mark.
    PacketMarked(u32),
    /// Clears these bits of the packet's mark.
    ClearPacketMark(u32),
    /// To user space.
    Queue(u16),
    /// The connection goes on in a flowtable.
    FlowAdd(&'static str),
    /// No more than a trickle has come: 4 KiB in a second.
    Trickle,
    /// Loses it.
    Drop,
}

/// Flags of TCP (RFC 9293 section 3.1).
pub const FIN: u8 = 1;
#[allow(missing_docs, reason = "the line above")]
pub const SYN: u8 = 2;
#[allow(missing_docs, reason = "the line above")]
pub const RST: u8 = 4;
#[allow(missing_docs, reason = "the line above")]
pub const ACK: u8 = 16;
/// `RTN_LOCAL`.
const LOCAL: u32 = 2;

/// `NFT_META_*`: MARK, IIFNAME, OIFNAME, SKUID, NFPROTO, L4PROTO.
const PACKET_MARK: u32 = 3;
const IN_DEVICE: u32 = 6;
const OUT_DEVICE: u32 = 7;
const USER: u32 = 10;
const FAMILY: u32 = 15;
const PROTOCOL: u32 = 16;
/// `NFT_CT_*`: STATE, DIRECTION, MARK.
const STATE: u32 = 0;
const DIRECTION: u32 = 1;
const MARK: u32 = 3;
/// Bases of payloads.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// TCP option of RFC 8684.
const MPTCP: u8 = 30;

impl Word {
    /// As `nft list` writes it.
    pub fn text(&self) -> String {
        let family = |v6: &bool| if *v6 { "ip6" } else { "ip" };
        match self {
            Word::User(uid) => format!("meta skuid {uid}"),
            Word::Marked(bit) => format!("ct mark & {bit:#010x} == {bit:#010x}"),
            Word::Mark(bit) => format!("ct mark set ct mark | {bit:#010x}"),
            Word::Loopback(true) => "oifname \"lo\"".to_owned(),
            Word::Loopback(false) => "oifname != \"lo\"".to_owned(),
            Word::NotWan => "oifname != @wan".to_owned(),
            Word::Reply => "ct direction reply".to_owned(),
            Word::State(NEW) => "ct state new".to_owned(),
            Word::State(RELATED) => "ct state related".to_owned(),
            Word::State(ODD) => "ct state invalid,related,untracked".to_owned(),
            Word::State(_) => "ct state established".to_owned(),
            Word::Tcp(true) => "meta l4proto tcp".to_owned(),
            Word::Tcp(false) => "meta l4proto != tcp".to_owned(),
            Word::From(set) => format!("tcp sport @{set}"),
            Word::To(Proto::Tcp, port) => format!("tcp dport {port}"),
            Word::To(_, port) => format!("udp dport {port}"),
            Word::ToNone(set) => format!("tcp dport != @{set}"),
            Word::At(v6, set) => format!("{} daddr @{set}", family(v6)),
            Word::AtPort(v6, set) => format!("{} daddr . tcp dport @{set}", family(v6)),
            Word::AtAnd(v6, set, ports) => format!("{} daddr @{set} tcp dport @{ports}", family(v6)),
            Word::Options => "ip hdrlength != 5".to_owned(),
            Word::Extensions => "ip6 nexthdr != tcp".to_owned(),
            Word::Multipath => "tcp option mptcp exists".to_owned(),
            Word::Count(name) => format!("counter name \"{name}\""),
            Word::Reject(true) => "reject with tcp reset".to_owned(),
            Word::Reject(false) => "reject with icmpx admin-prohibited".to_owned(),
            Word::Accept => "accept".to_owned(),
            Word::Goto(chain) => format!("goto {chain}"),
            Word::FromWan(true) => "iifname @wan".to_owned(),
            Word::FromWan(false) => "iifname != @wan".to_owned(),
            Word::ToWan => "oifname @wan".to_owned(),
            Word::Original => "ct direction original".to_owned(),
            Word::Called(first, last) if first == last => format!("ct original proto-dst {first}"),
            Word::Called(first, last) => format!("ct original proto-dst {first}-{last}"),
            Word::ToRange(first, last) if first == last => format!("tcp dport {first}"),
            Word::ToRange(first, last) => format!("tcp dport {first}-{last}"),
            Word::Elsewhere(packet) => packet.text(),
            Word::OfLease(packet) => packet.text(),
            Word::NotTo(port) => format!("tcp dport != {port}"),
            Word::Is(Proto::Icmp) => "meta l4proto icmp".to_owned(),
            Word::Is(Proto::Icmp6) => "meta l4proto ipv6-icmp".to_owned(),
            Word::Is(Proto::Tcp) => "meta l4proto tcp".to_owned(),
            Word::Is(Proto::Udp) => "meta l4proto udp".to_owned(),
            Word::Local => "fib daddr type local".to_owned(),
            Word::Flags(equal, of, set) => {
                format!("tcp flags {}{} / {}", if *equal { "" } else { "!= " }, flags(*set), flags(*of))
            }
            Word::AnyFlag(set) => format!("tcp flags {}", flags(*set)),
            Word::Open(v6, set) => format!("{} saddr . tcp dport @{set}", family(v6)),
            Word::Dnat(v6, map) => format!("dnat {0} to {0} saddr . tcp dport map @{map}", family(v6)),
            Word::Masquerade => "masquerade".to_owned(),
            Word::ClampMss => "tcp option maxseg size set rt mtu".to_owned(),
            Word::PacketMarked(bit) => format!("meta mark & {bit:#010x} == {bit:#010x}"),
            Word::ClearPacketMark(bits) => format!("meta mark set meta mark & {:#010x}", !bits),
            Word::Queue(number) => format!("queue to {number}"),
            Word::FlowAdd(table) => format!("flow add @{table}"),
            Word::Trickle => "limit rate 4 kbytes/second burst 32 kbytes".to_owned(),
            Word::Drop => "drop".to_owned(),
        }
    }

    /// As the kernel's expressions.
    pub fn expressions(&self) -> Vec<Expr> {
        let number = |n: u32| n.to_ne_bytes().to_vec();
        match self {
            Word::User(uid) => vec![Expr::Meta { key: USER }, is(number(*uid))],
            Word::Marked(bit) => vec![Expr::Ct { key: MARK }, mask(number(*bit)), is(number(*bit))],
            // Mask and xor that set the bit: (mark & !bit) ^ bit.
            Word::Mark(bit) => vec![
                Expr::Ct { key: MARK },
                Expr::Bitwise { mask: number(!bit), xor: number(*bit) },
                Expr::SetCt { key: MARK },
            ],
            Word::Loopback(equal) => {
                vec![Expr::Meta { key: OUT_DEVICE }, Expr::Cmp { equal: *equal, value: device("lo") }]
            }
            Word::NotWan => vec![Expr::Meta { key: OUT_DEVICE }, lookup("wan", true)],
            Word::Reply => vec![Expr::Ct { key: DIRECTION }, is(vec![1])],
            Word::State(bits) => {
                vec![Expr::Ct { key: STATE }, mask(number(*bits)), is_not(number(0))]
            }
            Word::Tcp(equal) => {
                vec![Expr::Meta { key: PROTOCOL }, Expr::Cmp { equal: *equal, value: vec![Proto::Tcp as u8] }]
            }
            Word::From(set) => {
                let mut e = proto(Proto::Tcp);
                e.extend([load(TRANSPORT, 0, 2, 1), lookup(set, false)]);
                e
            }
            Word::To(protocol, port) => {
                let mut e = proto(*protocol);
                e.extend([load(TRANSPORT, 2, 2, 1), is(port.to_be_bytes().to_vec())]);
                e
            }
            Word::ToNone(set) => to_set(set, true),
            Word::At(v6, set) => at(*v6, set),
            Word::AtPort(v6, set) => at_port(*v6, set),
            Word::AtAnd(v6, set, ports) => [at(*v6, set), to_set(ports, false)].concat(),
            Word::Options => {
                let mut e = family(false);
                e.extend([load(NETWORK, 0, 1, 1), mask(vec![0x0f]), is_not(vec![5])]);
                e
            }
            Word::Extensions => {
                let mut e = family(true);
                e.extend([load(NETWORK, 6, 1, 1), is_not(vec![Proto::Tcp as u8])]);
                e
            }
            Word::Multipath => vec![Expr::TcpOption { kind: MPTCP }, is(vec![1])],
            Word::Count(name) => vec![Expr::Counter { name: (*name).to_owned() }],
            Word::Reject(tcp) => vec![Expr::Reject { tcp: *tcp }],
            Word::Accept => vec![Expr::Accept],
            Word::Goto(chain) => vec![Expr::Goto { chain: (*chain).to_owned() }],
            Word::FromWan(equal) => vec![Expr::Meta { key: IN_DEVICE }, lookup("wan", !equal)],
            Word::ToWan => vec![Expr::Meta { key: OUT_DEVICE }, lookup("wan", false)],
            Word::Original => vec![Expr::Ct { key: DIRECTION }, is(vec![0])],
            Word::Called(first, last) => {
                [vec![Expr::Fixed(Fixed::CalledPort)], within(*first, *last)].concat()
            }
            Word::ToRange(first, last) => range(*first, *last),
            Word::Elsewhere(packet) => packet.expressions(),
            Word::OfLease(packet) => packet.expressions(),
            Word::NotTo(port) => tcp(2, 2, [is_not(port.to_be_bytes().to_vec())]),
            Word::Is(protocol) => proto(*protocol),
            Word::Local => vec![Expr::Fixed(Fixed::DestinationType), is(number(LOCAL))],
            Word::Flags(equal, of, set) => {
                tcp(13, 1, [mask(vec![*of]), Expr::Cmp { equal: *equal, value: vec![*set] }])
            }
            Word::AnyFlag(set) => tcp(13, 1, [mask(vec![*set]), is_not(vec![0])]),
            Word::Open(v6, set) => [buyer_and_port(*v6), vec![lookup(set, false)]].concat(),
            Word::Dnat(v6, map) => {
                let found = vec![Expr::Map { map: (*map).to_owned() }, Expr::Dnat { v6: *v6 }];
                [buyer_and_port(*v6), found].concat()
            }
            Word::Masquerade => vec![Expr::Fixed(Fixed::Masquerade)],
            Word::Trickle => vec![Expr::Fixed(Fixed::Trickle)],
            Word::ClampMss => {
                [Fixed::RouteMss, Fixed::ToNetworkOrder, Fixed::SetMss].map(Expr::Fixed).to_vec()
            }
            Word::PacketMarked(bit) => {
                vec![Expr::Meta { key: PACKET_MARK }, mask(number(*bit)), is(number(*bit))]
            }
            Word::ClearPacketMark(bits) => {
                vec![Expr::Meta { key: PACKET_MARK }, mask(number(!bits)), Expr::SetMeta { key: PACKET_MARK }]
            }
            Word::Queue(number) => vec![Expr::Queue { number: *number }],
            Word::FlowAdd(table) => vec![Expr::FlowAdd { table: (*table).to_owned() }],
            Word::Drop => vec![Expr::Drop],
        }
    }
}

/// Names of flags as `nft` lists them.
fn flags(set: u8) -> String {
    let names = [(FIN, "fin"), (SYN, "syn"), (RST, "rst"), (ACK, "ack")];
    names.iter().filter(|(bit, _)| set & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

/// Bytes of the header of TCP, and what is done with them.
fn tcp<const N: usize>(offset: u32, length: u32, then: [Expr; N]) -> Vec<Expr> {
    let mut e = proto(Proto::Tcp);
    e.push(load(TRANSPORT, offset, length, 1));
    e.extend(then);
    e
}

/// The destination port of TCP lies between two others.
fn range(first: u16, last: u16) -> Vec<Expr> {
    [tcp(2, 2, []), within(first, last)].concat()
}

/// The port that was loaded is in a range.
fn within(first: u16, last: u16) -> Vec<Expr> {
    let [low, high] = [first, last].map(|port| port.to_be_bytes().to_vec());
    if first == last {
        return vec![is(low)];
    }
    vec![Expr::Bound { lower: true, value: low }, Expr::Bound { lower: false, value: high }]
}

/// Source address and destination port of TCP, one behind the other.
fn buyer_and_port(v6: bool) -> Vec<Expr> {
    let (address, behind) =
        if v6 { (load(NETWORK, 8, 16, 1), BEHIND_V6) } else { (load(NETWORK, 12, 4, 1), BEHIND_V4) };
    [family(v6), proto(Proto::Tcp), vec![address, load(TRANSPORT, 2, 2, behind)]].concat()
}

/// The name of a device as the kernel compares it.
pub fn device(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn is(value: Vec<u8>) -> Expr {
    Expr::Cmp { equal: true, value }
}

fn is_not(value: Vec<u8>) -> Expr {
    Expr::Cmp { equal: false, value }
}

fn mask(mask: Vec<u8>) -> Expr {
    let xor = vec![0; mask.len()];
    Expr::Bitwise { mask, xor }
}

fn load(base: u32, offset: u32, length: u32, register: u32) -> Expr {
    Expr::Payload { base, offset, length, register }
}

fn lookup(set: &str, inverted: bool) -> Expr {
    Expr::Lookup { set: set.to_owned(), inverted }
}

/// What `tcp` and `udp` before a port stand for.
fn proto(protocol: Proto) -> Vec<Expr> {
    vec![Expr::Meta { key: PROTOCOL }, is(vec![protocol as u8])]
}

/// What `ip` and `ip6` before an address stand for in family `inet`.
fn family(v6: bool) -> Vec<Expr> {
    vec![Expr::Meta { key: FAMILY }, is(vec![if v6 { 10 } else { 2 }])]
}

fn destination(v6: bool) -> Expr {
    if v6 { load(NETWORK, 24, 16, 1) } else { load(NETWORK, 16, 4, 1) }
}

fn at(v6: bool, set: &str) -> Vec<Expr> {
    [family(v6), vec![destination(v6), lookup(set, false)]].concat()
}

fn at_port(v6: bool, set: &str) -> Vec<Expr> {
    let behind = if v6 { BEHIND_V6 } else { BEHIND_V4 };
    let port = load(TRANSPORT, 2, 2, behind);
    // The address's own condition comes first, as nft orders them.
    [family(v6), proto(Proto::Tcp), vec![destination(v6), port, lookup(set, false)]].concat()
}

fn to_set(set: &str, inverted: bool) -> Vec<Expr> {
    [proto(Proto::Tcp), vec![load(TRANSPORT, 2, 2, 1), lookup(set, inverted)]].concat()
}

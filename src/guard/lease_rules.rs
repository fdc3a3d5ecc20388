//! The table of leases: what of the kernel path the kernel itself decides, packet by packet.
//!
//! A lease's connection comes from the WAN and leaves by it. Its first packet gets the mark `lease` at `lease_entry`; what has that
//! mark is here alone, and nothing else is touched: of other traffic only a *new* connection from the WAN to a port of the
//! range is closed. Until `run` has accepted a connection each of its packets waits in a queue without bypass, so nothing
//! passes when nobody listens. Its answer is the packet's mark, which `lease_settle` makes the connection's.
//!
//! What was accepted is one connection and not a place that others may take: a second handshake under its ports never passes. A
//! flowtable looks at none of it, so one takes a connection only by a packet of the target's, which still has it then.
//!
//! The hooks stand behind `mangle`, where others clamp segments and mark, and before `filter`: there firewall4 hands
//! connections to its flowtable before anybody has seen what is in them. Undecided packets therefore pass by `NF_STOP`.
use super::draft::{Draft, NamedChain, NamedSet, Rendered};
use super::network::Network;
use super::ranges::denied;
use super::rules::{ACK, FIN, NEW, Proto, RELATED, RST, SYN, Word as W};
use super::ruleset::{devices, ranges};
use super::table::{Flowtable, Hook, Key, LEASES, Place};

/// The queue of packets that `run` judges.
pub const QUEUE: u16 = 7878;
/// The name of the flowtable.
const FLOWTABLE: &str = "ft";
/// What leases are refused for, and what passed the kernel's ordinary way.
pub const COUNTERS: [&str; 7] = ["closed", "denied", "forwarded", "limited", "midstream", "refused", "stray"];
/// The port of HTTPS, the only one that leases lead to.
const HTTPS: u16 = super::lease_set::TARGET_PORT;

/// The bits of marks that leases use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Of a connection: it came in by a lease.
    pub lease: u32,
    /// Of a connection, and of the packet that decides it: it was accepted.
    pub accepted: u32,
    /// The same: it was refused.
    pub refused: u32,
}

impl Marks {
    /// Bits two to four of a mask, from the highest on: the first is the relay's. None if there are too few.
    pub fn of(mask: u32) -> Option<Marks> {
        let mut bits = (0..u32::BITS).rev().map(|b| 1 << b).filter(|bit| mask & bit != 0).skip(1);
        Some(Marks { lease: bits.next()?, accepted: bits.next()?, refused: bits.next()? })
    }
}

/// What the owner's configuration says of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseScope {
    /// First and last port that leases may have.
    pub ports: (u16, u16),
    /// The bits of marks.
    pub marks: Marks,
}

/// The table for this place of the router, with a flowtable if there is one; whether others have one, too. It begins without leases.
pub fn render(
    scope: &LeaseScope,
    network: &Network,
    flowtable: Option<&Flowtable>,
    others: bool,
) -> Rendered {
    let flowtable = flowtable.filter(|f| !f.devices.is_empty());
    Draft {
        name: LEASES,
        counters: &COUNTERS,
        sets: sets(network),
        flowtables: flowtable.map(|f| (FLOWTABLE, f.clone())).into_iter().collect(),
        chains: [way_in(scope), forward(scope, flowtable.is_some(), others)].concat(),
    }
    .rendered()
}

fn sets(network: &Network) -> Vec<NamedSet> {
    let (v4, v6) = denied(&network.inside);
    let empty = |name, key| (name, key, Vec::new(), Vec::new());
    vec![
        devices(network),
        ranges("denied4", Key::V4Ranges, &v4),
        ranges("denied6", Key::V6Ranges, &v6),
        empty("open4", Key::V4Open),
        empty("open6", Key::V6Open),
        empty("leases4", Key::V4Lease),
        empty("leases6", Key::V6Lease),
    ]
}

fn hook(nat: bool, place: Place, priority: i32) -> Option<Hook> {
    Some(Hook { nat, place, priority })
}

fn drop_and(counter: &'static str, mut rule: Vec<W>) -> Vec<W> {
    rule.extend([W::Count(counter), W::Drop]);
    rule
}

/// From the first packet to its new addresses.
fn way_in(scope: &LeaseScope) -> Vec<NamedChain> {
    let LeaseScope { ports: (first, last), marks: Marks { lease, .. } } = *scope;
    let ours = || W::Marked(lease);
    let open = |v6, set| vec![W::Open(v6, set), W::Mark(lease), W::Accept];
    vec![
        (
            "lease_entry",
            hook(false, Place::Prerouting, -140),
            vec![vec![
                W::FromWan(true),
                W::State(NEW),
                W::ToRange(first, last),
                W::Local,
                W::Goto("lease_new"),
            ]],
        ),
        (
            "lease_new",
            None,
            vec![
                // What is left of a connection that was ended, and whatever else has no beginning.
                vec![W::Flags(false, FIN | SYN | RST | ACK, SYN), W::Count("midstream"), W::Reject(true)],
                open(false, "open4"),
                open(true, "open6"),
                vec![W::Tcp(true), W::Count("closed"), W::Reject(true)],
            ],
        ),
        (
            "lease_dnat",
            // Before `dstnat` (-100), where redirections of others are.
            hook(true, Place::Prerouting, -105),
            vec![
                vec![ours(), W::Dnat(false, "leases4")],
                vec![ours(), W::Dnat(true, "leases6")],
                // More new connections than the lease allows; or it ended just now.
                drop_and("limited", vec![ours()]),
            ],
        ),
        // An address that has become the router's own.
        ("lease_input", hook(false, Place::Input, -100), vec![drop_and("stray", vec![ours()])]),
        (
            "lease_masq",
            // Before `srcnat` (100).
            hook(true, Place::Postrouting, 95),
            vec![vec![ours(), W::Original, W::ToWan, W::Masquerade]],
        ),
    ]
}

/// From the new addresses to the other side.
fn forward(scope: &LeaseScope, flowtable: bool, others: bool) -> Vec<NamedChain> {
    let LeaseScope { ports: (first, last), marks: Marks { lease, accepted, refused } } = *scope;
    let denied = |rule| drop_and("denied", rule);
    let add = |mut rule: Vec<W>| {
        rule.push(W::FlowAdd(FLOWTABLE));
        flowtable.then_some(rule)
    };
    let open = [
        Some(drop_and("midstream", vec![W::AnyFlag(SYN)])),
        // The numbers of the last packets say how much was carried.
        Some(vec![W::AnyFlag(FIN | RST), W::Queue(QUEUE)]),
        add(vec![W::Reply]),
        // The guard lets it pass by `NF_STOP`: another's flowtable takes whatever comes to it.
        others.then(|| vec![W::Original, W::Queue(QUEUE)]),
        Some(vec![W::Accept]),
    ];
    let settled = [
        Some(vec![W::PacketMarked(accepted), W::Mark(accepted)]),
        Some(vec![W::PacketMarked(refused), W::Mark(refused)]),
        // Behind this chain firewall4 may hand the connection to a flowtable of its own, which need not count.
        add(vec![W::PacketMarked(accepted)]),
        Some(vec![W::ClearPacketMark(accepted | refused)]),
    ];
    vec![
        (
            "lease_forward",
            hook(false, Place::Forward, -100),
            vec![
                vec![W::Marked(lease), W::Goto("lease_flow")],
                // One whose mark somebody has overwritten.
                drop_and(
                    "stray",
                    vec![
                        W::FromWan(true),
                        W::ToWan,
                        W::To(Proto::Tcp, HTTPS),
                        W::Called(first, last),
                        W::Original,
                    ],
                ),
            ],
        ),
        (
            "lease_flow",
            None,
            vec![
                denied(vec![W::FromWan(false)]),
                denied(vec![W::NotWan]),
                // What it quotes need not be what was sent, and nobody counts it: so much is said of trouble, and no more.
                vec![W::Is(Proto::Icmp), W::State(RELATED), W::Trickle, W::Accept],
                vec![W::Is(Proto::Icmp6), W::State(RELATED), W::Trickle, W::Accept],
                // A connection that another one announced has that one's mark, and was judged by nobody.
                denied(vec![W::State(RELATED)]),
                denied(vec![W::Tcp(false)]),
                denied(vec![W::Options]),
                denied(vec![W::Extensions]),
                denied(vec![W::Original, W::At(false, "denied4")]),
                denied(vec![W::Original, W::At(true, "denied6")]),
                denied(vec![W::Original, W::NotTo(HTTPS)]),
                vec![W::AnyFlag(SYN), W::ClampMss],
                vec![W::Tcp(true), W::Marked(refused), W::Count("refused"), W::Reject(true)],
                // A SYN that came from the queue again: of what it would begin nothing is kept.
                vec![W::Tcp(true), W::PacketMarked(refused), W::Count("refused"), W::Reject(true)],
                vec![W::Count("forwarded")],
                vec![W::Marked(accepted), W::Goto("lease_open")],
                vec![W::ClearPacketMark(accepted | refused)],
                vec![W::Queue(QUEUE)],
            ],
        ),
        ("lease_open", None, open.into_iter().flatten().collect()),
        (
            "lease_settle",
            hook(false, Place::Forward, -99),
            vec![vec![W::Marked(lease), W::Goto("lease_settled")]],
        ),
        ("lease_settled", None, settled.into_iter().flatten().collect()),
    ]
}

#[cfg(test)]
pub(super) mod tests;

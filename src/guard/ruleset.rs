//! The table's content: from what may be reached and where the router stands to sets, chains and rules.
//!
//! A packet is the service user's if its socket is (`meta skuid`), or if its connection was begun by it (the mark): a socket
//! that was closed with data left has no user any more, and its packets go on for minutes.
pub use super::draft::Rendered;
use super::draft::{Draft, NamedChain, NamedSet};
use super::network::Network;
use super::ranges::{Ranges, denied};
use super::rules::{ESTABLISHED, ODD, Proto, Word as W, device};
use super::scope::Scope;
use super::table::{Hook, Key, NAME, Place};
use std::net::IpAddr;

/// The counters, in the order of reports. What the first four count nobody but a broken `run` sends, as long as the
/// network does not change; `refused_dns` follows a change of the system's resolver, and `refused_late` the end of what was allowed.
pub const COUNTERS: [&str; 6] =
    ["refused_protocol", "refused_address", "refused_port", "refused_device", "refused_dns", "refused_late"];
/// The chains that refuse, in the same order.
const CHAINS: [&str; OUTSIDE] = ["bad_protocol", "bad_address", "bad_port", "bad_device"];
/// How many of them tell of traffic outside policy.
pub const OUTSIDE: usize = 4;

/// What a counter counts, in a word.
pub fn reason(counter: &str) -> &str {
    counter.strip_prefix("refused_").unwrap_or(counter)
}

/// Before `filter` (0), so that what others reject there is counted here first.
const HOOK: Hook = Hook { nat: false, place: Place::Output, priority: -10 };

/// The table of this user, policy and network.
pub fn render(uid: u32, scope: &Scope, network: &Network) -> Rendered {
    let sets = sets(scope, network);
    let has = |name: &str| sets.iter().any(|s| s.0 == name);
    let chains = chains(uid, scope.mark, has);
    Draft { name: NAME, counters: &COUNTERS, sets, flowtables: Vec::new(), chains }.rendered()
}

fn chains(uid: u32, mark: u32, has: impl Fn(&str) -> bool) -> Vec<NamedChain> {
    let mut service = vec![
        // Answers: to programs of this machine, and to buyers.
        vec![W::Loopback(true), W::Tcp(true), W::Reply, W::State(ESTABLISHED), W::Accept],
        vec![W::From("listen"), W::Reply, W::State(ESTABLISHED), W::Accept],
    ];
    for (v6, set) in [(false, "resolver4"), (true, "resolver6")] {
        if has(set) {
            service.push(vec![W::At(v6, set), W::To(Proto::Udp, 53), W::Accept]);
            service.push(vec![W::At(v6, set), W::To(Proto::Tcp, 53), W::Accept]);
        }
    }
    service.extend([
        vec![W::To(Proto::Udp, 53), W::Count("refused_dns"), W::Reject(false)],
        vec![W::To(Proto::Tcp, 53), W::Count("refused_dns"), W::Reject(true)],
        vec![W::Reply, W::Goto("late")],
        vec![W::State(ODD), W::Goto("late")],
        vec![W::Tcp(false), W::Goto("bad_protocol")],
        vec![W::Options, W::Goto("bad_protocol")],
        vec![W::Extensions, W::Goto("bad_protocol")],
        vec![W::Multipath, W::Goto("bad_protocol")],
    ]);
    for (v6, set) in [(false, "literal4"), (true, "literal6")] {
        if has(set) {
            service.push(vec![W::AtPort(v6, set), W::Goto("pass")]);
        }
    }
    for (v6, set) in [(false, "lab4"), (true, "lab6")] {
        if has(set) {
            service.push(vec![W::AtAnd(v6, set, "ports"), W::Goto("pass")]);
        }
    }
    service.extend([
        vec![W::NotWan, W::Goto("bad_device")],
        vec![W::At(false, "denied4"), W::Goto("bad_address")],
        vec![W::At(true, "denied6"), W::Goto("bad_address")],
        vec![W::ToNone("ports"), W::Goto("bad_port")],
        vec![W::Goto("pass")],
    ]);
    let refuse = |counter| {
        [vec![W::Tcp(true), W::Count(counter), W::Reject(true)], vec![W::Count(counter), W::Reject(false)]]
    };
    let mut chains: Vec<NamedChain> = vec![("late", None, refuse("refused_late").into())];
    for (chain, counter) in CHAINS.into_iter().zip(COUNTERS) {
        let mut rules = vec![vec![W::State(ESTABLISHED), W::Goto("late")]];
        rules.extend(refuse(counter));
        chains.push((chain, None, rules));
    }
    chains.push(("pass", None, vec![vec![W::Mark(mark), W::Accept]]));
    chains.push(("service", None, service));
    chains.push((
        "output",
        Some(HOOK),
        vec![
            vec![W::User(uid), W::Goto("service")],
            // Resets that end such a connection come back by loopback.
            vec![W::Loopback(false), W::Marked(mark), W::Goto("service")],
        ],
    ));
    chains
}

fn sets(scope: &Scope, network: &Network) -> Vec<NamedSet> {
    let (v4, v6) = denied(&network.inside);
    let mut sets = vec![
        devices(network),
        ports("listen", scope.listen.iter()),
        ports("ports", scope.ports.iter()),
        ranges("denied4", Key::V4Ranges, &v4),
        ranges("denied6", Key::V6Ranges, &v6),
    ];
    let resolvers: &[IpAddr] = if scope.asks_system { &network.resolvers } else { &[] };
    for (wants_v6, resolver, literal, lab) in
        [(false, "resolver4", "literal4", "lab4"), (true, "resolver6", "literal6", "lab6")]
    {
        let ours = |a: &IpAddr| a.is_ipv6() == wants_v6;
        let key = |v4, v6| if wants_v6 { v6 } else { v4 };
        let found: Vec<IpAddr> = resolvers.iter().copied().filter(ours).collect();
        sets.push((
            resolver,
            key(Key::V4, Key::V6),
            found.iter().map(|a| (octets(*a), false)).collect(),
            found.iter().map(ToString::to_string).collect(),
        ));
        let found: Vec<_> = scope.literals.iter().filter(|l| ours(&l.0)).collect();
        sets.push((
            literal,
            key(Key::V4Port, Key::V6Port),
            found
                .iter()
                .map(|(a, p)| ([&octets(*a)[..], &p.to_be_bytes(), &[0, 0]].concat(), false))
                .collect(),
            found.iter().map(|(a, p)| format!("{a} . {p}")).collect(),
        ));
        sets.push(ranges(lab, key(Key::V4Ranges, Key::V6Ranges), &Ranges::of(wants_v6, &scope.open)));
    }
    // Sets that may be empty have rules only if they are not; the others are there whatever they hold.
    sets.retain(|s| !s.2.is_empty() || ["wan", "listen", "ports"].contains(&s.0));
    sets
}

pub(super) fn devices(network: &Network) -> NamedSet {
    let names = network.wan.iter();
    (
        "wan",
        Key::Device,
        names.clone().map(|n| (device(n), false)).collect(),
        names.map(|n| format!("\"{n}\"")).collect(),
    )
}

fn ports<'a>(name: &'static str, ports: impl Iterator<Item = &'a u16> + Clone) -> NamedSet {
    let keys = ports.clone().map(|p| (p.to_be_bytes().to_vec(), false)).collect();
    (name, Key::Port, keys, ports.map(ToString::to_string).collect())
}

pub(super) fn ranges(name: &'static str, key: Key, ranges: &Ranges) -> NamedSet {
    (name, key, ranges.elements(), ranges.text())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the golden text was made of, also by tests/netns/test_guard.py.
    fn example() -> Rendered {
        let scope = Scope {
            ports: [80, 443].into(),
            listen: [8443].into(),
            literals: [("192.168.1.5".parse().unwrap(), 443), ("2620:fe::fe".parse().unwrap(), 443)].into(),
            open: Vec::new(),
            asks_system: true,
            mark: 0x0800_0000,
            ..Scope::default()
        };
        let network = Network {
            wan: ["wan0".to_owned()].into(),
            outward: Vec::new(),
            inside: vec![
                ("44.2.2.0".parse().unwrap(), 24),
                ("192.168.1.0".parse().unwrap(), 24),
                ("2a10:2::".parse().unwrap(), 64),
            ],
            resolvers: vec!["127.0.0.1".parse().unwrap()],
            ..Network::default()
        };
        render(5310, &scope, &network)
    }

    #[test]
    fn the_text_is_the_golden_one() {
        let text = example().text;
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guard/testdata/ruleset.nft");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE_DOCS=1 cargo test writes it anew");
    }

    #[test]
    fn every_chain_and_set_of_a_rule_is_there() {
        use super::super::table::Expr;
        let table = example().table;
        for expr in table.chains.values().flat_map(|c| c.rules.iter().flatten()) {
            match expr {
                Expr::Goto { chain } => assert!(table.chains.contains_key(chain), "{chain}"),
                Expr::Lookup { set, .. } => assert!(table.sets.contains_key(set), "{set}"),
                Expr::Counter { name } => assert!(table.counters.contains(name), "{name}"),
                _ => {}
            }
        }
    }

    #[test]
    fn without_a_default_route_nothing_leaves() {
        let rendered = render(1, &Scope::default(), &Network::default());
        assert!(rendered.table.sets["wan"].elements.is_empty());
        assert!(!rendered.text.contains("literal4") && !rendered.text.contains("resolver4"));
    }
}

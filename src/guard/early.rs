//! Chains of others that would hand a lease's connection to their flowtable before its hello is judged: the leases' own chain never
//! sees it again then.
use super::found::Theirs;
use super::messages::NEW_CHAIN;
use super::netlink::{self as nl, Message, attributes};

/// `NF_INET_FORWARD`: the kernel takes `flow add` there alone (`nft_flow_offload_validate`).
const FORWARD: u32 = 2;
/// The leases' chain there. Of two with one priority, the one that came first is first.
const OURS: i32 = -100;
/// Chains that are kept at most.
const MAX_CHAINS: usize = 1024;

/// A chain: its table, with the family before it, and its name.
type Name = (Vec<u8>, Vec<u8>);

/// What has been read of others' chains.
#[derive(Debug, Default)]
pub struct Early {
    /// Base chains, and whether they come before the leases'.
    bases: Vec<(Name, bool)>,
    /// Chains with `flow add`.
    adding: Vec<Name>,
    /// There are more than are kept.
    full: bool,
}

impl Early {
    /// Takes in a message of a dump of all chains.
    pub fn take_chain(&mut self, message: &Message<'_>) {
        let Some(theirs) = Theirs::of(message, NEW_CHAIN, 3) else { return };
        // `NFTA_CHAIN_HOOK`: `NFTA_HOOK_HOOKNUM`, `NFTA_HOOK_PRIORITY`.
        let Some(hook) = nl::attribute(theirs.body, 4) else { return };
        let priority = nl::be32(hook, 2).map_or(i32::MIN, u32::cast_signed);
        let is_early = nl::be32(hook, 1) == Some(FORWARD) && priority <= OURS;
        self.full |= self.bases.len() >= MAX_CHAINS;
        if !self.full {
            self.bases.push((name(&theirs), is_early));
        }
    }

    /// Takes in a rule.
    pub fn take_rule(&mut self, theirs: &Theirs<'_>) {
        let list = nl::attribute(theirs.body, 4).unwrap_or_default();
        if !attributes(list).any(|(_, e)| nl::text(e, 1) == Some("flow_offload")) {
            return;
        }
        let name = name(theirs);
        if !self.adding.contains(&name) {
            self.full |= self.adding.len() >= MAX_CHAINS;
            if !self.full {
                self.adding.push(name);
            }
        }
    }

    /// A sentence that names a chain that comes first. Which base chains jump to another is not read: one that is early anywhere
    /// in its table counts.
    pub fn claim(&self) -> Option<String> {
        let comes_first = |name: &&Name| match self.bases.iter().find(|(base, _)| base == *name) {
            Some((_, is_early)) => *is_early,
            None => self.bases.iter().any(|(base, is_early)| *is_early && base.0 == name.0),
        };
        if let Some((table, chain)) = self.adding.iter().find(comes_first) {
            let [table, chain] = [table.get(1..).unwrap_or_default(), chain].map(String::from_utf8_lossy);
            return Some(format!(
                "table {table}, chain {chain} hands connections to a flowtable before leases are judged; give it a priority above {OURS}"
            ));
        }
        self.full.then(|| "other tables have more chains than can be looked through".to_owned())
    }
}

fn name(theirs: &Theirs<'_>) -> Name {
    ([&[theirs.family], theirs.table.as_bytes()].concat(), theirs.chain.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::super::messages::{NEW_RULE, number};
    use super::super::netlink::Writer;
    use super::super::table::LEASES;
    use super::*;

    const BASE: &str = "a chain of that hook and priority";

    fn chain(name: &str, hook: Option<(u32, i32)>) -> Vec<u8> {
        message(NEW_CHAIN, "theirs", |w| {
            w.put_text(3, name);
            if let Some((number, priority)) = hook {
                w.nest(4, |w| {
                    w.put_be32(1, number);
                    w.put_be32(2, priority.cast_unsigned());
                });
            }
        })
    }

    fn rule(table: &str, chain: &str, expression: &str) -> Vec<u8> {
        message(NEW_RULE, table, |w| {
            w.put_text(2, chain);
            w.nest(4, |w| w.nest(1, |w| w.put_text(1, expression)));
        })
    }

    fn message(kind: u8, table: &str, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::default();
        w.message((number(kind), 0, 0), &[1, 0, 0, 0], |w| {
            w.put_text(1, table);
            fill(w);
        });
        w.finish()
    }

    fn read(dump: &[Vec<u8>]) -> Early {
        let mut early = Early::default();
        for bytes in dump {
            for m in nl::messages(bytes) {
                early.take_chain(&m);
                if let Some(rule) = Theirs::of(&m, NEW_RULE, 2) {
                    early.take_rule(&rule);
                }
            }
        }
        early
    }

    #[test]
    fn a_chain_that_adds_before_ours_is_named() {
        for (priority, first) in [(i32::MIN, true), (-150, true), (-100, true), (-99, false), (0, false)] {
            let early = read(&[chain("f", Some((2, priority))), rule("theirs", "f", "flow_offload")]);
            assert_eq!(early.claim().is_some(), first, "{BASE}: {priority}");
        }
        let claim =
            read(&[chain("f", Some((2, -150))), rule("theirs", "f", "flow_offload")]).claim().unwrap();
        assert!(claim.contains("table theirs, chain f"), "{claim}");
        let harmless = [chain("f", Some((2, -150))), rule("theirs", "f", "immediate")];
        assert_eq!(read(&harmless).claim(), None);
        let elsewhere = [chain("f", Some((0, -150))), rule("theirs", "f", "flow_offload")];
        assert_eq!(read(&elsewhere).claim(), None, "another hook");
    }

    #[test]
    fn a_chain_that_is_jumped_to_is_as_early_as_any_of_its_table() {
        let late = [chain("f", Some((2, 0))), chain("sub", None), rule("theirs", "sub", "flow_offload")];
        assert_eq!(read(&late).claim(), None);
        let early = [&late[..], &[chain("mangle", Some((2, -150)))]].concat();
        assert!(read(&early).claim().is_some());
        // firewall4's: its own chain with `flow add` is the late one.
        let fw4 = [
            chain("mangle_forward", Some((2, -150))),
            chain("forward", Some((2, 0))),
            rule("theirs", "forward", "flow_offload"),
        ];
        assert_eq!(read(&fw4).claim(), None);
    }

    #[test]
    fn ours_are_no_others() {
        assert_eq!(read(&[rule(LEASES, "lease_settled", "flow_offload")]).claim(), None);
    }

    #[test]
    fn more_than_can_be_kept_counts_as_a_claim() {
        let names: Vec<_> = (0..=MAX_CHAINS).map(|n| chain(&format!("c{n}"), Some((2, 0)))).collect();
        assert_eq!(read(&names[..MAX_CHAINS]).claim(), None);
        assert!(read(&names).claim().is_some());
    }
}

//! How many connections stand and begin at each target, by host and by registrable domain, of all sessions together:
//! whoever is reached through this node is not flooded by it, however many sessions a buyer has. Pure.
use super::limits::Rate;
use crate::config::PerTarget;
use crate::mutant;
use crate::policy::suffixes::registrable;
use std::collections::HashMap;

/// Most hosts that are told apart at a time, and most domains.
pub const MAX_TARGETS: usize = 4096;
/// Microseconds between looks for entries that may go, while the table is full.
const SWEEP_US: u64 = 100_000;

/// Connections by target.
#[derive(Debug)]
pub struct Targets {
    hosts: Table,
    domains: Table,
}

impl Targets {
    /// Nothing connected yet.
    pub fn new(caps: &PerTarget) -> Targets {
        let host = (caps.max_connections_per_host, caps.max_new_per_host_per_second);
        let domain = (caps.max_connections_per_domain, caps.max_new_per_domain_per_second);
        Targets { hosts: Table::new("target-host", host), domains: Table::new("target-domain", domain) }
    }

    /// New caps from now on; what stands counts against them.
    pub fn apply(&mut self, caps: &PerTarget) {
        self.hosts.set((caps.max_connections_per_host, caps.max_new_per_host_per_second));
        self.domains.set((caps.max_connections_per_domain, caps.max_new_per_domain_per_second));
    }

    /// Whether one more connection to the host may begin now.
    pub fn ready(&mut self, host: &str, now_us: u64) -> bool {
        self.hosts.ready(host, now_us) && self.domains.ready(registrable(host), now_us)
    }

    /// Counts one that begins. To be asked [`Targets::ready`] before.
    pub fn admit(&mut self, host: &str, now_us: u64) {
        self.hosts.admit(host, now_us);
        self.domains.admit(registrable(host), now_us);
    }

    /// Counts one that stands, dialling included.
    pub fn opened(&mut self, host: &str) {
        self.hosts.opened(host);
        self.domains.opened(registrable(host));
    }

    /// One is over.
    pub fn closed(&mut self, host: &str, now_us: u64) {
        self.hosts.closed(host, now_us);
        self.domains.closed(registrable(host), now_us);
    }

    /// Which of these hosts' connections, oldest first, are more than the caps allow.
    pub fn excess<'a>(&self, hosts: impl Iterator<Item = &'a str>) -> Vec<usize> {
        let (mut by_host, mut by_domain) = (HashMap::<&str, u32>::new(), HashMap::<&str, u32>::new());
        let mut excess = Vec::new();
        for (at, host) in hosts.enumerate() {
            let (h, d) = (by_host.entry(host).or_default(), by_domain.entry(registrable(host)).or_default());
            if *h >= self.hosts.most || *d >= self.domains.most {
                excess.push(at);
            } else {
                (*h, *d) = (*h + 1, *d + 1);
            }
        }
        excess
    }
}

/// One of the two tables. An entry that has connections, or had one begin in the last second, never makes room: who
/// names new hosts without end is refused himself, and resets nobody's count.
#[derive(Debug)]
struct Table {
    rule: &'static str,
    most: u32,
    new: u32,
    entries: HashMap<Box<str>, Target>,
    swept_us: Option<u64>,
}

#[derive(Debug)]
struct Target {
    live: u32,
    rate: Rate,
}

impl Table {
    fn new(rule: &'static str, (most, new): (u32, u32)) -> Table {
        Table { rule, most, new, entries: HashMap::new(), swept_us: None }
    }

    fn set(&mut self, (most, new): (u32, u32)) {
        (self.most, self.new) = (most, new);
        self.entries.values_mut().for_each(|target| target.rate.set_limit(new));
    }

    fn ready(&mut self, name: &str, now_us: u64) -> bool {
        match self.entries.get_mut(name) {
            Some(target) => (target.live < self.most && target.rate.ready(now_us)) || mutant::out(self.rule),
            None => self.new > 0 && self.most > 0 && self.has_room(now_us),
        }
    }

    fn entry(&mut self, name: &str) -> &mut Target {
        let new = self.new;
        self.entries.entry(name.into()).or_insert_with(|| Target { live: 0, rate: Rate::new(new) })
    }

    fn admit(&mut self, name: &str, now_us: u64) {
        self.entry(name).rate.admit(now_us);
    }

    fn opened(&mut self, name: &str) {
        let target = self.entry(name);
        target.live = target.live.saturating_add(1);
    }

    fn closed(&mut self, name: &str, now_us: u64) {
        let Some(target) = self.entries.get_mut(name) else { return };
        target.live = target.live.saturating_sub(1);
        if target.live == 0 && target.rate.is_idle(now_us) {
            self.entries.remove(name);
        }
    }

    fn has_room(&mut self, now_us: u64) -> bool {
        let due = self.swept_us.is_none_or(|last| now_us.saturating_sub(last) >= SWEEP_US);
        if self.entries.len() >= MAX_TARGETS && due {
            self.swept_us = Some(now_us);
            self.entries.retain(|_, target| !target.rate.is_idle(now_us) || target.live > 0);
        }
        self.entries.len() < MAX_TARGETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: PerTarget = PerTarget {
        max_connections_per_host: 3,
        max_connections_per_domain: 4,
        max_new_per_host_per_second: 5,
        max_new_per_domain_per_second: 6,
    };

    fn open(targets: &mut Targets, host: &str, now_us: u64) -> bool {
        let ready = targets.ready(host, now_us);
        if ready {
            targets.admit(host, now_us);
            targets.opened(host);
        }
        ready
    }

    #[test]
    fn connections_are_counted_by_host_and_by_domain() {
        let mut t = Targets::new(&CAPS);
        assert!((0..3).all(|i| open(&mut t, "a.example.com", i * 2_000_000)));
        let later = 10_000_000;
        assert!(!open(&mut t, "a.example.com", later), "three stand at the host");
        assert!(open(&mut t, "b.example.com", later));
        assert!(!open(&mut t, "c.example.com", later), "four stand at the domain");
        assert!(open(&mut t, "a.example.org", later), "another domain");
        assert!(open(&mut t, "a.example.co.uk", later) && open(&mut t, "b.other.co.uk", later));
        t.closed("a.example.com", later);
        assert!(open(&mut t, "c.example.com", later));
    }

    #[test]
    fn new_ones_are_counted_by_host_and_by_domain() {
        let mut t = Targets::new(&CAPS);
        let mut quick = |host: &str, now| {
            let opened = open(&mut t, host, now);
            if opened {
                t.closed(host, now);
            }
            opened
        };
        assert!((0..5).all(|i| quick("a.example.com", i)));
        assert!(!quick("a.example.com", 9), "five in this second");
        assert!(quick("b.example.com", 9));
        assert!(!quick("c.example.com", 9), "six at the domain");
        assert!(!quick("a.example.com", 999_999));
        assert!(quick("a.example.com", 1_000_000));
    }

    #[test]
    fn a_table_that_is_full_refuses_and_forgets_nobody_who_is_busy() {
        let wide =
            PerTarget { max_connections_per_domain: 9999, max_new_per_domain_per_second: 9999, ..CAPS };
        let mut t = Targets::new(&wide);
        assert!((0..3).all(|_| open(&mut t, "busy.example.com", 0)));
        for i in 1..MAX_TARGETS {
            let host = format!("h{i}.example.com");
            assert!(open(&mut t, &host, 0), "{i}");
            t.closed(&host, 0);
        }
        assert_eq!(t.hosts.entries.len(), MAX_TARGETS);
        assert!(!open(&mut t, "one.more.example.com", 999_999), "all began within the last second");
        assert!(open(&mut t, "one.more.example.com", 1_100_000), "now there is room");
        assert_eq!(t.hosts.entries.len(), 2, "the busy one is still counted");
        assert!(!open(&mut t, "busy.example.com", 1_100_000));
    }

    #[test]
    fn what_is_over_leaves_nothing_behind() {
        let mut t = Targets::new(&CAPS);
        for i in 0..100 {
            let host = format!("h{i}.example.com");
            assert!(open(&mut t, &host, i * 1_000_000));
            t.closed(&host, i * 1_000_000 + 1_000_000);
        }
        assert_eq!((t.hosts.entries.len(), t.domains.entries.len()), (0, 0));
    }

    #[test]
    fn lower_caps_name_the_newest_as_too_many() {
        let t = Targets::new(&CAPS);
        let hosts = ["a.x.org", "a.x.org", "b.x.org", "a.x.org", "b.x.org", "a.y.org"];
        assert_eq!(t.excess(hosts.into_iter()), [4]);
        let hosts = ["a.x.org"; 5];
        assert_eq!(t.excess(hosts.into_iter()), [3, 4]);
    }
}

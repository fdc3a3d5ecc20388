//! The rules in force for a session: the owner's and the coordinator's together.
use crate::config::Config;
use crate::coordinator::lists::InForce;
use crate::coordinator::orders::PolicyProfile;
use crate::mutant;
use crate::policy::categories;
use crate::policy::hosts::{BadName, DomainSet};
use crate::policy::lists::NameSet;
use crate::policy::refusal::Refusal;
use std::rc::Rc;

/// The lists of hosts that do not stand in the configuration itself.
#[derive(Clone, Debug, Default)]
pub struct HostLists {
    /// Of the owner's files: what is blocked.
    pub block: Rc<NameSet>,
    /// Of the owner's files: what is allowed; `None` without a file.
    pub allow: Option<Rc<NameSet>>,
    /// The coordinator's.
    pub coordinator: InForce,
}

/// What the owner's configuration says of hosts, ports and categories.
#[derive(Debug, Default)]
pub struct OwnerRules {
    allow: DomainSet,
    block: DomainSet,
    sensitive: DomainSet,
    lists: HostLists,
    opt_out: Vec<String>,
    lab_ports: Vec<u16>,
}

impl OwnerRules {
    /// From a valid configuration, whose names were checked when it was read, and the lists.
    pub fn new(config: &Config, lists: HostLists) -> Result<OwnerRules, BadName> {
        Ok(OwnerRules {
            sensitive: categories::denied(&config.policy.host_categories_allowed)?,
            lists,
            allow: DomainSet::new(&config.network.allowlist_domains)?,
            block: DomainSet::new(&config.network.blocklist_domains)?,
            opt_out: config.policy.category_opt_out.clone(),
            lab_ports: config.lab.ports.clone(),
        })
    }
}

/// The rules of one session.
#[derive(Debug)]
pub struct Rules {
    owner: Rc<OwnerRules>,
    allow: DomainSet,
    block: DomainSet,
    ports: Vec<u16>,
    alpn: Rc<[String]>,
    ech_deny: bool,
    relay: bool,
    lease: bool,
}

impl Rules {
    /// Joins both sides' rules. An error names a domain of the coordinator's that is no host name.
    pub fn new(owner: Rc<OwnerRules>, profile: &PolicyProfile) -> Result<Rules, BadName> {
        Ok(Rules {
            owner,
            allow: DomainSet::new(&profile.allow_domains)?,
            block: DomainSet::new(&profile.block_domains)?,
            ports: profile.allowed_ports.clone(),
            alpn: profile.alpn.clone().into(),
            ech_deny: profile.ech_deny,
            relay: profile.transports.iter().any(|t| t == "relay"),
            lease: profile.transports.iter().any(|t| t == "lease"),
        })
    }

    /// 443 only, and only if the session has it; in a lab build also the lab's ports.
    pub fn port_allowed(&self, port: u16) -> bool {
        let by_session = self.ports.is_empty() || self.ports.contains(&443);
        by_session && (port == 443 || self.owner.lab_ports.contains(&port))
    }

    /// Whether a block list has the host.
    pub fn blocked(&self, host: &str) -> bool {
        let lists = &self.owner.lists;
        self.owner.block.covers(host)
            || self.block.covers(host)
            || lists.block.covers(host)
            || lists.coordinator.blocks(host)
    }

    /// Whether both allow lists have the host; an empty one has all.
    pub fn allowed(&self, host: &str) -> bool {
        let owner = match (&self.owner.lists.allow, self.owner.allow.is_empty()) {
            (None, true) => true,
            (None, false) => self.owner.allow.covers(host),
            (Some(files), _) => files.covers(host) || self.owner.allow.covers(host),
        };
        owner && (self.allow.is_empty() || self.allow.covers(host))
    }

    /// Whether the owner has opted out of a category.
    pub fn opted_out(&self, category: &str) -> bool {
        self.owner.opt_out.iter().any(|c| c == category)
    }

    /// Whether the host is of a category that the owner does not allow.
    pub fn sensitive(&self, host: &str) -> bool {
        let ours = self.owner.sensitive.covers(host);
        let theirs = self.owner.lists.coordinator.sensitive(host);
        (ours || theirs) && !mutant::out("sensitive-host")
    }

    /// Whether a name that a host is an alias of may be reached. It is judged for what is forbidden only: an allow list
    /// names what buyers ask for.
    pub fn judge_alias(&self, name: &str) -> Result<(), Refusal> {
        if self.blocked(name) {
            Err(Refusal::DomainBlocked)
        } else if self.sensitive(name) {
            Err(Refusal::CategoryDenied)
        } else {
            Ok(())
        }
    }

    /// Application protocols that a ClientHello may offer.
    pub fn alpn(&self) -> Rc<[String]> {
        self.alpn.clone()
    }

    /// Whether the session may be carried by the relay at all.
    pub fn by_relay(&self) -> bool {
        self.relay
    }

    /// Whether the session may have leases.
    pub fn by_lease(&self) -> bool {
        self.lease
    }

    /// Whether these rules refuse some ClientHello that the others allow.
    pub fn stricter_on_hellos(&self, others: &Rules) -> bool {
        let dropped = |protocol: &String| !self.alpn.contains(protocol);
        others.alpn.iter().any(dropped) || (self.ech_deny && !others.ech_deny)
    }

    /// Whether any ECH extension is refused.
    pub fn ech_deny(&self) -> bool {
        self.ech_deny
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> DomainSet {
        DomainSet::new(names).unwrap()
    }

    fn rules(owner: OwnerRules, ports: &[u16], allow: &[&str], block: &[&str]) -> Rules {
        Rules {
            owner: Rc::new(owner),
            allow: set(allow),
            block: set(block),
            ports: ports.to_vec(),
            alpn: Rc::new([]),
            ech_deny: false,
            relay: true,
            lease: false,
        }
    }

    #[test]
    fn no_port_but_443_is_carried_whatever_a_session_names() {
        for ports in [&[][..], &[443], &[80, 443, 8443]] {
            let rules = rules(OwnerRules::default(), ports, &[], &[]);
            let allowed: Vec<u16> = (0..=u16::MAX).filter(|p| rules.port_allowed(*p)).collect();
            assert_eq!(allowed, [443], "{ports:?}");
        }
        let lab = OwnerRules { lab_ports: vec![8443], ..OwnerRules::default() };
        assert!(rules(lab, &[], &[], &[]).port_allowed(8443));
        assert!(!rules(OwnerRules::default(), &[8443], &[], &[]).port_allowed(443));
    }

    #[test]
    fn both_sides_lists_hold() {
        let owner =
            OwnerRules { allow: set(&["a.test"]), block: set(&["x.a.test"]), ..OwnerRules::default() };
        let rules = rules(owner, &[], &["b.a.test", "c.test"], &["y.b.a.test"]);
        assert!(rules.allowed("b.a.test"));
        assert!(!rules.allowed("a.test"), "the session's list has less");
        assert!(!rules.allowed("c.test"), "the owner's has it not");
        assert!(rules.blocked("x.a.test") && rules.blocked("y.b.a.test") && !rules.blocked("b.a.test"));
    }

    fn names(text: &str) -> NameSet {
        let mut importer = crate::policy::lists::Importer::default();
        importer.feed(text.as_bytes());
        importer.finish()
    }

    #[test]
    fn the_owners_files_hold_beside_the_configuration() {
        let lists = |allow: Option<&str>| HostLists {
            block: Rc::new(names("ads.test\n=exact.test")),
            allow: allow.map(|text| Rc::new(names(text))),
            ..HostLists::default()
        };
        let with = |allow: &[&str], files| {
            let owner = OwnerRules { allow: set(allow), lists: lists(files), ..OwnerRules::default() };
            rules(owner, &[], &[], &[])
        };
        let plain = with(&[], None);
        assert!(plain.blocked("x.ads.test") && plain.blocked("exact.test") && !plain.blocked("x.exact.test"));
        assert!(plain.allowed("any.test"));
        let both = with(&["a.test"], Some("b.test"));
        assert!(both.allowed("a.test") && both.allowed("b.test") && !both.allowed("c.test"));
        let nothing = with(&[], Some(""));
        assert!(!nothing.allowed("a.test"), "an empty file allows nothing");
    }

    #[test]
    fn sensitive_hosts_are_denied_unless_the_owner_allows_their_category() {
        let text = |allowed: &str| {
            let text = format!("version: 1\npolicy: {{ hostCategoriesAllowed: {allowed} }}\n");
            let config = crate::config::parse(
                text.as_bytes(),
                crate::config::Face::Yaml,
                crate::config::Platform::Other,
            );
            rules(OwnerRules::new(&config.unwrap(), HostLists::default()).unwrap(), &[], &[], &[])
        };
        assert!(text("[]").sensitive("mail.google.com") && text("[]").sensitive("www.chase.com"));
        assert!(!text("[mail]").sensitive("mail.google.com") && text("[mail]").sensitive("www.chase.com"));
        assert!(!text("[]").sensitive("example.com"));
    }

    #[test]
    fn opting_out_is_by_category() {
        let owner = OwnerRules { opt_out: vec!["qa".into()], ..OwnerRules::default() };
        let rules = rules(owner, &[], &[], &[]);
        assert!(rules.opted_out("qa") && !rules.opted_out("ad-verification"));
    }
}

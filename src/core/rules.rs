//! The rules in force for a session: the owner's and the coordinator's together.
use crate::config::Config;
use crate::coordinator::orders::PolicyProfile;
use crate::policy::hosts::{BadName, DomainSet};
use std::rc::Rc;

/// What the owner's configuration says of hosts, ports and categories.
#[derive(Debug, Default)]
pub struct OwnerRules {
    allow: DomainSet,
    block: DomainSet,
    opt_out: Vec<String>,
    lab_ports: Vec<u16>,
}

impl OwnerRules {
    /// From a valid configuration; its names were checked when it was read.
    pub fn new(config: &Config) -> Result<OwnerRules, BadName> {
        Ok(OwnerRules {
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
        })
    }

    /// 443 only, and only if the session has it; in a lab build also the lab's ports.
    pub fn port_allowed(&self, port: u16) -> bool {
        let by_session = self.ports.is_empty() || self.ports.contains(&443);
        by_session && (port == 443 || self.owner.lab_ports.contains(&port))
    }

    /// Whether a block list has the host.
    pub fn blocked(&self, host: &str) -> bool {
        self.owner.block.covers(host) || self.block.covers(host)
    }

    /// Whether both allow lists have the host; an empty one has all.
    pub fn allowed(&self, host: &str) -> bool {
        [&self.owner.allow, &self.allow].iter().all(|list| list.is_empty() || list.covers(host))
    }

    /// Whether the owner has opted out of a category.
    pub fn opted_out(&self, category: &str) -> bool {
        self.owner.opt_out.iter().any(|c| c == category)
    }

    /// Application protocols that a ClientHello may offer.
    pub fn alpn(&self) -> Rc<[String]> {
        self.alpn.clone()
    }

    /// Whether the session may be carried by the relay at all.
    pub fn by_relay(&self) -> bool {
        self.relay
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

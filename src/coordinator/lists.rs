//! The coordinator's lists of hosts: which it wants, which are in force.
//!
//! A list named `category:…` is one of hosts of a sensitive category, every other one a block list. Until each list of
//! the registration has been in force once, every host is blocked: what is not known cannot be kept to. A later version
//! that cannot be loaded leaves the earlier one in force.
use super::wire::ListRef;
use crate::mutant;
use crate::policy::lists::NameSet;
use crate::signed::{self, Kind, PublicKey};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// Most lists of a coordinator.
pub const MAX_LISTS: usize = 8;
/// Largest list, bytes.
pub const MAX_BYTES: u64 = 16 << 20;
/// How the names of lists of sensitive hosts begin.
const CATEGORY: &str = "category:";

/// The lists that requests are judged by.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    block: Vec<Rc<NameSet>>,
    sensitive: Vec<Rc<NameSet>>,
    waiting: bool,
}

impl InForce {
    /// Whether a host, in normal form, is blocked.
    pub fn blocks(&self, host: &str) -> bool {
        self.waiting || self.block.iter().any(|list| list.covers(host))
    }

    /// Whether a host is of a sensitive category.
    pub fn sensitive(&self, host: &str) -> bool {
        self.sensitive.iter().any(|list| list.covers(host))
    }
}

/// Why a list of the registration is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Its signature is not the coordinator's.
    Signature(String),
    /// Its version is lower than the one in force.
    Older(String),
    /// The same name stands twice.
    Twice(String),
    /// There are more than [`MAX_LISTS`].
    TooMany,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Signature(name) => write!(f, "list {name:?} is not signed by the coordinator"),
            Unusable::Older(name) => write!(f, "list {name:?} has a lower version than the one in force"),
            Unusable::Twice(name) => write!(f, "list {name:?} stands twice in the registration's answer"),
            Unusable::TooMany => write!(f, "there are more than {MAX_LISTS} lists"),
        }
    }
}

/// What the coordinator wants and what of it is here.
#[derive(Debug, Default)]
pub struct Lists {
    wanted: Vec<ListRef>,
    /// One that must not be used stands in the registration: nothing is known of what it has.
    unusable: Vec<String>,
    here: BTreeMap<String, Here>,
}

#[derive(Debug)]
struct Here {
    version: String,
    hash: String,
    set: Rc<NameSet>,
}

impl Lists {
    /// The node has registered: these are the lists. What is wrong with some of them.
    pub fn registered(&mut self, lists: Vec<ListRef>, coordinator: Option<&PublicKey>) -> Vec<Unusable> {
        let mut wrong = Vec::new();
        self.wanted.clear();
        self.unusable.clear();
        for list in lists {
            match self.fault(&list, coordinator) {
                None => self.wanted.push(list),
                Some(fault) => {
                    self.unusable.push(list.name);
                    wrong.push(fault);
                }
            }
        }
        let named =
            |name: &String| self.wanted.iter().any(|l| l.name == *name) || self.unusable.contains(name);
        self.here.retain(|name, _| named(name));
        for list in &self.wanted {
            if let Some(here) = self.here.get_mut(&list.name).filter(|h| h.hash == list.hash) {
                here.version.clone_from(&list.version);
            }
        }
        wrong
    }

    fn fault(&self, list: &ListRef, coordinator: Option<&PublicKey>) -> Option<Unusable> {
        let genuine = coordinator.is_some_and(|key| signed::verify(Kind::List, &list.raw, key));
        let before = self.here.get(&list.name).map(|h| &h.version);
        if !genuine && !mutant::out("list-signature") {
            Some(Unusable::Signature(list.name.clone()))
        } else if before.is_some_and(|before| is_older(&list.version, before)) && !mutant::out("list-version")
        {
            Some(Unusable::Older(list.name.clone()))
        } else if self.wanted.iter().any(|l| l.name == list.name) && !mutant::out("list-once") {
            Some(Unusable::Twice(list.name.clone()))
        } else {
            (self.wanted.len() >= MAX_LISTS && !mutant::out("list-count")).then_some(Unusable::TooMany)
        }
    }

    /// The next list that has to be fetched, after `tried` of those that have.
    pub fn missing(&self, tried: usize) -> Option<&ListRef> {
        let here = |l: &&ListRef| self.here.get(&l.name).is_some_and(|h| h.hash == l.hash);
        self.wanted.iter().filter(|l| !here(l)).nth(tried)
    }

    /// A list has come, and its hash is the one that was signed. False if it is wanted no longer.
    pub fn loaded(&mut self, list: &ListRef, set: NameSet) -> bool {
        let wanted = self.wanted.contains(list);
        if wanted {
            let here = Here { version: list.version.clone(), hash: list.hash.clone(), set: Rc::new(set) };
            self.here.insert(list.name.clone(), here);
        }
        wanted
    }

    /// What requests are judged by now.
    pub fn in_force(&self) -> InForce {
        let of = |category: bool| {
            let kind = |name: &str| name.starts_with(CATEGORY) == category;
            self.here.iter().filter(|(name, _)| kind(name)).map(|(_, here)| here.set.clone()).collect()
        };
        let named = self.wanted.iter().map(|l| &l.name).chain(&self.unusable);
        let mut missing = named.filter(|name| !self.here.contains_key(*name));
        InForce { block: of(false), sensitive: of(true), waiting: missing.next().is_some() }
    }
}

/// Versions are opaque, but for whole numbers, which are taken to count upwards.
fn is_older(version: &str, before: &str) -> bool {
    match (version.parse::<u64>(), before.parse::<u64>()) {
        (Ok(version), Ok(before)) => version < before,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Value, object};
    use crate::policy::lists::Importer;
    use crate::signed::NodeKey;

    fn key(seed: u8) -> NodeKey {
        NodeKey::from_seed(&[seed; 32]).unwrap()
    }

    fn list(name: &str, version: &str, hash: &str, signer: &NodeKey) -> ListRef {
        let members = [("name", name), ("version", version), ("url", "https://l.test/x"), ("hash", hash)];
        let mut raw: Value = object(members.map(|(n, v)| (n, Value::from(v))));
        signed::sign(Kind::List, &mut raw, signer);
        let text = |t: &str| t.to_owned();
        ListRef {
            name: text(name),
            version: text(version),
            url: text("https://l.test/x"),
            hash: text(hash),
            raw,
        }
    }

    fn set(names: &str) -> NameSet {
        let mut importer = Importer::default();
        importer.feed(names.as_bytes());
        importer.finish()
    }

    #[test]
    fn until_a_list_is_here_everything_is_blocked() {
        let (mut lists, coordinator) = (Lists::default(), key(1));
        assert!(!lists.in_force().blocks("a.test"));
        let (ads, mail) =
            (list("ads", "1", "b3:1", &coordinator), list("category:mail", "1", "b3:2", &coordinator));
        assert_eq!(lists.registered(vec![ads.clone(), mail.clone()], Some(&coordinator.public())), []);
        assert!(lists.in_force().blocks("a.test"));
        assert_eq!((lists.missing(0), lists.missing(1), lists.missing(2)), (Some(&ads), Some(&mail), None));
        assert!(lists.loaded(&ads, set("ads.test")));
        assert!(lists.in_force().blocks("a.test"), "the other one is missing");
        assert!(lists.loaded(&mail, set("mail.test")));
        let now = lists.in_force();
        assert!(now.blocks("x.ads.test") && !now.blocks("a.test") && !now.blocks("mail.test"));
        assert!(now.sensitive("mail.test") && !now.sensitive("ads.test"));
        assert_eq!(lists.missing(0), None);
    }

    #[test]
    fn an_earlier_version_stays_in_force_until_the_later_one_is_here() {
        let (mut lists, coordinator) = (Lists::default(), key(1));
        let one = list("ads", "9", "b3:1", &coordinator);
        lists.registered(vec![one.clone()], Some(&coordinator.public()));
        lists.loaded(&one, set("one.test"));
        let two = list("ads", "10", "b3:2", &coordinator);
        assert_eq!(lists.registered(vec![two.clone()], Some(&coordinator.public())), []);
        let between = lists.in_force();
        assert!(between.blocks("one.test") && !between.blocks("two.test"));
        assert!(!lists.loaded(&one, set("")), "it is wanted no longer");
        lists.loaded(&two, set("two.test"));
        assert!(!lists.in_force().blocks("one.test") && lists.in_force().blocks("two.test"));
        assert_eq!(lists.registered(vec![one], Some(&coordinator.public())), [Unusable::Older("ads".into())]);
        assert!(lists.in_force().blocks("two.test") && !lists.in_force().blocks("one.test"));
        let same_content = list("ads", "12", "b3:2", &coordinator);
        lists.registered(vec![same_content], Some(&coordinator.public()));
        let between = list("ads", "11", "b3:3", &coordinator);
        assert_eq!(
            lists.registered(vec![between], Some(&coordinator.public())),
            [Unusable::Older("ads".into())]
        );
        lists.registered(vec![], Some(&coordinator.public()));
        assert!(!lists.in_force().blocks("two.test"), "the coordinator has taken it back");
    }

    #[test]
    fn what_is_not_signed_or_stands_twice_is_not_fetched_and_not_passed_over() {
        let (mut lists, coordinator) = (Lists::default(), key(1));
        let forged = list("ads", "1", "b3:1", &key(9));
        let wrong = lists.registered(vec![forged.clone()], Some(&coordinator.public()));
        assert_eq!(wrong, [Unusable::Signature("ads".into())]);
        assert!(lists.missing(0).is_none() && lists.in_force().blocks("a.test"));
        assert_eq!(lists.registered(vec![forged], None), [Unusable::Signature("ads".into())]);
        let twice = vec![list("a", "1", "b3:1", &coordinator), list("a", "2", "b3:2", &coordinator)];
        assert_eq!(lists.registered(twice, Some(&coordinator.public())), [Unusable::Twice("a".into())]);
        let many: Vec<ListRef> =
            (0..=MAX_LISTS).map(|n| list(&n.to_string(), "1", "b3:1", &coordinator)).collect();
        assert_eq!(lists.registered(many, Some(&coordinator.public())), [Unusable::TooMany]);
        assert!(lists.in_force().blocks("a.test"));
    }

    #[test]
    fn only_whole_numbers_count_upwards() {
        assert!(is_older("9", "10") && !is_older("10", "9") && !is_older("10", "10"));
        assert!(!is_older("a", "b") && !is_older("2026-01", "2026-02"));
    }
}

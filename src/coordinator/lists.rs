//! The coordinator's lists of hosts: which it wants, which are in force.
//!
//! A list named `category:…` is one of hosts of a sensitive category, every other one a block list. Until each list of
//! the registration has been in force once, every host is blocked: what is not known cannot be kept to. A later version
//! that cannot be loaded leaves the earlier one in force. A version lower than one that was seen, also before the list was
//! withdrawn or the node restarted, is an old list played again.
use super::list_versions::{Version, Versions};
use super::wire::ListRef;
use crate::encoding::base64;
use crate::mutant;
use crate::policy::lists::NameSet;
use crate::signed::{self, Kind, PublicKey};
use crate::sorted::SortedMap;
use std::fmt;
use std::rc::Rc;

/// Most lists of a coordinator.
pub const MAX_LISTS: usize = 8;
/// Largest list, bytes.
pub const MAX_BYTES: u64 = 16 << 20;
/// Longest name of a list, bytes.
pub const MAX_NAME: usize = 128;
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
    /// Its version is lower than the highest one that was seen: both.
    Older(String, String, String),
    /// Its version has no order.
    Version(String, String),
    /// Its name is longer than [`MAX_NAME`].
    Name,
    /// The same name stands twice.
    Twice(String),
    /// There are more than [`MAX_LISTS`].
    TooMany,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Signature(name) => write!(f, "list {name:?} is not signed by the coordinator"),
            Unusable::Older(name, version, seen) => write!(
                f,
                "list {name:?} has version {version}, but {seen} was seen before: the coordinator must sign a higher one"
            ),
            Unusable::Version(name, version) => write!(
                f,
                "list {name:?} has version {version:?}, which has no order: the coordinator must sign whole numbers"
            ),
            Unusable::Name => write!(f, "a list has a name of more than {MAX_NAME} bytes"),
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
    here: SortedMap<String, Here>,
}

#[derive(Debug)]
struct Here {
    hash: String,
    set: Rc<NameSet>,
}

impl Lists {
    /// The node has registered: these are the lists. What is wrong with some of them.
    pub fn registered(
        &mut self,
        lists: Vec<ListRef>,
        coordinator: Option<&PublicKey>,
        seen: &Versions,
    ) -> Vec<Unusable> {
        let mut wrong = Vec::new();
        self.wanted.clear();
        self.unusable.clear();
        for list in lists {
            match self.fault(&list, coordinator, seen) {
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
        wrong
    }

    /// The lists that are used, or will be.
    pub fn wanted(&self) -> &[ListRef] {
        &self.wanted
    }

    fn fault(&self, list: &ListRef, coordinator: Option<&PublicKey>, seen: &Versions) -> Option<Unusable> {
        let genuine = coordinator.is_some_and(|key| signed::verify(Kind::List, &list.raw, key));
        if !genuine && !mutant::out("list-signature") {
            return Some(Unusable::Signature(list.name.clone()));
        }
        if list.name.len() > MAX_NAME {
            return Some(Unusable::Name);
        }
        let before = coordinator.and_then(|key| seen.of(&base64(key.as_bytes()), &list.name));
        if let Some(fault) = version_fault(list, before).filter(|_| !mutant::out("list-version")) {
            return Some(fault);
        }
        if self.wanted.iter().any(|l| l.name == list.name) && !mutant::out("list-once") {
            return Some(Unusable::Twice(list.name.clone()));
        }
        (self.wanted.len() >= MAX_LISTS && !mutant::out("list-count")).then_some(Unusable::TooMany)
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
            let here = Here { hash: list.hash.clone(), set: Rc::new(set) };
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

/// What is wrong with a list's version, after `before`.
fn version_fault(list: &ListRef, before: Option<&str>) -> Option<Unusable> {
    let Some(version) = Version::parse(&list.version) else {
        return Some(Unusable::Version(list.name.clone(), list.version.chars().take(MAX_NAME).collect()));
    };
    let before = before.filter(|before| Version::parse(before).is_some_and(|before| version < before))?;
    Some(Unusable::Older(list.name.clone(), list.version.clone(), before.to_owned()))
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
        assert_eq!(
            lists.registered(
                vec![ads.clone(), mail.clone()],
                Some(&coordinator.public()),
                &Versions::default()
            ),
            []
        );
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

    /// A registration, after which what was seen is noted.
    fn named(
        lists: &mut Lists,
        seen: &mut Versions,
        named: Vec<ListRef>,
        coordinator: &NodeKey,
    ) -> Vec<Unusable> {
        let wrong = lists.registered(named, Some(&coordinator.public()), seen);
        let by = base64(coordinator.public().as_bytes());
        for list in seen.clone().news(&by, lists.wanted()) {
            seen.note(&by, &list.name, &list.version);
        }
        wrong
    }

    fn older(version: &str, seen: &str) -> [Unusable; 1] {
        [Unusable::Older("ads".into(), version.into(), seen.into())]
    }

    #[test]
    fn an_earlier_version_stays_in_force_until_the_later_one_is_here() {
        let (mut lists, mut seen, coordinator) = (Lists::default(), Versions::default(), key(1));
        let one = list("ads", "9", "b3:1", &coordinator);
        named(&mut lists, &mut seen, vec![one.clone()], &coordinator);
        lists.loaded(&one, set("one.test"));
        let two = list("ads", "10", "b3:2", &coordinator);
        assert_eq!(named(&mut lists, &mut seen, vec![two.clone()], &coordinator), []);
        let between = lists.in_force();
        assert!(between.blocks("one.test") && !between.blocks("two.test"));
        assert!(!lists.loaded(&one, set("")), "it is wanted no longer");
        lists.loaded(&two, set("two.test"));
        assert!(!lists.in_force().blocks("one.test") && lists.in_force().blocks("two.test"));
        assert_eq!(named(&mut lists, &mut seen, vec![one], &coordinator), older("9", "10"));
        assert!(lists.in_force().blocks("two.test") && !lists.in_force().blocks("one.test"));
        let same_content = list("ads", "12", "b3:2", &coordinator);
        assert_eq!(named(&mut lists, &mut seen, vec![same_content], &coordinator), []);
        let between = list("ads", "11", "b3:3", &coordinator);
        assert_eq!(named(&mut lists, &mut seen, vec![between], &coordinator), older("11", "12"));
        named(&mut lists, &mut seen, vec![], &coordinator);
        assert!(!lists.in_force().blocks("two.test"), "the coordinator has taken it back");
    }

    #[test]
    fn an_old_list_played_again_is_refused_after_a_withdrawal_and_a_restart() {
        let (mut lists, mut seen, coordinator) = (Lists::default(), Versions::default(), key(1));
        let (old, new) =
            (list("ads", "1.9", "b3:1", &coordinator), list("ads", "1.10", "b3:2", &coordinator));
        assert_eq!(named(&mut lists, &mut seen, vec![new.clone()], &coordinator), []);
        named(&mut lists, &mut seen, vec![], &coordinator);
        assert_eq!(named(&mut lists, &mut seen, vec![old.clone()], &coordinator), older("1.9", "1.10"));
        assert!(lists.in_force().blocks("a.test"), "it counts as missing");
        let mut lists = Lists::default();
        assert_eq!(named(&mut lists, &mut seen, vec![old], &coordinator), older("1.9", "1.10"));
        assert!(lists.missing(0).is_none() && lists.in_force().blocks("a.test"));
        assert_eq!(named(&mut lists, &mut seen, vec![new], &coordinator), []);
        let other = key(7);
        let first = list("ads", "1", "b3:1", &other);
        assert_eq!(named(&mut lists, &mut seen, vec![first], &other), [], "another coordinator's first");
    }

    #[test]
    fn a_version_without_an_order_or_a_long_name_is_refused() {
        let (mut lists, coordinator) = (Lists::default(), key(1));
        let mut wrong = |name: &str, version| {
            let named = vec![list(name, version, "b3:1", &coordinator)];
            lists.registered(named, Some(&coordinator.public()), &Versions::default())
        };
        assert_eq!(wrong("ads", "deadbeef"), [Unusable::Version("ads".into(), "deadbeef".into())]);
        assert_eq!(wrong(&"n".repeat(MAX_NAME), "1"), []);
        assert_eq!(wrong(&"n".repeat(MAX_NAME + 1), "1"), [Unusable::Name]);
        assert!(lists.in_force().blocks("a.test"));
    }

    #[test]
    fn what_is_not_signed_or_stands_twice_is_not_fetched_and_not_passed_over() {
        let (mut lists, coordinator) = (Lists::default(), key(1));
        let forged = list("ads", "1", "b3:1", &key(9));
        let wrong = lists.registered(vec![forged.clone()], Some(&coordinator.public()), &Versions::default());
        assert_eq!(wrong, [Unusable::Signature("ads".into())]);
        assert!(lists.missing(0).is_none() && lists.in_force().blocks("a.test"));
        assert_eq!(
            lists.registered(vec![forged], None, &Versions::default()),
            [Unusable::Signature("ads".into())]
        );
        let twice = vec![list("a", "1", "b3:1", &coordinator), list("a", "2", "b3:2", &coordinator)];
        assert_eq!(
            lists.registered(twice, Some(&coordinator.public()), &Versions::default()),
            [Unusable::Twice("a".into())]
        );
        let many: Vec<ListRef> =
            (0..=MAX_LISTS).map(|n| list(&n.to_string(), "1", "b3:1", &coordinator)).collect();
        assert_eq!(
            lists.registered(many, Some(&coordinator.public()), &Versions::default()),
            [Unusable::TooMany]
        );
        assert!(lists.in_force().blocks("a.test"));
    }
}

//! The node's lists of hosts: the owner's files and the coordinator's.
use super::durable;
use super::list_files::OwnLists;
use super::node::Node;
use super::rules::OwnerRules;
use super::session::Session;
use crate::config::Config;
use crate::coordinator::wire::ListRef;
use crate::encoding::base64;
use crate::json::Value;
use crate::policy::hosts::BadName;
use crate::policy::lists::NameSet;
use std::rc::Rc;

impl Node {
    /// Whether the owner's files are not those that were read.
    pub fn own_lists_differ(&self, config: &Config) -> bool {
        self.own_lists.borrow().1.differ(config)
    }

    /// The owner's files were read: live flows are judged by them at once.
    pub fn set_own_lists(&self, lists: OwnLists) {
        *self.own_lists.borrow_mut() = lists.into_rules();
        self.lists_changed();
    }

    /// The coordinator's list that has to be fetched next, after `tried` that could not be.
    pub fn missing_list(&self, tried: usize) -> Option<ListRef> {
        self.lists.borrow().missing(tried).cloned()
    }

    /// A list of the coordinator's has come.
    pub fn list_loaded(&self, list: &ListRef, set: NameSet) {
        if self.lists.borrow_mut().loaded(list, set) {
            self.lists_changed();
        }
    }

    /// The registration names these lists.
    pub(super) fn lists_named(&self, lists: Vec<ListRef>) {
        let key = self.coordinator_key();
        let wrong = self.lists.borrow_mut().registered(lists, key.as_ref(), &self.durable.borrow().lists);
        if let Some(key) = key {
            self.note_versions(&base64(key.as_bytes()));
        }
        match wrong.first() {
            Some(first) => self.alert("list-refused", &format!("{first}; nothing is carried without it.")),
            None => self.clear_alert("list-refused"),
        }
        self.lists_changed();
        if self.missing_list(0).is_some() {
            self.tell(|s| s.lists_wanted());
        } else {
            // A list that could not be had is wanted no longer.
            self.clear_alert("list-unavailable");
        }
    }

    /// Remembers the versions of the lists that are wanted, if there is news.
    fn note_versions(&self, by: &str) {
        let records: Vec<Value> = {
            let (durable, lists) = (self.durable.borrow(), self.lists.borrow());
            let news = durable.lists.news(by, lists.wanted());
            news.into_iter().map(|l| durable::list(by, &l.name, &l.version)).collect()
        };
        if !records.is_empty() {
            self.note(records);
        }
    }

    /// The owner's rules of a configuration, with the lists as they are.
    pub(super) fn rules_of(&self, config: &Config) -> Result<OwnerRules, BadName> {
        let mut lists = self.own_lists.borrow().0.clone();
        lists.coordinator = self.lists.borrow().in_force();
        OwnerRules::new(config, lists)
    }

    fn lists_changed(&self) {
        match self.rules_of(&self.config()) {
            Ok(rules) => self.set_owner_rules(rules),
            Err(e) => return crate::error!("{e}"),
        }
        let sessions: Vec<Rc<Session>> = self.sessions.borrow().values().cloned().collect();
        sessions.iter().for_each(|s| self.apply_rules(s));
        self.ledger.ring();
    }
}

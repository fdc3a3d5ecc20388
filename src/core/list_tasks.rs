//! Reads the owner's files of hosts and fetches the coordinator's lists, beside everything else.
use super::list_files::OwnLists;
use super::node::Node;
use crate::coordinator::list_fetch::ListFetcher;
use crate::coordinator::node::Node as _;
use async_executor::{LocalExecutor, Task};
use async_io::Timer;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// First pause after a list that could not be loaded, and the longest.
const PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The tasks; a new one takes the place of its predecessor.
pub struct ListTasks {
    executor: Rc<LocalExecutor<'static>>,
    node: Rc<Node>,
    files: RefCell<Option<Task<()>>>,
    lists: RefCell<Option<Task<()>>>,
}

impl ListTasks {
    /// Nothing is read yet.
    pub fn new(executor: Rc<LocalExecutor<'static>>, node: Rc<Node>) -> ListTasks {
        ListTasks { executor, node, files: RefCell::default(), lists: RefCell::default() }
    }

    /// Reads the owner's files if they are others now. Until they have been read, and if they cannot be, what was read
    /// before stays in force.
    pub fn read_files(&self) {
        let config = self.node.config();
        if !self.node.own_lists_differ(&config) {
            return;
        }
        let node = self.node.clone();
        let task = async move {
            let wanted = (*config).clone();
            match blocking::unblock(move || OwnLists::load(&wanted)).await {
                Ok(lists) => {
                    node.clear_alert("list-unreadable");
                    node.set_own_lists(lists);
                }
                Err(e) => {
                    node.alert("list-unreadable", &format!("{e}; the lists read before stay in force."))
                }
            }
        };
        *self.files.borrow_mut() = Some(self.executor.spawn(task));
    }

    /// Fetches the coordinator's lists that are not here, again and again until they are.
    pub fn fetch(&self, fetcher: ListFetcher) {
        let node = self.node.clone();
        let task = async move {
            let mut pause = PAUSE;
            while !fetch_all(&node, &fetcher).await {
                Timer::after(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        *self.lists.borrow_mut() = Some(self.executor.spawn(task));
    }
}

/// One round; whether nothing is missing after it.
async fn fetch_all(node: &Node, fetcher: &ListFetcher) -> bool {
    let mut failed = 0;
    while let Some(list) = node.missing_list(failed) {
        match fetcher.fetch(&list, &|address| node.is_allowed(address)).await {
            Ok((set, report)) => {
                crate::info!("list {:?} version {}: {report}", list.name, list.version);
                node.list_loaded(&list, set);
            }
            Err(why) => {
                failed += 1;
                node.alert("list-unavailable", &format!("The coordinator's list {:?}: {why}.", list.name));
            }
        }
    }
    if failed == 0 {
        node.clear_alert("list-unavailable");
    }
    failed == 0
}

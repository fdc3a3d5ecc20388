//! Services that do nothing.
use crate::config::Config;
use crate::core::services::{Machine, Services};
use crate::relay::admission::Counts;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;

/// What the node asks for is written down; nothing is done.
#[derive(Default)]
pub struct FakeServices {
    pub calls: RefCell<Vec<&'static str>>,
    /// Microseconds of processor time that the process is said to have used.
    pub cpu_us: Cell<u64>,
    pub strangers: Cell<Counts>,
}

impl FakeServices {
    fn note(&self, call: &'static str) {
        self.calls.borrow_mut().push(call);
    }
}

impl Services for FakeServices {
    fn is_allowed(&self, _: IpAddr) -> bool {
        true
    }
    fn certificate(&self, _: &str) {
        self.note("certificate");
    }
    fn registered(&self) {
        self.note("registered");
    }
    fn lists_wanted(&self) {
        self.note("lists");
    }
    fn outbox_changed(&self) {
        self.note("outbox");
    }
    fn state_changed(&self) {
        self.note("state");
    }
    fn config_changed(&self, _: &Config, _: &Config) {
        self.note("config");
    }
    fn ways_changed(&self) {
        self.note("ways");
    }
    fn wan(&self, _: Option<&crate::policy::wan::Wan>) {
        self.note("wan");
    }
    fn strangers(&self) -> Counts {
        self.strangers.get()
    }
    fn region_wanted(&self, _: &std::path::Path, _: IpAddr) {
        self.note("region");
    }
    fn machine(&self) -> Machine {
        let (board, kernel) = ("test-board".to_owned(), "6.1".to_owned());
        Machine { board, kernel, rss_kb: 4096, cpu_us: self.cpu_us.get() }
    }
}

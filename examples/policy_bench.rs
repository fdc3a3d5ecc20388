//! What a decision costs: `policy_bench NAMES DECISIONS` makes a block list of so many names from a hosts file's text,
//! then judges so many requests by it, the owner's rules, a profile, the session's limits and the address guard. The
//! difference between two counts of DECISIONS under callgrind is the decisions' own; the process's peak memory is told.
use echomesh::config::{Config, Platform, from_value};
use echomesh::coordinator::profile::PolicyProfile;
use echomesh::core::rules::{HostLists, OwnerRules, Rules};
use echomesh::json;
use echomesh::policy::addresses::AddressGuard;
use echomesh::policy::decision::{Standing, admit};
use echomesh::policy::lists::{Importer, NameSet};
use echomesh::policy::refusal::Refusal;
use echomesh::session::Target;
use echomesh::session::allowance::Allowance;
use std::cell::RefCell;
use std::error::Error;
use std::net::IpAddr;
use std::rc::Rc;

/// Microseconds between two requests, so that no limit of a second is met.
const STEP_US: u64 = 100_000;

struct Buyer {
    rules: Rules,
    allowance: RefCell<(Allowance, u64)>,
}

impl Standing for Buyer {
    fn node(&self) -> Option<Refusal> {
        None
    }
    fn session_open(&self) -> bool {
        true
    }
    fn way_open(&self) -> bool {
        true
    }
    fn port_allowed(&self, port: u16) -> bool {
        self.rules.port_allowed(port)
    }
    fn blocked(&self, host: &str) -> bool {
        self.rules.blocked(host)
    }
    fn allowed(&self, host: &str) -> bool {
        self.rules.allowed(host)
    }
    fn category_denied(&self, host: &str) -> bool {
        self.rules.opted_out("qa") || self.rules.sensitive(host)
    }
    fn take_place(&self, host: &str) -> Result<(), u32> {
        let (allowance, now_us) = &mut *self.allowance.borrow_mut();
        *now_us += STEP_US;
        allowance.take_place(host, 3, *now_us)
    }
    fn quota_wait(&self) -> Option<u32> {
        None
    }
}

fn list(names: usize) -> NameSet {
    let mut importer = Importer::default();
    for n in 0..names {
        importer.feed(format!("0.0.0.0 ads{n}.tracker{}.example\n", n % 5000).as_bytes());
    }
    importer.finish()
}

/// Kilobytes (1024) of a line of `/proc/self/status`.
fn memory(name: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with(name)).ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = |at: usize| -> Result<usize, Box<dyn Error>> {
        Ok(std::env::args().nth(at).ok_or("policy_bench NAMES DECISIONS")?.parse()?)
    };
    let (names, decisions) = (count(1)?, count(2)?);
    let before = memory("VmRSS:")?;
    let block = list(names);
    let (bytes, peak, after) = (block.bytes(), memory("VmHWM:")?, memory("VmRSS:")?);
    println!(
        "{names} names: {bytes} bytes, resident {} kB more, {} kB at the most",
        after - before,
        peak - before
    );
    let config: Config = from_value(&json::parse(br#"{"version":1}"#)?, Platform::Other)?;
    let lists = HostLists { block: Rc::new(block), ..HostLists::default() };
    let profile = PolicyProfile {
        name: "p".into(),
        allow_domains: Vec::new(),
        block_domains: vec!["blocked.example".into()],
        allowed_ports: vec![443],
        alpn: vec!["h2".into(), "http/1.1".into()],
        transports: vec!["relay".into()],
        ech_deny: false,
    };
    let rules = Rules::new(Rc::new(OwnerRules::new(&config, lists)?), &profile)?;
    let allowance = Allowance::new(config.network.per_session.clone(), 0);
    let buyer = Buyer { rules, allowance: RefCell::new((allowance, 0)) };
    let mut guard = AddressGuard::default();
    guard.refresh(vec![([192, 168, 1, 1].into(), 24), ([84, 1, 2, 3].into(), 32)], 0);
    let hosts: Vec<String> = (0..256).map(|n| format!("www.shop{n}.example.com")).collect();
    let mut passed = 0usize;
    for host in hosts.iter().cycle().take(decisions) {
        let target = Target { host: host.clone(), port: 443, literal: None };
        let address = IpAddr::from([93, 184, 216, 34]);
        passed += usize::from(admit(Ok(&target), &buyer).is_ok() && guard.judge(address).is_ok());
    }
    println!("{passed} of {decisions} requests passed");
    Ok(())
}

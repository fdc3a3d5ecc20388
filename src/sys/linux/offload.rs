//! What this machine offers to carry leases: asked of the kernel, which does none of it, and read from its files.
use super::netlink::Tables;
use crate::guard::expr::Expr;
use crate::guard::lease_count::Places;
use crate::guard::lease_rules::{LeaseScope, QUEUE, render};
use crate::guard::network::Network;
use crate::guard::offload::{self, Facts, Link, Others, devices, pppoe_devices};
use crate::guard::table::{Chain, Flowtable, Hook, Place, Table};
use crate::sorted::SortedSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, ErrorKind};
use std::path::Path;

/// The name under which a table is asked about.
const TRIAL: &str = "echomesh_trial";
const DEVICES: &str = "/sys/class/net";

/// What the kernel has answered, and what it was asked.
///
/// It is asked by tables that it is not to keep, and with the hooks of such a table it drops all packets that wait in anybody's
/// queues (net/netfilter/nf_queue.c, `nf_queue_nf_hook_drop`). So nothing is asked twice.
#[derive(Debug, Default)]
pub struct Answers(Option<Asked>);

#[derive(Debug)]
struct Asked {
    /// Of the tables' text: they themselves are large.
    hash: u64,
    table: Result<(), String>,
    flowtable: Result<(), String>,
}

impl Answers {
    /// Nothing is known any more.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// What the kernel lacks it may have by the next time.
    pub fn forget_what_is_missing(&mut self) {
        self.0.take_if(|asked| asked.table.is_err() || asked.flowtable.is_err());
    }

    /// All of it, beside what others have.
    pub fn facts(
        &mut self,
        tables: &mut Tables,
        scope: &LeaseScope,
        network: &Network,
        others: &Others,
    ) -> Facts {
        let flowtable = Flowtable { devices: devices(&network.wan, &pppoe(), false, link) };
        let plain = render(scope, network, None, true);
        let offloaded =
            (!flowtable.devices.is_empty()).then(|| render(scope, network, Some(&flowtable), true));
        let mut hasher = DefaultHasher::new();
        (&plain.text, offloaded.as_ref().map(|o| &o.text)).hash(&mut hasher);
        let hash = hasher.finish();
        let known = self.0.take_if(|asked| asked.hash == hash);
        let asked = known.unwrap_or_else(|| Asked::of(tables, hash, plain.table, offloaded.map(|o| o.table)));
        let asked = self.0.insert(asked);
        Facts {
            table: asked.table.clone(),
            software: asked.flowtable.clone().map(|()| flowtable),
            others: others.clone(),
        }
    }
}

impl Asked {
    fn of(tables: &mut Tables, hash: u64, plain: Table, offloaded: Option<Table>) -> Asked {
        let mut attempt = |table| tables.attempt(&Table { name: TRIAL.to_owned(), ..table });
        let flowtable = match offloaded {
            Some(table) => attempt(table).map_err(|e| no_flowtable(&e)),
            None => Err("there is no line".to_owned()),
        };
        let table = attempt(plain).map_err(|e| missing(tables, &e));
        Asked { hash, table, flowtable }
    }
}

/// Why a flowtable is not possible.
fn no_flowtable(e: &io::Error) -> String {
    match e.kind() {
        ErrorKind::NotFound => "the kernel has no flowtables (OpenWrt: kmod-nft-offload)".to_owned(),
        _ => format!("the kernel takes no flowtable: {e}"),
    }
}

/// What the kernel lacks that did not take the table.
fn missing(tables: &mut Tables, e: &io::Error) -> String {
    let chain = Chain {
        hook: Some(Hook { nat: false, place: Place::Forward, priority: 0 }),
        rules: vec![vec![Expr::Queue { number: QUEUE }]],
    };
    let table =
        Table { name: TRIAL.to_owned(), chains: [("queue".to_owned(), chain)].into(), ..Table::default() };
    match tables.attempt(&table) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            "the kernel has no nft_queue (OpenWrt: kmod-nft-queue)".to_owned()
        }
        _ => format!("the kernel does not take the table of leases: {e}"),
    }
}

/// Where all packets of the WAN pass.
///
/// # Errors
/// Why they cannot be counted there.
pub fn places(network: &Network) -> Result<Places, String> {
    offload::places(&network.wan, &pppoe(), link)
}

/// The devices that PPPoE sessions run on.
fn pppoe() -> SortedSet<String> {
    pppoe_devices(&std::fs::read_to_string("/proc/net/pppoe").unwrap_or_default())
}

/// A device as sysfs has it.
fn link(name: &str) -> Option<Link> {
    let place = Path::new(DEVICES).join(name);
    let uevent = std::fs::read_to_string(place.join("uevent")).ok()?;
    let devtype = uevent.lines().find_map(|l| l.strip_prefix("DEVTYPE=")).unwrap_or_default().to_owned();
    let entries = std::fs::read_dir(&place).ok()?.flatten();
    let lower = entries.filter_map(|e| e.file_name().to_str()?.strip_prefix("lower_").map(ToOwned::to_owned));
    // ARPHRD_ETHER; what has another kind of address has no header before IP's.
    let is_ethernet = std::fs::read_to_string(place.join("type")).is_ok_and(|kind| kind.trim_end() == "1");
    Some(Link { devtype, lower: lower.collect(), is_ethernet })
}

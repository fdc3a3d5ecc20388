//! What this machine offers to carry leases: asked of the kernel, which does none of it, and read from its files.
use super::netlink::Tables;
use crate::guard::expr::Expr;
use crate::guard::lease_count::Places;
use crate::guard::lease_rules::{LeaseScope, QUEUE, render};
use crate::guard::network::Network;
use crate::guard::offload::{self, Facts, Link, Others, devices, pppoe_devices};
use crate::guard::table::{Chain, Flowtable, Hook, Place, Table};
use std::io::{self, ErrorKind};
use std::path::Path;

/// The name under which a table is asked about.
const TRIAL: &str = "echomesh_trial";
const DEVICES: &str = "/sys/class/net";

/// All of it, beside what others have.
pub fn facts(tables: &mut Tables, scope: &LeaseScope, network: &Network, others: &Others) -> Facts {
    let pppoe = pppoe_devices(&std::fs::read_to_string("/proc/net/pppoe").unwrap_or_default());
    let flowtable = Flowtable { devices: devices(&network.wan, &pppoe, false, link) };
    let software = attempt(tables, scope, network, Some(&flowtable)).map(|()| flowtable);
    let table = attempt(tables, scope, network, None).map_err(|e| missing(tables, &e));
    let software = software.map_err(|e| no_flowtable(&e));
    Facts { table, software, others: others.clone() }
}

fn attempt(
    tables: &mut Tables,
    scope: &LeaseScope,
    network: &Network,
    flowtable: Option<&Flowtable>,
) -> io::Result<()> {
    if flowtable.is_some_and(|f| f.devices.is_empty()) {
        return Err(ErrorKind::NotConnected.into());
    }
    let mut table = render(scope, network, flowtable, true).table;
    table.name = TRIAL.to_owned();
    tables.attempt(&table)
}

/// Why a flowtable is not possible.
fn no_flowtable(e: &io::Error) -> String {
    match e.kind() {
        ErrorKind::NotConnected => "there is no line".to_owned(),
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
    let pppoe = pppoe_devices(&std::fs::read_to_string("/proc/net/pppoe").unwrap_or_default());
    offload::places(&network.wan, &pppoe, link)
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

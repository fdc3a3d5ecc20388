//! How accepted connections of leases are carried: by a flowtable of the kernel's in software, or by its ordinary forwarding. Decided
//! from what the kernel would take.
//!
//! Never by the network hardware, whatever the owner wishes: figures and the owner's word come first. The kernel asks the hardware for its
//! counters every three seconds and not at a connection's end, looks once a second for connections that are to leave it, and lets a
//! flowtable go before its connections have left, which the hardware then keeps.
use super::lease_count::Places;
use super::lease_wire::Offload;
use super::table::Flowtable;
use crate::config::Offload as Wish;
use crate::sorted::SortedSet;

/// Why the owner who would have the hardware gets the flowtable.
const NO_HARDWARE: &str =
    "not in the network hardware, which would end connections a second late and not count their last seconds";

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether the kernel takes the table without a flowtable; else what is missing.
    pub table: Result<(), String>,
    /// The flowtable that it takes; else why it takes none.
    pub software: Result<Flowtable, String>,
    /// What others have.
    pub others: Others,
}

/// Flowtables of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// There is one.
    pub any: bool,
    /// A table with one for the network hardware.
    pub hardware: Option<String>,
    /// A table with one in software that does not count.
    pub uncounted: Option<String>,
}

/// How leases are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The way.
    pub offload: Offload,
    /// The flowtable it needs.
    pub flowtable: Option<Flowtable>,
    /// Others have one, which must not take what ours does not.
    pub others: bool,
    /// Why rate caps cannot be held on it.
    pub no_caps: Option<String>,
    /// Why there is no better way; empty if there is none.
    pub reason: String,
}

/// The best way that the owner wants and the kernel has.
///
/// # Errors
/// Why there can be no leases.
pub fn decide(wish: Wish, facts: &Facts) -> Result<Decision, String> {
    facts.table.clone()?;
    let mut decision = Decision { others: facts.others.any, ..way(wish, facts) };
    let is_first = decision.flowtable.is_some();
    if let Some(table) = &facts.others.hardware {
        if !is_first {
            return Err(format!(
                "table {table} hands connections to the network hardware, which neither counts nor ends them in time"
            ));
        }
        // A connection that ours could not take for want of memory.
        decision.no_caps = Some(format!("table {table} has the network hardware, which knows no cap"));
    }
    match &facts.others.uncounted {
        Some(table) if !is_first => {
            Err(format!("table {table} hands connections to a flowtable that does not count them"))
        }
        _ => Ok(decision),
    }
}

fn way(wish: Wish, facts: &Facts) -> Decision {
    let plain =
        |reason| Decision { offload: Offload::Plain, flowtable: None, others: false, no_caps: None, reason };
    let why = match wish {
        Wish::Off => return plain("network.offload is off".to_owned()),
        Wish::Software => "network.offload is software",
        Wish::Auto | Wish::Hardware => NO_HARDWARE,
    };
    match &facts.software {
        Ok(flowtable) => Decision {
            offload: Offload::Software,
            flowtable: Some(flowtable.clone()),
            others: false,
            no_caps: None,
            reason: why.to_owned(),
        },
        Err(why) => plain(why.clone()),
    }
}

/// The devices of `/proc/net/pppoe` (`Id Address Device`) that sessions run on.
pub fn pppoe_devices(text: &str) -> SortedSet<String> {
    text.lines().skip(1).filter_map(|l| l.split_whitespace().nth(2)).map(ToOwned::to_owned).collect()
}

/// A device's own kind: `DEVTYPE` of its `uevent`, and its type of hardware (`ARPHRD_*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// `vlan`, `bridge`, `ppp`, ...; empty for most.
    pub devtype: String,
    /// The devices below it (`lower_*`).
    pub lower: Vec<String>,
    /// Packets that leave by it have Ethernet's header.
    pub is_ethernet: bool,
}

/// How deep devices are looked for.
const DEPTH: usize = 4;

/// The devices at which the flowtable takes packets in. Below a VLAN or a bridge are those that frames really come in by,
/// below a PPPoE line the one it runs on: firewall4's rule (fw4.uc, `resolve_lower_devices`) for the hardware, which is asked for here
/// by `lowest`. The flowtable has the devices above as well: not every kernel sees through every layer, and what is found
/// nowhere goes the ordinary way.
pub fn devices(
    wan: &SortedSet<String>,
    pppoe: &SortedSet<String>,
    lowest: bool,
    link: impl Fn(&str) -> Option<Link>,
) -> SortedSet<String> {
    let mut found = SortedSet::new();
    let mut layer: Vec<String> = wan.iter().cloned().collect();
    for _ in 0..DEPTH {
        let mut below = Vec::new();
        for name in layer {
            let Some(link) = link(&name) else { continue };
            let lower: Vec<String> = match link.devtype.as_str() {
                "vlan" | "bridge" => link.lower,
                "ppp" => pppoe.iter().cloned().collect(),
                _ => Vec::new(),
            };
            if lower.is_empty() || !lowest {
                found.insert(name);
            }
            below.extend(lower);
        }
        layer = below;
    }
    found
}

/// Where all packets of the WAN pass. Which PPP device has which PPPoE session the kernel does not say: where there are sessions,
/// a WAN of PPP is taken for theirs.
///
/// # Errors
/// Packets have more before their IP header there than is looked behind, or the devices differ.
pub fn places(
    wan: &SortedSet<String>,
    pppoe: &SortedSet<String>,
    link: impl Fn(&str) -> Option<Link>,
) -> Result<Places, String> {
    let all = devices(wan, pppoe, false, &link);
    let is = |name: &String, kind: &str| link(name).is_some_and(|l| l.devtype == kind);
    // One tag is beside the packet and not in it; a second one is.
    let in_tag = |name| link(name).is_some_and(|l| l.lower.iter().any(|below| is(below, "vlan")));
    if all.iter().any(|name| is(name, "vlan") && in_tag(name)) {
        return Err("the WAN is a VLAN in a VLAN, in whose frames nobody looks for ports".to_owned());
    }
    let mixed = || "the WAN's devices are of different kinds, or there is none".to_owned();
    let lowest = devices(wan, pppoe, true, &link);
    if !pppoe.is_empty() && all.iter().any(|name| is(name, "ppp")) {
        return if wan.iter().all(|name| is(name, "ppp")) {
            Ok(Places::pppoe(lowest, wan.clone()))
        } else {
            Err(mixed())
        };
    }
    let ethernet = |name: &String| link(name).is_some_and(|l| l.is_ethernet);
    let headers: SortedSet<u64> = lowest.iter().map(|name| if ethernet(name) { 14 } else { 0 }).collect();
    match (headers.first(), headers.len()) {
        (Some(header), 1) => Ok(Places::plain(lowest, *header)),
        _ => Err(mixed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::lease_wire::MAX_REASON;

    fn facts() -> Facts {
        Facts {
            table: Ok(()),
            software: Ok(Flowtable { devices: ["wan".to_owned()].into() }),
            others: Others::default(),
        }
    }

    fn of_others(have: impl FnOnce(&mut Others)) -> Facts {
        let mut others = Others { any: true, ..Others::default() };
        have(&mut others);
        Facts { others, ..facts() }
    }

    fn decided(wish: Wish, facts: &Facts) -> (Offload, bool, bool) {
        let found = decide(wish, facts).unwrap();
        (found.offload, found.flowtable.is_some(), found.no_caps.is_none())
    }

    #[test]
    fn the_owners_wish_where_the_kernel_can() {
        for (wish, word) in
            [(Wish::Hardware, "hardware"), (Wish::Auto, "hardware"), (Wish::Software, "software")]
        {
            assert_eq!(decided(wish, &facts()), (Offload::Software, true, true));
            assert!(decide(wish, &facts()).unwrap().reason.contains(word), "{wish:?}");
        }
        assert_eq!(decided(Wish::Off, &facts()), (Offload::Plain, false, true));
    }

    #[test]
    fn each_obstacle_falls_back_and_says_so() {
        let without = Facts { software: Err("kmod-nft-offload".to_owned()), ..facts() };
        for wish in [Wish::Auto, Wish::Hardware, Wish::Software] {
            let found = decide(wish, &without).unwrap();
            assert_eq!((found.offload, found.reason.as_str()), (Offload::Plain, "kmod-nft-offload"));
        }
        let none = Facts { table: Err("no nft_queue".to_owned()), ..facts() };
        assert_eq!(decide(Wish::Off, &none), Err("no nft_queue".to_owned()));
    }

    #[test]
    fn the_owners_hardware_flowtable_takes_caps_and_leases_where_ours_is_not_before_it() {
        let others = of_others(|others| others.hardware = Some("fw4".to_owned()));
        let found = decide(Wish::Auto, &others).unwrap();
        assert_eq!(found.offload, Offload::Software);
        let both = format!("{}; no leases for sessions with a cap: {}", found.reason, found.no_caps.unwrap());
        assert!(both.len() <= MAX_REASON, "{}", both.len());
        assert!(decide(Wish::Off, &others).unwrap_err().contains("table fw4"));
        let without = Facts { software: Err("kmod-nft-offload".to_owned()), ..others };
        assert!(decide(Wish::Auto, &without).unwrap_err().contains("table fw4"));
    }

    #[test]
    fn a_flowtable_that_does_not_count_may_not_come_first() {
        let others = of_others(|others| others.uncounted = Some("theirs".to_owned()));
        assert_eq!(decided(Wish::Auto, &others), (Offload::Software, true, true));
        assert!(decide(Wish::Off, &others).unwrap_err().contains("table theirs"));
        let without = Facts { software: Err("kmod-nft-offload".to_owned()), ..others };
        assert!(decide(Wish::Auto, &without).unwrap_err().contains("does not count"));
    }

    fn link(name: &str) -> Option<Link> {
        let (devtype, lower): (&str, &[&str]) = match name {
            "br-wan" => ("bridge", &["eth0.2", "eth3"]),
            "eth0.2" => ("vlan", &["eth0"]),
            "eth0.2.7" => ("vlan", &["eth0.2"]),
            "pppoe-wan" => ("ppp", &[]),
            "eth0" | "eth3" | "wwan0" => ("", &[]),
            "dsa" => ("dsa", &["eth0"]),
            "loop" => ("bridge", &["loop"]),
            _ => return None,
        };
        let is_ethernet = !matches!(name, "wwan0" | "pppoe-wan");
        let lower = lower.iter().map(|s| (*s).to_owned()).collect();
        Some(Link { devtype: devtype.to_owned(), lower, is_ethernet })
    }

    fn set(list: &[&str]) -> SortedSet<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn devices_are_those_below() {
        let found = |wan: &[&str], pppoe: &[&str], hardware| {
            devices(&set(wan), &set(pppoe), hardware, link).into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found(&["eth0"], &[], true), "eth0");
        assert_eq!(found(&["dsa"], &[], true), "dsa", "a port of a switch, not the processor's side of it");
        assert_eq!(found(&["br-wan"], &[], true), "eth0 eth3");
        assert_eq!(found(&["br-wan"], &[], false), "br-wan eth0 eth0.2 eth3");
        assert_eq!(found(&["pppoe-wan"], &["eth0.2"], true), "eth0");
        assert_eq!(found(&["pppoe-wan"], &["eth0.2"], false), "eth0 eth0.2 pppoe-wan");
        assert_eq!(found(&["pppoe-wan"], &[], true), "pppoe-wan", "another kind of PPP");
        assert_eq!(found(&["gone"], &[], false), "");
        assert_eq!(found(&["loop"], &[], false), "loop");
    }

    #[test]
    fn packets_are_counted_where_all_pass() {
        let found = |wan: &[&str], pppoe: &[&str]| places(&set(wan), &set(pppoe), link);
        assert_eq!(found(&["eth0.2"], &[]), Ok(Places::plain(set(&["eth0"]), 14)));
        assert_eq!(found(&["br-wan"], &["eth3"]), Ok(Places::plain(set(&["eth0", "eth3"]), 14)));
        assert_eq!(found(&["wwan0"], &[]), Ok(Places::plain(set(&["wwan0"]), 0)));
        assert_eq!(
            found(&["pppoe-wan"], &[]),
            Ok(Places::plain(set(&["pppoe-wan"]), 0)),
            "another kind of PPP"
        );
        let dialled = found(&["pppoe-wan"], &["eth0.2"]).unwrap();
        assert_eq!(dialled, Places::pppoe(set(&["eth0"]), set(&["pppoe-wan"])));
        assert_eq!((dialled.headers, dialled.framed), ([8, 0], true));
        for (wan, pppoe, word) in [
            (&["eth0.2.7"][..], &[][..], "VLAN in a VLAN"),
            (&["pppoe-wan"], &["eth0.2.7"], "VLAN in a VLAN"),
            (&["pppoe-wan", "wwan0"], &["eth0"], "different kinds"),
            (&["eth0", "wwan0"], &[], "different kinds"),
            (&["gone"], &[], "there is none"),
        ] {
            let why = found(wan, pppoe).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn the_kernels_files_are_read() {
        let text = "Id       Address              Device\n0500     00:11:22:33:44:55    eth0.7\n";
        assert_eq!(pppoe_devices(text).into_iter().collect::<Vec<_>>(), ["eth0.7"]);
        assert!(pppoe_devices("").is_empty());
    }
}

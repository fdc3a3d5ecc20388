//! How accepted connections of leases are carried: by the network hardware, by a flowtable of the kernel's, or by its ordinary
//! forwarding. Decided from what the kernel would take and what this board is known to do.
//!
//! Figures come first: hardware that does not count what it carries is not used, and neither is a router whose owner lets
//! firewall4 put every connection into such hardware.
use super::lease_count::Places;
use super::lease_wire::Offload;
use super::table::Flowtable;
use crate::config::Offload as Wish;
use std::collections::BTreeSet;

/// Processors whose packet engine counts for connection tracking what it carries (kernel: `has_accounting` of
/// mtk_eth_soc.c), as the device tree names them.
const COUNTING: [&str; 4] = ["mediatek,mt7622", "mediatek,mt7981", "mediatek,mt7986", "mediatek,mt7988"];

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether the kernel takes the table without a flowtable; else what is missing.
    pub table: Result<(), String>,
    /// The flowtable that it takes; else why it takes none.
    pub software: Result<Flowtable, String>,
    /// The same for the network hardware.
    pub hardware: Result<Flowtable, String>,
    /// What the device tree calls this board (`/proc/device-tree/compatible`).
    pub boards: Vec<String>,
    /// A queueing discipline that somebody configured on a device of the WAN, as SQM does: its kind.
    pub shaped: Option<String>,
    /// A table of somebody else's with a flowtable for the network hardware.
    pub others_hardware: Option<String>,
    /// A table of somebody else's with a flowtable in software that does not count.
    pub others_uncounted: Option<String>,
}

/// How leases are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The way.
    pub offload: Offload,
    /// The flowtable it needs.
    pub flowtable: Option<Flowtable>,
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
    let mut decision = way(wish, facts);
    if let Some(table) = &facts.others_hardware {
        let why =
            format!("table {table} hands connections to the network hardware, which no rate cap can hold");
        if decision.flowtable.is_none() && !counts(&facts.boards) {
            return Err(format!(
                "table {table} hands connections to network hardware that is not known to count them"
            ));
        }
        decision.no_caps.get_or_insert(why);
    }
    match &facts.others_uncounted {
        // Where there is one of ours, it comes first.
        Some(table) if decision.flowtable.is_none() => {
            Err(format!("table {table} hands connections to a flowtable that does not count them"))
        }
        _ => Ok(decision),
    }
}

fn way(wish: Wish, facts: &Facts) -> Decision {
    let plain = |reason| Decision { offload: Offload::Plain, flowtable: None, no_caps: None, reason };
    let software = |reason: String| match &facts.software {
        Ok(flowtable) => {
            Decision { offload: Offload::Software, flowtable: Some(flowtable.clone()), no_caps: None, reason }
        }
        Err(why) => plain(why.clone()),
    };
    match wish {
        Wish::Off => plain("network.offload is off".to_owned()),
        Wish::Software => software("network.offload is software".to_owned()),
        Wish::Auto => software("the network hardware could not hold network.maxMbps".to_owned()),
        Wish::Hardware => match hardware(facts) {
            Ok(flowtable) => Decision {
                offload: Offload::Hardware,
                flowtable: Some(flowtable),
                no_caps: Some("network.offload is hardware, which no rate cap can hold".to_owned()),
                reason: String::new(),
            },
            Err(why) => software(why),
        },
    }
}

fn hardware(facts: &Facts) -> Result<Flowtable, String> {
    let flowtable = facts.hardware.clone()?;
    if facts.boards.iter().any(|b| b == "mediatek,mt7621") {
        return Err("the MT7621's hardware does not count what it carries".to_owned());
    }
    if !counts(&facts.boards) {
        return Err("this board's hardware is not known to count what it carries".to_owned());
    }
    match &facts.shaped {
        Some(kind) => {
            Err(format!("the WAN has a queueing discipline ({kind}), which the hardware would go round"))
        }
        None => Ok(flowtable),
    }
}

fn counts(boards: &[String]) -> bool {
    boards.iter().any(|b| COUNTING.contains(&b.as_str()))
}

/// The entries of `/proc/device-tree/compatible`.
pub fn boards(text: &[u8]) -> Vec<String> {
    let entries = text.split(|b| *b == 0).filter(|e| !e.is_empty());
    entries.map(|e| String::from_utf8_lossy(e).into_owned()).collect()
}

/// The devices of `/proc/net/pppoe` (`Id Address Device`) that sessions run on.
pub fn pppoe_devices(text: &str) -> BTreeSet<String> {
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
/// below a PPPoE line the one it runs on: firewall4's rule (fw4.uc, `resolve_lower_devices`) for the hardware, which can have no
/// others. In software the devices above count as well: not every kernel sees through every layer, and what is found
/// nowhere goes the ordinary way.
pub fn devices(
    wan: &BTreeSet<String>,
    pppoe: &BTreeSet<String>,
    hardware: bool,
    link: impl Fn(&str) -> Option<Link>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
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
            if lower.is_empty() || !hardware {
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
    wan: &BTreeSet<String>,
    pppoe: &BTreeSet<String>,
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
    let headers: BTreeSet<u64> = lowest.iter().map(|name| if ethernet(name) { 14 } else { 0 }).collect();
    match (headers.first(), headers.len()) {
        (Some(header), 1) => Ok(Places::plain(lowest, *header)),
        _ => Err(mixed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flowtable(hardware: bool) -> Flowtable {
        Flowtable { devices: ["wan".to_owned()].into(), hardware }
    }

    fn facts() -> Facts {
        Facts {
            table: Ok(()),
            software: Ok(flowtable(false)),
            hardware: Ok(flowtable(true)),
            boards: vec!["glinet,gl-mt3000".to_owned(), "mediatek,mt7981".to_owned()],
            shaped: None,
            others_hardware: None,
            others_uncounted: None,
        }
    }

    fn decided(wish: Wish, facts: &Facts) -> (Offload, bool, bool) {
        let found = decide(wish, facts).unwrap();
        assert_eq!(found.flowtable.as_ref().is_some_and(|f| f.hardware), found.offload == Offload::Hardware);
        (found.offload, found.flowtable.is_some(), found.no_caps.is_none())
    }

    #[test]
    fn the_owners_wish_where_the_kernel_can() {
        let all = facts();
        assert_eq!(decided(Wish::Hardware, &all), (Offload::Hardware, true, false));
        assert_eq!(decided(Wish::Auto, &all), (Offload::Software, true, true));
        assert_eq!(decided(Wish::Software, &all), (Offload::Software, true, true));
        assert_eq!(decided(Wish::Off, &all), (Offload::Plain, false, true));
    }

    #[test]
    fn each_obstacle_falls_back_and_says_so() {
        let cases: [(&str, Facts); 4] = [
            ("not supported", Facts { hardware: Err("not supported".to_owned()), ..facts() }),
            ("MT7621", Facts { boards: vec!["mediatek,mt7621".to_owned()], ..facts() }),
            ("not known to count", Facts { boards: Vec::new(), ..facts() }),
            ("(cake)", Facts { shaped: Some("cake".to_owned()), ..facts() }),
        ];
        for (word, facts) in cases {
            let found = decide(Wish::Hardware, &facts).unwrap();
            assert_eq!(found.offload, Offload::Software, "{word}");
            assert!(found.reason.contains(word), "{word}: {}", found.reason);
            let neither = Facts { software: Err("kmod-nft-offload".to_owned()), ..facts };
            let found = decide(Wish::Hardware, &neither).unwrap();
            assert_eq!((found.offload, found.reason.as_str()), (Offload::Plain, "kmod-nft-offload"));
        }
        let none = Facts { table: Err("no nft_queue".to_owned()), ..facts() };
        assert_eq!(decide(Wish::Off, &none), Err("no nft_queue".to_owned()));
    }

    #[test]
    fn the_owners_hardware_flowtable_takes_caps_and_on_some_boards_leases() {
        let others = Facts { others_hardware: Some("fw4".to_owned()), ..facts() };
        assert_eq!(decided(Wish::Software, &others), (Offload::Software, true, false));
        assert_eq!(decided(Wish::Off, &others), (Offload::Plain, false, false));
        let uncounted = Facts { boards: vec!["mediatek,mt7621".to_owned()], ..others };
        assert_eq!(decided(Wish::Software, &uncounted), (Offload::Software, true, false), "ours comes first");
        assert!(decide(Wish::Off, &uncounted).unwrap_err().contains("fw4"));
    }

    #[test]
    fn a_flowtable_that_does_not_count_may_not_come_first() {
        let others = Facts { others_uncounted: Some("theirs".to_owned()), ..facts() };
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

    fn set(list: &[&str]) -> BTreeSet<String> {
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
        assert_eq!(boards(b"xiaomi,r3g\0mediatek,mt7621\0"), ["xiaomi,r3g", "mediatek,mt7621"]);
        assert!(boards(b"").is_empty());
    }
}

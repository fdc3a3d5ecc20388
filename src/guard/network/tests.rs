use super::super::netlink::{Writer, messages};
use super::*;

const AUTO: Wanted = Wanted { choice: Choice::Auto, binds: true };

fn told(fill: impl FnOnce(&mut Writer)) -> Network {
    told_to(&AUTO, fill)
}

fn told_to(wanted: &Wanted, fill: impl FnOnce(&mut Writer)) -> Network {
    let mut w = Writer::default();
    fill(&mut w);
    let data = w.finish();
    let mut answers = Answers::default();
    messages(&data).for_each(|m| answers.take(&m));
    answers.network(wanted, vec!["127.0.0.1".parse().unwrap()])
}

fn link(w: &mut Writer, index: u32, name: &str) {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    w.message((LINK, 0, 1), &head, |w| w.put_text(3, name));
}

fn route(w: &mut Writer, (to, bits): (&str, u8), kind: u8, device: u32, gateway: Option<&str>) {
    let octets = |text: &str| match text.parse().unwrap() {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let family = if to.contains(':') { 10 } else { 2 };
    w.message((ROUTE, 0, 1), &[family, bits, 0, 0, 254, 3, 0, kind, 0, 0, 0, 0], |w| {
        if bits > 0 {
            w.put(1, &octets(to));
        }
        w.put(4, &device.to_ne_bytes());
        if let Some(gateway) = gateway {
            w.put(5, &octets(gateway));
        }
    });
}

#[test]
fn a_routers_tables_are_read() {
    let network = told(|w| {
        link(w, 2, "wan0");
        link(w, 3, "br-lan");
        w.message((ADDRESS, 0, 1), &[2, 24, 0, 0, 3, 0, 0, 0], |w| {
            w.put(1, &[192, 168, 1, 1]);
            w.put(2, &[192, 168, 1, 1]);
        });
        // A point-to-point line: the other end, then this one.
        w.message((ADDRESS, 0, 1), &[2, 32, 0, 0, 2, 0, 0, 0], |w| {
            w.put(1, &[84, 1, 1, 1]);
            w.put(2, &[84, 1, 1, 9]);
        });
        w.message((ADDRESS, 0, 1), &[10, 64, 0, 0, 2, 0, 0, 0], |w| w.put(1, &[0x2a; 16]));
        route(w, ("0.0.0.0", 0), 1, 2, Some("84.1.1.1"));
        route(w, ("85.5.5.0", 24), 1, 3, Some("192.168.1.2"));
        route(w, ("84.9.0.0", 16), 1, 2, Some("84.1.1.1"));
        route(w, ("2a02:aa::", 56), 7, 1, None);
        route(w, ("::", 0), 7, 3, None);
        // Of a host outside, as the line to it is: not of a route.
        let flags = CLONED.to_ne_bytes();
        w.message((ROUTE, 0, 1), &[&[2, 32, 0, 0, 254, 3, 0, 1], &flags[..]].concat(), |w| {
            w.put(1, &[93, 184, 216, 34]);
            w.put(4, &2u32.to_ne_bytes());
        });
    });
    assert_eq!(network.wan, ["wan0".to_owned()].into());
    let outward: Vec<String> = network.outward.iter().map(ToString::to_string).collect();
    assert_eq!(outward, ["84.1.1.9", "2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a"], "this end of the WAN alone");
    let text: Vec<String> = network.inside.iter().map(|(a, n)| format!("{a}/{n}")).collect();
    assert_eq!(
        text,
        [
            "84.1.1.1/32",
            "84.1.1.9/32",
            "85.5.5.0/24",
            "127.0.0.1/32",
            "192.168.1.1/24",
            "192.168.1.1/32",
            "192.168.1.2/32",
            "2a02:aa::/56",
            "2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a/64",
        ]
    );
}

#[test]
fn several_next_hops_are_several_ways_out() {
    let fill = |w: &mut Writer| {
        link(w, 2, "wan0");
        link(w, 4, "wan1");
        let hop = |device: u32, gateway: [u8; 4]| {
            let mut hop = vec![16, 0, 0, 0];
            hop.extend(device.to_ne_bytes());
            hop.extend([8, 0, 5, 0]);
            hop.extend(gateway);
            hop
        };
        w.message((ROUTE, 0, 1), &[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0], |w| {
            w.put(9, &[hop(2, [84, 1, 1, 1]), hop(4, [85, 1, 1, 1])].concat());
        });
    };
    let network = told(fill);
    assert_eq!(network.wan, ["wan0".to_owned()].into(), "one of them is used");
    assert_eq!(network.inside.len(), 3);
    let network = told_to(&Wanted { binds: false, ..AUTO }, fill);
    assert_eq!(network.wan, ["wan0".to_owned(), "wan1".to_owned()].into(), "the kernel chooses");
}

#[test]
fn the_line_is_known_with_its_number_and_addresses() {
    let network = told(|w| {
        link(w, 2, "wan0");
        link(w, 9, "ppp0");
        for (index, own) in [(2u32, [84, 1, 1, 7]), (9, [86, 1, 1, 7])] {
            let head = [&[2, 32, 0, 0][..], &index.to_ne_bytes()].concat();
            w.message((ADDRESS, 0, 1), &head, |w| {
                w.put(1, &[86, 0, 0, 1]);
                w.put(2, &own);
            });
        }
        w.message((ADDRESS, 0, 1), &[&[10, 64, 0, 0][..], &9u32.to_ne_bytes()].concat(), |w| {
            w.put(1, &"2a02::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
        });
        let default = |w: &mut Writer, device: u32, table: u8, metric: u32| {
            w.message((ROUTE, 0, 1), &[2, 0, 0, 0, table, 3, 0, 1, 0, 0, 0, 0], |w| {
                w.put(4, &device.to_ne_bytes());
                w.put(6, &metric.to_ne_bytes());
            });
        };
        default(w, 2, 254, 20);
        default(w, 9, 254, 10);
        default(w, 2, 100, 0);
        route(w, ("::", 0), 1, 9, Some("fe80::1"));
    });
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let v4 = network.uplinks.v4.unwrap();
    assert_eq!((v4.device.as_str(), v4.index, v4.addresses), ("ppp0", 9, vec![address("86.1.1.7")]));
    assert_eq!(network.uplinks.v6.unwrap().addresses, [address("2a02::7")]);
    assert_eq!(network.wan, ["ppp0".to_owned()].into(), "a route of another table is not the line");
}

#[test]
fn a_bridge_that_leads_out_has_its_ports() {
    let port = |w: &mut Writer, index: u32, name: &str, kind: &str, master: u32| {
        let head = [&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat();
        w.message((LINK, 0, 1), &head, |w| {
            w.put_text(3, name);
            w.put(10, &master.to_ne_bytes());
            w.nest(18, |w| w.put_text(4, kind));
        });
    };
    let network = told(|w| {
        link(w, 9, "br-wan");
        port(w, 2, "eth0", "bridge", 9);
        port(w, 3, "eth3", "bridge", 9);
        port(w, 4, "eth4", "bond", 9);
        port(w, 5, "lan1", "bridge", 8);
        route(w, ("0.0.0.0", 0), 1, 9, Some("84.1.1.1"));
    });
    assert_eq!(network.ports, [(9, [2, 3].into())].into(), "no bond's, and of no other bridge");
    assert_eq!(network.wan, ["br-wan".to_owned()].into());
}

#[test]
fn a_dead_hop_is_no_line() {
    let with = |flags: u32| {
        told(|w| {
            link(w, 2, "wan0");
            let head = [&[2, 0, 0, 0, 254, 3, 0, 1][..], &flags.to_ne_bytes()].concat();
            w.message((ROUTE, 0, 1), &head, |w| w.put(4, &2u32.to_ne_bytes()));
        })
    };
    assert!(with(DEAD | UNPLUGGED).uplinks.is_down());
    assert_eq!(with(UNPLUGGED).uplinks.v4.unwrap().device, "wan0");
}

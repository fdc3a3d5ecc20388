//! Caps on the kernel path, with the kernel: connections that a router forwards from its WAN to its WAN, in namespaces of
//! the test's own. It needs root, and a kernel with HTB, `u32` and NAT.
#![allow(clippy::disallowed_methods, reason = "a test of the kernel's networking runs ip and tc")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use echomesh::guard::caps::Caps;
use echomesh::guard::network::Network;
use echomesh::guard::shaping::{Cap, DRAIN_MS, LINGER};
use echomesh::guard::tc::Ends;
use echomesh::policy::wan::{Uplink, Wan};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

const FLOW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/caps/flow.py");
const WAN: &str = "198.51.100.1";
const BUYER: &str = "198.51.100.2";
const TARGET: &str = "198.51.100.3";
/// Seconds over which a rate is taken.
const SECONDS: &str = "10";
const MBIT: u64 = 125_000;

/// The part of a router: the namespace that this process is in, and two beyond its devices.
struct World {
    wan: Child,
    lan: Child,
    servers: Vec<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().chain([&mut self.wan, &mut self.lan]) {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A namespace that lives as long as this process, which is where it is.
fn namespace() -> Child {
    let child = Command::new("unshare").args(["-n", "sleep", "600"]).stdout(Stdio::null()).spawn().unwrap();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = format!("/proc/{}/ns/net", child.id());
    while std::fs::read_link(&theirs).is_ok_and(|ns| ns == own) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

impl World {
    fn new() -> World {
        let (wan, lan) = (namespace(), namespace());
        let (w, l) = (wan.id(), lan.id());
        let mut world = World { wan, lan, servers: Vec::new() };
        for line in [
            "ip link set lo up".to_owned(),
            format!("ip link add wan0 type veth peer name far netns {w}"),
            format!("ip link add lan0 type veth peer name pc netns {l}"),
            format!("ip address add {WAN}/24 dev wan0"),
            "ip address add 2001:db8:1::1/64 dev wan0 nodad".to_owned(),
            "ip address add 192.168.1.1/24 dev lan0".to_owned(),
            "ip link set wan0 up".to_owned(),
            "ip link set lan0 up".to_owned(),
            format!("nsenter -t {w} -n ip address add {BUYER}/24 dev far"),
            format!("nsenter -t {w} -n ip address add {TARGET}/24 dev far"),
            format!("nsenter -t {w} -n ip address add 2001:db8:1::2/64 dev far nodad"),
            format!("nsenter -t {w} -n ip address add 2001:db8:1::3/64 dev far nodad"),
            format!("nsenter -t {w} -n ip link set far up"),
            format!("nsenter -t {l} -n ip address add 192.168.1.2/24 dev pc"),
            format!("nsenter -t {l} -n ip link set pc up"),
            format!("nsenter -t {l} -n ip route add default via 192.168.1.1"),
            "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1".to_owned(),
            "sysctl -q -w net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.wan0.send_redirects=0".to_owned(),
        ] {
            run(&line);
        }
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let rules = format!(
            "table inet lease {{
               chain inward {{ type nat hook prerouting priority -105;
                 iif wan0 meta nfproto ipv4 tcp dport 40001-40009 dnat ip to {TARGET}:443;
                 iif wan0 meta nfproto ipv6 tcp dport 40001-40009 dnat ip6 to [2001:db8:1::3]:443; }}
               chain outward {{ type nat hook postrouting priority 95; oif wan0 masquerade; }}
             }}"
        );
        std::io::Write::write_all(&mut nft.stdin.take().unwrap(), rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
        for address in [TARGET, BUYER, "2001:db8:1::3"] {
            let server = world.inside(w).args([FLOW, "serve", address, "443"]).stdout(Stdio::null()).spawn();
            world.servers.push(server.unwrap());
        }
        while run(&format!("nsenter -t {w} -n ss -Htln")).lines().count() < 3 {
            std::thread::sleep(Duration::from_millis(50));
        }
        world
    }

    fn inside(&self, pid: u32) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-n", "python3"]);
        command
    }

    /// Several connections at once, each from whom to whom and how; bytes a second of each, down and up.
    fn rates(&self, flows: &[(&str, &str, &str)]) -> Vec<BTreeMap<String, u64>> {
        let start = |(from, to, how): &(&str, &str, &str)| {
            let is_lan = from.starts_with("192.168.");
            // The lease's connection has its port first: the filters here name it, and NAT gives the other one another.
            if is_lan {
                std::thread::sleep(Duration::from_secs(1));
            }
            let pid = if is_lan { self.lan.id() } else { self.wan.id() };
            let mut command = self.inside(pid);
            command.args([FLOW, "run", from, to, how, SECONDS]).stdout(Stdio::piped()).spawn().unwrap()
        };
        let running: Vec<Child> = flows.iter().map(start).collect();
        let read = |child: Child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            let pair = |line: &str| line.split_once(' ').map(|(way, n)| (way.to_owned(), n.parse().unwrap()));
            text.lines().filter_map(pair).collect()
        };
        let rates: Vec<BTreeMap<String, u64>> = running.into_iter().map(read).collect();
        println!("{flows:?}: {rates:?} bytes/s");
        rates
    }
}

/// The line as the guard knows it.
fn line() -> Network {
    let index = run("ip -o link show wan0").split(':').next().unwrap().parse().unwrap();
    let uplink = Uplink { device: "wan0".to_owned(), index, addresses: vec![WAN.parse().unwrap()] };
    Network { uplinks: Wan { v4: Some(uplink.clone()), v6: Some(uplink) }, ..Network::default() }
}

fn started() -> Caps {
    let mut caps = Caps::start().unwrap();
    caps.moved(&line());
    caps
}

/// A flow's ends, where NAT kept the buyer's port, as it does while it is free.
fn ends(buyer_port: u16, lease_port: u16) -> [Ends; 2] {
    let at = |host: &str, port: u16| format!("{host}:{port}").parse().unwrap();
    [
        Ends { from: at(WAN, lease_port), to: at(BUYER, buyer_port) },
        Ends { from: at(WAN, buyer_port), to: at(TARGET, 443) },
    ]
}

fn root() -> String {
    run("tc qdisc show dev wan0 root")
}

fn classes() -> String {
    run("tc class show dev wan0")
}

fn is_within(rate: u64, cap: u64) -> bool {
    rate <= cap + cap / 10 && rate >= cap - cap / 10
}

fn caps(list: &[(u16, u32)]) -> Vec<Cap> {
    list.iter().map(|(class, kbps)| Cap { class: *class, kbps: *kbps }).collect()
}

/// Runs one of the scenarios below in a network namespace of its own.
fn in_a_namespace(name: &str) {
    // One after the other: they measure rates.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("not tried: namespaces need root");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.arg("-n").arg(own).args(["--ignored", "--exact", name, "--nocapture"]);
    assert!(command.status().unwrap().success(), "{name}");
}

#[test]
fn a_session_keeps_its_cap_both_ways_and_nobody_else_is_slowed() {
    in_a_namespace("inside_session");
}

#[test]
fn all_sessions_keep_the_cap_of_all() {
    in_a_namespace("inside_all");
}

#[test]
fn what_others_configured_stays_and_what_is_ours_goes() {
    in_a_namespace("inside_others");
}

#[test]
#[ignore = "runs in a namespace, started by its test"]
fn inside_session() {
    let world = World::new();
    let mut caps_in_force = started();
    caps_in_force.are_possible().unwrap();
    caps_in_force.set(&caps(&[(1, 8_000), (2, 2_000)]), 0, 0).unwrap();
    caps_in_force.begin(1, 1, ends(50001, 40001)).unwrap();
    caps_in_force.begin(2, 2, ends(50002, 40002)).unwrap();
    assert!(caps_in_force.verify(), "the kernel has what was put there");
    let lease = |port: u16| format!("{WAN}:{}", port - 10_000);
    let from = |port: u16| format!("{BUYER}:{port}");
    // The LAN's: to the same target from the port that the buyer has, and from the lease's port to the buyer's address.
    let same_port = ("192.168.1.2:50001", &*format!("{TARGET}:443"), "up");
    let lease_port = ("192.168.1.2:40001", &*format!("{BUYER}:443"), "up");
    for how in ["down", "up"] {
        let rates = world.rates(&[
            (&from(50001), &lease(50001), how),
            (&from(50002), &lease(50002), how),
            same_port,
            lease_port,
        ]);
        assert!(is_within(rates[0][how], 8 * MBIT), "{how}");
        assert!(is_within(rates[1][how], 2 * MBIT), "{how}");
        for others in &rates[2..] {
            assert!(others["up"] > 100 * MBIT, "{how}: the LAN's are not slowed");
        }
    }
    let both = &world.rates(&[(&from(50001), &lease(50001), "both")])[0];
    assert!(is_within(both["down"] + both["up"], 8 * MBIT), "one cap holds both ways");
    caps_in_force.end(1).unwrap();
    let rates = world.rates(&[(&from(50001), &lease(50001), "down")]);
    assert!(rates[0]["down"] > 100 * MBIT, "the filters were what held it: {rates:?}");
}

#[test]
#[ignore = "runs in a namespace, started by its test"]
fn inside_all() {
    let world = World::new();
    let mut caps_in_force = started();
    caps_in_force.set(&caps(&[(1, 8_000), (2, 0)]), 6_000, 0).unwrap();
    caps_in_force.begin(1, 1, ends(50001, 40001)).unwrap();
    let at = |host: &str, port: u16| format!("{host}:{port}").parse().unwrap();
    let v6 = [
        Ends { from: at("[2001:db8:1::1]", 40002), to: at("[2001:db8:1::2]", 50002) },
        Ends { from: at("[2001:db8:1::1]", 50002), to: at("[2001:db8:1::3]", 443) },
    ];
    caps_in_force.begin(2, 2, v6).unwrap();
    let (four, six) = (format!("{BUYER}:50001"), "[2001:db8:1::2]:50002");
    let (to_four, to_six) = (format!("{WAN}:40001"), "[2001:db8:1::1]:40002");
    let rates = world.rates(&[(&four, &to_four, "down"), (six, to_six, "up")]);
    let (down, up) = (rates[0]["down"], rates[1]["up"]);
    assert!(is_within(down + up, 6 * MBIT));
    assert!(down > 2 * MBIT && up > 2 * MBIT, "they share it");
    let rates = world.rates(&[(six, to_six, "up")]);
    assert!(is_within(rates[0]["up"], 6 * MBIT), "one alone may have all of it");
}

#[test]
#[ignore = "runs in a namespace, started by its test"]
fn inside_others() {
    let _world = World::new();
    let before = root();
    let caps_of_one = caps(&[(1, 8_000)]);

    // A guard that is killed leaves it; the next one takes it away.
    let mut killed = started();
    killed.set(&caps_of_one, 0, 0).unwrap();
    killed.begin(1, 1, ends(50001, 40001)).unwrap();
    assert!(root().contains("htb ec40:"));
    drop(killed);
    assert!(root().contains("htb ec40:"));
    let mut next = started();
    assert_eq!(root(), before);

    // It stays a while without a session, and the line is as it was behind that.
    next.set(&caps_of_one, 0, 0).unwrap();
    next.set(&[], 0, 5_000).unwrap();
    let end = 5_000 + LINGER.as_millis() as u64;
    // What waits in its class leaves first; another session may have the class's number meanwhile, with a queue of its own.
    assert_eq!(next.due_ms(), Some(5_000 + DRAIN_MS));
    next.set(&caps_of_one, 0, 5_001).unwrap();
    next.tidy(5_000 + DRAIN_MS);
    assert!(classes().contains("ec40:101"), "it has a session again");
    next.set(&[], 0, 5_000).unwrap();
    next.tidy(5_000 + DRAIN_MS);
    assert!(!classes().contains("ec40:101"));
    assert_eq!(next.due_ms(), Some(end));
    next.tidy(end - 1);
    assert!(root().contains("htb ec40:"));
    next.set(&caps_of_one, 0, end - 1).unwrap();
    next.tidy(end);
    assert!(root().contains("htb ec40:"), "a session came in time");
    next.set(&[], 0, end).unwrap();
    next.tidy(end + LINGER.as_millis() as u64);
    assert_eq!(root(), before);

    // What another program changes is noticed; what it puts there is not ours to touch.
    for change in [
        "tc filter del dev wan0 parent ec40:",
        "tc class add dev wan0 parent ec40: classid ec40:7 htb rate 1mbit quantum 1500",
        "tc qdisc del dev wan0 root",
        "tc qdisc replace dev wan0 root handle 1: tbf rate 9mbit burst 20k latency 50ms",
    ] {
        next.set(&caps_of_one, 0, 0).unwrap();
        next.begin(1, 1, ends(50001, 40001)).unwrap();
        assert!(!next.hear(), "our own steps are no change");
        run(change);
        assert!(next.hear() && !next.verify(), "{change}");
        assert!(!next.hold(1) && !root().contains("ec40:"), "{change}");
    }
    let theirs = root();
    assert!(theirs.contains("tbf 1:"));
    assert!(next.are_possible().unwrap_err().contains("tbf"));
    assert!(next.set(&caps_of_one, 0, 0).is_err());
    assert!(started().set(&caps_of_one, 0, 0).is_err());
    assert_eq!(root(), theirs, "somebody's is never touched");
    run("tc qdisc del dev wan0 root");
    next.set(&caps_of_one, 0, 0).unwrap();

    // The line moves: nothing of ours stays where it was.
    next.moved(&Network::default());
    assert_eq!(root(), before);
    assert!(next.set(&caps_of_one, 0, 0).unwrap_err().contains("no line"));
}

//! Sets the stage: lab, configuration, node.
use super::ask::{Lab, Node, need, wait};
use super::children::{Children, program};
use super::{Options, Outcome};
use crate::lab::clock::mono_ms;
use crate::lab::json::{Json, Members, parse};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Names the story uses, beside those of the lab's roles.
pub const BLOCKED: &str = "ads.demo.test";
/// The node's own name, in the certificate that the coordinator issues for it.
pub const NODE: &str = "node.demo.test";
/// A name whose owner points it at the inside of somebody's home.
pub const REBOUND: &str = "rebind.demo.test";
const LAN_ADDRESS: &str = "192.168.1.1";

/// Everything that runs.
pub struct Stage {
    /// Scratch directory.
    pub directory: PathBuf,
    /// The lab's control API.
    pub lab: Lab,
    /// What the lab says of itself.
    pub facts: Json,
    /// The node's API.
    pub node: Node,
    /// Its process.
    pub node_pid: u32,
    /// Where buyers connect.
    pub relay: SocketAddr,
    /// From its start to the first answer of its API.
    pub ready_ms: u64,
}

impl Stage {
    /// Starts the lab and waits for it.
    pub fn lab(children: &Children) -> Outcome<(PathBuf, Lab, Json)> {
        let directory = children.directory()?;
        let home = directory.join("lab");
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut command = program(own);
        command.arg("up").arg("--dir").arg(&home).arg("--issue-certificates");
        for zone in [format!("{BLOCKED}=127.0.0.1"), format!("{REBOUND}={LAN_ADDRESS}")] {
            command.arg("--zone").arg(zone);
        }
        children.start("lab", &mut command, &directory.join("lab.log"))?;
        let facts = wait("the lab", 20_000, || {
            children.check()?;
            Ok(std::fs::read(home.join("lab.json")).ok().and_then(|text| parse(&text).ok()))
        })?;
        let control = facts
            .member("control")
            .and_then(|c| c.str("address"))
            .unwrap_or_default()
            .parse()
            .map_err(|_| "lab.json: control is no address")?;
        Ok((directory, Lab(control), facts))
    }

    /// Configures the node for that lab, starts it and waits for its API.
    pub fn node(children: &Children, options: &Options, lab: (PathBuf, Lab, Json)) -> Outcome<Stage> {
        let (directory, lab, facts) = lab;
        let relay = free_port()?;
        let config = directory.join("echomesh.yaml");
        let text = configuration(&directory, &facts, relay)?;
        std::fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
        let run_dir = directory.join("run");
        let mut command = program(binary(options)?);
        command.arg("run").arg("--config").arg(&config).arg("--run-dir").arg(&run_dir);
        command.arg("--state-dir").arg(directory.join("state")).arg("--api").arg(free_port()?.to_string());
        let start = mono_ms();
        let log = directory.join("node.log");
        let node_pid = children.start("node", &mut command, &log)?;
        let node = Node { run_dir };
        wait("the node's API", 10_000, || {
            children.check().map_err(|e| format!("{e}: {}", last_line(&log)))?;
            Ok(node.call("GET", "/status", None).ok())
        })?;
        Ok(Stage { directory, lab, facts, node, node_pid, relay, ready_ms: mono_ms() - start })
    }

    /// URL of a path of the lab's origin.
    pub fn origin(&self, path: &str) -> String {
        format!("https://origin.lab.test:{}{path}", port(&self.facts, "origin"))
    }
}

/// The owner's configuration, as a person would write it.
fn configuration(directory: &Path, facts: &Json, relay: SocketAddr) -> Outcome<String> {
    let [origin, endpoint, coordinator, doh] =
        ["origin", "endpoint", "coordinator", "doh"].map(|r| port(facts, r));
    let key = need(facts, "coordinatorPublicKey")?;
    let ca = need(facts, "caFile")?;
    let home = directory.display();
    Ok(format!(
        "version: 1
node:
  idPath: \"{home}/node.key\"
  regionAllow: [\"Demo-Region\"]
network:
  maxMbps: 4000
  maxGBPerDay: 20
  httpsOnly: true
  blocklistDomains: [\"{BLOCKED}\"]
policy:
  categoryProfile: \"COMPLIANT_DEFAULT\"
security:
  dnsOverHttps: true
  dohUrl: \"https://doh.lab.test:{doh}/dns-query\"
  dohBootstrap: [\"127.0.0.1\"]
  dohCaFile: \"{ca}\"
  sandboxMode: \"standard\"
  guard: \"optional\"
coordinator:
  url: \"https://coordinator.lab.test:{coordinator}\"
  publicKey: \"{key}\"
  caFile: \"{ca}\"
relay:
  listen: \"{relay}\"
  names: [\"{NODE}\"]
probes:
  approvedHosts: [\"endpoint.lab.test\"]
  caFile: \"{ca}\"
# Read by the lab build alone: here the origin is on this machine, and its port is a free one.
lab:
  allowAddresses: [\"127.0.0.1\"]
  ports: [{origin}, {endpoint}]
"
    ))
}

fn port(facts: &Json, role: &str) -> u16 {
    facts.member(role).and_then(|r| r.int("port")).and_then(|p| u16::try_from(p).ok()).unwrap_or(0)
}

fn free_port() -> Outcome<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| format!("no free port: {e}"))
}

fn binary(options: &Options) -> Outcome<PathBuf> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let path = options.node.clone().unwrap_or_else(|| own.with_file_name("echomesh"));
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{}: no node there; build it, or give --node", path.display()))
    }
}

/// What a program said last.
pub fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("it said nothing").to_owned()
}

//! The configuration as typed values: what the rest of the program reads.
use crate::policy::wan::Choice;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A whole, valid configuration. Members as in `docs/protocol.md`; units are in the names.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the sections are named as in the file")]
pub struct Config {
    pub node: Node,
    pub network: Network,
    pub breakers: Breakers,
    pub geo: Geo,
    pub policy: Policy,
    pub security: Security,
    pub privacy: Privacy,
    pub updates: Updates,
    pub ui: Ui,
    pub coordinator: Coordinator,
    pub relay: Relay,
    pub lease: Lease,
    pub probes: Probes,
    pub log: Log,
    pub lab: Lab,
}

/// `node`: who and where this node is, and when it works.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The key file; `~/` is the home directory.
    pub id_path: PathBuf,
    /// Regions the owner lets the node serve, compared as text.
    pub region_allow: Vec<String>,
    /// Windows in the router's local time; none means always.
    pub schedules: Vec<Schedule>,
}

/// A window of the week in local time. One that ends at or before its start ends on the next day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Days on which the window starts, Monday first.
    pub days: [bool; 7],
    /// Minute of the day at which it opens, 0 to 1439.
    pub start_minute: u16,
    /// Minute of the day at which it closes, 0 to 1440 (`24:00`).
    pub end_minute: u16,
}

/// `network`: limits of the owner and lists of hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Cap of all sessions together, 10^6 bit/s, ingress + egress.
    pub max_mbps: f64,
    /// Quota of all sessions together per local day, 10^9 bytes, ingress + egress.
    pub max_gb_per_day: f64,
    /// Quota per month, 10^9 bytes; none if absent.
    pub max_gb_per_month: Option<f64>,
    /// Day on which the month's counter starts anew, 1 to 28.
    pub month_reset_day: u8,
    /// Hosts that may be reached; empty means all.
    pub allowlist_domains: Vec<String>,
    /// Hosts that may not.
    pub blocklist_domains: Vec<String>,
    /// Files of hosts that may be reached.
    pub allowlist_files: Vec<PathBuf>,
    /// Files of hosts that may not.
    pub blocklist_files: Vec<PathBuf>,
    /// How the kernel path offloads flows.
    pub offload: Offload,
    /// The device by which everything leaves.
    pub wan_device: Choice,
    /// The owner's limits for each session.
    pub per_session: SessionLimits,
    /// Limits for each target, of all sessions together.
    pub per_target: PerTarget,
}

/// Connections of all sessions together to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerTarget {
    /// To one host at a time.
    pub max_connections_per_host: u32,
    /// To one registrable domain at a time.
    pub max_connections_per_domain: u32,
    /// To one host per second.
    pub max_new_per_host_per_second: u32,
    /// To one registrable domain per second.
    pub max_new_per_domain_per_second: u32,
}

/// `geo`: when the node is believed to be outside its regions. The owner can be stricter than the contract, not laxer.
#[derive(Clone, Debug, PartialEq)]
pub struct Geo {
    /// Confidence from which a heartbeat is a strike, at most the contract's 0.8.
    pub quarantine_confidence: f64,
    /// Strikes in a row that are a quarantine, at most the contract's 3.
    pub strikes: u32,
    /// Prefixes and their regions.
    pub prefix_file: Option<PathBuf>,
}

/// `breakers`: when a session, or the node, rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakers {
    /// New connections of a session in ten seconds that are no burst.
    pub session_burst: u32,
    /// The same of all sessions together.
    pub node_burst: u32,
    /// How many times its normal is one.
    pub burst_factor: u32,
    /// Share of failed handshakes that is too much, percent.
    pub failure_percent: u32,
    /// Of how many at least.
    pub failure_samples: u32,
    /// So many forged orders within an hour are a quarantine.
    pub forged_orders: u32,
    /// How long nothing new is opened, seconds.
    pub cool_down_s: u32,
}

/// Limits of one session; an absent one means no limit of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionLimits {
    /// 10^6 bit/s, ingress + egress.
    pub max_mbps: Option<f64>,
    /// Depth of the rate's bucket, 1000 bytes.
    pub burst_kb: Option<u64>,
    /// 10^9 bytes over the session's life.
    pub max_gb: Option<f64>,
    /// 10^9 bytes per UTC day.
    pub max_gb_per_day: Option<f64>,
    /// Connections at a time.
    pub max_connections: Option<u32>,
    /// New connections per second.
    pub max_new_per_second: Option<u32>,
    /// New connections per second to one host.
    pub max_new_per_host_per_second: Option<u32>,
}

/// `network.offload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the file")]
pub enum Offload {
    #[default]
    Auto,
    Hardware,
    Software,
    Off,
}

/// `policy`: categories and probes.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `COMPLIANT_DEFAULT` is the only profile so far.
    pub category_profile: String,
    /// Categories the owner does not want to serve.
    pub category_opt_out: Vec<String>,
    /// Sensitive categories of hosts that may be reached all the same.
    pub host_categories_allowed: Vec<String>,
    /// Whether a probe may use plain HTTP on port 80.
    pub allow_plain_http_probes: bool,
}

/// `security`: name resolution, guard and sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Security {
    /// Whether names are resolved by DNS over HTTPS.
    pub dns_over_https: bool,
    /// The RFC 8484 resolver, an `https` URL.
    pub doh_url: Option<String>,
    /// Addresses of the resolver, so that no other resolver is asked for it.
    pub doh_bootstrap: Vec<IpAddr>,
    /// CA that signs for the resolver, instead of the system's.
    pub doh_ca_file: Option<PathBuf>,
    /// How much of the sandbox must be in force.
    pub sandbox_mode: SandboxMode,
    /// Whether the node may carry anything without the guard's firewall table.
    pub guard: GuardMode,
    /// File with the passphrase of the key.
    pub passphrase_file: Option<PathBuf>,
}

/// `privacy`: what the node writes down about its buyers.
#[derive(Clone, Debug, PartialEq)]
pub struct Privacy {
    /// Whether lines of the access log have the buyer's address.
    pub log_buyer_address: bool,
    /// How long the access log and the archive of what was billed are kept, days.
    pub retention_days: u16,
}

/// `security.sandboxMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the file")]
pub enum SandboxMode {
    Strict,
    Standard,
    Off,
}

/// `security.guard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the file")]
pub enum GuardMode {
    Required,
    Optional,
}

/// `updates`.
#[derive(Clone, Debug, PartialEq)]
pub struct Updates {
    /// Whether a new release is installed without asking.
    pub auto_update: bool,
    /// The release channel.
    pub channel: String,
    /// Base64 Ed25519 keys that may sign releases.
    pub public_keys: Vec<String>,
    /// How many of them must.
    pub threshold: u32,
}

/// `ui`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ui {
    /// Whether heartbeats carry `telemetry`.
    pub telemetry_opt_in: bool,
}

/// `coordinator`: whom the node takes orders from.
#[derive(Clone, Debug, PartialEq)]
pub struct Coordinator {
    /// Base URL, `https`; without it the node is `unconfigured`.
    pub url: Option<String>,
    /// Base64 Ed25519 key that signs orders.
    pub public_key: Option<String>,
    /// CA that signs for the coordinator, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// `relay`: where buyers connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Relay {
    /// Address and port of the TLS listener.
    pub listen: SocketAddr,
    /// Address, or absolute path of a Unix socket, of the listener without TLS; loopback only.
    pub listen_plain: Option<String>,
    /// Names in the listener's certificate.
    pub names: Vec<String>,
    /// Whether buyers connect to the node or through a tunnel that it dials.
    pub transport: Transport,
    /// Connections that nobody has authenticated yet, of all sources.
    pub max_pending: u32,
    /// The same of one source.
    pub max_pending_per_source: u32,
    /// TLS handshakes of sources that are not known as buyers'.
    pub max_handshakes_per_second: u32,
    /// The same of one source.
    pub max_handshakes_per_source_per_second: u32,
}

/// `relay.transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the file")]
pub enum Transport {
    Auto,
    Direct,
    Tunnel,
}

/// `lease`: the kernel path.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// First and last lease port.
    pub ports: (u16, u16),
    /// Bits of the packet mark that the node may use.
    pub mark_mask: u32,
}

/// `probes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Probes {
    /// Hosts the owner lets the coordinator challenge the node with.
    pub approved_hosts: Vec<String>,
    /// CA that signs for them, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// `log`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// What is logged.
    pub level: Level,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as in the file")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// `lab`: stands beside 443 and the public addresses in every check; read in builds with feature `lab` alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lab {
    /// Addresses or prefixes (`127.0.0.1`, `127.0.0.0/8`).
    pub allow_addresses: Vec<(IpAddr, u8)>,
    /// Ports.
    pub ports: Vec<u16>,
}

/// Names of the days in a schedule, Monday first.
pub const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The words of an enumeration, both ways.
macro_rules! words {
    ($($type:ident { $($variant:ident $word:literal),* })*) => {$(
        impl $type {
            /// The word for it in the configuration.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $word),* }
            }

            /// From the word for it in the configuration.
            pub fn parse(text: &str) -> Option<$type> {
                match text { $($word => Some($type::$variant),)* _ => None }
            }
        }
    )*};
}

words! {
    Offload { Auto "auto", Hardware "hardware", Software "software", Off "off" }
    SandboxMode { Strict "strict", Standard "standard", Off "off" }
    GuardMode { Required "required", Optional "optional" }
    Transport { Auto "auto", Direct "direct", Tunnel "tunnel" }
    Level { Error "error", Warn "warn", Info "info", Debug "debug" }
}

//! The rows of the schema.
use super::forms::Form;
use super::schema::Apply::{Live, Rebind, Reconnect, Register, Restart};
use super::schema::Default::{By, Is, Required, Unset, With};
use super::schema::Kind::{Bool, Choice, Choices, Int, Ints, Number, Text, Texts, True};
use super::schema::Opt;
use crate::policy::categories;

macro_rules! options {
    ($($path:literal, $uci:literal: $kind:expr, $default:expr, $unit:literal, $apply:expr, $doc:literal;)*) => {
        &[$(Opt { path: $path, uci: $uci, kind: $kind, default: $default, unit: $unit, apply: $apply, doc: $doc }),*]
    };
}

const DAYS: &[&str] = &["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const CATEGORIES: &[&str] = &["ad-verification", "qa"];
const PLAIN: &str = "traffic that is not HTTPS is never carried, and no option changes that";

/// Every option, sections together, in the order of the written file.
pub static OPTIONS: &[Opt] = options! {
    "version", "echomesh.version": Int(1, 1), Required, "", Restart,
        "Version of the configuration's form.";

    "node.idPath", "node.id_path": Text(Form::Path), By(r#""/etc/echomesh/node.key""#, r#""~/.echomesh/node.key""#), "", Restart,
        "The file with the node's private key; it is made at the first start.";
    "node.regionAllow", "node.region_allow": Texts(Form::Region, 64), Is("[]"), "", Register,
        "Regions the node may serve; a session for another region is refused, so without one nothing is carried.";
    "node.schedules[].days", "schedule.days": Choices(DAYS, 1), Required, "", Live,
        "Days on which the window opens; a window past midnight belongs to the day it opens.";
    "node.schedules[].start", "schedule.start": Text(Form::Start), Required, "router's time zone", Live,
        "When the window opens.";
    "node.schedules[].end", "schedule.end": Text(Form::End), Required, "router's time zone", Live,
        "When the window closes; at or before the start means on the next day.";

    "network.maxMbps", "network.max_mbps": Number(0.1, 100_000.0), Is("10"), "Mbit/s", Live,
        "Rate of all sessions together, both directions added.";
    "network.maxGBPerDay", "network.max_gb_per_day": Number(0.001, 1_000_000.0), Is("20"), "GB", Live,
        "Volume of all sessions together per day of the router's time zone, both directions added.";
    "network.maxGBPerMonth", "network.max_gb_per_month": Number(0.001, 10_000_000.0), Unset, "GB", Live,
        "Volume of all sessions together per month, both directions added; unset means no monthly limit.";
    "network.monthResetDay", "network.month_reset_day": Int(1, 28), Is("1"), "day of the month", Live,
        "Day on which the month's volume starts anew.";
    "network.httpsOnly", "network.https_only": True(PLAIN), Is("true"), "", Live,
        "Only HTTPS is carried; false is refused.";
    "network.allowlistDomains", "network.allowlist_domains": Texts(Form::Domain, 10_000), Is("[]"), "", Live,
        "Domains that may be reached, each with everything below it; an empty list means all.";
    "network.blocklistDomains", "network.blocklist_domains": Texts(Form::Domain, 10_000), Is("[]"), "", Live,
        "Domains that may not be reached, each with everything below it; this list wins.";
    "network.allowlistFiles", "network.allowlist_files": Texts(Form::Path, 16), Is("[]"), "", Live,
        "Files of domains that may be reached besides those of allowlistDomains; with a file an empty list allows nothing.";
    "network.blocklistFiles", "network.blocklist_files": Texts(Form::Path, 16), Is("[]"), "", Live,
        "Files of domains that may not be reached: hosts files, one name per line, or adblock's domain rules. Read at the start, on SIGHUP, and when the option changes.";
    "network.offload", "network.offload": Choice(&["auto", "hardware", "software", "off"]), Is(r#""auto""#), "", Live,
        "How the kernel carries leases: by its ordinary forwarding (off), or through a flowtable in software (auto, software, and hardware too: status says why).";
    "network.wanDevice", "network.wan_device": Text(Form::WanDevice), Is(r#""auto""#), "", Live,
        "Device by which everything leaves that goes to the Internet; auto is that of the default route with the lowest metric, for IPv4 and IPv6 each.";
    "network.perSession.maxMbps", "per_session.max_mbps": Number(0.1, 100_000.0), Unset, "Mbit/s", Live,
        "Rate of one session, both directions added; unset means that only the node's own limit holds.";
    "network.perSession.burstKB", "per_session.burst_kb": Int(16, 1_000_000), Unset, "KB", Live,
        "What one session may carry at once after a pause, beyond its rate.";
    "network.perSession.maxGB", "per_session.max_gb": Number(0.001, 1_000_000.0), Unset, "GB", Live,
        "Volume of one session over its life, both directions added.";
    "network.perSession.maxGBPerDay", "per_session.max_gb_per_day": Number(0.001, 1_000_000.0), Unset, "GB", Live,
        "Volume of one session per UTC day, both directions added.";
    "network.perSession.maxConnections", "per_session.max_connections": Int(1, 65_535), Is("512"), "connections", Live,
        "Connections of one session at a time.";
    "network.perSession.maxNewPerSecond", "per_session.max_new_per_second": Int(1, 100_000), Is("100"), "1/s", Live,
        "New connections of one session per second.";
    "network.perSession.maxNewPerHostPerSecond", "per_session.max_new_per_host_per_second": Int(1, 100_000), Is("50"), "1/s", Live,
        "New connections of one session to one host per second.";

    "network.perTarget.maxConnectionsPerHost", "per_target.max_connections_per_host": Int(1, 65_535), Is("512"), "connections", Live,
        "Connections of all sessions together to one host at a time.";
    "network.perTarget.maxConnectionsPerDomain", "per_target.max_connections_per_domain": Int(1, 65_535), Is("1024"), "connections", Live,
        "Connections of all sessions together to one registrable domain (example.com, example.co.uk) at a time.";
    "network.perTarget.maxNewPerHostPerSecond", "per_target.max_new_per_host_per_second": Int(1, 10_000), Is("100"), "1/s", Live,
        "New connections of all sessions together to one host per second.";
    "network.perTarget.maxNewPerDomainPerSecond", "per_target.max_new_per_domain_per_second": Int(1, 10_000), Is("200"), "1/s", Live,
        "New connections of all sessions together to one registrable domain per second.";

    "breakers.sessionBurst", "breakers.session_burst": Int(1, 1_000_000), Is("800"), "connections in 10 s", Live,
        "New connections of one session in ten seconds that are never a burst; more trip its breaker, unless it was as busy before.";
    "breakers.nodeBurst", "breakers.node_burst": Int(1, 1_000_000), Is("3000"), "connections in 10 s", Live,
        "The same of all sessions together.";
    "breakers.burstFactor", "breakers.burst_factor": Int(2, 1000), Is("5"), "", Live,
        "How many times its recent normal a session, or the node, may open in ten seconds when that is more than the above.";
    "breakers.failurePercent", "breakers.failure_percent": Int(1, 100), Is("60"), "%", Live,
        "Share of failed handshakes in the last minute (hellos refused, targets that refuse or reset) that trips a session's breaker.";
    "breakers.failureSamples", "breakers.failure_samples": Int(5, 100_000), Is("40"), "connections", Live,
        "How many handshakes must have been seen before that share counts.";
    "breakers.forgedOrders", "breakers.forged_orders": Int(1, 1000), Is("20"), "orders in 1 h", Live,
        "So many orders and probe requests within an hour that the coordinator did not sign, or that name another node, put the node into quarantine.";
    "breakers.coolDownSeconds", "breakers.cool_down_seconds": Int(1, 86_400), Is("30"), "s", Live,
        "How long nothing new is opened after a breaker has tripped; twice as long each time that it trips again within ten minutes.";

    "geo.quarantineConfidence", "geo.quarantine_confidence": Number(0.5, 0.8), Is("0.8"), "", Live,
        "Confidence that the node is outside node.regionAllow from which a heartbeat is a strike.";
    "geo.strikes", "geo.strikes": Int(1, 3), Is("3"), "heartbeats", Live,
        "So many strikes in a row put the node into quarantine.";
    "geo.prefixFile", "geo.prefix_file": Text(Form::Path), Unset, "", Live,
        "A file of lines `prefix,region` (203.0.113.0/24,PH) that tells the region of the WAN address.";

    "policy.categoryProfile", "policy.category_profile": Choice(&["COMPLIANT_DEFAULT"]), Is(r#""COMPLIANT_DEFAULT""#), "", Live,
        "Which categories of buyers' work are served: COMPLIANT_DEFAULT is ad-verification and qa.";
    "policy.categoryOptOut", "policy.category_opt_out": Choices(CATEGORIES, 0), Is("[]"), "", Live,
        "Categories of the profile that this node does not serve.";
    "policy.hostCategoriesAllowed", "policy.host_categories_allowed": Choices(categories::NAMES, 0), Is("[]"), "", Live,
        "Sensitive categories of hosts that may be reached all the same; without a word none may.";
    "policy.allowPlainHttpProbes", "policy.allow_plain_http_probes": Bool, Is("false"), "", Live,
        "Whether a probe may use plain HTTP on port 80; buyers never may.";

    "security.dnsOverHttps", "security.dns_over_https": Bool, Is("true"), "", Live,
        "Whether names are resolved by DNS over HTTPS (RFC 8484) instead of the system's resolver.";
    "security.dohUrl", "security.doh_url": Text(Form::HttpsUrl), Is(r#""https://dns.quad9.net/dns-query""#), "", Live,
        "The DNS over HTTPS server.";
    "security.dohBootstrap", "security.doh_bootstrap": Texts(Form::Address, 8),
        With("security.dohUrl", r#"["9.9.9.9", "149.112.112.112", "2620:fe::fe", "2620:fe::9"]"#), "", Live,
        "Addresses of that server; without any the system's resolver is asked for its name. By default those of the default server; change both together.";
    "security.dohCaFile", "security.doh_ca_file": Text(Form::Path), Unset, "", Live,
        "PEM file of the CA that signs for that server, instead of the system's.";
    "security.sandboxMode", "security.sandbox_mode": Choice(&["strict", "standard", "off"]), Is(r#""strict""#), "", Restart,
        "How much of the sandbox must be in force: `strict` does not start where a layer but Landlock is missing, `standard` starts and names it in the status, `off` confines nothing.";
    "security.guard", "security.guard": Choice(&["required", "optional"]), By(r#""required""#, r#""optional""#), "", Restart,
        "Whether nothing is carried unless the guard's firewall table stands.";
    "security.passphraseFile", "security.passphrase_file": Text(Form::Path), Unset, "", Restart,
        "File whose first line is the passphrase of the sealed key; only the node's user may read it. Without one the node starts locked.";

    "privacy.logBuyerAddress", "privacy.log_buyer_address": Bool, Is("false"), "", Live,
        "Whether lines of the access log have the buyer's address.";
    "privacy.retentionDays", "privacy.retention_days": Int(1, 90), Is("7"), "days", Live,
        "How long the access log and the archive of what was billed are kept; the coordinator's answers may take a few days.";

    "updates.autoUpdate", "updates.auto_update": Bool, Is("true"), "", Live,
        "Whether a new release is installed without asking.";
    "updates.channel", "updates.channel": Text(Form::Channel), Is(r#""stable""#), "", Live,
        "The channel that releases are taken from.";
    "updates.publicKeys", "updates.public_keys": Texts(Form::PublicKey, 16), Is("[]"), "", Live,
        "Keys that may sign releases; without one none is installed.";
    "updates.threshold", "updates.threshold": Int(1, 16), Is("1"), "signatures", Live,
        "How many of those keys must have signed a release.";

    "ui.telemetryOptIn", "ui.telemetry_opt_in": Bool, Is("false"), "", Live,
        "Whether the coordinator is told board, kernel, memory and processor load.";

    "coordinator.url", "coordinator.url": Text(Form::HttpsUrl), Unset, "", Reconnect,
        "The coordinator's base URL; without it the node is unconfigured and carries nothing.";
    "coordinator.publicKey", "coordinator.public_key": Text(Form::PublicKey), Unset, "", Reconnect,
        "The key that signs the coordinator's orders; required with the URL.";
    "coordinator.caFile", "coordinator.ca_file": Text(Form::Path), Unset, "", Reconnect,
        "PEM file of the CA that signs for the coordinator, instead of the system's.";

    "relay.listen", "relay.listen": Text(Form::Listen), Is(r#""0.0.0.0:8443""#), "", Rebind,
        "Where buyers connect with TLS.";
    "relay.listenPlain", "relay.listen_plain": Text(Form::PlainListen), Unset, "", Rebind,
        "A second listener, without TLS, for this machine alone.";
    "relay.names", "relay.names": Texts(Form::HostOrAddress, 32), Is("[]"), "", Rebind,
        "Names and addresses in the certificate of the listener.";
    "relay.transport", "relay.transport": Choice(&["auto", "direct", "tunnel"]), Is(r#""auto""#), "", Rebind,
        "Whether buyers connect to the node or come through a tunnel that the node dials.";
    "relay.maxPending", "relay.max_pending": Int(16, 4096), Is("512"), "connections", Live,
        "Connections that no buyer has authenticated yet, of all sources; beyond it the heaviest sources' are dropped.";
    "relay.maxPendingPerSource", "relay.max_pending_per_source": Int(1, 4096), Is("64"), "connections", Live,
        "The same of one source: an IPv4 address or an IPv6 /64. One that buyers came from in the last day may have half of all.";
    "relay.maxHandshakesPerSecond", "relay.max_handshakes_per_second": Int(1, 100_000), Is("100"), "1/s", Live,
        "TLS handshakes of sources that no buyer came from in the last day; those others have four times as many for themselves.";
    "relay.maxHandshakesPerSourcePerSecond", "relay.max_handshakes_per_source_per_second": Int(1, 100_000), Is("20"), "1/s", Live,
        "TLS handshakes of one source that no buyer came from in the last day.";

    "lease.ports", "lease.ports": Text(Form::Ports), Is(r#""40000-40999""#), "", Restart,
        "Ports of the router at which buyers who have a lease connect. No firewall rule has to open them; nothing may listen there, relay.listen included.";
    "lease.markMask", "lease.mark_mask": Text(Form::MarkMask), Is(r#""0x0f000000""#), "", Restart,
        "Bits of the packet mark that the node may use: leases need four, the relay one. mwan3, pbr and zapret have others.";

    "probes.approvedHosts", "probes.approved_hosts": Texts(Form::Host, 64), Is("[]"), "", Live,
        "Hosts from which a probe may fetch; the coordinator must name them too.";
    "probes.caFile", "probes.ca_file": Text(Form::Path), Unset, "", Live,
        "PEM file of the CA that signs for those hosts, instead of the system's.";

    "log.level", "log.level": Choice(&["error", "warn", "info", "debug"]), Is(r#""info""#), "", Live,
        "The least severe messages that are logged.";

    "lab.allowAddresses", "lab.allow_addresses": Texts(Form::Prefix, 64), Unset, "", Live,
        "Addresses that may be reached besides the public ones; only builds for the laboratory read this.";
    "lab.ports", "lab.ports": Ints(1, 65_535, 64), Unset, "", Live,
        "Ports that may be reached besides 443; only builds for the laboratory read this.";
};

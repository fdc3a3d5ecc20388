//! Typed values to a complete document.
use super::model::*;
use crate::json::{Value, array, object};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

impl Config {
    /// The complete document, defaults included, in the schema's order. Unset options are left out.
    pub fn to_value(&self) -> Value {
        let mut document = section([
            ("version", Some(1.into())),
            ("node", Some(self.node.to_value())),
            ("network", Some(self.network.to_value())),
            ("breakers", Some(self.breakers.to_value())),
            ("geo", Some(self.geo.to_value())),
            ("policy", Some(self.policy.to_value())),
            ("security", Some(self.security.to_value())),
            ("privacy", Some(self.privacy.to_value())),
            ("updates", Some(self.updates.to_value())),
            ("ui", Some(object([("telemetryOptIn", self.ui.telemetry_opt_in.into())]))),
            ("coordinator", Some(self.coordinator.to_value())),
            ("relay", Some(self.relay.to_value())),
            ("lease", Some(self.lease.to_value())),
            ("probes", Some(self.probes.to_value())),
            ("log", Some(object([("level", self.log.level.name().into())]))),
        ]);
        // A release binary refuses the section, so a file that does not use it must not have it.
        if self.lab != Lab::default() {
            document.set("lab", self.lab.to_value());
        }
        document
    }

    /// The document as a YAML file that a person can edit.
    pub fn to_yaml(&self) -> String {
        super::emit::yaml(&self.to_value())
    }

    /// What changes when the configuration does: 16 hexadecimal digits of the canonical document's BLAKE3.
    pub fn etag(&self) -> String {
        blake3::hash(self.to_value().canonical().as_bytes()).to_hex().chars().take(16).collect()
    }
}

impl Node {
    fn to_value(&self) -> Value {
        section([
            ("idPath", Some(path(&self.id_path))),
            ("regionAllow", Some(texts(&self.region_allow))),
            ("schedules", Some(array(self.schedules.iter().map(Schedule::to_value)))),
        ])
    }
}

impl Schedule {
    fn to_value(&self) -> Value {
        let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
        let days = DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|(name, _)| *name);
        section([
            ("days", Some(array(days))),
            ("start", Some(clock(self.start_minute).into())),
            ("end", Some(clock(self.end_minute).into())),
        ])
    }
}

impl Network {
    fn to_value(&self) -> Value {
        section([
            ("maxMbps", Some(number(self.max_mbps))),
            ("maxGBPerDay", Some(number(self.max_gb_per_day))),
            ("maxGBPerMonth", self.max_gb_per_month.map(number)),
            ("monthResetDay", Some(u32::from(self.month_reset_day).into())),
            ("httpsOnly", Some(true.into())),
            ("allowlistDomains", Some(texts(&self.allowlist_domains))),
            ("blocklistDomains", Some(texts(&self.blocklist_domains))),
            ("allowlistFiles", Some(paths(&self.allowlist_files))),
            ("blocklistFiles", Some(paths(&self.blocklist_files))),
            ("offload", Some(self.offload.name().into())),
            ("wanDevice", Some(self.wan_device.name().into())),
            ("perSession", Some(self.per_session.to_value())),
            ("perTarget", Some(self.per_target.to_value())),
        ])
    }
}

impl PerTarget {
    fn to_value(&self) -> Value {
        section([
            ("maxConnectionsPerHost", Some(self.max_connections_per_host.into())),
            ("maxConnectionsPerDomain", Some(self.max_connections_per_domain.into())),
            ("maxNewPerHostPerSecond", Some(self.max_new_per_host_per_second.into())),
            ("maxNewPerDomainPerSecond", Some(self.max_new_per_domain_per_second.into())),
        ])
    }
}

impl Geo {
    fn to_value(&self) -> Value {
        section([
            ("quarantineConfidence", Some(number(self.quarantine_confidence))),
            ("strikes", Some(self.strikes.into())),
            ("prefixFile", self.prefix_file.as_deref().map(path)),
        ])
    }
}

impl Breakers {
    fn to_value(&self) -> Value {
        section([
            ("sessionBurst", Some(self.session_burst.into())),
            ("nodeBurst", Some(self.node_burst.into())),
            ("burstFactor", Some(self.burst_factor.into())),
            ("failurePercent", Some(self.failure_percent.into())),
            ("failureSamples", Some(self.failure_samples.into())),
            ("forgedOrders", Some(self.forged_orders.into())),
            ("coolDownSeconds", Some(self.cool_down_s.into())),
        ])
    }
}

impl SessionLimits {
    /// The limits that are set, as the configuration and the coordinator name them.
    pub fn to_value(&self) -> Value {
        section([
            ("maxMbps", self.max_mbps.map(number)),
            ("burstKB", self.burst_kb.map(Value::from)),
            ("maxGB", self.max_gb.map(number)),
            ("maxGBPerDay", self.max_gb_per_day.map(number)),
            ("maxConnections", self.max_connections.map(Value::from)),
            ("maxNewPerSecond", self.max_new_per_second.map(Value::from)),
            ("maxNewPerHostPerSecond", self.max_new_per_host_per_second.map(Value::from)),
        ])
    }
}

impl Policy {
    fn to_value(&self) -> Value {
        section([
            ("categoryProfile", Some(self.category_profile.as_str().into())),
            ("categoryOptOut", Some(texts(&self.category_opt_out))),
            ("hostCategoriesAllowed", Some(texts(&self.host_categories_allowed))),
            ("allowPlainHttpProbes", Some(self.allow_plain_http_probes.into())),
        ])
    }
}

impl Privacy {
    fn to_value(&self) -> Value {
        object([
            ("logBuyerAddress", self.log_buyer_address.into()),
            ("retentionDays", self.retention_days.into()),
        ])
    }
}

impl Security {
    fn to_value(&self) -> Value {
        let bootstrap = array(self.doh_bootstrap.iter().map(IpAddr::to_string));
        section([
            ("dnsOverHttps", Some(self.dns_over_https.into())),
            ("dohUrl", self.doh_url.as_deref().map(Value::from)),
            ("dohBootstrap", self.doh_url.as_ref().map(|_| bootstrap)),
            ("dohCaFile", self.doh_ca_file.as_deref().map(path)),
            ("sandboxMode", Some(self.sandbox_mode.name().into())),
            ("guard", Some(self.guard.name().into())),
            ("passphraseFile", self.passphrase_file.as_deref().map(path)),
        ])
    }
}

impl Updates {
    fn to_value(&self) -> Value {
        section([
            ("autoUpdate", Some(self.auto_update.into())),
            ("channel", Some(self.channel.as_str().into())),
            ("publicKeys", Some(texts(&self.public_keys))),
            ("threshold", Some(self.threshold.into())),
        ])
    }
}

impl Coordinator {
    fn to_value(&self) -> Value {
        section([
            ("url", self.url.as_deref().map(Value::from)),
            ("publicKey", self.public_key.as_deref().map(Value::from)),
            ("caFile", self.ca_file.as_deref().map(path)),
        ])
    }
}

impl Relay {
    fn to_value(&self) -> Value {
        section([
            ("listen", Some(self.listen.to_string().into())),
            ("listenPlain", self.listen_plain.as_deref().map(Value::from)),
            ("names", Some(texts(&self.names))),
            ("transport", Some(self.transport.name().into())),
            ("maxPending", Some(self.max_pending.into())),
            ("maxPendingPerSource", Some(self.max_pending_per_source.into())),
            ("maxHandshakesPerSecond", Some(self.max_handshakes_per_second.into())),
            ("maxHandshakesPerSourcePerSecond", Some(self.max_handshakes_per_source_per_second.into())),
        ])
    }
}

impl Lease {
    fn to_value(&self) -> Value {
        section([
            ("ports", Some(format!("{}-{}", self.ports.0, self.ports.1).into())),
            ("markMask", Some(format!("{:#010x}", self.mark_mask).into())),
        ])
    }
}

impl Probes {
    fn to_value(&self) -> Value {
        section([
            ("approvedHosts", Some(texts(&self.approved_hosts))),
            ("caFile", self.ca_file.as_deref().map(path)),
        ])
    }
}

impl Lab {
    fn to_value(&self) -> Value {
        let addresses = self.allow_addresses.iter().map(|(a, length)| format!("{a}/{length}"));
        section([
            ("allowAddresses", Some(array(addresses))),
            ("ports", Some(array(self.ports.iter().copied()))),
        ])
    }
}

fn section<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    object(members.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// A number that is whole is written as an integer.
fn number(n: f64) -> Value {
    let value = Value::from(n);
    value.as_int().map_or(value, Value::from)
}

fn texts(items: &[String]) -> Value {
    array(items.iter().map(String::as_str))
}

fn paths(paths: &[PathBuf]) -> Value {
    array(paths.iter().map(|p| path(p)))
}

fn path(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

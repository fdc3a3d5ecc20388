//! A complete, valid document to typed values.
use super::errors::Problem;
use super::forms;
use super::model::*;
use super::schema;
use crate::json::Value;
use crate::policy::wan::Choice;
use std::path::PathBuf;

/// The typed configuration. The document is [`schema::complete`] and valid; an error here would be a fault of the
/// schema, and it is reported like any other instead of being trusted not to happen.
pub fn build(document: &Value) -> Result<Config, Problem> {
    let doc = Doc(document);
    Ok(Config {
        node: Node {
            id_path: doc.get("node.idPath", path)?,
            region_allow: doc.list("node.regionAllow", text)?,
            schedules: doc.list("node.schedules", schedule)?,
        },
        network: network(&doc)?,
        geo: Geo {
            quarantine_confidence: doc.get("geo.quarantineConfidence", Value::as_f64)?,
            strikes: doc.get("geo.strikes", unsigned)?,
            prefix_file: doc.optional("geo.prefixFile", path)?,
        },
        breakers: Breakers {
            session_burst: doc.get("breakers.sessionBurst", unsigned)?,
            node_burst: doc.get("breakers.nodeBurst", unsigned)?,
            burst_factor: doc.get("breakers.burstFactor", unsigned)?,
            failure_percent: doc.get("breakers.failurePercent", unsigned)?,
            failure_samples: doc.get("breakers.failureSamples", unsigned)?,
            forged_orders: doc.get("breakers.forgedOrders", unsigned)?,
            cool_down_s: doc.get("breakers.coolDownSeconds", unsigned)?,
        },
        policy: Policy {
            category_profile: doc.get("policy.categoryProfile", text)?,
            category_opt_out: doc.list("policy.categoryOptOut", text)?,
            host_categories_allowed: doc.list("policy.hostCategoriesAllowed", text)?,
            allow_plain_http_probes: doc.get("policy.allowPlainHttpProbes", Value::as_bool)?,
        },
        security: security(&doc)?,
        privacy: Privacy {
            log_buyer_address: doc.get("privacy.logBuyerAddress", Value::as_bool)?,
            retention_days: doc.get("privacy.retentionDays", unsigned)?,
        },
        updates: Updates {
            auto_update: doc.get("updates.autoUpdate", Value::as_bool)?,
            channel: doc.get("updates.channel", text)?,
            public_keys: doc.list("updates.publicKeys", text)?,
            threshold: doc.get("updates.threshold", unsigned)?,
        },
        ui: Ui { telemetry_opt_in: doc.get("ui.telemetryOptIn", Value::as_bool)? },
        coordinator: Coordinator {
            url: doc.optional("coordinator.url", text)?,
            public_key: doc.optional("coordinator.publicKey", text)?,
            ca_file: doc.optional("coordinator.caFile", path)?,
        },
        relay: Relay {
            listen: doc.get("relay.listen", |v| v.as_str()?.parse().ok())?,
            listen_plain: doc.optional("relay.listenPlain", text)?,
            names: doc.list("relay.names", host)?,
            transport: doc.get("relay.transport", |v| Transport::parse(v.as_str()?))?,
            max_pending: doc.get("relay.maxPending", unsigned)?,
            max_pending_per_source: doc.get("relay.maxPendingPerSource", unsigned)?,
            max_handshakes_per_second: doc.get("relay.maxHandshakesPerSecond", unsigned)?,
            max_handshakes_per_source_per_second: doc
                .get("relay.maxHandshakesPerSourcePerSecond", unsigned)?,
        },
        lease: Lease {
            ports: doc.get("lease.ports", |v| forms::ports(v.as_str()?))?,
            mark_mask: doc.get("lease.markMask", |v| forms::mark_mask(v.as_str()?))?,
        },
        probes: Probes {
            approved_hosts: doc.list("probes.approvedHosts", host)?,
            ca_file: doc.optional("probes.caFile", path)?,
        },
        log: Log { level: doc.get("log.level", |v| Level::parse(v.as_str()?))? },
        lab: Lab {
            allow_addresses: doc.list("lab.allowAddresses", |v| forms::prefix(v.as_str()?))?,
            ports: doc.list("lab.ports", unsigned)?,
        },
    })
}

fn network(doc: &Doc) -> Result<Network, Problem> {
    Ok(Network {
        max_mbps: doc.get("network.maxMbps", Value::as_f64)?,
        max_gb_per_day: doc.get("network.maxGBPerDay", Value::as_f64)?,
        max_gb_per_month: doc.optional("network.maxGBPerMonth", Value::as_f64)?,
        month_reset_day: doc.get("network.monthResetDay", unsigned)?,
        allowlist_domains: doc.list("network.allowlistDomains", host)?,
        blocklist_domains: doc.list("network.blocklistDomains", host)?,
        allowlist_files: doc.list("network.allowlistFiles", path)?,
        blocklist_files: doc.list("network.blocklistFiles", path)?,
        offload: doc.get("network.offload", |v| Offload::parse(v.as_str()?))?,
        wan_device: doc.get("network.wanDevice", |v| v.as_str().map(Choice::of))?,
        per_session: SessionLimits {
            max_mbps: doc.optional("network.perSession.maxMbps", Value::as_f64)?,
            burst_kb: doc.optional("network.perSession.burstKB", unsigned)?,
            max_gb: doc.optional("network.perSession.maxGB", Value::as_f64)?,
            max_gb_per_day: doc.optional("network.perSession.maxGBPerDay", Value::as_f64)?,
            max_connections: doc.optional("network.perSession.maxConnections", unsigned)?,
            max_new_per_second: doc.optional("network.perSession.maxNewPerSecond", unsigned)?,
            max_new_per_host_per_second: doc
                .optional("network.perSession.maxNewPerHostPerSecond", unsigned)?,
        },
        per_target: PerTarget {
            max_connections_per_host: doc.get("network.perTarget.maxConnectionsPerHost", unsigned)?,
            max_connections_per_domain: doc.get("network.perTarget.maxConnectionsPerDomain", unsigned)?,
            max_new_per_host_per_second: doc.get("network.perTarget.maxNewPerHostPerSecond", unsigned)?,
            max_new_per_domain_per_second: doc.get("network.perTarget.maxNewPerDomainPerSecond", unsigned)?,
        },
    })
}

fn security(doc: &Doc) -> Result<Security, Problem> {
    Ok(Security {
        dns_over_https: doc.get("security.dnsOverHttps", Value::as_bool)?,
        doh_url: doc.optional("security.dohUrl", text)?,
        doh_bootstrap: doc.list("security.dohBootstrap", |v| v.as_str()?.parse().ok())?,
        doh_ca_file: doc.optional("security.dohCaFile", path)?,
        sandbox_mode: doc.get("security.sandboxMode", |v| SandboxMode::parse(v.as_str()?))?,
        guard: doc.get("security.guard", |v| GuardMode::parse(v.as_str()?))?,
        passphrase_file: doc.optional("security.passphraseFile", path)?,
    })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn host(value: &Value) -> Option<String> {
    value.as_str().map(forms::host)
}

fn path(value: &Value) -> Option<PathBuf> {
    forms::path(value.as_str()?)
}

fn unsigned<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    T::try_from(value.as_int()?).ok()
}

fn schedule(value: &Value) -> Option<Schedule> {
    let named = value.member("days")?.as_array()?;
    Some(Schedule {
        days: DAYS.map(|day| named.iter().any(|n| n.as_str() == Some(day))),
        start_minute: forms::start_minute(value.member("start")?.as_str()?)?,
        end_minute: forms::end_minute(value.member("end")?.as_str()?)?,
    })
}

struct Doc<'a>(&'a Value);

impl Doc<'_> {
    fn get<T>(&self, path: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, Problem> {
        self.optional(path, read)?.ok_or_else(|| fault(path))
    }

    fn optional<T>(&self, path: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, Problem> {
        schema::find(self.0, path).map(|v| read(v).ok_or_else(|| fault(path))).transpose()
    }

    fn list<T>(&self, path: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, Problem> {
        let items = schema::find(self.0, path).and_then(Value::as_array).unwrap_or_default();
        items.iter().map(|v| read(v).ok_or_else(|| fault(path))).collect()
    }
}

fn fault(path: &str) -> Problem {
    Problem::new(format!("/{}", path.replace('.', "/")), "has no usable value")
}

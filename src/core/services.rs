//! What the node asks of the parts that do I/O; they are replaced when the configuration changes.
use std::net::IpAddr;

/// The running services, as the node sees them.
pub trait Services {
    /// Whether an address is public and not the router's own (or allowed in the lab).
    fn is_allowed(&self, address: IpAddr) -> bool;
    /// The coordinator returned a certificate for the listener: a PEM chain.
    fn certificate(&self, pem: &str);
    /// The node is registered.
    fn registered(&self);
    /// Something has been done that seldom is, and nothing else may follow for long.
    fn seldom(&self) {}
    /// The registration has named the lists that are to be in force.
    fn lists_wanted(&self);
    /// Something waits to be posted.
    fn outbox_changed(&self);
    /// The state has changed and the coordinator should know soon.
    fn state_changed(&self);
    /// The configuration has changed.
    fn config_changed(&self, old: &crate::config::Config, new: &crate::config::Config);
    /// The ways to this node are others now; the coordinator should know.
    fn ways_changed(&self) {}
    /// What became of connections that nobody authenticated.
    fn strangers(&self) -> crate::relay::admission::Counts {
        crate::relay::admission::Counts::default()
    }
    /// The owner's networks have changed.
    fn networks(&self, _: &[crate::policy::addresses::Prefix]) {}
    /// The line to the Internet is another one now; `None` while it is not known.
    fn wan(&self, _: Option<&crate::policy::wan::Wan>) {}
    /// Whether sockets can be bound to a device here.
    fn binds(&self) -> bool {
        true
    }
    /// The region of an address is wanted from the owner's file; [`super::node::Node::prefix_found`] takes it.
    fn region_wanted(&self, file: &std::path::Path, address: IpAddr);
    /// The machine and this process, for an owner who has opted in to telemetry.
    fn machine(&self) -> Machine;
}

/// What telemetry says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The board's name.
    pub board: String,
    /// The kernel's release.
    pub kernel: String,
    /// Resident memory of this process, 1000 bytes.
    pub rss_kb: u64,
    /// Processor time that this process has used, microseconds.
    pub cpu_us: u64,
}

/// What the coordinator is told of the node's identity and listener.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `sha256//` and the base64 of the listener's SPKI hash.
    pub spki: String,
    /// PEM certificate request for the same key.
    pub csr: Option<String>,
    /// After a rotation: `{nodeId, sig}` of the old key.
    pub previous: Option<crate::json::Value>,
}

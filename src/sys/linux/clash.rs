//! Whether another program is in the way of leases, by their ports or before their table: asked of the kernel.
use super::iptables::Iptables;
use super::netlink::{Tables, until_whole};
use crate::guard::clash::Survey;
use crate::guard::lease_rules::LeaseScope;
use crate::guard::network::Network;
use std::io::{self, ErrorKind};

/// A sentence that says who is in the way, if somebody is.
///
/// # Errors
/// The kernel's: sockets or tables cannot be read, or change faster than they can be.
pub fn claim(
    tables: &mut Tables,
    iptables: &Iptables,
    scope: &LeaseScope,
    network: &Network,
) -> io::Result<Option<String>> {
    if let Some(whose) = iptables.claim()? {
        return Ok(Some(whose));
    }
    until_whole(|| match look(tables, scope, network) {
        Err(e) if e.kind() == ErrorKind::ResourceBusy => Ok(None),
        found => found.map(Some),
    })
}

fn look(tables: &mut Tables, scope: &LeaseScope, network: &Network) -> io::Result<Option<String>> {
    let mut survey = Survey::new(scope.ports, &network.wan);
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match std::fs::read_to_string(path) {
            Ok(text) => survey.take_sockets(&text),
            // A kernel without IPv6.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    tables.survey(&mut survey)?;
    Ok(survey.claim())
}

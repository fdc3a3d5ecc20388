//! What leases stand on: how they can be carried here, and whether their ports are free.
use super::lease_wire::Offload;
use super::network::Network;
use super::offload::{Decision, Facts, decide};
use super::scope::Scope;
use super::table::Flowtable;
use crate::sys::linux::netlink::Tables;
use crate::sys::linux::{clash, offload};

/// The last that was found out.
#[derive(Debug)]
pub struct Grounds {
    facts: Result<Facts, String>,
    way: Result<Decision, String>,
}

impl Grounds {
    /// Finds all of it out.
    pub fn look(tables: &mut Tables, scope: &Scope, network: &Network) -> Grounds {
        let facts = match &scope.leases {
            Some(leases) => offload::facts(tables, leases, network).map_err(|e| unread(&e)),
            None => Err("lease.markMask has fewer than 4 bits".to_owned()),
        };
        let mut grounds = Grounds { facts, way: Err(String::new()) };
        grounds.judge(tables, scope, network);
        grounds
    }

    /// Finds out what other programs change without the network's changing: their tables, sockets and queueing disciplines.
    /// Whether anything is different now.
    pub fn look_again(&mut self, tables: &mut Tables, scope: &Scope, network: &Network) -> bool {
        // Without what it needs of the kernel nothing else matters.
        if let Ok(Facts { table: Err(_), .. }) = &self.facts {
            return false;
        }
        if let Ok(facts) = &mut self.facts
            && let Err(e) = offload::refresh(facts, tables, network)
        {
            self.facts = Err(unread(&e));
        }
        let before = self.way.clone();
        self.judge(tables, scope, network);
        self.way != before
    }

    fn judge(&mut self, tables: &mut Tables, scope: &Scope, network: &Network) {
        self.way = self.facts.as_ref().map_err(Clone::clone).and_then(|facts| {
            let way = decide(scope.offload, facts)?;
            let Some(leases) = &scope.leases else { return Ok(way) };
            match clash::claim(tables, leases, network) {
                Ok(None) => Ok(way),
                Ok(Some(claim)) => Err(claim),
                Err(e) => Err(unread(&e)),
            }
        });
    }

    /// The flowtable of leases, if they have one.
    pub fn flowtable(&self) -> Option<&Flowtable> {
        self.way.as_ref().ok()?.flowtable.as_ref()
    }

    /// Why there can be no leases.
    pub fn obstacle(&self) -> Option<&str> {
        self.way.as_ref().err().map(String::as_str)
    }

    /// How they are carried, why no shaper can hold them so, and why no better.
    pub fn way(&self) -> (Offload, Option<&str>, &str) {
        match &self.way {
            Ok(way) => (way.offload, way.no_caps.as_deref(), &way.reason),
            Err(why) => (Offload::Plain, None, why),
        }
    }
}

fn unread(e: &std::io::Error) -> String {
    format!("what leases need cannot be found out: {e}")
}

//! A session as the kernel path sees it.
use super::{Denied, Flow, Target};
use crate::policy::refusal::Refusal;
use crate::time::Unix;
use std::rc::Rc;

/// What of a session's limits is given to the kernel with a lease. A lease that was granted for others ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// New connections in a second.
    pub new_per_second: u16,
    /// Rate cap, kbit/s; 0 for none.
    pub cap_kbps: u32,
    /// When the session ends.
    pub until: Unix,
}

/// A session whose buyer was authenticated and may have leases.
pub trait Tenant {
    /// Its id.
    fn session(&self) -> &Rc<str>;
    /// What is given to the kernel.
    fn terms(&self) -> LeaseTerms;
    /// Whether all names that the host of a lease is an alias of may be reached.
    ///
    /// # Errors
    /// Why not.
    fn judge_aliases(&self, names: &[String]) -> Result<(), Refusal>;
    /// The checks of a CONNECT for one connection through a lease, and its flow. A refusal is counted and logged.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, target: &Target) -> Result<Flow, Denied>;
    /// Whether a lease would still be given: node, session, lists and quotas as they are now.
    fn still_allowed(&self, target: &Target, aliases: &[String]) -> bool;
    /// Counts and logs a refusal of a request that had passed the first checks.
    fn refused(&self, target: &Target, refusal: Refusal);
}

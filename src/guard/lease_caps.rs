//! Caps of sessions with leases, for the leases' side of the guard: whether there can be any, and which are in force.
use super::caps::Caps;
use super::conntrack::Tuple;
use super::lease_wire::{CtId, Grant};
use super::network::Network;
use super::shaping::{Cap, least};
use super::tc::Ends;
use crate::sorted::SortedMap;
use std::io;
use std::task::{Context, Poll};

/// The caps of leases.
#[derive(Debug)]
pub struct LeaseCaps {
    caps: Result<Caps, String>,
    possible: Result<(), String>,
}

impl Default for LeaseCaps {
    /// None are possible yet.
    fn default() -> LeaseCaps {
        let not_yet = || "what was there of leases has not ended".to_owned();
        LeaseCaps { caps: Err(not_yet()), possible: Err(not_yet()) }
    }
}

impl LeaseCaps {
    /// Begins, if it has not: those that an earlier guard left go. Until its connections have ended they are under them.
    pub fn start_if_new(&mut self, network: &Network) {
        if self.caps.is_err() {
            self.caps = Caps::start().map_err(|e| format!("traffic control: {e}"));
            self.look_around(network);
        }
    }

    /// Why a session with a cap can have no lease; none if it can.
    pub fn obstacle(&self) -> Option<&str> {
        self.possible.as_ref().err().map(String::as_str)
    }

    /// The network may have changed, or what others do with the line.
    pub fn look_around(&mut self, network: &Network) {
        self.possible = match &mut self.caps {
            Ok(caps) => {
                caps.moved(network);
                caps.are_possible()
            }
            Err(why) => Err(why.clone()),
        };
    }

    /// Whether somebody has changed something. Then [`LeaseCaps::wake`] has to be asked.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<()> {
        self.caps.as_ref().map_or(Poll::Pending, |caps| caps.poll_changed(cx))
    }

    /// Takes in what was changed. Caps that do not stand any more are none: see [`LeaseCaps::hold`].
    pub fn wake(&mut self, network: &Network) {
        if let Ok(caps) = &mut self.caps
            && caps.hear()
        {
            _ = caps.verify();
            self.look_around(network);
        }
    }

    /// Whether every lease of a session with a cap has it in force.
    pub fn hold<'a>(&self, mut grants: impl Iterator<Item = &'a Grant>) -> bool {
        grants.all(|g| g.class == 0 || self.caps.as_ref().is_ok_and(|caps| caps.hold(g.class)))
    }

    /// Whether caps are not in force because the line that they were on is gone.
    pub fn went_with_the_line(&self) -> bool {
        self.caps.as_ref().is_ok_and(|caps| !caps.has_line())
    }

    /// Puts the caps of these leases' sessions in force, and none else. Of a session's leases the lowest cap counts.
    ///
    /// # Errors
    /// A sentence; then no cap may be in force.
    pub fn set<'a>(
        &mut self,
        grants: impl Iterator<Item = &'a Grant>,
        total_kbps: u32,
        now_ms: u64,
    ) -> io::Result<()> {
        let list = sessions(grants);
        match &mut self.caps {
            Ok(caps) => caps.set(&list, total_kbps, now_ms).map_err(io::Error::other),
            Err(_) if list.is_empty() => Ok(()),
            Err(why) => Err(io::Error::other(why.clone())),
        }
    }

    /// Puts an accepted connection under its session's cap.
    ///
    /// # Errors
    /// A sentence; then it must not be accepted.
    pub fn begin(
        &mut self,
        class: u16,
        ct: CtId,
        original: Tuple,
        answer: Option<Tuple>,
    ) -> Result<(), String> {
        if class == 0 {
            return Ok(());
        }
        let answer = answer.ok_or("the kernel does not say how it is answered")?;
        let leaving = |tuple: Tuple| Ends { from: tuple.to, to: tuple.from };
        let caps = self.caps.as_mut().map_err(|why| why.clone())?;
        caps.begin(ct, class, [leaving(original), leaving(answer)])
    }

    /// A connection is over.
    pub fn end(&mut self, ct: CtId) {
        if let Ok(caps) = &mut self.caps
            && let Err(e) = caps.end(ct)
        {
            crate::error!("{e}");
        }
    }

    /// When [`LeaseCaps::tidy`] has something to do.
    pub fn due_ms(&self) -> Option<u64> {
        self.caps.as_ref().ok().and_then(Caps::due_ms)
    }

    /// Takes away what no session has needed for a while. Caps may not be in force any more then: see [`LeaseCaps::hold`].
    pub fn tidy(&mut self, now_ms: u64) {
        if let Ok(caps) = &mut self.caps {
            caps.tidy(now_ms);
        }
    }

    /// The guard ends: the line is as it was.
    pub fn stop(&mut self) {
        if let Ok(caps) = &mut self.caps {
            caps.clear();
        }
    }
}

/// The caps of the leases' sessions.
fn sessions<'a>(grants: impl Iterator<Item = &'a Grant>) -> Vec<Cap> {
    let mut sessions: SortedMap<u16, u32> = SortedMap::new();
    for grant in grants.filter(|g| g.class != 0) {
        sessions.edit(grant.class, || grant.cap_kbps, |kbps| *kbps = least(*kbps, grant.cap_kbps));
    }
    sessions.into_iter().map(|(class, kbps)| Cap { class, kbps }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(class: u16, cap_kbps: u32) -> Grant {
        let address = "192.0.2.1".parse().unwrap();
        Grant {
            no: 1,
            buyer: address,
            port: 40_000,
            target: address,
            ttl_s: 600,
            new_per_second: 1,
            burst: 1,
            cap_kbps,
            class,
        }
    }

    #[test]
    fn a_session_has_the_lowest_cap_of_its_leases() {
        let grants = [grant(1, 8_000), grant(0, 0), grant(2, 0), grant(1, 4_000), grant(1, 0), grant(3, 7)];
        let caps: Vec<(u16, u32)> = sessions(grants.iter()).iter().map(|c| (c.class, c.kbps)).collect();
        assert_eq!(caps, [(1, 4_000), (2, 0), (3, 7)]);
    }

    #[test]
    fn without_traffic_control_only_sessions_without_a_cap_have_leases() {
        let mut caps = LeaseCaps { caps: Err("none".to_owned()), possible: Err("none".to_owned()) };
        assert_eq!(caps.obstacle(), Some("none"));
        assert!(caps.set([grant(0, 0)].iter(), 0, 0).is_ok() && caps.hold([grant(0, 0)].iter()));
        assert!(caps.set([grant(1, 5)].iter(), 0, 0).is_err() && !caps.hold([grant(1, 5)].iter()));
        let from = "192.0.2.1:5".parse().unwrap();
        let tuple = Tuple { from, to: from, zone: 0 };
        assert!(caps.begin(0, 1, tuple, None).is_ok());
        assert!(caps.begin(1, 1, tuple, Some(tuple)).is_err(), "no cap, no connection");
        caps.possible = Ok(());
        assert_eq!(caps.obstacle(), None);
    }
}

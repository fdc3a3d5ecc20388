//! Where the node is, by all that is known, and whether that is where its owner lets it work.
use crate::config::Geo;
use crate::json::{Value, array, object};
use crate::mutant;
use crate::policy::geo::{
    self, Belief, Evidence, RoundTrip, Verdict, by_coordinator, by_prefix, by_round_trips, by_time_zone,
    combine, same_line,
};
use std::net::IpAddr;

/// Confidence from which an observation of the coordinator's is the node's current region.
pub const CONFIDENT: f64 = 0.8;
/// Most endpoints whose round trips are kept.
pub const MAX_TRIPS: usize = 64;

/// The public address of the WAN by the guard's reports.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wan {
    address: Option<IpAddr>,
    /// The last one, also while there is none.
    last: Option<IpAddr>,
    /// The one before, if it is of another line.
    former: Option<IpAddr>,
    prefix: Option<String>,
}

/// What is known of the node's place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Region {
    last: Option<(String, f64)>,
    confident: Option<String>,
    strikes: u32,
    address: Option<String>,
    former: Option<String>,
    prefix: Option<String>,
    /// What the router itself has at its WAN.
    wan: Wan,
    trips: Vec<RoundTrip>,
    /// Offsets from UTC in January and July, seconds.
    zone: Option<(i32, i32)>,
}

impl Region {
    /// The coordinator's observation of a heartbeat, if it has one, and the router's time zone; true if all that is known
    /// calls for quarantine. Each heartbeat counts once: one whose observation, or whose evidence together, is outside
    /// with enough confidence is a strike, any other ends the row.
    pub fn observe(
        &mut self,
        observed: Option<(&str, f64)>,
        zone: (i32, i32),
        (settings, allowed): (&Geo, &[String]),
    ) -> bool {
        self.zone = Some(zone);
        self.last = observed.map(|(region, confidence)| (region.to_owned(), confidence));
        if let Some((region, _)) = observed.filter(|(_, confidence)| *confidence >= CONFIDENT) {
            self.confident = Some(region.to_owned());
        }
        let seen_outside = observed.is_some_and(|(region, confidence)| {
            confidence >= settings.quarantine_confidence && !allowed.iter().any(|r| r == region)
        });
        // The coordinator's word counts by itself, whatever else says: that is the contract's rule.
        let outside = self.belief(allowed).outside >= settings.quarantine_confidence;
        self.strikes = if seen_outside || outside { self.strikes.saturating_add(1) } else { 0 };
        self.strikes >= settings.strikes && !mutant::out("geo-strikes")
    }

    /// The address that the WAN is seen with; true if it is another one than before. What was measured and looked up for
    /// the former address is forgotten: it may have been another place's.
    pub fn seen_at(&mut self, address: &str) -> bool {
        if self.address.as_deref() == Some(address) {
            return false;
        }
        self.former = self.address.replace(address.to_owned());
        self.trips.clear();
        self.prefix = None;
        true
    }

    /// The public address that the router has at its WAN, if it has one; true if it is one that it did not have before.
    /// What was measured at another line is forgotten.
    pub fn wan_has(&mut self, address: Option<IpAddr>) -> bool {
        if self.wan.address == address {
            return false;
        }
        self.wan.address = address;
        self.wan.prefix = None;
        let Some(new) = address else { return false };
        let last = self.wan.last.replace(new);
        if let Some(last) = last.filter(|last| !same_line(*last, new)) {
            self.wan.former = Some(last);
            self.trips.clear();
        }
        true
    }

    /// The public address that the router has at its WAN.
    pub fn wan(&self) -> Option<IpAddr> {
        self.wan.address
    }

    /// The address that the WAN was last seen with.
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// What the owner's file says of an address, unless the node has another one by now.
    pub fn looked_up(&mut self, address: &str, region: Option<String>) {
        if self.wan.address.is_some_and(|wan| wan.to_string() == address) {
            self.wan.prefix.clone_from(&region);
        }
        if self.address.as_deref() == Some(address) {
            self.prefix = region;
        }
    }

    /// A round trip to an endpoint whose place is known. The shortest of each is kept, and the newest endpoints.
    pub fn round_trip(&mut self, trip: RoundTrip) {
        match self.trips.iter_mut().find(|t| t.host == trip.host) {
            Some(known) => {
                known.rtt_ms = known.rtt_ms.min(trip.rtt_ms);
                known.position = trip.position;
            }
            None => {
                if self.trips.len() == MAX_TRIPS {
                    self.trips.remove(0);
                }
                self.trips.push(trip);
            }
        }
    }

    /// The owner has looked at it: counting starts anew, and so do the measurements.
    pub fn forgive(&mut self) {
        self.strikes = 0;
        self.trips.clear();
    }

    /// The node's current region: last observed with confidence, else the first that is allowed.
    pub fn current<'a>(&'a self, allowed: &'a [String]) -> Option<&'a str> {
        self.confident.as_deref().or_else(|| allowed.first().map(String::as_str))
    }

    /// The region last observed with confidence; `None` until then.
    pub fn observed(&self) -> Option<&str> {
        self.confident.as_deref()
    }

    /// All evidence, for these regions of the owner's.
    pub fn evidence(&self, allowed: &[String]) -> Vec<Evidence> {
        let coordinator = self.last.as_ref().map(|(region, c)| by_coordinator(region, *c, allowed));
        let address = self.address.as_deref().unwrap_or_default();
        let prefix = self.prefix.as_ref().map(|region| by_prefix(region, address, allowed));
        let zone = self.zone.map(|(january, july)| by_time_zone(january, july, allowed));
        let change = self.former.as_ref().map(|former| geo::by_change(former, address));
        let (wan, moved) = self.wan_evidence(allowed);
        // One file that says the same twice, or one change that both have seen, is one piece of evidence.
        let moved = moved.filter(|moved| change.as_ref() != Some(moved));
        let wan = wan.map(|wan| match prefix.as_ref().is_some_and(|prefix| prefix.verdict == wan.verdict) {
            true => Evidence { weight: 0.0, ..wan },
            false => wan,
        });
        [coordinator, prefix, wan, by_round_trips(&self.trips, allowed), zone, change, moved]
            .into_iter()
            .flatten()
            .collect()
    }

    /// By the router's own address at its WAN, if it is not the one that the coordinator sees; and by its change.
    fn wan_evidence(&self, allowed: &[String]) -> (Option<Evidence>, Option<Evidence>) {
        let Some(address) = self.wan.address.map(|a| a.to_string()) else { return (None, None) };
        let seen = self.address.as_ref() == Some(&address);
        let region = self.wan.prefix.as_ref().filter(|_| !seen);
        let moved = self.wan.former.map(|former| geo::by_change(&former.to_string(), &address));
        (region.map(|region| by_prefix(region, &address, allowed)), moved)
    }

    /// What the evidence says together.
    pub fn belief(&self, allowed: &[String]) -> Belief {
        combine(&self.evidence(allowed))
    }

    /// What speaks against the owner's regions, in sentences; empty if nothing does.
    pub fn against(&self, allowed: &[String]) -> String {
        let evidence = self.evidence(allowed);
        let outside = evidence.iter().filter(|e| e.verdict == Verdict::Outside);
        outside.map(|e| e.detail.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// `geo` of `/status`. The confidence is that the node is, or is not, in the owner's regions, as the region shown is.
    pub fn to_value(&self, allowed: &[String]) -> Value {
        let (current, belief) = (self.current(allowed), self.belief(allowed));
        let inside = current.is_some_and(|c| allowed.iter().any(|r| r == c));
        let confidence = if inside { belief.inside } else { belief.outside };
        object([
            ("region", current.into()),
            ("confidence", ((confidence * 1000.0).round() / 1000.0).into()),
            ("evidence", array(self.evidence(allowed).iter().map(Evidence::to_value))),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTC: (i32, i32) = (0, 0);
    const GEO: Geo = Geo { quarantine_confidence: 0.8, strikes: 3, prefix_file: None };

    fn ncr() -> Vec<String> {
        vec!["PH-NCR".to_owned()]
    }

    fn see(r: &mut Region, region: &str, confidence: f64) -> bool {
        r.observe(Some((region, confidence)), UTC, (&GEO, &ncr()))
    }

    fn near_berlin(rtt_ms: u64) -> RoundTrip {
        RoundTrip { host: "berlin.test".into(), position: (52.5, 13.4), rtt_ms }
    }

    #[test]
    fn three_confident_observations_outside_in_a_row_are_one_too_many() {
        let mut r = Region::default();
        assert!(!see(&mut r, "DE-BE", 0.8));
        assert!(!see(&mut r, "DE-BE", 0.9));
        assert!(!see(&mut r, "DE-BE", 0.79), "not confident: the row is broken");
        assert!(!see(&mut r, "DE-BE", 0.8));
        assert!(!see(&mut r, "PH-NCR", 0.8), "inside: the row is broken");
        assert!(!see(&mut r, "DE-BE", 0.8));
        assert!(!see(&mut r, "DE-HH", 0.8));
        assert!(see(&mut r, "DE-BE", 0.8));
    }

    #[test]
    fn local_evidence_that_agrees_does_without_the_coordinator_but_none_alone() {
        let mut r = Region::default();
        r.round_trip(near_berlin(9));
        let mut alone = r.clone();
        assert!((0..9).all(|_| !alone.observe(None, UTC, (&GEO, &ncr()))));
        assert!(!alone.against(&ncr()).is_empty(), "it is shown all the same");
        let berlin = (3600, 7200);
        assert!((0..2).all(|_| !r.observe(None, berlin, (&GEO, &ncr()))));
        assert!(r.observe(None, berlin, (&GEO, &ncr())));
        r.forgive();
        assert!((0..9).all(|_| !r.observe(None, berlin, (&GEO, &ncr()))), "measured anew");
    }

    #[test]
    fn local_evidence_never_outweighs_the_coordinators_word() {
        let mut r = Region::default();
        r.seen_at("203.0.113.1");
        r.looked_up("203.0.113.1", Some("PH-NCR".into()));
        let manila = (8 * 3600, 8 * 3600);
        let mut see = || r.observe(Some(("DE-BE", 0.8)), manila, (&GEO, &ncr()));
        assert!(!see() && !see() && see());
    }

    #[test]
    fn the_owner_may_be_stricter() {
        let strict = Geo { quarantine_confidence: 0.5, strikes: 1, prefix_file: None };
        let mut r = Region::default();
        assert!(r.observe(Some(("DE-BE", 0.5)), UTC, (&strict, &ncr())));
        assert_eq!(r.observed(), None, "the current region is the contract's matter");
    }

    #[test]
    fn another_address_forgets_what_was_measured_and_looked_up_at_the_former() {
        let mut r = Region::default();
        assert!(r.seen_at("203.0.113.1"));
        r.looked_up("203.0.113.1", Some("DE".into()));
        r.round_trip(near_berlin(9));
        assert!(!r.seen_at("203.0.113.1") && !r.against(&ncr()).is_empty());
        assert!(r.seen_at("198.51.100.1"));
        assert_eq!(r.against(&ncr()), "");
        r.looked_up("203.0.113.1", Some("DE".into()));
        assert_eq!(r.against(&ncr()), "", "a late answer for the former address");
        let evidence = r.evidence(&ncr());
        assert_eq!((evidence.len(), evidence[0].source), (1, "wan-address"));
    }

    #[test]
    fn the_shortest_round_trip_of_each_endpoint_is_kept_and_so_many_endpoints() {
        let mut r = Region::default();
        [9, 200].into_iter().for_each(|rtt| r.round_trip(near_berlin(rtt)));
        assert_eq!(r.trips, [near_berlin(9)]);
        for i in 0..MAX_TRIPS {
            r.round_trip(RoundTrip { host: i.to_string(), ..near_berlin(9) });
        }
        assert_eq!((r.trips.len(), r.trips[0].host.as_str()), (MAX_TRIPS, "0"));
    }

    #[test]
    fn the_current_region_is_the_last_confident_one() {
        let allowed = ["A".to_owned(), "B".to_owned()];
        let mut r = Region::default();
        assert_eq!(r.current(&allowed), Some("A"));
        r.observe(Some(("B", 0.8)), UTC, (&GEO, &allowed));
        r.observe(Some(("C", 0.1)), UTC, (&GEO, &allowed));
        assert_eq!(r.current(&allowed), Some("B"));
    }

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    fn shown(r: &Region) -> Vec<(&'static str, Verdict, bool)> {
        r.evidence(&ncr()).into_iter().map(|e| (e.source, e.verdict, e.weight > 0.0)).collect()
    }

    #[test]
    fn the_routers_own_address_is_evidence_of_its_own() {
        let mut r = Region::default();
        assert!(r.wan_has(address("84.1.1.1")) && !r.wan_has(address("84.1.1.1")));
        r.looked_up("84.1.1.1", Some("DE".into()));
        assert_eq!(shown(&r), [("prefix-file", Verdict::Outside, true)]);
        assert!((0..9).all(|_| !r.observe(None, UTC, (&GEO, &ncr()))), "but none alone is enough");
        r.round_trip(near_berlin(9));
        assert!((0..3).any(|_| r.observe(None, UTC, (&GEO, &ncr()))));
        assert!(!r.wan_has(None), "no public address any more");
        assert!(r.evidence(&ncr()).iter().all(|e| e.source != "prefix-file"));
    }

    #[test]
    fn what_the_file_says_of_both_addresses_counts_once_and_contradicts_itself_if_it_does() {
        let mut r = Region::default();
        r.seen_at("203.0.113.1");
        r.looked_up("203.0.113.1", Some("DE".into()));
        r.wan_has(address("203.0.113.1"));
        r.looked_up("203.0.113.1", Some("DE".into()));
        assert_eq!(shown(&r), [("prefix-file", Verdict::Outside, true)], "it is the same address");
        r.wan_has(address("84.1.1.1"));
        r.looked_up("84.1.1.1", Some("DE".into()));
        let alone = r.belief(&ncr()).outside;
        assert_eq!(shown(&r)[1], ("prefix-file", Verdict::Outside, false));
        r.looked_up("84.1.1.1", Some("PH-MIN".into()));
        assert_eq!(shown(&r)[1].1, Verdict::Neutral);
        r.looked_up("84.1.1.1", Some("PH-NCR".into()));
        assert!(shown(&r)[1].2 && r.belief(&ncr()).outside < alone);
    }

    #[test]
    fn another_address_of_the_wan_forgets_what_was_measured_at_the_former_even_after_a_pause() {
        let mut r = Region::default();
        r.wan_has(address("84.1.1.1"));
        r.round_trip(near_berlin(9));
        r.looked_up("84.1.1.1", Some("DE".into()));
        r.wan_has(None);
        r.wan_has(address("84.1.1.1"));
        assert_eq!(shown(&r), [("round-trip", Verdict::Outside, true)], "the same line again");
        r.wan_has(None);
        assert!(r.wan_has(address("85.2.2.2")));
        assert_eq!(shown(&r), [("wan-address", Verdict::Neutral, false)]);
        assert!(r.evidence(&ncr())[0].detail.contains("from 84.1.1.1 to 85.2.2.2"));
        r.seen_at("84.1.1.1");
        r.seen_at("85.2.2.2");
        assert_eq!(shown(&r).len(), 1, "both have seen the one change");
    }
}

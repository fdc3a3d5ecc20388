//! Where the node is, by evidence of several kinds, and how sure that is. Pure.
//!
//! Each piece of evidence says that the node is inside the owner's regions, outside, or nothing, with a weight of at most
//! one. They are combined by Dempster's rule: the order does not matter, evidence that says nothing changes nothing, and
//! what contradicts weakens. No local kind weighs as much alone as a quarantine asks for: a clock may be set wrong, a list
//! be old, a connection be answered on the way; two of them that agree are enough.
pub mod prefixes;
pub mod regions;

use crate::json::{Value, object};
use crate::policy::addresses::is_special;
use regions::{Country, code};
use std::net::IpAddr;

/// Weight of the owner's file of prefixes.
const PREFIX: f64 = 0.7;
/// Weight of round trips that are too short for all of the owner's regions.
const ROUND_TRIP: f64 = 0.75;
/// Weight of a time zone that none of the owner's regions keeps.
const ZONE_OUTSIDE: f64 = 0.4;
/// Weight of one that fits: many regions share it.
const ZONE_INSIDE: f64 = 0.2;
/// Light in glass goes two thirds as fast as in the void: kilometres in a millisecond.
const FIBRE_KM_PER_MS: f64 = 200.0;

/// What a piece of evidence says of the owner's regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node is in one of them.
    Inside,
    /// It is in none of them.
    Outside,
    /// Neither.
    Neutral,
}

/// A piece of evidence, as the status shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Where it is from.
    pub source: &'static str,
    /// The region it names, if any.
    pub region: Option<String>,
    /// What it says.
    pub verdict: Verdict,
    /// How much, 0 to 1.
    pub weight: f64,
    /// A sentence for the owner.
    pub detail: String,
}

impl Evidence {
    fn new(source: &'static str, verdict: Verdict, weight: f64, detail: String) -> Evidence {
        Evidence { source, region: None, verdict, weight, detail }
    }

    /// As `/status` shows it.
    pub fn to_value(&self) -> Value {
        let verdict = match self.verdict {
            Verdict::Inside => "inside",
            Verdict::Outside => "outside",
            Verdict::Neutral => "neutral",
        };
        let mut value = object([("source", self.source.into())]);
        if let Some(region) = &self.region {
            value.set("region", region.as_str());
        }
        value.set("verdict", verdict);
        value.set("confidence", (self.weight * 1000.0).round() / 1000.0);
        value.set("detail", self.detail.as_str());
        value
    }
}

/// How far the evidence says that the node is inside, and outside. Together at most 1; the rest is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Belief {
    /// In one of the owner's regions.
    pub inside: f64,
    /// In none of them.
    pub outside: f64,
}

/// Combines all evidence.
pub fn combine(evidence: &[Evidence]) -> Belief {
    let doubt = |verdict| {
        let of = evidence.iter().filter(|e| e.verdict == verdict);
        of.map(|e| 1.0 - e.weight.clamp(0.0, 1.0)).product::<f64>()
    };
    let (not_inside, not_outside) = (doubt(Verdict::Inside), doubt(Verdict::Outside));
    let (inside, outside) = (1.0 - not_inside, 1.0 - not_outside);
    let conflict = inside * outside;
    if conflict >= 1.0 {
        // Two certainties that exclude each other: the worse one is believed.
        return Belief { inside: 0.0, outside: 1.0 };
    }
    Belief {
        inside: inside * not_outside / (1.0 - conflict),
        outside: outside * not_inside / (1.0 - conflict),
    }
}

/// The coordinator's observation.
pub fn by_coordinator(region: &str, confidence: f64, allowed: &[String]) -> Evidence {
    let inside = allowed.iter().any(|r| r == region);
    let verdict = if inside { Verdict::Inside } else { Verdict::Outside };
    let detail = format!("The coordinator sees the node in {region}.");
    Evidence { region: Some(region.to_owned()), ..Evidence::new("coordinator", verdict, confidence, detail) }
}

/// The region that the owner's file has for the WAN address. Files know countries better than their parts, so another
/// part of the same country says nothing.
pub fn by_prefix(region: &str, address: &str, allowed: &[String]) -> Evidence {
    let same_country = |r: &String| code(region).is_some() && code(r) == code(region);
    let verdict = if allowed.iter().any(|r| r == region || (same_country(r) && code(region) == Some(region)))
    {
        Verdict::Inside
    } else if allowed.iter().any(same_country) {
        Verdict::Neutral
    } else {
        Verdict::Outside
    };
    let weight = if verdict == Verdict::Neutral { 0.0 } else { PREFIX };
    let detail = format!("geo.prefixFile has {region} for the WAN address {address}.");
    Evidence { region: Some(region.to_owned()), ..Evidence::new("prefix-file", verdict, weight, detail) }
}

/// The address that says where the router is, of those that its WAN has: a public one, of IPv4 if there is one, since many
/// lines change those of IPv6 by themselves. A private address, and a provider's shared one, are everywhere.
pub fn telling_address(wan: &[IpAddr]) -> Option<IpAddr> {
    let mut public = wan.iter().filter(|a| !is_special(**a));
    public.clone().find(|a| a.is_ipv4()).or_else(|| public.next()).copied()
}

/// Whether two addresses are of one line: the same one, or of one network of IPv6.
pub fn same_line(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() >> 64 == other.to_bits() >> 64,
        _ => one == other,
    }
}

/// The WAN has another address: what is known of the former one no longer counts.
pub fn by_change(former: &str, address: &str) -> Evidence {
    let detail = format!(
        "The WAN address changed from {former} to {address}; what it was measured with counts no longer."
    );
    Evidence::new("wan-address", Verdict::Neutral, 0.0, detail)
}

/// An endpoint whose place is known, and the shortest round trip to it.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundTrip {
    /// Its name.
    pub host: String,
    /// Degrees.
    pub position: (f64, f64),
    /// Milliseconds, rounded; the true one is less than 1 ms longer.
    pub rtt_ms: u64,
}

/// Round trips against the distance of the owner's regions. A long one says nothing; one that is too short for light in
/// glass to have come from any of them does.
pub fn by_round_trips(trips: &[RoundTrip], allowed: &[String]) -> Option<Evidence> {
    let countries: Option<Vec<Country>> = allowed.iter().map(|r| Country::of(r)).collect();
    let least = |trip: &RoundTrip| {
        let countries = countries.as_deref().unwrap_or_default().iter();
        countries.map(|c| c.distance_km(trip.position.0, trip.position.1)).fold(f64::INFINITY, f64::min)
    };
    let reach = |trip: &RoundTrip| (trip.rtt_ms as f64 + 1.0) / 2.0 * FIBRE_KM_PER_MS;
    let too_short =
        |trip: &&RoundTrip| !allowed.is_empty() && countries.is_some() && least(trip) > reach(trip);
    if let Some(trip) = trips.iter().find(too_short) {
        let detail = format!(
            "{} answered in {} ms: at most {:.0} km away, and the nearest of node.regionAllow is {:.0} km from it.",
            trip.host,
            trip.rtt_ms,
            reach(trip),
            least(trip)
        );
        return Some(Evidence::new("round-trip", Verdict::Outside, ROUND_TRIP, detail));
    }
    let nearest = trips.iter().min_by_key(|t| t.rtt_ms)?;
    let unknown =
        if countries.is_none() { ", and of some of node.regionAllow the place is not known" } else { "" };
    let detail =
        format!("{} answers in {} ms{unknown}; that excludes nothing.", nearest.host, nearest.rtt_ms);
    Some(Evidence::new("round-trip", Verdict::Neutral, 0.0, detail))
}

/// The router's time zone by its offsets from UTC on 1 January and 1 July, in seconds. UTC is what a router has that
/// nobody told.
pub fn by_time_zone(january_s: i32, july_s: i32, allowed: &[String]) -> Evidence {
    let countries: Vec<Option<Country>> = allowed.iter().map(|r| Country::of(r)).collect();
    let fits = countries.iter().flatten().any(|c| c.keeps(january_s, july_s));
    let told = (january_s, july_s) != (0, 0);
    let (verdict, weight) = match (told, fits) {
        (true, true) => (Verdict::Inside, ZONE_INSIDE),
        (true, false) if !countries.is_empty() && countries.iter().all(Option::is_some) => {
            (Verdict::Outside, ZONE_OUTSIDE)
        }
        _ => (Verdict::Neutral, 0.0),
    };
    let hours =
        |s: i32| format!("{}{}:{:02}", if s < 0 { '-' } else { '+' }, s.abs() / 3600, s.abs() / 60 % 60);
    let detail = if told {
        format!(
            "The router's time zone is UTC{} in January and UTC{} in July.",
            hours(january_s),
            hours(july_s)
        )
    } else {
        "The router's time zone is UTC: not set, most likely.".to_owned()
    };
    Evidence::new("time-zone", verdict, weight, detail)
}

#[cfg(test)]
mod tests;

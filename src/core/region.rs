//! Where the coordinator sees the node, and whether that is where its owner lets it work.
use crate::json::{Value, array, object};

/// Confidence from which an observation counts.
pub const CONFIDENT: f64 = 0.8;
/// So many confident observations outside in a row put the node into quarantine.
pub const STRIKES: u32 = 3;

/// The coordinator's observations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Region {
    last: Option<(String, f64)>,
    confident: Option<String>,
    strikes: u32,
}

impl Region {
    /// Takes an observation in; true if it is the one that calls for quarantine.
    pub fn observe(&mut self, region: &str, confidence: f64, allowed: &[String]) -> bool {
        self.last = Some((region.to_owned(), confidence));
        if confidence < CONFIDENT {
            self.strikes = 0;
            return false;
        }
        self.confident = Some(region.to_owned());
        if allowed.iter().any(|r| r == region) {
            self.strikes = 0;
            return false;
        }
        self.strikes += 1;
        self.strikes == STRIKES
    }

    /// The owner has looked at it: counting starts anew.
    pub fn forgive(&mut self) {
        self.strikes = 0;
    }

    /// The node's current region: last observed with confidence, else the first that is allowed.
    pub fn current<'a>(&'a self, allowed: &'a [String]) -> Option<&'a str> {
        self.confident.as_deref().or_else(|| allowed.first().map(String::as_str))
    }

    /// The region last observed with confidence; `None` until then.
    pub fn observed(&self) -> Option<&str> {
        self.confident.as_deref()
    }

    /// `geo` of `/status`.
    pub fn to_value(&self, allowed: &[String]) -> Value {
        let evidence = self.last.iter().map(|(region, confidence)| {
            object([
                ("source", "coordinator".into()),
                ("region", region.as_str().into()),
                ("confidence", (*confidence).into()),
            ])
        });
        object([
            ("region", self.current(allowed).into()),
            ("confidence", self.last.as_ref().map_or(0.0, |(_, c)| *c).into()),
            ("evidence", array(evidence)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_confident_observations_outside_in_a_row_are_one_too_many() {
        let allowed = ["PH-NCR".to_owned()];
        let mut r = Region::default();
        assert!(!r.observe("DE-BE", 0.8, &allowed));
        assert!(!r.observe("DE-BE", 0.9, &allowed));
        assert!(!r.observe("DE-BE", 0.79, &allowed), "not confident: the row is broken");
        assert!(!r.observe("DE-BE", 0.8, &allowed));
        assert!(!r.observe("PH-NCR", 0.8, &allowed), "inside: the row is broken");
        assert!(!r.observe("DE-BE", 0.8, &allowed));
        assert!(!r.observe("DE-HH", 0.8, &allowed));
        assert!(r.observe("DE-BE", 0.8, &allowed));
    }

    #[test]
    fn the_current_region_is_the_last_confident_one() {
        let allowed = ["A".to_owned(), "B".to_owned()];
        let mut r = Region::default();
        assert_eq!(r.current(&allowed), Some("A"));
        r.observe("B", 0.8, &allowed);
        r.observe("C", 0.1, &allowed);
        assert_eq!(r.current(&allowed), Some("B"));
    }
}

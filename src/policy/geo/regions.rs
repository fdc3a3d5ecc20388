//! What is known of countries: where they lie, and which time they keep.

/// `data/regions.txt`: 250 countries in some 9 kB.
static REGIONS: &str = include_str!("../../../data/regions.txt");
/// No part of a country is farther than this from the nearest of its places, in kilometres. The worst cases are below
/// 2,200 (the west of Japan from Tokyo, the west of India from Kolkata); places are in whole degrees.
pub const WITHIN_KM: f64 = 2500.0;
/// Mean radius of the earth (IUGG), kilometres.
const EARTH_KM: f64 = 6371.0;

/// A country of the table.
#[derive(Clone, Copy, Debug)]
pub struct Country(&'static str);

impl Country {
    /// The country of a region: `PH`, `PH-NCR`, `PH-Mindanao`. `None` if the text does not begin with one of the table's.
    pub fn of(region: &str) -> Option<Country> {
        let code = code(region)?;
        REGIONS.lines().find(|line| line.split(' ').next() == Some(code)).map(Country)
    }

    /// Least distance of any part of the country from a place in degrees, in kilometres. Never too much.
    pub fn distance_km(self, latitude: f64, longitude: f64) -> f64 {
        let pair = |text: &str| {
            let (a, b) = text.split_once(',')?;
            Some((a.parse::<f64>().ok()?, b.parse::<f64>().ok()?))
        };
        let places = self.0.split(' ').filter_map(pair);
        let nearest =
            places.map(|place| distance_km(place, (latitude, longitude))).fold(f64::INFINITY, f64::min);
        if nearest.is_finite() { (nearest - WITHIN_KM).max(0.0) } else { 0.0 }
    }

    /// Whether a zone of the country has these offsets from UTC on 1 January and on 1 July, in seconds.
    pub fn keeps(self, january_s: i32, july_s: i32) -> bool {
        let wanted = format!("{}/{}", january_s.div_euclid(900), july_s.div_euclid(900));
        self.0.split(' ').any(|pair| pair == wanted)
    }
}

/// The two letters that a region begins with, if nothing but a hyphen follows them.
pub fn code(region: &str) -> Option<&str> {
    let code = region.split('-').next().unwrap_or_default();
    (code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase())).then_some(code)
}

/// Great-circle distance of two places in degrees, by the haversine formula.
fn distance_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let half = |from: f64, to: f64| ((to - from) / 2.0).sin().powi(2);
    let chord = half(lat_a, lat_b) + lat_a.cos() * lat_b.cos() * half(a.1.to_radians(), b.1.to_radians());
    2.0 * EARTH_KM * chord.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: (f64, f64) = (52.52, 13.405);

    fn country(region: &str) -> Country {
        Country::of(region).unwrap()
    }

    #[test]
    fn distances_are_of_this_earth() {
        let manila = (14.6, 121.0);
        assert!((distance_km(BERLIN, manila) - 9868.0).abs() < 60.0, "{}", distance_km(BERLIN, manila));
        assert!(distance_km((0.0, 179.0), (0.0, -179.0)) < 223.0, "across the date line");
        assert!(distance_km(BERLIN, BERLIN) < 1e-6);
    }

    #[test]
    fn a_country_is_never_farther_than_it_is() {
        let far = country("PH-NCR").distance_km(BERLIN.0, BERLIN.1);
        assert!((7000.0..7600.0).contains(&far), "{far}");
        for (region, corner) in [
            ("JP", (24.45, 122.98)),
            ("IN", (23.7, 68.1)),
            ("CN", (39.47, 73.9)),
            ("CL", (-55.9, -67.2)),
            ("RU", (43.5, 146.8)),
            ("US-HI", (18.9, -155.7)),
            ("NO", (71.18, 25.78)),
            ("DZ", (19.0, 5.8)),
            ("PH", (4.6, 119.4)),
            ("ES-CN", (27.7, -18.1)),
        ] {
            assert_eq!(country(region).distance_km(corner.0, corner.1), 0.0, "{region}");
        }
    }

    #[test]
    fn zones_are_told_by_winter_and_summer() {
        let h = 3600;
        assert!(country("DE-BE").keeps(h, 2 * h) && !country("DE").keeps(h, h));
        assert!(country("PH").keeps(8 * h, 8 * h) && !country("PH").keeps(9 * h, 9 * h));
        assert!(country("AU").keeps(11 * h, 10 * h + 1800), "Lord Howe");
        assert!(country("US").keeps(-5 * h, -4 * h) && country("US").keeps(-10 * h, -10 * h));
        assert!(country("IN").keeps(5 * h + 1800, 5 * h + 1800));
    }

    #[test]
    fn what_is_no_country_is_not_guessed() {
        assert!(
            ["", "Bench", "ph-NCR", "XX", "P", "#", "PHX-1", "Ph"].iter().all(|r| Country::of(r).is_none())
        );
    }
}

use super::*;
use proptest::prelude::*;

fn allowed(regions: &[&str]) -> Vec<String> {
    regions.iter().map(|r| (*r).to_owned()).collect()
}

fn trip(host: &str, position: (f64, f64), rtt_ms: u64) -> RoundTrip {
    RoundTrip { host: host.to_owned(), position, rtt_ms }
}

const BERLIN: (f64, f64) = (52.52, 13.405);
const MANILA: (f64, f64) = (14.6, 121.0);

#[test]
fn light_is_not_outrun() {
    let ph = allowed(&["PH-NCR"]);
    let outside =
        by_round_trips(&[trip("far.test", MANILA, 190), trip("near.test", BERLIN, 9)], &ph).unwrap();
    assert_eq!((outside.verdict, outside.weight), (Verdict::Outside, ROUND_TRIP));
    assert!(
        outside.detail.starts_with("near.test answered in 9 ms: at most 1000 km away"),
        "{}",
        outside.detail
    );
    for (position, rtt) in [(BERLIN, 80), (BERLIN, 400), (MANILA, 0), (MANILA, 300)] {
        let evidence = by_round_trips(&[trip("x.test", position, rtt)], &ph).unwrap();
        assert_eq!((evidence.verdict, evidence.weight), (Verdict::Neutral, 0.0), "{rtt}");
    }
    let wide = by_round_trips(&[trip("near.test", BERLIN, 9)], &allowed(&["PH", "DE-BE"])).unwrap();
    assert_eq!(wide.verdict, Verdict::Neutral, "one of the regions is near");
    let unknown = by_round_trips(&[trip("near.test", BERLIN, 9)], &allowed(&["PH", "Bench"])).unwrap();
    assert_eq!(unknown.verdict, Verdict::Neutral, "nobody knows where Bench is");
    assert_eq!(by_round_trips(&[], &ph), None);
}

#[test]
fn the_prefix_file_tells_countries_apart() {
    let verdict = |region, ours: &[&str]| by_prefix(region, "203.0.113.1", &allowed(ours)).verdict;
    assert_eq!(verdict("PH-NCR", &["PH-NCR"]), Verdict::Inside);
    assert_eq!(verdict("PH", &["PH-NCR"]), Verdict::Inside);
    assert_eq!(verdict("PH-MIN", &["PH-NCR"]), Verdict::Neutral, "another part of the country");
    assert_eq!(verdict("PH-MIN", &["PH"]), Verdict::Neutral);
    assert_eq!(verdict("DE", &["PH-NCR"]), Verdict::Outside);
    assert_eq!(verdict("Bench", &["Bench"]), Verdict::Inside);
}

#[test]
fn a_time_zone_fits_or_not() {
    let verdict = |winter: i32, summer: i32, ours: &[&str]| {
        by_time_zone(winter * 3600, summer * 3600, &allowed(ours)).verdict
    };
    assert_eq!(verdict(8, 8, &["PH-NCR"]), Verdict::Inside);
    assert_eq!(verdict(1, 2, &["PH-NCR"]), Verdict::Outside);
    assert_eq!(verdict(1, 2, &["PH", "DE-BE"]), Verdict::Inside);
    assert_eq!(verdict(1, 2, &["PH", "Bench"]), Verdict::Neutral);
    assert_eq!(verdict(0, 0, &["PH-NCR"]), Verdict::Neutral, "a router that nobody told");
    assert_eq!(verdict(1, 2, &[]), Verdict::Neutral);
}

#[test]
fn no_local_kind_is_enough_alone_and_any_two_of_three_are() {
    let ph = allowed(&["PH-NCR"]);
    let prefix = by_prefix("DE", "203.0.113.1", &ph);
    let zone = by_time_zone(3600, 7200, &ph);
    let trips = by_round_trips(&[trip("near.test", BERLIN, 9)], &ph).unwrap();
    for one in [&prefix, &zone, &trips] {
        assert!(combine(std::slice::from_ref(one)).outside < 0.8, "{one:?}");
    }
    for (one, other) in [(&prefix, &zone), (&prefix, &trips), (&zone, &trips)] {
        assert!(combine(&[one.clone(), other.clone()]).outside >= 0.8, "{one:?} {other:?}");
    }
    let seen = by_coordinator("PH-NCR", 0.9, &ph);
    let belief = combine(&[seen, trips]);
    assert!(belief.outside < 0.5 && belief.inside > 0.6, "{belief:?}");
}

#[test]
fn certainties_that_exclude_each_other_are_the_worse_one() {
    let of = |verdict| Evidence::new("x", verdict, 1.0, String::new());
    assert_eq!(combine(&[of(Verdict::Inside), of(Verdict::Outside)]), Belief { inside: 0.0, outside: 1.0 });
    assert_eq!(combine(&[]), Belief::default());
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    let verdict = prop_oneof![Just(Verdict::Inside), Just(Verdict::Outside), Just(Verdict::Neutral)];
    (verdict, 0.0..=1.0f64).prop_map(|(verdict, weight)| Evidence::new("x", verdict, weight, String::new()))
}

proptest! {
    #[test]
    fn a_belief_is_a_share_whatever_the_order(evidence in prop::collection::vec(any_evidence(), 0..8)) {
        let belief = combine(&evidence);
        prop_assert!(belief.inside >= 0.0 && belief.outside >= 0.0 && belief.inside + belief.outside <= 1.0 + 1e-9);
        let mut turned = evidence.clone();
        turned.reverse();
        let other = combine(&turned);
        prop_assert!((belief.inside - other.inside).abs() < 1e-9 && (belief.outside - other.outside).abs() < 1e-9);
    }

    #[test]
    fn more_against_never_means_less_and_neutral_means_nothing(
        evidence in prop::collection::vec(any_evidence(), 0..8),
        weight in 0.0..0.999f64,
    ) {
        let before = combine(&evidence);
        let with = |verdict| {
            let mut more = evidence.clone();
            more.push(Evidence::new("y", verdict, weight, String::new()));
            combine(&more)
        };
        let (against, neutral) = (with(Verdict::Outside), with(Verdict::Neutral));
        prop_assert!(against.outside >= before.outside - 1e-9 && against.inside <= before.inside + 1e-9);
        prop_assert_eq!(neutral, before);
        prop_assert!(with(Verdict::Inside).outside <= before.outside + 1e-9);
    }

    #[test]
    fn a_longer_round_trip_never_excludes_what_a_shorter_one_did_not(
        lat in -89.0..89.0f64, lon in -179.0..179.0f64, rtt in 0..300u64, more in 0..300u64,
    ) {
        let ph = allowed(&["PH", "US"]);
        let verdict = |rtt_ms| by_round_trips(&[trip("x", (lat, lon), rtt_ms)], &ph).unwrap().verdict;
        prop_assert!(verdict(rtt) == Verdict::Outside || verdict(rtt + more) == Verdict::Neutral);
    }
}

#[test]
fn a_public_address_tells_and_a_private_or_shared_one_does_not() {
    let telling = |wan: &[&str]| {
        let wan: Vec<IpAddr> = wan.iter().map(|a| a.parse().unwrap()).collect();
        telling_address(&wan).map(|a| a.to_string())
    };
    for private in ["192.168.1.2", "10.0.0.2", "100.64.0.1", "169.254.1.1", "fe80::1", "fd00::1"] {
        assert_eq!(telling(&[private]), None, "{private}");
        assert_eq!(telling(&[private, "84.1.1.1"]).as_deref(), Some("84.1.1.1"));
    }
    assert_eq!(telling(&["2a02::1", "84.1.1.1"]).as_deref(), Some("84.1.1.1"));
    assert_eq!(telling(&["100.64.0.1", "2a02::1"]).as_deref(), Some("2a02::1"));
    assert_eq!(telling(&[]), None);
}

#[test]
fn an_address_of_the_same_network_of_ipv6_is_no_other_line() {
    let same = |a: &str, b: &str| same_line(a.parse().unwrap(), b.parse().unwrap());
    assert!(same("2a02:1:2:3::1", "2a02:1:2:3:ffff::2") && !same("2a02:1:2:3::1", "2a02:1:2:4::1"));
    assert!(same("84.1.1.1", "84.1.1.1") && !same("84.1.1.1", "84.1.1.2"));
}

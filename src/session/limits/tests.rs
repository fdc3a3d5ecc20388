use super::*;
use crate::coordinator::orders::limits;
use crate::json::{Fields, parse};
use proptest::prelude::*;

#[test]
fn few_bytes_are_waited_for_but_never_more_than_the_burst() {
    let mut b = Bucket::new(1_000_000, 10_000);
    b.available(0);
    b.take(10_000);
    assert_eq!((b.portion(4_095), b.available(4_095)), (0, 4_095));
    assert_eq!(b.portion(4_096), 4_096);
    let mut small = Bucket::new(1_000, 100);
    small.available(0);
    small.take(100);
    assert_eq!((small.portion(99_000), small.portion(100_000)), (0, 100));
}

#[test]
fn a_bucket_starts_full_and_fills_at_its_rate_up_to_its_burst() {
    let mut b = Bucket::new(1000, 500);
    assert_eq!(b.available(7_000_000), 500);
    b.take(500);
    assert_eq!(b.available(7_000_000), 0);
    assert_eq!(b.available(7_100_000), 100);
    assert_eq!(b.available(9_000_000), 500);
}

#[test]
fn a_debt_is_paid_before_anything_passes() {
    let mut b = Bucket::new(1000, 500);
    b.available(0);
    b.take(1500);
    assert_eq!(b.until_available_us(0, 1), 1_001_000);
    assert_eq!(b.available(1_000_000), 0);
    assert_eq!(b.available(1_001_000), 1);
}

#[test]
fn no_byte_is_lost_to_frequent_looks() {
    let mut b = Bucket::new(3, 1000);
    b.available(0);
    b.take(1000);
    for us in (0..=10_000_000).step_by(100_000) {
        b.available(us);
    }
    assert_eq!(b.available(10_000_000), 30);
}

#[test]
fn a_new_rate_holds_at_once_and_keeps_the_debt() {
    let mut b = Bucket::new(1000, 1000);
    b.available(0);
    b.take(1100);
    b.set_rate(0, 10, 50);
    assert_eq!(b.available(10_000_000), 0);
    assert_eq!(b.available(11_000_000), 10);
    assert_eq!(b.available(99_000_000), 50);
}

#[test]
fn what_is_above_a_new_burst_is_lost_at_once() {
    let mut b = Bucket::new(1000, 1000);
    b.available(0);
    b.set_rate(0, 1000, 50);
    assert_eq!(b.available(0), 50);
}

#[test]
fn the_wait_counts_what_has_been_earned_of_the_next_byte() {
    let mut b = Bucket::new(1, 10);
    b.available(0);
    b.take(10);
    b.available(900_000);
    assert_eq!(b.until_available_us(900_000, 1), 100_000);
}

#[test]
fn nothing_comes_at_rate_zero_and_a_huge_rate_does_not_overflow() {
    let mut none = Bucket::new(0, 10);
    none.take(10);
    assert_eq!((none.available(u64::MAX), none.until_available_us(u64::MAX, 5)), (0, u64::MAX));
    let mut huge = Bucket::new(u64::MAX, u64::MAX);
    huge.available(0);
    huge.take(u64::MAX);
    huge.available(u64::MAX);
    assert!(huge.until_available_us(u64::MAX, u64::MAX) < SECOND_US * 1_000_000);
}

#[test]
fn a_clock_that_stands_or_goes_back_gives_nothing() {
    let mut b = Bucket::new(1000, 100);
    b.available(5_000_000);
    b.take(100);
    assert_eq!(b.available(4_000_000), 0);
    assert_eq!(b.available(5_000_000), 0);
}

#[test]
fn a_rate_admits_its_number_in_any_second() {
    let mut r = Rate::new(2);
    assert!(r.admit(900_000) && r.admit(950_000));
    assert!(!r.admit(1_000_000) && !r.admit(1_899_999));
    assert!(r.admit(1_900_000));
    assert!(!r.admit(1_949_999));
    assert!(r.admit(1_950_000));
}

#[test]
fn a_rate_of_zero_admits_nothing_and_one_beyond_count_is_clamped() {
    assert!(!Rate::new(0).admit(0));
    let mut r = Rate::new(u32::MAX);
    let admitted = (0..=MAX_NEW_PER_SECOND).filter(|_| r.admit(0)).count();
    assert_eq!(admitted, MAX_NEW_PER_SECOND as usize);
}

#[test]
fn each_host_has_its_own_rate() {
    let mut h = HostRates::new(1);
    assert!(h.admit("a", 0) && h.admit("b", 0));
    assert!(!h.admit("a", 999_999));
    assert!(h.admit("a", 1_000_000));
}

#[test]
fn a_full_table_of_hosts_refuses_new_ones_until_a_host_is_quiet() {
    let mut h = HostRates::new(2);
    for i in 0..MAX_HOSTS {
        assert!(h.admit(&i.to_string(), i as u64));
    }
    assert!(!h.admit("one more", 500_000));
    assert_eq!(h.hosts.len(), MAX_HOSTS);
    assert!(h.admit("0", 500_000), "a host in the table still has its rate");
    assert!(h.admit("one more", 1_000_001), "host 1 has been quiet for a second");
}

#[test]
fn the_lower_limit_wins_and_a_missing_one_means_the_owners() {
    let owner =
        SessionLimits { max_mbps: Some(5.0), max_gb: Some(1.0), burst_kb: Some(9), ..Default::default() };
    let theirs = SessionLimits { max_mbps: Some(7.0), burst_kb: Some(4), ..Default::default() };
    let both = effective(&owner, &theirs);
    assert_eq!((both.max_mbps, both.max_gb, both.burst_kb), (Some(5.0), Some(1.0), Some(4)));
    assert_eq!(effective(&SessionLimits::default(), &theirs), theirs);
}

#[test]
fn limits_are_read_and_written_by_the_names_of_the_contract() {
    let text = r#"{"burstKB":64,"maxConnections":3,"maxGB":1.5,"maxGBPerDay":2,"maxMbps":0.5,"maxNewPerHostPerSecond":4,"maxNewPerSecond":5}"#;
    let value = parse(text.as_bytes()).unwrap();
    let read = limits(&Fields::of(&value).unwrap()).unwrap();
    assert_eq!(limits_to_value(&read).canonical(), text);
    for (bad, pointer) in [
        (r#"{"maxMbps":-1}"#, "/maxMbps"),
        (r#"{"maxGB":1e16}"#, "/maxGB"),
        (r#"{"maxConnections":1.5}"#, "/maxConnections"),
        (r#"{"burstKB":"9"}"#, "/burstKB"),
    ] {
        let value = parse(bad.as_bytes()).unwrap();
        assert_eq!(limits(&Fields::of(&value).unwrap()).unwrap_err().pointer, pointer);
    }
}

#[test]
fn units_are_decimal() {
    assert_eq!((gigabytes(1.5), bytes_per_second(8.0)), (1_500_000_000, 1_000_000));
    let limits = SessionLimits { burst_kb: Some(3), ..Default::default() };
    assert_eq!(burst_bytes(&limits, 1), 3000);
    assert_eq!(burst_bytes(&SessionLimits::default(), 1_000_000), 250_000);
    assert_eq!(burst_bytes(&SessionLimits::default(), 1), MIN_BURST);
    assert!(bucket(&limits).is_none());
}

proptest! {
    #[test]
    fn what_passes_never_exceeds_burst_and_rate(
        rate in 1u64..10_000, burst in 1u64..10_000, steps in prop::collection::vec((0u64..500_000, 0u64..20_000), 1..50)
    ) {
        let (mut b, mut now, mut passed) = (Bucket::new(rate, burst), 0, 0);
        b.available(0);
        for (wait, want) in steps {
            now += wait;
            let grant = b.available(now).min(want);
            b.take(grant);
            passed += grant;
            prop_assert!(passed <= burst + now * rate / SECOND_US);
        }
    }

    #[test]
    fn after_the_stated_wait_the_bytes_are_there_and_not_before(
        rate in 1u64..10_000, burst in 1u64..10_000, taken in 0u64..30_000, want in 1u64..10_000
    ) {
        let mut b = Bucket::new(rate, burst);
        b.available(0);
        b.take(taken);
        let wait = b.until_available_us(0, want);
        let want = want.min(burst);
        if wait > 0 {
            prop_assert!(b.clone().available(wait - 1) < want);
        }
        prop_assert!(b.available(wait) >= want);
    }

    #[test]
    fn no_second_sees_more_than_the_rate(limit in 0u32..6, gaps in prop::collection::vec(0u64..400_000, 1..80)) {
        let (mut r, mut now, mut admitted) = (Rate::new(limit), 0u64, Vec::new());
        for gap in gaps {
            now += gap;
            if r.admit(now) {
                admitted.push(now);
            }
            let recent = admitted.iter().filter(|t| now - **t < SECOND_US).count();
            prop_assert!(recent <= limit as usize);
        }
    }
}

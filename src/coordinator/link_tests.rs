use super::*;
use proptest::prelude::*;

const START: Now = Now { mono_us: 5_000_000, unix_ms: 1_767_323_045_000 };

fn problem(slug: &str) -> Problem {
    Problem { slug: slug.into(), ..Problem::default() }
}

fn refuse(link: &mut Link, lane: Lane, status: u16, slug: &str, retry_after_s: Option<u64>) -> Verdict {
    link.answered(lane, &Answer::Refused { status, problem: &problem(slug), retry_after_s }, START)
}

fn online() -> Link {
    let mut link = Link::new(7);
    link.answered(Lane::Register, &Answer::Success, START);
    link.registered(30_000);
    link
}

#[test]
fn nothing_works_before_the_registration() {
    let mut link = Link::new(7);
    assert_eq!(link.status(START).state, "registering");
    for lane in Lane::ALL {
        let wanted = if lane == Lane::Register { Step::Speak } else { Step::Wait };
        assert_eq!(link.step(lane, START), wanted);
    }
    link.answered(Lane::Register, &Answer::Success, START);
    link.registered(30_000);
    for lane in Lane::ALL {
        let wanted = if lane == Lane::Register { Step::Wait } else { Step::Speak };
        assert_eq!(link.step(lane, START), wanted);
    }
    assert_eq!(link.status(START).state, "online");
}

#[test]
fn heartbeats_keep_their_interval_and_come_sooner_when_asked() {
    let mut link = online();
    link.answered(Lane::Heartbeat, &Answer::Success, START);
    assert_eq!(link.step(Lane::Heartbeat, START), Step::At(START.mono_us + 30_000_000));
    assert_eq!(link.step(Lane::Heartbeat, START.after_ms(30_000)), Step::Speak);
    link.heartbeat_soon();
    assert_eq!(link.step(Lane::Heartbeat, START), Step::Speak);
    refuse(&mut link, Lane::Heartbeat, 503, "", Some(9));
    link.heartbeat_soon();
    assert_eq!(link.step(Lane::Heartbeat, START), Step::At(START.mono_us + 9_000_000));
}

#[test]
fn only_the_contracts_4xx_are_tried_again() {
    for status in 400..600 {
        let final_one = (400..500).contains(&status) && ![401, 408, 410, 429].contains(&status);
        let wanted = if final_one { Verdict::Final } else { Verdict::Later };
        assert_eq!(refuse(&mut online(), Lane::Outbox, status, "x", None), wanted, "{status}");
    }
    assert_eq!(refuse(&mut online(), Lane::Outbox, 403, "node-unknown", None), Verdict::Later);
    assert_eq!(refuse(&mut online(), Lane::Control, 410, "cursor-unknown", None), Verdict::StartOver);
}

#[test]
fn a_node_that_was_forgotten_registers_before_anything_else() {
    let mut link = online();
    refuse(&mut link, Lane::Control, 403, "node-unknown", None);
    assert_eq!(link.step(Lane::Register, START), Step::Speak);
    assert_eq!(link.step(Lane::Outbox, START), Step::Wait);
    link.answered(Lane::Register, &Answer::Success, START);
    link.registered(30_000);
    assert_eq!(link.step(Lane::Outbox, START), Step::Speak);
    assert_ne!(link.step(Lane::Control, START), Step::Wait);
}

#[test]
fn a_stale_signature_corrects_the_clock_once() {
    let mut link = Link::new(7);
    let stale =
        Problem { slug: "signature-stale".into(), server_time: Some(Unix(100)), ..Problem::default() };
    let answer = Answer::Refused { status: 401, problem: &stale, retry_after_s: None };
    assert_eq!(link.answered(Lane::Register, &answer, START), Verdict::CorrectAndRepeat(100_500));
    assert_eq!(link.step(Lane::Register, START), Step::Speak);
    assert_eq!(link.answered(Lane::Register, &answer, START), Verdict::Later);
    assert_eq!(link.answered(Lane::Register, &answer, START), Verdict::CorrectAndRepeat(100_500));
    assert_eq!(refuse(&mut link, Lane::Register, 401, "signature-stale", None), Verdict::Later, "no time");
}

#[test]
fn a_refused_registration_rests_until_something_changes() {
    let mut link = Link::new(7);
    assert_eq!(refuse(&mut link, Lane::Register, 403, "banned", None), Verdict::Final);
    assert_eq!(link.step(Lane::Register, START.after_ms(1 << 40)), Step::Wait);
    assert_eq!(link.status(START).state, "refused");
    link.register_again();
    assert_eq!(link.step(Lane::Register, START), Step::Speak);
}

#[test]
fn retry_after_is_obeyed_up_to_an_hour() {
    let mut link = online();
    refuse(&mut link, Lane::Outbox, 429, "", Some(120));
    assert_eq!(link.step(Lane::Outbox, START), Step::At(START.mono_us + 120_000_000));
    assert_eq!(link.status(START).backoff_ms, 120_000);
    refuse(&mut link, Lane::Outbox, 503, "", Some(u64::MAX));
    assert_eq!(link.step(Lane::Outbox, START), Step::At(START.mono_us + 3_600_000_000));
}

#[test]
fn a_shutdown_cuts_a_backoff_short_but_not_a_wait_that_was_asked_for() {
    let mut link = online();
    for _ in 0..9 {
        link.answered(Lane::Outbox, &Answer::None, START);
    }
    link.hurry(Lane::Outbox);
    assert_eq!(link.step(Lane::Outbox, START), Step::Speak);
    refuse(&mut link, Lane::Outbox, 503, "", Some(120));
    link.hurry(Lane::Outbox);
    assert_eq!(link.step(Lane::Outbox, START), Step::At(START.mono_us + 120_000_000));
}

#[test]
fn an_empty_poll_is_not_repeated_at_once() {
    let mut link = online();
    link.answered(Lane::Control, &Answer::Success, START);
    link.polled(Lane::Control, START.mono_us);
    assert_eq!(link.step(Lane::Control, START.after_ms(10)), Step::At(START.mono_us + 1_000_000));
    assert_eq!(link.step(Lane::Control, START.after_ms(1000)), Step::Speak);
    link.stalled(Lane::Control, START);
    assert_eq!(link.step(Lane::Control, START), Step::At(START.mono_us + 10_000_000));
}

#[test]
fn a_final_poll_pauses_and_a_final_heartbeat_waits_for_the_next() {
    let mut link = online();
    refuse(&mut link, Lane::Control, 400, "", None);
    assert_eq!(link.step(Lane::Control, START), Step::At(START.mono_us + 60_000_000));
    refuse(&mut link, Lane::Heartbeat, 400, "", None);
    assert_eq!(link.step(Lane::Heartbeat, START), Step::At(START.mono_us + 30_000_000));
}

#[test]
fn a_small_difference_of_clocks_is_left_alone() {
    let at = |ms: i64| Now { mono_us: 0, unix_ms: ms };
    assert_eq!(correction(Unix(100), 0, at(95_000)), None);
    assert_eq!(correction(Unix(100), 0, at(94_999)), Some(100_500));
    assert_eq!(correction(Unix(100), 0, at(106_000)), None);
    assert_eq!(correction(Unix(100), 0, at(106_001)), Some(100_500));
    assert_eq!(correction(Unix(100), 10_000, at(116_000)), None, "the answer was slow");
    assert_eq!(correction(Unix(100), 10_000, at(116_001)), Some(105_500));
}

proptest! {
    #[test]
    fn the_delay_stays_below_a_ceiling_that_doubles_to_a_minute(seed: u64, tries in 1usize..30) {
        let mut link = Link::new(seed);
        let mut now = START;
        for n in 0..tries {
            prop_assert_eq!(link.step(Lane::Register, now), Step::Speak);
            link.answered(Lane::Register, &Answer::None, now);
            let wait_ms = link.status(now).backoff_ms;
            prop_assert!(wait_ms <= (1000 << n.min(10)).min(60_000));
            now = now.after_ms(wait_ms);
        }
        link.answered(Lane::Register, &Answer::Success, now);
        prop_assert_eq!(link.status(now).backoff_ms, 0);
    }

    #[test]
    fn the_jitter_is_full(seed: u64) {
        let mut link = Link::new(seed);
        for _ in 0..10 {
            link.answered(Lane::Register, &Answer::None, START);
        }
        let waits: Vec<u64> = (0..200)
            .map(|_| {
                link.answered(Lane::Register, &Answer::None, START);
                link.status(START).backoff_ms
            })
            .collect();
        prop_assert!(waits.iter().any(|w| *w < 12_000) && waits.iter().any(|w| *w > 48_000));
    }
}

#[test]
fn another_line_ends_a_backoff_but_not_a_wait_that_was_asked_for() {
    let mut link = online();
    for _ in 0..8 {
        link.answered(Lane::Control, &Answer::None, START);
    }
    link.answered(Lane::Heartbeat, &Answer::Success, START);
    refuse(&mut link, Lane::Outbox, 503, "", Some(99));
    link.line_changed();
    assert_eq!(link.step(Lane::Control, START), Step::Speak);
    assert_eq!(link.step(Lane::Heartbeat, START), Step::Speak, "the new address is to be seen");
    assert_eq!(link.step(Lane::Outbox, START), Step::At(START.mono_us + 99_000_000));
    link.answered(Lane::Control, &Answer::None, START);
    let next = match link.step(Lane::Control, START) {
        Step::At(next) => next,
        step => panic!("{step:?}"),
    };
    assert!(next <= START.mono_us + FIRST_CEILING_MS * 1000, "the back-off begins anew");
}

use super::super::access_log::tests::line;
use super::*;
use crate::signed::verify;
use proptest::prelude::*;

const T: i64 = 1_766_152_800; // 2025-12-19T14:00:00Z, the start of a window

fn at(seconds: i64) -> Now {
    Now { mono_us: 0, unix_ms: (T + seconds) * 1000 }
}

fn meter() -> SessionMeter {
    SessionMeter::new("ed25519:node", "5f0c4a1e-8f4f-4a58-9d5e-0f7a3f6b2c11")
}

fn int(sealed: &Sealed, name: &str) -> i64 {
    sealed.object.member(name).and_then(Value::as_int).unwrap()
}

fn text<'a>(sealed: &'a Sealed, name: &str) -> &'a str {
    sealed.object.member(name).and_then(Value::as_str).unwrap()
}

#[test]
fn a_bundle_has_the_members_of_the_contract() {
    let mut m = meter();
    m.connected(at(3), 78_999);
    m.connection(at(3));
    m.add(at(3), 10, 20);
    m.add(at(4), 1, 2);
    m.rejected(at(5));
    m.error(at(6));
    let sealed = m.close(at(7));
    assert_eq!(sealed.len(), 1);
    assert_eq!(
        sealed[0].object.canonical(),
        "{\"accessLogHash\":\"b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262\",\
         \"bytesEgress\":22,\"bytesIngress\":11,\"connections\":1,\"errorRatePct\":50,\"latencyMsP50\":78,\
         \"latencyMsP95\":78,\"nodeId\":\"ed25519:node\",\"path\":\"relay\",\
         \"prevHash\":\"b3:0000000000000000000000000000000000000000000000000000000000000000\",\"rejected\":1,\
         \"seq\":0,\"sessionId\":\"5f0c4a1e-8f4f-4a58-9d5e-0f7a3f6b2c11\",\"windowEnd\":\"2025-12-19T14:05:00Z\",\
         \"windowStart\":\"2025-12-19T14:00:00Z\"}"
    );
}

#[test]
fn a_signed_bundle_verifies_and_a_repeat_is_byte_identical() {
    let key = NodeKey::from_seed(&[3; 32]).unwrap();
    let mut m = SessionMeter::new(&key.node_id(), "s");
    let sealed = m.close(at(0)).remove(0);
    assert!(verify(Kind::Metering, &sealed.signed(&key), &key.public()));
    assert_eq!(sealed.sign(&key), sealed.sign(&key));
}

#[test]
fn a_byte_after_the_end_of_its_window_counts_for_the_next() {
    let mut m = meter();
    m.add(at(299), 1, 0);
    m.add(at(300), 2, 0);
    let sealed = m.take_sealed();
    assert_eq!((sealed.len(), int(&sealed[0], "bytesIngress")), (1, 1));
    assert_eq!(m.window_end(), Some(Unix(T + 600)));
    let last = m.close(at(301));
    assert_eq!((last.len(), int(&last[0], "bytesIngress")), (1, 2));
}

#[test]
fn the_timer_seals_a_window_at_its_end_and_not_before() {
    let mut m = meter();
    m.add(at(10), 1, 0);
    m.due(at(299));
    assert!(m.take_sealed().is_empty());
    m.due(at(300));
    assert_eq!(m.take_sealed().len(), 1);
    m.due(at(9999));
    assert!(m.take_sealed().is_empty());
}

#[test]
fn empty_windows_are_skipped_and_the_chain_has_no_gap() {
    let mut m = meter();
    m.add(at(0), 1, 0);
    m.add(at(1500), 1, 0);
    let sealed = m.close(at(1501));
    assert_eq!(sealed.iter().map(|s| s.seq).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(sealed[1].window_start, Unix(T + 1500));
    assert_eq!(text(&sealed[1], "prevHash"), sealed[0].hash);
    assert_eq!(m.totals().last_hash, sealed[1].hash);
    let signed = signed_bytes(Kind::Metering, &sealed[0].object);
    assert_eq!(sealed[0].hash, b3(&blake3::hash(&signed)));
}

#[test]
fn a_session_without_traffic_has_one_bundle_of_zeros() {
    let mut m = meter();
    let sealed = m.close(at(42));
    assert_eq!(sealed.len(), 1);
    assert_eq!(sealed[0].window_start, Unix(T));
    for name in ["bytesIngress", "bytesEgress", "connections", "rejected", "latencyMsP50", "errorRatePct"] {
        assert_eq!(int(&sealed[0], name), 0, "{name}");
    }
    assert!(m.close(at(43)).is_empty());
}

#[test]
fn a_session_that_carried_before_closes_without_an_empty_bundle() {
    let mut m = meter();
    m.add(at(0), 1, 0);
    m.due(at(300));
    assert_eq!(m.close(at(700)).len(), 1);
    assert_eq!(m.totals().bundles, 1);
}

#[test]
fn a_clock_set_back_leaves_the_window_open() {
    let mut m = meter();
    m.add(at(10), 1, 0);
    m.add(at(-5000), 2, 0);
    assert_eq!(m.window_end(), Some(Unix(T + 300)));
    let sealed = m.close(at(-5000));
    assert_eq!((sealed.len(), int(&sealed[0], "bytesIngress")), (1, 3));
}

#[test]
fn a_sealed_window_is_never_opened_again() {
    let mut m = meter();
    m.add(at(10), 1, 0);
    m.add(at(310), 2, 0);
    m.due(at(600));
    m.add(at(20), 4, 0);
    let starts: Vec<_> = m.close(at(30)).iter().map(|s| s.window_start.0 - T).collect();
    assert_eq!(starts, [0, 300, 600]);
}

#[test]
fn nothing_is_counted_after_the_close() {
    let mut m = meter();
    m.add(at(0), 5, 5);
    m.close(at(1));
    let before = m.totals().clone();
    m.add(at(2), 1, 1);
    m.connection(at(2));
    m.rejected(at(2));
    m.error(at(2));
    m.connected(at(2), 1);
    assert_eq!(m.write_line(at(2), &line()), None);
    assert_eq!(m.uncount(Direction::Egress, 5), 0);
    assert_eq!(*m.totals(), before);
    assert!(m.close(at(999)).is_empty() && m.window_end().is_none());
}

#[test]
fn bytes_are_taken_back_from_the_newest_seconds_of_the_open_window() {
    let mut m = meter();
    m.add(at(0), 0, 100);
    m.add(at(300), 0, 10);
    m.add(at(301), 0, 10);
    assert_eq!(m.uncount(Direction::Egress, 15), 15);
    assert_eq!(m.buckets().iter().map(|b| b.egress).collect::<Vec<_>>(), [5, 0]);
    assert_eq!(m.uncount(Direction::Egress, 15), 5);
    assert_eq!(m.totals().bytes_egress, 100);
}

#[test]
fn the_digest_covers_the_lines_of_the_window_as_they_are_exported() {
    let mut m = meter();
    let first = m.write_line(at(1), &line()).unwrap();
    let second = m.write_line(at(-60), &line()).unwrap();
    assert!(second.contains("\"t\":\"2025-12-19T14:00:00Z\""), "inside the window that stays open");
    let third = m.write_line(at(300), &line()).unwrap();
    let sealed = m.close(at(301));
    assert_eq!(text(&sealed[0], "accessLogHash"), b3(&blake3::hash((first + &second).as_bytes())));
    assert_eq!(text(&sealed[1], "accessLogHash"), b3(&blake3::hash(third.as_bytes())));
}

#[test]
fn a_window_on_both_paths_is_mixed() {
    let mut m = meter();
    m.add_on(at(0), Path::Kernel, 1, 0);
    m.add(at(0), 1, 0);
    m.add_on(at(300), Path::Kernel, 1, 0);
    let sealed = m.close(at(300));
    assert_eq!((text(&sealed[0], "path"), text(&sealed[1], "path")), ("mixed", "kernel"));
}

#[test]
fn the_chain_goes_on_after_a_restart() {
    let mut m = meter();
    m.add(at(0), 7, 0);
    m.connection(at(1));
    m.due(at(300));
    let first = m.take_sealed().remove(0);
    m.add(at(301), 100, 100);
    m.rejected(at(301));
    let state = crate::json::parse(m.chain_state().canonical().as_bytes()).unwrap();
    let mut restored = SessionMeter::restore("ed25519:node", &state).unwrap();
    restored.add(at(10), 1, 0);
    let second = restored.close(at(10)).remove(0);
    assert_eq!((second.seq, text(&second, "prevHash")), (1, &*first.hash));
    assert_eq!(second.window_start, Unix(T + 300), "the first window was sealed before the restart");
    let t = restored.totals();
    assert_eq!((t.bytes_ingress, t.bytes_egress, t.connections, t.rejected, t.bundles), (8, 0, 1, 0, 2));
}

#[test]
fn a_chain_state_that_is_not_one_is_refused() {
    let mut state = meter().chain_state();
    state.set("lastWindow", "yesterday");
    assert_eq!(SessionMeter::restore("n", &state).unwrap_err().pointer, "/lastWindow");
    state.set("lastWindow", Value::Null);
    assert!(SessionMeter::restore("n", &state).is_ok());
    state.set("totals", object([("bytesIngress", Value::from(-1))]));
    assert!(SessionMeter::restore("n", &state).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Add(u64, u64),
    Uncount(u64),
    Connection,
    Rejected,
    Clock(i64),
    Due,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0u64..1000, 0u64..1000).prop_map(|(i, e)| Step::Add(i, e)),
        2 => (0u64..1500).prop_map(Step::Uncount),
        1 => Just(Step::Connection),
        1 => Just(Step::Rejected),
        8 => (0i64..40).prop_map(Step::Clock),
        2 => (-700i64..700).prop_map(Step::Clock),
        2 => Just(Step::Due),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..150)
}

proptest! {
    /// Whatever the clock does: buckets add up to bundles, bundles to totals, no window twice, no gap in the chain.
    #[test]
    fn figures_add_up_under_any_clock(steps in steps()) {
        let (mut m, mut t, mut sealed) = (meter(), 0i64, Vec::new());
        let (mut ingress, mut egress) = (0u64, 0u64);
        for step in steps {
            match step {
                Step::Add(i, e) => {
                    m.add(at(t), i, e);
                    ingress += i;
                    egress += e;
                }
                Step::Uncount(n) => egress -= m.uncount(Direction::Egress, n),
                Step::Connection => m.connection(at(t)),
                Step::Rejected => m.rejected(at(t)),
                Step::Clock(by) => t += by,
                Step::Due => m.due(at(t)),
                Step::Restart => {
                    m.due(at(t));
                    sealed.append(&mut m.take_sealed());
                    if m.window_end().is_none() {
                        m = SessionMeter::restore("ed25519:node", &m.chain_state()).unwrap();
                    }
                }
            }
            prop_assert!(m.buckets().len() <= WINDOW_S as usize);
            prop_assert!(m.buckets().windows(2).all(|w| w[0].second < w[1].second && w[1].second < 300));
        }
        let open: u64 = m.buckets().iter().map(|b| b.ingress).sum();
        let had_open_window = m.window_end().is_some();
        let mut last = m.close(at(t));
        if let (true, Some(newest)) = (had_open_window, last.last()) {
            prop_assert!(int(newest, "bytesIngress") as u64 == open);
        }
        sealed.append(&mut last);
        let sum = |name| sealed.iter().map(|s| int(s, name) as u64).sum::<u64>();
        let totals = m.totals();
        prop_assert_eq!((totals.bytes_ingress, totals.bytes_egress), (ingress, egress));
        prop_assert_eq!((sum("bytesIngress"), sum("bytesEgress")), (ingress, egress));
        prop_assert_eq!((sum("connections"), sum("rejected")), (totals.connections, totals.rejected));
        prop_assert_eq!(totals.bundles as usize, sealed.len());
        prop_assert!(!sealed.is_empty());
        let mut previous = FIRST_PREV_HASH.to_owned();
        for (i, s) in sealed.iter().enumerate() {
            prop_assert_eq!(s.seq as usize, i);
            prop_assert_eq!(text(s, "prevHash"), &*previous);
            prop_assert_eq!(s.window_start.0 % WINDOW_S, 0);
            previous.clone_from(&s.hash);
        }
        prop_assert!(sealed.windows(2).all(|w| w[0].window_start < w[1].window_start));
        prop_assert_eq!(&totals.last_hash, &previous);
    }
}

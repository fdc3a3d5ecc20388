//! Open tunnels: what they carry and count, how they end, what they hold.
use super::*;
use crate::relay::pump::PlainTunnel;
use crate::relay::tls_pump::TlsTunnel;

#[test]
fn many_bytes_pass_unaltered_both_ways_and_every_one_is_counted() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, ..Setup::default() });
        let (mut buyer, mut target) = relay.open_through();
        let (up, down) = (pattern(3_000_017, 1), pattern(5_000_011, 2));
        let (up_sent, down_sent) = (up.clone(), down.clone());
        let mut target_out = target.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            target_out.write_all(&down_sent).unwrap();
            target_out.shutdown(Shutdown::Write).unwrap();
        });
        let receiver = std::thread::spawn(move || rest(&mut target));
        let got = buyer.exchange(&up_sent);
        assert!(got == down, "{} bytes down", got.len());
        sender.join().unwrap();
        assert!(receiver.join().unwrap() == up);
        let ended = relay.ended();
        let hello = hello("origin.test").len() as u64;
        assert_eq!((ended.ingress, ended.egress), (5_000_011, 3_000_017 + hello));
        assert_eq!(ended.outcome, Outcome::Done);
    }
}

#[test]
fn a_fin_is_passed_on_and_the_other_half_lives() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, ..Setup::default() });
        let (mut buyer, mut target) = relay.open_through();
        buyer.finish();
        assert_eq!(rest(&mut target), b"");
        assert_eq!(relay.phase(), Phase::HalfClosed);
        target.write_all(b"late").unwrap();
        drop(target);
        assert_eq!(rest(&mut buyer), b"late");
        assert_eq!(relay.ended().outcome, Outcome::Done);

        let (mut buyer, mut target) = relay.open_through();
        target.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut buyer), b"");
        assert_eq!(relay.phase(), Phase::HalfClosed);
        buyer.write_all(b"late").unwrap();
        buyer.finish();
        assert_eq!(rest(&mut target), b"late");
        assert_eq!(relay.ended().outcome, Outcome::Done);
    }
}

#[test]
fn a_kill_resets_both_sides_at_once() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, ..Setup::default() });
        let (mut buyer, mut target) = relay.open_through();
        let took = relay.timed(|| {
            relay.end(Ending::Reset);
            assert!(is_reset(&mut target));
            assert!(is_reset(buyer.socket()));
        });
        assert!(took < Duration::from_millis(100), "{took:?}");
        assert_eq!(relay.ended().outcome, Outcome::Killed);
    }
}

#[test]
fn an_idle_tunnel_is_closed_not_reset() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, ..Setup::default() });
        let (mut buyer, mut target) = relay.open_through();
        relay.end(Ending::Close);
        assert_eq!(rest(&mut target), b"");
        assert_eq!(rest(&mut buyer), b"");
        assert_eq!(relay.ended().outcome, Outcome::Done);
    }
}

#[test]
fn a_reset_is_passed_on_and_told_apart() {
    let relay = Relay::start(Setup::default());
    let (mut buyer, target) = relay.open_through();
    reset(target);
    assert!(is_reset(buyer.socket()));
    assert_eq!(relay.ended().outcome, Outcome::TargetReset);

    let (mut buyer, mut target) = relay.open_through();
    target.write_all(b"first").unwrap();
    buyer.read_exact(&mut [0; 5]).unwrap();
    reset(target);
    assert!(is_reset(buyer.socket()));
    assert_eq!(relay.ended().outcome, Outcome::Aborted);

    let (buyer, mut target) = relay.open_through();
    reset(buyer.into_socket());
    assert!(is_reset(&mut target));
    assert_eq!(relay.ended().outcome, Outcome::Aborted);
}

#[test]
fn bytes_that_a_killed_target_never_took_are_not_counted() {
    let relay = Relay::start(Setup::default());
    let (mut buyer, mut target) = relay.open_through();
    let socket = buyer.socket().try_clone().unwrap();
    socket.set_nonblocking(true).unwrap();
    // Until nobody takes any more: the target does not read.
    let chunk = pattern(1 << 20, 3);
    let mut quiet = 0;
    while quiet < 20 {
        match (&socket).write(&chunk) {
            Ok(_) => quiet = 0,
            Err(_) => quiet += 1,
        }
        pause(5);
    }
    relay.end(Ending::Reset);
    let ended = relay.ended();
    let mut taken = 0;
    let mut piece = vec![0; 1 << 16];
    while let Ok(n @ 1..) = target.read(&mut piece) {
        taken += n as u64;
    }
    assert_eq!(ended.egress - hello("origin.test").len() as u64, taken);
    assert!(ended.uncounted > 0, "the target's window was full, so some was on its way");
}

#[test]
fn a_fin_on_its_way_to_a_killed_target_is_no_byte() {
    let relay = Relay::start(Setup::default());
    let (mut buyer, mut target) = relay.open_through();
    buyer.write_all(&pattern(400_000, 8)).unwrap();
    buyer.finish();
    pause(100);
    assert_eq!(relay.phase(), Phase::HalfClosed, "all of it is with the kernel, the FIN behind it");
    relay.end(Ending::Reset);
    let ended = relay.ended();
    let mut taken = 0;
    let mut piece = vec![0; 1 << 16];
    while let Ok(n @ 1..) = target.read(&mut piece) {
        taken += n as u64;
    }
    assert!(ended.uncounted > 0, "the target's window was full, so some was on its way");
    assert_eq!(ended.egress - hello("origin.test").len() as u64, taken);
}

#[test]
fn a_buyer_that_does_not_read_holds_the_target_back() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, ..Setup::default() });
        let (mut buyer, mut target) = relay.open_through();
        let all = pattern(64 << 20, 4);
        let sent = all.clone();
        let sender = std::thread::spawn(move || {
            target.write_all(&sent).unwrap();
        });
        pause(300);
        let held = relay.ingress();
        pause(200);
        assert_eq!(relay.ingress(), held, "it went on reading");
        assert!(held < 32 << 20, "{held} bytes read from the target");
        let mut got = vec![0; all.len()];
        buyer.read_exact(&mut got).unwrap();
        assert!(got == all);
        sender.join().unwrap();
    }
}

#[test]
fn the_rate_is_the_accounts() {
    for over_tls in [false, true] {
        let relay = Relay::start(Setup { tls: over_tls, bytes_per_ms: Some(1000), ..Setup::default() });
        let (mut buyer, mut target) = relay.open_through();
        let sent = pattern(300_000, 5);
        let took = relay.timed(|| {
            let bytes = sent.clone();
            let sender = std::thread::spawn(move || target.write_all(&bytes).map(|()| target));
            let mut got = vec![0; sent.len()];
            buyer.read_exact(&mut got).unwrap();
            assert!(got == sent);
            drop(sender.join().unwrap());
        });
        assert!(took > Duration::from_millis(200), "{took:?}");
        assert!(took < Duration::from_millis(1500), "{took:?}");
    }
}

#[test]
fn an_idle_tunnel_holds_two_sockets_and_no_pipe() {
    let relay = Relay::start(Setup::default());
    let tunnels: Vec<_> = (0..20).map(|_| relay.open_through()).collect();
    assert_eq!(relay.pipes(), 0);
    for (buyer, target) in &tunnels {
        let (mut buyer, mut target) = (buyer.plain(), target);
        target.write_all(&pattern(100_000, 6)).unwrap();
        buyer.read_exact(&mut vec![0; 100_000]).unwrap();
    }
    pause(50);
    assert_eq!(relay.pipes(), 1, "all tunnels used the same one in turn");
}

#[test]
fn a_tunnels_state_is_small() {
    assert!(size_of::<PlainTunnel>() <= 256, "{}", size_of::<PlainTunnel>());
    assert!(size_of::<TlsTunnel>() <= 1536, "{}", size_of::<TlsTunnel>());
}

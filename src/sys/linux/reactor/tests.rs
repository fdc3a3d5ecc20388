//! Sleep, wake, edges and levels.
use super::*;
use async_io::Timer;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn pair(reactor: &Rc<Reactor>) -> (Io, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Io::new(reactor, ours.into(), 0).unwrap(), theirs)
}

#[test]
fn it_sleeps_until_a_socket_or_another_thread_wakes_it() {
    let reactor = Reactor::new().unwrap();
    let (io, mut peer) = pair(&reactor);
    let slept = reactor.block_on(async {
        Timer::after(Duration::from_millis(20)).await;
        peer.write_all(b"x").unwrap();
        io.ready(READ).await;
        blocking::unblock(|| 7).await
    });
    assert_eq!(slept.unwrap(), 7);
}

#[test]
fn it_can_be_driven_by_the_general_reactor() {
    let reactor = Reactor::new().unwrap();
    let (io, mut peer) = pair(&reactor);
    let woken = async {
        Timer::after(Duration::from_millis(5)).await;
        peer.write_all(b"x").unwrap();
        io.ready(READ).await;
        None
    };
    let driven = async { Some(reactor.drive().await) };
    assert!(async_io::block_on(futures_lite::future::or(woken, driven)).is_none());
}

#[test]
fn an_event_of_a_closed_socket_does_not_reach_its_successor() {
    let reactor = Reactor::new().unwrap();
    let (io, _peer) = pair(&reactor);
    let (key, stale) = (io.key, u64::from(io.key));
    drop(io);
    let (next, _peer) = pair(&reactor);
    assert_eq!(next.key, key);
    reactor.slots.borrow_mut().mark(stale, EventFlags::IN);
    assert!(!next.is_ready(READ));
}

#[test]
fn a_fin_keeps_a_socket_readable_after_a_short_read() {
    let reactor = Reactor::new().unwrap();
    let (io, peer) = pair(&reactor);
    let data = u64::from(io.key);
    reactor.slots.borrow_mut().mark(data, EventFlags::IN);
    io.read_short();
    assert!(!io.is_ready(READ));
    reactor.slots.borrow_mut().mark(data, EventFlags::IN | EventFlags::RDHUP);
    io.read_short();
    assert!(io.is_ready(READ));
    drop(peer);
}

#[test]
fn a_sleep_is_no_longer_than_it_may_be_and_the_next_one_is_not_bounded() {
    let polls = Cell::new(0);
    let again = poll_fn(|_| {
        polls.set(polls.get() + 1);
        if polls.get() < 3 {
            poll_again_within(5).unwrap();
            return Poll::Pending;
        }
        Poll::Ready(())
    });
    block_on(again).unwrap();
    assert_eq!(polls.get(), 3, "nothing else has woken it");
    let reactor = Reactor::local().unwrap();
    assert_eq!(reactor.longest_ms.get(), None);
}

#[test]
fn a_message_that_is_left_is_told_of_again_and_room_only_where_it_is_wanted() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let io = Io::of_messages(ours.into()).unwrap();
    theirs.write_all(b"xy").unwrap();
    for _ in 0..2 {
        block_on(poll_fn(|cx| io.poll_message(cx))).unwrap();
        rustix::io::read(&io, &mut [0u8; 1]).unwrap();
    }
    let slept = Cell::new(false);
    let room = poll_fn(|cx| match io.poll_room(cx) {
        Poll::Pending if !slept.replace(true) => {
            poll_again_within(5).unwrap();
            Poll::Pending
        }
        room => Poll::Ready(room.is_ready()),
    });
    assert!(!block_on(room).unwrap(), "nobody wants room");
    io.want_room(true);
    block_on(poll_fn(|cx| io.poll_room(cx))).unwrap();
    assert!(block_on(poll_fn(|cx| Poll::Ready(io.poll_message(cx)))).unwrap().is_pending(), "all is read");
}

//! Wakes the tasks of one thread when something they wait for may have changed.
use crate::sorted::SortedMap;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A counter that can be waited on.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Cell<u64>,
    waiting: RefCell<SortedMap<u64, Waker>>,
    next: Cell<u64>,
}

/// The place of somebody who waits. Who gives up takes his waker with him: the bell may not ring for months.
struct Place<'a>(&'a Bell, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.borrow_mut().remove(&self.1);
    }
}

impl Bell {
    /// How often it has rung; look before testing a condition, then [`Bell::after`] misses nothing.
    pub fn count(&self) -> u64 {
        self.rung.get()
    }

    /// Wakes everybody who waits.
    pub fn ring(&self) {
        self.rung.set(self.rung.get().wrapping_add(1));
        for waker in self.waiting.take().into_values() {
            waker.wake();
        }
    }

    /// Waits until it has rung since it had rung `seen` times.
    pub async fn after(&self, seen: u64) {
        let place = Place(self, self.next.replace(self.next.get().wrapping_add(1)));
        poll_fn(|cx| {
            if self.rung.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.get(&place.1).is_some_and(|w| w.will_wake(cx.waker())) {
                waiting.insert(place.1, cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_ring_between_look_and_wait_is_not_missed() {
        let bell = Bell::default();
        let seen = bell.count();
        assert!(block_on(poll_once(bell.after(seen))).is_none());
        bell.ring();
        assert!(block_on(poll_once(bell.after(seen))).is_some());
        assert!(block_on(poll_once(bell.after(bell.count()))).is_none());
    }

    #[test]
    fn who_gives_up_is_forgotten_and_who_waits_is_kept_once() {
        let bell = Bell::default();
        block_on(async {
            for _ in 0..10 {
                assert!(poll_once(bell.after(0)).await.is_none());
            }
            assert!(bell.waiting.borrow().is_empty());
            let (mut one, mut other) = (Box::pin(bell.after(0)), Box::pin(bell.after(0)));
            for _ in 0..10 {
                assert!(poll_once(&mut one).await.is_none() && poll_once(&mut other).await.is_none());
            }
            assert_eq!(bell.waiting.borrow().len(), 2);
            bell.ring();
            assert!(poll_once(&mut one).await.is_some() && poll_once(&mut other).await.is_some());
        });
    }
}

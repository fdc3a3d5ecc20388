//! Wakes the tasks of one thread when something they wait for may have changed.
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A counter that can be waited on.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Bell {
    /// How often it has rung; look before testing a condition, then [`Bell::after`] misses nothing.
    pub fn count(&self) -> u64 {
        self.rung.get()
    }

    /// Wakes everybody who waits.
    pub fn ring(&self) {
        self.rung.set(self.rung.get().wrapping_add(1));
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits until it has rung since it had rung `seen` times.
    pub async fn after(&self, seen: u64) {
        poll_fn(|cx| {
            if self.rung.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|w| w.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
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
    fn one_task_that_waits_again_and_again_is_kept_once() {
        let bell = Bell::default();
        block_on(async {
            for _ in 0..10 {
                assert!(poll_once(bell.after(0)).await.is_none());
            }
        });
        assert_eq!(bell.waiting.borrow().len(), 1);
    }
}

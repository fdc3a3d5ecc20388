//! Deadlines of connections that are being set up, and the bound on those that nobody has authenticated yet.
use async_io::Timer;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Connections without credentials at a time; a further one takes the place of the oldest.
pub const MAX_STRANGERS: usize = 512;
/// Time for the outer handshake and the request's head, and again for the dialling.
pub const DEADLINE_MS: u64 = 10_000;

#[derive(Debug, Default)]
struct Mark {
    over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Mark {
    fn end(&self) {
        self.over.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A table of deadlines in the order in which they end. All have the same length, so that a new one is always the
/// last, and one timer serves them all.
#[derive(Debug, Default)]
pub struct Watch {
    marks: RefCell<BTreeMap<(u64, u64), Rc<Mark>>>,
    next: Cell<u64>,
    most: Option<usize>,
    sweeping: Cell<bool>,
}

impl Watch {
    /// An empty table, bounded if `most` says so: then the oldest makes room.
    pub fn new(most: Option<usize>) -> Rc<Watch> {
        Rc::new(Watch { most, ..Watch::default() })
    }

    /// Starts a deadline at `mono_ms`. Dropping it ends it.
    pub fn start(self: &Rc<Watch>, mono_ms: u64) -> Deadline {
        let mut marks = self.marks.borrow_mut();
        if self.most.is_some_and(|most| marks.len() >= most)
            && let Some((_, oldest)) = marks.pop_first()
        {
            oldest.end();
        }
        let key = (mono_ms + DEADLINE_MS, self.next.replace(self.next.get() + 1));
        let mark = Rc::new(Mark::default());
        marks.insert(key, mark.clone());
        Deadline { watch: self.clone(), key, mark }
    }

    /// Ends what is over; milliseconds until the next is, `None` if there is none.
    pub fn sweep(&self, mono_ms: u64) -> Option<u64> {
        let mut marks = self.marks.borrow_mut();
        while let Some(first) = marks.first_entry() {
            if first.key().0 > mono_ms {
                return Some(first.key().0 - mono_ms);
            }
            first.remove().end();
        }
        None
    }

    /// Whether somebody has to run [`Watch::run`] now.
    pub fn needs_sweeper(&self) -> bool {
        !self.sweeping.replace(true)
    }

    /// Sweeps until the table is empty.
    pub async fn run(&self, mono_ms: impl Fn() -> u64) {
        while let Some(wait) = self.sweep(mono_ms()) {
            Timer::after(Duration::from_millis(wait)).await;
        }
        self.sweeping.set(false);
    }
}

/// One deadline.
#[derive(Debug)]
pub struct Deadline {
    watch: Rc<Watch>,
    key: (u64, u64),
    mark: Rc<Mark>,
}

impl Deadline {
    /// Waits for its end.
    pub async fn over(&self) {
        poll_fn(|cx| {
            if self.mark.over.get() {
                return Poll::Ready(());
            }
            let mut waker = self.mark.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.watch.marks.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_ends_after_its_time() {
        let watch = Watch::new(None);
        let (a, b) = (watch.start(0), watch.start(5));
        assert_eq!(watch.sweep(9_999), Some(1));
        assert!(!a.mark.over.get());
        assert_eq!(watch.sweep(10_000), Some(5));
        assert!(a.mark.over.get() && !b.mark.over.get());
        drop(b);
        assert_eq!(watch.sweep(10_000), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let watch = Watch::new(Some(2));
        let (a, b, c) = (watch.start(0), watch.start(0), watch.start(0));
        assert!(a.mark.over.get() && !b.mark.over.get() && !c.mark.over.get());
        drop(a);
        assert_eq!(watch.marks.borrow().len(), 2);
    }

    #[test]
    fn one_sweeper_runs_while_there_is_something_to_sweep() {
        let watch = Watch::new(None);
        assert!(watch.needs_sweeper() && !watch.needs_sweeper());
        async_io::block_on(watch.run(|| 0));
        assert!(watch.needs_sweeper());
    }
}

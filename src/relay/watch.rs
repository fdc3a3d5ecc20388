//! Deadlines of connections that are being set up.
use crate::session::Gate;
use crate::sorted::SortedMap;
use async_executor::LocalExecutor;
use async_io::Timer;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Time for the outer handshake and the request's head, and again for the dialling.
pub const DEADLINE_MS: u64 = 10_000;

/// What a connection's task waits for.
#[derive(Debug, Default)]
pub struct Mark {
    over: Cell<bool>,
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Mark {
    /// The connection has to go.
    pub fn end(&self) {
        self.over.set(true);
        self.wake();
    }

    /// It may shake hands.
    pub fn grant(&self) {
        self.granted.set(true);
        self.wake();
    }

    /// Whether it has to go.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Whether it may shake hands; if not, the task is woken when it may.
    pub fn is_granted(&self, cx: &Context<'_>) -> bool {
        self.watch(cx);
        self.granted.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// A table of deadlines in the order in which they end. All have the same length, so that a new one is always the
/// last, and one timer serves them all.
#[derive(Debug, Default)]
pub struct Watch {
    marks: RefCell<SortedMap<(u64, u64), Rc<Mark>>>,
    next: Cell<u64>,
    sweeping: Cell<bool>,
}

impl Watch {
    /// An empty table.
    pub fn new() -> Rc<Watch> {
        Rc::new(Watch::default())
    }

    /// Starts a deadline at `mono_ms`. Dropping it ends it.
    pub fn start(self: &Rc<Watch>, mono_ms: u64, mark: Rc<Mark>) -> Deadline {
        let key = (mono_ms + DEADLINE_MS, self.next.replace(self.next.get() + 1));
        self.marks.borrow_mut().insert(key, mark.clone());
        Deadline { watch: self.clone(), key, mark }
    }

    /// Has the table swept in a task, unless it is already.
    pub fn sweep_in(self: &Rc<Watch>, executor: &LocalExecutor<'static>, gate: &Rc<dyn Gate>) {
        if self.needs_sweeper() {
            let (watch, gate) = (self.clone(), gate.clone());
            executor.spawn(async move { watch.run(move || gate.now().mono_ms()).await }).detach();
        }
    }

    /// Ends what is over; milliseconds until the next is, `None` if there is none.
    pub fn sweep(&self, mono_ms: u64) -> Option<u64> {
        let mut marks = self.marks.borrow_mut();
        marks.retain(|(ends_ms, _), mark| {
            let is_over = *ends_ms <= mono_ms;
            if is_over {
                mark.end();
            }
            !is_over
        });
        marks.keys().next().map(|(ends_ms, _)| ends_ms - mono_ms)
    }

    /// Whether somebody has to run [`Watch::run`] now.
    fn needs_sweeper(&self) -> bool {
        !self.sweeping.replace(true)
    }

    /// Sweeps until the table is empty.
    async fn run(&self, mono_ms: impl Fn() -> u64) {
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
            self.mark.watch(cx);
            if self.mark.is_over() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// What it tells of its end.
    pub fn mark(&self) -> &Mark {
        &self.mark
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
        let watch = Watch::new();
        let (a, b) = (watch.start(0, Rc::default()), watch.start(5, Rc::default()));
        assert_eq!(watch.sweep(9_999), Some(1));
        assert!(!a.mark.over.get());
        assert_eq!(watch.sweep(10_000), Some(5));
        assert!(a.mark.over.get() && !b.mark.over.get());
        drop(b);
        assert_eq!(watch.sweep(10_000), None);
    }

    #[test]
    fn one_sweeper_runs_while_there_is_something_to_sweep() {
        let watch = Watch::new();
        assert!(watch.needs_sweeper() && !watch.needs_sweeper());
        async_io::block_on(watch.run(|| 0));
        assert!(watch.needs_sweeper());
    }
}

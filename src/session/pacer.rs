//! Wakes flows that wait for their token buckets to fill.
//!
//! One timer serves all of them, and only while somebody waits: an idle node is not woken.
use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How often waiting flows try again. At 10 Mbit/s that is 12 kB a turn.
pub const TURN: Duration = Duration::from_millis(10);

/// Flows that wait, and the task that wakes them.
#[derive(Debug, Default)]
pub struct Pacer {
    waiting: RefCell<Vec<Waker>>,
    task: RefCell<Option<Waker>>,
    turning: Cell<bool>,
}

impl Pacer {
    /// Adds a flow. It is woken once, after at most one turn. Bounded by the number of flows: each waits in one place
    /// per direction.
    pub fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().rev().take(4).any(|w| w.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        if !self.turning.get()
            && let Some(task) = self.task.borrow_mut().take()
        {
            task.wake();
        }
    }

    /// Ready once somebody waits.
    fn poll_needed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.borrow().is_empty() {
            *self.task.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Serves the waiting flows for ever.
    pub async fn run(&self) {
        loop {
            self.turning.set(false);
            std::future::poll_fn(|cx| self.poll_needed(cx)).await;
            self.turning.set(true);
            async_io::Timer::after(TURN).await;
            // Taken out first: a woken flow may come back to wait at once.
            let woken = std::mem::take(&mut *self.waiting.borrow_mut());
            woken.into_iter().for_each(Waker::wake);
        }
    }
}

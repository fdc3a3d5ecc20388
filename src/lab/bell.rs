//! Waking tasks of one thread that wait for a change of shared state.
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Rings for everybody who waits. Clones ring together.
#[derive(Clone, Default)]
pub struct Bell(Rc<Inner>);

#[derive(Default)]
struct Inner {
    rung: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Bell {
    /// Wakes all who wait.
    pub fn ring(&self) {
        self.0.rung.set(self.0.rung.get() + 1);
        for waker in self.0.waiting.take() {
            waker.wake();
        }
    }

    /// Waits for the next ring after this call, or until the time is over.
    pub async fn wait(&self, at_most: Duration) {
        let rung = Rung { bell: self.clone(), seen: self.0.rung.get() };
        futures_lite::future::or(rung, async move {
            async_io::Timer::after(at_most).await;
        })
        .await;
    }
}

struct Rung {
    bell: Bell,
    seen: u64,
}

impl Future for Rung {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.bell.0.rung.get() != self.seen {
            return Poll::Ready(());
        }
        let mut waiting = self.bell.0.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

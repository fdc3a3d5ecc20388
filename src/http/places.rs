//! Places for the connections of a server.
use futures_lite::future::poll_fn;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Places for connections. The acceptor takes one before it accepts, and while it has to wait the idle connections are
/// asked to go.
pub struct Places {
    limit: usize,
    taken: Cell<usize>,
    acceptor: RefCell<Option<Waker>>,
    idle: RefCell<Vec<Waker>>,
}

/// One taken place; dropping it gives it free.
pub struct Place(Rc<Places>);

impl Place {
    /// All places.
    pub fn all(&self) -> &Places {
        &self.0
    }
}

impl Places {
    /// So many places, all free.
    pub fn new(limit: usize) -> Places {
        Places { limit, taken: Cell::new(0), acceptor: RefCell::new(None), idle: RefCell::new(Vec::new()) }
    }

    /// Takes a place, when one is free.
    pub async fn enter(self: Rc<Places>) -> Place {
        poll_fn(|cx| {
            if self.taken.get() < self.limit {
                self.acceptor.take();
                return Poll::Ready(());
            }
            self.acceptor.replace(Some(cx.waker().clone()));
            self.idle.take().into_iter().for_each(Waker::wake);
            Poll::Pending
        })
        .await;
        self.taken.set(self.taken.get() + 1);
        Place(self)
    }

    /// Whether somebody waits for a place.
    pub fn wanted(&self) -> bool {
        self.acceptor.borrow().is_some()
    }

    /// Waits until somebody waits for a place.
    pub async fn until_wanted(&self) {
        poll_fn(|cx| {
            if self.wanted() {
                return Poll::Ready(());
            }
            let mut idle = self.idle.borrow_mut();
            if !idle.iter().any(|w| w.will_wake(cx.waker())) {
                idle.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
        if let Some(acceptor) = self.0.acceptor.take() {
            acceptor.wake();
        }
    }
}

//! What listeners on ubus are told without asking: each change of state, and each alert.
use crate::json::{Value, object};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Most notices that wait to be sent; further ones replace the oldest.
pub const MAX_WAITING: usize = 64;

/// Notices that wait to be sent.
#[derive(Debug, Default)]
pub struct Notices(RefCell<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Value>,
    waker: Option<Waker>,
}

impl Notices {
    /// Another state.
    pub fn state(&self, state: &str, reason: &str, since: &str) {
        let members = [("event", "state"), ("state", state), ("reason", reason), ("since", since)];
        self.push(object(members.map(|(name, text)| (name, text.into()))));
    }

    /// An alert that was not there before.
    pub fn alert(&self, code: &str, detail: &str, since: &str) {
        let members = [("event", "alert"), ("code", code), ("detail", detail), ("since", since)];
        self.push(object(members.map(|(name, text)| (name, text.into()))));
    }

    /// An alert is over.
    pub fn over(&self, code: &str) {
        self.push(object([("event", "alert-over"), ("code", code)].map(|(name, text)| (name, text.into()))));
    }

    fn push(&self, notice: Value) {
        let mut queue = self.0.borrow_mut();
        if queue.waiting.len() == MAX_WAITING {
            queue.waiting.pop_front();
        }
        queue.waiting.push_back(notice);
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }

    /// The oldest notice, as soon as there is one.
    pub async fn next(&self) -> Value {
        poll_fn(|cx| {
            let mut queue = self.0.borrow_mut();
            match queue.waiting.pop_front() {
                Some(notice) => Poll::Ready(notice),
                None => {
                    queue.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn the_oldest_gives_way_at_the_limit() {
        let notices = Notices::default();
        (0..=MAX_WAITING).for_each(|n| notices.over(&n.to_string()));
        let taken = block_on(async {
            let mut taken = Vec::new();
            while let Some(notice) = poll_once(notices.next()).await {
                taken.push(notice.member("code").unwrap().as_str().unwrap().to_owned());
            }
            taken
        });
        assert_eq!((taken.len(), taken[0].as_str()), (MAX_WAITING, "1"));
    }

    #[test]
    fn who_waits_is_woken() {
        let notices = Notices::default();
        let sent = async { notices.state("idle", "Ready.", "2025-12-19T14:00:00Z") };
        let (notice, ()) = block_on(futures_lite::future::zip(notices.next(), sent));
        assert_eq!(
            notice.canonical(),
            r#"{"event":"state","reason":"Ready.","since":"2025-12-19T14:00:00Z","state":"idle"}"#
        );
    }
}

//! The resolver that the node uses: answers are kept, and a name is asked for once at a time.
use super::cache::Cache;
use super::doh::Doh;
use super::{Answer, Lookup, ResolveError, Resolver, TIMEOUT_MS, system};
use crate::http::client::Client;
use crate::http::url::Url;
use crate::time::Now;
use async_io::Timer;
use futures_lite::future;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Names asked for at a time; those beyond fail, and their buyers try again.
const MAX_ASKING: usize = 256;

/// Resolves names by one source.
pub struct Names {
    source: Source,
    cache: RefCell<Cache>,
    asking: RefCell<HashMap<String, Vec<Waker>>>,
    patience: Duration,
}

enum Source {
    System,
    Doh(Box<Doh>),
}

impl Names {
    /// By DNS over HTTPS at `url`. The client's own resolver has the pinned bootstrap addresses.
    pub fn doh(url: Url, client: Client) -> Names {
        Names::new(Source::Doh(Box::new(Doh::new(url, client))))
    }

    /// By the system's resolver.
    pub fn system() -> Names {
        Names::new(Source::System)
    }

    fn new(source: Source) -> Names {
        let patience = Duration::from_millis(TIMEOUT_MS);
        Names { source, cache: RefCell::default(), asking: RefCell::default(), patience }
    }

    async fn find(&self, host: &str, now: Now) -> Result<Rc<Answer>, ResolveError> {
        let mut patience = None;
        loop {
            if let Some(kept) = self.cache.borrow().find(host, now.mono_ms()) {
                return kept;
            }
            // One for all of it: who has waited for others in vain does not wait as long again.
            let patience = patience.get_or_insert_with(|| Timer::after(self.patience));
            let Some(asking) = Asking::begin(self, host)? else {
                let answered = async {
                    self.wait(host).await;
                    true
                };
                let late = async {
                    patience.await;
                    false
                };
                if future::or(answered, late).await {
                    continue;
                }
                return Err(ResolveError::TimedOut);
            };
            let asked = async {
                match &self.source {
                    Source::System => system::ask(host).await,
                    Source::Doh(doh) => doh.ask(host).await,
                }
            };
            let late = async {
                patience.await;
                (Err(ResolveError::TimedOut), 0)
            };
            let (found, ttl_s) = future::or(asked, late).await;
            let found = found.map(Rc::new);
            let ttl_ms = u64::from(ttl_s) * 1000;
            self.cache.borrow_mut().keep(host, found.clone(), now.mono_ms(), ttl_ms);
            drop(asking);
            return found;
        }
    }

    /// Waits until somebody else's question for the name is over.
    async fn wait(&self, host: &str) {
        let mut asked = false;
        poll_fn(|cx| match self.asking.borrow_mut().get_mut(host) {
            Some(wakers) if !asked => {
                asked = true;
                wakers.push(cx.waker().clone());
                Poll::Pending
            }
            Some(wakers) if wakers.iter().any(|w| w.will_wake(cx.waker())) => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }
}

/// A question under way. Others wait for it; they are woken also if it is given up.
struct Asking<'a> {
    names: &'a Names,
    host: String,
}

impl<'a> Asking<'a> {
    /// `None` if somebody else asks.
    fn begin(names: &'a Names, host: &str) -> Result<Option<Asking<'a>>, ResolveError> {
        let mut asking = names.asking.borrow_mut();
        if asking.contains_key(host) {
            return Ok(None);
        }
        if asking.len() >= MAX_ASKING {
            return Err(ResolveError::Failed);
        }
        asking.insert(host.to_owned(), Vec::new());
        Ok(Some(Asking { names, host: host.to_owned() }))
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let wakers = self.names.asking.borrow_mut().remove(&self.host);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, host: &'a str, now: Now) -> Lookup<'a> {
        Box::pin(self.find(host, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const NOW: Now = Now { mono_us: 0, unix_ms: 0 };

    #[test]
    fn localhost_is_loopback_and_then_kept() {
        let names = Names::system();
        let answer = async_io::block_on(names.resolve("localhost", NOW)).unwrap();
        assert!(answer.addresses.iter().all(IpAddr::is_loopback));
        assert_eq!(names.cache.borrow().find("localhost", 9_999), Some(Ok(answer)));
        assert_eq!(names.cache.borrow().find("localhost", 10_000), None);
    }

    #[test]
    fn a_name_is_asked_for_once_at_a_time() {
        let names = Names::system();
        let both = future::zip(names.resolve("localhost", NOW), async {
            assert_eq!(names.asking.borrow().len(), 1);
            names.resolve("localhost", NOW).await
        });
        let (a, b) = async_io::block_on(both);
        assert!(Rc::ptr_eq(&a.unwrap(), &b.unwrap()));
        assert!(names.asking.borrow().is_empty());
    }

    #[test]
    fn a_question_that_is_given_up_frees_its_place() {
        let names = Names::system();
        async_io::block_on(async {
            let first = Asking::begin(&names, "localhost").unwrap().unwrap();
            let mut second = names.resolve("localhost", NOW);
            assert!(future::poll_once(&mut second).await.is_none());
            drop(first);
            assert!(second.await.is_ok());
        });
    }

    #[test]
    fn who_waits_for_anothers_question_waits_no_longer_than_for_its_own() {
        let names = Names { patience: Duration::from_millis(20), ..Names::system() };
        let _held = Asking::begin(&names, "localhost").unwrap().unwrap();
        let waited = async { Some(names.resolve("localhost", NOW).await) };
        let for_ever = async {
            Timer::after(Duration::from_secs(2)).await;
            None
        };
        let found = async_io::block_on(future::or(waited, for_ever));
        assert_eq!(found, Some(Err(ResolveError::TimedOut)));
    }

    #[test]
    fn questions_are_bounded() {
        let names = Names::system();
        let held: Vec<_> =
            (0..MAX_ASKING).map(|i| Asking::begin(&names, &format!("{i}.test")).unwrap()).collect();
        assert_eq!(async_io::block_on(names.resolve("localhost", NOW)), Err(ResolveError::Failed));
        drop(held);
        assert!(async_io::block_on(names.resolve("localhost", NOW)).is_ok());
    }
}

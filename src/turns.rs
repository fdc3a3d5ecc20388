//! Tasks take turns with the reactor.
use async_executor::LocalExecutor;
use futures_lite::future;
use std::future::Future;

/// Tasks that run before the reactor is asked what else is ready. One of them may carry 128 KiB, which takes a router's processor
/// some milliseconds under TLS; while the bytes come as fast as that, it is ready again at once.
const AT_ONCE: usize = 4;

/// Runs an executor's tasks until a future ends. `LocalExecutor::run` looks up after 200 of them: a router whose processor one
/// tunnel kept busy heard nothing of its guard, nor of anybody else, for 100 MB.
pub async fn run<T>(executor: &LocalExecutor<'_>, until: impl Future<Output = T>) -> T {
    let tasks = async {
        loop {
            for _ in 0..AT_ONCE {
                executor.tick().await;
            }
            future::yield_now().await;
        }
    };
    future::or(until, tasks).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::reactor::{Io, block_on};
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::os::unix::net::UnixDatagram;
    use std::rc::Rc;

    #[test]
    fn a_task_that_is_always_ready_keeps_nobody_from_being_heard() {
        let (one, other) = UnixDatagram::pair().unwrap();
        let turns = Rc::new(Cell::new(0));
        let executor = LocalExecutor::new();
        let taken = turns.clone();
        executor
            .spawn(async move {
                for turn in 1.. {
                    taken.set(turn);
                    if turn == 100 {
                        other.send(b"hear").unwrap();
                    }
                    future::yield_now().await;
                }
            })
            .detach();
        let heard = block_on(run(&executor, async {
            let io = Io::of_messages(one.into()).unwrap();
            poll_fn(|cx| io.poll_message(cx)).await;
            turns.get()
        }));
        let heard = heard.unwrap();
        assert!((100..132).contains(&heard), "{heard}");
    }
}

//! Readiness of sockets, each registered once for its whole life: the relay's by edges, those that bring messages by level.
//!
//! A general reactor re-arms a socket whenever a task waits for it; a tunnel would pay several system calls for each
//! turn. Here the kernel's edges are remembered as bits, a task waits without a system call, and closing a socket
//! ends its registration. [`block_on`] makes this epoll instance the one that the thread sleeps in; the general reactor
//! then lives in its own thread, and wakes this one over an eventfd. Where the thread sleeps elsewhere,
//! [`Reactor::drive`] makes the instance a source of the general reactor.
use async_io::Async;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker, ready};

/// Bytes, or the peer's FIN, may be read.
pub const READ: u8 = 1;
/// Bytes may be written.
pub const WRITE: u8 = 2;
/// The peer has closed: a short read does not mean that there is nothing left to read.
const CLOSED: u8 = 4;
/// The socket has an error to report.
const FAILED: u8 = 8;

/// Events taken from the kernel at a time.
const BATCH: usize = 256;

/// The slot of the eventfd, which is none.
const BELL: u64 = u64::MAX;

/// The sockets' readiness.
#[derive(Debug)]
pub struct Reactor {
    epoll: OwnedFd,
    slots: RefCell<Slots>,
    /// Whether the program sleeps in [`Reactor::block_on`].
    blocks: Cell<bool>,
    /// How long the next sleep there may be, milliseconds.
    longest_ms: Cell<Option<u64>>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Tells a late event of the slot's previous socket from one of the present.
    generation: u32,
    bits: u8,
    waker: Option<Waker>,
}

impl Slot {
    fn wake_by(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

/// Wakes the program out of its sleep, from whatever thread.
struct Bell {
    rung: AtomicBool,
    asleep: AtomicBool,
    fd: OwnedFd,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        if !self.rung.swap(true, SeqCst) && self.asleep.load(SeqCst) {
            // It can only be full, and then it is heard.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// Runs a future to its end; the thread sleeps in its own reactor meanwhile.
///
/// # Errors
/// The kernel's, if it has no descriptor left.
pub fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    Reactor::local()?.block_on(future)
}

/// The future of [`block_on`] is polled again within so many milliseconds from where it is pending now.
///
/// # Errors
/// The kernel's, if it has no descriptor left.
pub fn poll_again_within(ms: u64) -> io::Result<()> {
    Reactor::local().map(|reactor| reactor.longest_ms.set(Some(ms)))
}

impl Reactor {
    /// The thread's reactor.
    ///
    /// # Errors
    /// The kernel's, if it has no descriptor or memory left.
    pub fn local() -> io::Result<Rc<Reactor>> {
        LOCAL.with_borrow_mut(|local| match local {
            Some(reactor) => Ok(reactor.clone()),
            None => Ok(local.insert(Reactor::new()?).clone()),
        })
    }

    /// A reactor without sockets. The program has to run in [`Reactor::block_on`], or [`Reactor::drive`] in it.
    ///
    /// # Errors
    /// The kernel's, if it has no descriptor or memory left.
    pub fn new() -> io::Result<Rc<Reactor>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Rc::new(Reactor {
            epoll,
            slots: RefCell::default(),
            blocks: Cell::new(false),
            longest_ms: Cell::new(None),
        }))
    }

    /// Runs a future to its end; the thread sleeps in this reactor meanwhile.
    ///
    /// # Errors
    /// The kernel's, if it has no descriptor left.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> io::Result<T> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), asleep: AtomicBool::new(false), fd });
        let waker = Waker::from(bell.clone());
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        let mut events = Vec::with_capacity(BATCH);
        self.blocks.set(true);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                self.blocks.set(false);
                return Ok(value);
            }
            bell.asleep.store(true, SeqCst);
            let sleep = !bell.rung.swap(false, SeqCst);
            let waited = self.wait(&mut events, sleep);
            bell.asleep.store(false, SeqCst);
            waited?;
            self.dispatch(&mut events);
        }
    }

    /// Wakes tasks as their sockets become ready; ends only with an error of the kernel's. Does nothing inside
    /// [`Reactor::block_on`], which does the same.
    pub async fn drive(&self) -> io::Error {
        if self.blocks.get() {
            return pending().await;
        }
        let mut events = Vec::with_capacity(BATCH);
        let source = match self.epoll.try_clone().and_then(Async::new_nonblocking) {
            Ok(source) => source,
            Err(e) => return e,
        };
        loop {
            if let Err(e) = source.readable().await {
                return e;
            }
            if let Err(e) = self.wait(&mut events, false) {
                return e;
            }
            self.dispatch(&mut events);
        }
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, sleep: bool) -> io::Result<()> {
        events.clear();
        let longest_ms = if sleep { self.longest_ms.take() } else { Some(0) };
        let longest = longest_ms.map(|ms| Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: (ms % 1000 * 1_000_000) as _,
        });
        match epoll::wait(&self.epoll, spare_capacity(events), longest.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn dispatch(&self, events: &mut Vec<epoll::Event>) {
        let mut slots = self.slots.borrow_mut();
        for event in events.drain(..) {
            slots.mark(event.data.u64(), event.flags);
        }
    }
}

impl Slots {
    fn mark(&mut self, data: u64, flags: EventFlags) {
        if data == BELL {
            return;
        }
        let (key, generation) = ((data & u64::from(u32::MAX)) as usize, (data >> 32) as u32);
        let Some(slot) = self.slots.get_mut(key).filter(|s| s.generation == generation) else { return };
        let over = EventFlags::HUP | EventFlags::ERR;
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | over) {
            slot.bits |= READ;
        }
        if flags.intersects(EventFlags::OUT | over) {
            slot.bits |= WRITE;
        }
        if flags.intersects(EventFlags::RDHUP | over) {
            slot.bits |= CLOSED;
        }
        if flags.contains(EventFlags::ERR) {
            slot.bits |= FAILED;
        }
        if let Some(waker) = &slot.waker {
            waker.wake_by_ref();
        }
    }

    fn insert(&mut self, bits: u8) -> (u32, u64) {
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let Some(slot) = self.slots.get_mut(key as usize) else { return (key, 0) };
        slot.bits = bits;
        (key, u64::from(key) | (u64::from(slot.generation) << 32))
    }
}

/// A non-blocking socket whose readiness is known. One task waits for it.
#[derive(Debug)]
pub struct Io {
    fd: OwnedFd,
    key: u32,
    /// What its events bear.
    data: u64,
    reactor: Rc<Reactor>,
}

impl Io {
    /// Registers a socket. `ready`: what to try before the first event, [`READ`] | [`WRITE`] or nothing.
    ///
    /// # Errors
    /// The kernel's, if the user may not watch more descriptors.
    pub fn new(reactor: &Rc<Reactor>, fd: OwnedFd, ready: u8) -> io::Result<Io> {
        let (key, data) = reactor.slots.borrow_mut().insert(ready);
        let io = Io { fd, key, data, reactor: reactor.clone() };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&reactor.epoll, &io.fd, epoll::EventData::new_u64(data), flags)?;
        Ok(io)
    }

    /// Makes this task the one that is woken by the socket's events.
    pub fn watch(&self, cx: &Context<'_>) {
        self.slot(|slot| slot.wake_by(cx));
    }

    /// Whether [`READ`] or [`WRITE`] is worth a try.
    pub fn is_ready(&self, interest: u8) -> bool {
        self.slot(|slot| slot.bits & interest != 0)
    }

    /// Whether the kernel has reported an error, such as a reset.
    pub fn has_failed(&self) -> bool {
        self.is_ready(FAILED)
    }

    /// Whether the peer has sent its last byte.
    pub fn is_closed(&self) -> bool {
        self.is_ready(CLOSED)
    }

    /// The socket would block: wait for the next edge.
    pub fn blocked(&self, interest: u8) {
        self.slot(|slot| slot.bits &= !interest);
    }

    /// A read of a stream brought less than it could: the next one would block, unless the peer's FIN is behind it.
    pub fn read_short(&self) {
        self.slot(|slot| {
            if slot.bits & CLOSED == 0 {
                slot.bits &= !READ;
            }
        });
    }

    /// Waits until [`READ`] or [`WRITE`] is worth a try.
    pub async fn ready(&self, interest: u8) {
        poll_fn(|cx| {
            self.watch(cx);
            if self.is_ready(interest) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Runs a system call until it does not block.
    ///
    /// # Errors
    /// The call's.
    pub async fn retry<T>(
        &self,
        interest: u8,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        loop {
            self.ready(interest).await;
            match call(self.fd.as_fd()) {
                Err(rustix::io::Errno::AGAIN) => self.blocked(interest),
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Registers what brings messages, with the thread's reactor: each [`Io::poll_message`] says that one may be taken, and the
    /// kernel says so again while there are more. Nobody is woken because something can be written.
    ///
    /// # Errors
    /// The kernel's, if the user may not watch more descriptors.
    pub fn of_messages(fd: OwnedFd) -> io::Result<Io> {
        let reactor = Reactor::local()?;
        let (key, data) = reactor.slots.borrow_mut().insert(0);
        let io = Io { fd, key, data, reactor };
        epoll::add(&io.reactor.epoll, &io.fd, epoll::EventData::new_u64(data), EventFlags::IN)?;
        Ok(io)
    }

    /// The same of another descriptor for what this one means.
    ///
    /// # Errors
    /// As [`Io::of_messages`].
    pub fn of_messages_of(fd: impl AsFd) -> io::Result<Io> {
        Io::of_messages(fd.as_fd().try_clone_to_owned()?)
    }

    /// Whether a message, or the end, may be taken. It has to be tried, or the kernel does not let the thread sleep.
    pub fn poll_message(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_taken(cx, READ)
    }

    /// The same, and takes it by a system call that does not block.
    ///
    /// # Errors
    /// The call's.
    pub fn poll_call<T>(
        &self,
        cx: &Context<'_>,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_message(cx));
            match call(self.fd.as_fd()) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                other => return Poll::Ready(other.map_err(io::Error::from)),
            }
        }
    }

    /// From now on [`Io::poll_room`] is told of room for messages, or no more: the thread does not sleep while there is some.
    pub fn want_room(&self, wanted: bool) {
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        // It fails only for what is not registered.
        let _ = epoll::modify(&self.reactor.epoll, &self.fd, epoll::EventData::new_u64(self.data), flags);
    }

    /// Whether a message may be sent.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_taken(cx, WRITE)
    }

    fn poll_taken(&self, cx: &Context<'_>, interest: u8) -> Poll<()> {
        let taken = self.slot(|slot| {
            let taken = slot.bits & interest != 0;
            slot.bits &= !interest;
            if !taken {
                slot.wake_by(cx);
            }
            taken
        });
        if taken { Poll::Ready(()) } else { Poll::Pending }
    }

    fn slot<T: Default>(&self, with: impl FnOnce(&mut Slot) -> T) -> T {
        self.reactor.slots.borrow_mut().slots.get_mut(self.key as usize).map(with).unwrap_or_default()
    }
}

impl AsFd for Io {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let waker = self.slot(|slot| {
            slot.generation = slot.generation.wrapping_add(1);
            slot.waker.take()
        });
        self.reactor.slots.borrow_mut().free.push(self.key);
        drop(waker);
    }
}

#[cfg(test)]
mod tests;

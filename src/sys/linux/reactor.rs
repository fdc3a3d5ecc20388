//! Readiness of the relay's sockets: edge-triggered, each registered once for its whole life.
//!
//! A general reactor re-arms a socket whenever a task waits for it; a tunnel would pay several system calls for each
//! turn. Here the kernel's edges are remembered as bits, a task waits without a system call, and closing a socket
//! ends its registration. The epoll instance itself is one source of the general reactor ([`Reactor::drive`]).
use async_io::Async;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventFlags};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

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

/// The sockets' readiness.
#[derive(Debug)]
pub struct Reactor {
    epoll: Async<OwnedFd>,
    slots: RefCell<Slots>,
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

impl Reactor {
    /// A reactor without sockets. Somebody has to run [`Reactor::drive`].
    ///
    /// # Errors
    /// The kernel's, if it has no descriptor or memory left.
    pub fn new() -> io::Result<Rc<Reactor>> {
        let epoll = Async::new_nonblocking(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        Ok(Rc::new(Reactor { epoll, slots: RefCell::default() }))
    }

    /// Wakes tasks as their sockets become ready; ends only with an error of the kernel's.
    pub async fn drive(&self) -> io::Error {
        let mut events = Vec::with_capacity(BATCH);
        loop {
            if let Err(e) = self.epoll.readable().await {
                return e;
            }
            if let Err(e) = self.turn(&mut events) {
                return e;
            }
        }
    }

    fn turn(&self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        events.clear();
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&zero)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut slots = self.slots.borrow_mut();
        for event in events.drain(..) {
            slots.mark(event.data.u64(), event.flags);
        }
        Ok(())
    }
}

impl Slots {
    fn mark(&mut self, data: u64, flags: EventFlags) {
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
    reactor: Rc<Reactor>,
}

impl Io {
    /// Registers a socket. `ready`: what to try before the first event, [`READ`] | [`WRITE`] or nothing.
    ///
    /// # Errors
    /// The kernel's, if the user may not watch more descriptors.
    pub fn new(reactor: &Rc<Reactor>, fd: OwnedFd, ready: u8) -> io::Result<Io> {
        let (key, data) = reactor.slots.borrow_mut().insert(ready);
        let io = Io { fd, key, reactor: reactor.clone() };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&reactor.epoll, &io.fd, epoll::EventData::new_u64(data), flags)?;
        Ok(io)
    }

    /// Makes this task the one that is woken by the socket's events.
    pub fn watch(&self, cx: &Context<'_>) {
        self.slot(|slot| {
            if !slot.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                slot.waker = Some(cx.waker().clone());
            }
        });
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

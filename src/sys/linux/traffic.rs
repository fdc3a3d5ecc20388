//! A socket for the kernel's traffic control, and one for its reports.
use super::netlink::{Netlink, PIECE, ROUTE, until_whole};
use crate::guard::netlink::Writer;
use crate::guard::shaping::plain;
use crate::guard::tc::{Ask, Found, Root, Step, ask, is_foreign, ours, write, write_trial};
use crate::sorted::SortedSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// `RTNLGRP_TC` as a bit.
const GROUP: u32 = 1 << 3;
/// Bytes of reports that the kernel holds for us: each flow's two filters are reported too.
const BUFFER: usize = 1 << 20;
/// Steps sent at once.
const BATCH: usize = 64;

/// Traffic control.
#[derive(Debug)]
pub struct Traffic {
    socket: Netlink,
    /// The number of `socket`.
    port: u32,
    /// The kernel has no `fq_codel`.
    is_plain: bool,
}

impl Traffic {
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn open() -> io::Result<Traffic> {
        let socket = Netlink::open(ROUTE, 0, PIECE, None)?;
        let port = socket.port()?;
        Ok(Traffic { socket, port, is_plain: false })
    }

    /// Whether the kernel has HTB; nothing is changed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn has_htb(&mut self, device: u32) -> io::Result<bool> {
        let mut w = Writer::default();
        write_trial(&mut w, self.socket.next(), device);
        match self.socket.request(&w.finish()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            // Refused for want of options (22, `EINVAL`), or because somebody's is there (17, `EEXIST`).
            Err(e) if matches!(e.raw_os_error(), Some(17 | 22)) => Ok(true),
            other => other.map(|()| true),
        }
    }

    /// Takes steps, one after the other.
    ///
    /// # Errors
    /// The first failure's; the steps behind it may have been taken.
    pub fn take(&mut self, device: u32, steps: &[Step]) -> io::Result<()> {
        for group in steps.chunk_by(|a, b| !is_queue(a) && !is_queue(b)) {
            for some in group.chunks(BATCH) {
                match self.send(device, some) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound && !self.is_plain && is_queue_of(some) => {
                        self.is_plain = true;
                        self.send(device, some)?;
                    }
                    done => done?,
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, device: u32, steps: &[Step]) -> io::Result<()> {
        let mut w = Writer::default();
        for step in steps {
            let step = match *step {
                Step::Queue(class, queue) if self.is_plain => Step::Queue(class, plain(queue)),
                step => step,
            };
            write(&mut w, self.socket.next(), device, &step);
        }
        self.socket.request(&w.finish())
    }

    /// What is on a device.
    ///
    /// # Errors
    /// The kernel's, or it changes faster than it can be read.
    pub fn read(&mut self, device: u32) -> io::Result<Found> {
        self.ask(device, &[Ask::Qdiscs, Ask::Classes, Ask::Filters])
    }

    /// The root on a device.
    ///
    /// # Errors
    /// As [`Traffic::read`].
    pub fn root(&mut self, device: u32) -> io::Result<Root> {
        self.ask(device, &[Ask::Qdiscs]).map(|found| found.root)
    }

    fn ask(&mut self, device: u32, questions: &[Ask]) -> io::Result<Found> {
        until_whole(|| {
            let mut found = Found::of(device);
            let mut whole = true;
            for what in questions {
                let what = *what;
                let question = ask(what, self.socket.next(), device);
                whole &= self.socket.dump(&question, |m| found.take(m))?;
            }
            Ok(whole.then_some(found))
        })
    }

    /// The devices that have our queueing discipline.
    ///
    /// # Errors
    /// The kernel's.
    pub fn with_ours(&mut self) -> io::Result<SortedSet<u32>> {
        let question = ask(Ask::Qdiscs, self.socket.next(), 0);
        let mut devices = SortedSet::new();
        self.socket.dump(&question, |m| devices.extend(ours(m)))?;
        Ok(devices)
    }
}

fn is_queue(step: &Step) -> bool {
    matches!(step, Step::Queue(..))
}

fn is_queue_of(steps: &[Step]) -> bool {
    steps.iter().all(is_queue)
}

/// Reports of changes.
#[derive(Debug)]
pub struct TrafficReports(Netlink);

impl AsFd for TrafficReports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl TrafficReports {
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn open() -> io::Result<TrafficReports> {
        Netlink::open(ROUTE, GROUP, PIECE, Some(BUFFER)).map(TrafficReports)
    }

    /// Whether another program than this changed something on the device since the last time, as far as is known.
    pub fn any_foreign(&mut self, device: u32, own: &Traffic) -> bool {
        let mut foreign = false;
        let whole = self.0.reported(|m| foreign |= is_foreign(m, device, own.port));
        foreign || !whole
    }
}

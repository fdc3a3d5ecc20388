//! What the guard asks and tells the kernel of leases' connections and packets.
use super::conntrack::{Entry, Tuple};
use super::lease_flows::Word;
use super::lease_rules::Marks;
use super::lease_wire::CtId;
use super::scope::Scope;
use crate::sys::linux::netlink::conntrack::{self, Conntrack, Ends};
use crate::sys::linux::netlink::queue::Queue;
use std::io;
use std::task::{Context, Poll};

/// How often connections are looked for that were deleted.
const ROUNDS: u32 = 8;

/// The sockets.
#[derive(Debug)]
pub struct Kernel {
    /// The queue of undecided packets.
    pub queue: Queue,
    /// Connection tracking.
    pub conntrack: Conntrack,
    /// While leases live: the kernel does not report the end of every other connection for nothing.
    pub ends: Option<Ends>,
    /// The bits of marks.
    pub marks: Marks,
}

impl Kernel {
    /// What leases need of the kernel.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn open(scope: &Scope) -> Result<Kernel, String> {
        let Some(leases) = &scope.leases else {
            return Err("lease.markMask has fewer than 4 bits".to_owned());
        };
        let named = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
        let mut conntrack = Conntrack::open().map_err(named("no netlink socket"))?;
        let no_list = "connections cannot be listed (kmod-nf-conntrack-netlink)";
        conntrack.list(leases.marks.lease).map_err(named(no_list))?;
        let queue = Queue::open().map_err(named("packets cannot be queued (kmod-nfnetlink-queue)"))?;
        // The last: an owner who has switched it off is not overruled for nothing.
        conntrack::have_counted().map_err(named("connections are not counted (nf_conntrack_acct)"))?;
        Ok(Kernel { queue, conntrack, ends: None, marks: leases.marks })
    }

    /// Says what becomes of packets.
    pub fn say(&self, words: impl IntoIterator<Item = Word>) {
        for Word { packet, fate, mark, bytes } in words {
            if let Err(e) = self.queue.judge(packet, fate, mark, bytes.as_deref()) {
                crate::warn!("a packet of a lease waits on: {e}");
            }
        }
    }

    /// Hears of connections' ends from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn watch(&mut self) -> io::Result<()> {
        if self.ends.is_none() {
            self.ends = Some(Ends::open()?);
        }
        Ok(())
    }

    /// The connections of leases that have ended, of so many reports at most.
    pub fn ended(&mut self, most: usize) -> Vec<Entry> {
        let (Some(ends), lease) = (&mut self.ends, self.marks.lease) else { return Vec::new() };
        let mut list = Vec::new();
        for _ in 0..most {
            let more = ends.take(|entry| {
                if entry.mark & lease != 0 {
                    list.push(entry);
                }
            });
            if !more {
                break;
            }
        }
        list
    }

    /// Whether the kernel has something to say.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Woken> {
        if self.queue.poll_packet(cx).is_ready() {
            return Poll::Ready(Woken::Packet);
        }
        match &self.ends {
            Some(ends) => ends.poll_end(cx).map(|()| Woken::End),
            None => Poll::Pending,
        }
    }

    /// Deletes the connections of leases that are meant, those that are known of them first, until the kernel has none of them; what
    /// it has of others.
    ///
    /// # Errors
    /// The kernel's, or they stay.
    pub fn kill(
        &mut self,
        known: &[(CtId, Tuple)],
        which: impl Fn(&Entry) -> bool,
    ) -> io::Result<Vec<Entry>> {
        self.conntrack.delete(known)?;
        for _ in 0..ROUNDS {
            let (doomed, others): (Vec<Entry>, Vec<Entry>) =
                self.conntrack.list(self.marks.lease)?.into_iter().partition(&which);
            if doomed.is_empty() {
                return Ok(others);
            }
            let doomed: Vec<_> = doomed.iter().map(|e| (e.counted.ct, e.original)).collect();
            self.conntrack.delete(&doomed)?;
        }
        Err(io::Error::other("connections of leases cannot be deleted"))
    }
}

/// What woke the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A packet waits.
    Packet,
    /// A connection has ended.
    End,
    /// Somebody changed the kernel's traffic control.
    Caps,
}

//! Keeps caps on the kernel path in force: what [`super::shaping`] wants, in the kernel.
//!
//! If a step fails, or another program changes something of ours, all that is ours is taken away and the caller is told:
//! sessions with a cap then have no leases.
use super::network::Network;
use super::shaping::{Cap, DRAIN_MS, LINGER, Shaping};
use super::tc::{Ends, Root, Step};
use crate::sys::linux::reactor::Io;
use crate::sys::linux::traffic::{Traffic, TrafficReports};
use rustix::io::Errno;
use std::io;
use std::task::{Context, Poll};

/// The line was dropped, before the guard has heard of it.
const NO_DEVICE: i32 = Errno::NODEV.raw_os_error();

/// The kernel's traffic control, as far as it is ours.
#[derive(Debug)]
pub struct Caps {
    traffic: Traffic,
    reports: TrafficReports,
    wait: Io,
    /// The device by which all leaves; else why caps cannot be kept.
    device: Result<u32, String>,
    shaping: Shaping,
    /// Caps were taken off sessions that had leases: their connections have no filters any more, whatever is put there.
    are_lost: bool,
    /// When our queueing discipline goes, because no session needs it.
    ends_ms: Option<u64>,
    /// When classes go that no session has any more.
    drained_ms: Option<u64>,
}

impl Caps {
    /// Takes away what an earlier guard has left.
    ///
    /// # Errors
    /// The kernel's: no descriptor is left, or it cannot be read.
    pub fn start() -> io::Result<Caps> {
        let mut traffic = Traffic::open()?;
        let reports = TrafficReports::open()?;
        let wait = Io::of_messages_of(&reports)?;
        for device in traffic.with_ours()? {
            traffic.take(device, &[Step::RemoveRoot])?;
            crate::info!("the caps of an earlier guard were taken off device {device}");
        }
        let device = Err("no line is known yet".to_owned());
        let shaping = Shaping::default();
        Ok(Caps { traffic, reports, wait, device, shaping, are_lost: false, ends_ms: None, drained_ms: None })
    }

    /// The network is another one. Caps of a device that is no longer the line are gone then.
    pub fn moved(&mut self, network: &Network) {
        let device = line(network);
        if device != self.device {
            self.clear();
            self.device = device;
        }
    }

    /// Whether caps can be kept on this line.
    ///
    /// # Errors
    /// Why not, for the owner.
    pub fn are_possible(&mut self) -> Result<(), String> {
        let device = self.device.clone()?;
        let unread = |e: io::Error| format!("traffic control cannot be read: {e}");
        match self.traffic.root(device).map_err(unread)? {
            Root::Other(kind) => Err(format!(
                "the WAN has a queueing discipline that somebody configured ({kind}), as SQM does"
            )),
            Root::Ours => Ok(()),
            Root::Kernel => match self.traffic.has_htb(device).map_err(unread)? {
                true => Ok(()),
                false => Err("the kernel has no HTB (OpenWrt: kmod-sched-core)".to_owned()),
            },
        }
    }

    /// Puts these sessions' caps in force, and none else; `total_kbps` holds for all together (0: none).
    ///
    /// # Errors
    /// A sentence; then no cap is in force.
    pub fn set(&mut self, caps: &[Cap], total_kbps: u32, now_ms: u64) -> Result<(), String> {
        self.are_lost &= !caps.is_empty();
        let steps = self.shaping.caps(caps, total_kbps);
        let steps = steps.map_err(|e| format!("a cap cannot be had: {e:?}"))?;
        self.ends_ms = match self.shaping.is_idle() {
            true => self.ends_ms.or(Some(now_ms.saturating_add(LINGER.as_millis() as u64))),
            false => None,
        };
        let due = now_ms.saturating_add(DRAIN_MS);
        self.drained_ms = self.shaping.is_draining().then(|| self.drained_ms.unwrap_or(due));
        self.take(&steps)
    }

    /// Puts a connection into its session's class: the ends of its packets to the buyer, and of those to the target.
    ///
    /// # Errors
    /// A sentence. Then this connection must not be accepted; if [`Caps::hold`] says so, no cap is in force any more.
    pub fn begin(&mut self, ct: u32, class: u16, ends: [Ends; 2]) -> Result<(), String> {
        self.end(ct)?;
        let steps = self.shaping.begin(ct, class, ends);
        self.take(&steps.map_err(|e| format!("a connection cannot be kept to its cap: {e:?}"))?)
    }

    /// A connection is over.
    ///
    /// # Errors
    /// A sentence; then no cap is in force.
    pub fn end(&mut self, ct: u32) -> Result<(), String> {
        let steps = self.shaping.end(ct);
        let taken = self.take(&steps);
        // With the line went all that was on it.
        if self.has_line() { taken } else { Ok(()) }
    }

    /// Whether there is a line, as far as is known.
    pub const fn has_line(&self) -> bool {
        self.device.is_ok()
    }

    /// Whether a session's cap is in force, as far as is known.
    pub fn hold(&self, class: u16) -> bool {
        self.shaping.has(class) && !self.are_lost
    }

    /// Whether something was changed: then [`Caps::hear`] has to be asked.
    pub fn poll_changed(&self, cx: &Context<'_>) -> Poll<()> {
        self.wait.poll_message(cx)
    }

    /// When [`Caps::tidy`] has something to do.
    pub fn due_ms(&self) -> Option<u64> {
        self.ends_ms.into_iter().chain(self.drained_ms).min()
    }

    /// Takes the classes away that have had the time to drain, and our queueing discipline if no session has needed it for a while.
    pub fn tidy(&mut self, now_ms: u64) {
        if self.drained_ms.take_if(|due| *due <= now_ms).is_some() {
            let steps = self.shaping.drained();
            if let Err(e) = self.take(&steps)
                && self.has_line()
            {
                crate::error!("{e}");
            }
        }
        if self.ends_ms.is_some_and(|end| end <= now_ms) {
            self.clear();
        }
    }

    /// Whether another program changed something on the line, as far as is known: then [`Caps::verify`] is to be asked.
    pub fn hear(&mut self) -> bool {
        // Whatever device it is of: the reports are taken in.
        self.reports.any_foreign(*self.device.as_ref().unwrap_or(&0), &self.traffic)
    }

    /// Whether what is ours is as it was put there; if not, all of it goes.
    pub fn verify(&mut self) -> bool {
        let Ok(device) = self.device else { return true };
        let intact = self.traffic.read(device).is_ok_and(|found| self.shaping.equals(&found));
        let gone = |asked: io::Result<bool>| asked.is_err_and(|e| e.raw_os_error() == Some(NO_DEVICE));
        if !intact && gone(self.traffic.has_htb(device)) {
            self.lose_line();
        } else if !intact {
            crate::warn!("another program changed the WAN's traffic control: caps of leases end");
            self.clear();
        }
        intact
    }

    fn lose_line(&mut self) {
        self.clear();
        self.device = Err("there is no line".to_owned());
    }

    /// Takes away all that is ours.
    pub fn clear(&mut self) {
        (self.ends_ms, self.drained_ms) = (None, None);
        if !self.shaping.stands() {
            return;
        }
        self.are_lost |= !self.shaping.is_idle();
        self.shaping.forget();
        let Ok(device) = self.device else { return };
        // A device that is gone has nothing any more, and somebody's root is not ours to remove.
        let is_ours = self.traffic.root(device).is_ok_and(|root| root == Root::Ours);
        if let Err(e) = if is_ours { self.traffic.take(device, &[Step::RemoveRoot]) } else { Ok(()) } {
            crate::warn!("the WAN's queueing discipline could not be put back: {e}");
        }
    }

    fn take(&mut self, steps: &[Step]) -> Result<(), String> {
        if steps.is_empty() {
            return Ok(());
        }
        let taken = match &self.device {
            Ok(device) => self.traffic.take(*device, steps),
            Err(why) => Err(io::Error::other(why.clone())),
        };
        taken.map_err(|e| {
            match e.raw_os_error() {
                Some(NO_DEVICE) => self.lose_line(),
                _ => self.clear(),
            }
            format!("caps cannot be kept on the kernel path: {e}")
        })
    }
}

/// One class holds a session's cap, so there must be one device by whose queueing discipline all packets leave. Those that a
/// flowtable carries over a bridge go to its port at once, past the bridge's own (kernel: `nft_dev_path_info`,
/// `DEV_PATH_BRIDGE`), and the others come by that port too.
fn line(network: &Network) -> Result<u32, String> {
    let uplink = match (&network.uplinks.v4, &network.uplinks.v6) {
        (Some(a), Some(b)) if a.index != b.index => {
            return Err(format!(
                "IPv4 leaves by {} and IPv6 by {}: no cap can hold both",
                a.device, b.device
            ));
        }
        (Some(one), _) | (_, Some(one)) => one,
        (None, None) => return Err("there is no line".to_owned()),
    };
    let Some(ports) = network.ports.get(&uplink.index) else { return Ok(uplink.index) };
    match ports.first().filter(|_| ports.len() == 1) {
        Some(port) => Ok(*port),
        None => Err(format!(
            "the WAN {} is a bridge of {} ports: no cap can hold all",
            uplink.device,
            ports.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::wan::{Uplink, Wan};

    #[test]
    fn the_line_is_the_one_device_by_which_all_leave() {
        let uplink = |index| Some(Uplink { device: format!("wan{index}"), index, addresses: Vec::new() });
        let network = |v4, v6, ports: &[(u32, &[u32])]| {
            let ports = ports.iter().map(|(bridge, ports)| (*bridge, ports.iter().copied().collect()));
            Network { uplinks: Wan { v4, v6 }, ports: ports.collect(), ..Network::default() }
        };
        assert_eq!(line(&network(uplink(2), uplink(2), &[])), Ok(2));
        assert_eq!(line(&network(None, uplink(3), &[(2, &[7])])), Ok(3));
        assert_eq!(line(&network(uplink(2), None, &[(2, &[7])])), Ok(7), "the port of a bridge");
        for (bad, word) in [
            (network(None, None, &[]), "no line"),
            (network(uplink(2), uplink(3), &[]), "wan3"),
            (network(uplink(2), uplink(2), &[(2, &[7, 8])]), "bridge of 2 ports"),
        ] {
            assert!(line(&bad).unwrap_err().contains(word), "{word}");
        }
    }
}

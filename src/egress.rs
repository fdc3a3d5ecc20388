//! Where connections may go, and by which device they leave: what is bound for the Internet is bound to the WAN device, so
//! that it leaves by no other one (a VPN, the LAN) whatever becomes of the routes. A source address alone picks no route.
use crate::bell::Bell;
use crate::clock::Clock;
use crate::policy::addresses::{AddressGuard, Prefix};
use crate::policy::refusal::Refusal;
use crate::policy::wan::{Choice, Leaving, Wan};
use crate::sys::System;
use crate::sys::dummy::Dummy;
use crate::sys::linux::{device, net};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// The way out of the machine. One per node.
pub struct Egress {
    system: Rc<dyn System>,
    clock: Rc<Clock>,
    addresses: RefCell<AddressGuard>,
    wan: RefCell<Option<Wan>>,
    unbound: Cell<bool>,
    changed: Bell,
}

impl Egress {
    /// Nothing is known of the line yet, so that nothing leaves by it.
    pub fn new(system: Rc<dyn System>, clock: Rc<Clock>, addresses: AddressGuard) -> Rc<Egress> {
        Rc::new(Egress {
            system,
            clock,
            addresses: RefCell::new(addresses),
            wan: RefCell::default(),
            unbound: Cell::new(false),
            changed: Bell::default(),
        })
    }

    /// One that knows of no networks and no line: this machine alone is reached.
    pub fn loopback() -> Rc<Egress> {
        Egress::new(Rc::new(Dummy::with(Vec::new())), Rc::new(Clock::new()), AddressGuard::default())
    }

    /// One for a program that is soon over: by the line that there is now, as the owner wants it.
    pub fn by_now(system: Rc<dyn System>, clock: Rc<Clock>, choice: &Choice) -> Rc<Egress> {
        let wan = system.wan(choice).ok();
        let egress = Egress::new(system, clock, AddressGuard::default());
        egress.set_wan(wan);
        egress
    }

    /// Whether an address is public and not this machine's own, or allowed in the lab.
    pub fn is_allowed(&self, address: IpAddr) -> bool {
        self.judge_all(&[address]).is_ok()
    }

    /// Whether all of a name's addresses may be dialled: one that may not refuses the name.
    ///
    /// # Errors
    /// [`Refusal::AddressDenied`], also if the kernel will not tell: without them the router's own networks are not known.
    pub fn judge_all(&self, addresses: &[IpAddr]) -> Result<(), Refusal> {
        self.refresh().map_err(|_| Refusal::AddressDenied)?;
        self.addresses.borrow().judge_all(addresses)
    }

    /// Whether this machine has the address on the device that leads outward, or the lab allows it.
    pub fn is_outward(&self, own: IpAddr) -> bool {
        let wan = self.wan.borrow();
        let known = wan.as_ref().and_then(|w| w.toward(own)).is_some_and(|u| u.addresses.contains(&own));
        known || self.is_allowed(own)
    }

    /// Replaces the address guard, after a change of the configuration.
    pub fn reconfigure(&self, addresses: AddressGuard) {
        *self.addresses.borrow_mut() = addresses;
    }

    /// Takes the owner's networks as the guard reports them.
    pub fn networks_changed(&self, networks: Vec<Prefix>) {
        self.addresses.borrow_mut().refresh(networks, self.clock.now().mono_ms());
    }

    /// What is known of the owner's networks holds no longer: it is read again before the next judgement.
    pub fn forget_networks(&self) {
        self.addresses.borrow_mut().forget();
    }

    /// The line is another one now. Whoever waits for something that came by the old one is told.
    pub fn set_wan(&self, wan: Option<Wan>) {
        *self.wan.borrow_mut() = wan;
        self.changed.ring();
    }

    /// Rings at each change of the line.
    pub fn changed(&self) -> &Bell {
        &self.changed
    }

    /// Whether sockets are bound to the device; `false` once the kernel has refused it.
    pub fn binds(&self) -> bool {
        !self.unbound.get()
    }

    /// Waits until a connection that left so can no longer go on; for ever if it did not leave by the line.
    pub async fn lost(&self, leaving: Option<Leaving>) {
        loop {
            let seen = self.changed.count();
            if leaving.is_some_and(|l| !self.wan.borrow().as_ref().is_some_and(|w| w.carries(l))) {
                return;
            }
            self.changed.after(seen).await;
        }
    }

    /// Starts to connect: to public addresses by the line, to others (the machine itself, a coordinator in the LAN, the
    /// laboratory) as the routes say. [`net::connected`] tells how it went.
    ///
    /// # Errors
    /// [`io::ErrorKind::NetworkUnreachable`] without a line, or the kernel's.
    pub fn connect(&self, to: SocketAddr) -> io::Result<(OwnedFd, Option<Leaving>)> {
        let socket = net::tcp_socket(to)?;
        self.refresh()?;
        if !self.addresses.borrow().is_public(to.ip()) {
            net::start_connecting(&socket, to)?;
            return Ok((socket, None));
        }
        let wan = self.wan.borrow();
        let no_line = || io::Error::new(io::ErrorKind::NetworkUnreachable, "no line leads there");
        let uplink = wan.as_ref().and_then(|w| w.toward(to.ip())).ok_or_else(no_line)?;
        match device::bind(&socket, &uplink.device) {
            Ok(()) => {}
            // Before Linux 5.7 that took a capability. Then nothing is sent unless the routes lead the same way.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                self.unbound.set(true);
                if !uplink.addresses.contains(&device::source_toward(to)?) {
                    return Err(no_line());
                }
            }
            Err(e) => return Err(e),
        }
        net::start_connecting(&socket, to)?;
        let source = net::local_address(&socket)?;
        let known = uplink.addresses.contains(&source);
        Ok((socket, known.then_some(Leaving { index: uplink.index, source })))
    }

    /// Reads the owner's networks anew if what is known is old.
    fn refresh(&self) -> io::Result<()> {
        let now = self.clock.now().mono_ms();
        if self.addresses.borrow().is_stale(now) {
            let networks = self.system.own_networks()?;
            self.addresses.borrow_mut().refresh(networks, now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::wan::Uplink;
    use futures_lite::future::{block_on, poll_once};
    use std::net::TcpListener;

    const PUBLIC: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(8, 8, 8, 8));

    fn egress(system: Dummy, lab: Vec<Prefix>) -> Rc<Egress> {
        Egress::new(Rc::new(system), Rc::new(Clock::new()), AddressGuard::new(lab))
    }

    fn line(device: &str, index: u32, address: &str) -> Option<Wan> {
        let addresses = vec![address.parse().unwrap()];
        Some(Wan { v4: Some(Uplink { device: device.into(), index, addresses }), v6: None })
    }

    #[test]
    fn the_owners_networks_are_denied_and_others_are_not() {
        let own = egress(Dummy::with(vec![("8.8.8.0".parse().unwrap(), 24)]), Vec::new());
        assert!(!own.is_allowed(PUBLIC));
        assert!(own.is_allowed("9.9.9.9".parse().unwrap()));
    }

    #[test]
    fn a_kernel_that_will_not_tell_leaves_nothing_allowed_and_nothing_connected() {
        let blind = egress(Dummy::default(), Vec::new());
        assert!(!blind.is_allowed(PUBLIC));
        let error = blind.connect(SocketAddr::new(PUBLIC, 443)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn without_a_line_public_addresses_are_not_tried_and_the_machine_itself_is_reached() {
        let egress = Egress::loopback();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for wan in [None, Some(Wan::default())] {
            egress.set_wan(wan);
            let error = egress.connect(SocketAddr::new(PUBLIC, 443)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
            let (_, leaving) = egress.connect(listener.local_addr().unwrap()).unwrap();
            assert_eq!(leaving, None);
            listener.accept().unwrap();
        }
    }

    #[test]
    fn what_is_public_is_bound_to_the_line_though_the_lab_allows_it() {
        let egress = egress(Dummy::with(Vec::new()), vec![(PUBLIC, 32)]);
        egress.set_wan(line("none-such-dev", 7, "84.1.1.2"));
        let error = egress.connect(SocketAddr::new(PUBLIC, 443)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "no other device stands in");
        let error = egress.connect(SocketAddr::new("2606:4700::1111".parse().unwrap(), 443)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable, "nor another family");
    }

    #[test]
    fn a_connection_is_lost_with_its_line_and_not_before() {
        let egress = Egress::loopback();
        egress.set_wan(line("wan0", 7, "84.1.1.2"));
        let leaving = Some(Leaving { index: 7, source: "84.1.1.2".parse().unwrap() });
        let (mut lost, mut inner) = (Box::pin(egress.lost(leaving)), Box::pin(egress.lost(None)));
        block_on(async {
            assert!(poll_once(&mut lost).await.is_none() && poll_once(&mut inner).await.is_none());
            egress.set_wan(line("wan0", 7, "84.1.1.2"));
            assert!(poll_once(&mut lost).await.is_none());
            egress.set_wan(line("wan0", 8, "84.1.1.2"));
            assert!(poll_once(&mut lost).await.is_some() && poll_once(&mut inner).await.is_none());
        });
    }
}

//! Links, addresses and routes: as they are, and the kernel's reports of them.
use super::super::routes;
use super::{GLANCE, Netlink, PIECE, ROUTE, until_whole};
use crate::guard::netlink::{DUMP, REQUEST, Writer};
use crate::guard::network::{Answers, Network, Wanted};
use crate::policy::addresses::Prefix;
use crate::policy::routes::name_servers;
use std::io;

/// Groups of `RTMGRP_*`: links, IPv4 addresses and routes, IPv6 addresses and routes.
const ROUTE_GROUPS: u32 = 1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Bytes read at a time of a dump that is asked for often: the kernel makes pieces no larger.
const ADDRESSES: usize = 16 * 1024;

/// Links, addresses and routes.
#[derive(Debug)]
pub struct Routes(Netlink);

impl Routes {
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn open() -> io::Result<Routes> {
        Netlink::open(ROUTE, 0, PIECE, None).map(Routes)
    }

    /// A socket that becomes readable whenever one of them changes.
    ///
    /// # Errors
    /// As [`Routes::open`].
    pub fn monitor() -> io::Result<Netlink> {
        Netlink::open(ROUTE, ROUTE_GROUPS, GLANCE, None)
    }

    /// Where the machine stands now.
    ///
    /// # Errors
    /// The kernel's, or it changes faster than it can be read.
    pub fn read(&mut self, wanted: &Wanted) -> io::Result<Network> {
        let answers = until_whole(|| {
            let mut answers = Answers::default();
            let mut whole = true;
            // `RTM_GETLINK`, `RTM_GETADDR`, `RTM_GETROUTE`, each with the largest of their headers.
            for kind in [18, 22, 26] {
                let mut w = Writer::default();
                w.message((kind, REQUEST | DUMP, self.0.next()), &[0; 16], |_| {});
                whole &= self.0.dump(&w.finish(), |m| answers.take(m))?;
            }
            Ok(whole.then_some(answers))
        })?;
        let mut resolvers = Vec::new();
        for path in routes::RESOLVERS {
            let text = routes::table_if_any(path)?;
            resolvers.extend(name_servers(&text).map(|p| p.0));
        }
        resolvers.sort_unstable();
        resolvers.dedup();
        Ok(answers.network(wanted, resolvers))
    }
}

/// The addresses of all interfaces, as [`Answers::addresses`] has them.
///
/// Not by `getifaddrs`: musl's walk over attributes (`RTA_NEXT`, `src/network/netlink.h`) never ends where one says that it has no length, as under
/// qemu's emulation of big-endian processors.
///
/// # Errors
/// The kernel's, or they change faster than they can be read.
pub(in super::super) fn addresses() -> io::Result<Vec<Prefix>> {
    let mut socket = Netlink::open(ROUTE, 0, ADDRESSES, None)?;
    until_whole(|| {
        let mut answers = Answers::default();
        let mut w = Writer::default();
        // `RTM_GETADDR` with `struct ifaddrmsg`: of any family.
        w.message((22, REQUEST | DUMP, socket.next()), &[0; 8], |_| {});
        let whole = socket.dump(&w.finish(), |m| answers.take(m))?;
        Ok(whole.then(|| answers.addresses()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::wan::Choice;

    #[test]
    fn the_kernels_routes_are_those_of_proc() {
        let wanted = Wanted { choice: Choice::Auto, binds: true };
        let network = Routes::open().unwrap().read(&wanted).unwrap();
        // What is special anyway (the multicast route) need not be told.
        let (v4, v6) = crate::guard::ranges::denied(&network.inside);
        for (address, bits) in routes::own_networks().unwrap() {
            assert!(v4.contains(address) || v6.contains(address), "{address}/{bits} in {network:?}");
        }
    }
}

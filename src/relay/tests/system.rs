//! What the relay makes of the machine it runs on.
use super::support::lone_shared_on;
use crate::sys::dummy::Dummy;
use std::net::IpAddr;
use std::rc::Rc;

const PUBLIC: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(8, 8, 8, 8));

#[test]
fn the_owners_networks_are_denied_and_others_are_not() {
    let own = lone_shared_on(Rc::new(Dummy::with(vec![("8.8.8.0".parse().unwrap(), 24)])));
    assert!(!own.is_allowed(PUBLIC));
    assert!(own.is_allowed("9.9.9.9".parse().unwrap()));
}

#[test]
fn a_kernel_that_will_not_tell_leaves_nothing_allowed() {
    assert!(!lone_shared_on(Rc::new(Dummy::default())).is_allowed(PUBLIC));
}

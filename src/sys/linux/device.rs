//! Sockets and network devices.
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

/// Binds a socket to a device: it sends by this one and no other, and takes from no other (`SO_BINDTODEVICE`, socket(7)).
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] before Linux 5.7 without `CAP_NET_RAW`; `ENODEV` if there is no such device.
pub fn bind(socket: impl AsFd, name: &str) -> io::Result<()> {
    let length = libc::socklen_t::try_from(name.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the name is readable for `length` bytes, and the kernel reads no more than that.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The address that the routes would give to a connection, without a packet being sent.
///
/// # Errors
/// The kernel's: no route leads there.
pub fn source_toward(to: SocketAddr) -> io::Result<IpAddr> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let probe = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&probe, &to)?;
    super::net::local_address(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::linux::net;

    #[test]
    fn a_socket_is_bound_to_a_device_that_there_is() {
        let listener = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = listener.local_addr().unwrap();
        let socket = net::tcp_socket(to).unwrap();
        bind(&socket, "lo").unwrap();
        net::start_connecting(&socket, to).unwrap();
        listener.accept().unwrap();
        let other = net::tcp_socket(to).unwrap();
        assert_eq!(bind(&other, "none-such-dev").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn the_routes_tell_the_source() {
        let source = source_toward("127.0.0.1:9".parse().unwrap()).unwrap();
        assert_eq!(source, IpAddr::from([127, 0, 0, 1]));
    }
}

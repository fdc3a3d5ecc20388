//! Sockets: what the relay needs beyond reading and writing.
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// Connections that wait for `accept`; the kernel's `somaxconn` bounds it (4096 since Linux 5.4). A full queue drops SYNs, and
/// the client comes again after one second, then after three: a flood of 3000 connections a second filled 1024 places while
/// the node waited for its turn on a busy core.
const BACKLOG: i32 = 4096;

/// Offset of `tcpi_rtt` in `struct tcp_info` (linux/tcp.h), and the bytes needed to have it.
const TCPI_RTT: usize = 68;
const TCP_INFO_BYTES: usize = TCPI_RTT + 4;

/// A listening TCP socket.
///
/// # Errors
/// The kernel's: the address is not ours, or in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let fd = tcp_socket(address)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd.into())
}

/// A listening Unix socket. One that a killed program left there is replaced; one that answers is another program's, and
/// what is no socket is somebody's file.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`], or the kernel's.
pub fn listen_unix(path: &Path) -> io::Result<OwnedFd> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "there is a file that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there"));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    Ok(UnixListener::bind(path)?.into())
}

/// Makes a listener fit for the relay, whoever opened it. What it accepts inherits `TCP_NODELAY`: without it a small
/// record waits 40 ms for the acknowledgement of the one before, and to set it on each connection costs a call.
///
/// # Errors
/// The kernel's.
pub fn prepare_listener(listener: BorrowedFd<'_>) -> io::Result<()> {
    rustix::io::ioctl_fionbio(listener, true)?;
    rustix::net::listen(listener, BACKLOG)?;
    if rustix::net::getsockname(listener).is_ok_and(|a| SocketAddr::try_from(a).is_ok()) {
        sockopt::set_tcp_nodelay(listener, true)?;
    }
    Ok(())
}

/// Raises the process's soft limit of descriptors to the hard one: each tunnel has two, and the usual 1024 is meant for
/// programs that use select(2). A hard limit below `wanted` is raised to that, where the process may (`CAP_SYS_RESOURCE`).
///
/// # Errors
/// The kernel's; the limit then stays.
pub fn raise_descriptor_limit(wanted: usize) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if maximum.is_some_and(|hard| hard < wanted as u64) {
        let more = Some(wanted as u64);
        if setrlimit(Resource::Nofile, Rlimit { current: more, maximum: more }).is_ok() {
            return Ok(());
        }
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Descriptors that this process may have.
pub fn descriptor_limit() -> usize {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Starts to connect. The socket becomes writable when that has succeeded or failed; [`connected`] tells which.
///
/// # Errors
/// The kernel's, if it knows at once that it cannot.
pub fn start_connecting(socket: impl AsFd, to: SocketAddr) -> io::Result<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// A socket's own address.
///
/// # Errors
/// The kernel's.
pub fn local_address(socket: impl AsFd) -> io::Result<IpAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?.ip())
}

/// A TCP socket for addresses of the same family as this one.
///
/// # Errors
/// The kernel's: no descriptor is left.
pub fn tcp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

/// Whether a connection attempt that is over has succeeded.
///
/// # Errors
/// Why it has not.
pub fn connected(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::socket_error(fd)??)
}

/// Takes a connection from a listener, with the peer's address if it came over TCP; `None` if there is none.
///
/// # Errors
/// The kernel's; those of a connection that is gone already are skipped.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, Option<IpAddr>)>> {
    loop {
        match rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((fd, peer)) => {
                let peer = peer.and_then(|p| SocketAddr::try_from(p).ok());
                return Ok(Some((fd, peer.map(|p| p.ip().to_canonical()))));
            }
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Cuts a connection now: the peer gets a reset, and what is not sent yet is thrown away. (Dissolving the association
/// does that at once, where SO_LINGER would wait for the close.)
pub fn reset(fd: BorrowedFd<'_>) {
    if rustix::net::connect_unspec(fd).is_err() {
        // A Unix socket knows no reset; for TCP the close will be one.
        let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
    }
}

/// Microseconds from SYN to SYN-ACK of a connection that was just made, by the kernel's own clock; `None` if it has
/// no sample (the SYN was sent twice).
pub fn handshake_rtt_us(fd: BorrowedFd<'_>) -> Option<u64> {
    let mut info = [0u8; TCP_INFO_BYTES];
    let mut length = libc::socklen_t::try_from(info.len()).ok()?;
    // SAFETY: `info` is writable for `length` bytes, and the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let rtt = info.get(TCPI_RTT..)?.first_chunk::<4>()?;
    let rtt = u64::from(u32::from_ne_bytes(*rtt));
    (result == 0 && length as usize == TCP_INFO_BYTES && rtt > 0).then_some(rtt)
}

/// Bytes written that the peer has not acknowledged. The kernel counts a FIN behind them as one more.
pub fn unacknowledged(fd: BorrowedFd<'_>, fin_sent: bool) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ) writes one int to the address it is given.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    let bytes = if result == 0 { u64::try_from(bytes).unwrap_or(0) } else { 0 };
    bytes.saturating_sub(u64::from(fin_sent))
}

/// The addresses of all interfaces with their prefix lengths, and the other ends of point-to-point lines: the connected
/// routes.
///
/// # Errors
/// The kernel's.
pub fn interfaces() -> io::Result<Vec<(IpAddr, u8)>> {
    super::netlink::addresses()
}

/// Whether a listener takes connections over TCP from this machine only, or over a Unix socket.
pub fn is_local(listener: impl AsFd) -> bool {
    match rustix::net::getsockname(listener) {
        Ok(address) => {
            SocketAddr::try_from(address).map_or(true, |a: SocketAddr| a.ip().to_canonical().is_loopback())
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(to: SocketAddr) -> io::Result<OwnedFd> {
        let socket = tcp_socket(to)?;
        start_connecting(&socket, to).map(|()| socket)
    }

    #[test]
    fn a_unix_listener_replaces_a_dead_socket_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("echomesh-listen-{}", std::process::id()));
        fs::write(&path, "the owner's").unwrap();
        assert_eq!(listen_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).unwrap(), "the owner's");
        fs::remove_file(&path).unwrap();
        let first = listen_unix(&path).unwrap();
        assert_eq!(listen_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(listen_unix(&path).unwrap());
        fs::remove_file(&path).unwrap();
    }
    use std::io::{Read, Write};

    #[test]
    fn loopback_is_among_the_interfaces() {
        assert!(interfaces().unwrap().contains(&(IpAddr::from([127, 0, 0, 1]), 8)));
    }

    #[test]
    fn a_refused_connection_says_so() {
        let free = listen("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
        let refused = match connect(free) {
            Ok(fd) => connected(fd.as_fd()),
            Err(e) => Err(e),
        };
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_connection_has_a_round_trip_and_unread_bytes() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client: std::net::TcpStream = connect(listener.local_addr().unwrap()).unwrap().into();
        let (mut server, _) = listener.accept().unwrap();
        assert!(handshake_rtt_us(client.as_fd()).unwrap() < 1_000_000);
        client.set_nonblocking(false).unwrap();
        client.write_all(b"abc").unwrap();
        let mut got = [0; 3];
        server.read_exact(&mut got).unwrap();
        assert_eq!(unacknowledged(client.as_fd(), false), 0);
        reset(client.as_fd());
        assert_eq!(server.read(&mut got).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_a_prepared_listener_accepts_sends_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        prepare_listener(listener.as_fd()).unwrap();
        let _client = connect(listener.local_addr().unwrap()).unwrap();
        let accepted =
            std::iter::from_fn(|| Some(accept(listener.as_fd()).unwrap())).flatten().next().unwrap();
        assert!(sockopt::tcp_nodelay(accepted.0).unwrap());
        assert_eq!(accepted.1, Some(std::net::Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn the_descriptor_limit_rises_to_the_hard_one() {
        use rustix::process::{Resource, getrlimit};
        raise_descriptor_limit(0).unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn only_loopback_and_unix_listeners_are_local() {
        assert!(is_local(listen("127.0.0.1:0".parse().unwrap()).unwrap()));
        assert!(is_local(listen("[::1]:0".parse().unwrap()).unwrap()));
        assert!(!is_local(listen("0.0.0.0:0".parse().unwrap()).unwrap()));
        let path = std::env::temp_dir().join(format!("echomesh-net-{}.sock", std::process::id()));
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(is_local(&unix));
        std::fs::remove_file(path).unwrap();
    }
}

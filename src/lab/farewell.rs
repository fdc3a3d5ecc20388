//! The end of a connection by a lease, before the lease is given back.
use crate::sys::linux::net::unacknowledged;
use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, future};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long a buyer waits for the target's end of a connection and for its word that it has the buyer's.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks for the latter, which the kernel tells nobody of.
const LOOK: Duration = Duration::from_millis(10);

/// Waits a while until both sides have ended a connection and the target has the buyer's FIN. With the lease everything ends
/// that goes by it, and what is cut off before its FINs is not counted to the byte.
///
/// The target's FIN does not say that the buyer's has come by: TLS says the end first (RFC 8446 section 6.1), by a record that
/// passes where the FIN may be lost or wait.
pub async fn both_ended(stream: TcpStream) -> io::Result<()> {
    let stream = Async::new(stream)?;
    let end = async {
        // Nothing that was asked for comes any more.
        while (&stream).read(&mut [0; 4096]).await? > 0 {}
        // The buyer's side may have ended already.
        let _ = stream.get_ref().shutdown(Shutdown::Write);
        while unacknowledged(stream.as_fd(), false) > 0 {
            Timer::after(LOOK).await;
        }
        Ok(())
    };
    let late = async {
        Timer::after(PATIENCE).await;
        Ok(())
    };
    // One that was reset has nothing left to wait for.
    future::or(end, late).await.or_else(|e: io::Error| match e.kind() {
        io::ErrorKind::ConnectionReset => Ok(()),
        _ => Err(e),
    })
}

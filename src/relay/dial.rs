//! From a name to a connection to a checked address of it.
use super::shared::RelayShared;
use crate::dns::Answer;
use crate::mutant;
use crate::policy::refusal::Refusal;
use crate::session::{Flow, Target};
use crate::sys::linux::net;
use crate::sys::linux::reactor::{Io, WRITE};
use crate::time::Now;
use async_io::Timer;
use futures_lite::future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// Addresses of each family that one request tries: a name may have thousands, and every one costs a stranger a SYN.
const MAX_TRIED: usize = 3;

/// Why there is no connection.
pub(super) struct Failure {
    /// The refusal.
    pub refusal: Refusal,
    /// The `Proxy-Status` error type (RFC 9209 section 2.3).
    pub error: &'static str,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure { refusal, error: refusal.proxy_error() }
    }
}

/// Resolves, judges every address, then tries them in order.
pub(super) async fn dial(shared: &Rc<RelayShared>, flow: &Flow, target: &Target) -> Result<Io, Failure> {
    let answer = resolve(shared, |aliases| flow.judge_aliases(aliases), target).await?;
    let answer = if mutant::out("checked-address-dialled") {
        let resolver = shared.resolver.borrow().clone();
        let later = Now { mono_us: u64::MAX / 2, ..shared.gate.now() };
        resolver.resolve(&target.host, later).await.map_err(|_| Refusal::ResolveFailed)?
    } else {
        answer
    };

    let deadline = shared.deadline();
    let late = async {
        deadline.over().await;
        Err(Refusal::ConnectTimeout.into())
    };
    future::or(try_all(shared, flow, &worth_trying(&answer.addresses), target.port), late).await
}

/// The addresses of a host, all of them and its aliases judged.
pub(super) async fn resolve(
    shared: &RelayShared,
    judge_aliases: impl Fn(&[String]) -> Result<(), Refusal>,
    target: &Target,
) -> Result<Rc<Answer>, Refusal> {
    if target.literal.is_some() && !mutant::out("literal-not-dialled") {
        return Err(Refusal::AddressDenied);
    }
    let resolver = shared.resolver.borrow().clone();
    let answer =
        resolver.resolve(&target.host, shared.gate.now()).await.map_err(|_| Refusal::ResolveFailed)?;
    if !mutant::out("alias-judged") {
        judge_aliases(&answer.aliases)?;
    }
    let judged = if mutant::out("untried-judged") {
        worth_trying(&answer.addresses)
    } else {
        answer.addresses.clone()
    };
    shared.egress.judge_all(&judged)?;
    Ok(answer)
}

/// The first few of each family, in their order; all of them were judged.
pub(super) fn worth_trying(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let few = |v6| addresses.iter().filter(move |a| a.is_ipv6() == v6).take(MAX_TRIED);
    few(false).chain(few(true)).copied().collect()
}

async fn try_all(
    shared: &Rc<RelayShared>,
    flow: &Flow,
    addresses: &[IpAddr],
    port: u16,
) -> Result<Io, Failure> {
    let mut failure = Failure::from(Refusal::ConnectFailed);
    for (index, address) in addresses.iter().enumerate() {
        let one = connect(shared, flow, SocketAddr::new(*address, port));
        let others = addresses.len() - index - 1;
        // The last one may use all the time that is left.
        let tried = if others == 0 { one.await } else { or_late(one, others).await };
        match tried {
            Ok(io) => return Ok(io),
            Err(e) => failure = failure_of(&e),
        }
    }
    Err(failure)
}

async fn or_late(one: impl Future<Output = io::Result<Io>>, others: usize) -> io::Result<Io> {
    let share = super::watch::DEADLINE_MS / (others as u64 + 1);
    let late = async {
        Timer::after(Duration::from_millis(share)).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(one, late).await
}

async fn connect(shared: &RelayShared, flow: &Flow, address: SocketAddr) -> io::Result<Io> {
    let started = shared.gate.now().mono_us;
    let (socket, leaving) = shared.egress.connect(address)?;
    let io = Io::new(&shared.reactor, socket, 0)?;
    let lost = async {
        shared.egress.lost(leaving).await;
        Err(io::ErrorKind::NetworkUnreachable.into())
    };
    let ready = async {
        io.ready(WRITE).await;
        Ok::<(), io::Error>(())
    };
    future::or(ready, lost).await?;
    if io.has_failed() || io.is_closed() {
        net::connected(io.as_fd())?;
    }
    flow.state().leaves(leaving);
    let latency = net::handshake_rtt_us(io.as_fd());
    flow.connected(latency.unwrap_or_else(|| shared.gate.now().mono_us.saturating_sub(started)));
    Ok(io)
}

fn failure_of(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut => Refusal::ConnectTimeout.into(),
        io::ErrorKind::ConnectionRefused => Refusal::ConnectFailed.into(),
        _ => Failure { refusal: Refusal::ConnectFailed, error: "destination_unavailable" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_addresses_of_each_family_are_tried() {
        let v4 = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(n));
        let v6 = |n: u128| IpAddr::from(std::net::Ipv6Addr::from_bits(n));
        let many: Vec<IpAddr> = (0..1000).map(v4).chain((0..1000).map(v6)).collect();
        assert_eq!(worth_trying(&many), [v4(0), v4(1), v4(2), v6(0), v6(1), v6(2)]);
        assert_eq!(worth_trying(&[v6(7)]), [v6(7)]);
    }
}

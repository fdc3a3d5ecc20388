//! Fetches a probe's content: every address checked, the times taken, the content hashed as it passes.
use super::plan::{MAX_TRAILER, Measured, Plan, ProbeRefusal};
use crate::clock::Clock;
use crate::egress::Egress;
use crate::http::client::{Request, Resolve, addresses};
use crate::http::connection::{Connection, dial};
use crate::tls::client::ClientTls;
use async_io::{Async, Timer};
use futures_lite::future;
use std::net::{IpAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// Deadline of a step before the content; the plan's own deadline holds for all of them.
const STEP: Duration = Duration::from_secs(10);
/// Bytes after which other tasks get their turn.
const TURN: u64 = 256 * 1024;

/// What a fetch needs of the node.
pub struct Fetcher {
    /// The way out.
    pub egress: Rc<Egress>,
    /// Finds the endpoint's addresses.
    pub resolver: Rc<dyn Resolve>,
    /// Who signs for endpoints.
    pub tls: Rc<ClientTls>,
    /// Takes the times.
    pub clock: Rc<Clock>,
}

impl Fetcher {
    /// Fetches what `plan` says. `allowed` tells public addresses from others: one that is not refuses the endpoint.
    pub async fn fetch(
        &self,
        plan: &Plan,
        allowed: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Measured, ProbeRefusal> {
        let left_ms = plan.deadline.0.saturating_mul(1000).saturating_sub(self.clock.now().unix_ms);
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        let deadline = async {
            Timer::after(left).await;
            Err(ProbeRefusal::Expired)
        };
        let line = self.egress.changed();
        let seen = line.count();
        let changed = async {
            line.after(seen).await;
            Err(ProbeRefusal::FetchFailed)
        };
        Box::pin(future::or(self.steps(plan, allowed), future::or(deadline, changed))).await
    }

    async fn steps(&self, plan: &Plan, allowed: &dyn Fn(IpAddr) -> bool) -> Result<Measured, ProbeRefusal> {
        let failed = |_| ProbeRefusal::FetchFailed;
        let origin = &plan.url.origin;
        let found = addresses(&*self.resolver, origin, STEP).await.map_err(failed)?;
        if !found.iter().all(|a| allowed(*a)) {
            return Err(ProbeRefusal::EndpointDenied);
        }
        let (stream, rtt_ms) = self.connect(&found, origin.port).await?;
        let connected = self.clock.now().mono_ms();
        let mut connection = if origin.secure {
            Connection::secure(stream, origin, &self.tls, STEP).await.map_err(failed)?
        } else {
            Connection::plain(stream)
        };
        let tls_ms = if origin.secure { self.clock.now().mono_ms() - connected } else { 0 };
        connection.write(&Request::new("GET", &plan.url).bytes()).await.map_err(failed)?;
        let sent = self.clock.now().mono_ms();
        let (hash, last, trailer) = self.content(plan, &mut connection).await?;
        Ok(Measured { duration_ms: last - sent, rtt_ms, tls_ms, hash, trailer })
    }

    /// Connects to the first address that answers; the time is that of its own connect.
    async fn connect(&self, found: &[IpAddr], port: u16) -> Result<(Async<TcpStream>, u64), ProbeRefusal> {
        for address in found {
            let started = self.clock.now().mono_us;
            if let Ok(stream) = dial(&self.egress, &[*address], port, STEP).await {
                return Ok((stream, (self.clock.now().mono_us - started + 500) / 1000));
            }
        }
        Err(ProbeRefusal::FetchFailed)
    }

    /// Reads the response: the content's hash, when its last byte came (monotonic ms), and what came after it.
    async fn content(
        &self,
        plan: &Plan,
        connection: &mut Connection,
    ) -> Result<(blake3::Hash, u64, Vec<u8>), ProbeRefusal> {
        let failed = |_| ProbeRefusal::FetchFailed;
        let (head, mut reader) = connection.head("GET").await.map_err(failed)?;
        if head.status != 200 || head.headers.get("content-encoding").is_some() {
            return Err(ProbeRefusal::FetchFailed);
        }
        let (mut hasher, mut left, mut turn) = (blake3::Hasher::new(), plan.size, TURN);
        let (mut last, mut trailer, mut piece) = (0, Vec::new(), Vec::new());
        while connection.content(&mut reader, &mut piece).await.map_err(failed)? {
            let take = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (content, rest) = piece.split_at_checked(take).unwrap_or((&piece, &[]));
            hasher.update(content);
            if left > 0 && left == take as u64 {
                last = self.clock.now().mono_ms();
            }
            left -= take as u64;
            trailer.extend_from_slice(rest);
            if trailer.len() > MAX_TRAILER {
                return Err(ProbeRefusal::FetchFailed);
            }
            turn = turn.saturating_sub(take as u64);
            if turn == 0 {
                future::yield_now().await;
                turn = TURN;
            }
        }
        if left > 0 { Err(ProbeRefusal::FetchFailed) } else { Ok((hasher.finalize(), last, trailer)) }
    }
}

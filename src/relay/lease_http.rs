//! A buyer's connection on which leases are asked for: requests and answers, one after the other, until one side ends it.
//! Its leases end with it.
use super::buyer::Buyer;
use super::connect::{self, Ask, Request};
use super::dial::{Failure, resolve, worth_trying};
use super::door::Seat;
use super::lease_ask::{self, LeaseAsk, Told};
use super::shared::RelayShared;
use super::tunnel::{Head, read_head, refuse};
use crate::lease::service::{Connection, Given, Leases, Wanted};
use crate::mutant;
use crate::policy::refusal::Refusal;
use crate::session::{Credentials, Denied, Target, Tenant};
use crate::sys::linux::net;
use async_io::Timer;
use futures_lite::future;
use std::cell::OnceCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// How long a buyer waits for a refusal: each leaves a line in the log, and costs the buyer nothing else here.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// An answer.
struct Answer {
    bytes: Vec<u8>,
    /// It says no.
    refuses: bool,
    /// It is the connection's last.
    last: bool,
}

/// Serves such a connection from its first request on; `first` is what of it has been read.
pub(super) async fn serve(mut buyer: Buyer, shared: Rc<RelayShared>, seat: Seat, first: (Request, Vec<u8>)) {
    let (mut request, mut bytes) = first;
    let desk = Desk::new(&buyer, &shared, seat.from);
    let mut seat = Some(seat);
    loop {
        let Ask::Lease(ask, content) = &request.ask else {
            // The way of the tunnels begins on a connection of its own.
            let answer = connect::refusal(Refusal::NotHttps.into(), None);
            return refuse(buyer, &shared, &answer, shared.deadline().over()).await;
        };
        let end = request.head + content;
        if in_time(read_until(&mut buyer, &shared, &mut bytes, end), &shared, seat.as_ref()).await.is_err() {
            return;
        }
        let content = bytes.get(request.head..end).unwrap_or_default();
        let Answer { bytes: answer, refuses, last } =
            desk.answer(&shared, (ask, content), &request, &mut seat).await;
        if last {
            return match seat {
                // A stranger's time is what it has had from its start.
                Some(seat) => refuse(buyer, &shared, &answer, seat.over()).await,
                None => refuse(buyer, &shared, &answer, shared.deadline().over()).await,
            };
        }
        if refuses {
            Timer::after(REFUSED_PAUSE).await;
        }
        if in_time(buyer.write(&answer), &shared, None).await.is_err() {
            return;
        }
        bytes.drain(..end);
        request = match next_head(&mut buyer, &shared, &desk, &mut bytes).await {
            Ok(Ok(request)) => request,
            Ok(Err(bad)) => {
                let answer = connect::bad_head(bad);
                return refuse(buyer, &shared, &answer, shared.deadline().over()).await;
            }
            Err(_) => return,
        };
    }
}

/// The next request; a connection without leases does not wait long for it, and not at all if the node has ended them: that is how
/// a buyer hears of it whose connections only wait.
async fn next_head(
    buyer: &mut Buyer,
    shared: &RelayShared,
    desk: &Desk,
    bytes: &mut Vec<u8>,
) -> io::Result<Head> {
    let late = async {
        let ended = match desk.connection() {
            Some(connection) => connection.idle().await,
            None => false,
        };
        if !ended {
            shared.deadline().over().await;
        }
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(read_head(buyer, shared, bytes), late).await
}

async fn read_until(
    buyer: &mut Buyer,
    shared: &RelayShared,
    bytes: &mut Vec<u8>,
    end: usize,
) -> io::Result<()> {
    while bytes.len() < end {
        let most = end - bytes.len();
        if buyer.read(bytes, most, &shared.scratch).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// A step, within the time of a stranger or of a step.
async fn in_time<T>(
    step: impl Future<Output = io::Result<T>>,
    shared: &RelayShared,
    seat: Option<&Seat>,
) -> io::Result<T> {
    let late = async {
        match seat {
            Some(seat) => seat.over().await,
            None => shared.deadline().over().await,
        }
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(step, late).await
}

/// Where a connection's requests are answered.
struct Desk {
    from: Option<IpAddr>,
    /// The router's end of the connection: leases listen there.
    own: Option<IpAddr>,
    /// The leases, where there is a kernel path for this connection.
    leases: Option<Rc<Leases>>,
    /// Its place among those that may hold leases, which a buyer alone is given; none if there is none left.
    connection: OnceCell<Option<Connection>>,
}

impl Desk {
    fn new(buyer: &Buyer, shared: &RelayShared, from: Option<IpAddr>) -> Desk {
        let own = net::local_address(buyer.io().as_fd()).ok().map(|a| a.to_canonical());
        let outer_tls = matches!(buyer, Buyer::Tls(_));
        let leases = shared.gate.leases().filter(|l| outer_tls && l.is_possible());
        Desk { from, own, leases, connection: OnceCell::new() }
    }

    fn connection(&self) -> Option<&Connection> {
        self.connection.get()?.as_ref()
    }

    /// The kernel path has nothing for it, now or later.
    fn has_nothing(&self) -> bool {
        self.leases.is_none() || matches!(self.connection.get(), Some(None))
    }

    /// Whether the kernel can carry what this buyer sends: from a public address, to one that the router has outside.
    fn is_reachable(&self, shared: &RelayShared) -> bool {
        let (Some(from), Some(own)) = (self.from, self.own) else { return false };
        let public = shared.egress.is_allowed(from) || mutant::out("lease-source-public");
        self.leases.is_some() && public && shared.egress.is_outward(own)
    }

    async fn answer(
        &self,
        shared: &Rc<RelayShared>,
        (ask, content): (&LeaseAsk, &[u8]),
        request: &Request,
        seat: &mut Option<Seat>,
    ) -> Answer {
        let target = matches!(ask, LeaseAsk::Open).then(|| lease_ask::wanted(content));
        let judged = self.admit(shared, request.credentials.as_ref(), target.as_ref());
        let stranger = judged.as_ref().is_err_and(|denied| denied.refusal == Refusal::AuthRequired);
        if let Some(seat) = seat.take_if(|_| !stranger) {
            seat.authenticated();
        }
        // Who is not a buyer is not asked again, nor one that the kernel path has nothing for.
        let last = request.last || stranger || self.has_nothing();
        let answered = match (judged, target) {
            (Err(denied), _) => Err(Failed { denied, error: None }),
            (Ok(tenant), Some(Ok(target))) => {
                self.open(shared, tenant, target).await.map(|told| lease_ask::told(&told, true, last))
            }
            (Ok(_), Some(Err(refusal))) => Err(Failed::from(refusal)),
            (Ok(tenant), None) => {
                let done = self.manage(ask, &*tenant, last).await;
                let refuses = done.is_none();
                return Answer { bytes: done.unwrap_or_else(|| lease_ask::unknown(last)), refuses, last };
            }
        };
        let refuses = answered.is_err();
        let bytes = answered.unwrap_or_else(|f| lease_ask::refusal(f.denied, f.error, last));
        Answer { bytes, refuses, last }
    }

    fn admit(
        &self,
        shared: &RelayShared,
        credentials: Option<&Credentials>,
        target: Option<&Result<Target, Refusal>>,
    ) -> Result<Rc<dyn Tenant>, Denied> {
        let target = target.map(|t| t.as_ref().map_err(|refusal| *refusal));
        let reachable = self.is_reachable(shared);
        let tenant = shared.gate.admit_lease(self.from, credentials, target, reachable)?;
        let place = || self.leases.as_ref().and_then(|leases| leases.connect());
        if self.connection.get_or_init(place).as_ref().is_some_and(|c| c.belongs_to(tenant.session())) {
            return Ok(tenant);
        }
        if let Some(Ok(target)) = target {
            tenant.refused(target, Refusal::LeaseUnavailable);
        }
        Err(Refusal::LeaseUnavailable.into())
    }

    /// Resolves and judges as for a CONNECT, then asks the guard.
    async fn open(
        &self,
        shared: &Rc<RelayShared>,
        tenant: Rc<dyn Tenant>,
        target: Target,
    ) -> Result<Told, Failed> {
        let given = self.try_open(shared, &tenant, target.clone()).await;
        given.and_then(|given| self.told(given)).map_err(|refusal| {
            tenant.refused(&target, refusal);
            Failed::from(refusal)
        })
    }

    async fn try_open(
        &self,
        shared: &Rc<RelayShared>,
        tenant: &Rc<dyn Tenant>,
        target: Target,
    ) -> Result<Given, Refusal> {
        let none = Refusal::LeaseUnavailable;
        let (connection, buyer) = self.connection().zip(self.from).ok_or(none)?;
        let found = resolve(shared, |aliases| tenant.judge_aliases(aliases), &target).await?;
        // The firewall knows one port alone, whatever a lab allows.
        if target.port != HTTPS {
            return Err(none);
        }
        let mut family =
            worth_trying(&found.addresses).into_iter().filter(|a| a.is_ipv4() == buyer.is_ipv4());
        let address = family.next().ok_or(none)?;
        // Policy may have changed while the name was being resolved.
        if !tenant.still_allowed(&target, &found.aliases) {
            return Err(none);
        }
        let aliases = found.aliases.clone();
        let wanted = Wanted { tenant: tenant.clone(), buyer, target, address, aliases };
        connection.open(wanted).await
    }

    fn told(&self, given: Given) -> Result<Told, Refusal> {
        let own = self.own.ok_or(Refusal::LeaseUnavailable)?;
        let endpoint = SocketAddr::new(own, given.port);
        Ok(Told { id: given.id, endpoint, host: given.host, expires_at: given.expires_at })
    }

    /// What is asked of a lease that there is; none if there is none of that name.
    async fn manage(&self, ask: &LeaseAsk, tenant: &dyn Tenant, last: bool) -> Option<Vec<u8>> {
        let connection = self.connection()?;
        match ask {
            LeaseAsk::Renew(id) => {
                let told = self.told(connection.renew(id, tenant)?).ok()?;
                Some(lease_ask::told(&told, false, last))
            }
            LeaseAsk::End(id) => connection.end(id, tenant).await.then(|| lease_ask::gone(last)),
            LeaseAsk::Open | LeaseAsk::Unknown => None,
        }
    }
}

/// The port of the origins.
const HTTPS: u16 = 443;

/// Why there is no lease.
struct Failed {
    denied: Denied,
    error: Option<&'static str>,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Failed {
        let failure = Failure::from(refusal);
        Failed { denied: refusal.into(), error: Some(failure.error) }
    }
}

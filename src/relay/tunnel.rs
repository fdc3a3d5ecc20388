//! One connection of a buyer, from its first byte to the verdict on its ClientHello; then the pump has it.
use super::buyer::Buyer;
use super::connect::{self, Ask, Lookout, MAX_HEAD, Request};
use super::dial::dial;
use super::door::Seat;
use super::lease_http;
use super::pump::PlainTunnel;
use super::shared::RelayShared;
use super::tls_pump::TlsTunnel;
use crate::mutant;
use crate::policy::refusal::Refusal;
use crate::session::{Denied, Direction, Ending, Flow, Outcome, Phase, Target};
use crate::sys::linux::net;
use crate::sys::linux::reactor::{Io, WRITE};
use crate::tls::client_hello::{self, HelloReader, MAX_HELLO, Progress};
use futures_lite::future;
use rustix::net::SendFlags;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

/// Serves one connection whose outer handshake, if any, is done.
pub(super) async fn serve(mut buyer: Buyer, shared: Rc<RelayShared>, seat: Seat) {
    let mut bytes = Vec::new();
    let head = first_head(&mut buyer, &shared, &seat, &mut bytes).await;
    let Ok(head) = head else { return };
    match head {
        Err(bad) => refuse(buyer, &shared, &connect::bad_head(bad), seat.over()).await,
        Ok(request) if matches!(request.ask, Ask::Lease(..)) => {
            // What a lease needs is kept as long as it lives; a tunnel's task should not be as large.
            Box::pin(lease_http::serve(buyer, shared, seat, (request, bytes))).await;
        }
        Ok(request) => match admit(&shared, &request, &seat) {
            Ok((flow, target)) => {
                drop(seat);
                bytes.drain(..request.head);
                carry(buyer, shared, flow, target, bytes).await;
            }
            // A stranger's time is what it has had from its start.
            Err(answer) => refuse(buyer, &shared, &answer, seat.over()).await,
        },
    }
}

async fn first_head(
    buyer: &mut Buyer,
    shared: &RelayShared,
    seat: &Seat,
    bytes: &mut Vec<u8>,
) -> io::Result<Head> {
    let head = read_head(buyer, shared, bytes);
    let late = async {
        if mutant::out("head-deadline") {
            std::future::pending::<()>().await;
        }
        seat.over().await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(head, late).await
}

pub(super) type Head = Result<Request, connect::BadHead>;

/// Reads until there is a head; what has been read already comes first.
pub(super) async fn read_head(
    buyer: &mut Buyer,
    shared: &RelayShared,
    bytes: &mut Vec<u8>,
) -> io::Result<Head> {
    let mut lookout = Lookout::default();
    loop {
        if lookout.is_due(bytes)
            && !bytes.is_empty()
            && let Some(head) = connect::parse(bytes).transpose()
        {
            return Ok(head);
        }
        let most = (MAX_HEAD + MAX_HELLO).saturating_sub(bytes.len());
        if buyer.read(bytes, most, &shared.scratch).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The flow, or the whole answer that says why not.
fn admit(shared: &RelayShared, request: &Request, seat: &Seat) -> Result<(Flow, Target), Vec<u8>> {
    let target = match &request.ask {
        Ask::Connect(target) => target.as_ref().map_err(|refusal| *refusal),
        Ask::Lease(..) => Err(Refusal::NotHttps),
    };
    let judged = shared.gate.admit(seat.from, request.credentials.as_ref(), target);
    if judged.as_ref().map_or_else(|denied| denied.refusal != Refusal::AuthRequired, |_| true) {
        seat.authenticated();
    }
    match (judged, target) {
        (Err(denied), _) => Err(connect::refusal(denied, None)),
        (Ok(flow), Ok(target)) => Ok((flow, target.clone())),
        (Ok(_), Err(refusal)) => Err(connect::refusal(refusal.into(), None)),
    }
}

/// Answers and closes before it is too late.
pub(super) async fn refuse(
    mut buyer: Buyer,
    shared: &RelayShared,
    answer: &[u8],
    late: impl Future<Output = ()>,
) {
    let work = async {
        if buyer.write(answer).await.is_ok() {
            // It is over either way.
            let _ = buyer.close(&shared.scratch).await;
        }
    };
    future::or(work, late).await;
}

async fn carry(mut buyer: Buyer, shared: Rc<RelayShared>, flow: Flow, target: Target, early: Vec<u8>) {
    let io = match or_ending(&flow, dial(&shared, &flow, &target)).await {
        Err(_) => {
            flow.finish(Outcome::Killed);
            return buyer.reset();
        }
        Ok(Err(failure)) => {
            flow.finish(Outcome::Refused(failure.refusal));
            let answer = connect::refusal(Denied::from(failure.refusal), Some(failure.error));
            let deadline = shared.deadline();
            return refuse(buyer, &shared, &answer, deadline.over()).await;
        }
        Ok(Ok(io)) => io,
    };
    match or_ending(&flow, hello(&mut buyer, &shared, &flow, early)).await {
        Ok(Ok(raw)) => open(buyer, io, shared, flow, raw).await,
        Ok(Err(Stop::Refused(refusal))) => {
            net::reset(io.as_fd());
            drop(io);
            flow.finish(Outcome::Refused(refusal));
            alert(buyer, &shared, refusal).await;
        }
        Ok(Err(Stop::Gone)) => net::reset(io.as_fd()),
        Err(Ending::HelloTimeout) => {
            net::reset(io.as_fd());
            drop(io);
            flow.finish(Outcome::Refused(Refusal::HelloTimeout));
            alert(buyer, &shared, Refusal::HelloTimeout).await;
        }
        Err(Ending::Reset | Ending::Close) => {
            net::reset(io.as_fd());
            flow.finish(Outcome::Killed);
            buyer.reset();
        }
    }
}

async fn alert(buyer: Buyer, shared: &Rc<RelayShared>, refusal: Refusal) {
    let deadline = shared.deadline();
    refuse(buyer, shared, &client_hello::alert_record(refusal), deadline.over()).await;
}

/// Runs a step of the set-up, unless the node ends the flow first.
async fn or_ending<T>(flow: &Flow, step: impl Future<Output = T>) -> Result<T, Ending> {
    let ending = async { Err(poll_fn(|cx| flow.poll_ending(cx)).await) };
    future::or(ending, async { Ok(step.await) }).await
}

enum Stop {
    Refused(Refusal),
    /// The buyer left, or its connection failed.
    Gone,
}

/// Sends the 200 and judges what follows; every byte read so far, if the verdict is good.
async fn hello(
    buyer: &mut Buyer,
    shared: &RelayShared,
    flow: &Flow,
    early: Vec<u8>,
) -> Result<Vec<u8>, Stop> {
    flow.enter(Phase::Hello);
    buyer.write(connect::ESTABLISHED).await.map_err(|_| Stop::Gone)?;
    let mut reader = HelloReader::default();
    let mut piece = early;
    let mut length = piece.len();
    let mut progress = if piece.is_empty() { Progress::NeedMore } else { reader.feed(&piece) };
    while progress == Progress::NeedMore {
        piece.clear();
        let most = MAX_HELLO.saturating_sub(length).max(1);
        match buyer.read(&mut piece, most, &shared.scratch).await {
            Ok(0) | Err(_) => return Err(Stop::Gone),
            Ok(n) => length += n,
        }
        progress = reader.feed(&piece);
    }
    if let Progress::Refused(refusal) = progress {
        return Err(Stop::Refused(refusal));
    }
    let Some(hello) = reader.hello() else { return Err(Stop::Refused(Refusal::NotTls)) };
    client_hello::judge(hello, &flow.hello_rules(), client_hello::ech_public_names())
        .map_err(Stop::Refused)?;
    Ok(reader.into_raw())
}

/// Passes the hello on and starts the pump, in a task of its own: the set-up's is much larger.
async fn open(buyer: Buyer, target: Io, shared: Rc<RelayShared>, flow: Flow, mut raw: Vec<u8>) {
    flow.passed_hello();
    if target.is_ready(WRITE)
        && let Ok(sent) = rustix::net::send(&target, &raw, SendFlags::NOSIGNAL)
    {
        flow.count(Direction::Egress, sent as u64);
        raw.drain(..sent);
    }
    let executor = shared.executor.clone();
    match buyer {
        Buyer::Plain(io) => executor.spawn(PlainTunnel::new(io, target, flow, shared, raw)).detach(),
        Buyer::Tls(stream) => executor.spawn(TlsTunnel::new(*stream, target, flow, shared, raw)).detach(),
    }
}

//! Fetches a list of the coordinator's: from public addresses alone, hashed and read as it comes, never kept as text.
use super::lists::MAX_BYTES;
use super::wire::ListRef;
use crate::egress::Egress;
use crate::encoding::b3;
use crate::http::client::{Request, Resolve, addresses};
use crate::http::connection::{Connection, dial};
use crate::http::url::Url;
use crate::mutant;
use crate::policy::lists::{Importer, NameSet, Report};
use crate::tls::client::ClientTls;
use async_io::Timer;
use futures_lite::future;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// Deadline of a step before the content.
const STEP: Duration = Duration::from_secs(10);
/// Deadline of the whole fetch: 16 MiB at 1.2 Mbit/s.
const WHOLE: Duration = Duration::from_secs(120);
/// Bytes after which other tasks get their turn.
const TURN: usize = 32 * 1024;

/// What a fetch needs.
pub struct ListFetcher {
    /// The way out.
    pub egress: Rc<Egress>,
    /// Finds the server's addresses.
    pub resolver: Rc<dyn Resolve>,
    /// Who signs for the server.
    pub tls: Rc<ClientTls>,
    /// Ports beside 443, in the lab.
    pub extra_ports: Vec<u16>,
}

impl ListFetcher {
    /// The names of a list whose hash is the signed one, and what was passed over in it. `allowed` tells public
    /// addresses from others.
    ///
    /// # Errors
    /// A sentence for the owner.
    pub async fn fetch(
        &self,
        list: &ListRef,
        allowed: &dyn Fn(IpAddr) -> bool,
    ) -> Result<(NameSet, Report), String> {
        let late = async {
            Timer::after(WHOLE).await;
            Err(format!("it did not come within {} s", WHOLE.as_secs()))
        };
        let line = self.egress.changed();
        let seen = line.count();
        let changed = async {
            line.after(seen).await;
            Err("the line has changed on the way".into())
        };
        Box::pin(future::or(self.steps(list, allowed), future::or(late, changed))).await
    }

    async fn steps(
        &self,
        list: &ListRef,
        allowed: &dyn Fn(IpAddr) -> bool,
    ) -> Result<(NameSet, Report), String> {
        let url = Url::parse(&list.url).map_err(|e| e.to_string())?;
        let port = url.origin.port;
        let ours = port == 443 || self.extra_ports.contains(&port) || mutant::out("list-port");
        if !(ours && url.origin.secure) {
            return Err("its URL is not HTTPS on port 443".into());
        }
        let said = |e: crate::http::client::Error| e.to_string();
        let found = addresses(&*self.resolver, &url.origin, STEP).await.map_err(said)?;
        if !found.iter().all(|a| allowed(*a)) && !mutant::out("list-address") {
            return Err("its server's address is not a public one".into());
        }
        let stream = dial(&self.egress, &found, port, STEP).await.map_err(said)?;
        let mut connection = Connection::secure(stream, &url.origin, &self.tls, STEP).await.map_err(said)?;
        connection.write(&Request::new("GET", &url).bytes()).await.map_err(said)?;
        let (head, mut reader) = connection.head("GET").await.map_err(said)?;
        let coded = head.headers.get("content-encoding").is_some() && !mutant::out("list-content-coding");
        if coded || (head.status != 200 && !mutant::out("list-status")) {
            return Err(format!("its server answered with status {} or a content coding", head.status));
        }
        let (mut hasher, mut importer, mut length) = (blake3::Hasher::new(), Importer::default(), 0);
        let mut piece = Vec::new();
        while connection.content(&mut reader, &mut piece).await.map_err(said)? {
            length += piece.len() as u64;
            if length > MAX_BYTES && !mutant::out("list-size") {
                return Err(format!("it has more than {MAX_BYTES} bytes"));
            }
            for part in piece.chunks(TURN) {
                hasher.update(part);
                importer.feed(part);
                future::yield_now().await;
            }
        }
        if b3(&hasher.finalize()) != list.hash && !mutant::out("list-hash") {
            return Err("its hash is not the one that the coordinator signed".into());
        }
        let report = importer.end_list();
        Ok((importer.finish(), report))
    }
}

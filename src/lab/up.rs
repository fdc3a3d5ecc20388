//! Starting the roles of one process and saying where they are.
use super::api::{self, Roles};
use super::args::{Target, Up};
use super::coordinator::{Coordinator, serve};
use super::doh::{self, Zone};
use super::endpoint::{self, Endpoint};
use super::http::{self, Executor};
use super::json::{Json, Members, canonical, number, object, text};
use super::origin::{self, Origin};
use super::pki::Pki;
use async_io::Async;
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;

/// Starts everything, writes the state file, and runs until the process is ended.
pub async fn run(executor: Executor, up: Up) -> io::Result<()> {
    let lab = start(&executor, &up)?;
    let path = up.dir.join(format!("{}.json", up.state));
    let draft = path.with_extension("json.draft");
    std::fs::write(&draft, canonical(&lab) + "\n")?;
    std::fs::rename(&draft, &path)?;
    println!("{}", canonical(&lab));
    std::future::pending().await
}

/// Starts the roles on the executor and says where they are.
pub(super) fn start(executor: &Executor, up: &Up) -> io::Result<Json> {
    let pki = Rc::new(Pki::open(&up.dir)?);
    let endpoint = Endpoint::new(pki.signing_key("endpoint")?);
    let coordinator = Rc::new(RefCell::new(Coordinator::new(pki.signing_key("coordinator")?)));
    let (origin, zone) = (Rc::new(Origin::default()), Rc::new(Zone::default()));
    let mut lab = object([
        ("caFile", text(pki.ca_file().canonicalize()?.to_string_lossy())),
        ("coordinatorPublicKey", text(coordinator.borrow().key.public())),
        ("endpointPublicKey", text(endpoint.public())),
        ("pid", number(std::process::id())),
    ]);
    for (name, target) in &up.zone {
        match target {
            Target::Addresses(addresses) => zone.set(name, addresses.clone()),
            Target::Alias(alias) => {
                let entry = object([("name", text(name.clone())), ("cname", text(alias.clone()))]);
                zone.apply(&entry).map_err(io::Error::other)?;
            }
        }
    }
    let start = Start { executor, up, pki: &pki, zone: &zone };
    start.names(&mut lab, &coordinator, &endpoint, &origin)?;
    let (listener, address) = http::bind(up.control.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))))?;
    lab.set(
        "control",
        object([("address", text(address.to_string())), ("url", text(format!("http://{address}")))]),
    );
    api::run(executor, listener, Roles { coordinator, endpoint, origin, zone, lab: lab.clone() });
    Ok(lab)
}

struct Start<'a> {
    executor: &'a Executor,
    up: &'a Up,
    pki: &'a Rc<Pki>,
    zone: &'a Rc<Zone>,
}

impl Start<'_> {
    fn names(
        &self,
        lab: &mut Json,
        coordinator: &serve::Shared,
        endpoint: &Rc<Endpoint>,
        origin: &Rc<Origin>,
    ) -> io::Result<()> {
        let (up, executor) = (self.up, self.executor);
        let mut probe_host = up.endpoint_name.clone();
        if let Some(wanted) = up.endpoint {
            let (listener, address) = http::bind(wanted)?;
            let tls = self.tls(std::slice::from_ref(&up.endpoint_name), address)?;
            endpoint::run(executor, listener, Some(tls), endpoint);
            let role = self.role(&up.endpoint_name, address, "/probe");
            probe_host = role.str("host").unwrap_or_default().to_owned();
            lab.set("endpoint", role);
        }
        if let Some(wanted) = up.endpoint_plain {
            let (listener, address) = http::bind(wanted)?;
            endpoint::run(executor, listener, None, endpoint);
            lab.set("endpointPlain", object([("address", text(address.to_string()))]));
        }
        if let Some(wanted) = up.origin {
            let (listener, address) = http::bind(wanted)?;
            origin::run(executor, listener, self.tls(&up.origin_names, address)?, origin);
            coordinator.borrow_mut().extra_ports.push(address.port());
            let mut role = self.role(up.origin_names.first().map_or("", String::as_str), address, "");
            role.set("names", Json::Array(up.origin_names.iter().map(|name| text(name.clone())).collect()));
            lab.set("origin", role);
            self.own_names(&up.origin_names, address);
        }
        if let Some(wanted) = up.plain {
            let (listener, address) = http::bind(wanted)?;
            origin::run_plain(executor, listener, origin);
            lab.set("plain", object([("address", text(address.to_string()))]));
        }
        if let Some(wanted) = up.doh {
            let (listener, address) = http::bind(wanted)?;
            doh::run(executor, listener, self.tls(std::slice::from_ref(&up.doh_name), address)?, self.zone);
            lab.set("doh", self.role(&up.doh_name, address, "/dns-query"));
        }
        if let Some(wanted) = up.dns {
            let socket = Async::<UdpSocket>::bind(wanted)?;
            lab.set("dns", object([("address", text(socket.get_ref().local_addr()?.to_string()))]));
            doh::run_udp(executor, socket, self.zone);
        }
        self.coordinator(lab, coordinator, endpoint, &probe_host)
    }

    fn coordinator(
        &self,
        lab: &mut Json,
        shared: &serve::Shared,
        endpoint: &Endpoint,
        probe_host: &str,
    ) -> io::Result<()> {
        let up = self.up;
        let mut coordinator = shared.borrow_mut();
        coordinator.heartbeat_ms = up.heartbeat_ms;
        coordinator.extra_ports.extend(&up.ports);
        coordinator.endpoint_public = endpoint.public();
        coordinator.observed.set("region", text(up.observed.0.clone()));
        coordinator.observed.set("confidence", up.observed.1.into());
        // The register answer names hosts; the port is only in the URL of a probe request.
        let host = object([("host", text(up.endpoint_name.clone())), ("publicKey", text(endpoint.public()))]);
        coordinator.probe_hosts = vec![host];
        coordinator.probe_authority = probe_host.to_owned();
        if up.certificates {
            let pki = Rc::clone(self.pki);
            coordinator.certify = Some(Box::new(move |csr| pki.certify(csr).ok()));
        }
        drop(coordinator);
        let Some(wanted) = up.coordinator else { return Ok(()) };
        let (listener, address) = http::bind(wanted)?;
        let names = std::slice::from_ref(&up.coordinator_name);
        serve::run(self.executor, listener, self.tls(names, address)?, shared);
        let role = self.role(&up.coordinator_name, address, "");
        let port = address.port();
        let mut authorities = vec![address.to_string(), format!("{}:{port}", up.coordinator_name)];
        if port == 443 {
            authorities.extend([address.ip().to_string(), up.coordinator_name.clone()]);
        }
        shared.borrow_mut().authorities = authorities;
        lab.set("coordinator", role);
        Ok(())
    }

    fn tls(&self, names: &[String], address: SocketAddr) -> io::Result<futures_rustls::TlsAcceptor> {
        let mut names = names.to_vec();
        names.push(address.ip().to_string());
        self.pki.server(&names)
    }

    /// `{address, name, host, url}` of a role, and its name in the zone.
    fn role(&self, name: &str, address: SocketAddr, path: &str) -> Json {
        self.own_names(&[name.to_owned()], address);
        let port = address.port();
        let host = if port == 443 { name.to_owned() } else { format!("{name}:{port}") };
        object([
            ("address", text(address.to_string())),
            ("port", number(address.port())),
            ("name", text(name)),
            ("host", text(host.clone())),
            ("url", text(format!("https://{host}{path}"))),
        ])
    }

    /// Names of roles resolve to where they listen, unless the command line says otherwise.
    fn own_names(&self, names: &[String], address: SocketAddr) {
        for name in names.iter().filter(|name| self.up.zone.iter().all(|(given, _)| given != *name)) {
            let ip = address.ip();
            let ip = if ip.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { ip };
            self.zone.set(name, vec![ip]);
        }
    }
}

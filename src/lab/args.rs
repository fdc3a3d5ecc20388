//! The lab's command line.
use super::flood::Kind;
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
echomesh-lab: the reference counterparts of the EchoMesh node, for demos and tests

echomesh-lab up --dir DIR [ROLES] [OPTIONS]
  Runs the chosen roles in one process; without a role: all but --dns and --plain, on 127.0.0.1, free ports.
  Keys and the authority's certificate live in DIR, so processes with one DIR belong together.
  --coordinator ADDR:PORT  --endpoint ADDR:PORT  --origin ADDR:PORT  --doh ADDR:PORT
  --dns ADDR:PORT (UDP)  --plain ADDR:PORT (HTTP that only counts)  --endpoint-plain ADDR:PORT (probes over HTTP)
  --control ADDR:PORT      control API (default 127.0.0.1:0); GET / lists its paths
  --state NAME             writes DIR/NAME.json when ready (default lab)
  --coordinator-name NAME  --endpoint-name NAME  --doh-name NAME   (coordinator|endpoint|doh.lab.test)
  --origin-name NAME       further names of the origin beside origin.lab.test; may repeat
  --zone NAME=IP[,IP..] | NAME=@ALIAS   a name of the zone; may repeat
  --allowed-port PORT      further port of the default profile; may repeat (the origin's own is in it)
  --heartbeat MS           heartbeatIntervalMs (default 10000)
  --region NAME --confidence X   what heartbeats are told (default LAB-1, 0)
  --issue-certificates     answers certification requests of nodes

echomesh-lab buyer --proxy https://HOST:PORT|http://HOST:PORT [OPTIONS]
  One or more requests through a node; prints one JSON line per request and one with the sum.
  --lab DIR (authority of targets, and of the proxy unless pinned)  --pin sha256//BASE64  --insecure
  --session ID --token T   --get URL   --upload N (POST N bytes)   --repeat N   --parallel N   --out FILE
  --connect-to IP          address of the proxy if its host is a name
  --authority HOST:PORT    the CONNECT line's authority instead of the URL's
  --plain-get              GET URL in absolute form, no CONNECT
  --sni NAME | --no-sni    --alpn A,B   --tls12   --split N (hello in pieces of N bytes)
  --hello-hex HEX          sends this after the 200 and prints what comes back
  --silent-ms N            waits before the hello
  --lease                  asks for a lease of the host instead of CONNECT, and connects to it directly
  --listen ADDR:PORT --lease   is a CONNECT proxy for local clients, which uses a lease for each host; no --get

echomesh-lab ask PATH [JSON] [--dir DIR] [--state NAME] [--control ADDR:PORT]
  Asks the control API; GET without JSON. Exit 1 for an error, and for a verdict that is not ok.

echomesh-lab flood --to ADDR:PORT --from ADDR [OPTIONS]
  Thousands of clients that hold up a listener, from one thread; prints one line of JSON at its end.
  --sources N --stride N   addresses from --from on (1, 1)      --clients N (10000)   --seconds N (60)
  --mix KIND[,KIND..]      silent|half|tls|head|spam|record, in turn (silent)
  --again MS               pause before a client that was dropped comes again (2000)   --ramp MS (2000)

echomesh-lab demo [--keep] [--size MB] [--node FILE]
  The whole story on this machine: lab, node, curl. Exit 0 only if all is as it must be.

echomesh-lab trespass WHAT --own DIR [--user USER] [--bare]
  Confines itself as the node does (not with --bare) and tries one forbidden thing. Exit 0 if it could, 1 if it was refused.
";

/// A chosen command.
pub enum Command {
    /// Print the help.
    Help,
    /// Run roles.
    Up(Up),
    /// Be a buyer.
    Buyer(Buyer),
    /// Ask the control API.
    Ask(Ask),
    /// Hold up a listener.
    Flood(Flood),
}

/// Clients of a flood.
pub struct Flood {
    /// The listener.
    pub to: SocketAddr,
    /// First address of the clients.
    pub from: IpAddr,
    /// How many addresses.
    pub sources: u64,
    /// Distance from one to the next.
    pub stride: u64,
    /// How many clients.
    pub clients: u64,
    /// How long.
    pub seconds: u64,
    /// What they do, in turn.
    pub mix: Vec<Kind>,
    /// Pause before a client that was dropped comes again.
    pub again_ms: u64,
    /// Time over which the clients begin.
    pub ramp_ms: u64,
}

/// Roles and where they listen.
#[derive(Default)]
pub struct Up {
    /// Keys and state.
    pub dir: PathBuf,
    /// Name of the state file, without `.json`.
    pub state: String,
    /// Listener of the coordinator.
    pub coordinator: Option<SocketAddr>,
    /// Listener of the trusted endpoint.
    pub endpoint: Option<SocketAddr>,
    /// Plain listener of the trusted endpoint.
    pub endpoint_plain: Option<SocketAddr>,
    /// Listener of the origin.
    pub origin: Option<SocketAddr>,
    /// Plain listener that counts.
    pub plain: Option<SocketAddr>,
    /// Listener of DNS over HTTPS.
    pub doh: Option<SocketAddr>,
    /// Socket of DNS over UDP.
    pub dns: Option<SocketAddr>,
    /// Listener of the control API.
    pub control: Option<SocketAddr>,
    /// Host of the coordinator.
    pub coordinator_name: String,
    /// Host of the endpoint.
    pub endpoint_name: String,
    /// Host of the resolver.
    pub doh_name: String,
    /// Hosts of the origin.
    pub origin_names: Vec<String>,
    /// Names and what they point to.
    pub zone: Vec<(String, Target)>,
    /// Ports of the default profile.
    pub ports: Vec<u16>,
    /// `heartbeatIntervalMs`.
    pub heartbeat_ms: i64,
    /// Region told to nodes, and how sure.
    pub observed: (String, f64),
    /// Whether certification requests are answered.
    pub certificates: bool,
}

/// What a name of the zone points to.
pub enum Target {
    /// Addresses.
    Addresses(Vec<IpAddr>),
    /// Another name.
    Alias(String),
}

/// A buyer's requests.
#[derive(Default)]
pub struct Buyer {
    /// `https://host:port` or `http://host:port`.
    pub proxy: String,
    /// Directory with `ca.pem`.
    pub lab: Option<PathBuf>,
    /// `sha256//…` of the proxy's key.
    pub pin: Option<String>,
    /// Take any key of the proxy.
    pub insecure: bool,
    /// Session and token.
    pub credentials: Option<(String, String)>,
    /// What to fetch.
    pub url: String,
    /// Bytes to post instead of fetching.
    pub upload: Option<u64>,
    /// Requests, one after the other, in each of `parallel` tasks.
    pub repeat: u64,
    /// Tasks.
    pub parallel: u64,
    /// Where the content goes.
    pub out: Option<PathBuf>,
    /// Address of the proxy.
    pub connect_to: Option<IpAddr>,
    /// Authority of the CONNECT line.
    pub authority: Option<String>,
    /// No CONNECT: the URL in absolute form.
    pub plain_get: bool,
    /// SNI instead of the URL's host; `Some(None)` sends none.
    pub sni: Option<Option<String>>,
    /// ALPN names offered.
    pub alpn: Vec<String>,
    /// Nothing newer than TLS 1.2.
    pub tls12: bool,
    /// Most bytes of one write to the tunnel.
    pub split: Option<usize>,
    /// Bytes to send instead of a TLS handshake.
    pub hello: Option<Vec<u8>>,
    /// Wait before the hello, ms.
    pub silent_ms: u64,
    /// By leases.
    pub lease: bool,
    /// Where a local proxy listens.
    pub listen: Option<SocketAddr>,
}

/// A question to the control API.
#[derive(Default)]
pub struct Ask {
    /// Path and query.
    pub path: String,
    /// JSON to post.
    pub json: Option<String>,
    /// Directory of the state file.
    pub dir: PathBuf,
    /// Name of the state file, without `.json`.
    pub state: String,
    /// Address instead of the state file's.
    pub control: Option<SocketAddr>,
}

/// Parses the command line without the program's name.
pub fn parse(raw: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = Parser::from_args(raw);
    match parser.next()? {
        Some(Arg::Value(word)) if word == "up" => up(&mut parser),
        Some(Arg::Value(word)) if word == "buyer" => buyer(&mut parser),
        Some(Arg::Value(word)) if word == "ask" => ask(&mut parser),
        Some(Arg::Value(word)) if word == "flood" => flood(&mut parser),
        None | Some(Arg::Long("help") | Arg::Short('h')) => Ok(Command::Help),
        Some(other) => Err(other.unexpected()),
    }
}

fn up(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    let mut up = Up {
        state: "lab".to_owned(),
        coordinator_name: "coordinator.lab.test".to_owned(),
        endpoint_name: "endpoint.lab.test".to_owned(),
        doh_name: "doh.lab.test".to_owned(),
        origin_names: vec!["origin.lab.test".to_owned()],
        heartbeat_ms: 10_000,
        observed: ("LAB-1".to_owned(), 0.0),
        ..Up::default()
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("dir") => up.dir = parser.value()?.into(),
            Arg::Long("state") => up.state = parser.value()?.string()?,
            Arg::Long("coordinator") => up.coordinator = Some(parser.value()?.parse()?),
            Arg::Long("endpoint") => up.endpoint = Some(parser.value()?.parse()?),
            Arg::Long("endpoint-plain") => up.endpoint_plain = Some(parser.value()?.parse()?),
            Arg::Long("origin") => up.origin = Some(parser.value()?.parse()?),
            Arg::Long("plain") => up.plain = Some(parser.value()?.parse()?),
            Arg::Long("doh") => up.doh = Some(parser.value()?.parse()?),
            Arg::Long("dns") => up.dns = Some(parser.value()?.parse()?),
            Arg::Long("control") => up.control = Some(parser.value()?.parse()?),
            Arg::Long("coordinator-name") => up.coordinator_name = parser.value()?.string()?,
            Arg::Long("endpoint-name") => up.endpoint_name = parser.value()?.string()?,
            Arg::Long("doh-name") => up.doh_name = parser.value()?.string()?,
            Arg::Long("origin-name") => up.origin_names.push(parser.value()?.string()?),
            Arg::Long("zone") => up.zone.push(zone(&parser.value()?.string()?)?),
            Arg::Long("allowed-port") => up.ports.push(parser.value()?.parse()?),
            Arg::Long("heartbeat") => up.heartbeat_ms = parser.value()?.parse()?,
            Arg::Long("region") => up.observed.0 = parser.value()?.string()?,
            Arg::Long("confidence") => up.observed.1 = parser.value()?.parse()?,
            Arg::Long("issue-certificates") => up.certificates = true,
            Arg::Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    if up.dir.as_os_str().is_empty() {
        return Err("up needs --dir DIR".into());
    }
    Ok(Command::Up(up.with_default_roles()))
}

impl Up {
    fn with_default_roles(mut self) -> Up {
        let given = [
            self.coordinator,
            self.endpoint,
            self.endpoint_plain,
            self.origin,
            self.plain,
            self.doh,
            self.dns,
        ];
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        if given.iter().all(Option::is_none) {
            for role in [&mut self.coordinator, &mut self.endpoint, &mut self.origin, &mut self.doh] {
                *role = Some(loopback);
            }
        }
        self.control = self.control.or(Some(loopback));
        self
    }
}

fn zone(text: &str) -> Result<(String, Target), lexopt::Error> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("--zone {text}: NAME=IP[,IP..] or NAME=@ALIAS"))?;
    if let Some(alias) = value.strip_prefix('@') {
        return Ok((name.to_owned(), Target::Alias(alias.to_owned())));
    }
    let addresses: Result<Vec<IpAddr>, _> = value.split(',').map(str::parse).collect();
    let addresses = addresses.map_err(|_| format!("--zone {text}: {value} is no list of addresses"))?;
    Ok((name.to_owned(), Target::Addresses(addresses)))
}

fn buyer(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    let mut buyer = Buyer { repeat: 1, parallel: 1, ..Buyer::default() };
    let (mut session, mut token) = (None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("proxy") => buyer.proxy = parser.value()?.string()?,
            Arg::Long("lab") => buyer.lab = Some(parser.value()?.into()),
            Arg::Long("pin") => buyer.pin = Some(parser.value()?.string()?),
            Arg::Long("insecure") => buyer.insecure = true,
            Arg::Long("session") => session = Some(parser.value()?.string()?),
            Arg::Long("token") => token = Some(parser.value()?.string()?),
            Arg::Long("get") => buyer.url = parser.value()?.string()?,
            Arg::Long("upload") => buyer.upload = Some(parser.value()?.parse()?),
            Arg::Long("repeat") => buyer.repeat = parser.value()?.parse()?,
            Arg::Long("parallel") => buyer.parallel = parser.value()?.parse()?,
            Arg::Long("out") => buyer.out = Some(parser.value()?.into()),
            Arg::Long("connect-to") => buyer.connect_to = Some(parser.value()?.parse()?),
            Arg::Long("authority" | "raw-connect") => buyer.authority = Some(parser.value()?.string()?),
            Arg::Long("plain-get") => buyer.plain_get = true,
            Arg::Long("sni") => buyer.sni = Some(Some(parser.value()?.string()?)),
            Arg::Long("no-sni") => buyer.sni = Some(None),
            Arg::Long("alpn") => {
                let names = parser.value()?.string()?;
                buyer.alpn = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            }
            Arg::Long("tls12") => buyer.tls12 = true,
            Arg::Long("split") => buyer.split = Some(parser.value()?.parse()?),
            Arg::Long("silent-ms") => buyer.silent_ms = parser.value()?.parse()?,
            Arg::Long("lease") => buyer.lease = true,
            Arg::Long("listen") => buyer.listen = Some(parser.value()?.parse()?),
            Arg::Long("hello-hex") => {
                let hex = parser.value()?.string()?;
                buyer.hello = Some(super::text::unhex(&hex).ok_or("--hello-hex wants hex")?);
            }
            Arg::Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    if session.is_some() != token.is_some() {
        return Err("--session and --token belong together".into());
    }
    buyer.credentials = session.zip(token);
    let named = !buyer.url.is_empty() || buyer.authority.is_some();
    if buyer.proxy.is_empty() || (!named && buyer.listen.is_none()) {
        return Err("buyer needs --proxy, and --get, --authority or --listen".into());
    }
    if buyer.listen.is_some() && !buyer.lease {
        return Err("--listen needs --lease".into());
    }
    if buyer.listen.is_some() && named {
        return Err(
            "--listen is for local clients, who say themselves what they want: no --get or --authority"
                .into(),
        );
    }
    Ok(Command::Buyer(buyer))
}

fn flood(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    let (mut to, mut from) = (None, None);
    let (mut sources, mut stride, mut clients, mut seconds) = (1, 1, 10_000, 60);
    let (mut mix, mut again_ms, mut ramp_ms) = (vec![Kind::Silent], 2000, 2000);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("to") => to = Some(parser.value()?.parse()?),
            Arg::Long("from") => from = Some(parser.value()?.parse()?),
            Arg::Long("sources") => sources = parser.value()?.parse()?,
            Arg::Long("stride") => stride = parser.value()?.parse()?,
            Arg::Long("clients") => clients = parser.value()?.parse()?,
            Arg::Long("seconds") => seconds = parser.value()?.parse()?,
            Arg::Long("again") => again_ms = parser.value()?.parse()?,
            Arg::Long("ramp") => ramp_ms = parser.value()?.parse()?,
            Arg::Long("mix") => {
                let names = parser.value()?.string()?;
                let kind = |name| Kind::ALL.iter().find(|(n, _)| *n == name).map(|(_, kind)| *kind);
                let kinds: Option<Vec<Kind>> = names.split(',').map(kind).collect();
                mix = kinds.ok_or("--mix: silent, half, tls, head, spam, record")?;
            }
            other => return Err(other.unexpected()),
        }
    }
    let (Some(to), Some(from)) = (to, from) else { return Err("flood needs --to and --from".into()) };
    Ok(Command::Flood(Flood { to, from, sources, stride, clients, seconds, mix, again_ms, ramp_ms }))
}

fn ask(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    let mut ask = Ask { state: "lab".to_owned(), dir: ".".into(), ..Ask::default() };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("dir" | "lab") => ask.dir = parser.value()?.into(),
            Arg::Long("state") => ask.state = parser.value()?.string()?,
            Arg::Long("control") => ask.control = Some(parser.value()?.parse()?),
            Arg::Value(word) if ask.path.is_empty() => ask.path = word.string()?,
            Arg::Value(word) if ask.json.is_none() => ask.json = Some(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    if ask.path.is_empty() {
        return Err("ask needs a path, such as /verdict".into());
    }
    Ok(Command::Ask(ask))
}

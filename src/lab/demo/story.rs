//! The story, step by step, as the buyer, the owner and the coordinator live it.
use super::ask::{count, need, wait};
use super::children::{Children, sleep};
use super::curl::{Access, Curl, Fetched, feed};
use super::setup::{BLOCKED, REBOUND, Stage};
use super::summary;
use super::view::{View, bar, megabytes};
use super::{Options, Outcome};
use crate::lab::clock::mono_ms;
use crate::lab::json::{Json, Members, object, parse, text};
use std::path::PathBuf;

/// A session from the buyer's side.
pub struct Session {
    /// Its id.
    pub id: String,
    /// curl with its credentials.
    pub curl: Curl,
    /// Where these are, for a person to use.
    pub file: PathBuf,
    /// Content bytes curl has downloaded and uploaded.
    pub content: (u64, u64),
}

/// Plays everything; whether all was as it must be.
pub fn tell(options: &Options, children: &Children) -> Outcome<bool> {
    let view = View::new();
    view.line("EchoMesh: coordinator, origin, node and a buyer on this machine. Nothing leaves it.\n");
    let start = mono_ms();
    let lab = Stage::lab(children)?;
    view.step(
        "lab",
        &format!("coordinator, trusted endpoint, HTTPS origin, resolver: {} ms", mono_ms() - start),
    );
    let stage = Stage::node(children, options, lab)?;
    view.step(
        "node",
        &format!("echomesh run, ready for orders after {} ms (pid {})", stage.ready_ms, stage.node_pid),
    );
    let pin = registered(&view, &stage)?;
    let mut session = open(&view, &stage, &pin, "buyer.curl")?;
    let mut ok = page(&view, &stage, &mut session)?;
    ok &= file(&view, &stage, &mut session, options.megabytes)?;
    ok &= refusals(&view, &session)?;
    ok &= probe(&view, &stage, &session)?;
    ok &= pause(&view, &stage, &mut session)?;
    ok &= summary::settle(&view, &stage, &session)?;
    view.line(if ok {
        "\nAll as it must be."
    } else {
        "\nNot all is as it must be: see the lines with ✗."
    });
    if options.keep {
        keep(&view, &stage, &pin)?;
    }
    Ok(ok)
}

fn registered(view: &View, stage: &Stage) -> Outcome<String> {
    let register = wait("registration", 15_000, || {
        let nodes = stage.lab.call("GET", "/nodes", None)?;
        let Json::Array(nodes) = nodes else { return Ok(None) };
        let known = nodes.iter().find(|node| node.member("registered") == Some(&Json::Boolean(true)));
        Ok(known.and_then(|node| node.member("register")).cloned())
    })?;
    let spki = register.member("tls").and_then(|tls| tls.str("spki")).ok_or("register has no tls.spki")?;
    let id = need(&register, "nodeId")?;
    view.step("register", &format!("{id} signs for its TLS key, the coordinator certifies it"));
    Ok(spki.to_owned())
}

fn open(view: &View, stage: &Stage, pin: &str, name: &str) -> Outcome<Session> {
    let body = object([("waitMs", 15_000.0.into())]);
    let opened = stage.lab.call("POST", "/open", Some(&body))?;
    let (id, token) = (need(&opened, "sessionId")?, need(&opened, "token")?);
    if opened.str("state") != Some("active") {
        return Err(format!(
            "the session is {:?}, answer {:?}",
            opened.str("state"),
            opened.member("answer")
        ));
    }
    let file = stage.directory.join(name);
    let ca = PathBuf::from(need(&stage.facts, "caFile")?);
    let curl = Curl::new(file.clone(), &Access { proxy: stage.relay, pin, session: id, token, ca: &ca })?;
    let order = opened.member("open");
    let buyer = order.and_then(|o| o.str("buyer")).unwrap_or("somebody");
    let until = order.and_then(|o| o.str("expiresAt")).unwrap_or("its end");
    view.step("session", &format!("{id} for {buyer} until {until}"));
    Ok(Session { id: id.to_owned(), curl, file, content: (0, 0) })
}

fn page(view: &View, stage: &Stage, session: &mut Session) -> Outcome<bool> {
    let fetched = session.curl.get(&stage.origin("/"), |_, _| ())?;
    session.content.0 += fetched.download;
    let ok = fetched.exit == 0 && fetched.status == 200;
    let told = format!(
        "curl → node → origin: status {}, {} bytes, {} ms",
        fetched.status, fetched.download, fetched.ms
    );
    Ok(view.verdict(ok, "page", &told))
}

fn file(view: &View, stage: &Stage, session: &mut Session, megabytes: u64) -> Outcome<bool> {
    let size = megabytes * 1_000_000;
    let mut drawn = 0;
    let fetched = session.curl.get(&stage.origin(&format!("/bytes/{size}")), |done, ms| {
        if ms >= drawn + 50 {
            view.progress("file", done, size, ms);
            drawn = ms;
        }
    })?;
    view.progress_end();
    session.content.0 += fetched.download;
    Ok(view.verdict(
        fetched.exit == 0 && fetched.download == size,
        "file",
        &bar(fetched.download, size, fetched.ms),
    ))
}

fn refusals(view: &View, session: &Session) -> Outcome<bool> {
    let mut ok = true;
    for (what, url, status, slug) in [
        ("plain HTTP", "http://origin.lab.test/".to_owned(), 403, "not-https"),
        ("a host on the owner's block list", format!("https://{BLOCKED}/"), 403, "domain-blocked"),
        ("a name that resolves to 192.168.1.1", format!("https://{REBOUND}/"), 403, "address-denied"),
    ] {
        let fetched = session.curl.get(&url, |_, _| ())?;
        ok &= refused(view, what, &fetched, status, slug);
    }
    Ok(ok)
}

fn refused(view: &View, what: &str, fetched: &Fetched, status: u16, slug: &str) -> bool {
    let ok = fetched.connect == status && fetched.slug == slug;
    let wanted = if ok { String::new() } else { format!(" (must be {status} {slug})") };
    view.verdict(ok, "refused", &format!("{what}: {} {}{wanted}", fetched.connect, fetched.slug))
}

fn probe(view: &View, stage: &Stage, session: &Session) -> Outcome<bool> {
    let size = 8 << 20;
    let body = object([
        ("sessionId", text(session.id.clone())),
        ("size", f64::from(size).into()),
        ("waitMs", 20_000.0.into()),
    ]);
    let probe = stage.lab.call("POST", "/probe", Some(&body))?;
    let report = probe.member("report");
    let verdict = probe.str("verdict").unwrap_or("unanswered");
    let [rtt, tls, ms, bytes] = ["rttMs", "tlsMs", "durationMs", "bytes"].map(|name| count(report, name));
    let told =
        format!("{} of signed content in {ms} ms, TCP {rtt} ms, TLS {tls} ms: {verdict}", megabytes(bytes));
    Ok(view.verdict(verdict == "passed", "probe", &told))
}

fn pause(view: &View, stage: &Stage, session: &mut Session) -> Outcome<bool> {
    let start = mono_ms();
    let (mut child, mut pipe) = session.curl.upload(&stage.origin("/upload"))?;
    for _ in 0..25 {
        if !feed(&mut pipe, 1000) {
            break;
        }
        sleep(20);
    }
    // What the origin has but has not acknowledged yet when it is cut off is not counted: let it, up to its delayed
    // acknowledgement, so that all sums can be compared to the byte.
    sleep(250);
    let live = matches!(child.try_wait(), Ok(None));
    let order = mono_ms();
    stage.node.control("pause")?;
    // The upload trickles on: curl looks at its connection only while there is something to send.
    let cut = wait("the end of the upload", 5_000, || {
        let ended = matches!(child.try_wait(), Ok(Some(_)));
        feed(&mut pipe, 10);
        Ok(ended.then(|| mono_ms() - order))
    })?;
    drop(pipe);
    let upload = session.curl.finish(child, start)?;
    session.content.1 += upload.upload;
    let told = format!("a live upload is cut {cut} ms after the order (curl says {})", upload.exit);
    let mut ok = view.verdict(live && upload.exit != 0 && cut <= 100, "pause", &told);
    let fetched = session.curl.get(&stage.origin("/"), |_, _| ())?;
    ok &= refused(view, "while paused", &fetched, 503, "paused");
    stage.node.control("start")?;
    let fetched = session.curl.get(&stage.origin("/"), |_, _| ())?;
    session.content.0 += fetched.download;
    let told = format!("the same session again: status {}, {} bytes", fetched.status, fetched.download);
    Ok(ok & view.verdict(fetched.status == 200, "resume", &told))
}

fn keep(view: &View, stage: &Stage, pin: &str) -> Outcome<()> {
    let session = open(view, stage, pin, "play.curl")?;
    let node = std::env::current_exe().map_err(|e| e.to_string())?.with_file_name("echomesh");
    let (node, run) = (node.display(), stage.node.run_dir.display());
    let control = stage.facts.member("control").and_then(|c| c.str("url")).unwrap_or_default();
    view.line(&format!(
        "
Everything still runs. In another terminal:
  curl -K {} {}
  {node} status --watch --run-dir {run}
  {node} pause --run-dir {run}          (start, stop, sessions, logs export)
  curl {control}/verdict?format=text    (what the coordinator thinks)
  curl {control}/                       (what the lab can be asked to do)
Files: {}
Ctrl-C ends it.",
        session.file.display(),
        stage.origin("/"),
        stage.directory.display()
    ));
    loop {
        sleep(60_000);
    }
}

/// The node's own figures of a session.
pub fn node_bytes(stage: &Stage, id: &str) -> Outcome<(u64, u64)> {
    let sessions = stage.node.call("GET", "/sessions", None)?;
    let mine = sessions.list("sessions").iter().find(|s| s.str("sessionId") == Some(id)).cloned();
    Ok((count(mine.as_ref(), "bytesIngress"), count(mine.as_ref(), "bytesEgress")))
}

/// The access log as the node exports it, judged by the coordinator against every bundle's hash.
pub fn access_log(stage: &Stage) -> Outcome<Json> {
    let export = stage.node.text("/logs/export?since=1970-01-01T00:00:00Z")?;
    let answer = stage.lab.post_text("/access-log", &export)?;
    parse(answer.as_bytes())
}

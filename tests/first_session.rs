//! From nothing but the programs to a buyer's first page, by the commands of the README alone, against the lab.
#![cfg(feature = "lab")]
#![allow(clippy::disallowed_methods, reason = "a test of programs runs them and takes their time")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test")]

use echomesh::json::{Value, parse};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What the machine may take of the three minutes that the README promises; the rest is for the owner's answers.
const MACHINE: Duration = Duration::from_secs(30);

/// Processes and their directory, ended and removed together.
struct Stage {
    dir: PathBuf,
    children: Vec<Child>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Stage {
    fn command(&self, program: &str, line: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(line).env("HOME", &self.dir).env("XDG_RUNTIME_DIR", &self.dir).stdin(Stdio::null());
        command
    }

    fn start(&mut self, program: &str, line: &[&str], log: &str) {
        let log = fs::File::create(self.dir.join(log)).unwrap();
        let mut command = self.command(program, line);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.children.push(command.spawn().unwrap());
    }

    fn run(&self, program: &str, line: &[&str]) -> Output {
        self.command(program, line).output().unwrap()
    }

    #[track_caller]
    fn json(&self, program: &str, line: &[&str]) -> Value {
        let out = self.run(program, line);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        parse(text.lines().last().unwrap_or_default().as_bytes())
            .unwrap_or_else(|_| panic!("{line:?}: {text}{}", String::from_utf8_lossy(&out.stderr)))
    }
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..300 {
        if let Some(found) = found() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no {what} within 30 s");
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).as_str().unwrap()
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |v, name| v.member(name).unwrap_or_else(|| panic!("{path} of {v:?}")))
}

/// What a laboratory needs beside the owner's answers: where its names, its authority and its port are.
fn laboratory(facts: &Value) -> String {
    let (ca, doh, origin) = (text(facts, "caFile"), at(facts, "doh.port"), at(facts, "origin.port"));
    format!(
        "version: 1\nsecurity:\n  dohUrl: \"https://doh.lab.test:{}/dns-query\"\n  dohBootstrap: [\"127.0.0.1\"]\n  \
         dohCaFile: \"{ca}\"\n  sandboxMode: standard\ncoordinator:\n  caFile: \"{ca}\"\nlab:\n  allowAddresses: \
         [\"127.0.0.1\"]\n  ports: [{}]\n",
        doh.canonical(),
        origin.canonical()
    )
}

#[test]
fn from_setup_to_the_first_session() {
    let dir = std::env::temp_dir().join(format!("echomesh-first-session-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).unwrap();
    let mut stage = Stage { dir: dir.clone(), children: Vec::new() };
    let (node, lab) = (env!("CARGO_BIN_EXE_echomesh"), env!("CARGO_BIN_EXE_echomesh-lab"));
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    stage.start(lab, &["up", "--dir", &path("lab")], "lab.log");
    let facts = until("lab", || parse(&fs::read(dir.join("lab/lab.json")).ok()?).ok());
    let (config, run) = (path("node.yaml"), path("run"));
    fs::write(&config, laboratory(&facts)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let coordinator = format!("https://coordinator.lab.test:{}", at(&facts, "coordinator.port").canonical());
    let listen = format!("127.0.0.1:{port}");

    let begin = Instant::now();
    let key = text(&facts, "coordinatorPublicKey");
    let line = [
        &["setup", "--config", &config, "--yes", "--region", "PH-NCR", "--coordinator", &coordinator][..],
        &["--coordinator-key", key, "--listen", &listen, "--name", "127.0.0.1", "--key", "new"],
    ]
    .concat();
    let out = stage.run(node, &line);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    stage.start(node, &["run", "--config", &config, "--run-dir", &run, "--api", "off"], "node.log");
    until("contact with the coordinator", || {
        let out = stage.run(node, &["status", "--json", "--run-dir", &run]);
        let status = parse(&out.stdout).ok()?;
        (text(&status, "coordinator.state") == "online").then_some(())
    });
    let ask = |path_: &str, body: &str| stage.json(lab, &["ask", path_, body, "--dir", &path("lab")]);
    let opened = ask("/open", r#"{"waitMs":10000}"#);
    let (session, token) = (text(&opened, "sessionId"), text(&opened, "token"));
    let (proxy, url) = (
        format!("https://{listen}"),
        format!("https://origin.lab.test:{}/bytes/1000", at(&facts, "origin.port").canonical()),
    );
    let buyer = ["buyer", "--proxy", &proxy, "--insecure", "--lab", &path("lab"), "--session", session];
    let out = stage.run(lab, &[&buyer[..], &["--token", token, "--get", &url]].concat());
    let took = begin.elapsed();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}\n{}", String::from_utf8_lossy(&out.stderr), log(&dir));
    assert!(took < MACHINE, "{took:?}");
    println!("from setup to the first page: {} ms", took.as_millis());
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("node.log")).unwrap_or_default()
}

//! The program against a served API: its exit codes, what it prints, and what it does without a node.
#![allow(clippy::disallowed_methods, reason = "a test of a program runs it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test"
)]

use async_executor::LocalExecutor;
use echomesh::api::run_dir::RunDir;
use echomesh::api::{Action, Archive, Backend, Health, Later, Page, Problem, Tagged, listen};
use echomesh::json::{Value, array, object, parse};
use echomesh::time::Unix;
use std::cell::RefCell;
use std::fs;
use std::future::ready;
use std::io::{BufRead as _, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;

const ID: &str = "c2b9f8c8-0000-4000-8000-0123456789ab";
const LINES: i64 = 20_000;

struct Fake(RefCell<(Value, u32)>);

impl Backend for Fake {
    fn status(&self) -> Value {
        parse(include_bytes!("../src/api/testdata/status.json")).unwrap()
    }
    fn control(&self, action: Action) -> Result<(), Problem> {
        match action {
            Action::Stop => Err(Problem::new(409, "locked", "The key is locked.")),
            _ => Ok(()),
        }
    }
    fn config(&self) -> Tagged {
        let config = self.0.borrow();
        (config.0.clone(), config.1.to_string())
    }
    fn put_config(&self, document: Value) -> Later<Result<Tagged, Problem>> {
        let mbps = document.member("network").and_then(|n| n.member("maxMbps"));
        if mbps.is_none_or(|m| m.as_f64().is_none()) {
            let problem = Problem::config_invalid(vec!["network.maxMbps: \"fast\" is not a number".into()]);
            return Box::pin(ready(Err(problem)));
        }
        let etag = self.0.borrow().1 + 1;
        self.0.replace((document, etag));
        self.reload()
    }
    fn reload(&self) -> Later<Result<Tagged, Problem>> {
        Box::pin(ready(Ok(self.config())))
    }
    fn sessions(&self) -> Value {
        array([object([("sessionId", ID.into()), ("state", "active".into()), ("buyer", "acme".into())])])
    }
    fn close_session(&self, id: &str) -> Result<(), Problem> {
        if id == ID { Ok(()) } else { Err(Problem::session_unknown()) }
    }
    fn export(&self, _: Archive, since: Option<Unix>) -> Result<Box<dyn Iterator<Item = Vec<u8>>>, Problem> {
        let first = since.map_or(0, |s| s.0);
        Ok(Box::new(
            (first..LINES).map(|n| format!("{{\"t\":{n},\"pad\":\"{}\"}}\n", "x".repeat(80)).into_bytes()),
        ))
    }
    fn page(&self, _: Archive, _: Option<Unix>, _: Option<u64>, _: usize) -> Result<Page, Problem> {
        Err(Problem::locked())
    }
    fn diagnostics(&self) -> Value {
        object([("probePassRate", 1.into())])
    }
    fn health(&self) -> Health {
        Health { checks: vec![("relay", true)] }
    }
}

/// A node that is only an API, in a thread of its own, and its run directory.
struct Node {
    dir: PathBuf,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("echomesh-cli-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    path
}

impl Node {
    fn start(name: &str) -> Node {
        let dir = folder(name);
        let (stop, stopped) = UnixStream::pair().unwrap();
        let stopped = async_io::Async::new(stopped).unwrap();
        let (ready, is_ready) = mpsc::channel();
        let path = dir.clone();
        let thread = std::thread::spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            let config = object([("network", object([("maxMbps", 10.into())])), ("version", 1.into())]);
            let fake = Rc::new(Fake(RefCell::new((config, 1))));
            let run_dir = RunDir::prepare(Some(&path)).unwrap();
            let tcp = Some(([127, 0, 0, 1], 0).into());
            let served = listen::start(&executor, run_dir, tcp, fake, Vec::new()).unwrap();
            assert_ne!(served.address.unwrap().port(), 0);
            ready.send(()).unwrap();
            let _ = futures_lite::future::block_on(executor.run(stopped.readable()));
        });
        is_ready.recv().unwrap();
        Node { dir, stop: Some(stop), thread: Some(thread) }
    }

    fn run(&self, line: &[&str]) -> Output {
        run(&[line, &["--run-dir", self.dir.to_str().unwrap()]].concat())
    }

    fn end(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join).transpose().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn program(line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echomesh"));
    command
        .args(line)
        .env("HOME", "/nonexistent")
        .env("LANG", "C.UTF-8")
        .env_remove("LC_ALL")
        .stdin(Stdio::null());
    command
}

fn run(line: &[&str]) -> Output {
    program(line).output().unwrap()
}

#[track_caller]
fn expect(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {err}");
    (out, err)
}

#[test]
fn each_command_reaches_the_node() {
    let node = Node::start("commands");
    let (view, _) = expect(&node.run(&["status"]), 0);
    assert!(
        view.starts_with("EchoMesh 0.1.0") && view.contains("● active") && !view.contains('\x1b'),
        "{view}"
    );
    let (json, _) = expect(&node.run(&["status", "--json"]), 0);
    assert_eq!(parse(json.as_bytes()).unwrap().member("sessions").unwrap().as_int(), Some(2));
    assert!(expect(&node.run(&["sessions"]), 0).0.contains(ID));
    assert_eq!(expect(&node.run(&["pause"]), 0).0, "active: 2 sessions are open\n");
    expect(&node.run(&["start", "--clear-quarantine"]), 0);
    assert_eq!(expect(&node.run(&["stop"]), 4).1, "echomesh: the node refused: The key is locked.\n");
    assert_eq!(expect(&node.run(&["sessions", "close", ID]), 0).0, format!("closed {ID}\n"));
    let (_, unknown) = expect(&node.run(&["sessions", "close", "abc"]), 4);
    assert_eq!(unknown, "echomesh: the node refused: There is no open session with this id.\n");
    expect(&node.run(&["sessions", "close", "a/../b"]), 2);
    assert!(expect(&node.run(&["diagnostics"]), 0).0.contains("probePassRate"));
    assert!(expect(&node.run(&["report"]), 0).0.contains("echomesh-report"));
}

#[test]
fn the_configuration_is_read_and_changed_as_a_whole() {
    let node = Node::start("config");
    assert_eq!(expect(&node.run(&["config", "get", "network.maxMbps"]), 0).0, "10\n");
    expect(
        &node.run(&["config", "set", "network.maxMbps=20", "network.blocklistDomains=[\"a.example\"]"]),
        0,
    );
    assert_eq!(expect(&node.run(&["config", "get", "network.maxMbps"]), 0).0, "20\n");
    let (_, refused) = expect(&node.run(&["config", "set", "version=1", "network.maxMbps=fast"]), 78);
    assert!(
        refused.contains("nothing was changed.\n  network.maxMbps: \"fast\" is not a number\n"),
        "{refused}"
    );
    assert_eq!(expect(&node.run(&["config", "get", "network.maxMbps"]), 0).0, "20\n");
    expect(&node.run(&["config", "get", "network.nothing"]), 1);
    expect(&node.run(&["config", "set", "network"]), 2);
    expect(&node.run(&["config", "set", "version.deep=1"]), 4);
}

#[test]
fn an_export_is_whole_and_a_closed_pipe_is_no_panic() {
    let node = Node::start("export");
    let all = expect(&node.run(&["logs", "export"]), 0).0;
    assert_eq!(all.lines().count() as i64, LINES);
    let some = expect(&node.run(&["logs", "export", "--since", "1970-01-01T05:33:18Z"]), 0).0;
    assert_eq!(some.lines().count(), 2);
    expect(&node.run(&["logs", "export", "--since", "now"]), 2);
    let file = node.dir.join("export.jsonl");
    expect(&node.run(&["logs", "export", "--out", file.to_str().unwrap()]), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), all);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let (_, exists) = expect(&node.run(&["logs", "export", "--out", file.to_str().unwrap()]), 1);
    assert!(exists.contains("exists; choose another name"), "{exists}");

    let mut child = program(&["logs", "export", "--run-dir", node.dir.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let left = child.wait_with_output().unwrap();
    assert_eq!((left.status.code(), left.stderr.as_slice()), (Some(1), &b""[..]));
}

#[test]
fn a_watched_status_refreshes_and_ends_with_a_signal() {
    let node = Node::start("watch");
    let line = ["status", "--watch", "--run-dir", node.dir.to_str().unwrap()];
    let mut child = program(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut titles = 0;
    while titles < 2 {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0);
        titles += usize::from(line.starts_with("EchoMesh "));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success() && !rest.contains('\x1b'));
}

#[test]
fn without_a_node_the_exit_code_says_so() {
    let dir = folder("nobody");
    let (_, error) = expect(&run(&["status", "--run-dir", dir.to_str().unwrap()]), 3);
    assert!(error.contains("no node is running") && error.contains("echomesh run"), "{error}");
}

#[test]
fn files_of_the_run_directory_come_and_go_with_the_node() {
    let mut node = Node::start("files");
    let (socket, token) = (node.dir.join("api.sock"), node.dir.join("api.token"));
    let meta = fs::metadata(&socket).unwrap();
    assert!(meta.file_type().is_socket() && meta.mode() & 0o777 == 0o600);
    assert_eq!(fs::metadata(&token).unwrap().mode() & 0o777, 0o600);
    let second = || {
        let executor = Rc::new(LocalExecutor::new());
        let fake = Rc::new(Fake(RefCell::new((Value::Null, 0))));
        listen::start(&executor, RunDir::prepare(Some(&node.dir)).unwrap(), None, fake, Vec::new()).map(drop)
    };
    assert!(matches!(second(), Err(listen::ListenError::Running(path)) if path == socket));
    expect(&node.run(&["status"]), 0);
    node.end();
    assert!(!socket.exists() && !token.exists());
    // What a killed node leaves is replaced.
    drop(UnixListener::bind(&socket).unwrap());
    let executor = Rc::new(LocalExecutor::new());
    let fake = Rc::new(Fake(RefCell::new((Value::Null, 0))));
    let dir = RunDir::prepare(Some(&node.dir)).unwrap();
    assert!(listen::start(&executor, dir, None, fake, Vec::new()).is_ok());
}

#[test]
fn the_api_listens_on_loopback_only() {
    let dir = RunDir::prepare(Some(&folder("public"))).unwrap();
    let fake = Rc::new(Fake(RefCell::new((Value::Null, 0))));
    let everywhere = Some(([0, 0, 0, 0], 0).into());
    let started = listen::start(&Rc::new(LocalExecutor::new()), dir.clone(), everywhere, fake, Vec::new());
    assert!(matches!(started, Err(listen::ListenError::NotLoopback(_))));
    fs::remove_dir_all(dir.path()).unwrap();
}

#[test]
fn help_and_usage_go_where_they_belong() {
    assert!(expect(&run(&["--help"]), 0).0.contains("Commands:"));
    assert!(expect(&run(&["help", "config"]), 0).0.contains("echomesh config check"));
    assert!(expect(&run(&["version"]), 0).0.starts_with("echomesh "));
    assert!(expect(&run(&[]), 2).1.starts_with("Usage: "));
    let (_, error) = expect(&run(&["status", "--jsn"]), 2);
    assert_eq!(
        error,
        "echomesh: status has no option --jsn; there are: --watch, --json, --run-dir, --help\n"
    );
    expect(&run(&["run", "--api", "here"]), 2);
}

#[test]
fn configurations_are_checked_shown_and_converted_without_a_node() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_corpus");
    let spec = corpus.join("valid/spec.yaml");
    let spec = spec.to_str().unwrap();
    assert!(expect(&run(&["config", "check", spec]), 0).0.contains("valid"));
    assert!(expect(&run(&["config", "show", spec, "--to", "json"]), 0).0.contains("\"maxMbps\": 10"));
    assert!(parse(expect(&run(&["config", "convert", spec]), 0).0.as_bytes()).is_ok());
    let bad = corpus.join("invalid/version-two.yaml");
    assert!(expect(&run(&["config", "check", bad.to_str().unwrap()]), 78).1.contains(":1: version: 2"));
    assert!(expect(&run(&["config", "check", "/nonexistent.yaml"]), 78).1.contains("config init"));
    let full = corpus.join("valid/full.yaml");
    let uci = corpus.join("valid/full-shown.uci");
    let json =
        |file: &Path| expect(&run(&["config", "convert", file.to_str().unwrap(), "--to", "json"]), 0).0;
    assert_eq!(json(&uci), json(&full));
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("openwrt/files/echomesh.config");
    assert!(expect(&run(&["config", "check", package.to_str().unwrap()]), 0).0.contains("valid"));
    expect(&run(&["config", "convert", spec, "--to", "toml"]), 2);
    let made = expect(&run(&["config", "init"]), 0).0;
    assert!(made.contains("version: 1"), "{made}");
}

#[test]
fn a_key_is_made_shown_exported_and_destroyed() {
    let dir = folder("keys");
    fs::create_dir(&dir).unwrap();
    let config = dir.join("config.yaml");
    fs::write(&config, format!("version: 1\nnode:\n  idPath: {}/node.key\n", dir.display())).unwrap();
    let keys = |line: &[&str]| run(&[&["keys"], line, &["--config", config.to_str().unwrap()]].concat());
    assert!(expect(&keys(&["show"]), 0).0.starts_with("state: absent\n"));
    let made = expect(&keys(&["generate"]), 0).0;
    let id = made.lines().next().unwrap().to_owned();
    assert!(id.starts_with("nodeId: ed25519:") && expect(&keys(&["show"]), 0).0.starts_with(&id));
    assert!(expect(&keys(&["export", "--plain"]), 4).1.contains("--plain --yes"));
    let file = dir.join("backup.pem");
    expect(&keys(&["export", "--plain", "--yes", "--out", file.to_str().unwrap()]), 0);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let rotated = expect(&keys(&["rotate"]), 0).0;
    assert!(!rotated.starts_with(&id) && rotated.contains(id.trim_start_matches("nodeId: ")));
    assert!(expect(&keys(&["import", file.to_str().unwrap()]), 0).0.starts_with(&id));
    expect(&keys(&["wipe"]), 4);
    expect(&keys(&["wipe", "--yes"]), 0);
    assert!(expect(&keys(&["show"]), 0).0.starts_with("state: absent\n"));
    assert!(expect(&run(&["keys", "show", "--config", "/nonexistent"]), 78).1.contains("config init"));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_does_not_hold_is_refused_by_verify() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metering-bundle.json");
    let path = folder("bundle.json");
    let good = fs::read_to_string(&golden).unwrap();
    fs::write(&path, good.replacen("\"bytesIngress\": ", "\"bytesIngress\": 1", 1)).unwrap();
    let (report, error) = expect(&run(&["verify", path.to_str().unwrap()]), 4);
    assert!(error.contains("does not hold") && !report.is_empty(), "{report}");
    fs::remove_file(&path).unwrap();
    expect(&run(&["verify", "/nonexistent"]), 1);
}

#[test]
fn a_guard_says_what_is_missing() {
    let directory = std::env::temp_dir().join(format!("echomesh-guard-cli-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (good, bad) = (directory.join("good.yaml"), directory.join("bad.yaml"));
    fs::write(&good, "version: 1\n").unwrap();
    fs::write(&bad, "version: 2\n").unwrap();
    let guard = |config: &Path, user: &str| {
        let config = config.to_str().unwrap();
        let out = run(&["guard", "--print", "--config", config, "--user", user]);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    };
    let (code, printed, _) = guard(&good, "5310");
    assert_eq!(code, Some(0));
    assert!(
        printed.starts_with("table inet echomesh {\n") && printed.contains("meta skuid 5310 goto service")
    );
    let (code, _, said) = guard(&good, "no-such-user");
    assert!(code == Some(2) && said.contains("no such user"), "{said}");
    let (code, _, said) = guard(&good, "0");
    assert!(code == Some(2) && said.contains("root"), "{said}");
    let (code, _, said) = guard(&bad, "5310");
    assert!(code == Some(78) && said.contains("version"), "{said}");
    fs::remove_dir_all(&directory).unwrap();
}

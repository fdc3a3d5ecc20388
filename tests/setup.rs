//! `echomesh setup` as a program: by options, by lines, interrupted, and what it must never touch.
#![allow(clippy::disallowed_methods, reason = "a test of a program runs it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const COORDINATOR_KEY: &str = "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=";

/// A directory of its own with a configuration's place in it.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        let path = std::env::temp_dir().join(format!("echomesh-setup-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Home(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Exit code, standard output, standard error.
    fn run(&self, line: &[&str], typed: &str) -> (i32, String, String) {
        let config = self.file("node.yaml");
        let mut child = Command::new(env!("CARGO_BIN_EXE_echomesh"))
            .args(line)
            .args(["--config", config.to_str().unwrap()])
            .env("HOME", &self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        let out = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn expect((code, out, err): (i32, String, String), wanted: i32) -> (String, String) {
    assert_eq!(code, wanted, "stdout: {out}\nstderr: {err}");
    (out, err)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn options_alone_make_a_valid_configuration_and_a_key() {
    let home = Home::new("options");
    let line = [
        "setup",
        "--region",
        "ph-NCR",
        "--max-mbps",
        "25",
        "--max-gb-per-day",
        "50",
        "--schedule",
        "Mon-Fri 22:00-06:00",
        "--coordinator",
        "https://c.example",
        "--coordinator-key",
        COORDINATOR_KEY,
        "--listen",
        "0.0.0.0:9443",
        "--name",
        "node.example.org",
        "--key",
        "new",
        "--yes",
    ];
    let (out, _) = expect(home.run(&line, ""), 0);
    assert!(out.contains("next: echomesh run --config ") && out.contains("then: echomesh status"), "{out}");
    let key = home.file(".echomesh/node.key");
    assert_eq!((mode(&home.file("node.yaml")), mode(&key)), (0o600, 0o600));
    let (checked, _) = expect(home.run(&["config", "check"], ""), 0);
    assert_eq!(checked.lines().count(), 2, "{checked}");
    let id = expect(home.run(&["keys", "show"], ""), 0).0.lines().next().unwrap().to_owned();
    assert!(out.contains(&id), "{out}");
    // A second time, with less, changes what is given alone; the key stays, and is refused to be made again.
    expect(home.run(&["setup", "--max-mbps", "30", "--yes"], ""), 0);
    let text = home.text("node.yaml");
    assert!(
        text.contains("maxMbps: 30") && text.contains("maxGBPerDay: 50") && text.contains("PH-NCR"),
        "{text}"
    );
    assert!(home.text("node.yaml.bak").contains("maxMbps: 25"));
    let (_, error) = expect(home.run(&["setup", "--key", "new", "--yes"], ""), 4);
    assert!(error.contains("setup never touches one"), "{error}");
    assert!(expect(home.run(&["keys", "show"], ""), 0).0.starts_with(&id));
    assert!(expect(home.run(&["setup", "--yes"], ""), 0).0.contains("configuration as it was"));
}

#[test]
fn what_is_wrong_is_refused_with_its_exit_code_and_nothing_is_written() {
    let home = Home::new("wrong");
    for (line, code, message) in [
        (
            &["--max-mbps", "fast"][..],
            78,
            "--max-mbps fast: network.maxMbps: \"fast\" is not a number; allowed:",
        ),
        (&["--max-gb-per-day", "0"], 78, "network.maxGBPerDay: 0 is out of range"),
        (&["--coordinator", "http://c.example"], 78, "it must begin with https://"),
        (&["--coordinator", "https://c.example"], 78, "coordinator.publicKey: is missing"),
        (&["--schedule", "Moo 22:00-06:00"], 78, "node.schedules[0].days[0]: \"Moo\""),
        (&["--schedule", "Mon-Fri"], 2, "\"Mon-Fri\" is no schedule; allowed: always"),
        (&["--region", "Philippines"], 2, "PH  Philippines"),
        (&["--key", "old"], 2, "\"old\" is neither new, sealed nor keep"),
        (
            &["--colour", "red"],
            2,
            "setup has no option --colour; there are: --config, --uci, --uci-path, --region,",
        ),
        (&["--key", "/nonexistent.pem"], 1, "/nonexistent.pem: "),
        (&["--key", "sealed", "--passphrase-file", "/nonexistent"], 1, "/nonexistent: there is no such file"),
    ] {
        let (_, error) = expect(home.run(&[&["setup", "--yes"], line].concat(), ""), code);
        assert!(error.contains(message), "{line:?}: {error}");
        assert_eq!(home.names(), Vec::<String>::new(), "{line:?}");
    }
    fs::write(home.file("node.yaml"), "version: 2\n").unwrap();
    let (_, error) = expect(home.run(&["setup", "--yes"], ""), 78);
    assert!(error.contains("node.yaml:1: version: 2 is out of range"), "{error}");
    assert_eq!(home.text("node.yaml"), "version: 2\n");
}

#[test]
fn lines_that_end_early_are_kept_and_offered_again() {
    let home = Home::new("resume");
    let (out, error) = expect(home.run(&["setup"], "PH\nfast\n25\n"), 1);
    assert!(out.contains("\"fast\" is not a number"), "{out}");
    assert!(error.contains("nothing was written; what was answered is kept in"), "{error}");
    assert_eq!(home.names(), ["node.yaml.setup"]);
    assert_eq!(mode(&home.file("node.yaml.setup")), 0o600);
    let (_, error) = expect(home.run(&["setup"], "perhaps\nyes\nquit\n"), 1);
    assert!(error.contains("goes on"), "{error}");
    let (out, _) = expect(home.run(&["setup"], "\n\n\n\nnone\n\n\nkeep\nyes\n"), 0);
    assert!(out.contains("2 answers taken over") && out.contains("3/10  GB a day"), "{out}");
    assert!(!out.contains("1/10") && !out.contains("2/10"), "{out}");
    assert!(home.text("node.yaml").contains("maxMbps: 25"));
    assert_eq!(home.names(), ["node.yaml"], "the answers are gone when they are written");
}

#[test]
fn a_no_to_the_offer_begins_anew_and_a_file_that_others_read_is_not_believed() {
    let home = Home::new("anew");
    expect(home.run(&["setup"], "PH\n"), 1);
    let (out, _) = expect(home.run(&["setup"], "no\nDE\n"), 1);
    assert!(out.contains("1/10"), "{out}");
    assert!(home.text("node.yaml.setup").contains("DE") && !home.text("node.yaml.setup").contains("PH"));
    fs::set_permissions(home.file("node.yaml.setup"), fs::Permissions::from_mode(0o644)).unwrap();
    let (_, error) = expect(home.run(&["setup"], ""), 1);
    assert!(error.contains("others may read it") && error.contains("remove it to begin anew"), "{error}");
}

#[test]
fn an_existing_configuration_is_shown_and_replaced_after_a_yes_alone() {
    let home = Home::new("existing");
    let before = "# mine\nversion: 1\nnode:\n  regionAllow: [\"DE\"]\nsecurity:\n  sandboxMode: standard\n";
    fs::write(home.file("node.yaml"), before).unwrap();
    let all = "\n33\n\n\n\n\n\n\nkeep\n";
    let (out, _) = expect(home.run(&["setup"], &format!("{all}quit\n")), 1);
    assert!(out.contains("[DE]:") && out.contains("33 (was: 10)") && out.contains("comments go."), "{out}");
    assert_eq!(home.text("node.yaml"), before);
    fs::remove_file(home.file("node.yaml.setup")).unwrap();
    expect(home.run(&["setup"], &format!("{all}yes\n")), 0);
    assert_eq!(home.text("node.yaml.bak"), before);
    assert!(home.text("node.yaml").contains("sandboxMode: standard"));
}

#[test]
fn a_key_is_sealed_with_a_passphrase_that_is_kept_nowhere_or_taken_over() {
    let home = Home::new("sealed");
    // Typed like everything else where there is no terminal.
    let (out, _) = expect(
        home.run(&["setup", "--coordinator", "none"], "PH\n\n\n\n\n\n\nsealed\nyes\ncorrect horse\n"),
        0,
    );
    assert!(
        out.contains("nodeId: ed25519:") && out.ends_with("at each start: echomesh keys unlock\n"),
        "{out}"
    );
    assert!(home.text(".echomesh/node.key").starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    assert!(!home.text("node.yaml").contains("horse") && home.names() == [".echomesh", "node.yaml"]);
    let other = Home::new("import");
    let key = home.file(".echomesh/node.key");
    let file = other.file("passphrase");
    fs::write(&file, "correct horse\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let line =
        ["setup", "--yes", "--key", key.to_str().unwrap(), "--passphrase-file", file.to_str().unwrap()];
    let (taken, _) = expect(other.run(&line, ""), 0);
    let id = out.lines().find(|l| l.starts_with("nodeId: ")).unwrap();
    assert!(taken.contains(id), "{taken}");
}

#[test]
fn a_short_passphrase_leaves_everything_unwritten_and_the_answers_kept() {
    let home = Home::new("short");
    let lines = "PH\n\n\n\n\nnone\n\n\nsealed\nyes\nshort\n";
    let (_, error) = expect(home.run(&["setup"], lines), 4);
    assert!(error.contains('8'), "{error}");
    assert_eq!(home.names(), ["node.yaml.setup"]);
}

#[test]
fn a_coordinator_that_does_not_answer_is_told() {
    let home = Home::new("check");
    // A port of this machine that nobody listens on any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("https://127.0.0.1:{port}");
    let line = ["setup", "--coordinator", &url, "--coordinator-key", COORDINATOR_KEY, "--check", "--yes"];
    let (_, error) = expect(home.run(&line, ""), 1);
    assert!(error.contains(&format!("{url} does not answer: ")), "{error}");
    assert_eq!(home.names(), Vec::<String>::new());
    // In the dialogue that is no reason to stop.
    let all = "PH\n\n\n\n\n\n\nkeep\ncheck\nyes\n";
    let (out, _) =
        expect(home.run(&["setup", "--coordinator", &url, "--coordinator-key", COORDINATOR_KEY], all), 0);
    assert!(out.contains("does not answer"), "{out}");
}

/// `uci` as far as setup needs it: a package in a file, and what was not committed forgotten.
const FAKE_UCI: &str = r#"#!/bin/sh
here=$(dirname "$0")
case "$*" in
  "-X show echomesh") cat "$here/shown" ;;
  "import echomesh") cat >"$here/imported"; cat "$here/after" >"$here/shown" ;;
  "revert echomesh"|"commit echomesh") echo "$1" >>"$here/log" ;;
  *) echo "uci: what is $*?" >&2; exit 1 ;;
esac
"#;

#[test]
fn on_a_router_it_is_uci_that_is_read_and_written() {
    let home = Home::new("uci");
    let write = |name: &str, text: &str| fs::write(home.file(name), text).unwrap();
    write("uci", FAKE_UCI);
    fs::set_permissions(home.file("uci"), fs::Permissions::from_mode(0o755)).unwrap();
    let key = home.file("key/node.key");
    let shown = |mbps: u32| {
        format!(
            "echomesh.main=echomesh\nechomesh.main.enabled='0'\nechomesh.main.version='1'\nechomesh.node=node\n\
             echomesh.node.id_path='{}'\nechomesh.node.region_allow='PH'\nechomesh.network=network\n\
             echomesh.network.max_mbps='{mbps}'\n",
            key.display()
        )
    };
    write("shown", &shown(10));
    write("after", &shown(30));
    let uci = home.file("uci");
    let line = ["setup", "--uci", "--uci-path", uci.to_str().unwrap(), "--max-mbps", "30", "--key", "new"];
    // Interrupted: the answers are beside the key, since every file in /etc/config is a package.
    let (out, error) = expect(home.run(&line, "\n"), 1);
    assert!(out.contains("[PH]:") && error.contains("key/setup"), "{out}{error}");
    assert!(!home.file("imported").exists() && !key.exists());
    // `uci` says afterwards what the fake has been told to say, and setup reads it back.
    let wrong = expect(home.run(&[&line[..], &["--max-gb-per-day", "7", "--yes"]].concat(), ""), 1).1;
    assert!(wrong.contains("UCI was written and says something else now"), "{wrong}");
    write("shown", &shown(10));
    let line = [&line[..], &["--yes"]].concat();
    write("after", &(shown(30) + "echomesh.relay=relay\nechomesh.relay.listen='0.0.0.0:9443'\n"));
    let (out, _) = expect(home.run(&[&line[..], &["--listen", "0.0.0.0:9443"]].concat(), ""), 0);
    assert!(
        out.contains("open: uci set firewall.echomesh.dest_port=9443; uci set firewall.echomesh.enabled=1"),
        "{out}"
    );
    assert!(out.contains("configuration written: /etc/config/echomesh"), "{out}");
    assert!(out.contains("next: uci set echomesh.main.enabled=1; uci commit echomesh"), "{out}");
    let imported = home.text("imported");
    for wanted in
        ["config echomesh 'main'", "option enabled '0'", "option max_mbps '30'", "list region_allow 'PH'"]
    {
        assert!(imported.contains(wanted), "{imported}");
    }
    assert!(!imported.contains("max_gb_per_day") && key.exists() && !home.file("key/setup").exists());
    assert!(!home.file("node.yaml").exists());
    // A failure of uci is told in its own words, and one of the package by what is wrong with it.
    write("uci", "#!/bin/sh\necho 'uci: Entry not found' >&2; exit 1\n");
    let (_, error) =
        expect(home.run(&["setup", "--yes", "--uci", "--uci-path", uci.to_str().unwrap()], ""), 1);
    assert!(error.contains("uci: Entry not found"), "{error}");
    write("uci", FAKE_UCI);
    write("shown", "echomesh.main=echomesh\nechomesh.main.version='2'\n");
    let (_, error) =
        expect(home.run(&["setup", "--yes", "--uci", "--uci-path", uci.to_str().unwrap()], ""), 78);
    assert!(error.contains("2 is out of range"), "{error}");
}

use super::super::tests::schema::assert_valid;
use super::*;
use crate::config::Store;
use crate::meter::{LOG_CAPACITY, LogStore};
use async_executor::LocalExecutor;
use futures_lite::future::{block_on, poll_once};
use std::path::PathBuf;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::from_file(text.as_bytes()).unwrap()
}

/// A folder with a key that "correct horse" opens, and a configuration that may name a passphrase file.
fn setup(name: &str, file: Option<&str>) -> (Folder, Vault, Store, Config) {
    let path = std::env::temp_dir().join(format!("echomesh-locked-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let vault = Vault::at(path.join("node.key")).quick();
    vault.generate(Some(&passphrase("correct horse"))).unwrap();
    let line = file.map(|f| format!("security: {{ passphraseFile: {} }}\n", path.join(f).display()));
    let text =
        format!("version: 1\nnode: {{ idPath: {} }}\n{}", vault.path().display(), line.unwrap_or_default());
    let store = Store::open(path.join("config.yaml"), Platform::Other);
    std::fs::write(store.path(), text).unwrap();
    let config = store.load().unwrap();
    (Folder(path), vault, store, config)
}

/// The logs beside the key, as they are on the disk.
fn log(folder: &Folder) -> AccessLog {
    let open = |name| LogStore::open(&folder.0.join("log"), name, LOG_CAPACITY).unwrap();
    AccessLog { store: open("access"), bundles: open("bundles"), key: [9; 32] }
}

fn locked(name: &str) -> (Folder, Locked) {
    let (folder, vault, store, config) = setup(name, None);
    let Ok(Opened::Locked(why)) = open(&vault, &config) else { panic!() };
    let sandbox = super::super::sandbox::Sandbox::unconfined(config.security.sandbox_mode).to_value();
    let log = log(&folder);
    let place = (Source::File(store), Platform::Other, sandbox);
    (folder, Locked::new(vault, place, (config, Vec::new()), why, log))
}

#[test]
fn a_locked_node_says_so_and_the_way_out_and_does_nothing() {
    let (_folder, locked) = locked("status");
    let status = locked.status();
    assert_valid(&status, "status");
    let member = |name: &str| status.member(name).unwrap().as_str();
    assert_eq!((member("state"), member("nodeId")), (Some("locked"), None));
    assert!(member("reason").unwrap().contains("echomesh keys unlock"));
    assert_eq!(locked.health().checks, [("key", false)]);
    assert!(Action::ALL.iter().all(|a| locked.control(*a) == Err(Problem::locked())));
    assert_eq!(locked.export(Archive::Access, None).err(), Some(Problem::locked()));
    assert_eq!(locked.close_session("x"), Err(Problem::session_unknown()));
    let metrics = crate::api::metrics::render(&status);
    assert!(metrics.contains("state=\"locked\"} 1\n"), "{metrics}");
}

#[test]
fn the_right_passphrase_opens_it_once() {
    let (_folder, locked) = locked("right");
    let key = block_on(async {
        let node_id = locked.unlock(passphrase("correct horse")).await.unwrap();
        let key = locked.opened().await;
        assert_eq!(key.node_id(), node_id);
        key
    });
    assert_eq!(locked.0.vault.load(Some(&passphrase("correct horse"))).unwrap().public(), key.public());
}

#[test]
fn wrong_passphrases_are_told_and_slowed_down_and_the_right_one_waits_too() {
    let (_folder, locked) = locked("wrong");
    block_on(async {
        assert_eq!(locked.unlock(passphrase("battery staple")).await, Err(Problem::wrong_passphrase()));
        let problem = locked.unlock(passphrase("correct horse")).await.unwrap_err();
        assert_eq!((problem.status, problem.slug), (429, "rate-limited"));
        assert_eq!(problem.field, Some(("Retry-After", "1".to_owned())));
    });
    assert!(locked.0.key.borrow().is_none());
}

#[test]
fn one_passphrase_is_tried_at_a_time() {
    let (_folder, locked) = locked("busy");
    let executor = LocalExecutor::new();
    let tries = [0, 1, 2].map(|_| executor.spawn(locked.unlock(passphrase("correct horse"))));
    let slugs = block_on(executor.run(async {
        let mut slugs = Vec::new();
        for task in tries {
            slugs.push(task.await.map_err(|p| p.slug).err());
        }
        slugs
    }));
    assert_eq!(slugs, [None, Some("rate-limited"), Some("rate-limited")]);
}

#[test]
fn the_passphrase_file_opens_the_key_at_the_start() {
    let (folder, vault, _store, config) = setup("file", Some("passphrase"));
    let why = |opened| match opened {
        Ok(Opened::Locked(why)) => why,
        _ => panic!(),
    };
    let file = folder.0.join("passphrase");
    assert!(why(open(&vault, &config)).contains("there is no such file"));
    files::create(&file, b"battery staple\n").unwrap();
    assert_eq!(why(open(&vault, &config)), "the passphrase in security.passphraseFile is wrong");
    files::replace(&file, b"correct horse\n").unwrap();
    assert!(matches!(open(&vault, &config), Ok(Opened::Key(_, false))));
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&file, readable).unwrap();
    assert!(why(open(&vault, &config)).contains("others may read it (mode 0644)"));
}

#[test]
fn a_key_made_beside_a_passphrase_file_is_sealed_and_none_is_made_without_it() {
    let (folder, vault, _store, config) = setup("made", Some("passphrase"));
    vault.wipe().unwrap();
    let Err(why) = open(&vault, &config) else { panic!() };
    assert!(why.starts_with("no key is made: security.passphraseFile: "), "{why}");
    assert!(matches!(vault.state().unwrap(), KeyState::Absent));
    files::create(&folder.0.join("passphrase"), b"correct horse\n").unwrap();
    assert!(matches!(open(&vault, &config), Ok(Opened::Key(_, true))));
    assert!(matches!(vault.state().unwrap(), KeyState::Locked));
}

#[test]
fn the_configuration_can_be_changed_and_a_passphrase_file_in_it_is_tried() {
    let (folder, locked) = locked("reload");
    let (mut document, etag) = locked.config();
    let file = folder.0.join("passphrase");
    files::create(&file, b"correct horse").unwrap();
    let mut security = document.member("security").cloned().unwrap();
    security.set("passphraseFile", file.to_str().unwrap());
    document.set("security", security);
    block_on(locked.put_config(document)).unwrap();
    assert_ne!(locked.config().1, etag);
    assert!(locked.0.key.borrow().is_none());
    block_on(async {
        locked.read_again().await;
        locked.opened().await;
    });
    let errors = block_on(locked.put_config(object([("version", 2.into())]))).unwrap_err();
    assert_eq!(errors.slug, "config-invalid");
}

/// Writes a line of so many days ago into both logs of a locked node.
fn write_lines(locked: &Locked, days: &[i64]) {
    let mut log = locked.0.log.borrow_mut();
    let log = log.as_mut().unwrap();
    for days in days {
        let t = Unix(locked.0.clock.now().unix().0 - days * DAY - 60);
        log.store.append(format!("{{\"port\":443,\"t\":\"{t}\"}}\n").as_bytes()).unwrap();
        log.bundles.append(format!("{{\"windowEnd\":\"{t}\"}}\n").as_bytes()).unwrap();
    }
    log.store.flush().unwrap();
    log.bundles.flush().unwrap();
}

/// Lines of the access log and of what was billed, on the disk.
fn lines(folder: &Folder) -> (usize, usize) {
    let log = log(folder);
    let count = |store: &LogStore| store.export(None).unwrap().split(|b| *b == b'\n').count() - 1;
    (count(&log.store), count(&log.bundles))
}

#[test]
fn what_is_too_old_leaves_the_logs_while_the_key_is_locked() {
    let (folder, locked) = locked("retention");
    write_lines(&locked, &[9, 8, 3, 0]);
    assert!(block_on(poll_once(locked.keep_retention())).is_none(), "it goes on, a day later");
    assert_eq!(lines(&folder), (2, 2));
    let (mut document, _) = locked.config();
    document.set("privacy", object([("retentionDays", 2.into())]));
    block_on(locked.put_config(document)).unwrap();
    assert_eq!(lines(&folder), (1, 1));
    write_lines(&locked, &[1]);
    let mut text = std::fs::read_to_string(locked.0.source.path().unwrap()).unwrap();
    text = text.replace("retentionDays: 2", "retentionDays: 1");
    std::fs::write(locked.0.source.path().unwrap(), text).unwrap();
    block_on(locked.read_again());
    assert_eq!((locked.0.config.borrow().privacy.retention_days, lines(&folder)), (1, (1, 1)));
    assert!(locked.take_log().is_some() && !locked.0.expire_log());
}

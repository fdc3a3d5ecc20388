use super::*;

/// A directory of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("echomesh-store-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const OLD: &str = "# mine\nversion: 1\nnetwork: { maxMbps: 5 }\n";

fn with_old(folder: &Path) -> (Store, Config) {
    let path = folder.join("node.yaml");
    fs::write(&path, OLD).unwrap();
    let store = Store::open(path, Platform::Other);
    let mut config = store.load().unwrap();
    config.network.max_mbps = 6.5;
    (store, config)
}

#[test]
fn a_saved_configuration_is_loaded_again_and_the_old_file_is_kept() {
    let folder = Folder::new("saved");
    let (store, config) = with_old(&folder.0);
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(store.save(&config).unwrap(), Saved::Replaced);
    assert_eq!(store.load().unwrap(), config);
    assert_eq!(fs::read_to_string(folder.0.join("node.yaml.bak")).unwrap(), OLD);
    assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(names(&folder.0), ["node.yaml", "node.yaml.bak"]);
}

#[test]
fn a_configuration_that_says_the_same_is_not_written() {
    let folder = Folder::new("same");
    let (store, _) = with_old(&folder.0);
    assert_eq!(store.save(&store.load().unwrap()).unwrap(), Saved::Unchanged);
    assert_eq!(fs::read_to_string(store.path()).unwrap(), OLD);
    assert_eq!(names(&folder.0), ["node.yaml"]);
}

#[test]
fn a_json_file_stays_json_and_a_link_stays_a_link() {
    let folder = Folder::new("json");
    let (_, config) = with_old(&folder.0);
    let (real, link) = (folder.0.join("real.json"), folder.0.join("link.json"));
    fs::write(&real, "{\"version\": 1}").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let store = Store::open(&link, Platform::Other);
    store.save(&config).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().starts_with("{\n  \"version\": 1,"));
    assert_eq!(store.load().unwrap(), config);
}

#[test]
fn a_router_s_file_keeps_what_is_the_service_script_s() {
    let folder = Folder::new("uci");
    let path = folder.0.join("echomesh");
    fs::write(&path, "config echomesh 'main'\n\toption enabled '1'\n\toption version '1'\n").unwrap();
    let store = Store::open(&path, Platform::OpenWrt);
    let mut config = store.load().unwrap();
    config.network.max_mbps = 6.5;
    assert_eq!(store.save(&config).unwrap(), Saved::Replaced);
    let begins = "config echomesh 'main'\n\toption enabled '1'\n\toption version '1'\n";
    assert!(fs::read_to_string(&path).unwrap().starts_with(begins));
    assert_eq!(store.load().unwrap(), config);
    let document =
        crate::json::parse(br#"{"version":1,"network":{"allowlistDomains":[],"maxMbps":7}}"#).unwrap();
    assert_eq!(store.save_document(&document).unwrap(), Saved::Replaced);
    assert!(fs::read_to_string(&path).unwrap().starts_with(begins));
    assert_eq!(store.load().unwrap().network.max_mbps, 7.0);
}

#[test]
fn a_failure_leaves_the_old_file_and_nothing_else() {
    for obstacle in ["node.yaml.new", "node.yaml.bak"] {
        let folder = Folder::new(obstacle);
        let (store, config) = with_old(&folder.0);
        fs::create_dir_all(folder.0.join(obstacle).join("full")).unwrap();
        let error = store.save(&config).unwrap_err();
        assert!(matches!(error, StoreError::NotWritten(..)), "{error}");
        assert!(error.to_string().contains("the old one stands"), "{error}");
        assert_eq!(fs::read_to_string(store.path()).unwrap(), OLD);
        assert!(!folder.0.join("node.yaml.new").is_file());
    }
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = Folder::new("full");
    // A file system of its own, in a mount namespace of its own, for this test's second half.
    let script = "mount -t tmpfs -o size=32k tmpfs \"$ECHOMESH_FULL\" && exec \"$0\" --ignored --exact \
                  config::store::tests::second_half_on_a_full_disk";
    #[allow(clippy::disallowed_methods, reason = "a test needs a namespace of its own")]
    let out = std::process::Command::new("unshare")
        .args(["-r", "-m", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("ECHOMESH_FULL", &folder.0)
        .output();
    let Ok(out) = out else { return };
    let said = String::from_utf8_lossy(&out.stdout);
    if said.contains("running 1 test") {
        assert!(out.status.success(), "{said}");
    }
}

#[test]
#[ignore = "run by a_full_disk_leaves_the_old_file"]
fn second_half_on_a_full_disk() {
    let folder = PathBuf::from(std::env::var_os("ECHOMESH_FULL").unwrap());
    let (store, config) = with_old(&folder);
    let mut filler = File::create(folder.join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    let error = store.save(&config).unwrap_err();
    let StoreError::NotWritten(_, cause) = &error else { panic!("{error}") };
    assert_eq!(cause.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(fs::read_to_string(store.path()).unwrap(), OLD);
    assert_eq!(names(&folder), ["filler", "node.yaml"]);
}

#[test]
fn a_missing_an_unreadable_and_an_invalid_file_are_told_apart() {
    let folder = Folder::new("missing");
    let load = |name: &str| Store::open(folder.0.join(name), Platform::Other).load().unwrap_err();
    let missing = load("none.yaml");
    assert!(matches!(missing, StoreError::Missing(_)));
    assert!(missing.to_string().contains("`echomesh config init > "), "{missing}");
    fs::create_dir(folder.0.join("folder.yaml")).unwrap();
    assert!(matches!(load("folder.yaml"), StoreError::Unreadable(..)));
    fs::write(folder.0.join("bad.yaml"), "version: 3").unwrap();
    let invalid = load("bad.yaml").to_string();
    assert!(invalid.ends_with("bad.yaml:1: version: 3 is out of range; allowed: 1"), "{invalid}");
    fs::write(folder.0.join("big.yaml"), vec![b'#'; MAX_TEXT + 1]).unwrap();
    assert!(load("big.yaml").to_string().contains("the text has 262145 bytes"));
}

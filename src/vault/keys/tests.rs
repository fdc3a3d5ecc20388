use super::*;
use crate::vault::BadPassphrase;
use crate::vault::files::tests::{Folder, mode};
use crate::vault::seal::SealError;

const NOW: Unix = Unix(1_766_152_800);

fn vault(folder: &Folder) -> Vault {
    Vault::at(folder.0.join("node.key")).quick()
}

#[allow(clippy::disallowed_methods, reason = "openssl is the oracle")]
fn openssl(args: &[&str]) -> Vec<u8> {
    let out = std::process::Command::new("openssl").args(args).output().expect("openssl is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(&folder.0).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_key_is_made_once() {
    let folder = Folder::new("once");
    let vault = vault(&folder);
    assert!(matches!(vault.state().unwrap(), KeyState::Absent));
    assert!(matches!(vault.load(None).unwrap_err(), VaultError::File(FileError::Missing(_))));
    let (first, made) = vault.load_or_generate(None).unwrap();
    let (second, again) = vault.load_or_generate(None).unwrap();
    assert_eq!((made, again, first.public()), (true, false, second.public()));
    assert_eq!(mode(vault.path()), 0o600);
    assert!(matches!(vault.generate(None).unwrap_err(), VaultError::File(FileError::Exists(_))));
}

#[test]
fn openssl_reads_the_key_and_its_keys_are_read() {
    let folder = Folder::new("openssl");
    let vault = vault(&folder);
    let key = vault.generate(None).unwrap();
    let path = vault.path().to_str().unwrap();
    let spki = openssl(&["pkey", "-in", path, "-pubout", "-outform", "DER"]);
    assert_eq!(spki[12..], key.public().as_bytes()[..]);
    let other = openssl(&["genpkey", "-algorithm", "ed25519"]);
    let imported = vault.import(&other, None, NOW).unwrap();
    let spki = openssl(&["pkey", "-in", path, "-pubout", "-outform", "DER"]);
    assert_eq!(spki[12..], imported.public().as_bytes()[..]);
    assert_ne!(imported.public(), key.public());
}

#[test]
fn a_rotation_keeps_the_old_key_and_its_word_for_the_new_until_that_is_registered() {
    let folder = Folder::new("rotation");
    let vault = vault(&folder);
    let old = vault.generate(None).unwrap();
    assert_eq!(vault.previous(&old).unwrap(), None);
    let rotation = vault.rotate(None, NOW).unwrap();
    let new = vault.load(None).unwrap();
    assert_eq!((rotation.old, rotation.new), (old.node_id(), new.node_id()));
    assert_ne!(old.public(), new.public());
    let kept = Vault::at(&rotation.kept);
    assert!(rotation.kept.ends_with("node.key.old-2025-12-19"));
    assert_eq!(kept.load(None).unwrap().public(), old.public());

    let previous = vault.previous(&new).unwrap().unwrap();
    assert_eq!(previous.member("nodeId").unwrap().as_str(), Some(old.node_id().as_str()));
    let signature = crate::encoding::from_base64(previous.member("sig").unwrap().as_str().unwrap()).unwrap();
    let bytes = format!("echomesh:rotation:v1\n{{\"nodeId\":\"{}\"}}", new.node_id());
    assert!(old.public().verifies(bytes.as_bytes(), &signature));

    assert!(matches!(vault.rotate(None, NOW).unwrap_err(), VaultError::RotationPending));
    assert_eq!(vault.load(None).unwrap().public(), new.public());
    vault.registered().unwrap();
    vault.registered().unwrap();
    assert_eq!(vault.previous(&new).unwrap(), None);
    assert!(vault.rotate(None, NOW).unwrap().kept.ends_with("node.key.old-2025-12-19-2"));
}

#[test]
fn a_rotation_that_broke_off_leaves_the_old_key_in_force() {
    let folder = Folder::new("broken");
    let vault = vault(&folder);
    let old = vault.generate(None).unwrap();
    let backup = vault.export(None, true).unwrap();
    vault.rotate(None, NOW).unwrap();
    // As if the power had failed before the key file was replaced.
    files::replace(vault.path(), backup.as_bytes()).unwrap();
    assert_eq!(vault.previous(&old).unwrap(), None);
    let again = vault.rotate(None, NOW).unwrap();
    assert_eq!(again.old, old.node_id());
}

#[test]
fn import_never_loses_what_was_there() {
    let folder = Folder::new("import");
    let vault = vault(&folder);
    let first = vault.generate(None).unwrap();
    let exported = vault.export(None, true).unwrap();
    assert_eq!(vault.import(exported.as_bytes(), None, NOW).unwrap().public(), first.public());
    assert_eq!(names(&folder), ["node.key"]);
    let second = vault.import(pem::write(&[7; 32]).as_bytes(), None, NOW).unwrap();
    assert_eq!(vault.load(None).unwrap().public(), second.public());
    let kept = Vault::at(folder.0.join("node.key.old-2025-12-19"));
    assert_eq!(kept.load(None).unwrap().public(), first.public());
    assert!(matches!(vault.import(b"nonsense", None, NOW).unwrap_err(), VaultError::NotAKey(_)));
    assert_eq!(vault.load(None).unwrap().public(), second.public());
}

#[test]
fn keys_kept_in_one_day_are_bounded() {
    let folder = Folder::new("bounded");
    let vault = vault(&folder);
    vault.generate(None).unwrap();
    for n in 0..MAX_KEPT_PER_DAY {
        vault.keep_old(NOW).unwrap_or_else(|e| panic!("{n}: {e}"));
    }
    assert!(matches!(vault.keep_old(NOW).unwrap_err(), VaultError::TooManyKept(_)));
}

#[test]
fn a_damaged_key_is_an_error_without_its_content() {
    let folder = Folder::new("damaged");
    let vault = vault(&folder);
    files::create(vault.path(), b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----").unwrap();
    let error = vault.load_or_generate(None).unwrap_err();
    assert!(matches!(error, VaultError::NotAKey(_)));
    assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
    files::replace(vault.path(), pem::write_sealed(&[7; 100]).as_bytes()).unwrap();
    let error = vault.load_or_generate(None).unwrap_err();
    assert!(matches!(error, VaultError::Seal(_, SealError::Malformed)), "{error:?}");
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::from_file(text.as_bytes()).unwrap()
}

fn is_wrong<T: std::fmt::Debug>(result: Result<T, VaultError>) -> bool {
    matches!(result.unwrap_err(), VaultError::Seal(_, SealError::WrongPassphrase))
}

#[test]
fn a_sealed_key_needs_its_passphrase_for_everything() {
    let folder = Folder::new("sealed");
    let vault = vault(&folder);
    let (right, wrong) = (passphrase("correct horse"), passphrase("battery staple"));
    let key = vault.generate(None).unwrap();
    assert!(matches!(vault.unseal(&right).unwrap_err(), VaultError::NotSealed(_)));
    let done = vault.seal(None, &right).unwrap();
    assert_eq!((done.sealed, done.left), (vec![vault.path().to_owned()], vec![]));
    assert!(matches!(vault.state().unwrap(), KeyState::Locked));
    assert_eq!((mode(vault.path()), names(&folder)), (0o600, vec!["node.key".to_owned()]));
    assert!(matches!(vault.load(None).unwrap_err(), VaultError::Locked(_)));
    assert!(matches!(vault.export(None, false).unwrap_err(), VaultError::Locked(_)));
    assert!(matches!(vault.rotate(None, NOW).unwrap_err(), VaultError::Locked(_)));
    assert!(matches!(vault.load_or_generate(None).unwrap_err(), VaultError::Locked(_)));
    assert!(is_wrong(vault.load(Some(&wrong))) && is_wrong(vault.export(Some(&wrong), false)));
    assert!(is_wrong(vault.rotate(Some(&wrong), NOW)) && is_wrong(vault.unseal(&wrong)));
    assert!(is_wrong(vault.seal(Some(&wrong), &right)));
    assert_eq!(names(&folder), ["node.key"]);
    assert_eq!(vault.load(Some(&right)).unwrap().public(), key.public());
    let file = fs::read_to_string(vault.path()).unwrap();
    assert_eq!(**vault.export(Some(&right), false).unwrap(), file);
    assert!(vault.export(Some(&right), true).unwrap().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(vault.unseal(&right).unwrap().public(), key.public());
    assert_eq!(vault.load(None).unwrap().public(), key.public());
}

#[test]
fn sealing_leaves_no_plain_copy_of_this_key_or_an_old_one() {
    let folder = Folder::new("sealing");
    let vault = vault(&folder);
    vault.generate(None).unwrap();
    let first = vault.export(None, true).unwrap();
    let kept = vault.rotate(None, NOW).unwrap().kept;
    let second = vault.export(None, true).unwrap();
    let witness = folder.0.join("witness");
    files::link(&kept, &witness).unwrap();
    let (one, two) = (passphrase("passphrase one"), passphrase("passphrase two"));
    assert_eq!(vault.seal(None, &one).unwrap().sealed, [kept.clone(), vault.path().to_owned()]);
    for entry in fs::read_dir(&folder.0).unwrap() {
        let text = fs::read(entry.unwrap().path()).unwrap();
        for secret in [&first, &second] {
            let inner = secret.lines().nth(1).unwrap().as_bytes();
            assert!(!text.windows(inner.len()).any(|w| w == inner));
        }
    }
    assert!(fs::read(&witness).unwrap().iter().all(|b| *b == 0));
    assert_eq!(vault.seal(Some(&one), &two).unwrap().sealed.len(), 2);
    assert!(is_wrong(vault.load(Some(&one))));
    assert!(Vault::at(&kept).load(Some(&two)).is_ok());
    // One that an older passphrase seals is left and told.
    let text = fs::read(&kept).unwrap();
    vault.seal(Some(&two), &one).unwrap();
    files::replace(&kept, &text).unwrap();
    let done = vault.seal(Some(&one), &two).unwrap();
    assert_eq!((done.sealed.len(), done.left), (1, vec![kept]));
}

#[test]
fn a_sealed_key_s_successor_and_a_sealed_import_are_sealed() {
    let folder = Folder::new("successor");
    let vault = vault(&folder);
    let (own, other) = (passphrase("own passphrase"), passphrase("other passphrase"));
    let key = vault.generate(Some(&own)).unwrap();
    let rotation = vault.rotate(Some(&own), NOW).unwrap();
    assert!(matches!(vault.state().unwrap(), KeyState::Locked));
    assert_eq!(vault.load(Some(&own)).unwrap().node_id(), rotation.new);
    assert_eq!(Vault::at(&rotation.kept).load(Some(&own)).unwrap().public(), key.public());

    let elsewhere = Folder::new("elsewhere");
    let source = self::vault(&elsewhere);
    let imported = source.generate(None).unwrap();
    assert!(matches!(source.export(None, false).unwrap_err(), VaultError::NotSealed(_)));
    let text = source.export(Some(&other), false).unwrap();
    assert!(matches!(vault.import(text.as_bytes(), None, NOW).unwrap_err(), VaultError::Locked(_)));
    assert!(is_wrong(vault.import(text.as_bytes(), Some(&own), NOW)));
    vault.import(text.as_bytes(), Some(&other), NOW).unwrap();
    assert_eq!(vault.load(Some(&other)).unwrap().public(), imported.public());
}

#[test]
fn a_short_passphrase_seals_nothing() {
    let folder = Folder::new("short");
    let vault = vault(&folder);
    let short = passphrase("1234567");
    let refused = |e: VaultError| matches!(e, VaultError::Passphrase(BadPassphrase::TooShort));
    assert!(refused(vault.generate(Some(&short)).unwrap_err()));
    assert!(names(&folder).is_empty());
    vault.generate(None).unwrap();
    assert!(refused(vault.seal(None, &short).unwrap_err()));
    assert!(refused(vault.export(Some(&short), false).unwrap_err()));
    assert!(matches!(vault.state().unwrap(), KeyState::Ready(_)));
}

#[test]
fn openssl_opens_what_is_sealed_and_what_it_seals_is_opened() {
    let folder = Folder::new("sealed-openssl");
    let vault = vault(&folder);
    let secret = passphrase("correct horse");
    let key = vault.generate(Some(&secret)).unwrap();
    let path = vault.path().to_str().unwrap().to_owned();
    let (pass, out) = ("pass:correct horse", ["-pubout", "-outform", "DER"]);
    let spki = openssl(&[&["pkey", "-in", &path, "-passin", pass][..], &out].concat());
    assert_eq!(spki[12..], key.public().as_bytes()[..]);
    #[allow(clippy::disallowed_methods, reason = "openssl is the oracle")]
    let wrong =
        std::process::Command::new("openssl").args(["pkey", "-in", &path, "-passin", "pass:wrong"]).output();
    assert!(!wrong.unwrap().status.success());

    let plain = folder.0.join("plain");
    files::create(&plain, &openssl(&["genpkey", "-algorithm", "ed25519"])).unwrap();
    let plain = plain.to_str().unwrap();
    let public = openssl(&[&["pkey", "-in", plain][..], &out].concat());
    for way in [&["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"][..], &["-scrypt"]] {
        let sealed = openssl(&[&["pkcs8", "-topk8", "-in", plain, "-passout", pass][..], way].concat());
        assert_eq!(vault.import(&sealed, Some(&secret), NOW).unwrap().public().as_bytes(), &public[12..]);
        assert!(is_wrong(vault.import(&sealed, Some(&passphrase("wrong")), NOW)));
    }
    for way in
        [&["-v2", "aes-128-cbc"][..], &["-v2", "des3"], &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"]]
    {
        let sealed = openssl(&[&["pkcs8", "-topk8", "-in", plain, "-passout", pass][..], way].concat());
        let error = vault.import(&sealed, Some(&secret), NOW).unwrap_err();
        assert!(matches!(error, VaultError::Seal(_, SealError::Unsupported)), "{way:?}: {error:?}");
    }
}

#[test]
fn wipe_takes_the_keys_and_nothing_else() {
    let folder = Folder::new("wipe");
    let vault = vault(&folder);
    vault.generate(None).unwrap();
    vault.rotate(None, NOW).unwrap();
    fs::write(folder.0.join("node.key.wiping"), "x").unwrap();
    for other in ["node.keys", "tls.key", "node.key.note"] {
        fs::write(folder.0.join(other), "x").unwrap();
    }
    assert_eq!(vault.wipe().unwrap().len(), 4);
    assert_eq!(names(&folder), ["node.key.note", "node.keys", "tls.key"]);
}

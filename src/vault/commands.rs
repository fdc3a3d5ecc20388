//! What `echomesh keys …` does, as functions from arguments to text.
use super::error::VaultError;
use super::keys::{KeyState, Vault};
use super::secret::Passphrase;
use crate::time::Unix;
use zeroize::Zeroizing;

/// `keys show`: NodeID, file and state; nothing secret.
pub fn show(vault: &Vault) -> Result<String, VaultError> {
    let file = vault.path().display();
    Ok(match vault.state()? {
        KeyState::Absent => format!(
            "state: absent\nfile: {file}\nThe key is made at the first start, or by `echomesh keys generate`.\n"
        ),
        KeyState::Locked => {
            format!("state: sealed\nfile: {file}\nThe NodeID shows once the passphrase is given.\n")
        }
        KeyState::Ready(key) => {
            let pending = match vault.previous(&key)? {
                Some(_) => "rotation: not registered at the coordinator yet\n",
                None => "",
            };
            format!("nodeId: {}\nstate: ready\nfile: {file}\n{pending}", key.node_id())
        }
    })
}

/// `keys generate`: makes the key if there is none, sealed if there is a passphrase.
pub fn generate(vault: &Vault, passphrase: Option<&Passphrase>) -> Result<String, VaultError> {
    Ok(format!("nodeId: {}\nfile: {}\n", vault.generate(passphrase)?.node_id(), vault.path().display()))
}

/// `keys export`: the key sealed, or with `--plain --yes` as it is; PKCS#8 PEM.
pub fn export(
    vault: &Vault,
    passphrase: Option<&Passphrase>,
    plain: bool,
    yes: bool,
) -> Result<Zeroizing<String>, VaultError> {
    let what = "the private key would be printed without a seal, and whoever has it is this node; say --plain --yes if \
                that is meant";
    if yes || !plain { vault.export(passphrase, plain) } else { Err(VaultError::Unconfirmed(what)) }
}

/// `keys import FILE`: takes the key in the text as this node's.
pub fn import(
    vault: &Vault,
    text: &[u8],
    passphrase: Option<&Passphrase>,
    now: Unix,
) -> Result<String, VaultError> {
    let key = vault.import(text, passphrase, now)?;
    Ok(format!("nodeId: {}\nA running node takes it at its next start.\n", key.node_id()))
}

/// `keys seal`: a passphrase for a plain key, or another one for a sealed key.
pub fn seal(vault: &Vault, old: Option<&Passphrase>, new: &Passphrase) -> Result<String, VaultError> {
    let done = vault.seal(old, new)?;
    let mut text = String::new();
    for path in &done.sealed {
        text.push_str(&format!("sealed: {}\n", path.display()));
    }
    for path in &done.left {
        text.push_str(&format!("left as it was, sealed with another passphrase: {}\n", path.display()));
    }
    text.push_str(
        "Plain files were overwritten. On flash an old copy may stay in worn blocks: `echomesh keys rotate` makes it \
         worthless.\nAt each start the node waits for `echomesh keys unlock`, unless security.passphraseFile names a file \
         with the passphrase.\n",
    );
    Ok(text)
}

/// `keys unseal --yes`: the key as a file that needs no passphrase.
pub fn unseal(vault: &Vault, passphrase: &Passphrase, yes: bool) -> Result<String, VaultError> {
    let what = "the key would lie in its file without a seal; say --yes if that is meant";
    if !yes {
        return Err(VaultError::Unconfirmed(what));
    }
    let key = vault.unseal(passphrase)?;
    Ok(format!("nodeId: {}\nfile: {} (mode 0600, not sealed)\n", key.node_id(), vault.path().display()))
}

/// `keys rotate`: a new key, vouched for by the old one.
pub fn rotate(vault: &Vault, passphrase: Option<&Passphrase>, now: Unix) -> Result<String, VaultError> {
    let done = vault.rotate(passphrase, now)?;
    let kept = done.kept.display();
    Ok(format!(
        "nodeId: {}\nbefore: {}\nkept: {kept}\nA running node takes it, and tells the coordinator, at its next start.\n",
        done.new, done.old
    ))
}

/// `keys wipe --yes`: destroys the key and those kept aside.
pub fn wipe(vault: &Vault, yes: bool) -> Result<String, VaultError> {
    let what = "the key and with it the node's identity and reputation would be gone for good; say --yes if that is meant";
    if !yes {
        return Err(VaultError::Unconfirmed(what));
    }
    let gone = vault.wipe()?;
    Ok(gone.iter().map(|path| format!("destroyed: {}\n", path.display())).collect())
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::Folder;
    use super::*;

    #[test]
    fn what_cannot_be_undone_needs_a_yes() {
        let folder = Folder::new("commands");
        let vault = Vault::at(folder.0.join("node.key"));
        assert!(show(&vault).unwrap().starts_with("state: absent\n"));
        generate(&vault, None).unwrap();
        assert!(matches!(export(&vault, None, true, false).unwrap_err(), VaultError::Unconfirmed(_)));
        assert!(matches!(wipe(&vault, false).unwrap_err(), VaultError::Unconfirmed(_)));
        let exported = export(&vault, None, true, true).unwrap();
        assert!(exported.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let secret = exported.lines().nth(1).unwrap().get(24..).unwrap();
        let told = [
            show(&vault),
            rotate(&vault, None, Unix(0)),
            show(&vault),
            import(&vault, exported.as_bytes(), None, Unix(0)),
        ];
        let told = told.map(Result::unwrap).concat();
        assert!(told.contains("rotation: not registered") && !told.contains(secret), "{told}");
        assert_eq!(wipe(&vault, true).unwrap().lines().count(), 4);
        assert!(show(&vault).unwrap().starts_with("state: absent\n"));
    }
}

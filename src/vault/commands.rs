//! What `echomesh keys …` does, as functions from arguments to text.
use super::keys::{KeyState, Vault, VaultError};
use crate::time::Unix;
use zeroize::Zeroizing;

/// `keys show`: NodeID, file and state; nothing secret.
pub fn show(vault: &Vault) -> Result<String, VaultError> {
    let file = vault.path().display();
    Ok(match vault.state()? {
        KeyState::Absent => format!(
            "state: absent\nfile: {file}\nThe key is made at the first start, or by `echomesh keys generate`.\n"
        ),
        KeyState::Locked => format!("state: locked\nfile: {file}\n"),
        KeyState::Ready(key) => {
            let pending = match vault.previous(&key)? {
                Some(_) => "rotation: not registered at the coordinator yet\n",
                None => "",
            };
            format!("nodeId: {}\nstate: ready\nfile: {file}\n{pending}", key.node_id())
        }
    })
}

/// `keys generate`: makes the key if there is none.
pub fn generate(vault: &Vault) -> Result<String, VaultError> {
    Ok(format!("nodeId: {}\nfile: {}\n", vault.generate()?.node_id(), vault.path().display()))
}

/// `keys export --yes`: the private key, PKCS#8 PEM.
pub fn export(vault: &Vault, yes: bool) -> Result<Zeroizing<String>, VaultError> {
    let what =
        "the private key would be printed, and whoever has it is this node; say --yes if that is meant";
    if yes { vault.export() } else { Err(VaultError::Unconfirmed(what)) }
}

/// `keys import FILE`: takes the key in the text as this node's.
pub fn import(vault: &Vault, text: &[u8], now: Unix) -> Result<String, VaultError> {
    let key = vault.import(text, now)?;
    Ok(format!("nodeId: {}\nA running node takes it at its next start.\n", key.node_id()))
}

/// `keys rotate`: a new key, vouched for by the old one.
pub fn rotate(vault: &Vault, now: Unix) -> Result<String, VaultError> {
    let done = vault.rotate(now)?;
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
        generate(&vault).unwrap();
        assert!(matches!(export(&vault, false).unwrap_err(), VaultError::Unconfirmed(_)));
        assert!(matches!(wipe(&vault, false).unwrap_err(), VaultError::Unconfirmed(_)));
        let exported = export(&vault, true).unwrap();
        assert!(exported.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let secret = exported.lines().nth(1).unwrap().get(24..).unwrap();
        let told = [
            show(&vault),
            rotate(&vault, Unix(0)),
            show(&vault),
            import(&vault, exported.as_bytes(), Unix(0)),
        ];
        let told = told.map(Result::unwrap).concat();
        assert!(told.contains("rotation: not registered") && !told.contains(secret), "{told}");
        assert_eq!(wipe(&vault, true).unwrap().lines().count(), 4);
        assert!(show(&vault).unwrap().starts_with("state: absent\n"));
    }
}

//! Whether iptables' own tables (`ip_tables`, "legacy") translate addresses here. No dump of nf_tables shows them.
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;

/// Names of the tables that there are in this network, one a line (net/netfilter/x_tables.c, `xt_proto_init`); root's alone.
const NAMES: [&str; 2] = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
const NAT: &str = "nat";
/// More than the names of all tables that the kernel has.
const MAX_BYTES: usize = 256;

/// The lists of their names, opened while that was possible; of one that was not there, none.
#[derive(Debug)]
pub struct Iptables([io::Result<Option<File>>; 2]);

impl Iptables {
    /// As root that may still read files. A list that is not there now has no tables.
    pub fn open() -> Iptables {
        Iptables(NAMES.map(|path| match File::open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }))
    }

    /// Who may be sending connections elsewhere, if somebody is: a sentence.
    ///
    /// # Errors
    /// The kernel's.
    pub fn claim(&self) -> io::Result<Option<String>> {
        for (path, list) in NAMES.into_iter().zip(&self.0) {
            let said = match list {
                Ok(list) => said_by(path, list.as_ref())?,
                Err(e) => Some(format!("iptables' own tables cannot be listed: {path}: {e}")),
            };
            if said.is_some() {
                return Ok(said);
            }
        }
        Ok(None)
    }
}

fn said_by(path: &str, list: Option<&File>) -> io::Result<Option<String>> {
    // Its module may have gone since, or come.
    if !std::fs::exists(path)? {
        return Ok(None);
    }
    let Some(list) = list else {
        return Ok(Some(format!(
            "{path} has come since the guard started, which cannot read it any more: restart echomesh"
        )));
    };
    Ok(has_nat(&read(list)?).then(|| {
        format!(
            "iptables' own table \"nat\" is there ({path}), and where it sends connections cannot be read: use nft or iptables-nft, and unload iptable_nat"
        )
    }))
}

fn has_nat(names: &str) -> bool {
    names.lines().any(|name| name == NAT)
}

fn read(list: &File) -> io::Result<String> {
    let mut bytes = [0; MAX_BYTES];
    let n = list.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(bytes.get(..n).unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_known_by_its_whole_name() {
        assert!(has_nat("nat\nfilter\n") && has_nat("mangle\nnat\n"));
        assert!(!has_nat("") && !has_nat("filter\nnat2\n"));
    }

    #[test]
    fn what_has_come_since_counts() {
        let later = Iptables([Ok(None), Ok(None)]);
        let is_there = NAMES.iter().any(|path| std::fs::exists(path).unwrap());
        assert_eq!(later.claim().unwrap().is_some(), is_there);
        let unread = Iptables([Err(ErrorKind::PermissionDenied.into()), Ok(None)]);
        assert!(unread.claim().unwrap().unwrap().contains("cannot be listed: /proc/net/ip_tables_names"));
    }
}

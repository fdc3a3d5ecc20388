//! Whether iptables' own tables (`ip_tables`, "legacy") translate addresses here. No dump of nf_tables shows them.
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;

/// Names of the tables that there are in this network, one a line (net/netfilter/x_tables.c, `xt_proto_init`); root's alone.
const NAMES: [&str; 2] = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
const NAT: &str = "nat";
/// More than the names of all tables that the kernel has.
const MAX_BYTES: usize = 256;

/// The lists of their names, opened while that was possible.
#[derive(Debug)]
pub struct Iptables([Option<File>; 2]);

impl Iptables {
    /// As root that may still read files. A list that is not there now has no tables.
    ///
    /// # Errors
    /// The kernel's, for another reason.
    pub fn open() -> io::Result<Iptables> {
        let [v4, v6] = NAMES.map(|path| match File::open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        });
        Ok(Iptables([v4?, v6?]))
    }

    /// Who may be sending connections elsewhere, if somebody is: a sentence.
    ///
    /// # Errors
    /// The kernel's.
    pub fn claim(&self) -> io::Result<Option<String>> {
        for (path, list) in NAMES.into_iter().zip(&self.0) {
            match list {
                Some(list) if has_nat(&read(list)?) => {
                    return Ok(Some(format!(
                        "iptables' own table \"nat\" ({path}) may send their ports elsewhere, which cannot be read; use nft or iptables-nft"
                    )));
                }
                None if std::fs::exists(path)? => {
                    return Ok(Some(format!(
                        "{path} is there since the guard has started, which could not read it any more: restart echomesh"
                    )));
                }
                _ => {}
            }
        }
        Ok(None)
    }
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
        let later = Iptables([None, None]);
        let is_there = NAMES.iter().any(|path| std::fs::exists(path).unwrap());
        assert_eq!(later.claim().unwrap().is_some(), is_there);
    }
}

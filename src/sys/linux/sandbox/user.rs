//! The user that the node becomes: from `--user` and `/etc/passwd` (passwd(5)).
use std::fmt;
use std::str::FromStr;

/// A user and a group, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As the owner named it.
    pub name: String,
    /// The user's number; never 0.
    pub uid: u32,
    /// The group's number; never 0.
    pub gid: u32,
}

/// Why there is no such user to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    /// `/etc/passwd` has no line for the name.
    Unknown(String),
    /// User or group 0, which is what is to be left.
    Root(String),
    /// Neither a name nor numbers.
    Malformed(String),
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserError::Unknown(name) => write!(
                f,
                "--user {name}: /etc/passwd has no such user; add one (`useradd --system {name}`; OpenWrt's package does so when \
                 it is installed), or give UID:GID"
            ),
            UserError::Root(name) => {
                write!(f, "--user {name}: user and group must not be root's; give a user of the node's own")
            }
            UserError::Malformed(text) => write!(f, "--user {text}: write a name, a UID, or UID:GID"),
        }
    }
}

impl std::error::Error for UserError {}

/// The user that `NAME`, `UID` or `UID:GID` means by the text of a passwd file. A number without a line there has the group
/// of the same number.
///
/// # Errors
/// [`UserError`], which says what to do.
pub fn find(text: &str, passwd: &str) -> Result<User, UserError> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => {
            (name, Some(number(group).ok_or_else(|| UserError::Malformed(text.to_owned()))?))
        }
        None => (text, None),
    };
    if name.is_empty() || name.contains(|c: char| c.is_control() || c == '/') {
        return Err(UserError::Malformed(text.to_owned()));
    }
    let uid = number(name);
    let mut lines = passwd.lines().filter_map(line);
    let found = lines.find(|(n, u, _)| uid.map_or(*n == name, |uid| *u == uid));
    let (uid, gid) = match (found, uid) {
        (Some((_, uid, gid)), _) => (uid, group.unwrap_or(gid)),
        (None, Some(uid)) => (uid, group.unwrap_or(uid)),
        (None, None) => return Err(UserError::Unknown(name.to_owned())),
    };
    // The last number means "leave it as it is" to setresuid(2).
    if uid == u32::MAX || gid == u32::MAX {
        return Err(UserError::Malformed(text.to_owned()));
    }
    if uid == 0 || gid == 0 {
        Err(UserError::Root(text.to_owned()))
    } else {
        Ok(User { name: name.to_owned(), uid, gid })
    }
}

fn line(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some((name, number(uid)?, number(gid)?))
}

/// Digits alone: `+1` is a name, or nothing.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { u32::from_str(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\n12:x:44:44::/:\nechomesh:x:970:971::/var/run:/bin/false\n\
                          wheel:x:80:0::/:/bin/false\nlast:x:4294967295:5::/:\n";

    fn found(text: &str) -> Result<(u32, u32), UserError> {
        find(text, PASSWD).map(|u| (u.uid, u.gid))
    }

    #[test]
    fn a_name_or_numbers_name_a_user() {
        assert_eq!(found("echomesh"), Ok((970, 971)));
        assert_eq!(found("970"), Ok((970, 971)));
        assert_eq!(found("970:5"), Ok((970, 5)));
        assert_eq!(found("echomesh:5"), Ok((970, 5)));
        assert_eq!(found("1234"), Ok((1234, 1234)));
        assert_eq!(found("12"), Ok((12, 12)), "a name of digits is a number, as for chown(1)");
    }

    #[test]
    fn root_is_nobody_to_become() {
        for text in ["root", "0", "0:5", "5:0", "wheel", "echomesh:0"] {
            assert_eq!(found(text), Err(UserError::Root(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        assert_eq!(found("nobody"), Err(UserError::Unknown("nobody".to_owned())));
        assert_eq!(found("broken"), Err(UserError::Unknown("broken".to_owned())));
        for text in
            ["", ":5", "5:", "5:x", "5:6:7", "a/b", "4294967295", "last", "5:4294967295", "99999999999:1"]
        {
            assert!(matches!(found(text), Err(UserError::Malformed(_) | UserError::Unknown(_))), "{text}");
        }
    }
}

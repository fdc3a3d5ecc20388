//! `echomesh guard`: from the command line to the guard.
use super::args::Arguments;
use super::{Done, Exit, Failure, out};
use crate::config::{Platform, Store, usual_path};
use crate::guard::serve::{self, User};
use std::path::Path;

/// The service user where none is named.
const USER: &str = "echomesh";

/// `guard`
pub fn guard(arguments: &Arguments) -> Done {
    let store = Store::open(usual_path(arguments.value("config").map(Path::new)), Platform::detect());
    let user = user(arguments.text("user")?.unwrap_or(USER))?;
    if let Err(e) = store.load() {
        return Err(Failure::new(Exit::Config, e.to_string()));
    }
    let failed = |message: String| Failure::new(Exit::Failed, message);
    if arguments.has("print") {
        return out::print(&serve::print(&store, user.uid).map_err(failed)?);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(failed("the guard changes the firewall and must be started by root".to_owned()));
    }
    serve::run(store, arguments.value("run-dir").map(Path::new), user).map_err(failed)
}

/// The user of a name or a number.
fn user(text: &str) -> Result<User, Failure> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = find(text, &passwd).ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            format!("there is no user {text}; make it, or name another one with --user"),
        )
    })?;
    if user.uid == 0 {
        return Err(Failure::new(Exit::Usage, "--user: root's traffic is not for the guard to hold"));
    }
    Ok(user)
}

/// A line of passwd(5), or a number for which there need be none.
fn find(text: &str, passwd: &str) -> Option<User> {
    let number = text.parse().ok();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let user = User { uid: uid.parse().ok()?, gid: gid.parse().ok()? };
        (name == text || Some(user.uid) == number).then_some(user)
    });
    named.or(number.map(|uid| User { uid, gid: uid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/:/bin/sh\nbroken\nechomesh:x:453:454::/:/bin/false\n";
        assert_eq!(find("echomesh", passwd), Some(User { uid: 453, gid: 454 }));
        assert_eq!(find("453", passwd), Some(User { uid: 453, gid: 454 }));
        assert_eq!(find("5310", passwd), Some(User { uid: 5310, gid: 5310 }));
        assert_eq!(find("nobody", passwd), None);
        assert_eq!(find("-1", passwd), None);
    }
}

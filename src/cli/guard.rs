//! `echomesh guard`: from the command line to the guard.
use super::args::Arguments;
use super::{Done, Exit, Failure, out};
use crate::config::{Platform, Store, usual_path};
use crate::guard::serve;
use crate::sys::linux::sandbox::find_user;
use std::path::Path;

/// The service user where none is named.
const USER: &str = "echomesh";

/// `guard`
pub fn guard(arguments: &Arguments) -> Done {
    let store = Store::open(usual_path(arguments.value("config").map(Path::new)), Platform::detect());
    let user = find_user(arguments.text("user")?.unwrap_or(USER))
        .map_err(|e| Failure::new(Exit::Usage, e.to_string()))?;
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

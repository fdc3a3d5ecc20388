//! `echomesh guard`: from the command line to the guard.
use super::args::Arguments;
use super::{Done, Exit, Failure, out};
use crate::config::{Platform, Store, usual_path};
use crate::guard::serve;
use crate::guard::work::Source;
use crate::sys::linux::sandbox::find_user;
use crate::sys::openwrt::uci;
use std::path::Path;

/// The service user where none is named.
const USER: &str = "echomesh";

/// `guard`
pub fn guard(arguments: &Arguments) -> Done {
    let user = find_user(arguments.text("user")?.unwrap_or(USER))
        .map_err(|e| Failure::new(Exit::Usage, e.to_string()))?;
    let failed = |message: String| Failure::new(Exit::Failed, message);
    let print = arguments.has("print");
    if !print && !rustix::process::geteuid().is_root() {
        return Err(failed("the guard changes the firewall and must be started by root".to_owned()));
    }
    let source = if arguments.has("uci") {
        let program = arguments.value("uci-path").map_or(Path::new(uci::PATH), Path::new);
        Source::Uci(uci::start(program).map_err(|e| failed(format!("{}: {e}", program.display())))?)
    } else {
        let store = Store::open(usual_path(arguments.value("config").map(Path::new)), Platform::detect());
        store.load().map_err(|e| Failure::new(Exit::Config, e.to_string()))?;
        Source::File(store)
    };
    if print {
        return out::print(&serve::print(source, user.uid).map_err(failed)?);
    }
    serve::run(source, arguments.value("run-dir").map(Path::new), user).map_err(failed)
}

//! The package's own `/etc/config/echomesh`.
use super::write::{line, text};
use super::{ENABLED, MAIN, PACKAGE, kinds, path_of};
use crate::config::schema::{Kind, OPTIONS, Opt, Platform};
use crate::json::Value;
use std::fmt::Write as _;

/// An entry of the one list of sections.
const WINDOW: &str = "
# Windows in which the node works, in the router's time zone; none means always. As many sections as there are windows:
#config schedule
#	# Days on which the window opens: Mon, Tue, Wed, Thu, Fri, Sat, Sun.
#	list days 'Mon'
#	list days 'Tue'
#	# From 00:00 to 23:59.
#	option start '22:00'
#	# From 00:00 to 24:00; at or before the start means on the next day.
#	option end '06:00'
";

/// A file to begin with: every option with its meaning, those that are unset as comments, and the service off.
pub fn example() -> String {
    let given = Value::Object(Vec::new());
    let mut out = String::from(
        "# Configuration of the EchoMesh node. Any change: `uci set echomesh.SECTION.OPTION=VALUE; uci commit echomesh`, then\n\
         # `service echomesh reload`. `echomesh config check /etc/config/echomesh` says all that is wrong with it.\n\
         # A commit keeps no comments; docs/config.md has the same and more.\n",
    );
    for kind in kinds().into_iter().filter(|k| *k != "lab") {
        let ours = OPTIONS.iter().filter(|o| o.uci.split_once('.').is_some_and(|(k, _)| k == kind));
        if path_of(kind).is_some_and(|p| p.ends_with("[]")) {
            out.push_str(WINDOW);
            continue;
        }
        let name = if kind == PACKAGE { MAIN } else { kind };
        let _ = write!(out, "\nconfig {kind} '{name}'\n");
        if kind == PACKAGE {
            out.push_str("\t# Whether the service is started at all: 0 or 1.\n");
            line("option", ENABLED, "0", &mut out);
        }
        for option in ours {
            let default = option
                .default_value(&given, Platform::OpenWrt)
                .or((option.path == "version").then(|| 1.into()));
            match default {
                Some(Value::Array(items)) if items.is_empty() => commented(option, &mut out),
                Some(Value::Array(items)) => {
                    comment(option, &mut out);
                    items.iter().for_each(|v| line("list", short(option), &text(v), &mut out));
                }
                Some(value) => {
                    comment(option, &mut out);
                    line("option", short(option), &text(&value), &mut out);
                }
                None => commented(option, &mut out),
            }
        }
    }
    out
}

fn short(option: &Opt) -> &'static str {
    option.uci.split_once('.').map_or("", |(_, name)| name)
}

fn comment(option: &Opt, out: &mut String) {
    let _ = writeln!(out, "\t# {} Allowed: {}.", option.doc, option.allowed());
}

fn commented(option: &Opt, out: &mut String) {
    comment(option, out);
    let list = matches!(option.kind, Kind::Texts(..) | Kind::Choices(..) | Kind::Ints(..));
    let _ = writeln!(out, "#\t{} {} ''", if list { "list" } else { "option" }, short(option));
}

#[cfg(test)]
mod tests {
    use super::super::{document, parse};
    use super::*;
    use crate::config::{Face, from_value};
    use std::path::Path;

    #[test]
    fn the_package_s_file_follows_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openwrt/files/echomesh.config");
        if std::env::var_os("ECHOMESH_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, example()).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == example(), "{} does not follow the schema; ECHOMESH_BLESS=1", path.display());
    }

    #[test]
    fn it_is_the_default_and_names_every_option_but_the_laboratory_s() {
        let sections = parse(&example()).unwrap();
        let config = from_value(&document(&sections).unwrap(), Platform::OpenWrt).unwrap();
        let default = crate::config::parse(b"version: 1", Face::Yaml, Platform::OpenWrt).unwrap();
        assert_eq!(config, default);
        assert_eq!(sections[0].option(ENABLED).unwrap().values, ["0"]);
        let text = example();
        for option in OPTIONS.iter().filter(|o| !o.path.starts_with("lab.")) {
            let named =
                ["option", "list"].iter().any(|c| text.contains(&format!("\t{c} {} '", short(option))));
            assert!(named, "{}", option.uci);
        }
    }
}

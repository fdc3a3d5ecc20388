//! The schema in words: JSON Schema, reference table, a file to begin with.
use super::schema::{self, Default, Kind, OPTIONS, Opt, Platform};
use super::{Value, emit};
use crate::json::{array, object};

/// The JSON Schema (draft 2020-12) of the document. It is never stricter than the node, which checks a little more:
/// the inner form of texts, and rules that need two options.
pub fn json_schema() -> Value {
    let mut root = object([
        ("$schema", "https://json-schema.org/draft/2020-12/schema".into()),
        ("title", "EchoMesh node configuration, version 1".into()),
    ]);
    let Value::Object(members) = section_schema("") else { return root };
    for (name, value) in members {
        root.set(&name, value);
    }
    root
}

/// The reference of all options, Markdown.
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    let mut last = None;
    for option in OPTIONS {
        let section = option.path.rsplit_once('.').map_or("", |(s, _)| s);
        if last != Some(section) {
            let title = if section.is_empty() { "The document".to_owned() } else { format!("`{section}`") };
            out.push_str(&format!(
                "\n## {title}\n\n| option | UCI | allowed | default | applied | meaning |\n"
            ));
            out.push_str("| --- | --- | --- | --- | --- | --- |\n");
            last = Some(section);
        }
        let name = option.path.rsplit('.').next().unwrap_or(option.path);
        out.push_str(&format!(
            "| `{name}` | `{}` | {} | {} | {} | {} |\n",
            option.uci,
            option.allowed().replace('|', "\\|"),
            default_text(option),
            format!("{:?}", option.apply).to_lowercase(),
            option.doc
        ));
    }
    out.push_str(KEY);
    out
}

/// A file to begin with: every option with its meaning, those that are unset as comments.
pub fn example(platform: Platform) -> String {
    let given = Value::Object(Vec::new());
    let mut out = String::from(
        "# Configuration of an EchoMesh node; docs/config.md explains every option.\nversion: 1\n",
    );
    let mut open: Vec<&str> = Vec::new();
    for option in OPTIONS.iter().filter(|o| o.path != "version" && !o.path.starts_with("lab.")) {
        let mut names: Vec<&str> = option.names().collect();
        let name = names.pop().unwrap_or_default();
        if names.last().is_some_and(|n| n.ends_with("[]")) {
            list_example(option, &mut out);
            continue;
        }
        sections_opened(&mut open, &names, &mut out);
        let indent = "  ".repeat(names.len());
        out.push_str(&format!("{indent}# {}\n", comment(option)));
        match option.default_value(&given, platform) {
            Some(value) => {
                let line = emit::yaml(&object([(name, value)]));
                out.extend(line.lines().map(|l| format!("{indent}{l}\n")));
            }
            None => out.push_str(&format!("{indent}# {name}:\n")),
        }
    }
    out
}

/// The list of sections is shown by its default, an empty list, and an entry in a comment.
fn list_example(option: &Opt, out: &mut String) {
    if option.path == "node.schedules[].days" {
        out.push_str("  # Windows in which the node works, in the router's time zone; none means always.\n");
        out.push_str(
            "  # schedules:\n  #   - { days: [\"Mon\", \"Tue\"], start: \"22:00\", end: \"06:00\" }\n",
        );
    }
}

/// Writes the headers of the sections in `names` that are not open yet. A section whose options are all unset is
/// a comment like them, since an empty one is refused.
fn sections_opened<'a>(open: &mut Vec<&'a str>, names: &[&'a str], out: &mut String) {
    let same = open.iter().zip(names).take_while(|(a, b)| a == b).count();
    open.truncate(same);
    for name in names.iter().skip(same) {
        open.push(name);
        let path = open.join(".");
        let inside = |o: &&Opt| o.path.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.'));
        let empty = OPTIONS.iter().filter(inside).all(|o| o.default == Default::Unset);
        let indent = "  ".repeat(open.len() - 1);
        out.push_str(&format!("{indent}{}{name}:\n", if empty { "# " } else { "" }));
    }
}

fn comment(option: &Opt) -> String {
    format!("{} Allowed: {}.", option.doc, option.allowed())
}

fn default_text(option: &Opt) -> String {
    match option.default {
        Default::Unset => "unset".to_owned(),
        Default::Required => "required".to_owned(),
        Default::Is(text) => format!("`{text}`"),
        Default::By(router, other) => format!("`{router}` on OpenWrt, else `{other}`"),
        Default::With(other, text) => format!("`{text}` if `{other}` is unset, else `[]`"),
    }
}

fn section_schema(path: &str) -> Value {
    let mut properties = Vec::new();
    let mut required = Vec::new();
    for name in schema::names_below(path) {
        let inner = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let value = match schema::option(&inner) {
            Some(option) => {
                if option.default == Default::Required {
                    required.push(name);
                }
                option_schema(option)
            }
            None if schema::is_section(&inner) => section_schema(&inner),
            None => {
                let items = section_schema(&format!("{inner}[]"));
                object([
                    ("type", "array".into()),
                    ("maxItems", super::validate::MAX_SCHEDULES.into()),
                    ("items", items),
                ])
            }
        };
        properties.push((name, value));
    }
    let mut schema = object([("type", Value::from("object")), ("properties", object(properties))]);
    if !required.is_empty() {
        schema.set("required", array(required));
    }
    schema.set("additionalProperties", false);
    schema
}

fn option_schema(option: &Opt) -> Value {
    let mut schema = match option.kind {
        Kind::Bool => object([("type", "boolean".into())]),
        Kind::True(_) => object([("const", true.into())]),
        Kind::Int(min, max) => whole(min, max),
        Kind::Number(min, max) => {
            object([("type", "number".into()), ("minimum", min.into()), ("maximum", max.into())])
        }
        Kind::Choice(words) => object([("enum", array(words.iter().copied()))]),
        Kind::Text(form) => text(form),
        Kind::Texts(form, most) => list(text(form), most),
        Kind::Ints(min, max, most) => list(whole(min, max), most),
        Kind::Choices(words, least) => {
            let mut schema = list(object([("enum", array(words.iter().copied()))]), words.len());
            schema.set("minItems", least);
            schema.set("uniqueItems", true);
            schema
        }
    };
    let unit = if option.unit.is_empty() { String::new() } else { format!(" Unit: {}.", option.unit) };
    schema.set("description", format!("{}{unit}", option.doc));
    if let Default::Is(default) = option.default {
        schema.set("default", crate::json::parse(default.as_bytes()).unwrap_or(Value::Null));
    }
    schema.set("x-uci", option.uci);
    schema
}

fn whole(min: i64, max: i64) -> Value {
    object([("type", "integer".into()), ("minimum", min.into()), ("maximum", max.into())])
}

fn text(form: super::forms::Form) -> Value {
    object([("type", "string".into()), ("pattern", form.pattern().into())])
}

fn list(items: Value, most: usize) -> Value {
    object([("type", "array".into()), ("maxItems", most.into()), ("items", items)])
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by a test from the schema in src/config/table.rs; change it there. -->

One schema, three faces: YAML (the usual file), JSON (the body of `GET` and `PUT /config`) and UCI (the router's own
store; the table has its names as `section.option`). `echomesh config init` prints a file to begin with, `echomesh config check FILE` says
everything that is wrong with one, `echomesh config convert FILE --to yaml|json|uci` turns one face into the other without loss.

In UCI the sections are known by their type (`config network 'network'`; the package's own is `config echomesh 'main'`), one of each, but
for `schedule`, of which there are as many as windows, anonymous or named. Booleans are `1` and `0` (or what UCI takes besides: on,
off, true, false, yes, no). A list that is empty elsewhere is left out, which says the same. `enabled` in the section `main` is the
service script's: whether the node is started at all. Both `/etc/config/echomesh` and the output of `uci show echomesh` are read (`.uci`).

- Unknown names, names that stand twice, wrong types, impossible times and values out of range are refused. An error
  names file and line, option, value and what is allowed; all errors are told at once, up to 20.
- YAML is version 1.2: `on`, `no` and `22:00` are texts. Anchors, aliases, tags and a second document are refused, and so
  is a text over 256 KiB. Numbers are decimal; hexadecimal, octal and infinite ones count as text.
  The programs of routers' packages read UCI and JSON, not YAML (they are built without the feature `yaml`), and say so.
- A text without value (`url:` and nothing behind it, `null` in JSON) is refused: leave the name out instead.
- Rates are 10^6 bit/s and volumes 10^9 bytes (KB: 1000 bytes), both directions added. Every byte of a buyer crosses the
  line twice, in and out, so a limit is also what the line carries in each direction.
- `coordinator.url` needs `coordinator.publicKey`; `security.dohBootstrap` needs `security.dohUrl`; `updates.threshold` is at
  most the number of `updates.publicKeys` (1 may stand without keys); a window of the schedule may not end when it starts,
  and a whole day is `00:00` to `24:00`.
- Names of hosts are A-labels (`xn--…`), without port; case and a final dot do not matter.
- The section `lab` stands beside the checks on addresses and ports. A release binary refuses it.
- With `--uci` the node's configuration is the router's (`/etc/config/echomesh`), read and written through the guard, which runs `uci`. A change counts
  without a commit, as everywhere in OpenWrt; a reload takes it. An option that is not valid is named in the log and in the status, and the last
  good configuration stays. `PUT /config` commits; it is refused (412) over changes that the node has not read.
- A file that the node writes (`PUT /config`, `echomesh config set`) is complete and has no comments; what stood there before
  is kept beside it as `NAME.bak`. The new file is written aside, flushed and renamed, so a full disk or a power cut
  leaves the old one. A configuration that says the same as the file is not written.

The column *applied* says what a change takes: `live` at once, on live sessions too; `register` a new registration at the
coordinator; `reconnect` a new connection to it; `rebind` a new listener, live tunnels go on; `restart` the daemon's restart.
";

const KEY: &str = "
## The node's key

`node.idPath` is a PKCS#8 file (PEM, Ed25519), made at the first start, mode 0600. It is refused if it is a symbolic link, belongs to
somebody else, or if others may read it or write its directory; root's commands may use the file of the service's user, and what root
writes there belongs to that user. `openssl pkey -in FILE` reads both of its forms:

- **Plain** (`PRIVATE KEY`): what protects it is that only the service's user reads the file. The node starts by itself.
- **Sealed** (`ENCRYPTED PRIVATE KEY`: PBES2 with PBKDF2-HMAC-SHA-256, 600,000 iterations, and AES-256-CBC) by `echomesh keys seal`. The
  node starts `locked`: it answers its owner, calls nobody and carries nothing, until `echomesh keys unlock` (or `POST /keys/unlock`)
  gives the passphrase; then it goes on without a restart. With `security.passphraseFile`, a file as private as the key's, it opens the
  key by itself; a key that is made while that is set is sealed at once. After a wrong passphrase the API takes the next one after 1, 2,
  4 … 60 seconds.

Commands:

- `keys show` tells the NodeID, `keys export` prints the key sealed (plain only with `--plain --yes`), `keys import FILE` takes another
  one, plain or sealed; what OpenSSL sealed by `-v2 aes-256-cbc -v2prf hmacWithSHA256` or `-scrypt` is opened.
- `keys seal` sets or changes the passphrase, also of the keys kept aside, and overwrites plain files. `keys unseal --yes` takes it off.
- Passphrases are asked for, without echo, or come from `--passphrase-file FILE` (`-`: standard input). They have 8 characters or more.
- `keys rotate` makes a new key, sealed as the old one was. The old one signs the new NodeID (`NAME.previous`, until the coordinator has
  registered it) and stays beside it as `NAME.old-DATE`; a second rotation before that registration is refused.
- `keys wipe --yes` overwrites and removes all of them. Flash may keep what was overwritten until the block is used again.
- A running node takes a changed key at its next start.
";

#[cfg(test)]
mod tests {
    use super::super::{Face, parse};
    use super::*;
    use std::path::Path;

    /// Compares a file of the project with what the schema says; `ECHOMESH_BLESS=1` writes it.
    fn same(file: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        if std::env::var_os("ECHOMESH_BLESS").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{file} does not follow the schema; write it with ECHOMESH_BLESS=1");
    }

    #[test]
    fn the_json_schema_follows_the_table() {
        same("schemas/config.schema.json", &emit::json(&json_schema()));
    }

    #[test]
    fn the_reference_follows_the_table() {
        same("docs/config.md", &reference());
    }

    #[test]
    fn the_file_to_begin_with_is_the_default() {
        for platform in [Platform::OpenWrt, Platform::Other] {
            let config = parse(example(platform).as_bytes(), Face::Yaml, platform).unwrap();
            let text = b"version: 1";
            assert_eq!(config, parse(text, Face::Yaml, platform).unwrap());
        }
    }

    #[test]
    fn the_file_to_begin_with_names_every_option_but_the_laboratory_s() {
        let text = example(Platform::Other);
        for option in OPTIONS.iter().filter(|o| !o.path.starts_with("lab.")) {
            let name = option.path.rsplit('.').next().unwrap();
            assert!(text.contains(&format!("{name}:")), "{}", option.path);
        }
    }
}

//! The object `echomesh` on ubus: the methods of the local API under the names that fit there, with the same bodies.
//!
//! Who may call is decided by ubusd: root, and whom a file of `/usr/share/acl.d` names. What is called, and with what, it does not look
//! at; that is checked here.
use super::{Backend, Later, Problem, calls, report};
use crate::json::{Fields, Value, array, object};
use crate::ubus::client::{Argument, Signature};
use crate::ubus::{Malformed, Status, Type};
use std::future::ready;

/// The object's path on the bus, and the name of its events.
pub const PATH: &str = "echomesh";
/// Most lines of a page, and how many it has unless told otherwise.
pub const MAX_LINES: i64 = 1000;
/// rpcd adds it to each call that comes from a browser.
const SESSION: &str = "ubus_rpc_session";

/// A code, and the body of the answer if it has one.
pub type Answer = (Status, Option<Value>);

type Done = Result<Later<Result<Option<Value>, Problem>>, Problem>;

struct Method {
    name: &'static str,
    arguments: &'static [Argument],
    call: fn(&dyn Backend, Value) -> Done,
}

const METHODS: &[Method] = &[
    Method { name: "status", arguments: &[], call: |node, _| body(node.status()) },
    Method {
        name: "control",
        arguments: &[("action", Type::String)],
        call: |node, given| body(calls::control(node, &given)?),
    },
    Method { name: "config_get", arguments: &[], call: |node, _| body(node.config().0) },
    Method {
        name: "config_set",
        arguments: &[("config", Type::Table), ("etag", Type::String)],
        call: config_set,
    },
    Method { name: "sessions", arguments: &[], call: |node, _| body(calls::sessions(node)) },
    Method { name: "session_close", arguments: &[("id", Type::String)], call: session_close },
    Method {
        name: "logs_export",
        arguments: &[
            ("since", Type::String),
            ("kind", Type::String),
            ("cursor", Type::String),
            ("limit", Type::Integer),
        ],
        call: logs_export,
    },
    Method { name: "diagnostics", arguments: &[], call: |node, _| body(node.diagnostics()) },
    Method { name: "report", arguments: &[], call: |node, _| body(report::assemble(node)) },
    Method { name: "keys", arguments: &[("passphrase", Type::String)], call: keys },
    Method { name: "updates", arguments: &[], call: |_, _| Err(no_updates()) },
    Method { name: "wipe", arguments: &[("confirm", Type::Boolean)], call: wipe },
    Method { name: "reload", arguments: &[], call: reload },
];

/// The methods with their arguments, as the bus is told.
pub fn signatures() -> Vec<Signature> {
    METHODS.iter().map(|m| (m.name, m.arguments)).collect()
}

/// Answers a call.
pub fn answer(node: &dyn Backend, method: &str, arguments: Result<Value, Malformed>) -> Later<Answer> {
    match call(node, method, arguments) {
        Ok(done) => Box::pin(async {
            match done.await {
                Ok(body) => (Status::Ok, body),
                Err(problem) => refusal(&problem),
            }
        }),
        Err(problem) => Box::pin(ready(refusal(&problem))),
    }
}

/// What the caller is told of an answer that is larger than the bus carries.
pub fn too_large() -> Answer {
    let detail = "The answer is larger than ubus carries (1 MiB); ask the local HTTP API for it.";
    refusal(&Problem::new(500, "too-large", detail))
}

/// What the caller is told while too many calls wait for their answers.
pub fn too_many() -> Answer {
    refusal(&Problem::rate_limited("Too many calls wait for their answers.", 1))
}

fn refusal(problem: &Problem) -> Answer {
    let (status, body) = problem.ubus();
    (status, Some(body))
}

fn call(node: &dyn Backend, method: &str, arguments: Result<Value, Malformed>) -> Done {
    let unknown = || {
        let known = METHODS.iter().map(|m| m.name).collect::<Vec<_>>().join(", ");
        Problem::new(405, "method-unknown", format!("There is no such method; there are {known}."))
    };
    let method = METHODS.iter().find(|m| m.name == method).ok_or_else(unknown)?;
    let wrong = |e| Problem::new(400, "malformed", format!("The arguments cannot be read: {e}."));
    let arguments = arguments.map_err(wrong)?;
    check(&arguments, method.arguments)?;
    (method.call)(node, arguments)
}

/// Every argument is one of the method's, and of its type. None has to be there: the method says what it needs.
fn check(arguments: &Value, known: &[Argument]) -> Result<(), Problem> {
    for (name, value) in arguments.as_object().unwrap_or_default() {
        if name == SESSION {
            continue;
        }
        let Some((_, kind)) = known.iter().find(|(n, _)| n == name) else {
            let names = known.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
            let takes = if names.is_empty() { "no arguments" } else { &names };
            return Err(Problem::invalid(format!(
                "/{name}: there is no such argument; the method takes {takes}."
            )));
        };
        let (fits, wanted) = match kind {
            Type::Table => (value.as_object().is_some(), "a table"),
            Type::String => (value.as_str().is_some(), "a string"),
            Type::Integer => (value.as_int().is_some(), "an integer"),
            Type::Boolean => (value.as_bool().is_some(), "true or false"),
        };
        if !fits {
            return Err(Problem::invalid(format!("/{name}: must be {wanted}, not {}.", value.type_name())));
        }
    }
    Ok(())
}

fn body(value: Value) -> Done {
    Ok(Box::pin(ready(Ok(Some(value)))))
}

fn config_set(node: &dyn Backend, mut given: Value) -> Done {
    let document = given.remove("config").ok_or_else(|| Problem::invalid("/config: is missing."))?;
    if given.member("etag").and_then(Value::as_str).is_some_and(|etag| etag != node.config().1) {
        return Err(Problem::etag_mismatch());
    }
    let put = node.put_config(document);
    Ok(Box::pin(async { put.await.map(|(document, _)| Some(document)) }))
}

fn session_close(node: &dyn Backend, given: Value) -> Done {
    node.close_session(Fields::of(&given)?.str("id")?)?;
    Ok(Box::pin(ready(Ok(None))))
}

/// The cursor names its archive: lines of another do not have the same places.
fn logs_export(node: &dyn Backend, given: Value) -> Done {
    let fields = Fields::of(&given)?;
    let archive = calls::archive(fields.opt_str("kind")?)?;
    let since = calls::since(fields.opt_str("since")?)?;
    let lines = fields.opt_int("limit", 1..=MAX_LINES)?.unwrap_or(MAX_LINES);
    let place = fields.opt_str("cursor")?.map(|cursor| {
        let place = cursor.strip_prefix(archive.name()).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        place.ok_or_else(cursor_unknown)
    });
    let page = node.page(archive, since, place.transpose()?, usize::try_from(lines).unwrap_or(1))?;
    body(object([
        ("lines", array(page.lines)),
        ("more", page.more.into()),
        ("cursor", format!("{}-{}", archive.name(), page.next).into()),
    ]))
}

/// The cursor of an export is none that this process gave.
pub fn cursor_unknown() -> Problem {
    let detail =
        "The cursor is not from this archive, or from before the node's last start; begin the export anew.";
    Problem::new(422, "cursor-unknown", detail)
}

/// Whose key it is and whether it is sealed; with a passphrase, opens it.
fn keys(node: &dyn Backend, given: Value) -> Done {
    if given.member("passphrase").is_some() {
        let asked = calls::unlock(node, given)?;
        return Ok(Box::pin(async { asked.await.map(Some) }));
    }
    let status = node.status();
    let locked = status.member("state").and_then(Value::as_str) == Some("locked");
    let node_id = status.member("nodeId").cloned().unwrap_or(Value::Null);
    body(object([("nodeId", node_id), ("locked", locked.into())]))
}

fn no_updates() -> Problem {
    Problem::not_supported("This version does not update itself; its package is updated by opkg or apk.")
}

/// Never: the node holds its key and its journal and would write them again, and the service cannot keep procd from starting it anew.
fn wipe(_: &dyn Backend, _: Value) -> Done {
    let detail = "A running node would write its files again, and procd would start it again with a new key: \
`/etc/init.d/echomesh stop`, then `echomesh wipe --yes`.";
    Err(Problem::not_supported(detail))
}

fn reload(node: &dyn Backend, _: Value) -> Done {
    let read = node.reload();
    Ok(Box::pin(async { read.await.map(|(_, etag)| Some(object([("etag", etag.into())]))) }))
}

#[cfg(test)]
mod tests;

//! What HTTP and ubus have in common: what a request asks for, and the body of its answer.
use super::{Action, Archive, Backend, Later, Problem};
use crate::json::{Fields, Value, object};
use crate::time::Unix;
use crate::vault::Passphrase;
use zeroize::Zeroizing;

/// `{action}`: does it, and tells the state that came of it.
pub fn control(node: &dyn Backend, document: &Value) -> Result<Value, Problem> {
    let name = Fields::of(document)?.str("action")?;
    let action = Action::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| {
        let names = Action::ALL.map(Action::name).join(", ");
        Problem::invalid(format!("/action: there is no action \"{name}\"; there are {names}."))
    })?;
    node.control(action)?;
    let status = node.status();
    let members = ["state", "reason", "since"].map(|n| (n, status.member(n).cloned().unwrap_or(Value::Null)));
    Ok(object(members))
}

/// `{passphrase}`: opens the key.
pub fn unlock(node: &dyn Backend, mut document: Value) -> Result<Later<Result<Value, Problem>>, Problem> {
    Fields::of(&document)?.str("passphrase")?;
    // Moved out, not copied: its memory is zeroed when it is dropped.
    let given = document.remove("passphrase").and_then(Value::into_string).unwrap_or_default();
    let passphrase = Passphrase::new(Zeroizing::new(given.into_bytes()));
    let asked = node.unlock(passphrase.map_err(|e| Problem::invalid(format!("/passphrase: {e}.")))?);
    Ok(Box::pin(async { asked.await.map(|node_id| object([("nodeId", node_id.into())])) }))
}

/// The open sessions.
pub fn sessions(node: &dyn Backend) -> Value {
    object([("sessions", node.sessions())])
}

/// The instant that an export begins with.
pub fn since(text: Option<&str>) -> Result<Option<Unix>, Problem> {
    let wrong = || Problem::invalid("since must be an instant such as 2025-12-19T14:00:00Z.");
    text.map(|text| Unix::parse(text).ok_or_else(wrong)).transpose()
}

/// The archive that an export is of.
pub fn archive(kind: Option<&str>) -> Result<Archive, Problem> {
    let Some(kind) = kind else { return Ok(Archive::Access) };
    let known = Archive::ALL.map(Archive::name).join(", ");
    let found = Archive::ALL.into_iter().find(|a| a.name() == kind);
    found.ok_or_else(|| Problem::invalid(format!("There is no kind \"{kind}\"; there are {known}.")))
}

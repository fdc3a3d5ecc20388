//! The lists of hosts that nodes are to have in force, as a test orders them.
use super::{Coordinator, Outcome, Reply};
use crate::lab::blake3;
use crate::lab::json::{Json, Members, object, text};
use crate::lab::keys::{Key, random};

/// Where they are served.
const PATH: &str = "/lists/";

/// A list.
#[derive(Debug, Clone)]
pub struct HostList {
    name: String,
    version: Json,
    content: String,
    url: Option<String>,
    /// What is wrong with it: `hash` or `signature`.
    fault: Option<String>,
}

impl Coordinator {
    /// `{lists:[{name, version, content, url?, fault?}]}`: what the next registration is told.
    pub fn set_lists(&mut self, ask: &Json) -> Result<Json, String> {
        let lists: Option<Vec<HostList>> = ask.list("lists").iter().map(list).collect();
        self.lists = lists.ok_or("a list needs name, version and content")?;
        Ok(object([("lists", self.lists_json())]))
    }

    /// `lists` of a registration's answer.
    pub(super) fn lists_json(&self) -> Json {
        Json::Array(self.lists.iter().map(|list| self.signed(list)).collect())
    }

    /// Serves a list: anybody may have it.
    pub(super) fn serve_list(&self, path: &str) -> Option<Outcome> {
        let name = path.strip_prefix(PATH)?;
        let list = self.lists.iter().find(|l| l.name.replace(':', "-") == name);
        Some(Outcome::Reply(match list {
            Some(list) => Reply { raw: Some(list.content.clone()), ..Reply::ok(object([])) },
            None => Reply::problem(404, "not-found", "there is no such list"),
        }))
    }

    fn signed(&self, list: &HostList) -> Json {
        let authority = self.authorities.first().map_or("", String::as_str);
        let ours = || format!("https://{authority}{PATH}{}", list.name.replace(':', "-"));
        let has = |fault| list.fault.as_deref() == Some(fault);
        let hashed = if has("hash") { "another text" } else { &list.content };
        let mut signed = object([
            ("name", text(list.name.clone())),
            ("version", list.version.clone()),
            ("url", text(list.url.clone().unwrap_or_else(ours))),
            ("hash", text(blake3::name(hashed.as_bytes()))),
        ]);
        let stranger = Key::from_seed(random());
        let key = if has("signature") { &stranger } else { &self.key };
        key.sign_object("list", &mut signed, "coordinatorSig");
        signed
    }
}

fn list(ask: &Json) -> Option<HostList> {
    let words = |name: &str| ask.str(name).map(str::to_owned);
    Some(HostList {
        name: words("name")?,
        version: ask.member("version")?.clone(),
        content: words("content")?,
        url: words("url"),
        fault: words("fault"),
    })
}

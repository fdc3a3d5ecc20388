//! What must be right about a call before it is looked into: transport, signature, manners.
use super::{Coordinator, MAX_BODY, Reply};
use crate::lab::clock::instant;
use crate::lab::httpsig;
use crate::lab::json::{Members, text};
use crate::lab::text::query;

/// A request of a node, read whole.
pub struct Call {
    /// Request method.
    pub method: String,
    /// Path as received.
    pub path: String,
    /// Query without the question mark.
    pub query: String,
    /// Field values by lower-case name.
    pub headers: Vec<(String, String)>,
    /// Content, at most one byte more than [`MAX_BODY`].
    pub body: Vec<u8>,
    /// Whether the request line said HTTP/1.1.
    pub http11: bool,
}

impl Call {
    /// A parameter of the query.
    pub fn param(&self, name: &str) -> Option<String> {
        query(&self.query, name)
    }
}

impl Coordinator {
    pub(super) fn check_transport(&mut self, call: &Call, now: i64) -> Result<(), Reply> {
        let header =
            |name: &str| call.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let node =
            header("signature-input").and_then(|input| input.split("keyid=\"").nth(1)?.split('"').next());
        let node = node.unwrap_or_default();
        if !call.http11 {
            self.breach(node, None, now, "HTTP/1.1", "another version was spoken");
        }
        if call.body.len() > MAX_BODY {
            self.breach(node, None, now, "bodies ≤ 1 MiB", call.path.clone());
            return Err(Reply::problem(413, "too-large", "bodies are at most 1 MiB"));
        }
        if header("content-encoding").is_some() {
            self.breach(node, None, now, "no content coding", call.path.clone());
        }
        let kind = header("content-type").map(|kind| kind.split(';').next().unwrap_or(kind).trim());
        if call.method == "POST" && kind != Some("application/json") {
            self.breach(node, None, now, "HTTP/1.1, application/json", format!("content-type {kind:?}"));
        }
        Ok(())
    }

    pub(super) fn check_signature(&mut self, call: &Call, now: i64) -> Result<String, Reply> {
        let host =
            call.headers.iter().find(|(key, _)| key == "host").map(|(_, value)| value.to_ascii_lowercase());
        let host = host.unwrap_or_default();
        let authority = host.strip_suffix(":443").unwrap_or(&host);
        let message = httpsig::Message {
            method: &call.method,
            authority,
            path: &call.path,
            query: &call.query,
            headers: &call.headers,
            body: &call.body,
        };
        let refuse = |slug: &str, detail: &str| {
            let mut reply = Reply::problem(401, slug, detail);
            if let Some(body) = &mut reply.body {
                body.set("serverTime", text(instant(now)));
            }
            reply
        };
        let signed = httpsig::verify(&message).map_err(|httpsig::Fault(slug, why)| {
            self.breach(
                "",
                None,
                now,
                "Signed requests: exactly these components and parameters",
                why.clone(),
            );
            refuse(slug, &why)
        })?;
        if !self.authorities.iter().any(|known| known == authority) {
            let detail = format!("{authority} is none of {:?}", self.authorities);
            self.breach(&signed.key_id, None, now, "@authority from the configured URL", detail);
        }
        match self.fresh(&signed, now) {
            Ok(()) => Ok(signed.key_id),
            Err((slug, why)) => Err(refuse(slug, &why)),
        }
    }

    /// Waiting as told, and not asking again what was finally refused.
    pub(super) fn check_manners(&mut self, call: &Call, node: &str, now: i64) {
        let place = (node.to_owned(), format!("{} {}", call.method, call.path));
        if let Some(until) = self.retry_after.get(&place).copied() {
            // Retry-After counts whole seconds, and the node's timer started a round trip later.
            if now + 20 < until {
                let detail = format!("{} came {} ms early", place.1, until - now);
                self.breach(node, None, now, "Retry-After obeyed", detail);
            } else {
                self.retry_after.remove(&place);
            }
        }
        let before = self.refused.get(&refusal_key(call, node)).copied();
        if let Some((status, digest)) = before
            && call.method == "POST"
            && call.path != "/nodes/heartbeat"
            && digest == httpsig::sha256(&call.body)
        {
            let detail = format!("{} was answered {status} and came again unchanged", call.path);
            self.breach(node, None, now, "4xx is final but for 401, 403 node-unknown, 408, 410, 429", detail);
        }
    }

    pub(super) fn remember_retry(&mut self, call: &Call, reply: &Reply, now: i64) {
        let seconds = reply.headers.iter().find(|(name, _)| *name == "retry-after");
        let seconds = seconds.and_then(|(_, value)| value.parse::<i64>().ok());
        let key =
            call.headers.iter().find(|(name, _)| name == "signature-input").map(|(_, value)| value.as_str());
        let node = key.and_then(|input| input.split("keyid=\"").nth(1)?.split('"').next());
        if let (Some(seconds), Some(node)) = (seconds, node) {
            let place = (node.to_owned(), format!("{} {}", call.method, call.path));
            self.retry_after.insert(place, now + seconds * 1000);
        }
    }
}

/// Where a refusal is remembered.
pub(super) fn refusal_key(call: &Call, node: &str) -> String {
    format!("{node} {}", call.path)
}

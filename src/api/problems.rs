//! Errors as RFC 9457 problems: the one place that maps them to HTTP and to ubus.
use crate::http::request::Fault;
use crate::http::server::{Body, Response};
use crate::json::{FieldError, Value, array, object};
use crate::ubus::Status;

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The bare slug, the problem's `type`.
    pub slug: &'static str,
    /// A sentence for a person: whose fault it is and what to do.
    pub detail: String,
    /// The member `errors`: one sentence for each fault of a document. Left out when empty.
    pub errors: Vec<String>,
    /// A further field of the response, such as `Allow`.
    pub field: Option<(&'static str, String)>,
}

impl Problem {
    /// A problem with these parts and no others.
    pub fn new(status: u16, slug: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, slug, detail: detail.into(), errors: Vec::new(), field: None }
    }

    /// No token, or a wrong one. Both alike: the difference is nobody's business.
    pub fn unauthorized() -> Problem {
        let detail = "Send Authorization: Bearer with the content of api.token in the run directory; it changes at each start of the node.";
        let challenge = ("WWW-Authenticate", "Bearer realm=\"echomesh\"".to_owned());
        Problem { field: Some(challenge), ..Problem::new(401, "token-required", detail) }
    }

    /// The Host field names neither loopback nor a configured name.
    pub fn host_denied() -> Problem {
        Problem::new(403, "host-denied", "The request is addressed to a host name that is not this API's.")
    }

    /// A web page of another origin asks.
    pub fn origin_denied() -> Problem {
        Problem::new(403, "origin-denied", "Pages of other origins may not use this API.")
    }

    /// No such path.
    pub fn not_found() -> Problem {
        Problem::new(
            404,
            "not-found",
            "There is nothing under this path; GET /openapi.json lists what there is.",
        )
    }

    /// No such session.
    pub fn session_unknown() -> Problem {
        Problem::new(404, "session-unknown", "There is no open session with this id.")
    }

    /// The key is sealed and nobody has given the passphrase.
    pub fn locked() -> Problem {
        let detail = "The node's key is sealed, so it carries nothing; give the passphrase with `echomesh keys unlock`, or \
                      POST /keys/unlock.";
        Problem::new(409, "locked", detail)
    }

    /// Nothing waits for a passphrase.
    pub fn not_locked() -> Problem {
        Problem::new(409, "not-locked", "The node's key is open already.")
    }

    /// The passphrase does not open the key.
    pub fn wrong_passphrase() -> Problem {
        Problem::new(403, "wrong-passphrase", "The passphrase is wrong; the key stays sealed.")
    }

    /// Too many requests of this kind; the next may come in so many seconds.
    pub fn rate_limited(detail: impl Into<String>, seconds: u64) -> Problem {
        let field = Some(("Retry-After", seconds.to_string()));
        Problem { field, ..Problem::new(429, "rate-limited", detail) }
    }

    /// The path does not have this method; `allow` are those it has.
    pub fn method_not_allowed(allow: String) -> Problem {
        let detail = format!("This path takes {allow}.");
        Problem { field: Some(("Allow", allow)), ..Problem::new(405, "method-not-allowed", detail) }
    }

    /// The document was changed since the client read it.
    pub fn etag_mismatch() -> Problem {
        let detail = "The configuration has changed since you read it; read it again and repeat the change.";
        Problem::new(412, "etag-mismatch", detail)
    }

    /// The body is not of the type the path takes.
    pub fn media_type() -> Problem {
        Problem::new(415, "media-type", "Send the body as Content-Type: application/json.")
    }

    /// The body is no JSON.
    pub fn not_json(error: &crate::json::Error) -> Problem {
        Problem::new(400, "malformed", format!("The body is no JSON: {error}."))
    }

    /// A member or parameter has a value that is not allowed.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(422, "invalid", detail)
    }

    /// A configuration that was refused as a whole, with one sentence for each fault.
    pub fn config_invalid(errors: Vec<String>) -> Problem {
        let detail = "The configuration is not valid; nothing was changed.";
        Problem { errors, ..Problem::new(422, "config-invalid", detail) }
    }

    /// Something in the node failed; the sentence says what.
    pub fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(500, "internal", detail)
    }

    /// This version cannot do that.
    pub fn not_supported(detail: impl Into<String>) -> Problem {
        Problem::new(501, "not-supported", detail)
    }

    /// What the caller of a ubus method is told: a code, and the same body as with HTTP.
    pub fn ubus(&self) -> (Status, Value) {
        let status = match self.status {
            401 | 403 => Status::PermissionDenied,
            404 => Status::NotFound,
            405 => Status::MethodNotFound,
            429 => Status::Timeout,
            501 => Status::NotSupported,
            400..=499 => Status::InvalidArgument,
            _ => Status::SystemError,
        };
        (status, self.body())
    }

    fn body(&self) -> Value {
        let mut body = object([
            ("type", self.slug.into()),
            ("status", i64::from(self.status).into()),
            ("detail", self.detail.as_str().into()),
        ]);
        if !self.errors.is_empty() {
            body.set("errors", array(self.errors.iter().map(String::as_str)));
        }
        body
    }

    /// The problem as an HTTP response.
    pub fn response(self) -> Response {
        let mut response = json_response(self.status, &self.body());
        response.fields = vec![("Content-Type", "application/problem+json".to_owned())];
        response.fields.extend(self.field);
        response.fields.extend(common_fields());
        response
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Problem {
        let (status, slug) = match fault {
            Fault::Malformed(_) => (400, "malformed"),
            Fault::HeadTooLarge => (431, "head-too-large"),
            Fault::BodyTooLarge => (413, "too-large"),
            Fault::Coding => (501, "coding-unknown"),
            Fault::Expectation => (417, "expectation-unknown"),
            Fault::Timeout => (408, "timeout"),
        };
        Problem::new(status, slug, fault.to_string())
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Problem {
        Problem::invalid(format!("{error}."))
    }
}

/// A JSON document as a response.
pub(super) fn json_response(status: u16, body: &Value) -> Response {
    let mut fields = vec![("Content-Type", "application/json".to_owned())];
    fields.extend(common_fields());
    Response { status, fields, body: Body::Bytes(body.canonical().into_bytes().into()) }
}

/// Nothing of this API is for a cache, nor for a browser to guess at.
pub(super) fn common_fields() -> [(&'static str, String); 2] {
    [("Cache-Control", "no-store".to_owned()), ("X-Content-Type-Options", "nosniff".to_owned())]
}

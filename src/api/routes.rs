//! What each path and method does.
use super::problems::{common_fields, json_response};
use super::{Backend, OPENAPI, Problem, Tagged, calls, metrics, report};
use crate::http::request::Head;
use crate::http::server::{Body, Response};
use crate::json::{self, Value, object};
use crate::mutant;
use std::borrow::Cow;

type Answer = Result<Response, Problem>;

/// A request that has a route.
pub(super) struct Request<'a> {
    head: &'a Head,
    body: &'a [u8],
}

/// A path's method and what answers it.
pub(super) struct Route {
    method: &'static str,
    path: &'static str,
    answer: fn(&dyn Backend, &Request<'_>) -> Answer,
}

/// Every route. The last segment of a path may be `{id}`.
const ROUTES: &[Route] = &[
    Route { method: "GET", path: "/status", answer: |node, _| ok(&node.status()) },
    Route { method: "POST", path: "/control", answer: control },
    Route { method: "POST", path: "/keys/unlock", answer: unlock },
    Route { method: "GET", path: "/config", answer: |node, _| Ok(config_response(node.config())) },
    Route { method: "PUT", path: "/config", answer: put_config },
    Route { method: "GET", path: "/sessions", answer: |node, _| ok(&calls::sessions(node)) },
    Route { method: "DELETE", path: "/sessions/{id}", answer: close_session },
    Route { method: "GET", path: "/logs/export", answer: export },
    Route { method: "GET", path: "/diagnostics", answer: |node, _| ok(&node.diagnostics()) },
    Route { method: "POST", path: "/report", answer: |node, _| ok(&report::assemble(node)) },
    Route { method: "GET", path: "/metrics", answer: |node, _| Ok(metrics_response(node)) },
    Route { method: "GET", path: "/healthz", answer: |node, _| Ok(health(node)) },
    Route { method: "GET", path: "/openapi.json", answer: |_, _| Ok(text("application/json", OPENAPI)) },
];

/// Answers `OPTIONS` on any path. There is no CORS: no page of another origin has business here.
const OPTIONS: Route = Route {
    method: "OPTIONS",
    path: "*",
    answer: |_, request| {
        let allow = match request.head.path.as_str() {
            "*" => "GET, HEAD, POST, PUT, DELETE, OPTIONS".to_owned(),
            path => allowed(path),
        };
        let mut response = no_content();
        response.fields.push(("Allow", allow));
        Ok(response)
    },
};

impl Route {
    /// Whether it answers without a token: `GET /healthz` alone.
    pub(super) fn is_open(&self) -> bool {
        self.path == "/healthz"
    }

    fn has_path(&self, path: &str) -> bool {
        match self.path.strip_suffix("{id}") {
            Some(parent) => path.strip_prefix(parent).is_some_and(|id| !id.is_empty() && !id.contains('/')),
            None => self.path == path || (mutant::out("api-path-exact") && self.path == carelessly(path)),
        }
    }
}

/// A path as those read it who like it short.
fn carelessly(path: &str) -> String {
    let decoded = crate::http::request::percent_decode(path).unwrap_or_default();
    let mut kept: Vec<&str> = Vec::new();
    for part in
        decoded.split(';').next().unwrap_or_default().split('/').filter(|p| !p.is_empty() && *p != ".")
    {
        if part == ".." {
            kept.pop();
        } else {
            kept.push(part);
        }
    }
    format!("/{}", kept.join("/"))
}

/// The route of a request. `HEAD` is `GET`, of which the server sends the head only.
pub(super) fn find(head: &Head) -> Result<&'static Route, Problem> {
    let method = if head.method == "HEAD" { "GET" } else { head.method.as_str() };
    let mut here = ROUTES.iter().filter(|r| r.has_path(&head.path)).peekable();
    if here.peek().is_none() && head.path != "*" {
        return Err(Problem::not_found());
    }
    if method == "OPTIONS" {
        return Ok(&OPTIONS);
    }
    here.find(|r| r.method == method || mutant::out("api-method"))
        .ok_or_else(|| Problem::method_not_allowed(allowed(&head.path)))
}

/// Answers a request that was admitted.
pub(super) fn answer(node: &dyn Backend, head: &Head, body: &[u8]) -> Answer {
    (find(head)?.answer)(node, &Request { head, body })
}

/// Every method and path.
#[cfg(test)]
pub(super) fn list() -> impl Iterator<Item = String> {
    ROUTES.iter().map(|r| format!("{} {}", r.method, r.path))
}

fn allowed(path: &str) -> String {
    let mut methods = Vec::new();
    for route in ROUTES.iter().filter(|r| r.has_path(path)) {
        methods.push(route.method);
        if route.method == "GET" {
            methods.push("HEAD");
        }
    }
    methods.push("OPTIONS");
    methods.join(", ")
}

fn control(node: &dyn Backend, request: &Request<'_>) -> Answer {
    ok(&calls::control(node, &request.json()?)?)
}

fn unlock(node: &dyn Backend, request: &Request<'_>) -> Answer {
    let asked = calls::unlock(node, request.json()?)?;
    let answer = async { asked.await.map_or_else(Problem::response, |body| json_response(200, &body)) };
    Ok(Response { status: 200, fields: Vec::new(), body: Body::Later(Box::pin(answer)) })
}

fn put_config(node: &dyn Backend, request: &Request<'_>) -> Answer {
    if let Some(tags) = request.head.field("if-match")? {
        let (_, current) = node.config();
        // RFC 9110 section 13.1.1; the comparison is strong, so a weak tag matches nothing.
        let matches =
            |tag: &str| tag.strip_prefix('"').and_then(|t| t.strip_suffix('"')) == Some(current.as_str());
        if tags != "*" && !tags.split(',').any(|tag| matches(tag.trim())) && !mutant::out("api-if-match") {
            return Err(Problem::etag_mismatch());
        }
    }
    let put = node.put_config(request.json()?);
    let answer = async {
        match put.await {
            Ok(config) => config_response(config),
            Err(problem) => problem.response(),
        }
    };
    Ok(Response { status: 200, fields: Vec::new(), body: Body::Later(Box::pin(answer)) })
}

fn config_response((document, etag): Tagged) -> Response {
    let mut response = json_response(200, &document);
    response.fields.push(("ETag", format!("\"{etag}\"")));
    response
}

fn close_session(node: &dyn Backend, request: &Request<'_>) -> Answer {
    let id = request.head.path.rsplit('/').next().unwrap_or_default();
    node.close_session(id)?;
    Ok(no_content())
}

fn export(node: &dyn Backend, request: &Request<'_>) -> Answer {
    let given = |name| names(request, name).then(|| request.head.parameter(name).unwrap_or_default());
    let since = calls::since(given("since").as_deref())?;
    let archive = calls::archive(given("kind").as_deref())?;
    let mut response = text("application/jsonl", "");
    response.body = Body::Stream(node.export(archive, since)?);
    Ok(response)
}

/// Whether the query has a parameter, with or without a value.
fn names(request: &Request<'_>, name: &str) -> bool {
    request.head.query.split('&').any(|p| p.split('=').next() == Some(name))
}

fn metrics_response(node: &dyn Backend) -> Response {
    text(metrics::CONTENT_TYPE, metrics::render(&node.status()))
}

fn health(node: &dyn Backend) -> Response {
    let health = node.health();
    let well = health.checks.iter().all(|(_, well)| *well);
    let checks = object(health.checks.into_iter().map(|(name, well)| (name, well.into())));
    let status = if well { "ok" } else { "failing" };
    json_response(if well { 200 } else { 503 }, &object([("status", status.into()), ("checks", checks)]))
}

impl Request<'_> {
    fn json(&self) -> Result<Value, Problem> {
        let media_type = self.head.field("content-type")?.unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") && !mutant::out("api-media-type") {
            return Err(Problem::media_type());
        }
        json::parse(self.body).map_err(|e| Problem::not_json(&e))
    }
}

fn ok(body: &Value) -> Answer {
    Ok(json_response(200, body))
}

fn no_content() -> Response {
    Response { status: 204, fields: common_fields().into(), body: Body::Bytes(Cow::Borrowed(b"")) }
}

fn text(media_type: &'static str, content: impl Into<Cow<'static, str>>) -> Response {
    let mut fields = vec![("Content-Type", media_type.to_owned())];
    fields.extend(common_fields());
    let body = match content.into() {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    Response { status: 200, fields, body: Body::Bytes(body) }
}

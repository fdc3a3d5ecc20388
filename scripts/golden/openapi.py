"""The OpenAPI document of the local control API: the paths here, the schemas from schemas/*.schema.json."""

import json

SCHEMAS = {"Status": "status", "Sessions": "sessions", "Problem": "problem", "LogLine": "log-line"}

DESCRIPTION = """The node's own API, for its owner. It listens on 127.0.0.1:7878 and on the Unix socket api.sock in the run \
directory. Every request but GET /healthz carries the bearer token of the file api.token there (mode 0600, new at each \
start). Host must be a loopback address, localhost or a configured name; Origin must be absent or the same. HEAD is \
answered wherever GET is. Errors are problems of RFC 9457 whose type is a bare slug."""

# What every path with a token can answer besides its own; 413 only where there is a body.
COMMON = {400: "The request is malformed.", 401: "No token, or a wrong one.",
          403: "The Host or Origin is not this API's.", 408: "The request did not arrive in time.",
          429: "Too many requests; Retry-After says when the next may come.", 431: "The head of the request is too large."}
BODY = {413: "The body is over 1 MiB.", 415: "The body is not application/json.", 417: "Expect asks for something unknown.",
        422: "A member or parameter has a value that is not allowed.", 501: "The transfer coding is unknown."}


def ref(name):
    return {"$ref": f"#/components/schemas/{name}"}


def content(schema, media="application/json"):
    return {media: {"schema": schema}}


def answers(good, more=None, body=False, common=True):
    out = dict(good)
    problems = (COMMON if common else {}) | (BODY if body else {}) | (more or {})
    for status, text in sorted(problems.items()):
        out.setdefault(str(status), {"description": text, "content": content(ref("Problem"), "application/problem+json")})
    return out


def ok(text, schema, media="application/json", headers=None):
    row = {"description": text, "content": content(schema, media)}
    return {"200": row | ({"headers": headers} if headers else {})}


def body(schema):
    return {"required": True, "content": content(schema)}


ETAG = {"ETag": {"description": "The document's entity tag, strong.", "schema": {"type": "string"}}}
ID = {"name": "id", "in": "path", "required": True, "schema": ref("SessionId"), "description": "The session's id."}
OBJECT = {"type": "object", "additionalProperties": True}


def whole(text=None, kind="integer"):
    return {"type": kind} | ({"description": text} if text else {})


_MAYBE = ["integer", "null"]
_WAY = {
    "chargedBytes": whole("TCP payload that bundles have"),
    "trackedPackets": whole(),
    "trackedBytes": whole("Connection tracking's count, with headers from IP's on"),
    "independentPackets": whole(kind=_MAYBE),
    "independentBytes": whole("The count of a table of its own; null where it cannot be had", _MAYBE),
    "differenceBytes": whole(kind=_MAYBE),
    "explainedBytes": whole("What of a difference needs nobody's interference", _MAYBE),
    "agrees": whole(kind=["boolean", "null"]),
}
_WAY = {"type": "object", "required": list(_WAY), "properties": _WAY}
_CHECK = {"reason": whole("Why a way is not counted twice", "string"), "connections": whole(), "egress": _WAY, "ingress": _WAY}
_CHECK = {"type": ["object", "null"], "description": "What leases carry, counted twice; null before the first", "required": list(_CHECK), "properties": _CHECK}
DIAGNOSTICS = OBJECT | {"properties": {"leases": OBJECT | {"properties": {"check": _CHECK}}}}
CONTROL = {"type": "object", "required": ["action"], "properties": {"action": {
    "type": "string", "enum": ["start", "pause", "stop", "clearQuarantine"],
    "description": "start: carry again. pause: refuse new flows and reset live ones; sessions stay. stop: close every session and open none. clearQuarantine: the owner has looked into it."}}}
STATE = {"type": "object", "required": ["state", "reason", "since"], "properties": {
    "state": {"type": "string"}, "reason": {"type": "string"}, "since": ref("Instant")}}
HEALTH = {"type": "object", "required": ["status", "checks"], "properties": {
    "status": {"type": "string", "enum": ["ok", "failing"]},
    "checks": {"type": "object", "additionalProperties": {"type": "boolean"}, "description": "Each part that was checked, and whether it is well."}}}


UNLOCK = {"type": "object", "required": ["passphrase"], "properties": {
    "passphrase": {"type": "string", "minLength": 1, "maxLength": 1024, "writeOnly": True}}}
UNLOCKED = {"type": "object", "required": ["nodeId"], "properties": {"nodeId": ref("NodeId")}}
UNLOCKING = "For a node whose state is locked. The answer comes when the passphrase was tried, which takes seconds on a small \
processor; one is tried at a time. After a wrong one the next has to wait 1 s, 2 s, 4 s … 60 s. The node goes on without a restart."


def op(name, summary, responses, **more):
    return {"operationId": name, "summary": summary, **more, "responses": responses}


def paths():
    since = {"name": "since", "in": "query", "required": False, "schema": ref("Instant"),
             "description": "Lines from this instant on, inclusive; of bundles, those whose window had not ended. Without it, all that are kept."}
    kind = {"name": "kind", "in": "query", "required": False, "schema": {"type": "string", "enum": ["access", "bundles"]},
            "description": "access (the default), or bundles: metering bundles as they were signed, and settled transitions."}
    if_match = {"name": "If-Match", "in": "header", "required": False, "schema": {"type": "string"},
                "description": "The ETag of the document that was changed. Without it the document is replaced whatever it was."}
    return {
        "/status": {"get": op("status", "What the node is doing", answers(ok("The status.", ref("Status"))))},
        "/control": {"post": op("control", "Start, pause, stop, clear a quarantine", answers(
            ok("Done; what the node's state is now.", STATE), {409: "Not possible in this state."}, body=True), requestBody=body(CONTROL))},
        "/keys/unlock": {"post": op("unlock", "Open the sealed key", answers(
            ok("The key is open; what its NodeID is.", UNLOCKED),
            {403: "The passphrase is wrong (wrong-passphrase), or the Host or Origin is not this API's.",
             409: "The key is open already.", 500: "The key file cannot be read; the detail says why."}, body=True),
            description=UNLOCKING, requestBody=body(UNLOCK))},
        "/config": {
            "get": op("getConfig", "The whole configuration", answers(ok("The document.", ref("Config"), headers=ETAG))),
            "put": op("putConfig", "Replace the whole configuration", answers(
                ok("Validated, persisted and applied; sessions that stay legal go on.", ref("Config"), headers=ETAG),
                {412: "The configuration has changed since it was read.", 500: "It could not be written; nothing was changed."}, body=True),
                requestBody=body(ref("Config")), parameters=[if_match])},
        "/sessions": {"get": op("sessions", "The open sessions", answers(ok("The sessions.", ref("Sessions"))))},
        "/sessions/{id}": {"delete": op("closeSession", "Close a session", answers(
            {"204": {"description": "Closing has begun; live flows are reset."}}, {404: "No open session has this id."}), parameters=[ID])},
        "/logs/export": {"get": op("exportLogs", "The access log, or what was billed", answers(
            ok("JSON lines, oldest first: LogLine each, or bundles and settled transitions.", {"type": "string", "description": "Lines of LogLine."}, "application/jsonl"),
            {409: "The node is locked.", 422: "since is not an instant, or there is no such kind.", 500: "The log could not be read."}), parameters=[kind, since])},
        "/diagnostics": {"get": op("diagnostics", "What a support case needs, without secrets", answers(ok("The diagnostics.", DIAGNOSTICS)))},
        "/report": {"post": op("report", "An issue report: version, status, diagnostics, recent log; redacted", answers(
            ok("The report; nothing is sent anywhere.", OBJECT)))},
        "/metrics": {"get": op("metrics", "Metrics", answers(ok(
            "OpenMetrics text.", {"type": "string"}, "application/openmetrics-text; version=1.0.0; charset=utf-8")))},
        "/healthz": {"get": op("health", "Whether the node is well; needs no token", answers(
            ok("It is.", ref("Health")) | {"503": {"description": "It is not.", "content": content(ref("Health"))}},
            {400: COMMON[400], 403: COMMON[403], 408: COMMON[408], 429: COMMON[429], 431: COMMON[431]}, common=False), security=[])},
        "/openapi.json": {"get": op("openapi", "This document", answers(ok("This document.", OBJECT)))},
    }


def inlined(value):
    """A schema with its references into common.schema.json turned to this document's components."""
    if isinstance(value, list):
        return [inlined(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        name = value["$ref"].removeprefix("common.schema.json#/$defs/")
        return {**value, "$ref": "#/components/schemas/" + name[0].upper() + name[1:]}
    return {k: inlined(v) for k, v in value.items() if k not in ("$schema", "$id")}


def references(value):
    if isinstance(value, dict):
        found = {value["$ref"].rsplit("/", 1)[1]} if "$ref" in value else set()
        return found.union(*(references(v) for v in value.values()))
    return set().union(*(references(v) for v in value)) if isinstance(value, list) and value else set()


def document(folder):
    def load(name):
        return json.loads((folder / f"{name}.schema.json").read_text())
    common = {k[0].upper() + k[1:]: inlined(v) for k, v in load("common")["$defs"].items()}
    schemas = {name: inlined(load(file)) for name, file in SCHEMAS.items()}
    schemas["Health"] = HEALTH
    schemas["Config"] = {"type": "object", "additionalProperties": True,
                         "description": "The configuration, JSON face: schemas/config.schema.json, docs/config.md."}
    all_paths = paths()
    while missing := sorted((references(schemas) | references(all_paths)) - schemas.keys()):
        schemas |= {name: common[name] for name in missing}
    return {
        "openapi": "3.1.0",
        "info": {"title": "EchoMesh local control API", "version": "1", "description": DESCRIPTION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "http://127.0.0.1:7878"}],
        "security": [{"token": []}],
        "paths": all_paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}, "schemas": schemas},
    }

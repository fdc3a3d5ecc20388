"""Writes tests/golden, or with --check says what differs from it."""

import json
import pathlib
import re
import sys

import bad
import httpsig
import jcs
import keys
import local
import messages as m
import openapi
import pki
import vectors

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
SCHEMAS = ROOT.parents[1] / "schemas"
DOCUMENT = ROOT.parents[1] / "docs" / "protocol.md"
FILES = {}
INDEX = {"now": m.NOW, "good": [], "bad": []}


def text(value):
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def good(name, value, schema, kind=None, member=None, signer=None):
    """One example; a signed object also gets its signed bytes in a file of their own."""
    FILES[f"{name}.json"] = text(value)
    row = {"file": f"{name}.json", "schema": f"{schema}.schema.json"}
    if kind:
        FILES[f"{name}.signed"] = keys.signed_bytes(kind, value, member)
        row |= {"type": kind, "member": member, "signer": signer, "signedBytes": f"{name}.signed"}
    INDEX["good"].append(row)


def signed_objects():
    good("signal-open", m.open_signal(), "signal-open", "session-open", "coordinatorSig", "coordinator")
    good("signal-close", m.close_signal(), "signal-close", "session-close", "coordinatorSig", "coordinator")
    good("signal-policy", m.policy_signal(), "signal-policy", "policy", "coordinatorSig", "coordinator")
    good("probe-request", m.probe_request(), "probe-request", "probe-request", "coordinatorSig", "coordinator")
    good("probe-trailer", m.trailer(), "probe-trailer", "probe-content", "endpointSig", "endpoint")
    good("probe-report", m.probe_report(), "probe-report", "probe-report", "nodeSig", "node")
    good("probe-refusal", m.probe_refusal(), "probe-refusal", "probe-report", "nodeSig", "node")
    for name, bundle in zip(["metering-bundle", "metering-bundle-2", "metering-bundle-3"], m.chain()):
        good(name, bundle, "metering-bundle", "metering", "nodeSig", "node")
    good("metering-bundle-zero", m.zero_bundle(), "metering-bundle", "metering", "nodeSig", "node")
    good("list", m.category_list(), "list", "list", "coordinatorSig", "coordinator")
    good("release", m.release(), "release", "release", "releaseSig", "releaseA, releaseB")


def plain_messages():
    good("register-request", m.register_request(pki.csr()), "register-request")
    good("register-answer", m.register_answer(pki.certificate()), "register-answer")
    good("heartbeat-request", m.heartbeat(), "heartbeat-request")
    good("heartbeat-answer", m.heartbeat_answer(), "heartbeat-answer")
    good("control-answer", m.control_answer(), "control-answer")
    good("control-answer-empty", {"signals": [], "cursor": "3"}, "control-answer")
    for name, value in m.transitions().items():
        good(f"transition-{name}", value, "transition")
    good("metering-request", {"bundles": m.chain()}, "metering-request")
    good("metering-answer", m.metering_answer(), "metering-answer")
    good("probe-ack", {"ack": True}, "probe-ack")
    good("probe-ack-follow-up", {"ack": True, "probe": m.probe_request(nonce=keys.b64(bytes(range(32, 48))))}, "probe-ack")
    for name, value in m.problems().items():
        good(f"problem-{name}", value, "problem")
    good("status", local.STATUS, "status")
    good("sessions", local.SESSIONS, "sessions")
    FILES["rotation.signed"] = m.rotation_bytes()
    FILES["log-export.jsonl"] = "".join(m.log_lines("0", "9")).encode()
    FILES["token.txt"] = m.TOKEN.encode()


def requests():
    created, nonce = 1768478410, keys.b64(bytes(range(16)))
    base = "https://coordinator.example"
    rows = {
        "request-heartbeat": ("POST", base + "/nodes/heartbeat", jcs.canonical(m.heartbeat()).encode()),
        "request-control-poll": ("GET", base + "/sessions/control?cursor=2&waitMs=30000", b""),
        "request-probe-poll": ("GET", base + "/probes/request?waitMs=30000", b""),
        "request-with-port-and-path": ("POST", "https://Coordinator.Example:8443/v1/nodes/register", b"{}"),
    }
    for name, (method, url, body) in rows.items():
        good(name, httpsig.signed_request(method, url, body, created, nonce), "signed-request")


def bad_examples():
    groups = {
        "signal-open": (bad.opens(), "signal-open", m.NOW),
        "probe-request": (bad.probes(), "probe-request", "2026-01-15T12:06:01Z"),
        "probe-trailer": (bad.trailers(), "probe-trailer", "2026-01-15T12:06:03Z"),
        "metering-bundle": (bad.bundles(), "metering-bundle", "2026-01-15T12:05:10Z"),
        "request": (bad.requests(), None, m.NOW),
    }
    for group, (rows, schema, now) in groups.items():
        for reason, value, extra in rows:
            name = f"bad/{group}.{reason}.json"
            FILES[name] = text(value)
            row = {"file": name, "of": group, "reason": reason, "now": now}
            if schema:
                row |= {"schema": f"{schema}.schema.json", "schemaValid": extra.get("schema", True)}
            INDEX["bad"].append(row | {k: v for k, v in extra.items() if k != "schema"})
    for reason, data in bad.raw_json():
        FILES[f"bad/json.{reason}.json"] = data
        INDEX["bad"].append({"file": f"bad/json.{reason}.json", "of": "json", "reason": reason})


def build():
    jcs.self_test()
    signed_objects()
    plain_messages()
    requests()
    bad_examples()
    FILES["keys.json"] = text(keys.described())
    FILES["rfc8785.json"] = text(vectors.rfc8785())
    FILES["rfc9421-b26.json"] = text(httpsig.rfc9421_b26())
    FILES["rfc9530.json"] = text(httpsig.rfc9530())
    FILES["index.json"] = text(INDEX)


def http_fields(request):
    rows = [("Content-Digest", "contentDigest"), ("Signature-Input", "signatureInput"), ("Signature", "signature")]
    return "".join(f"{name}: {request[member]}\n" for name, member in rows)


def shown(form, name):
    """An example as it stands in the documentation."""
    data = FILES[name].decode()
    if form == "golden-http":
        return "", http_fields(json.loads(data))
    if form == "golden-base":
        return "", json.loads(data)["signatureBase"] + "\n"
    if form == "golden-head":
        return "json", "".join(data.splitlines(keepends=True)[:2])
    return ("json" if name.endswith(".json") else ""), data if data.endswith("\n") else data + "\n"


def documentation():
    """docs/protocol.md with every example block as the files have it."""
    def block(found):
        language, data = shown(found[1], found[2])
        return f"<!-- {found[1]} {found[2]} -->\n```{language}\n{data}```\n<!-- /golden -->"
    pattern = r"<!-- (golden[a-z-]*) (\S+) -->\n.*?<!-- /golden -->"
    return re.sub(pattern, block, DOCUMENT.read_text(), flags=re.DOTALL)


def main():
    build()
    # The daemon carries this document in its binary, so no space is spent on indentation.
    derived = {
        DOCUMENT: documentation(),
        SCHEMAS / "openapi.json": json.dumps(openapi.document(SCHEMAS), indent=0, ensure_ascii=False) + "\n",
    }
    ours = {p.relative_to(ROOT).as_posix() for p in ROOT.glob("**/*") if p.is_file()}
    ours = {n for n in ours if n.split("/")[0] in ("bad",) or "/" not in n} - {"README.md"}
    if "--check" in sys.argv:
        wrong = [n for n, data in FILES.items() if not (ROOT / n).is_file() or (ROOT / n).read_bytes() != data]
        wrong += sorted(ours - FILES.keys())
        wrong += [f"../../{p.parent.name}/{p.name}" for p, content in derived.items() if p.read_text() != content]
        for name in wrong:
            print(f"tests/golden/{name} is not what scripts/make-golden writes", file=sys.stderr)
        print(f"{len(FILES) + len(derived) - len(wrong)} passed, {len(wrong)} failed, 0 skipped")
        return 1 if wrong else 0
    (ROOT / "bad").mkdir(parents=True, exist_ok=True)
    for name in ours - FILES.keys():
        (ROOT / name).unlink()
    for name, data in FILES.items():
        (ROOT / name).write_bytes(data)
    for path, content in derived.items():
        path.write_text(content)
    print(f"{len(FILES)} files written under tests/golden")
    return 0


sys.exit(main())

"""What a running node really says, against the schemas, and its figures once more: signatures, chain, sums and access
log of the demo's settled session, by the third implementation. Usage: check_live.py ECHOMESH_LAB"""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import jcs
import keys
from blake3 import blake3
from check_schemas import ROOT, Checks, errors_of, load_schemas
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SCHEMAS, VALIDATORS = load_schemas()


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Node:
    def __init__(self, run_dir):
        self.socket, self.token = f"{run_dir}/api.sock", pathlib.Path(run_dir, "api.token").read_text().strip()

    def ask(self, method, path, body=None, token=True):
        link = Unix(self.socket)
        fields = {"Authorization": f"Bearer {self.token}"} if token else {}
        if body is not None:
            fields["Content-Type"] = "application/json"
        link.request(method, path, body, fields)
        answer = link.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()


def verified(kind, message, member):
    public = Ed25519PublicKey.from_public_bytes(keys.base64.b64decode(message["nodeId"].removeprefix("ed25519:")))
    try:
        public.verify(keys.base64.b64decode(message[member]), keys.signed_bytes(kind, message, member))
        return True
    except InvalidSignature:
        return False


def valid(checks, name, schema, value):
    found = errors_of(VALIDATORS[f"{schema}.schema.json"], value)
    checks.that(not found, f"{name} against {schema}: {found}")


def control_api(checks, node):
    """Every GET of the OpenAPI document answers with the type that it names."""
    document = json.loads((ROOT / "schemas" / "openapi.json").read_text())
    for path, item in document["paths"].items():
        if "get" not in item:
            continue
        status, media, body = node.ask("GET", path)
        listed = item["get"]["responses"]["200"]["content"]
        checks.that(status == 200 and media in listed, f"GET {path}: {status} {media}")
        if media == "application/json":
            json.loads(body)
    valid(checks, "GET /status", "status", json.loads(node.ask("GET", "/status")[2]))
    valid(checks, "GET /sessions", "sessions", json.loads(node.ask("GET", "/sessions")[2]))
    valid(checks, "GET /config", "config", json.loads(node.ask("GET", "/config")[2]))
    served = node.ask("GET", "/openapi.json")[2]
    checks.that(served == (ROOT / "schemas" / "openapi.json").read_bytes(), "GET /openapi.json is the file in schemas/")
    for name, (status, method, path, body, token) in {
        "no token": (401, "GET", "/status", None, False), "no such path": (404, "GET", "/nothing", None, True),
        "no such method": (405, "DELETE", "/status", None, True), "no such action": (422, "POST", "/control", '{"action":"fly"}', True),
        "no JSON": (400, "POST", "/control", "{", True), "no such option": (422, "PUT", "/config", '{"version":1,"x":1}', True),
    }.items():
        found, media, answer = node.ask(method, path, body, token)
        checks.that(found == status and media == "application/problem+json", f"{name}: {found} {media}")
        valid(checks, name, "problem", json.loads(answer))


def lines_of(export, session, bundle):
    rows = []
    for line in export.splitlines(keepends=True):
        row = json.loads(line)
        if row["sessionId"] == session and bundle["windowStart"] <= row["t"] < bundle["windowEnd"]:
            rows.append(line)
    return b"".join(rows)


def settled_session(checks, session, export):
    """The whole account of one session, from what went over the wire."""
    bundles = [row["bundle"] for row in session["bundles"]]
    for step in session["transitions"]:
        valid(checks, step["transition"], "transition", step["body"])
    last = "b3:" + "0" * 64
    for at, bundle in enumerate(bundles):
        valid(checks, f"bundle {at}", "metering-bundle", bundle)
        checks.that(verified("metering", bundle, "nodeSig"), f"bundle {at}: signature")
        checks.that(bundle["seq"] == at and bundle["prevHash"] == last, f"bundle {at}: its place in the chain")
        last = "b3:" + blake3(keys.signed_bytes("metering", bundle, "nodeSig")).hexdigest()
        log = lines_of(export, session["sessionId"], bundle)
        checks.that(bundle["accessLogHash"] == "b3:" + blake3(log).hexdigest(), f"bundle {at}: its access log")
    totals = session["totals"]
    for member in ("bytesIngress", "bytesEgress", "connections", "rejected"):
        checks.that(totals[member] == sum(b[member] for b in bundles), f"totals.{member}")
    checks.that(totals["bundles"] == len(bundles) and totals["lastHash"] == last, "totals.bundles, totals.lastHash")
    checks.that(totals["bytesIngress"] > 100_000_000, "the demo's file is in the bundles")


def look(checks, text):
    run_dir = re.search(r"--run-dir (\S+)", text)[1]
    lab = http.client.HTTPConnection(re.search(r"curl http://([\d.:]+)/verdict", text)[1], timeout=10)

    def ask(path):
        lab.request("GET", path)
        return json.loads(lab.getresponse().read())

    node = Node(run_dir)
    control_api(checks, node)
    export = node.ask("GET", "/logs/export")[2]
    for at, line in enumerate(export.splitlines()):
        valid(checks, f"log line {at}", "log-line", json.loads(line))
        checks.that(jcs.canonical(json.loads(line)).encode() == line, f"log line {at} is in RFC 8785 form")
    for known in ask("/nodes"):
        valid(checks, "register request", "register-request", known["register"])
        if known.get("heartbeat"):
            valid(checks, "heartbeat", "heartbeat-request", known["heartbeat"])
    reports = [p["report"] for p in ask("/probes") if p["report"]]
    for report in reports:
        valid(checks, "probe report", "probe-refusal" if "refused" in report else "probe-report", report)
        checks.that(verified("probe-report", report, "nodeSig"), "probe report: signature")
    checks.that(reports, "the demo's probe was reported")
    settled = [s for s in ask("/sessions") if s["totals"]]
    checks.that(settled, "a session has settled")
    for session in settled:
        settled_session(checks, session, export)


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch, "demo.out")
        with out.open("wb") as sink:
            demo = subprocess.Popen([sys.argv[1], "demo", "--keep"], stdout=sink, stderr=sink, env=os.environ | {"TMPDIR": scratch})
        try:
            for _ in range(600):
                if "Ctrl-C ends it" in out.read_text() or demo.poll() is not None:
                    break
                time.sleep(0.2)
            checks.that(demo.poll() is None, f"the demo keeps running:\n{out.read_text()[-2000:]}")
            if demo.poll() is None:
                look(checks, out.read_text())
        finally:
            if demo.poll() is None:
                demo.send_signal(signal.SIGINT)
                demo.wait(10)
    print(f"{checks.passed} passed, {checks.failed} failed, 0 skipped")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The release binary on a bus of the tests' own. Nothing leaves the machine: no coordinator is reached, nobody is asked for a name."""
import contextlib
import json
import os
import pathlib
import queue
import re
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

from broker import A_NO_REPLY, LIMIT, OBJECT, A_DATA, A_METHOD, A_OBJECT, INVOKE, Broker, Raw, Width, blob, members, message, number

ECHOMESH = os.environ["ECHOMESH"]
OK, INVALID, NO_METHOD, NOT_FOUND, DENIED, TIMEOUT, UNSUPPORTED = 0, 2, 3, 4, 6, 7, 8
TABLE, STRING, INTEGER, BOOLEAN = 2, 3, 5, 7
SIGNATURE = {
    "status": {},
    "control": {"action": STRING},
    "config_get": {},
    "config_set": {"config": TABLE, "etag": STRING},
    "sessions": {},
    "session_close": {"id": STRING},
    "logs_export": {"since": STRING, "kind": STRING, "cursor": STRING, "limit": INTEGER},
    "diagnostics": {},
    "report": {},
    "keys": {"passphrase": STRING},
    "updates": {},
    "wipe": {"confirm": BOOLEAN},
    "reload": {},
}
# Nobody listens there; without a coordinator there would be but one state.
COORDINATOR = {"url": "https://127.0.0.1:9", "publicKey": "ed25519:AdPs/LfWnlLvc9PfsuBQyixHxs5fjgm14zrkHoiN7hA="}
LINES = 3000
# Not long ago: older lines are dropped.
FIRST = int(time.time()) - LINES - 60


def instant(n):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(FIRST + n))


def line(n):
    fields = {"buyer": "acme", "hostHash": "0" * 64, "n": n, "port": 443, "sessionId": "s", "status": 200}
    return json.dumps(fields, separators=(",", ":"))[:-1] + f',"t":"{instant(n)}"}}'


class Node(unittest.TestCase):
    """A node with its own directory and, unless the test says otherwise, a broker that was there first."""

    config = {}
    lines = 0
    with_broker = True

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="echomesh-ubus-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.socket, self.file, self.log = self.dir / "ubus.sock", self.dir / "config.json", self.dir / "log.txt"
        self.prepare()
        if self.with_broker:
            self.broker = self.bus()
        self.start()
        if self.with_broker:
            self.assertTrue(self.broker.registered.wait(30), self.said())

    def prepare(self):
        self.write_config({})
        logs = self.dir / "run" / "log"
        logs.mkdir(parents=True)
        (self.dir / "run").chmod(0o700)
        (logs / "access.0").write_text("".join(line(n) + "\n" for n in range(self.lines)))

    def document(self, **more):
        document = {"version": 1, "node": {"idPath": str(self.dir / "node.key")}, "relay": {"listen": "127.0.0.1:0"}}
        # Where the tests run there may be no other user.
        document["security"] = {"sandboxMode": "standard", "guard": "optional"}
        return {**document, **self.config, **more}

    def write_config(self, more):
        self.file.write_text(json.dumps(self.document(**more)))

    def bus(self, **options):
        broker = Broker(self.socket, **options)
        self.addCleanup(lambda: os.path.exists(broker.path) and broker.close())
        return broker

    def start(self):
        log = self.log.open("ab")
        self.addCleanup(log.close)
        command = [ECHOMESH, "run", "--config", self.file, "--run-dir", self.dir / "run", "--state-dir", self.dir / "state"]
        command += ["--api", "127.0.0.1:0", "--ubus", self.socket]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.addCleanup(self.stop)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(10), 0, self.said())
        if self.with_broker:
            self.assertEqual(self.broker.faults, [])

    def said(self):
        return self.log.read_text()

    def http(self, path):
        address = re.search(r"API ([0-9.:]+)", self.said())[1]
        token = (self.dir / "run" / "api.token").read_text().strip()
        request = urllib.request.Request(f"http://{address}{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def call(self, method, arguments=None, **more):
        return self.broker.call(method, arguments, **more)

    def good(self, method, arguments=None, **more):
        status, body = self.call(method, arguments, **more)
        self.assertEqual(status, OK, body)
        return body

    def refused(self, status, slug, method, arguments=None, **more):
        code, body = self.call(method, arguments, **more)
        self.assertEqual((code, body and body["type"]), (status, slug), body)
        return body

    def event(self, kind, **wanted):
        """The next event of a kind; those before are passed over."""
        while True:
            event = self.broker.event()
            self.assertEqual(set(event), {"id", "data"})
            self.assertEqual(event["id"], "echomesh")
            if event["data"]["event"] == kind and wanted.items() <= event["data"].items():
                return event["data"]


class Methods(Node):
    config = {"coordinator": COORDINATOR}
    lines = LINES

    def test_the_object_and_its_signature(self):
        self.assertEqual(self.broker.signature, SIGNATURE)

    def test_bodies_are_those_of_the_http_api(self):
        status, other = self.good("status"), self.http("/status")
        self.assertEqual(set(status), set(other))
        for same in ("version", "nodeId", "state", "since", "config", "today", "sandbox"):
            self.assertEqual(status[same], other[same])
        self.assertEqual(self.good("config_get"), self.http("/config"))
        self.assertEqual(self.good("sessions"), {"sessions": []})
        self.assertEqual(set(self.good("diagnostics")), set(self.http("/diagnostics")))
        report = self.good("report")
        self.assertEqual(report["kind"], "echomesh-report")
        self.assertNotIn(COORDINATOR["publicKey"], json.dumps(report))
        self.assertEqual(self.good("keys"), {"nodeId": status["nodeId"], "locked": False})

    def test_control_and_its_events(self):
        self.assertEqual(self.good("control", {"action": "pause"})["state"], "paused")
        event = self.event("state", state="paused")
        self.assertEqual(set(event), {"event", "state", "reason", "since"})
        self.assertEqual(self.good("control", {"action": "start", "ubus_rpc_session": "0" * 32})["state"], "idle")
        self.event("state", state="idle")
        self.refused(INVALID, "invalid", "control", {"action": "halt"})
        self.refused(INVALID, "invalid", "control")

    def test_the_configuration_is_changed_and_kept(self):
        old = self.good("config_get")
        etag = self.good("status")["config"]["etag"]
        new = {**old, "network": {**old["network"], "maxMbps": 7.25, "maxGBPerDay": 9_000}}
        self.assertEqual(self.good("config_set", {"config": new, "etag": etag})["network"], new["network"])
        self.assertEqual(self.http("/config"), self.good("config_get"))
        self.assertEqual(json.loads(self.file.read_text())["network"]["maxMbps"], 7.25)
        self.refused(INVALID, "etag-mismatch", "config_set", {"config": old, "etag": etag})
        problem = self.refused(INVALID, "config-invalid", "config_set", {"config": {**new, "network": {"maxMbps": "fast"}}})
        self.assertIn("network.maxMbps", problem["errors"][0])
        self.assertEqual(self.good("config_get")["network"], new["network"])

    def test_reload_reads_the_file_again(self):
        self.write_config({"network": {"maxMbps": 3}})
        before = self.good("status")["config"]["etag"]
        after = self.good("reload")["etag"]
        self.assertNotEqual(before, after)
        self.assertEqual(self.good("config_get")["network"]["maxMbps"], 3)
        self.write_config({"network": {"maxMbps": -3}})
        self.assertIn("network.maxMbps", self.refused(INVALID, "config-invalid", "reload")["errors"][0])
        status = self.good("status")
        self.assertEqual(status["config"]["etag"], after)
        self.assertIn("network.maxMbps", status["config"]["errors"][0])

    def test_an_export_comes_in_pages_with_each_line_once(self):
        for limit, pages in ((None, 3), (1000, 3), (700, 5)):
            lines, more, asked, cursor = [], True, 0, {}
            while more:
                page = self.good("logs_export", {**({"limit": limit} if limit else {}), **cursor})
                self.assertLess(self.broker.size, 400_000)
                lines += page["lines"]
                more, cursor, asked = page["more"], {"cursor": page["cursor"]}, asked + 1
            self.assertEqual((lines, asked), ([line(n) for n in range(LINES)], pages))
        self.assertEqual(self.good("logs_export", cursor)["lines"], [])
        late = self.good("logs_export", {"since": instant(LINES - 10)})
        self.assertEqual((late["lines"], late["more"]), ([line(n) for n in range(LINES - 10, LINES)], False))
        self.assertEqual(self.good("logs_export", {"kind": "bundles"})["lines"], [])
        self.refused(INVALID, "cursor-unknown", "logs_export", {"cursor": "access-1"})
        self.refused(INVALID, "cursor-unknown", "logs_export", {"kind": "bundles", **cursor})

    def test_what_is_asked_wrongly_is_refused(self):
        self.refused(NO_METHOD, "method-unknown", "nomethod")
        self.refused(NO_METHOD, "method-unknown", "x" * 5000)
        self.refused(NOT_FOUND, "session-unknown", "session_close", {"id": "c2b9f8c8-0000-4000-8000-0123456789ab"})
        self.refused(UNSUPPORTED, "not-supported", "updates")
        self.refused(UNSUPPORTED, "not-supported", "wipe", {"confirm": True})
        self.refused(INVALID, "not-locked", "keys", {"passphrase": "p"})
        strange = {STRING: 5, TABLE: [], INTEGER: "7", BOOLEAN: Width(32, 1)}
        for method, arguments in SIGNATURE.items():
            self.refused(INVALID, "invalid", method, {"stranger": 1})
            for name, kind in arguments.items():
                self.refused(INVALID, "invalid", method, {name: strange[kind]})
                self.refused(INVALID, "invalid", method, {name: None})

    def test_integers_of_every_width_are_one_kind(self):
        for value in (Width(16, 5), Width(32, 5), Width(64, 5), 5.0):
            self.assertEqual(len(self.good("logs_export", {"limit": value})["lines"]), 5)
        for value in (5.5, Width(64, 2**62), Width(16, -1), Width(8, 1)):
            self.refused(INVALID, "invalid", "logs_export", {"limit": value})

    def test_arguments_that_cannot_be_read_harm_nobody(self):
        for raw in (b"\1\2\3\4", b"\0\0\0\3", members({"a": 1}) * 2, members({"a": Raw(9, b"")}), members({"a": Raw(3, b"x")})):
            self.refused(INVALID, "malformed", "status", raw=raw)
        deep = members({"a": 1})
        for _ in range(40):
            deep = members({"a": Raw(2, deep)})
        self.refused(INVALID, "malformed", "status", raw=deep)
        self.refused(INVALID, "malformed", "status", {"a": [None] * 40_000})
        self.assertEqual(self.broker.connections, 1)

    def test_a_call_may_come_in_pieces_and_without_a_wish_for_an_answer(self):
        self.assertEqual(self.good("status", pieces=1)["state"], "idle")
        silent = self.broker.invoke("control", {"action": "pause"}, extra=blob(A_NO_REPLY, b"\1"))
        self.assertEqual(self.good("status")["state"], "paused")
        self.assertFalse(self.broker.is_answered(silent))

    def test_the_limit_of_a_message(self):
        frame = len(message(INVOKE, 1, 1, number(A_OBJECT, OBJECT), blob(A_METHOD, b"config_set\0"), blob(A_DATA, b"")))
        room = LIMIT + 8 - frame - len(blob(12, b"root\0") * 2) - len(members({"etag": ""})) + 4
        body = self.refused(INVALID, "invalid", "config_set", {"etag": "x" * (room - 1)})
        self.assertIn("/config", body["detail"])
        self.assertEqual(self.broker.connections, 1)
        with contextlib.suppress(OSError):  # It may be gone before the last byte.
            self.broker.invoke("config_set", {"etag": "x" * (room + 7)})
        deadline = time.monotonic() + 10
        while self.broker.connections < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertTrue(self.broker.registered.wait(10))
        self.assertEqual(self.good("status")["state"], "idle")


class Alerts(Node):
    """Somebody who is no guard listens where the guard should."""

    def prepare(self):
        super().prepare()
        self.guard = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(self.guard.close)
        self.guard.bind(str(self.dir / "run" / "guard.sock"))
        self.guard.listen()
        self.guard.settimeout(10)

    def test_an_alert_is_an_event(self):
        connection, _ = self.guard.accept()
        connection.send(b"\xff" * 9)
        event = self.event("alert", code="guard-lost")
        self.assertEqual(set(event), {"event", "code", "detail", "since"})
        connection.close()


class Coming(Node):
    """A bus that comes late, goes, and comes again."""

    with_broker = False
    config = {"coordinator": COORDINATOR}

    def test_the_object_comes_back_with_the_bus(self):
        self.broker = self.bus(refusals=1)
        self.assertTrue(self.broker.registered.wait(20), self.said())
        self.assertEqual(self.broker.connections, 2, "the first object was refused")
        for _ in range(2):
            self.event("state", state="idle") if self.broker.connections == 2 else None
            self.broker.close()
            deadline = time.monotonic() + 10
            while "ended" not in self.said().splitlines()[-1] and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(self.http("/status")["state"], "idle", "the node goes on without a bus")
            self.broker = self.bus()
            self.assertTrue(self.broker.registered.wait(10), self.said())
            self.assertEqual(self.good("status")["state"], "idle")
        self.good("control", {"action": "pause"})
        self.event("state", state="paused")
        self.assertEqual(self.broker.faults, [])
        self.broker.send(b"\1" * 64)
        self.assertTrue(self.broker.registered.wait(10))
        deadline = time.monotonic() + 10
        while self.broker.connections < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertTrue(self.broker.registered.wait(10))
        self.assertEqual(self.good("status")["state"], "paused")


class Locked(Node):
    """A key that is sealed."""

    config = {"coordinator": COORDINATOR}

    def prepare(self):
        super().prepare()
        (self.dir / "pass").write_text("correct horse\n")
        (self.dir / "pass").chmod(0o600)
        command = [ECHOMESH, "keys", "generate", "--config", self.file, "--passphrase-file", self.dir / "pass"]
        subprocess.run(command, check=True, capture_output=True)

    def test_a_passphrase_is_tried_beside_other_calls(self):
        self.assertEqual(self.good("keys"), {"nodeId": None, "locked": True})
        self.refused(INVALID, "locked", "control", {"action": "start"})
        self.refused(INVALID, "locked", "logs_export")
        wrong = self.broker.invoke("keys", {"passphrase": "wrong horse"})
        self.assertEqual(self.good("status")["state"], "locked")
        self.assertFalse(self.broker.is_answered(wrong), "the status waited for the passphrase")
        status, body = self.broker.answer(wrong, 60)
        self.assertEqual((status, body["type"]), (DENIED, "wrong-passphrase"))
        problem = self.refused(TIMEOUT, "rate-limited", "keys", {"passphrase": "correct horse"})
        time.sleep(int(re.search(r"in (\d+) s\.", problem["detail"])[1]) + 0.5)
        # The bus goes while a passphrase is tried: the trial ends all the same, and the next is taken.
        self.broker.invoke("keys", {"passphrase": "wrong horse"})
        self.assertEqual(self.good("status")["state"], "locked")
        self.broker.close()
        self.broker = self.bus()
        self.assertTrue(self.broker.registered.wait(30))
        deadline = time.monotonic() + 60
        while (answer := self.call("keys", {"passphrase": "correct horse"}, timeout=60))[0] == TIMEOUT and time.monotonic() < deadline:
            time.sleep(0.5)
        self.assertEqual(answer[0], OK, answer)
        self.event("state", state="idle")
        self.assertEqual(self.good("keys"), {"nodeId": answer[1]["nodeId"], "locked": False})
        self.assertEqual(self.broker.connections, 1)


class Idle(Node):
    def switches(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/status")
        return sum(int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", t.read_text(), re.M)[1]) for t in tasks)

    def test_a_quiet_bus_wakes_nobody(self):
        # The guard is looked for at 0, 0.25, 1.25, 5.25 and 21.25 s.
        time.sleep(7)
        with self.assertRaises(queue.Empty):
            while True:
                self.broker.event(0.1)
        before = self.switches()
        time.sleep(8)
        self.assertEqual(self.switches() - before, 0)
        self.good("status")


class Without(Node):
    with_broker = False

    def start(self):
        self.socket = "off"
        super().start()

    def test_without_a_bus_nothing_is_said_of_it(self):
        deadline = time.monotonic() + 10
        while "ready" not in self.said() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        self.assertNotIn("ubus:", self.said())
        self.assertEqual(self.http("/status")["state"], "unconfigured")


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=1)
    result = program.result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed, {len(result.skipped)} skipped")
    raise SystemExit(1 if failed else 0)

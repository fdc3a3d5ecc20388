#!/usr/bin/env python3
"""`guard --uci` and `run --uci` with a `uci`: our stand-in, or the real one that UCI names. Run by tests/suites/uci.sh, as root, in a
network namespace of its own."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ECHOMESH = os.environ["ECHOMESH"]
REAL = os.environ.get("UCI")
USER = "54321:54321"
PACKAGE = (ROOT / "openwrt" / "files" / "echomesh.config").read_text()


class Api(http.client.HTTPConnection):
    """The node's Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.path)


class Router:
    """A directory with a `uci`, its files, and the two processes."""

    def __init__(self, text=PACKAGE):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="echomesh-uci-"))
        self.dir.chmod(0o755)
        (self.dir / "config").mkdir()
        (self.dir / "delta").mkdir()
        self.uci_path = self.dir / "uci"
        if REAL:
            self.uci_path.write_text(f'#!/bin/sh\nexec {REAL} -c "{self.dir}/config" -t "{self.dir}/delta" "$@"\n')
            self.uci_path.chmod(0o755)
        else:
            shutil.copy(HERE / "uci", self.uci_path)
        self.file = self.dir / "config" / "echomesh"
        state = self.dir / "state"
        self.file.write_text(text.replace("/etc/echomesh/node.key", str(state / "node.key")))
        self.file.chmod(0o640)
        self.run_dir = self.dir / "run"
        self.processes = {}

    def uci(self, *arguments, text=None, check=True):
        done = subprocess.run([self.uci_path, *arguments], input=text, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(f"uci {arguments}: {done.stderr}")
        return done.stdout

    def start(self, name):
        extra = {"guard": ["--uci-path", self.uci_path], "run": ["--api", "off"]}[name]
        command = [ECHOMESH, name, "--uci", "--user", USER, "--run-dir", self.run_dir, *extra]
        with (self.dir / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(command, stderr=log, stdout=log)

    def begin(self):
        self.start("guard")
        self.start("run")
        self.wait(lambda: self.status()["guard"] == "up")
        return self

    def log(self, name):
        return (self.dir / f"{name}.log").read_text()

    def wait(self, holds, seconds=20):
        end = time.monotonic() + seconds
        while True:
            try:
                if holds():
                    return
            except (OSError, http.client.HTTPException):
                pass
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s\n{self.log('guard')}\n{self.log('run')}")
            time.sleep(0.05)

    def ask(self, method, path, body=None, **fields):
        api = Api(self.run_dir / "api.sock")
        token = (self.run_dir / "api.token").read_text().strip()
        head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **fields}
        api.request(method, path, None if body is None else json.dumps(body), head)
        answer = api.getresponse()
        content = json.loads(answer.read() or b"null")
        api.close()
        return answer.status, dict(answer.getheaders()), content

    def status(self):
        return self.ask("GET", "/status")[2]

    def config(self):
        _, head, document = self.ask("GET", "/config")
        return document, head["ETag"]

    def put(self, change, **fields):
        document, tag = self.config()
        change(document)
        return self.ask("PUT", "/config", document, **{"If-Match": tag, **fields})

    def hup(self, name="run"):
        self.processes[name].send_signal(signal.SIGHUP)

    def children(self):
        pid = self.processes["guard"].pid
        return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        codes = {name: process.wait(20) for name, process in self.processes.items()}
        subprocess.run(["nft", "delete", "table", "inet", "echomesh"], capture_output=True)
        shutil.rmtree(self.dir)
        return codes


class Uci(unittest.TestCase):
    def router(self, text=PACKAGE, begin=True):
        router = Router(text)
        self.addCleanup(router.end)
        return router.begin() if begin else router

    def test_the_node_runs_by_the_package_s_file_and_a_reload_takes_what_was_set(self):
        router = self.router()
        status = router.status()
        self.assertEqual((status["state"], status["config"]["errors"]), ("unconfigured", []))
        self.assertEqual(router.config()[0]["network"]["maxMbps"], 10)
        # A change counts without a commit, as everywhere in OpenWrt.
        router.uci("set", "echomesh.network.max_mbps=44")
        router.hup()
        router.wait(lambda: router.config()[0]["network"]["maxMbps"] == 44)
        router.uci("add_list", "echomesh.node.region_allow=PH-NCR")
        router.uci("commit", "echomesh")
        router.hup()
        router.wait(lambda: router.config()[0]["node"]["regionAllow"] == ["PH-NCR"])

    def test_an_invalid_option_is_named_and_the_last_good_configuration_stays(self):
        router = self.router()
        _, tag = router.config()
        for change, named in [
            ("echomesh.network.max_mbps=fast", 'echomesh.network.max_mbps: "fast" is not a number; allowed: 0.1 to 100000 (Mbit/s)'),
            ("echomesh.network.maxMbps=5", "echomesh.network.maxMbps: this option is not known; allowed: max_mbps, "),
            ("echomesh.other=thing", "echomesh.other: the section type thing is not known; allowed: echomesh, node, "),
            ("echomesh.relay.transport=pigeon", 'echomesh.relay.transport: "pigeon" is not one of the words known here; allowed: auto, direct, tunnel'),
        ]:
            with self.subTest(change):
                router.uci("set", change)
                router.hup()
                router.wait(lambda: any(e.startswith(named) for e in router.status()["config"]["errors"]))
                self.assertEqual(router.config()[1], tag)
                self.assertIn(f"error: the configuration stays as it was: {named}", router.log("run"))
                router.uci("revert", "echomesh")
                router.hup()
                router.wait(lambda: not router.status()["config"]["errors"])

    def test_a_first_configuration_that_is_invalid_leaves_the_node_unconfigured_until_it_is_repaired(self):
        text = PACKAGE.replace("option max_mbps '10'", "option max_mbps 'fast'", 1)
        router = self.router(text)
        status = router.status()
        self.assertEqual(status["state"], "unconfigured")
        self.assertIn('echomesh.network.max_mbps: "fast" is not a number', status["reason"])
        self.assertEqual(len(status["config"]["errors"]), 1)
        code, _, _ = router.put(lambda d: d["network"].update(maxMbps=12))
        self.assertEqual(code, 200)
        self.assertEqual(router.status()["config"]["errors"], [])
        self.assertIn("echomesh.network.max_mbps='12'", router.uci("-X", "show", "echomesh"))

    def test_a_file_that_uci_cannot_read_is_told_in_its_words(self):
        router = self.router("config network 'network'\n\toption max_mbps 'unterminated\n")
        self.assertIn("Parse error (EOF with unterminated ')", router.status()["config"]["errors"][0])

    def test_put_outlives_a_restart_and_leaves_other_packages_alone(self):
        router = self.router(PACKAGE.replace("option enabled '0'", "option enabled '1'"))
        other = router.dir / "config" / "network"
        other.write_text("# theirs\nconfig interface 'lan'\n")

        def change(document):
            document["network"]["maxMbps"] = 7.5
            document["node"]["regionAllow"] = ["it's \"here\"", "DE-Sachsen"]
            document["node"]["schedules"] = [{"days": ["Mon", "Tue"], "start": "22:00", "end": "06:00"}]

        code, head, answer = router.put(change)
        self.assertEqual((code, answer["network"]["maxMbps"]), (200, 7.5))
        self.assertEqual(head["ETag"], router.config()[1])
        shown = router.uci("-X", "show", "echomesh")
        self.assertIn("echomesh.node.region_allow='it'\\''s \"here\"' 'DE-Sachsen'\n", shown)
        self.assertIn(".days='Mon' 'Tue'\n", shown)
        self.assertIn("echomesh.main.enabled='1'\n", shown)
        self.assertEqual(self.mode(router.file), 0o640)
        self.assertEqual(router.file.stat().st_uid, 0)
        self.assertEqual(other.read_text(), "# theirs\nconfig interface 'lan'\n")
        self.assertEqual([p.name for p in router.file.parent.iterdir() if p.name.startswith(".")], [])
        before = router.config()
        # The same again is no write.
        stamp = router.file.stat().st_mtime_ns
        self.assertEqual(router.put(lambda d: None)[0], 200)
        self.assertEqual(router.file.stat().st_mtime_ns, stamp)
        router.processes["run"].terminate()
        router.processes["run"].wait(20)
        router.start("run")
        router.wait(lambda: router.config() == before)

    @staticmethod
    def mode(path):
        return path.stat().st_mode & 0o777

    def test_what_somebody_else_has_set_meanwhile_is_not_overwritten(self):
        router = self.router()
        router.uci("set", "echomesh.network.max_gb_per_day=3")
        code, _, problem = router.put(lambda d: d["network"].update(maxMbps=20))
        self.assertEqual((code, problem["type"]), (412, "etag-mismatch"))
        self.assertIn("reload the node", problem["detail"])
        self.assertEqual(router.config()[0]["network"]["maxMbps"], 10)
        self.assertIn("echomesh.network.max_gb_per_day='3'", router.uci("-X", "show", "echomesh"))
        router.hup()
        router.wait(lambda: router.config()[0]["network"]["maxGBPerDay"] == 3)
        self.assertEqual(router.put(lambda d: d["network"].update(maxMbps=20))[0], 200)
        # What was not committed is now, and nothing is left to be.
        shown = router.uci("-X", "show", "echomesh")
        router.uci("revert", "echomesh")
        self.assertEqual(router.uci("-X", "show", "echomesh"), shown)
        self.assertIn("max_gb_per_day '3'", router.file.read_text())
        # An uncommitted change that is asked for once more is committed.
        router.uci("set", "echomesh.network.max_gb_per_day=4")
        router.hup()
        router.wait(lambda: router.config()[0]["network"]["maxGBPerDay"] == 4)
        self.assertEqual(router.put(lambda d: None)[0], 200)
        self.assertIn("max_gb_per_day '4'", router.file.read_text())

    def test_a_write_that_fails_leaves_the_running_configuration_and_says_so(self):
        router = self.router()
        before = router.config()
        router.uci_path.rename(router.dir / "gone")
        code, _, problem = router.put(lambda d: d["network"].update(maxMbps=20))
        self.assertEqual((code, problem["type"]), (500, "internal"))
        self.assertIn("No such file", problem["detail"])
        self.assertEqual(router.config(), before)
        (router.dir / "gone").rename(router.uci_path)
        self.assertEqual(router.put(lambda d: d["network"].update(maxMbps=20))[0], 200)
        code, _, problem = router.put(lambda d: d["network"].update(maxMbps="fast"))
        self.assertEqual((code, problem["type"]), (422, "config-invalid"))

    def test_the_process_that_executes_has_no_rights_and_the_guard_executes_nothing(self):
        router = self.router()
        children = router.children()
        self.assertEqual(len(children), 1)
        fields = lambda pid: dict(re.findall(r"(\w+):\t(.*)", pathlib.Path(f"/proc/{pid}/status").read_text()))
        child, guard = fields(children[0]), fields(router.processes["guard"].pid)
        self.assertEqual({child[c] for c in ("CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh")}, {"0" * 16})
        self.assertEqual((child["NoNewPrivs"], child["Seccomp"]), ("1", "2"))
        self.assertEqual((guard["CapEff"], guard["Seccomp"]), (f"{1 << 12:016x}", "2"))
        # Without it the guard ends, so that its successor begins anew; with the guard it ends itself.
        os.kill(children[0], signal.SIGKILL)
        _, _, _ = router.put(lambda d: d["network"].update(maxMbps=20))
        self.assertEqual(router.processes["guard"].wait(20), 1)
        router.start("guard")
        router.wait(lambda: router.status()["guard"] == "up")
        self.assertEqual(router.put(lambda d: d["network"].update(maxMbps=20))[0], 200)
        child = router.children()[0]
        router.processes["guard"].kill()
        router.wait(lambda: not pathlib.Path(f"/proc/{child}").exists())

    def test_a_node_that_starts_before_its_guard_gets_its_configuration_when_that_comes(self):
        router = self.router(PACKAGE.replace("option max_mbps '10'", "option max_mbps '11'", 1), begin=False)
        router.start("run")
        router.wait(lambda: router.status()["state"] == "unconfigured", 30)
        self.assertIn("the guard does not answer", router.status()["config"]["errors"][0])
        router.start("guard")
        router.wait(lambda: router.config()[0]["network"]["maxMbps"] == 11)

    def test_uci_that_hangs_is_ended_and_the_guard_reports_on(self):
        router = self.router()
        real = router.uci_path.read_bytes()
        router.uci_path.write_text("#!/bin/sh\nexec sleep 60\n")
        begun = time.monotonic()
        code, _, problem = router.put(lambda d: d["network"].update(maxMbps=20))
        self.assertEqual(code, 500)
        self.assertIn("it took too long", problem["detail"])
        self.assertLess(time.monotonic() - begun, 20)
        self.assertEqual(router.status()["guard"], "up")
        router.uci_path.write_bytes(real)
        self.assertEqual(router.put(lambda d: d["network"].update(maxMbps=20))[0], 200)

    def test_the_guard_writes_nothing_that_is_no_configuration_of_this_package(self):
        router = self.router()
        before = router.uci("-X", "show", "echomesh")
        guard = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        guard.settimeout(20)
        guard.connect(str(router.run_dir / "guard.sock"))

        def ask(kind, body):
            guard.send(bytes([1, kind]) + body)
            while True:
                answer = guard.recv(100000)
                if answer[1] not in (1, 2, 7):
                    return answer

        def put(text):
            for at in range(0, len(text), 4096):
                answer = ask(0x83, at.to_bytes(4, "big") + text[at : at + 4096])
                if answer[1] != 4:
                    return answer
            return ask(0x84, bytes(32))

        good = b"config echomesh 'main'\n\toption version '1'\n"
        for text, why in [
            (b"", b"version: is missing"),
            (b"package network\n" + good, b"begins no line"),
            (good + b"config interface 'lan'\n", b"section type interface is not known"),
            (good + b"config log 'log'\n\toption level 'warn'; commit\n", b"a bare ; stands here"),
            (good + b"config log 'log'\n\toption level 'loud'\n", b'"loud" is not one of the words'),
            (good + b"#" * (256 * 1024), b"too long"),
            # Valid, but not made over what UCI says.
            (good, b"something else than what was read"),
        ]:
            with self.subTest(text[:60]):
                answer = put(text)
                self.assertEqual(answer[:2], b"\x01\x06")
                self.assertIn(why, answer)
        self.assertEqual(router.uci("-X", "show", "echomesh"), before)
        # What is no message ends the connection.
        guard.send(bytes([1, 0x83, 0]))
        while answer := guard.recv(100000):
            self.assertIn(answer[1], (1, 2, 7))
        guard.close()
        self.assertEqual(router.status()["guard"], "up")

    def test_others_are_not_served(self):
        router = self.router()
        ask = (
            "import socket,sys\ns=socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.settimeout(5)\n"
            f"s.connect({str(router.run_dir / 'guard.sock')!r})\ns.send(bytes([1,0x82,0,0,0,0]))\nprint(len(s.recv(100000)))\n"
        )
        router.run_dir.chmod(0o755)
        (router.run_dir / "guard.sock").chmod(0o777)
        done = subprocess.run(["setpriv", "--reuid=65000", "--clear-groups", sys.executable, "-c", ask], capture_output=True, text=True)
        self.assertIn(done.stdout.strip(), ("0", ""), done)
        router.wait(lambda: "user 65000 connected to the guard and was sent away" in router.log("guard"))


@unittest.skipUnless(REAL, "UCI names no real uci to compare the stand-in with")
class StandIn(unittest.TestCase):
    """The same commands to both."""

    def test_the_stand_in_says_what_the_real_one_says(self):
        odd = "config a 'x'\n\toption o \"it's \\\\ \\\" two\nlines\"\n\tlist l 'b  c'\n\tlist l ''\n\noption_less\n"
        steps = [
            (("import", "echomesh"), PACKAGE),
            (("-X", "show", "echomesh"), None),
            (("set", "echomesh.network.max_mbps=44"), None),
            (("add_list", "echomesh.node.region_allow=it's"), None),
            (("add_list", "echomesh.node.region_allow=two words"), None),
            (("set", "echomesh.night=schedule"), None),
            (("delete", "echomesh.log.level"), None),
            (("-X", "show", "echomesh"), None),
            (("commit", "echomesh"), None),
            (("-X", "show", "echomesh"), None),
            (("set", "echomesh.network.max_mbps=45"), None),
            (("import", "echomesh"), odd.replace("option_less\n", "config schedule\n\tlist days Mon\nconfig empty\n")),
            (("-X", "show", "echomesh"), None),
            (("revert", "echomesh"), None),
            (("-X", "show", "echomesh"), None),
            (("import", "echomesh"), odd),
            (("import", "echomesh"), "config a 'x\n"),
            (("-X", "show", "echomesh"), None),
        ]
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            for folder in (one, two):
                os.mkdir(f"{folder}/config")
                os.mkdir(f"{folder}/delta")
                pathlib.Path(f"{folder}/config/echomesh").touch()
            shutil.copy(HERE / "uci", f"{one}/uci")
            for arguments, text in steps:
                ours = subprocess.run([f"{one}/uci", *arguments], input=text, capture_output=True, text=True)
                real = [REAL, "-c", f"{two}/config", "-t", f"{two}/delta", *arguments]
                theirs = subprocess.run(real, input=text, capture_output=True, text=True)
                self.assertEqual((ours.stdout, ours.returncode), (theirs.stdout, theirs.returncode), arguments)
                files = [pathlib.Path(f"{folder}/config/echomesh").read_text() for folder in (one, two)]
                self.assertEqual(files[0].strip(), files[1].strip(), arguments)


if __name__ == "__main__":
    outcome = unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]], exit=False).result
    failed, skipped = len(outcome.failures) + len(outcome.errors), len(outcome.skipped)
    print(f"{max(outcome.testsRun - failed - skipped, 0)} passed, {failed} failed, {skipped} skipped")
    sys.exit(bool(failed))

"""Sealed keys from outside: prompts on a pseudo-terminal, openssl as the oracle, a node that waits for its passphrase.

python3 tests/keys/run.py BINARY [PATTERN...]; the last line is `N passed, N failed, N skipped`.
"""
import http.client
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

BINARY = sys.argv[1]
SECRET = "correct horse battery"
WRONG = "incorrect horse battery"
CONFIG = "version: 1\nnode: {{ idPath: {dir}/state/node.key }}\nrelay: {{ listen: 127.0.0.1:0 }}\n" \
    "security: {{ sandboxMode: standard, guard: optional{more} }}\n"


class Box:
    """A directory with a configuration, a state and a run directory, and the node that runs in it."""

    def __init__(self, directory, more=""):
        self.dir = Path(directory)
        self.key = self.dir / "state/node.key"
        self.config = self.dir / "config.yaml"
        self.config.write_text(CONFIG.format(dir=directory, more=more))
        self.log = self.dir / "node.log"
        self.node = None

    def run(self, *line, stdin=b"", code=0):
        done = subprocess.run([BINARY, *line], input=stdin, capture_output=True, timeout=60)
        assert done.returncode == code, f"{line}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout.decode() + done.stderr.decode()

    def keys(self, *line, **rest):
        place = ["--run-dir", str(self.dir / "run")] if line[0] == "unlock" else ["--config", str(self.config)]
        return self.run("keys", *line, *place, **rest)

    def file(self, name, text):
        path = self.dir / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def start(self):
        with open(self.log, "ab") as log:
            self.node = subprocess.Popen([BINARY, "run", "--config", self.config, "--run-dir", self.dir / "run", "--api", "off"],
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: (self.dir / "run/api.token").exists() and (self.dir / "run/api.sock").exists())

    def stop(self):
        if self.node and self.node.poll() is None:
            self.node.send_signal(signal.SIGTERM)
            assert self.node.wait(10) == 0
        self.node = None

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.dir / "run/api.sock"))
        fields = {"Authorization": "Bearer " + (self.dir / "run/api.token").read_text().strip()}
        if body is not None:
            fields["Content-Type"] = "application/json"
        connection.request(method, path, None if body is None else json.dumps(body), fields)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, (json.loads(text) if text.startswith("{") else text)

    def state(self):
        return self.ask("GET", "/status")[1]["state"]


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def terminal(line, answers):
    """Runs a command on a terminal and types each answer when its prompt stands there; exit code and all that showed."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(BINARY, [BINARY, *line])
    shown, answers = b"", list(answers)
    while True:
        ready, _, _ = select.select([master], [], [], 30)
        assert ready, f"no end: {shown}"
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
        if answers and shown.endswith(answers[0][0]):
            os.write(master, answers.pop(0)[1])
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert not answers, f"not asked: {answers}: {shown}"
    return os.waitstatus_to_exitcode(status), shown.decode()


def openssl(*line, ok=True):
    done = subprocess.run(["openssl", *line], capture_output=True, timeout=60)
    assert (done.returncode == 0) is ok, f"{line}: {done.stderr}"
    return done.stdout.decode()


def files_with(directory, secrets):
    found = []
    for path in Path(directory).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [path for secret in secrets if secret in content]
    return found


def test_a_passphrase_is_asked_for_twice_without_echo_and_openssl_opens_the_key(box):
    made = box.keys("generate")
    line = ["keys", "seal", "--config", str(box.config)]
    secret = SECRET.encode()
    code, shown = terminal(line, [(b"New passphrase: ", secret + b"\n"), (b"The same again: ", secret + b"x\n")])
    assert code == 4 and "not the same" in shown, shown
    assert openssl("pkey", "-in", str(box.key), "-pubout")
    # A slip that is deleted, and a line that is begun anew.
    typed = [(b"New passphrase: ", b"slip\x15correctt\x7f horse battery\r"), (b"The same again: ", secret + b"\n")]
    code, shown = terminal(line, typed)
    assert code == 0 and "sealed: " in shown and "horse" not in shown, shown
    text = openssl("pkey", "-in", str(box.key), "-passin", "pass:" + SECRET, "-text", "-noout")
    assert "ED25519" in text
    openssl("pkey", "-in", str(box.key), "-passin", "pass:" + WRONG, ok=False)
    assert box.key.stat().st_mode & 0o777 == 0o600
    again = ["keys", "unseal", "--yes", "--config", str(box.config)]
    code, shown = terminal(again, [(b"Passphrase of the key: ", b"\x03")])
    assert code == 4 and "given up" in shown, shown
    code, shown = terminal(again, [(b"Passphrase of the key: ", WRONG.encode() + b"\n")])
    assert code == 4 and "the passphrase is wrong" in shown and WRONG not in shown, shown
    code, shown = terminal(again, [(b"Passphrase of the key: ", secret + b"\n")])
    assert code == 0 and made.splitlines()[0] in shown.replace("\r", ""), shown


def test_the_terminal_is_as_before_after_a_prompt(box):
    box.keys("generate")
    command = f"stty -a; {BINARY} keys seal --config {box.config}; stty -a"
    pid, master = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", command])
    shown, asked = b"", False
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        shown += part
        if not asked and b"New passphrase: " in shown:
            asked = True
            os.write(master, b"\x03")
    os.waitpid(pid, 0)
    os.close(master)
    first, _, last = shown.partition(b"New passphrase: ")
    settings = last[last.index(b"speed"):]
    assert asked and first.endswith(settings) and b" echo " in settings, shown


def test_what_openssl_seals_is_imported_and_exports_are_sealed(box):
    plain = box.file("plain.pem", openssl("genpkey", "-algorithm", "ed25519"))
    public = openssl("pkey", "-in", plain, "-pubout")
    secret, wrong = box.file("secret", SECRET + "\n"), box.file("wrong", WRONG)
    for way in (["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"], ["-scrypt"]):
        sealed = box.file("sealed.pem", openssl("pkcs8", "-topk8", "-in", plain, "-passout", "pass:" + SECRET, *way))
        assert "is wrong" in box.keys("import", sealed, "--passphrase-file", wrong, code=4)
        box.keys("import", sealed, "--passphrase-file", secret)
        assert openssl("pkey", "-in", str(box.key), "-passin", "pass:" + SECRET, "-pubout") == public
    exported = box.file("exported.pem", box.keys("export", "--passphrase-file", "-", stdin=SECRET.encode() + b"\n"))
    assert openssl("pkey", "-in", exported, "-passin", "file:" + secret, "-pubout") == public
    assert "--plain --yes" in box.keys("export", "--plain", "--passphrase-file", secret, code=4)
    bare = box.keys("export", "--plain", "--yes", "--passphrase-file", secret)
    assert "-----BEGIN PRIVATE KEY-----" in bare
    box.keys("rotate", "--passphrase-file", secret)
    assert "state: sealed" in box.keys("show")
    old, new = box.file("old", SECRET), box.file("new", "another passphrase")
    assert box.keys("seal", "--old-passphrase-file", old, "--passphrase-file", new).count("sealed: ") >= 2
    openssl("pkey", "-in", str(box.key), "-passin", "pass:another passphrase")
    inner = bare.splitlines()[1].encode()
    assert not files_with(box.dir / "state", [inner])


def test_a_locked_node_waits_and_goes_on_without_a_restart(box):
    box.keys("generate", "--passphrase-file", box.file("secret", SECRET))
    box.start()
    pid = box.node.pid
    assert box.state() == "locked"
    status = box.run("status", "--run-dir", str(box.dir / "run"))
    assert "locked" in status and "keys unlock" in status, status
    assert box.ask("GET", "/healthz")[0] == 503
    assert 'state="locked"} 1' in box.ask("GET", "/metrics")[1].replace("echomesh_", "")
    assert box.ask("POST", "/control", {"action": "start"}) [1]["type"] == "locked"
    document = box.ask("GET", "/config")[1]
    document["network"]["maxMbps"] = 7
    assert box.ask("PUT", "/config", document)[0] == 200
    assert not (box.dir / "state/node.journal").exists()
    token = (box.dir / "run/api.token").read_text()

    # While a passphrase is tried the API answers.
    started = time.monotonic()
    code = box.keys("unlock", stdin=WRONG.encode() + b"\n", code=4)
    assert "The passphrase is wrong" in code and time.monotonic() - started > 0.02, code
    status, problem = box.ask("POST", "/keys/unlock", {"passphrase": SECRET})
    assert (status, problem["type"]) == (429, "rate-limited"), problem
    assert box.state() == "locked"
    time.sleep(1.1)
    line = ["keys", "unlock", "--run-dir", str(box.dir / "run")]
    code, shown = terminal(line, [(b"Passphrase: ", SECRET.encode() + b"\n")])
    assert code == 0 and "unlocked" in shown and SECRET not in shown, shown
    wait_for(lambda: box.state() == "unconfigured")
    assert box.node.poll() is None and box.node.pid == pid
    assert (box.dir / "run/api.token").read_text() == token
    assert box.ask("GET", "/config")[1]["network"]["maxMbps"] == 7
    assert box.ask("GET", "/status")[1]["nodeId"].startswith("ed25519:")
    assert box.ask("POST", "/keys/unlock", {"passphrase": SECRET})[1]["type"] == "not-locked"
    box.stop()
    (box.dir / "secret").unlink()
    secrets = [SECRET.encode(), WRONG.encode(), token.strip().encode()]
    assert not files_with(box.dir, secrets), files_with(box.dir, secrets)


def test_a_passphrase_file_opens_the_key_at_the_start_and_a_bad_one_leaves_it_locked(box):
    secret = box.file("secret", SECRET)
    box.config.write_text(CONFIG.format(dir=box.dir, more=f", passphraseFile: {secret}"))
    box.start()
    assert box.state() == "unconfigured"
    box.stop()
    assert "BEGIN ENCRYPTED" in box.key.read_text()
    for text, mode, why in ((WRONG, 0o600, "is wrong"), (SECRET, 0o644, "others may read it")):
        box.file("secret", text)
        os.chmod(secret, mode)
        box.start()
        reason = box.ask("GET", "/status")[1]
        assert reason["state"] == "locked" and why in reason["reason"], reason
        if mode == 0o644:
            os.chmod(secret, 0o600)
            box.node.send_signal(signal.SIGHUP)
            wait_for(lambda: box.state() == "unconfigured")
        box.stop()


def test_a_locked_node_ends_on_a_signal(box):
    box.keys("generate", "--passphrase-file", box.file("secret", SECRET))
    box.start()
    box.stop()
    assert not (box.dir / "run/api.sock").exists()


def main():
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_") and all(p in n for p in sys.argv[2:])]
    passed = failed = 0
    for name, test in tests:
        with tempfile.TemporaryDirectory(prefix="echomesh-keys-") as directory:
            (Path(directory) / "state").mkdir(mode=0o700)
            box = Box(directory)
            try:
                test(box)
                passed += 1
            except Exception:
                failed += 1
                print(f"FAIL {name}")
                traceback.print_exc()
                if box.log.exists():
                    print(box.log.read_text()[-2000:])
            finally:
                if box.node and box.node.poll() is None:
                    box.node.kill()
                    box.node.wait()
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())

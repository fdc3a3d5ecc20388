"""The node under test: its configuration, its process, its local API."""
import copy
import json
import os
import pathlib
import signal
import time

from .control import Http, unix, wait_for
from .netns import DOH, NODE_WAN
from .process import Process

PORT = 8443


class Node:
    """`echomesh run` in a namespace; configuration, state and run directories outlive a restart."""

    def __init__(self, namespace, directory, binary, lab, **changes):
        self.namespace, self.directory, self.binary = namespace, pathlib.Path(directory), str(binary)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_file = self.directory / "config.json"
        self.run_dir, self.state_dir = self.directory / "run", self.directory / "state"
        self.process, self.ready_ms, self.options = None, None, []
        self.wrapper = []  # a command that runs the node in its place
        self.user = None  # the UID that `--user` names
        self.config = merged(base_config(self.directory, lab), changes)

    # ---- life

    def write(self):
        self.config_file.write_text(json.dumps(self.config, indent=1), encoding="utf-8")
        os.chmod(self.config_file, 0o600)
        if self.user:
            for path in [self.directory, self.config_file]:
                os.chown(path, self.user, self.user)

    def start(self, wait=True):
        self.write()
        options = [*self.options, *(["--user", str(self.user)] if self.user else [])]
        words = [*self.wrapper, self.binary, "run", "--config", self.config_file, "--run-dir", self.run_dir, "--state-dir", self.state_dir, *options]
        for name in ["api.sock", "api.token"]:
            (self.run_dir / name).unlink(missing_ok=True)
        start = time.monotonic()
        self.process = Process(self.namespace.command(*map(str, words)), self.directory / "node.log")
        if wait:
            wait_for("the node's API", self._answers, 15, every=0.001)
            self.ready_ms = (time.monotonic() - start) * 1000
        return self

    def _answers(self):
        if not self.process.alive():
            raise AssertionError(f"the node ended: {self.process.text()[-2000:]}")
        try:
            return self.request("GET", "/healthz")[0] in (200, 503)
        except (OSError, AssertionError):
            return False

    def stop(self, seconds=10):
        return self.process.stop(seconds) if self.process else 0

    def kill(self):
        self.process.kill()

    def hang_up(self):
        self.process.signal(signal.SIGHUP)

    def log(self):
        return self.process.text()

    # ---- local API

    def _http(self, authorised=True):
        headers = {}
        if authorised:
            try:
                token = (self.run_dir / "api.token").read_text(encoding="ascii").strip()
                headers["Authorization"] = f"Bearer {token}"
            except FileNotFoundError:
                pass
        return Http(unix(self.run_dir / "api.sock"), headers)

    def request(self, method, path, body=None, authorised=True, **more):
        return self._http(authorised).request(method, path, body, **more)

    def get(self, path, **more):
        return self._http().get(path, **more)

    def post(self, path, body=None, **more):
        return self._http().post(path, body, **more)

    def status(self):
        return self.get("/status")

    def control(self, action):
        return self.post("/control", {"action": action})

    def sessions(self):
        found = self.get("/sessions")
        return {s["sessionId"]: s for s in (found["sessions"] if isinstance(found, dict) else found)}

    def export(self, since="1970-01-01T00:00:00Z"):
        return self.request("GET", f"/logs/export?since={since}")[2].decode()

    def lines(self):
        return [json.loads(line) for line in self.export().splitlines()]

    def put_config(self, document, etag=None):
        """PUT /config; gives status, headers, body."""
        headers = {"If-Match": etag} if etag else {}
        return self.request("PUT", "/config", document, headers=headers)

    def change(self, **changes):
        """Changes the running configuration by PUT; the file's copy here follows."""
        status, headers, body = self.request("GET", "/config")
        assert status == 200, (status, body)
        document = merged(json.loads(body), changes)
        status, _, body = self.put_config(document, headers["etag"])
        assert status in (200, 204), (status, body)
        self.config = document

    def wait_state(self, *states, seconds=15):
        return wait_for(f"state {states}", lambda: self.status()["state"] in states and self.status(), seconds)


def base_config(directory, lab):
    """What every test starts from; nothing in it weakens a check."""
    ca = str(lab.ca_file)
    return {
        "version": 1,
        "node": {"idPath": str(directory / "key" / "node.key"), "regionAllow": ["Test-Region"], "schedules": []},
        "network": {"maxMbps": 4000, "maxGBPerDay": 1000, "httpsOnly": True, "blocklistDomains": ["owner-blocked.test"]},
        "security": {
            "dnsOverHttps": True,
            "dohUrl": lab.doh_url,
            "dohBootstrap": [DOH],
            "dohCaFile": ca,
            "sandboxMode": "standard",
            "guard": "optional",
        },
        "coordinator": {"url": lab.coordinator_url, "publicKey": lab.coordinator_key, "caFile": ca},
        "relay": {"listen": f"{NODE_WAN}:{PORT}", "names": ["node.lab.test"]},
        "probes": {"approvedHosts": [lab.endpoint_host], "caFile": ca},
        "log": {"level": "debug"},
    }


def merged(document, changes):
    """The document with members replaced; `None` removes one."""
    result = copy.deepcopy(document)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result

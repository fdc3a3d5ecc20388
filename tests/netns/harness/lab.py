"""The lab's roles in the inet namespace, and its control API."""
import json
import pathlib
from urllib.parse import urlencode

from .buyer import Session
from .control import Http, wait_for
from .netns import COORDINATOR, DOH, ENDPOINT, LAN_HOST, NODE_LAN, NODE_WAN, ORIGIN, ORIGIN6, TARGET, TARGET6
from .process import Process

CONTROL = ("127.0.0.1", 7979)
# Names a test asks the node for, and what the resolver says.
ZONE = {
    "coordinator.lab.test": [COORDINATOR],
    "endpoint.lab.test": [ENDPOINT],
    "origin.lab.test": [ORIGIN],
    "origin6.lab.test": [ORIGIN6],
    "target.test": [TARGET],
    "target6.test": [TARGET6],
    "other.test": [TARGET],
    "nobody.test": ["44.10.0.82"],
    "many.test": ["44.10.0.83"],
    "owner-blocked.test": [TARGET],
    "profile-blocked.test": [TARGET],
    "cloudflare-ech.com": [TARGET],
    "lan.test": [LAN_HOST],
    "mixed.test": [TARGET, LAN_HOST],
    "mixed6.test": [TARGET, "fd00::10"],
    "zero.test": ["0.0.0.0"],
    "loopback.test": ["127.0.0.1"],
    "mapped.test": ["::ffff:192.168.1.10"],
    "nat64.test": ["64:ff9b::c0a8:10a"],
    "sixtofour.test": ["2002:c0a8:10a::1"],
    "cgnat.test": ["100.64.0.1"],
    "linklocal.test": ["169.254.169.254"],
    "multicast.test": ["224.0.0.251"],
    "reserved.test": ["240.0.0.1"],
    "own-wan.test": [NODE_WAN],
    "own-lan.test": [NODE_LAN],
    "gateway.test": ["44.2.2.1"],
    "neighbour.test": ["44.2.2.77"],
    "unrouted.test": ["44.99.0.1"],
}


class Lab:
    """`echomesh-lab up` with every role on its standard port."""

    coordinator_url = "https://coordinator.lab.test"
    endpoint_host = "endpoint.lab.test"
    doh_url = "https://doh.lab.test/dns-query"

    def __init__(self, namespace, directory, binary, heartbeat_ms=2000, zone=()):
        self.namespace, self.directory, self.binary = namespace, pathlib.Path(directory), str(binary)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.heartbeat_ms = heartbeat_ms
        self.zone = {**ZONE, **dict(zone)}
        self.ca_file = self.directory / "ca.pem"
        self.process, self.facts = None, {}
        self._http = Http(lambda: namespace.connect(CONTROL))

    def start(self):
        words = [self.binary, "up", "--dir", str(self.directory), "--control", "%s:%d" % CONTROL]
        words += ["--heartbeat", str(self.heartbeat_ms), "--region", "Test-Region", "--confidence", "0.95"]
        origin = self.zone["origin.lab.test"][0]
        for role, address in [("coordinator", COORDINATOR), ("endpoint", ENDPOINT), ("origin", origin), ("doh", DOH)]:
            words += [f"--{role}", f"[{address}]:443" if ":" in address else f"{address}:443"]
        words += ["--endpoint-plain", f"{ENDPOINT}:80"]
        for name, addresses in self.zone.items():
            words += ["--zone", f"{name}={','.join(addresses)}"]
        (self.directory / "lab.json").unlink(missing_ok=True)
        self.process = Process(self.namespace.command(*words), self.directory / "lab.log")
        self.facts = wait_for("the lab", self._facts, 20)
        return self

    def _facts(self):
        if not self.process.alive():
            raise AssertionError(f"the lab ended: {self.process.text()[-2000:]}")
        try:
            return json.loads((self.directory / "lab.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    @property
    def coordinator_key(self):
        return self.facts["coordinatorPublicKey"]

    # ---- control API

    def get(self, path, **query):
        return self._http.get(path + ("?" + urlencode(query) if query else ""))

    def post(self, path, body=None, **more):
        return self._http.post(path, body, **more)

    def fault(self, kind, **more):
        return self.post("/fault", {"kind": kind, **more})

    def open(self, wait="active", seconds=15, **overrides):
        """Queues an `open`, and waits for the node's answer."""
        made = self.post("/open", overrides)
        session = Session(made["sessionId"], made["token"])
        if wait:
            self.wait_session(session.id, wait, seconds)
        return session

    def answer(self, seconds=10, **overrides):
        """Queues an `open`; gives what the node answers: `accepted` or the refusal's reason."""
        made = self.post("/open", overrides)["sessionId"]
        return wait_for("an answer", lambda: self.session(made)["opens"][-1]["answer"], seconds)

    def origin(self):
        """Bytes at the origin's socket so far: received, sent."""
        found = self.get("/origin")
        return found["received"], found["sent"]

    def policy(self, session=None, **members):
        return self.post("/policy", {"sessionId": session and session.id, **members})

    def close(self, session, reason="buyer-ended", wait=True, seconds=30):
        self.post("/close", {"sessionId": session.id, "reason": reason})
        return self.wait_session(session.id, "settled", seconds) if wait else None

    def session(self, session_id):
        return next((s for s in self.get("/sessions") if s["sessionId"] == session_id), None)

    def wait_session(self, session_id, state, seconds=15):
        found = {}

        def reached():
            found.update(self.session(session_id) or {})
            passed = [t["transition"] for t in found.get("transitions", [])]
            return found.get("state") == state or state in passed

        try:
            wait_for(f"session {state}", reached, seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}; it is {found.get('state')}, opens {found.get('opens')}") from None
        return found

    def verdict(self, session):
        return self.get("/verdict", sessionId=session.id)

    def resync(self):
        """Waits until the node has the coordinator's time: two heartbeats from now on were answered."""
        before = self.get("/nodes")[0]["heartbeats"]
        wait_for("two heartbeats", lambda: self.get("/nodes")[0]["heartbeats"] >= before + 2, 60)

    def violations(self):
        return self.get("/violations")

    def nodes(self):
        return [node for node in self.get("/nodes") if node["registered"]]

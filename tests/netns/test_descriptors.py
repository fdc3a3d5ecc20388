"""A node that may have few descriptors: it carries what fits, says so, and stays reachable."""
from harness.control import wait_for
from harness.node import Node
from harness.world import World

LIMIT = 256


class Frugal:
    """A namespace whose programs may have few descriptors, and no right to more."""

    def __init__(self, namespace):
        self._namespace = namespace

    def command(self, *words):
        no_right = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "--"]
        return self._namespace.command("prlimit", f"--nofile={LIMIT}:{LIMIT}", "--", *no_right, *words)

    def __getattr__(self, name):
        return getattr(self._namespace, name)


class FrugalNode(Node):
    def start(self, wait=True):
        self.namespace = self.namespace if isinstance(self.namespace, Frugal) else Frugal(self.namespace)
        return super().start(wait)


class Descriptors(World):
    node_type = FrugalNode

    def test_at_the_limit(self):
        most = self.node.get("/diagnostics")["maxFlows"]
        self.assertEqual(most, 16)
        alert = next(a for a in self.node.status()["alerts"] if a["code"] == "descriptors-low")
        self.assertIn(f"{LIMIT} descriptors are enough for {most} tunnels", alert["detail"])
        session = self.lab.open()
        tunnels = [self.proxy.tunnel(session) for _ in range(most)]
        wait_for("all at the target", lambda: len(self.target.connections) >= most)
        self.refused(self.proxy.connect("target.test:443", session), 429, "rate-limited")
        # Strangers take their part and no more; nobody else feels it.
        strangers = [self.topology.buyer.connect(self.proxy.address) for _ in range(200)]
        self.assertLess(self.node.process.descriptors(), LIMIT)
        beats = self.lab.get("/nodes")[0]["heartbeats"]
        wait_for("a heartbeat", lambda: self.lab.get("/nodes")[0]["heartbeats"] > beats, 5)
        self.assertEqual(self.node.status()["state"], "active")
        self.assertIsNone(next((c.end for c in self.target.connections if c.end), None), "a tunnel was cut")
        for stranger in strangers:
            stranger.close()
        tunnels.pop().reset()
        wait_for("a place", lambda: self.proxy.connect("target.test:443", session).status == 200, 5)
        self.assertNotIn("Too many open files", self.node.log())
        self.assertEqual(self.lab.violations(), [])

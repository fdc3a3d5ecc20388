"""All of it together: topology, lab, node, a counter in the LAN."""
import atexit
import os
import pathlib
import shutil
import ssl
import tempfile
import unittest

from .buyer import Proxy
from .control import wait_for
from .lab import Lab
from .netns import LAN_HOST, NODE_WAN, TARGET, Topology
from .node import PORT, Node
from .target import Target

ROOT = pathlib.Path(__file__).resolve().parents[3]
NODE_BINARY = os.environ.get("ECHOMESH", str(ROOT / "target/release/echomesh"))
LAB_BINARY = os.environ.get("ECHOMESH_LAB", str(ROOT / "target/lab/lab/echomesh-lab"))


def why_not():
    """The reason these tests cannot run here, if there is one."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("nsenter"):
        return "ip (iproute2) or nsenter (util-linux) is missing"
    for binary in [NODE_BINARY, LAB_BINARY]:
        if not os.access(binary, os.X_OK):
            return f"{binary} is not built"
    return None


def echo(connection, data):
    connection.send(data)


class World(unittest.TestCase):
    """A test class with its own namespaces, lab and node. Each test opens its own session."""

    node_config = {}
    node_user = None
    heartbeat_ms = 2000
    node_type = Node
    topology_type = Topology
    # Names that are somewhere else than in the lab's own zone.
    zone = {}
    address, target_address = NODE_WAN, TARGET
    target_answer = staticmethod(echo)

    @classmethod
    def setUpClass(cls):
        reason = why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="echomesh-netns-"))
        os.chmod(cls.directory, 0o755)
        cls.addClassCleanup(cls._put_away)
        atexit.register(cls._put_away)
        cls.topology = cls.topology_type()
        cls.addClassCleanup(cls.topology.remove)
        cls.lab = Lab(cls.topology.inet, cls.directory / "lab", LAB_BINARY, cls.heartbeat_ms, cls.zone).start()
        cls.addClassCleanup(lambda: cls.lab.process.stop())
        cls.target = Target(cls.topology.inet, (cls.target_address, 443), lambda c, d: cls.target_answer(c, d))
        cls.addClassCleanup(cls.target.close)
        cls.lan_targets = [Target(cls.topology.lan, (LAN_HOST, port)) for port in (80, 443)]
        cls.node = cls.make_node()
        cls.node.start()
        cls.addClassCleanup(lambda: cls.node.stop())
        cls.lan_received = cls.topology.lan.received()
        cls.registered()

    @classmethod
    def make_node(cls):
        node = cls.node_type(cls.topology.node, cls.directory / "node", NODE_BINARY, cls.lab, **cls.node_config)
        node.user = cls.node_user
        return node

    @classmethod
    def _put_away(cls):
        if os.environ.get("KEEP"):
            print("kept:", cls.directory)
            atexit.unregister(cls._put_away)
        else:
            shutil.rmtree(cls.directory, ignore_errors=True)

    @classmethod
    def registered(cls):
        wait_for("registration", lambda: cls.lab.nodes() and cls.node.status()["state"] in ("idle", "active"), 20)
        spki = cls.lab.nodes()[0]["register"]["tls"]["spki"]
        cls.proxy = Proxy(cls.topology.buyer, (cls.address, PORT), pin=spki, ca_file=str(cls.lab.ca_file))
        # What buyers do whose library cannot pin a key: they check the pin once, and trust that certificate alone.
        # (curl 7.88 has --proxy-pinnedpubkey and ignores it.)
        der = cls.proxy.dial().tls.getpeercert(True)
        cls.proxy_pem = cls.directory / "node.pem"
        cls.proxy_pem.write_text(ssl.DER_cert_to_PEM_cert(der), encoding="ascii")

    # ---- what tests say

    def refused(self, reply, status, slug, error="http_request_denied"):
        """A refusal before the 200, to the letter of the contract."""
        self.assertEqual((reply.status, reply.slug), (status, slug))
        self.assertEqual(reply.header("proxy-status"), f'echomesh; error={error}; details="{slug}"')

    def clean(self, session=None):
        """The coordinator has nothing to object to, and the LAN saw nothing."""
        self.assertEqual(self.lab.violations(), [])
        if session:
            verdict = self.lab.verdict(session)
            self.assertTrue(verdict["ok"], verdict["lines"])
        self.assert_lan_untouched()

    def assert_lan_untouched(self):
        self.assertEqual([len(t.connections) for t in self.lan_targets], [0, 0])
        self.assertEqual(self.topology.lan.received(), self.lan_received)

    def settle(self, session):
        """Closes the session; gives its bundles' totals."""
        return self.lab.close(session)["totals"]

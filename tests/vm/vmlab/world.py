"""The tests' world of namespaces with a virtual machine for the router: guard and node of a package run inside it."""
import json
import os
import pathlib
import stat
import time

from harness.control import Http, wait_for
from harness.netns import NODE_LAN, NODE_WAN, NODE_WAN6, Topology
from harness.node import Node
from harness.world import World

from . import image
from .kinds import KINDS
from .machine import INSIDE, Machine

UID = 5310
API = 7879
WORDS = "--config /etc/echomesh/config.json --run-dir /var/run/echomesh --user echomesh"
# Everything that the router's own system does for the daemon: links, routes, users.
NETWORK = f"""
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip addr add {NODE_WAN}/24 dev eth0; ip -6 addr add {NODE_WAN6}/64 dev eth0; ip link set eth0 up
ip addr add {NODE_LAN}/24 dev eth1; ip link set eth1 up
ip route add default via 44.2.2.1; ip -6 route add default via 2a10:2::1
echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
echo root:x:0:0:root:/root:/bin/sh >/etc/passwd; echo echomesh:x:{UID}:{UID}:echomesh:/var/lib/echomesh:/bin/false >>/etc/passwd
printf 'icmp 1\\ntcp 6\\nudp 17\\nipv6-icmp 58\\n' >/etc/protocols
echo root:x:0: >/etc/group; echo echomesh:x:{UID}: >>/etc/group
"""
_API_DOOR = f"nc -ll -p {API} -e /api &\n"
# The node's API listens on loopback alone; this hands its bytes to the wire of the shell.
_API = "#!/bin/sh\nexec nc 127.0.0.1 7878\n"


# The machine's wires: the TAP device, the namespace's link that it is joined to, and by which bridge.
BRIDGES = {"tap-wan": ("wan0", "br-wan"), "tap-lan": ("lan0", "br-lan")}


def plug(topology):
    """Joins the TAP devices of a machine that is about to start."""
    for tap, (_, bridge) in BRIDGES.items():
        topology.node.ip("link", "set", tap, "master", bridge)


class VmTopology(Topology):
    """The namespaces, with the router's two links bridged to TAP devices."""

    def _wire(self):
        super()._wire()
        node = self.node
        for tap, (link, bridge) in BRIDGES.items():
            node.ip("addr", "flush", "dev", link)
            node.ip("link", "add", bridge, "type", "bridge")
            node.ip("link", "set", bridge, "up")
            node.ip("link", "set", link, "master", bridge)
            # Frames alone pass here: this namespace must not answer for the machine.
            node.sysctl(f"net.ipv6.conf.{bridge}.disable_ipv6=1", f"net.ipv6.conf.{link}.disable_ipv6=1")
        node.ip("route", "flush", "table", "main")


class VmNode(Node):
    """Guard and node inside the machine. The configuration is written there; the API is reached over the shell's wire."""

    machine = None

    def write(self):
        text = json.dumps(self.config)
        ca = self.ca.read_text(encoding="ascii")
        self.machine.ok(f"mkdir -p /etc/echomesh /var/run/echomesh /var/lib/echomesh; chown {UID}:{UID} /etc/echomesh /var/run/echomesh /var/lib/echomesh")
        self.machine.ok(f"cat >/etc/echomesh/ca.pem <<'PEM'\n{ca}\nPEM\ncat >/etc/echomesh/config.json <<'JSON'\n{text}\nJSON\nchown {UID}:{UID} /etc/echomesh/*; chmod 600 /etc/echomesh/config.json")

    def start(self, wait=True):
        self.write()
        self.start_guard()
        return self.start_run(wait)

    def start_run(self, wait=True):
        self.machine.ok(f"setsid echomesh run {WORDS} --state-dir /var/lib/echomesh >/tmp/run.log 2>&1 & echo $! >/tmp/run.pid")
        if wait:
            self._until("the node's API", self._answers)
        return self

    def start_guard(self):
        self.machine.ok(f"setsid echomesh guard {WORDS} >/tmp/guard.log 2>&1 & echo $! >/tmp/guard.pid")
        self._until("the guard", lambda: "guard ready" in self.machine.sh("cat /tmp/guard.log"))

    def _until(self, what, test):
        try:
            wait_for(what, test, 30, every=0.2)
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.machine.sh('tail -n 30 /tmp/guard.log /tmp/run.log; ps | grep echomesh')}") from None

    def _answers(self):
        try:
            return self.request("GET", "/healthz")[0] in (200, 503)
        except (OSError, AssertionError):
            return False

    def _http(self, authorised=True):
        headers = {}
        if authorised:
            token = self.machine.sh("cat /var/run/echomesh/api.token").strip()
            headers["Authorization"] = f"Bearer {token}"
        return Http(lambda: self.machine.namespace.connect((INSIDE, API)), headers)

    def ready(self, action):
        return self.ready_for("POST", "/control", {"action": action})

    def ready_for(self, method, path, body=None):
        """A request that only has to be sent: neither the token nor the way through the machine's shell is the node's."""
        headers = self._http()._headers
        sock = self.machine.namespace.connect((INSIDE, API))
        # A program is started behind it.
        time.sleep(0.5)
        return lambda: Http(lambda: sock, headers).call(method, path, body)

    def stop(self, seconds=10):
        self.machine.sh("for p in run guard; do kill $(cat /tmp/$p.pid); done; sleep 1")
        return 0

    def log(self):
        return self.machine.sh("cat /tmp/run.log")

    def rss_kb(self):
        """Resident kB of both processes."""
        text = self.machine.ok("for p in run guard; do grep VmRSS /proc/$(cat /tmp/$p.pid)/status; done")
        return [int(line.split()[1]) for line in text.splitlines()]


class VmWorld(World):
    """A test class whose router is a machine of a kind, with the files of a package in it."""

    kind = KINDS["mipsel"]
    memory_mb = 64
    tools = False
    # What is done to the machine's links before anything uses them: a script.
    links = ""
    node_type = VmNode
    topology_type = VmTopology

    @classmethod
    def make_node(cls):
        node = super().make_node()
        directory = cls.directory / "vm"
        directory.mkdir()
        node.ca = cls.lab.ca_file
        node.config = inside(node.config)
        node.machine = Machine(cls.kind, cls.topology.node, BRIDGES, directory / "console.log", cls.memory_mb,
                               files=[("api", 0o100755, _API.encode()), *cls.files()], start=cls.links + NETWORK + _API_DOOR, tools=cls.tools,
                               words=cls.qemu_words())  # fmt: skip
        cls.addClassCleanup(node.machine.stop)
        node.machine.start(prepare=lambda: plug(cls.topology))
        cls.machine = node.machine
        cls.before_guard(node.machine)
        return node

    @classmethod
    def qemu_words(cls):
        """Words of QEMU's that a world adds."""
        return ()

    @classmethod
    def before_guard(cls, machine):
        """What the router has before the daemon starts."""

    @classmethod
    def files(cls):
        return package_files()


def inside(config):
    """The tests' configuration with the machine's own paths, and the guard required as on every router."""
    for member in ["coordinator", "probes"]:
        config[member]["caFile"] = "/etc/echomesh/ca.pem"
    config["security"].update(dohCaFile="/etc/echomesh/ca.pem", guard="required")
    config["node"]["idPath"] = "/var/lib/echomesh/node.key"
    return config


def package_files():
    """The tree of a package: ECHOMESH_TREE, a directory."""
    root = pathlib.Path(os.environ["ECHOMESH_TREE"])
    entries = list(image.tree(root))
    return sorted(entries, key=lambda entry: (not stat.S_ISDIR(entry[1]), entry[0]))

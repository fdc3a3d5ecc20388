"""Where the attacks take place: a node with everything around it in network namespaces, or a node somewhere else."""
import json
import os
import pathlib
import shutil
import tempfile
import time

from harness import netns
from harness.buyer import Proxy, Session
from harness.control import wait_for
from harness.lab import Lab
from harness.netns import LAN_HOST, NODE_LAN, NODE_WAN, NODE_WAN6, TARGET, TARGET6, Namespace, Topology, sh
from harness.node import PORT, Node
from harness.target import Target

VOID, NAME_SERVER, GATEWAY, NEIGHBOUR, FAR_GATEWAY = "44.66.0.2", "44.55.0.53", "44.2.2.1", "44.2.2.77", "44.55.1.1"
DELEGATED, NEIGHBOUR6, BEHIND = "2a10:99::", "2a10:2::77", "44.78.0.0/24"
# What records call the addresses of this world.
PLACES = {
    "target": TARGET, "target6": TARGET6, "lan-host": LAN_HOST, "own-lan": NODE_LAN, "own-wan": NODE_WAN, "own-wan6": NODE_WAN6,
    "gateway": GATEWAY, "neighbour": NEIGHBOUR, "neighbour6": NEIGHBOUR6, "far-gateway": FAR_GATEWAY, "name-server": NAME_SERVER,
    "delegated": f"{DELEGATED}42:1", "behind-router": "44.78.0.5",
}
PROFILE = {"alpn": ["h2", "http/1.1"], "blockDomains": ["profile-blocked.test"], "allowDomains": []}


class AuditTopology(Topology):
    """One namespace more: `void`, which has every address of the world and answers on port 443, so that an attack that gets
    through is seen to arrive."""

    def _wire(self):
        super()._wire()
        self.void = self.add("v")
        sh("ip", "link", "add", "v0", "netns", self.inet.name, "type", "veth", "peer", "name", "eth0", "netns", self.void.name)
        for space, link, addresses in [(self.inet, "v0", ["44.66.0.1/24", "2a10:66::1/64"]), (self.void, "eth0", [f"{VOID}/24", "2a10:66::2/64"])]:
            space.ip("link", "set", link, "up")
            for address in addresses:
                space.ip("addr", "add", address, "dev", link, *(["nodad"] if ":" in address else []))
        for private in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"]:
            self.inet.ip("route", "del", "blackhole", private)
        self.inet.sysctl("net.ipv6.conf.all.forwarding=1")
        self.inet.ip("route", "add", "default", "via", VOID)
        self.inet.ip("-6", "route", "add", "default", "via", "2a10:66::2")
        self.void.ip("route", "add", "44.0.0.0/8", "via", "44.66.0.1")
        self.void.ip("-6", "route", "add", "2a10:2::/64", "via", "2a10:66::1")
        self.void.ip("route", "add", "local", "default", "dev", "lo", "table", "main")
        self.void.ip("-6", "route", "add", "local", "default", "dev", "lo", "table", "main")
        for address in [NEIGHBOUR, NAME_SERVER, FAR_GATEWAY]:
            self.inet.ip("addr", "add", f"{address}/32", "dev", "lo")
        self.inet.ip("addr", "add", f"{NEIGHBOUR6}/128", "dev", "lo", "nodad")
        self.node.ip("route", "add", "44.57.0.0/24", "via", FAR_GATEWAY, "dev", "wan0", "onlink")
        self.node.ip("route", "add", BEHIND, "via", LAN_HOST)
        self.node.ip("-6", "route", "add", "unreachable", f"{DELEGATED}/56", "dev", "lo")


class WithResolvConf:
    """A namespace in which /etc/resolv.conf is another file."""

    def __init__(self, inner, file):
        self.inner, self.file = inner, str(file)

    def command(self, *words):
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return self.inner.command("unshare", "-m", "--propagation", "private", "sh", "-c", script, self.file, *words)

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Own:
    """Node, lab and listeners of this run, in namespaces."""

    host = "target.test"
    stranger = False
    provides = frozenset({"session", "lab", "node"})

    def __init__(self, node_binary, lab_binary, **config):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="echomesh-audit-"))
        self.topology, self.lab, self.node, self._sessions = None, None, None, {}
        # Further processes, of categories that need a node of their own.
        self.more = []
        try:
            self._start(node_binary, lab_binary, config)
        except BaseException:
            self.close()
            raise

    def _start(self, node_binary, lab_binary, config):
        self.topology = AuditTopology()
        self.lab = Lab(self.topology.inet, self.directory / "lab", lab_binary, 500).start()
        echo = lambda connection, data: connection.send(data)
        t = self.topology
        self.target = Target(t.inet, (TARGET, 443), echo)
        self.forbidden = {f"void {a}": Target(t.void, (a, 443), echo) for a in ("0.0.0.0",)}
        self.forbidden |= {f"{a}": Target(t.inet, (a, 443), echo) for a in (GATEWAY, NEIGHBOUR, NEIGHBOUR6, FAR_GATEWAY, NAME_SERVER)}
        self.forbidden |= {f"LAN port {p}": Target(t.lan, (LAN_HOST, p), echo) for p in (80, 443)}
        self.forbidden |= {f"router {a}": Target(t.node, (a, 443), echo) for a in (NODE_LAN, NODE_WAN, NODE_WAN6, "127.0.0.1", "::1")}
        void6 = t.void.socket(netns.socket.AF_INET6)
        void6.setsockopt(netns.socket.IPPROTO_IPV6, netns.socket.IPV6_V6ONLY, 1)
        void6.bind(("::", 443))
        void6.listen(64)
        self.forbidden["void ::"] = Target(_Given(void6), ("::", 443), echo)
        resolv = self.directory / "resolv.conf"
        resolv.write_text(f"nameserver {NAME_SERVER}\n", encoding="ascii")
        self.node = Node(WithResolvConf(t.node, resolv), self.directory / "node", node_binary, self.lab, **config)
        self.node.start()
        self._register()
        self.lan_received = t.lan.received()

    def _register(self):
        wait_for("registration", lambda: self.lab.nodes() and self.node.status()["state"] in ("idle", "active"), 20)
        spki = self.lab.nodes()[0]["register"]["tls"]["spki"]
        self.proxy = Proxy(self.topology.buyer, (NODE_WAN, PORT), pin=spki, ca_file=str(self.lab.ca_file))

    # ---- what attacks use

    def dial(self, timeout=6):
        return self.proxy.dial(timeout)

    def session(self, profile=None, overrides=None, fresh=False):
        """An accepted session with that profile; the same one for all that ask for the same, unless it has to be fresh."""
        key = json.dumps([profile, overrides], sort_keys=True)
        if fresh or key not in self._sessions:
            wait = "accepted" if overrides else "active"
            self._sessions[key] = self.lab.open(wait, policyProfile=PROFILE | (profile or {}), **(overrides or {}))
        return self._sessions[key]

    def fresh(self):
        """Forgets the sessions."""
        self._sessions = {}

    def rest(self, turn):
        """The node has had enough of these attacks: of the session's refused hellos (a breaker), or of connections a second."""
        self.fresh()
        time.sleep(turn)

    def expected(self, attack):
        return attack.expect

    def place(self, text):
        return PLACES.get(text, text)

    # ---- what the runner looks at

    def refusals(self):
        return dict(self.node.status()["refusals"])

    def reached(self):
        """Connections by listener."""
        return {name: list(target.connections) for name, target in [("target", self.target), *self.forbidden.items()]}

    def figures(self):
        return {"kB": self.node.process.rss_kb(), "descriptors": self.node.process.descriptors()}

    def let_go(self):
        """Closes what the listeners still hold: half a tunnel lives on for a minute."""
        for target in [self.target, *self.forbidden.values()]:
            for connection in target.connections:
                connection.sock.close()

    def alive(self):
        return self.node.process.alive()

    def revive(self):
        self.node.stop()
        self.fresh()
        self.node.start()
        self._register()

    def close(self):
        for process in [*self.more, self.node and self.node.process, self.lab and self.lab.process]:
            if process:
                process.stop()
        if self.topology:
            self.topology.remove()
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)


class _Given:
    """A "namespace" whose listener is already there."""

    def __init__(self, listener):
        self.listener = listener

    def listen(self, _):
        return self.listener


class Outside:
    """Somebody else's node: nothing is known of it but what it answers."""

    lab = node = None

    def __init__(self, address, session, token, host):
        from harness.stream import Tcp, Tls, any_context

        self._tcp, self._tls, self._context = Tcp, Tls, any_context
        self.address, self.host = address, host
        self.stranger = not session
        self._session = Session(session or "00000000-0000-4000-8000-000000000000", token or "A" * 43)
        self.provides = frozenset({"session"})

    def dial(self, timeout=6):
        context = self._context()
        context.set_alpn_protocols(["http/1.1"])
        return self._tls(self._tcp(netns.socket.create_connection(self.address, timeout)), context, None)

    def session(self, *_, **__):
        return self._session

    def expected(self, attack):
        """Whoever has no session is told of nothing but that, and of a head that is none."""
        if self.stranger and not attack.expect.startswith(("400", "431")):
            return "407 auth-required"
        return attack.expect

    def rest(self, _):
        """A breaker rests for 30 s (docs/decisions.md), and there is one session alone."""
        print("the node rests (429); waiting 31 s", flush=True)
        time.sleep(31)

    def refusals(self):
        return None

    def reached(self):
        return {}

    def figures(self):
        return None

    def alive(self):
        return True

    def close(self):
        pass


__all__ = ["Own", "Outside", "Namespace"]

"""A world whose router is a machine with the kernel path, and a buyer who holds leases."""
import json
import os
import pathlib
import re
import subprocess
import time

from harness.buyer import read_reply
from harness.control import wait_for
from harness.netns import LAN_HOST
from harness.stream import Tcp, Tls, ca_context

from . import image
from .arena import Arena
from .kinds import KINDS
from .packets import Wire
from .spate import LIMIT, QUIET, Late, Side, Spate
from .world import VmWorld

# What matters of fw4: with the owner's offloading on, its flowtable takes flows first thing in `forward`.
FW4 = """
table inet fw4 {
    flowtable ft { hook ingress priority filter; devices = { eth0, eth1 }; }
    chain input { type filter hook input priority filter; policy drop;
        iifname { lo, eth1, eth2 } accept
        ct state vmap { established : accept, related : accept, invalid : drop }
        tcp dport 8443 accept
        meta l4proto { icmp, ipv6-icmp } accept
        meta l4proto tcp reject with tcp reset
    }
    chain forward { type filter hook forward priority filter; policy drop;
        meta l4proto { tcp, udp } flow add @ft
        ct state vmap { established : accept, related : accept }
        iifname eth1 oifname eth0 accept
    }
    chain mangle_forward { type filter hook forward priority mangle; policy accept;
        iifname eth0 tcp flags syn tcp option maxseg size set rt mtu
        oifname eth0 tcp flags syn tcp option maxseg size set rt mtu
    }
    chain srcnat { type nat hook postrouting priority srcnat; policy accept;
        oifname eth0 ip saddr 192.168.1.0/24 masquerade
    }
}
"""


class Refused(Exception):
    """A request for a lease that was refused: status and slug."""


class Holder:
    """A buyer's connection to the node that leases live on."""

    def __init__(self, world, session):
        self.world, self.session = world, session
        self.stream = world.proxy.dial()

    def ask(self, method, path, body=None):
        """An answer; on a new connection if the node has closed this one, as it does when it has ended all leases."""
        try:
            return self.ask_here(method, path, body)
        except (EOFError, OSError):
            self.close()
            self.stream = self.world.proxy.dial()
            return self.ask_here(method, path, body)

    def ask_here(self, method, path, body):
        data = json.dumps(body).encode() if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: node.lab.test\r\nAuthorization: {self.session.basic()}\r\nContent-Length: {len(data)}\r\n"
        kind = "Content-Type: application/json\r\n" if data else ""
        self.stream.write(f"{head}{kind}\r\n".encode() + data)
        return read_reply(self.stream, body="always")

    def lease(self, host, port=443):
        """A lease: its document, with `address` of the way in."""
        reply = self.ask("POST", "/leases", {"host": host, "port": port})
        if reply.status != 201:
            raise Refused(reply.status, reply.slug)
        lease = json.loads(reply.body)
        address, _, number = lease["endpoint"].rpartition(":")
        lease["address"] = address.strip("[]"), int(number)
        return lease

    def close(self):
        self.stream.close()


class LeaseWorld(VmWorld):
    """Guard, node and their table on a kernel with everything the kernel path needs."""

    kind = KINDS["x86_64"]
    memory_mb = 256
    tools = True
    fw4 = False
    # Ports of leases, and what connections have that came in by one, were accepted, were refused: as the node has them by default.
    ports = range(40_000, 41_000)
    marks = 0x07000000
    # No cap: 10 Gbit/s and more are none.
    node_config = {"network": {"maxMbps": 20_000, "perSession": {"maxConnections": 512, "maxNewPerSecond": 1000, "maxNewPerHostPerSecond": 1000}}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.arena = Arena(cls.topology, cls.target)
        cls.addClassCleanup(cls.arena.close)
        cls.lan_wire = Wire(cls.topology.lan, "eth0", LAN_HOST)
        cls.addClassCleanup(cls.lan_wire.close)

    @classmethod
    def files(cls):
        binary = pathlib.Path(os.environ["ECHOMESH_VM"])
        return [*image.directories("usr", "usr/sbin"), ("usr/sbin/echomesh", 0o100755, binary.read_bytes()), *image.libraries(binary)]

    @classmethod
    def before_guard(cls, machine):
        if cls.fw4:
            machine.ok(f"nft -f - <<'RULES'\n{FW4}\nRULES")

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > before:
            print(self.node.request("GET", "/status")[2].decode())
            print(self.machine.sh("tail -n 40 /tmp/run.log /tmp/guard.log; conntrack -L 2>/dev/null | grep -vE '192.168.9|=127.0.0.1|dport=8443|dst=44.10.0.(1|53) '; nft list table inet echomesh_lease; dmesg | tail -n 5"))

    def setUp(self):
        self.session = self.lab.open(seconds=60)
        self.holder = Holder(self, self.session)
        self.addCleanup(self.holder.close)

    def dial(self, lease, timeout=15):
        return Tcp(self.topology.buyer.connect(lease["address"], timeout))

    def https(self, lease, host):
        return Tls(self.dial(lease), ca_context(str(self.lab.ca_file)), host)

    def get(self, lease, host, path):
        """GET over a connection of its own; gives status and content."""
        stream = self.https(lease, host)
        stream.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        reply = read_reply(stream)
        while stream.read():
            pass
        stream.close()
        return reply.status, reply.body

    def curl_words(self, *words):
        return self.topology.buyer.command("curl", "-q", "-sS", "--max-time", "60", "--cacert", str(self.lab.ca_file), *map(str, words))

    def curl(self, *words):
        return subprocess.run(self.curl_words(*words), capture_output=True, check=False)

    def close(self, stream):
        """Ends the newest connection cleanly, first the buyer's side and then the target's."""
        target = self.target.connections[-1]
        stream.close_write()
        self.assertEqual(target.ended(), "fin")
        target.sock.close()
        while stream.read():
            pass
        stream.close()

    def flows(self, lease):
        """Connection tracking's lines of a lease's flows."""
        return self.machine.sh(f"conntrack -L -p tcp --dport {lease['address'][1]} 2>/dev/null").splitlines()

    def until(self, what, test, seconds=10):
        return wait_for(what, test, seconds, every=0.1)

    def kill_guard(self):
        self.addCleanup(self.mend)
        self.machine.ok("kill -9 $(cat /tmp/guard.pid)")
        self.node.wait_state("guard-down")

    def mend(self):
        """A test that fails leaves no node without a guard to the next one."""
        if "there" not in self.machine.sh("kill -0 $(cat /tmp/guard.pid) && echo there"):
            self.node.start_guard()

    def another_guard(self):
        """Kills the guard; the next one puts back what that one left."""
        self.kill_guard()
        self.node.start_guard()
        self.node.wait_state("active")

    def own(self):
        """This session as the node counts it."""
        return self.node.sessions()[self.session.id]

    def assert_pause_ends(self, lease, flows, wire, **how):
        """Of the target's `wire`; `flows` are connections of the lease, both ends of each."""
        command = self.node.ready("pause")
        self.addCleanup(self.node.wait_state, "active", "idle")
        self.addCleanup(self.node.control, "start")
        self.assert_ends("pause", command, lease, flows, wire, **how)

    def assert_ends(self, what, command, lease, flows, wire, path="[OFFLOAD]", alone=True):
        """The command ends connections that go where the path is, in full spate: a tenth of a second after it was begun nothing passes any more on either
        side, by the kernel's clock at both ends of the router; both ends are reset, and nothing is left. If they are alone, nothing of any other comes
        to the target either."""
        self.assertEqual([path in line for line in self.flows(lease)], [True] * len(flows))
        near = Wire(self.topology.buyer, "eth0", flows[0][0].sock.getsockname()[0])
        self.addCleanup(near.close)
        theirs = [connection.peer[1] for _, connection in flows]
        sides = [
            Side("target", wire, theirs, lambda s: alone or s[2] in theirs or s[3] in theirs),
            Side("buyer", near, [stream.sock.getsockname()[1] for stream, _ in flows], lambda s: s[2] == lease["address"][1]),
        ]
        with Spate(flows, pace=max(0.005, 0.0008 * len(flows))):
            time.sleep(0.5)
            began = time.monotonic()
            command()
            answered = time.monotonic() - began
            time.sleep(max(0, LIMIT + QUIET - answered))
        # What has arrived is read.
        time.sleep(0.2)
        self.assertEqual([side.silent(began - 0.5, began) for side in sides], [[], []], "all were under way")
        last = {side.name: round(side.last(began), 3) for side in sides}
        print(f"     {what}: seconds from its beginning to the last segment of {len(flows)} at each end {last}, to its answer {answered:.3f}")
        self.assertEqual(self.flows(lease), [])
        self.assertEqual([side.not_reset(began) for side in sides], [[], []])
        self.assert_nothing_left()
        if max(last.values()) >= LIMIT:
            raise Late(f"{what}: {last} s")

    def assert_nothing_left(self):
        """No element, no entry with a mark: as if there had never been a lease."""
        listed = self.machine.sh("nft -j list table inet echomesh_lease")
        self.assertNotIn('"elem": [[', listed)
        self.assertEqual(self.marked(), [])

    def marked(self):
        """Connection tracking's lines with a mark of leases."""
        listed = self.machine.sh("conntrack -L -p tcp 2>/dev/null").splitlines()
        return [x for x in listed if (found := re.search(r" mark=(\d+) ", x)) and int(found[1]) & self.marks]

    def left(self, lease):
        """Seconds that the kernel leaves a lease, in the set that opens its port and in the map that leads on."""
        listed = json.loads(self.machine.ok("nft -j list table inet echomesh_lease"))["nftables"]
        places = {name: part["elem"] for entry in listed for part in entry.values() if (name := part.get("name")) in ("open4", "leases4") and "elem" in part}
        # A map's element is a pair.
        keys = [elem["elem"] for elem in places["open4"]], [elem[0]["elem"] for elem in places["leases4"]]
        return [next(key["expires"] for key in found if key["val"]["concat"][1] == lease["address"][1]) for found in keys]

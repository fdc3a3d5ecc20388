"""A world whose router's line is not what it is elsewhere, over IPv4 and IPv6; sessions are opened when it is there."""
import contextlib
import re
import threading
import time

from attacks import GOOD
from harness.hello import client_hello
from harness.netns import NODE_WAN, NODE_WAN6, TARGET, TARGET6
from harness.node import PORT
from harness.target import Target

from .leases import Holder, LeaseWorld, Refused


class LineWorld(LeaseWorld):
    node_config = {**LeaseWorld.node_config, "relay": {"listen": f"[::]:{PORT}"}}
    zone = {GOOD: [TARGET, TARGET6]}
    # How long a lease may take to be had.
    lease_s = 10

    @staticmethod
    def pour(connection, size):
        with contextlib.suppress(OSError):
            connection.send(bytes(size))

    @classmethod
    def target_answer(cls, connection, data):
        """Echoes the hello, and sends so many bytes as it is asked for."""
        if data.isdigit():
            threading.Thread(target=cls.pour, args=(connection, int(data)), daemon=True).start()
        elif len(connection.got) == len(data):
            connection.send(data)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.target6 = Target(cls.topology.inet, (TARGET6, 443), cls.target_answer)
        cls.addClassCleanup(cls.target6.close)

    def setUp(self):
        """Sessions are opened when the line is what it shall be."""

    def here(self):
        """The router's address."""
        return NODE_WAN

    def holder(self, v6=False, **limits):
        self.proxy.address = (NODE_WAN6 if v6 else self.here()), PORT
        session = self.until("a session", lambda: self.opened(limits), 60)
        holder = Holder(self, session)
        self.addCleanup(holder.close)
        return holder

    def opened(self, limits):
        with contextlib.suppress(AssertionError):
            return self.lab.open(limits=limits) if limits else self.lab.open()

    def leased(self, holder):
        with contextlib.suppress(Refused):
            return holder.lease(GOOD)

    def flow(self, holder):
        """A connection over a lease, accepted; both ends of it."""
        lease = self.until("a lease", lambda: self.leased(holder), self.lease_s)
        target = self.target6 if ":" in lease["address"][0] else self.target
        before = len(target.connections)
        stream = self.dial(lease)
        self.addCleanup(stream.close)
        hello = client_hello(sni=GOOD)
        stream.write(hello)
        while stream.received < len(hello):
            self.assertTrue(stream.read())
        return lease, stream, target.next(before)

    def download(self, stream, size):
        start, begun = stream.received, time.monotonic()
        stream.write(str(size).encode())
        while stream.received - start < size:
            self.assertTrue(stream.read())
        return size / (time.monotonic() - begun)

    def forwarded(self):
        """Packets of leases that took the slow path."""
        return int(re.search(r"packets (\d+)", self.machine.ok("nft list counter inet echomesh_lease forwarded"))[1])

"""Leases over IPv6, and both families on lines that take less than 1500 bytes; beside a LAN that uses the same ports."""
import contextlib
import re
import socket
import threading
import time

from attacks import ATTACKS, BAD, GOOD
from closed import ClosedPorts
from harness.hello import client_hello
from harness.netns import LAN_HOST, NODE_WAN, NODE_WAN6, ORIGIN6, TARGET, TARGET6
from harness.node import PORT
from harness.stream import RESET, Tcp, ending
from harness.target import Target
from reuse import ReuseAttacks
from vmlab.arena import Arena
from vmlab.leases import Holder, LeaseWorld, Refused
from vmlab.packets import ACK, PSH, RST, SYN

CAP_MBPS = 4
CAP_SECONDS = 10
DOWN = b"down"
# The LAN's prefixes: of a delegated /56 the first network, and one of its own.
LAN6, LAN_HOST6, ULA_HOST = "2a10:5:0:1::1", "2a10:5:0:1::10", "fd00:5::10"
INSIDE6 = {
    "lan6.test": [LAN_HOST6],
    "ula6.test": [ULA_HOST],
    "delegated6.test": ["2a10:5:0:2::10"],
    "own6.test": [NODE_WAN6],
    "ownlan6.test": [LAN6],
    "linklocal6.test": ["fe80::5054:ff:fe00:2"],
    "gateway6.test": ["2a10:2::1"],
    "neighbour6.test": ["2a10:2::77"],
    "mapped6.test": [f"::ffff:{LAN_HOST}"],
    "sixtofour6.test": ["2002:c0a8:10a::1"],
    "loopback6.test": ["::1"],
    "mixed6.test": [TARGET6, ULA_HOST],
}
FAR = ["44.20.0.81", "2a10:20::81"]


def pour(send):
    """Sends without end."""
    with contextlib.suppress(OSError):
        while True:
            send(bytes(16384))


def answer(connection, data):
    """Echoes a little, and sends without end if it is asked to."""
    if data == DOWN:
        threading.Thread(target=pour, args=(connection.send,), daemon=True).start()
    elif len(connection.got) < 10_000:
        connection.send(data)


class Families(ReuseAttacks, ClosedPorts, LeaseWorld):
    """One machine with both families, behind a firewall that offloads first thing."""

    fw4 = True
    node_config = {**LeaseWorld.node_config, "relay": {"listen": f"[::]:{PORT}"}}
    address, target_address = NODE_WAN6, TARGET6
    zone = {"origin.lab.test": [ORIGIN6], GOOD: [TARGET, TARGET6], "far.test": FAR, **INSIDE6}
    target_answer = staticmethod(answer)

    @classmethod
    def before_guard(cls, machine):
        super().before_guard(machine)
        machine.ok(f"ip -6 addr add {LAN6}/64 dev eth1 nodad; ip -6 addr add fd00:5::1/64 dev eth1 nodad; ip -6 route add unreachable 2a10:5::/56")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.arena4 = cls.arena
        cls.arena = Arena(cls.topology, cls.target, v6=True)
        cls.addClassCleanup(cls.arena.close)
        cls.far = cls.far_off(cls.topology)
        cls.far_targets = [Target(cls.far, (address, 443), answer) for address in FAR]
        for address in (LAN_HOST6, ULA_HOST):
            cls.topology.lan.ip("addr", "add", f"{address}/64", "dev", "eth0", "nodad")
        cls.topology.lan.ip("-6", "route", "add", "default", "via", LAN6)
        cls.topology.inet.ip("-6", "route", "add", "2a10:5::/56", "via", NODE_WAN6)
        cls.target4 = Target(cls.topology.inet, (TARGET, 443), answer)
        for target in (cls.target4, *cls.far_targets):
            cls.addClassCleanup(target.close)
        cls.lan_targets += [Target(cls.topology.lan, (address, 443)) for address in (LAN_HOST6, ULA_HOST)]

    @staticmethod
    def far_off(topology):
        """A namespace of its own for targets that are not at home on the Internet's own machine."""
        far = topology.add("v")
        inet = topology.inet
        inet.ip("link", "add", "f0", "type", "veth", "peer", "name", "eth0", "netns", far.name)
        for namespace, link, host in ((inet, "f0", 1), (far, "eth0", 81)):
            namespace.ip("link", "set", link, "up")
            namespace.ip("addr", "add", f"44.20.0.{host}/24", "dev", link)
            namespace.ip("addr", "add", f"2a10:20::{host}/64", "dev", link, "nodad")
        far.ip("route", "add", "default", "via", "44.20.0.1")
        far.ip("-6", "route", "add", "default", "via", "2a10:20::1")
        return far

    def assert_lan_untouched(self):
        self.assertEqual([t for t in self.lan_targets if t.connections], [])
        self.assertEqual(self.topology.lan.received(), self.lan_received)

    def holder4(self, **limits):
        """A buyer's connection over IPv4."""
        self.proxy.address = NODE_WAN, PORT
        try:
            holder = Holder(self, self.lab.open(seconds=120, limits=limits) if limits else self.session)
        finally:
            self.proxy.address = self.address, PORT
        self.addCleanup(holder.close)
        return holder

    def flow(self, holder=None, host=GOOD, target=None):
        """A lease and a connection over it that is accepted, with both its ends."""
        lease = self.until("a lease", lambda: self.leased(holder or self.holder, host))
        target = target or (self.target if ":" in lease["address"][0] else self.target4)
        before = len(target.connections)
        stream = self.dial(lease)
        self.addCleanup(stream.close)
        hello = client_hello(sni=host)
        stream.write(hello)
        self.assertEqual(self.read(stream, len(hello)), hello)
        return lease, stream, target.next(before)

    def leased(self, holder, host=GOOD):
        with contextlib.suppress(Refused):
            return holder.lease(host)

    def read(self, stream, size):
        data = b""
        while len(data) < size and (more := stream.read()):
            data += more
        return data

    # ---- what leases promise, over IPv6

    def test_a_download_by_curl_is_offloaded_and_its_bytes_are_the_origins(self):
        lease = self.until("a lease", lambda: self.leased(self.holder, "origin.lab.test"))
        received, sent = self.lab.origin()
        address, port = lease["address"]
        self.assertEqual(address, NODE_WAN6)
        done = self.curl("--connect-to", f"origin.lab.test:443:[{address}]:{port}", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{remote_ip}",
                         "https://origin.lab.test/bytes/2000000")  # fmt: skip
        self.assertEqual((done.stdout.decode(), done.stderr), (f"200 2000000 {NODE_WAN6}", b""))
        for size in (0, 1, 1427, 1428, 1429, 100_000):
            self.assertEqual(self.get(lease, "origin.lab.test", f"/bytes/{size}")[0], 200)
        self.until("the flows' end", lambda: self.own()["open"] == 0)
        after = self.lab.origin()
        own = self.own()
        self.assertEqual((own["bytesIngress"], own["bytesEgress"]), (after[1] - sent, after[0] - received))
        lease, _, _ = self.flow()
        self.assertRegex("".join(self.flows(lease)), r"\[OFFLOAD\]")
        self.settle(self.session)
        self.clean(self.session)

    def test_another_name_reaches_nobody_and_both_sides_are_reset(self):
        lease = self.until("a lease", lambda: self.leased(self.holder))
        before = len(self.target.connections)
        stream = self.dial(lease)
        stream.write(client_hello(sni=BAD))
        self.assertEqual(ending(stream), RESET)
        connection = self.target.next(before)
        self.assertEqual((connection.ended(), connection.got), (RESET, b""))
        self.assert_lan_untouched()

    def test_attacks_on_the_hello(self):
        # Those that have to do with IP; the others are its payload, which is read by the same code.
        names = ("IP fragments", "dies behind the router")
        port = self.until("a lease", lambda: self.leased(self.holder))["address"][1]
        for attack in ATTACKS:
            if any(name in attack.name for name in names):
                with self.subTest(attack=attack.name):
                    self.assertEqual(self.arena.forbidden(attack, port), b"")
                    # A first fragment that ends in the header of TCP is thrown away (RFC 8200 section 4.5), whatever it says.
                    if "tiny" not in attack.name:
                        self.assertIn(self.arena.control(attack, port), (True, None))
        self.assertEqual(self.arena.leaks(), [])

    def test_extension_headers_reach_nobody(self):
        wire = self.arena.wire
        self.until("the arrival of what others have sent, some of it at a cap", lambda: wire.since(wire.mark()) == b"")
        lease = self.until("a lease", lambda: self.leased(self.holder))
        port = lease["address"][1]
        before = len(self.target.connections)
        # Hop-by-hop options, a routing header with nothing left, destination options.
        for number in (0, 43, 60):
            peer = self.arena.peer(port)
            mark = len(self.arena.wire.segments)
            peer.syn(extension=number)
            self.assertIsNone(peer.wait(lambda s: s.flags & SYN, 0.4), number)
            # What opens without them does not go on with them.
            peer = self.arena.peer(port)
            self.assertTrue(peer.open(), number)
            hello = client_hello(sni=GOOD)
            peer.send(PSH | ACK, 0, hello, extension=number)
            peer.wait(lambda s: s.data, 0.3)
            self.assertEqual((peer.got, self.arena.wire.since(mark)), (b"", b""), number)
            # The same bytes without them pass, so that it was the header.
            peer.send(PSH | ACK, 0, hello)
            self.assertTrue(peer.wait(lambda s: s.data, 3), number)
            peer.send(PSH | ACK, len(hello), b"later", extension=number)
            peer.wait(lambda s: s.data, 0.3)
            self.assertEqual(self.target.connections[-1].got, hello)
            peer.send(RST, len(hello))
        self.assertEqual(len(self.target.connections), before + 3)

    def test_what_waits_outlasts_the_guards_looks_at_the_kernel(self):
        """It looks every 30 s. A packet that is dropped in the queue is sent again by any stack but this."""
        port = self.until("a lease", lambda: self.leased(self.holder))["address"][1]
        hello, end = client_hello(sni=GOOD), time.monotonic() + 32
        while time.monotonic() < end:
            peer = self.arena.peer(port)
            self.assertTrue(peer.open())
            # Held until the rest is there.
            peer.send(PSH | ACK, 0, hello[:100])
            self.assertIsNone(peer.wait(lambda s: s.data, 0.4))
            peer.send(PSH | ACK, 100, hello[100:])
            self.assertTrue(peer.wait(lambda s: s.data, 3))
            peer.send(RST, len(hello))

    def test_the_range_is_closed_to_all_but_the_lease(self):
        own = self.until("a lease", lambda: self.leased(self.holder))["address"][1]
        self.assert_all_closed_but(own)
        # Another buyer's address of the same network.
        self.assert_closed_to("2a10:3::7", own)
        for flags in (ACK, PSH | ACK):
            self.assert_begins_nothing(own, flags, client_hello(sni=GOOD), True)

    def test_leases_to_what_is_not_the_internet_are_refused(self):
        for host in INSIDE6:
            with self.subTest(host=host), self.assertRaises(Refused) as refused:
                self.holder.lease(host)
            self.assertEqual(refused.exception.args, (403, "address-denied"))
        self.assert_lan_untouched()

    def test_pause_ends_an_offloaded_flow_within_a_tenth_of_a_second(self):
        lease, *ends = self.flow()
        self.assert_pause_ends(lease, [ends], self.arena.wire)

    def test_caps_hold_in_both_directions(self):
        """Two sessions, each with its own: one takes and one sends."""
        holders = [Holder(self, self.lab.open(seconds=120, limits={"maxMbps": CAP_MBPS})) for _ in range(2)]
        for holder in holders:
            self.addCleanup(holder.close)
        (down, takes, _), (up, sends, target) = map(self.flow, holders)
        takes.write(DOWN)
        threading.Thread(target=pour, args=(sends.write,), daemon=True).start()
        threading.Thread(target=pour, args=(lambda _: takes.read() or takes.close(),), daemon=True).start()
        time.sleep(1)
        before, start = (takes.received, len(target.got)), time.monotonic()
        time.sleep(CAP_SECONDS)
        after, seconds = (takes.received, len(target.got)), time.monotonic() - start
        for lease, what, then, now in zip((down, up), ("down", "up"), before, after):
            rate = (now - then) / seconds / 125_000
            print(f"     {what} over IPv6: {rate:.2f} Mbit/s of {CAP_MBPS}")
            self.assertGreater(rate, 0.9 * CAP_MBPS)
            self.assertLess(rate, 1.05 * CAP_MBPS)
            self.assertIn("[OFFLOAD]", "".join(self.flows(lease)))

    # ---- lines that take less

    def syns(self, v6, port):
        """The largest segment that each side of a connection is told of."""
        arena = self.arena if v6 else self.arena4
        peer = arena.peer(port)
        mark = len(arena.wire.segments)
        told = 1440 if v6 else 1460
        peer.syn(options=b"\2\4" + told.to_bytes(2, "big"))
        answer = peer.wait(lambda s: s.flags & SYN)
        arrived = [s[4].mss() for s in arena.wire.segments[mark:] if s[2] == peer.sport and s[4].flags & SYN]
        peer.send(RST)
        return arrived[:1], answer and answer.mss()

    def test_a_line_of_1492_bytes(self):
        self.machine.ok("ip link set eth0 mtu 1492; nft delete chain inet fw4 mangle_forward")
        self.addCleanup(self.machine.ok, "ip link set eth0 mtu 1500")
        for v6, mss in ((True, 1432), (False, 1452)):
            with self.subTest(v6=v6):
                holder = self.holder if v6 else self.holder4()
                lease = self.until("a lease", lambda: self.leased(holder))
                self.assertEqual(self.syns(v6, lease["address"][1]), ([mss], mss))
                self.carries(holder)

    def carries(self, holder, host=GOOD, target=None, size=200_000):
        """So much passes in both directions, and is offloaded."""
        lease, stream, target = self.flow(holder, host, target)
        start = len(target.got)
        threading.Thread(target=stream.write, args=(b"u" * size,), daemon=True).start()
        self.assertTrue(target.wait(lambda c: len(c.got) - start >= size, 20), "the target got all of it")
        threading.Thread(target=target.send, args=(b"d" * size,), daemon=True).start()
        back = 0
        while back < size:
            data = stream.read()
            self.assertTrue(data)
            back += data.count(b"d")
        self.assertIn("[OFFLOAD]", "".join(self.flows(lease)))

    def test_a_path_of_1400_bytes_behind_the_line(self):
        """Routers before both ends say what they take: ICMP that is related to a lease reaches the side that it is for."""
        inet, buyer = self.topology.inet, self.topology.buyer
        for v6, near, far in ((False, "44.3.3.0/25", "44.20.0.0/25"), (True, "2a10:3::/65", "2a10:20::/65")):
            with self.subTest(v6=v6):
                for prefix, device in ((near, "b0"), (far, "f0")):
                    inet.ip("route", "add", prefix, "dev", device, "mtu", "lock", "1400")
                    self.addCleanup(inet.ip, "route", "del", prefix, "dev", device)
                own = NODE_WAN6 if v6 else NODE_WAN
                self.carries(self.holder if v6 else self.holder4(), "far.test", self.far_targets[v6])
                for namespace in (buyer, self.far):
                    self.assertIn("mtu 1400", namespace.ip("route", "get", own))

    # ---- the LAN beside them

    def from_lan(self, port):
        """A connection of the LAN's to the target that leases lead to, from this port; both its ends."""
        before = len(self.target4.connections)
        with self.topology.lan.inside():
            made = socket.create_connection((TARGET, 443), 10, (LAN_HOST, port))
        self.addCleanup(made.close)
        made.sendall(b"hi")
        self.assertEqual(made.recv(10), b"hi")
        return Tcp(made), self.target4.next(before)

    def queued(self):
        """How many packets the queue of leases has ever had (`id_sequence` of nfnetlink_queue)."""
        return int(self.machine.ok("cat /proc/net/netfilter/nfnetlink_queue").split()[7])

    def test_the_lan_has_what_it_has_without_leases(self):
        early, early_end = self.from_lan(40_007)
        holder = self.holder4(maxMbps=CAP_MBPS)
        lease, stream, _ = self.flow(holder)
        port, buyers = lease["address"][1], stream.sock.getsockname()[1]
        queued = self.queued()
        same, same_end = self.from_lan(port)
        other, other_end = self.from_lan(buyers)
        self.assertEqual([e.peer for e in (early_end, same_end)], [(NODE_WAN, 40_007), (NODE_WAN, port)])
        for stream, end in ((early, early_end), (same, same_end), (other, other_end)):
            self.assertGreater(self.upload(stream, end), 2 * CAP_MBPS * 125_000)
        marks = re.findall(r" mark=(\d+) ", self.machine.ok(f"conntrack -L -p tcp -s {LAN_HOST} 2>/dev/null"))
        self.assertEqual(marks, ["0"] * 3)
        self.assertEqual(self.queued(), queued)
        self.node.control("pause")
        self.addCleanup(self.node.wait_state, "active", "idle")
        self.addCleanup(self.node.control, "start")
        self.assertEqual(self.flows(lease), [])
        for stream, end in ((early, early_end), (same, same_end), (other, other_end)):
            got = len(end.got)
            stream.write(b"still here")
            self.assertTrue(end.wait(lambda c, got=got: len(c.got) >= got + 10))
            # Nothing comes back after that.
            stream.reset()
        time.sleep(0.3)
        type(self).lan_received = self.topology.lan.received()

    def upload(self, stream, end, seconds=1):
        """Bytes a second that get through."""
        start, began = len(end.got), time.monotonic()
        while time.monotonic() < began + seconds:
            stream.write(b"u" * 16384)
        return (len(end.got) - start) / (time.monotonic() - began)

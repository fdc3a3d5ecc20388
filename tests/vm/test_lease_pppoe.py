"""Leases where the router dials in: a PPPoE line of 1492 bytes, which is dropped and dialled again."""
import contextlib
import os
import socket
import threading
import time

from attacks import BAD, GOOD
from harness.hello import client_hello
from harness.netns import NODE_WAN, NODE_WAN6, TARGET
from harness.sniffer import Sniffer
from harness.stream import RESET, ending
from harness.target import Target
from vmlab.kinds import KINDS
from vmlab.leases import Refused
from vmlab.lines import LineWorld
from vmlab.packets import Wire
from vmlab.pppoe import MTU, SESSION, Isp

DEVICE = "pppoe-wan"
CAP_MBPS = 4
CAP_SECONDS = 10
SIZE = 1_000_000
DOWN = b"down"
# The modem's own page, on the line's Ethernet, where owners give their router an address to see it.
MODEM, BESIDE = "192.168.100.1", "192.168.100.2"
# A modem with an address that nobody would take for one of the inside.
PUBLIC_MODEM, PUBLIC_BESIDE = "44.7.7.1", "44.7.7.2"
ANOTHER = "44.2.2.9"
VLAN = 35
# With the Ethernet device in the place of NIC.
DIAL = f"""
pppd plugin /usr/lib/pppoe.so nic-NIC ifname {DEVICE} noauth noipdefault nodefaultroute novj noccp mtu {MTU} mru {MTU} +ipv6 \\
  nodetach logfile /tmp/pppd.log >/tmp/pppd.out 2>&1 & echo $! >/tmp/pppd.pid
for try in $(seq 100); do ip -4 addr show dev {DEVICE} 2>/dev/null | grep -q inet && break; sleep 0.1; done
ip -6 addr add {NODE_WAN6}/128 dev {DEVICE} nodad && ip route replace default dev {DEVICE} && ip -6 route replace default dev {DEVICE}
"""


class Dialled(LineWorld):
    """One machine; its line is dialled before the guard starts."""

    kind = KINDS[os.environ.get("ECHOMESH_DIALS", "x86_64-dials")]
    lease_s = 30
    zone = {**LineWorld.zone, "modem.test": [MODEM], "public-modem.test": [PUBLIC_MODEM]}

    @classmethod
    def before_guard(cls, machine):
        inet = cls.topology.inet
        inet.ip("addr", "flush", "dev", "w0")
        inet.ip("-6", "addr", "flush", "dev", "w0", "scope", "global")
        for address in (MODEM, PUBLIC_MODEM):
            inet.ip("addr", "add", f"{address}/24", "dev", "w0")
        cls.isp = Isp(inet, "w0", "44.2.2.1", NODE_WAN)
        cls.addClassCleanup(cls.isp.close)
        cls.gives(NODE_WAN)
        inet.ip("-6", "route", "add", f"{NODE_WAN6}/128", "dev", "isp0")
        machine.ok(f"ip addr flush dev eth0; ip -6 route flush default; ip addr add {BESIDE}/24 dev eth0; ip addr add {PUBLIC_BESIDE}/24 dev eth0")
        machine.ok(DIAL.replace("NIC", "eth0"))

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modems = [Target(cls.topology.inet, (address, 443)) for address in (MODEM, PUBLIC_MODEM)]
        for modem in cls.modems:
            cls.addClassCleanup(modem.close)
        cls.wire = Wire(cls.topology.inet, "w0", TARGET, SESSION)
        cls.addClassCleanup(cls.wire.close)

    @classmethod
    def gives(cls, address):
        """The provider gives this address from now on, and no other leads here."""
        inet = cls.topology.inet
        if cls.isp.address != address:
            inet.ip("route", "del", cls.isp.address, "dev", "isp0")
        inet.ip("route", "replace", address, "dev", "isp0")
        cls.isp.address = address

    def dial_again(self, nic, tag=0):
        """Hangs up, and dials by this device, to a provider whose frames have this tag, and who gives another address."""
        self.machine.ok(f"kill $(cat /tmp/pppd.pid); while [ -e /sys/class/net/{DEVICE} ]; do sleep 0.1; done")
        self.isp.tag = tag
        self.gives(ANOTHER if self.here() == NODE_WAN else NODE_WAN)
        self.machine.ok(DIAL.replace("NIC", nic))
        self.until("the line", lambda: (self.node.get("/diagnostics")["wan"]["ipv4"] or {}).get("addresses") == [self.isp.address])

    def here(self):
        return self.isp.address

    def index(self):
        return int(self.machine.ok(f"cat /sys/class/net/{DEVICE}/ifindex"))

    def ended(self, holder):
        """What the buyer and its target know of a session when its connections are over."""
        count = lambda: self.node.sessions()[holder.session.id]  # noqa: E731
        self.until("the flows' end", lambda: count()["open"] == 0)
        return count()

    def assert_counted_twice(self):
        """What comes in is counted in its frames, before the flowtable takes it; what leaves on the line's own device."""
        time.sleep(1.5)
        found = self.until("the counts", self.counts)
        self.assertEqual((found["reason"], found["egress"]["agrees"], found["ingress"]["agrees"]), ("", True, True), found)
        for way in ("egress", "ingress"):
            print("     {}: charged {chargedBytes}, connection tracking {trackedBytes}, its own counter {independentBytes}".format(way, **found[way]))
            self.assertGreater(found[way]["independentBytes"], found[way]["chargedBytes"])

    def counts(self):
        leases = self.node.get("/diagnostics")["leases"]
        return leases["check"] if leases["accepted"] + leases["ending"] == 0 else None

    def test_leases_take_the_fast_path_in_segments_that_fit(self):
        self.assert_fast("eth0")

    def test_all_of_it_over_a_vlan(self):
        """The session's frames have a tag at the Ethernet device, where the flowtable takes them in; all as without."""
        self.machine.ok(f"ip link add link eth0 name eth0.{VLAN} type vlan id {VLAN}; ip link set eth0.{VLAN} up")
        self.addCleanup(self.machine.ok, f"ip link del eth0.{VLAN}")
        self.addCleanup(self.dial_again, "eth0")
        self.dial_again(f"eth0.{VLAN}", VLAN)
        self.assert_fast("eth0", f"eth0.{VLAN}")
        self.assert_capped(3)
        # What waits at the caps of those before may leave up to 200 ms later.
        self.assert_pause(alone=False)
        self.assert_dialled_again(f"eth0.{VLAN}", VLAN)

    def assert_fast(self, *below):
        for v6 in (False, True):
            holder = self.holder(v6)
            lease, stream, target = self.flow(holder)
            before = self.forwarded()
            self.download(stream, SIZE)
            self.assertIn("[OFFLOAD]", "".join(self.flows(lease)))
            self.assertLess(self.forwarded() - before, 20)
            for sock in (stream.sock, target.sock):
                # Of the 40 bytes that options may have, 12 are used (timestamps).
                self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), MTU - (60 if v6 else 40) - 12)
            stream.close_write()
            self.assertEqual(target.ended(), "fin")
            target.sock.close()
            while stream.read():
                pass
            own = self.ended(holder)
            self.assertEqual((own["bytesEgress"], own["bytesIngress"]), (len(target.got), stream.received))
        self.assert_counted_twice()
        # What is looked for in frames has no names, and everybody's rules can be listed all the same.
        for words in ("", "-j"):
            self.assertIn("echomesh_count", self.machine.ok(f"nft {words} list ruleset"))
        listed = self.machine.ok("nft list flowtable inet echomesh_lease ft")
        self.assertRegex(listed, rf"devices = \{{ {', '.join([*below, DEVICE])} \}}")

    def test_another_name_never_reaches_the_target(self):
        holder, mark = self.holder(), self.wire.mark()
        _, _, target = self.flow(holder)
        self.assertEqual(self.wire.since(mark), bytes(target.got), "the wire shows what the target gets")
        lease = holder.lease(GOOD)
        before, mark = len(self.target.connections), self.wire.mark()
        stream = self.dial(lease)
        stream.write(client_hello(sni=BAD))
        self.assertEqual(ending(stream), RESET)
        self.assertEqual(self.wire.since(mark), b"")
        connection = self.target.next(before)
        self.assertEqual((connection.ended(), connection.got), (RESET, b""))

    def test_caps_hold_in_both_directions(self):
        self.assert_capped()

    def assert_capped(self, seconds=CAP_SECONDS):
        """Two sessions, each with its own: one takes and one sends."""
        (down, takes, _), (up, sends, target) = (self.flow(self.holder(maxMbps=CAP_MBPS)) for _ in range(2))

        def send():
            with contextlib.suppress(OSError):
                while True:
                    sends.write(bytes(16384))

        def drain():
            with contextlib.suppress(OSError, EOFError):
                while takes.read():
                    pass

        takes.write(str(100 * SIZE).encode())
        for work in (send, drain):
            threading.Thread(target=work, daemon=True).start()
        counts = [lambda: takes.received, lambda: len(target.got)]
        # No less than nearly the cap in one of two measurements: a machine without a processor of its own now and then stands still.
        for _ in range(2):
            time.sleep(1)
            first, begun = [count() for count in counts], time.monotonic()
            time.sleep(seconds)
            rates = [(count() - before) / (time.monotonic() - begun) * 8e-6 for count, before in zip(counts, first)]
            print("     down %.2f, up %.2f Mbit/s of %d" % (*rates, CAP_MBPS))
            self.assertLess(max(rates), 1.1 * CAP_MBPS)
            if min(rates) > 0.9 * CAP_MBPS:
                break
        else:
            self.fail("less than the cap")
        for lease in (down, up):
            self.assertIn("[OFFLOAD]", "".join(self.flows(lease)))
        self.assertIn("htb ec40:", self.machine.ok(f"tc qdisc show dev {DEVICE} root"))

    def test_pause_ends_an_offloaded_flow_within_a_tenth_of_a_second(self):
        self.assert_pause()

    def assert_pause(self, **how):
        lease, *ends = self.flow(self.holder())
        self.assert_pause_ends(lease, [ends], self.wire, **how)
        self.node.control("start")
        self.node.wait_state("active", "idle")

    def test_a_line_that_is_dialled_again(self):
        self.assert_dialled_again("eth0")

    def assert_dialled_again(self, nic, tag=0):
        lease, stream, target = self.flow(self.holder(maxMbps=CAP_MBPS))
        told = len(self.guard_errors())
        old = self.index()
        got = len(target.got)
        self.dial_again(nic, tag)
        self.assertNotEqual(self.index(), old)
        self.until("the flows' end", lambda: not self.flows(lease))
        with contextlib.suppress(OSError):
            stream.write(b"too late")
        time.sleep(0.2)
        self.assertEqual(len(target.got), got)
        lease, stream, target = self.flow(self.holder(maxMbps=CAP_MBPS))
        self.assertEqual(lease["address"][0], self.here())
        self.download(stream, SIZE)
        self.assertIn("[OFFLOAD]", "".join(self.flows(lease)))
        self.assertIn("htb ec40:", self.machine.ok(f"tc qdisc show dev {DEVICE} root"))
        # A line that is dropped is nobody's fault.
        self.assertEqual(self.guard_errors()[told:], [])

    def guard_errors(self):
        return self.machine.sh("grep -E ^error: /tmp/guard.log").splitlines()

    def test_the_modem_is_out_of_reach(self):
        """Neither a lease nor the relay leads to it, nor can the node's user go there by itself."""
        holder, beside = self.holder(), Sniffer(self.topology.inet, "w0")
        self.addCleanup(beside.close)
        for name in ("modem.test", "public-modem.test"):
            with self.assertRaises(Refused) as refused:
                holder.lease(name)
            self.assertEqual(refused.exception.args, (403, "address-denied"))
            self.refused(self.proxy.connect(f"{name}:443", holder.session), 403, "address-denied", "destination_ip_prohibited")
        # The guard's next report of these quarantines the node.
        for address, modem in zip((MODEM, PUBLIC_MODEM), self.modems):
            knock = f"echo x | timeout 2 nc {address} 443"
            self.machine.sh(f"su -s /bin/sh -c '{knock}' echomesh")
            self.assertEqual([p for p in beside.packets if p[1] == address], [])
            self.assertEqual(modem.connections, [])
            # Others on the router are not held.
            self.machine.sh(knock)
            self.assertTrue(modem.next(0).wait(lambda c: c.got))
        self.assertIn(f'elements = {{ "{DEVICE}" }}', self.machine.ok("nft list set inet echomesh wan"))

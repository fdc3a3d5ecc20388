"""Leases where the owner has set them otherwise: other ports, other bits of marks, another path or none through a flowtable; and where
the router remembers few connections."""
import collections
import contextlib
import re
from concurrent.futures import ThreadPoolExecutor

import test_lease
from attacks import GOOD
from harness.hello import client_hello
from harness.netns import TARGET
from harness.stream import Tcp
from vmlab.leases import Refused

MASK = 0x00F00000
CONNTRACK_MOST, CLOSED_FOR = "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_tcp_timeout_time_wait"
# What a router has for its LAN.
MASQUERADE = "table ip home { chain out { type nat hook postrouting priority srcnat; oifname eth0 ip saddr 192.168.1.0/24 masquerade; }; }"


@test_lease.only("download_is", "another_name", "pause", "range")
class Settings(test_lease.Plain):
    """Ports and marks that are not those of every other test."""

    ports = range(20_000, 20_064)
    marks = 0x00700000
    node_config = {
        # More at once than a target gets otherwise.
        "network": {**test_lease.Plain.node_config["network"], "perTarget": {"maxNewPerHostPerSecond": 10_000, "maxNewPerDomainPerSecond": 10_000}},
        "lease": {"ports": f"{ports[0]}-{ports[-1]}", "markMask": f"{MASK:#010x}"},
    }

    def test_marks_lie_within_the_mask_and_nothing_is_left(self):
        lease, stream = self.opened()
        self.assertIn(lease["address"][1], self.ports)
        marks = [int(mark) for mark in re.findall(r" mark=(\d+) ", self.machine.ok("conntrack -L -p tcp 2>/dev/null"))]
        self.assertEqual([mark for mark in marks if mark & ~MASK], [])
        # Came in by a lease, and was accepted.
        self.assertEqual([len(self.marked()), sum(mark == 0x00600000 for mark in marks)], [1, 1])
        listed = self.machine.ok("nft list table inet echomesh_lease")
        self.assertIn("20000-20063", listed)
        self.assertNotRegex(listed, r"4[0-9]{4}-4[0-9]{4}|mark & 0x0[1-9a-f]")
        self.close(stream)
        self.assertEqual(self.holder.ask("DELETE", f"/leases/{lease['leaseId']}").status, 204)
        self.assert_nothing_left()

    # ---- the path

    def wish(self, offload, active):
        """The owner wants leases carried so, and status says that they are and why."""
        self.addCleanup(self.node.change, network={"offload": "auto"})
        self.node.change(network={"offload": offload})
        wanted = {"mode": offload, "active": active, "reason": f"network.offload is {offload}"}
        self.until("the path", lambda: self.node.status()["offload"] == wanted)

    def test_without_a_flowtable_all_is_judged_and_counted_alike(self):
        self.wish("off", "plain")
        lease, stream = self.opened()
        for _ in range(10):
            stream.write(b"x" * 10_000)
            self.assertEqual(len(self.echoed(stream, 10_000)), 10_000)
        self.assertNotIn("OFFLOAD]", "".join(self.flows(lease)))
        self.assertNotIn("flow", self.machine.ok("nft list table inet echomesh_lease | grep -E 'flowtable|flow add' || true"))
        self.close(stream)
        self.until("the flow's end", lambda: self.own()["open"] == 0)
        self.assertEqual((self.own()["bytesIngress"], self.own()["bytesEgress"]), (stream.received, stream.sent))
        self.test_another_name_never_reaches_the_target_and_both_sides_are_reset()
        lease, stream = self.opened()
        self.assert_pause_ends(lease, [(stream, self.target.connections[-1])], self.arena.wire, path="ESTABLISHED")
        self.clean()

    def test_a_flowtable_of_others_without_counters_leaves_no_plain_path(self):
        self.wish("off", "plain")
        lease, _ = self.opened()
        self.addCleanup(self.machine.sh, "nft delete table inet theirs")
        self.machine.ok("nft 'add table inet theirs; add flowtable inet theirs t { hook ingress priority 0; devices = { eth0 }; }'")
        self.until("the reason", lambda: "table theirs hands connections to a flowtable" in self.node.status()["offload"]["reason"])
        self.assertEqual((self.node.status()["offload"]["active"], self.flows(lease)), ("relay", []))
        with self.assertRaises(Refused) as refused:
            self.holder.lease(GOOD)
        self.assertEqual(refused.exception.args, (503, "lease-unavailable"))

    def test_software_is_what_the_owner_says_it_is(self):
        self.wish("software", "software")
        lease, _ = self.opened()
        self.assertIn("[OFFLOAD]", self.flows(lease)[0])

    # ---- a router that remembers few connections

    def few(self, most):
        """The kernel remembers so many connections from now on. What this test's own questions leave behind must not fill that."""
        before = {name: self.machine.ok(f"sysctl -n {name}") for name in (CONNTRACK_MOST, CLOSED_FOR)}
        for name, now in ((CONNTRACK_MOST, most), (CLOSED_FOR, 1)):
            self.addCleanup(self.machine.ok, f"sysctl -w {name}={before[name]}")
            self.machine.ok(f"sysctl -w {name}={now}")
        self.machine.sh("conntrack -D -p tcp --state TIME_WAIT")

    def one(self, lease):
        """A connection over a lease that stays, and how far it came."""
        with contextlib.suppress(TimeoutError):
            try:
                stream = self.dial(lease, 3)
                self.addCleanup(stream.close)
                first = client_hello(sni=GOOD)
                stream.write(first)
                return "accepted" if self.echoed(stream, len(first)) == first else "ended"
            except ConnectionError:
                return "reset"
        return "nothing"

    def assert_a_quarter(self, most):
        """So many connections of leases there are, refused ones with them, and no more: what is beyond hears a reset."""
        lease, before = self.holder.lease(GOOD), len(self.target.connections)
        with ThreadPoolExecutor(50) as pool:
            ends = collections.Counter(pool.map(lambda _: self.one(lease), range(most * 3 // 8)))
        print(f"     {dict(ends)}, {len(self.marked())} with a mark, of {self.machine.ok('conntrack -C')} in all")
        self.assertLessEqual(set(ends), {"accepted", "reset"})
        self.assertIn(ends["accepted"], range(most // 5, most // 4 + 1))
        self.assertLessEqual(len(self.marked()), most // 4)
        self.assertLessEqual(len(self.target.connections) - before, most // 4)
        self.assert_lan_is_carried()

    def assert_lan_is_carried(self):
        """A host of the LAN's gets a new connection through, and what it says comes back."""
        self.machine.ok(f"nft '{MASQUERADE}'")
        self.addCleanup(self.machine.ok, "nft delete table ip home")
        made = Tcp(self.topology.lan.connect((TARGET, 443)))
        made.write(b"hi")
        self.assertEqual(made.read(), b"hi")
        # Nothing comes back after that.
        made.reset()
        type(self).lan_received = self.topology.lan.received()

    def test_leases_have_a_quarter_of_what_the_kernel_remembers(self):
        self.addCleanup(self.another_guard)
        self.few(400)
        self.another_guard()
        self.assert_a_quarter(400)

    def test_a_quarter_of_fewer_is_heeded_while_the_guard_runs(self):
        self.few(400)
        self.until("the guard's look", lambda: self.node.get("/diagnostics")["leases"]["maxFlows"] == 100, 35)
        self.assert_a_quarter(400)

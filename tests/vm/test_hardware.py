"""A WAN port with a packet engine, which the owner's firewall uses: what no lease may go through, and why."""
import pathlib
import time

import test_lease
from attacks import GOOD
from harness.netns import NODE_WAN, TARGET
from harness.stream import Tcp
from vmlab import image
from vmlab.kinds import KINDS
from vmlab.leases import FW4, Holder, Refused

HWPORT = pathlib.Path(__file__).resolve().parent / "hwport" / "hwport.c"
# A port that the owner forwards, to a host of the Internet's so that both directions pass the engine.
FORWARDED = 8444
FORWARDING = f"""
table inet forwarding {{
    flowtable ft {{ hook ingress priority filter; devices = {{ eth0 }}; flags offload; counter; }}
    chain dstnat {{ type nat hook prerouting priority dstnat; iifname eth0 tcp dport {FORWARDED} dnat ip to {TARGET}:443; }}
    chain forward {{ type filter hook forward priority filter - 1; ct status dnat meta l4proto tcp ct original proto-dst {FORWARDED} flow add @ft; }}
    chain srcnat {{ type nat hook postrouting priority srcnat; ct status dnat oifname eth0 masquerade; }}
}}
"""
BULK = 100_000


@test_lease.only("download_is", "another_name", "pause", "bytes")
class Hardware(test_lease.Plain):
    """The owner wants the hardware, for leases as well."""

    kind = KINDS["x86_64-6.12"]
    links = "ip link set eth0 name phy0; insmod /hwport.ko lower=phy0 name=eth0\n"
    node_config = {"network": {**test_lease.Plain.node_config["network"], "offload": "hardware"}}

    @classmethod
    def files(cls):
        return [*super().files(), ("hwport.ko", 0o100644, image.module(cls.kind, HWPORT).read_bytes())]

    @classmethod
    def before_guard(cls, machine):
        rules = FW4.replace("devices = { eth0, eth1 };", "devices = { eth0 }; flags offload; counter;")
        rules = rules.replace("iifname eth1 oifname eth0 accept", "iifname eth1 oifname eth0 accept\n ct status dnat accept")
        machine.ok(f"nft -f - <<'RULES'\n{rules}\nRULES")

    def setUp(self):
        super().setUp()
        self.before = self.engine()

    def engine(self):
        """Entries, and packets, bytes, told packets and told bytes so far."""
        return [int(word) for word in self.machine.ok("cat /proc/hwport").split()]

    def since(self):
        return [now - before for now, before in zip(self.engine(), self.before, strict=True)]

    def forwarded(self):
        """A connection by the owner's forwarding, once it is in the engine; and its line of connection tracking's."""
        self.machine.ok(f"nft list table inet forwarding >/dev/null 2>&1 || nft -f - <<'RULES'\n{FORWARDING}\nRULES")
        self.addCleanup(self.machine.sh, "nft delete table inet forwarding 2>/dev/null")
        self.addCleanup(self.let_go)
        stream = Tcp(self.topology.buyer.connect((NODE_WAN, FORWARDED), 15))
        self.addCleanup(stream.close)
        self.carry(stream, 100)
        self.until("the engine's entries", lambda: self.since()[0] == 2)
        self.assertIn("[HW_OFFLOAD]", self.tracked())
        return stream

    def let_go(self):
        """Waits until the engine has let go of what was closed: the next test would count it, and without its table it stays."""
        end = time.monotonic() + 5
        while "forwarding" in self.machine.ok("nft list tables") and self.since()[0] > 0 and time.monotonic() < end:
            time.sleep(0.1)

    def carry(self, stream, size):
        stream.write(b"o" * size)
        self.assertEqual(len(self.echoed(stream, size)), size)

    def tracked(self):
        return self.machine.sh(f"conntrack -L -p tcp --orig-port-dst {FORWARDED} 2>/dev/null")

    def is_carried(self, stream):
        try:
            self.carry(stream, 100)
        except (OSError, AssertionError):
            return False
        return True

    def test_no_lease_is_in_the_engine_beside_the_owners_connection(self):
        offload = self.node.status()["offload"]
        self.assertEqual((offload["mode"], offload["active"]), ("hardware", "software"))
        self.assertIn("not in the network hardware", offload["reason"])
        self.forwarded()
        lease, stream = self.opened()
        self.carry(stream, BULK)
        self.assertIn("[OFFLOAD]", self.flows(lease)[0])
        # Once again after a connection's time in the flowtable: the owner's must not get it then.
        timeout = "net.netfilter.nf_flowtable_tcp_timeout"
        self.machine.ok(f"sysctl -w {timeout}=1 >/dev/null")
        self.addCleanup(self.machine.sh, f"sysctl -w {timeout}=30 >/dev/null")
        self.carry(stream, BULK)
        self.until("the connection's leaving", lambda: "OFFLOAD]" not in self.flows(lease)[0])
        self.machine.ok(f"sysctl -w {timeout}=30 >/dev/null")
        self.carry(stream, BULK)
        self.assertIn("[OFFLOAD]", self.flows(lease)[0])
        self.assertLessEqual(self.since()[0], 2)
        self.assertLess(self.since()[2], BULK)

    def test_a_session_with_a_cap_gets_none(self):
        holder = Holder(self, self.lab.open(seconds=60, limits={"maxMbps": 4}))
        self.addCleanup(holder.close)
        with self.assertRaises(Refused) as refused:
            holder.lease(GOOD)
        self.assertEqual(refused.exception.args, (503, "lease-unavailable"))

    def test_why_the_kernel_forgets_what_the_engine_carried_last(self):
        # It asks every three seconds, which may once be just before the end.
        for _ in range(3):
            stream = self.forwarded()
            self.carry(stream, BULK)
            self.carry(stream, BULK)
            self.close(stream)
            self.until("the engine's letting go", lambda: self.since()[0] == 0)
        _, _, carried, _, told = self.since()
        self.assertGreater(carried - told, BULK)

    def test_why_what_has_ended_stays_in_the_engine(self):
        stream = self.forwarded()
        self.machine.ok("nft delete table inet forwarding")
        self.machine.sh(f"conntrack -D -p tcp --orig-port-dst {FORWARDED}")
        time.sleep(2.5)
        self.assertEqual(self.tracked(), "")
        self.assertTrue(self.is_carried(stream))
        self.assertEqual(self.since()[0], 2)
